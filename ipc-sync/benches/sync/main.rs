//! What the primitives cost, each beside what others use for the same, in the same run.
//!
//! ```text
//! cargo bench -p ipc-sync                   everything
//! cargo bench -p ipc-sync -- --only lock    one section
//! ```
//!
//! All processes and threads are pinned to the first two processors. A figure is the median of five repetitions with the
//! least and the most; the rows that are compared take turns. Ratios count, not figures: a busy neighbour on the host
//! moves all of them. A ratio above 1 means that ours is faster.

mod bare;
mod barrier;
mod condition;
mod event;
mod lock;
mod pthread;
mod race;
mod rally;
mod reentrant_lock;
mod rivals;
mod rwlock;
mod semaphore;
mod table;
mod value;

const SECTIONS: [(&str, fn()); 8] = [
    ("lock", lock::run),
    ("reentrant_lock", reentrant_lock::run),
    ("rwlock", rwlock::run),
    ("semaphore", semaphore::run),
    ("value", value::run),
    ("event", event::run),
    ("condition", condition::run),
    ("barrier", barrier::run),
];

fn main() {
    let only = only();
    for (name, run) in SECTIONS {
        if only.as_ref().is_none_or(|only| name == only) {
            run();
        }
    }
}

/// The section behind `--only`, if one is asked for.
fn only() -> Option<String> {
    let name = std::env::args().skip_while(|argument| argument != "--only").nth(1)?;
    let names = SECTIONS.map(|(name, _)| name);
    assert!(names.contains(&&*name), "--only takes one of {names:?}");
    Some(name)
}

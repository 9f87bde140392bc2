//! A task in the pool, from its submission to its completion.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::payload::Payload;
use super::task::Outcome;
use crate::executor::TaskError;
use crate::process::Call;

/// A task that has no result yet.
pub(crate) struct Job {
    pub(super) ticket: u64,
    pub(super) call: Call,
    pub(super) payload: Payload,
    pub(super) terms: Terms,
    pub(super) done: Box<dyn Completion>,
    /// It was killed for its time, and not by somebody else.
    pub(super) overdue: bool,
    /// A worker that died had begun it: it is too late to take it back.
    pub(super) begun: bool,
}

/// What is done for a task beyond running it once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    /// How often it is run again when its worker dies.
    pub(crate) retries: u32,
    /// How long it may run.
    pub(crate) time_limit: Option<Duration>,
}

/// Who waits for the outcome of a task. Dropped, it says that there will be none.
pub(crate) trait Completion: Send {
    /// Called once, without any lock of the pool. Runs code of the program's: callbacks, and what deserializes results.
    fn complete(self: Box<Self>, outcome: Result<Outcome, TaskError>);

    /// Whether anybody would look at the outcome.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// A task that is done, and of which pool it is.
struct Untold {
    pool: usize,
    done: Box<dyn Completion>,
    outcome: Result<Outcome, TaskError>,
}

thread_local! {
    /// What this thread has still to tell. A callback that waits for a result finds it here though it was taken in
    /// together with its own.
    static UNTOLD: RefCell<VecDeque<Untold>> = const { RefCell::new(VecDeque::new()) };
}

/// Tasks that are done, and must be told so when no lock is held.
#[derive(Default)]
pub(super) struct Finished(Vec<(Box<dyn Completion>, Result<Outcome, TaskError>)>);

impl Finished {
    pub(super) fn push(&mut self, job: Job, outcome: Result<Outcome, TaskError>) {
        self.0.push((job.done, outcome));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells them, and what else this thread has to tell for the pool; how many there were.
    pub(super) fn tell(&mut self, pool: usize) -> usize {
        let untold = self.0.drain(..).map(|(done, outcome)| Untold { pool, done, outcome });
        UNTOLD.with_borrow_mut(|all| all.extend(untold));
        let mut count = 0;
        while let Some(Untold { done, outcome, .. }) = next_of(pool) {
            // A result whose drop panics, or a waker: that thread waits for others, too.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| done.complete(outcome))) {
                mem::forget(payload); // its drop might panic again
            }
            count += 1;
        }
        count
    }
}

fn next_of(pool: usize) -> Option<Untold> {
    UNTOLD.with_borrow_mut(|all| {
        let at = all.iter().position(|untold| untold.pool == pool)?;
        all.remove(at)
    })
}

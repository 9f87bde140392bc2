//! The world of the loom models: threads that die before any of their atomic steps, and a kernel that sees it.
//!
//! A model compiles a source file of a crate a second time, over what stands here instead of the crate's own:
//!
//! ```text
//! #[path = "../../tests/support/loom/mod.rs"]
//! mod world;
//! #[path = "../src/raw_lock.rs"]
//! #[allow(dead_code, unreachable_pub)]
//! mod raw_lock;
//!
//! use world::{BACKSTOP, Deadline, Me, Registry, futex, primitive, registry}; // what the file finds in its crate
//!
//! #[test]
//! fn a_death_before_any_step_wedges_nobody() {
//!     world::each_death(3, |mortal| { … mortal.live(|| …) … });
//! }
//! ```
//!
//! Time stands still: nobody times out, so a wake that only the backstop would repair is a deadlock, which loom
//! reports. A death is an unwinding before the step that the thread did not live to do, then
//! [`Registry::bury`] does what the kernel does. Nothing may have a destructor that goes on stepping while the dead
//! thread unwinds: `mem::forget` guards, or model what lies below them.
//!
//! The kit itself does not declare this folder: it is compiled without loom.
#![allow(dead_code, unused_imports)] // each model uses its part
#![allow(unreachable_pub)] // private to whoever includes it, and open inside

pub mod futex;
pub mod primitive;
pub mod registry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

pub use primitive::live;
pub use registry::{Me, Registry};

/// Nobody oversleeps.
pub const BACKSTOP: Duration = Duration::ZERO;

/// Time stands still: nobody times out, but who may not wait does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u32);

impl Deadline {
    pub const NOW: Deadline = Deadline(0);
    pub const NEVER: Deadline = Deadline(2);

    pub fn after(_: Duration) -> Deadline {
        Deadline(1)
    }

    pub fn has_passed(self) -> bool {
        self == Deadline::NOW
    }
}

/// Runs `f` in every interleaving with at most so many switches away from a thread that could go on; `MORE_SWITCHES=1` in the
/// environment adds one, and minutes.
pub fn explore(switches: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let more = std::env::var("MORE_SWITCHES").ok().and_then(|more| more.parse().ok()).unwrap_or(0);
    builder.preemption_bound = Some(switches + more);
    builder.check(f);
}

/// A thread that dies before a certain step, in every interleaving of one model.
#[derive(Debug, Clone)]
pub struct Mortal {
    /// It does so many.
    pub steps: usize,
    died: Arc<AtomicBool>,
}

impl Mortal {
    /// Runs `f` until the death; true if it lived to its end.
    pub fn live(&self, f: impl FnOnce()) -> bool {
        let lived = live(self.steps, f);
        self.died.fetch_or(!lived, SeqCst);
        lived
    }
}

/// Explores `f` with a death before step 0, 1, 2… until its mortal thread lives to its end in every interleaving.
pub fn each_death(switches: usize, f: impl Fn(&Mortal) + Clone + Sync + Send + 'static) {
    for steps in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let (mortal, f) = (Mortal { steps, died: died.clone() }, f.clone());
        explore(switches, move || f(&mortal));
        if !died.load(SeqCst) {
            return assert!(steps > 0, "the mortal thread did nothing");
        }
    }
}

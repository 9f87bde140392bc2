//! A task in the pool, from its submission to its completion.

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

    /// Tells them; how many there were.
    pub(super) fn tell(&mut self) -> usize {
        let count = self.0.len();
        self.0.drain(..).for_each(|(done, outcome)| done.complete(outcome));
        count
    }
}

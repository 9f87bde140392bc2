//! How far an executor has come, for a progress bar.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::TaskError;

/// How many tasks were given to an [`Executor`](crate::Executor), and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// All that were submitted.
    pub submitted: usize,
    /// Those that have a result.
    pub done: usize,
    /// Those that have an error instead.
    pub failed: usize,
    /// Those that were cancelled before they started.
    pub cancelled: usize,
}

impl Progress {
    /// Those that are over, in whatever way.
    pub fn finished(&self) -> usize {
        self.done + self.failed + self.cancelled
    }

    /// One more is over.
    pub(crate) fn add(&mut self, error: Option<&TaskError>) {
        match error {
            None => self.done += 1,
            Some(TaskError::Cancelled) => self.cancelled += 1,
            Some(_) => self.failed += 1,
        }
    }
}

type Hook = Box<dyn FnMut(Progress) + Send>;

/// The accounts, and who is told of them.
#[derive(Default)]
pub(crate) struct Tally {
    accounts: Mutex<Accounts>,
    /// Held while it is called: by one thread at a time, which tells what the others counted meanwhile.
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct Accounts {
    progress: Progress,
    /// Somebody is telling, and will look again.
    telling: bool,
    news: bool,
}

impl Tally {
    pub(crate) fn new(hook: Hook) -> Arc<Tally> {
        Arc::new(Tally { accounts: Mutex::default(), hook: Mutex::new(Some(hook)) })
    }

    /// Counts, and tells.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Progress)) {
        let mut accounts = self.accounts.lock();
        change(&mut accounts.progress);
        accounts.news = true;
        if accounts.telling {
            return;
        }
        accounts.telling = true;
        while std::mem::take(&mut accounts.news) {
            let progress = accounts.progress;
            parking_lot::MutexGuard::unlocked(&mut accounts, || self.tell(progress));
        }
        accounts.telling = false;
    }

    fn tell(&self, progress: Progress) {
        let mut hook = self.hook.lock();
        let told = hook.as_mut().map(|hook| catch_unwind(AssertUnwindSafe(|| hook(progress))));
        if let Some(Err(_)) = told {
            *hook = None;
            eprintln!("multiprocess: that was the progress hook of an executor; it is not called again");
        }
    }
}

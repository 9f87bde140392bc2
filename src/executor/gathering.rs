//! Where those sleep who wait for many results, and what they find when they wake.

use std::collections::VecDeque;
use std::sync::Arc;

use ipc_sync::Deadline;
use parking_lot::{Condvar, Mutex};

use super::cell::{Helper, Seat, sleep_once, wait_in};

/// Which futures are done and were not handed out, and where one sleeps who wants more.
#[derive(Default)]
pub(crate) struct Gathering {
    done: Mutex<VecDeque<usize>>,
    changed: Condvar,
}

impl Gathering {
    /// One more is done.
    pub(crate) fn add(&self, index: usize) {
        self.done.lock().push_back(index);
        self.changed.notify_one();
    }

    /// The next one; `None` = the time was up before.
    pub(crate) fn next(&self, helper: Option<&Arc<dyn Helper>>, until: Deadline) -> Option<usize> {
        let done = self.done.lock().pop_front();
        if done.is_some() || until.has_passed() {
            return done;
        }
        wait_in(self, helper, until);
        self.done.lock().pop_front()
    }
}

impl Seat for Gathering {
    fn is_done(&self) -> bool {
        !self.done.lock().is_empty()
    }

    fn sleep(&self, until: Deadline) {
        let mut done = self.done.lock();
        while done.is_empty() && sleep_once(&self.changed, &mut done, until) {}
    }
}

//! Where those sleep who wait for many results, and what they find when they wake.

use std::collections::VecDeque;
use std::sync::Arc;

use ipc_sync::Deadline;
use parking_lot::{Condvar, Mutex};

use super::cell::{Helper, Seat, sleep_once, wait_in};

/// Which futures are done and were not handed out, and where one sleeps who wants more.
#[derive(Default)]
pub(crate) struct Gathering {
    inner: Mutex<Gathered>,
    changed: Condvar,
}

#[derive(Default)]
struct Gathered {
    done: VecDeque<usize>,
    poked: bool,
}

impl Gathering {
    /// One more is done.
    pub(crate) fn add(&self, index: usize) {
        self.inner.lock().done.push_back(index);
        self.changed.notify_one();
    }

    /// The next one; `None` = the time was up before.
    pub(crate) fn next(self: &Arc<Self>, helper: Option<&Arc<dyn Helper>>, until: Deadline) -> Option<usize> {
        let done = self.inner.lock().done.pop_front();
        if done.is_some() || until.has_passed() {
            return done;
        }
        let seat: Arc<dyn Seat> = Arc::clone(self) as _;
        wait_in(&seat, helper, until);
        self.inner.lock().done.pop_front()
    }
}

impl Seat for Gathering {
    fn is_done(&self) -> bool {
        !self.inner.lock().done.is_empty()
    }

    fn sleep(&self, until: Deadline) {
        let mut inner = self.inner.lock();
        while inner.done.is_empty() && !std::mem::take(&mut inner.poked) {
            if !sleep_once(&self.changed, &mut inner, until) {
                return;
            }
        }
    }

    fn poke(&self) {
        self.inner.lock().poked = true;
        self.changed.notify_one();
    }
}

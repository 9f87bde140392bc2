//! Who uses a queue in this process: the public handles and the leases, but not the feeder.
//!
//! Users are counted apart from the owners of the memory, of which the feeder is one: with the last user the feeder
//! has nothing more to wait for, and must not keep the queue's descriptors until it is tired of waiting.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use crate::raw::RawQueue;

/// One use of a queue.
#[derive(Debug)]
pub(crate) struct User(Arc<RawQueue>);

impl User {
    pub(crate) fn of(queue: Arc<RawQueue>) -> User {
        queue.users.fetch_add(1, SeqCst);
        User(queue)
    }
}

impl Clone for User {
    fn clone(&self) -> User {
        User::of(self.0.clone())
    }
}

impl Deref for User {
    type Target = Arc<RawQueue>;

    #[inline(always)]
    fn deref(&self) -> &Arc<RawQueue> {
        &self.0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if self.users.fetch_sub(1, SeqCst) == 1 {
            self.here.get().dismiss_feeder();
        }
    }
}

//! Takes of which the claim is not all: one at a time, under the takers' lock.
//!
//! A plain get claims by its compare-and-swap and needs no lock, and goes on without one beside this. The lock is for
//! those that have more to do than to claim. It passes on when its owner dies, and the next one is told: what the
//! dead one had begun beside the ring is the next one's to end. `head` itself needs no repair.
//!
//! An owner that is stopped stops those who want the lock, and nobody else.

use crate::channel::{Channel, Fault};
use crate::primitive::{Acquired, Deadline, Me, processor};

impl Channel {
    /// Runs `work` under the takers' lock; it is told whether the last owner died.
    pub(crate) fn exclusively<R>(
        &self,
        me: &Me,
        deadline: Deadline,
        work: impl FnOnce(Acquired) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let takers = &self.words.consumers.takers;
        let acquired = takers.lock(me, deadline)?;
        if acquired == Acquired::OwnerDied {
            self.tell_of_room(self.head()); // the dead owner may have claimed and rung nobody
        }
        let result = work(acquired);
        takers.unlock();
        result
    }

    /// Under the takers' lock: claims the frame between `head` and `behind`. False = it is not there any more.
    ///
    /// The bell is not named to the kernel meanwhile: a thread has one thing to name, and that is the lock.
    pub(crate) fn claim_exclusively(&self, head: u64, behind: u64) -> bool {
        let claimed = self.claim(head, behind).is_ok();
        if claimed {
            self.tell_of_room(behind);
        }
        claimed
    }

    fn tell_of_room(&self, head: u64) {
        self.words.consumers.room.passed(head, processor());
    }
}

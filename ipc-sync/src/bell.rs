//! Bells: futex words that sleepers hang up and that are rung without a system call when nobody sleeps.
//!
//! ```text
//! bell word   bit 31 ASLEEP   bit 30 TURN, another one after each ring   all others zero
//!
//! not ASLEEP  nobody sleeps: ringing costs one load
//! ASLEEP      somebody may sleep: the ringer takes it down, turns TURN and wakes one; if one slept it hangs the bell
//!             up again, for others may still sleep, and whom it woke may die before doing so
//! ```
//!
//! A sleeper goes to sleep on the word as it hung it up. TURN tells it that somebody rang, though the bell may hang
//! again by then.
//!
//! Both sides need a full barrier: the ringer between publishing and looking at the bell, the sleeper between
//! hanging it up and looking for what was published. Without it one wake in five is lost on x86.
//!
//! The TID bits stay zero on purpose: a word named in the robust list (see [`Me::name`]) whose TID bits are zero
//! has one of its sleepers woken by the kernel when the thread ends. So the bell of a ringer that is
//! killed between publishing and ringing is rung for it.
//!
//! [`Me::name`]: crate::Me::name

use crate::Deadline;
use crate::futex::{self, Woken};
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*, full_fence};

const ASLEEP: u32 = 1 << 31;
const TURN: u32 = 1 << 30;

/// Wakes one sleeper, who passes it on if there is more to have.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Wakes a sleeper. The caller has published, and put a full barrier behind it.
    #[inline(always)]
    pub fn ring(&self) {
        if self.is_hung() {
            self.ring_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_slow(&self) {
        if self.take_down() && futex::wake(&self.0, 1) > 0 {
            self.hang_up();
        }
    }

    /// Wakes all sleepers, whatever the word says.
    #[cold]
    pub fn ring_all(&self) {
        self.take_down();
        futex::wake_all(&self.0);
    }

    /// Sleeps unless `ready`, at most until `until`. Hangs the bell up again on waking: others may still sleep.
    pub fn sleep(&self, mut ready: impl FnMut() -> bool, until: Deadline) -> Woken {
        let hung = self.hang_up();
        full_fence(); // a locked instruction is one on x86 only
        if ready() {
            return Woken::Look;
        }
        let woken = futex::wait(&self.0, hung, until);
        self.hang_up();
        woken
    }

    /// Tells ringers that somebody sleeps; answers the word as it hangs. Before it sleeps, the caller puts a full barrier
    /// behind this and looks for what was published.
    pub fn hang_up(&self) -> u32 {
        self.0.fetch_or(ASLEEP, SeqCst) | ASLEEP
    }

    /// Tells ringers that nobody sleeps, or that somebody else will look for those who do. False: it did not hang.
    pub fn take_down(&self) -> bool {
        let mut word = self.0.load(Relaxed);
        while word & ASLEEP != 0 {
            match self.0.compare_exchange(word, (word ^ TURN) & !ASLEEP, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// The word, for [`Me::name`](crate::Me::name).
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether somebody may sleep.
    #[inline(always)]
    pub fn is_hung(&self) -> bool {
        self.0.load(Relaxed) & ASLEEP != 0
    }
}

/// Wakes producers when the consumers have come far enough to help one of them, and not at every item.
///
/// ```text
/// 0  8  at    0 = nobody waits, else the complement of the nearest position that helps a waiter
/// 8  4  bell  as above
/// 12 4  processor of the last consumer: a hint for the producers' wait
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct RoomBell {
    at: AtomicU64,
    bell: Bell,
    processor: AtomicU32,
}

impl RoomBell {
    /// A consumer on `processor` moved the head to `position`, with a full barrier behind it.
    #[inline(always)]
    pub fn passed(&self, position: u64, processor: u32) {
        self.processor.store(processor, Relaxed);
        let at = self.at.load(Relaxed);
        if at != 0 && position >= !at {
            self.ring_all();
        }
    }

    /// Wakes all producers.
    ///
    /// The position is taken away last: for a ringer that dies before, the kernel wakes one sleeper, and the next
    /// to pass rings for the others. A waiter that came in between may have lost its position, so then the next to pass
    /// rings wherever it is.
    #[cold]
    #[inline(never)]
    pub fn ring_all(&self) {
        full_fence();
        self.bell.ring_all();
        self.at.swap(0, SeqCst);
        full_fence();
        if self.bell.is_hung() {
            self.at.fetch_max(!0, SeqCst);
        }
    }

    /// Sleeps until the head has come to `position`, at most until `until`.
    ///
    /// The bell is hung before the position is told, so a ringer that takes the position away after it rang sees
    /// the bell of a waiter whose position that was. The nearest position wins.
    pub fn sleep(&self, position: u64, ready: impl FnOnce() -> bool, until: Deadline) -> Woken {
        let hung = self.bell.hang_up();
        self.at.fetch_max(!position, SeqCst);
        full_fence();
        if ready() { Woken::Look } else { futex::wait(&self.bell.0, hung, until) }
    }

    /// The processor that the last consumer ran on.
    #[inline(always)]
    pub fn processor(&self) -> u32 {
        self.processor.load(Relaxed)
    }

    /// The bell's word, for [`Me::name`](crate::Me::name).
    #[inline(always)]
    pub fn word(&self) -> &AtomicU32 {
        &self.bell.0
    }
}

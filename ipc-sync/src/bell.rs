//! Bells: futex words that sleepers hang up and that are rung without a system call when nobody sleeps.
//!
//! ```text
//! bell word    bit 31 ASLEEP, all others zero
//! 0            nobody sleeps: ringing costs one load
//! ASLEEP       somebody may sleep: the ringer takes it down by a swap and wakes
//! ```
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

/// Wakes one sleeper, who passes it on if there is more to have.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Wakes a sleeper. The caller has published, and put a full barrier behind it.
    #[inline(always)]
    pub fn ring(&self) {
        if self.0.load(Relaxed) != 0 {
            self.ring_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring_slow(&self) {
        if self.0.swap(0, SeqCst) != 0 {
            futex::wake(&self.0, 1);
        }
    }

    /// Wakes all sleepers, whatever the word says.
    #[cold]
    pub fn ring_all(&self) {
        self.0.store(0, SeqCst);
        futex::wake_all(&self.0);
    }

    /// Sleeps unless `ready`, at most until `until`. Hangs the bell up again on waking: others may still sleep.
    pub fn sleep(&self, mut ready: impl FnMut() -> bool, until: Deadline) -> Woken {
        self.0.swap(ASLEEP, SeqCst);
        full_fence(); // the swap alone is no full barrier but on x86
        if ready() {
            return Woken::Look;
        }
        let woken = futex::wait(&self.0, ASLEEP, until);
        self.0.store(ASLEEP, SeqCst);
        woken
    }

    /// The word, for [`Me::name`](crate::Me::name).
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether somebody may sleep.
    pub fn is_hung(&self) -> bool {
        self.0.load(Relaxed) != 0
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
    #[cold]
    #[inline(never)]
    pub fn ring_all(&self) {
        self.at.swap(0, SeqCst); // not a store: it must come after the bell of the waiter whose position it clears
        self.bell.ring_all();
    }

    /// Sleeps until the head has come to `position`, at most until `until`.
    ///
    /// The bell is hung before the position is told. A ringer clears them in the other order, so whichever of the two
    /// it meets, it wakes us or leaves our position to the next. The nearest position wins.
    pub fn sleep(&self, position: u64, ready: impl FnOnce() -> bool, until: Deadline) -> Woken {
        self.bell.0.swap(ASLEEP, SeqCst);
        self.at.fetch_max(!position, SeqCst);
        full_fence();
        if ready() { Woken::Look } else { futex::wait(&self.bell.0, ASLEEP, until) }
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

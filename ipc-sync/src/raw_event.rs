//! The event word: a counter of changes whose lowest bit says whether it is set.
//!
//! A waiter sleeps on the exact word that it saw, so whatever changes it has set the event in between, and a pulse (set,
//! then clear at once) is missed by nobody. Setting is one instruction when nobody sleeps, and one system call that
//! changes and wakes when somebody does: a setter that is killed loses no wake, a waiter that is killed was nobody's
//! duty. It needs no token, no lock and no thread-local, so a signal handler may do it.
//!
//! ```text
//! bit 0 SET   bits 1..31 how often it was cleared   31 ASLEEP
//!
//! even            not set                          → odd (set), even | ASLEEP (a waiter goes to sleep)
//! even | ASLEEP   not set, somebody may sleep      → odd | ASLEEP and a wake of all (set)
//! odd             set                              → next even (clear)
//! odd | ASLEEP    set, those who slept are awake   → next even, without ASLEEP (clear)
//! ```
//!
//! The counter comes round after 2^30 pulses: a waiter that is stopped for just so many of them sees none.

use crate::Deadline;
use crate::futex::{self, Woken};
use crate::primitive::{AtomicU32, Ordering::*, spin};

const SET: u32 = 1;
const ASLEEP_BIT: u32 = 31;
const ASLEEP: u32 = 1 << ASLEEP_BIT;

/// Sleeps of one backstop before they become long: an event may be hours away.
const SHORT_ROUNDS: u32 = 3;
/// Backstops in a long sleep: a second.
const LONG_ROUND: u32 = 10;

/// A word in shared memory that is set or not; not set when zero.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct RawEvent(AtomicU32);

impl RawEvent {
    #[inline(always)]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire) & SET != 0
    }

    /// Whether somebody may sleep.
    pub(crate) fn has_waiters(&self) -> bool {
        self.0.load(Relaxed) & (ASLEEP | SET) == ASLEEP
    }

    /// Sets it and wakes all who sleep.
    ///
    /// A word that is set is written all the same: whoever clears it afterwards sees what stood before this call.
    #[inline(always)]
    pub(crate) fn set(&self) {
        let mut word = self.0.load(Relaxed);
        while word & (ASLEEP | SET) != ASLEEP {
            match self.0.compare_exchange_weak(word, word | SET, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        futex::set_bit_and_wake(&self.0, 0, &self.0, i32::MAX);
    }

    /// Takes back what was set.
    #[inline(always)]
    pub(crate) fn clear(&self) {
        let mut word = self.0.load(Relaxed);
        while word & SET != 0 {
            let next = word.wrapping_add(1) & !ASLEEP;
            match self.0.compare_exchange_weak(word, next, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Waits until it is set, or was in between, `deadline` at most; false = it was not. `rescued` is told when only
    /// the backstop woke us.
    #[inline(always)]
    pub(crate) fn wait(&self, deadline: Deadline, rescued: fn()) -> bool {
        let word = self.0.load(Acquire);
        word & SET != 0 || self.wait_slow(word & !ASLEEP, deadline, rescued)
    }

    #[cold]
    #[inline(never)]
    fn wait_slow(&self, unset: u32, deadline: Deadline, rescued: fn()) -> bool {
        // What comes soon comes without a system call on either side.
        if deadline != Deadline::NOW && spin(|| self.0.load(Acquire) & !ASLEEP != unset) {
            return true;
        }
        let (mut overslept, mut rounds) = (false, 0);
        loop {
            let word = self.0.load(Acquire);
            if word & !ASLEEP != unset {
                if overslept && !deadline.has_passed() {
                    rescued();
                }
                return true;
            }
            if deadline.has_passed() {
                return false;
            }
            if word & ASLEEP != 0 || self.mark_asleep(unset) {
                overslept = self.sleep(unset, deadline, rounds) == Woken::TimedOut;
                rounds += u32::from(overslept);
            }
        }
    }

    /// The word as it is without sleepers. Whoever finds another one later knows that it is set or was in between.
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Acquire) & !ASLEEP
    }

    /// Has a set wake the word; answers what it holds until then. `None` = it is no longer `unset`, or is set.
    pub(crate) fn arm(&self, unset: u32) -> Option<u32> {
        let asleep = unset | ASLEEP;
        while self.now() == unset && unset & SET == 0 {
            if self.0.load(Relaxed) == asleep || self.mark_asleep(unset) {
                return Some(asleep);
            }
        }
        None
    }

    /// The word that sleepers sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.0
    }

    fn mark_asleep(&self, unset: u32) -> bool {
        self.0.compare_exchange(unset, unset | ASLEEP, SeqCst, Relaxed).is_ok()
    }

    fn sleep(&self, unset: u32, deadline: Deadline, rounds: u32) -> Woken {
        let backstops = if rounds < SHORT_ROUNDS { 1 } else { LONG_ROUND };
        futex::wait(&self.0, unset | ASLEEP, deadline.min(Deadline::after(crate::BACKSTOP * backstops)))
    }
}

//! The lock word: its owner's token, handed over by the kernel when the owner dies.
//!
//! A waiter sleeps on two words at once, the lock and its owner's live word, so it is woken by whichever
//! changes: the unlock, or the kernel's mark of the owner's death. An owner that is killed between unlocking
//! and waking is marked too, which wakes the waiter all the same. The shape is that of std's futex mutex. The word
//! holds a token and not a TID, which would mean another thread in another PID namespace.
//!
//! ```text
//! bits 0..14 slot   14..29 generation   29 always set in a token   30 zero   31 WAITERS
//!
//! 0                 free                                → token (lock)
//! token             owned, nobody sleeps                → 0 (unlock), token | WAITERS (a waiter goes to sleep)
//! token | WAITERS   owned, somebody may sleep           → 0 and a wake (unlock)
//! dead token (| WAITERS)  its owner died                → taker's token | WAITERS
//! WAITERS           free; left by nobody, taken like 0
//! anything else     damaged: an error, never an owner
//! ```
//!
//! Whoever slept takes the lock with WAITERS set: others may still sleep, and its unlock wakes the next. Two are woken
//! where two sleep: one may be killed before it runs again, and then nobody else would know that the lock is free.

use crate::Deadline;
use crate::Me;
use crate::futex::{self, Woken};
use crate::primitive::{AtomicU32, Ordering::*, spin};
use crate::registry::{Owner, Registry, TOKEN};

const WAITERS: u32 = 1 << 31;

/// How a lock was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Acquired {
    /// It was free.
    Free,
    /// Its owner died with it: what it guards may be half written.
    OwnerDied,
}

/// Why a lock was not come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawLockError {
    /// The deadline came; with [`Deadline::NOW`], somebody has it.
    TimedOut,
    /// This thread has it already.
    Deadlock,
    /// The word, or the slot of its owner, holds what nobody of ours writes.
    Corrupt,
}

/// A lock in shared memory, 4 bytes, free when zero. It belongs to a thread, by its token.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RawLock(AtomicU32);

impl RawLock {
    /// Takes the lock; sleeps until `deadline` while a living thread has it.
    ///
    /// # Errors
    ///
    /// See [`RawLockError`].
    #[inline(always)]
    pub fn lock(&self, me: &Me, deadline: Deadline) -> Result<Acquired, RawLockError> {
        me.arm();
        match self.0.compare_exchange(0, me.token(), Acquire, Relaxed) {
            Ok(_) => Ok(Acquired::Free),
            Err(_) => self.lock_slow(me, deadline),
        }
    }

    /// Gives the lock back and wakes a sleeper, and one more in case that one dies of it. A full barrier on x86; elsewhere a release.
    #[inline(always)]
    pub fn unlock(&self) {
        if self.0.swap(0, SeqCst) & WAITERS != 0 {
            futex::wake(&self.0, 2);
        }
    }

    /// The token of whoever has the lock, dead or alive; 0 = nobody.
    pub fn owner(&self) -> u32 {
        self.0.load(Relaxed) & TOKEN
    }

    /// Whether somebody may sleep for it.
    pub fn has_waiters(&self) -> bool {
        self.0.load(Relaxed) & WAITERS != 0
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, me: &Me, deadline: Deadline) -> Result<Acquired, RawLockError> {
        if deadline != Deadline::NOW && self.spin(me) {
            return Ok(Acquired::Free);
        }
        let registry = me.registry();
        let mut sleeper = Sleeper::new(me, deadline);
        loop {
            let word = self.0.load(Relaxed);
            if word & !WAITERS == 0 {
                if self.take(word, sleeper.takes(word)) {
                    sleeper.count_rescue(registry);
                    return Ok(Acquired::Free);
                }
            } else if word & !WAITERS == me.token() {
                return Err(RawLockError::Deadlock);
            } else if sleeper.owner_died(registry, word)? {
                if self.take(word, me.token() | WAITERS) {
                    sleeper.count_rescue(registry);
                    return Ok(Acquired::OwnerDied);
                }
            } else {
                self.sleep(registry, word, &mut sleeper)?;
            }
        }
    }

    fn take(&self, seen: u32, token: u32) -> bool {
        self.0.compare_exchange(seen, token, Acquire, Relaxed).is_ok()
    }

    /// A few more looks. Bounded: the owner may be dead.
    fn spin(&self, me: &Me) -> bool {
        spin(|| self.0.load(Relaxed) == 0 && self.take(0, me.token()))
    }

    /// Sleeps on the word and on its owner's, or returns at once if one of them changed.
    fn sleep(&self, registry: &Registry, word: u32, sleeper: &mut Sleeper<'_>) -> Result<(), RawLockError> {
        if sleeper.deadline.has_passed() {
            return Err(RawLockError::TimedOut);
        }
        if word & WAITERS == 0 && !self.take(word, word | WAITERS) {
            return Ok(());
        }
        sleeper.slept(registry.sleep((&self.0, word | WAITERS), word & !WAITERS, sleeper.round()));
        Ok(())
    }
}

/// What one waiting thread knows of its wait.
struct Sleeper<'a> {
    me: &'a Me,
    deadline: Deadline,
    /// Somebody may sleep behind us: we did.
    waiters: u32,
    /// The last sleep was ended by nobody.
    overslept: bool,
    /// It was the backstop, and not the deadline of the call.
    rescued: bool,
    /// Looks in a row that could not make sense of the owner.
    unclear: u32,
}

/// Looks at an owner that makes no sense, 20 ms apart, before it is an error: about a second.
const UNCLEAR_LIMIT: u32 = 50;

impl<'a> Sleeper<'a> {
    fn new(me: &'a Me, deadline: Deadline) -> Self {
        Sleeper { me, deadline, waiters: 0, overslept: false, rescued: false, unclear: 0 }
    }

    /// What to put into the word when it is free.
    fn takes(&self, word: u32) -> u32 {
        self.me.token() | self.waiters | word & WAITERS
    }

    fn round(&self) -> Deadline {
        self.deadline.min(Deadline::after(crate::BACKSTOP))
    }

    fn slept(&mut self, woken: Woken) {
        self.waiters = WAITERS;
        self.overslept = woken == Woken::TimedOut;
        self.rescued = self.overslept && !self.deadline.has_passed();
    }

    fn count_rescue(&self, registry: &Registry) {
        if self.rescued {
            registry.count_rescue();
        }
    }

    /// Whether the owner named in `word` is dead; after a sleep that nobody ended, /proc is asked too.
    fn owner_died(&mut self, registry: &Registry, word: u32) -> Result<bool, RawLockError> {
        let token = word & !WAITERS;
        match registry.look(token) {
            Owner::Dead => return Ok(true),
            Owner::Alive { .. } if !self.overslept => {}
            Owner::Alive { .. } | Owner::Unmarked => return Ok(registry.ask(token)),
            Owner::Unclear if self.unclear == UNCLEAR_LIMIT => return Err(RawLockError::Corrupt),
            Owner::Unclear => self.unclear += 1,
        }
        Ok(false)
    }
}

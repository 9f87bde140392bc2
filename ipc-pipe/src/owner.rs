//! Who has a side: one thread at a time, and whoever comes after it.
//!
//! An end may be in several processes at once (a forked child has a copy of all its parent has), but a ring has room
//! for one writer and one reader. So each side has a word, and whoever uses the side loads it first.
//!
//! ```text
//! owner word
//! 0            nobody: new, moved or closed                    → token
//! token        that thread used the side last, and lives       → token of another thread of its process, through the
//!                                                                same handle; 0 when the handle goes
//! dead token   that thread has ended                           → token of whoever comes next
//! ```
//!
//! Nothing is taken from the living: a thread that finds another process's token gets an error.

use std::sync::atomic::{AtomicU32, Ordering::*};

use ipc_sync::{Me, Registry, RegistryError, forks};

/// What a handle remembers of the side it used: nothing, or the token it left in the word.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    token: u32,
    /// A forked child's copy of a claim claims nothing.
    forks: u32,
}

/// How a side was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Claimed {
    /// It was ours: what we know of it still holds.
    Kept,
    /// It was somebody else's: everything must be read anew.
    Anew,
}

/// Why a side was not come by.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A living thread of another process has it.
    InUse { pid: Option<u32> },
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl Claim {
    /// Takes the side of `word` for this thread, or finds that it has it.
    #[inline(always)]
    pub(crate) fn take(&mut self, word: &AtomicU32) -> Result<Claimed, Refused> {
        let me = Me::get().map_err(Refused::Registry)?;
        if word.load(Relaxed) == me.token() && self.token == me.token() {
            return Ok(Claimed::Kept);
        }
        self.take_slow(word, &me)
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&mut self, word: &AtomicU32, me: &Me) -> Result<Claimed, Refused> {
        loop {
            let seen = word.load(Acquire);
            let kept = seen != 0 && seen == self.token && self.forks == forks();
            if !kept && !is_free(me, seen) {
                return Err(Refused::InUse { pid: me.registry().pid_of(seen) });
            }
            if word.compare_exchange(seen, me.token(), AcqRel, Relaxed).is_ok() {
                *self = Claim { token: me.token(), forks: forks() };
                return Ok(if kept { Claimed::Kept } else { Claimed::Anew });
            }
        }
    }

    /// What was left in the word; 0 = nothing.
    pub(crate) fn token(&self) -> u32 {
        self.token
    }

    /// Gives the side back, if it is ours: the next one need not wait for our end.
    pub(crate) fn release(&mut self, word: &AtomicU32) {
        let Claim { token, forks: claimed } = std::mem::take(self);
        if token != 0 && claimed == forks() {
            let _ = word.compare_exchange(token, 0, AcqRel, Relaxed);
        }
    }
}

fn is_free(me: &Me, token: u32) -> bool {
    token == 0 || token == me.token() || me.registry().has_ended(token)
}

/// The process that has the side of `word`, as far as the registry knows.
pub(crate) fn pid_of(word: &AtomicU32) -> Option<u32> {
    Registry::get().ok()?.pid_of(word.load(Relaxed))
}

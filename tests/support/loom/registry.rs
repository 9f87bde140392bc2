//! The registry of threads: a few slots whose owners the test names, and the kernel that marks them.
#![allow(unsafe_code)]

use std::cell::Cell;

use super::Deadline;
use super::futex::{self, Woken};
use super::primitive::{AtomicU32, Ordering::*, step};

pub const TOKEN: u32 = (1 << 30) - 1;
const OWNED: u32 = 1 << 29;
const DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;
/// A named word with any of these set is somebody's: the kernel leaves it alone.
const TID: u32 = (1 << 30) - 1;

/// Slots 0 to 3; more threads loom does not run.
#[derive(Debug, Default)]
pub struct Registry {
    live: [AtomicU32; 4],
    /// What /proc tells: one bit for each slot whose thread has ended.
    ended: AtomicU32,
}

/// What the table says of an owner.
pub enum Owner<'a> {
    Alive { live: &'a AtomicU32, seen: u32 },
    Dead,
    Unmarked,
    Unclear,
}

impl Registry {
    fn live(&self, token: u32) -> &AtomicU32 {
        &self.live[(token & 3) as usize]
    }

    pub fn look(&self, token: u32) -> Owner<'_> {
        if token & OWNED == 0 {
            return Owner::Unclear;
        }
        let live = self.live(token);
        let seen = live.load(SeqCst);
        if seen & DIED != 0 { Owner::Dead } else { Owner::Alive { live, seen } }
    }

    pub fn is_dead(&self, token: u32) -> bool {
        matches!(self.look(token), Owner::Dead)
    }

    pub fn has_ended(&self, token: u32) -> bool {
        self.is_dead(token) || self.ask(token)
    }

    /// Every thread is a process of its own.
    pub fn process_ended_too(&self, _: u32) -> bool {
        true
    }

    pub fn is_lost(&self, token: u32) -> bool {
        self.has_ended(token)
    }

    pub fn pid_of(&self, token: u32) -> Option<u32> {
        Some(1000 + (token & 3))
    }

    /// Asks /proc, and marks the slot of a thread that the kernel did not mark.
    pub fn ask(&self, token: u32) -> bool {
        step();
        let ended = self.ended.by_kernel().load(SeqCst) & 1 << (token & 3) != 0;
        if ended {
            self.mark(token);
        }
        ended
    }

    pub fn count_rescue(&self) {
        unreachable!("nobody oversleeps here")
    }

    pub fn sleep(&self, word: (&AtomicU32, u32), token: u32, until: Deadline) -> Woken {
        self.sleep_any(word, [token], until)
    }

    /// Sleeps on `word` and on the owners of all `tokens` together, unless one of them is dead.
    pub fn sleep_any(
        &self,
        word: (&AtomicU32, u32),
        tokens: impl IntoIterator<Item = u32>,
        until: Deadline,
    ) -> Woken {
        let mut words = vec![word];
        for token in tokens {
            let Owner::Alive { live, seen } = self.look(token) else { return Woken::Look };
            let watched = seen | WAITERS;
            if seen != watched && live.compare_exchange(seen, watched, SeqCst, Relaxed).is_err() {
                return Woken::Look;
            }
            words.push((live, watched));
        }
        let woken = futex::wait_any(&words, until);
        if let Woken::Other(index) = woken {
            futex::wake_all(words[index].0); // the kernel woke only us
        }
        woken
    }

    /// What the kernel does when a thread has ended: it wakes one sleeper of what the thread had named, or marks its
    /// live word and wakes one sleeper of that.
    pub fn bury(&self, me: &Me) {
        self.ended.by_kernel().fetch_or(1 << (me.token() & 3), SeqCst);
        let named = me.named.get();
        if named.is_null() {
            self.mark(me.token());
        // SAFETY: what a model names lies beside its registry.
        } else if unsafe { &*named }.by_kernel().load(SeqCst) & TID == 0 {
            futex::kernel_wake(named);
        }
    }

    fn mark(&self, token: u32) {
        let live = self.live(token);
        if live.by_kernel().fetch_or(DIED, SeqCst) & WAITERS != 0 {
            futex::kernel_wake(live);
        }
    }
}

/// A thread with a slot.
#[derive(Debug)]
pub struct Me {
    slot: u32,
    registry: *const Registry,
    named: Cell<*const AtomicU32>,
}

impl Me {
    /// The registry lives as long as the model: each test keeps it in an `Arc` beside every `Me`.
    pub fn new(slot: u32, registry: &Registry) -> Me {
        Me { slot, registry, named: Cell::new(std::ptr::null()) }
    }

    pub fn token(&self) -> u32 {
        OWNED | self.slot
    }

    pub fn arm(&self) {
        self.named.set(std::ptr::null());
    }

    /// Not a step: it is a store into this thread's own memory, and the next step is the next chance to die.
    pub fn name(&self, word: &AtomicU32) {
        self.named.set(word);
    }

    pub fn registry(&self) -> &Registry {
        // SAFETY: see `new`.
        unsafe { &*self.registry }
    }
}

//! The least that does the same on a bare futex: plain words, `FUTEX_WAIT` and `FUTEX_WAKE`, no account of who sleeps
//! and no thought of who dies.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use support::shared;

fn wait(word: &AtomicU32, expected: u32) {
    // SAFETY: reads the aligned word behind a live reference; a null timeout means none.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, std::ptr::null::<u8>())
    };
}

fn wake(word: &AtomicU32, count: i32) {
    // SAFETY: the address is a key only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// A flag: 1 = set.
pub(crate) struct Event(&'static AtomicU32);

impl Event {
    pub(crate) fn new() -> Event {
        Event(shared())
    }

    pub(crate) fn set(&self) {
        self.0.store(1, SeqCst);
        wake(self.0, i32::MAX);
    }

    pub(crate) fn wait(&self) {
        while self.0.load(SeqCst) == 0 {
            wait(self.0, 0);
        }
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, SeqCst);
    }
}

/// A condition: a count of notifications, taken down under the lock and slept on without it.
pub(crate) struct Sequence(&'static AtomicU32);

impl Sequence {
    pub(crate) fn new() -> Sequence {
        Sequence(shared())
    }

    pub(crate) fn notify_one(&self) {
        self.0.fetch_add(1, SeqCst);
        wake(self.0, 1);
    }

    /// Gives `guard` back, sleeps, and takes the lock again.
    pub(crate) fn wait<G>(&self, guard: G, lock: impl Fn() -> G) -> G {
        let seen = self.0.load(SeqCst);
        drop(guard);
        wait(self.0, seen);
        lock()
    }
}

/// A barrier as std's: who comes last turns the generation over and wakes the others.
#[derive(Default)]
pub(crate) struct Barrier {
    arrived: AtomicU32,
    generation: AtomicU32,
}

impl Barrier {
    pub(crate) fn new() -> &'static Barrier {
        shared()
    }

    pub(crate) fn wait(&self, parties: u32) {
        let generation = self.generation.load(SeqCst);
        if self.arrived.fetch_add(1, SeqCst) + 1 == parties {
            self.arrived.store(0, SeqCst);
            self.generation.fetch_add(1, SeqCst);
            return wake(&self.generation, i32::MAX);
        }
        while self.generation.load(SeqCst) == generation {
            wait(&self.generation, generation);
        }
    }
}

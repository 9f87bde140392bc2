//! A turn passed there and back under a lock: who has it gives it away and notifies, who has not waits.
//!
//! The bare peer is the same play with our lock, and a futex word in place of the condition: a count that every notifier
//! raises before it wakes one, and that a waiter reads under the lock and sleeps on without it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ipc_sync::{Condition, Lock, LockGuard};

use crate::bare::Sequence;
use crate::rally::{PLACES, rally};
use crate::table::{Better, Table, way};
use support::shared;

struct Play<'a> {
    lock: &'a Lock,
    /// Whose turn it is: guarded by the lock.
    turn: &'static AtomicU32,
}

impl<'a> Play<'a> {
    fn new(lock: &'a Lock) -> Play<'a> {
        Play { lock, turn: shared() }
    }

    fn pass(&self, mine: u32, wait: impl Fn(LockGuard<'a>) -> LockGuard<'a>, notify: impl Fn()) {
        let mut guard = self.lock.lock().unwrap();
        while self.turn.load(Relaxed) != mine {
            guard = wait(guard);
        }
        self.turn.store(1 - mine, Relaxed);
        notify();
        drop(guard);
    }

    fn there_and_back(
        &self,
        processors: [usize; 2],
        wait: impl Fn(LockGuard<'a>) -> LockGuard<'a>,
        notify: impl Fn(),
    ) -> f64 {
        rally(processors, || self.pass(0, &wait, &notify), || self.pass(1, &wait, &notify))
    }
}

pub(crate) fn run() {
    let table = Table::new("Condition: ns there and back", Better::Less);
    let lock = Lock::new().unwrap();
    for (place, processors) in PLACES {
        let ours = || {
            let condition = Condition::new().unwrap();
            let wait = |guard| condition.wait(guard).unwrap();
            Play::new(&lock).there_and_back(processors, wait, || _ = condition.notify_one().unwrap())
        };
        let bare = || {
            let sequence = Sequence::new();
            let wait = |guard| sequence.wait(guard, || lock.lock().unwrap());
            Play::new(&lock).there_and_back(processors, wait, || sequence.notify_one())
        };
        table.row(place, ours, &[way("bare futex", bare)]);
    }
}

//! The words of a lock for many readers or one writer.
//!
//! A writer has the gate from beginning to end, a reader only while it enters. So readers that come behind a
//! writer queue at the gate, and it does not starve. Readers stand in a ledger, and each writes its own entry:
//! it leaves, and enters again, without the gate, so a thread that reads already never waits for a writer
//! that waits for it.
//!
//! A writer with the gate waits for the readers inside: it sleeps on `turns`, which who leaves changes, and on
//! the live words of them all. The dead are struck out. Only a writer that was inside leaves poison when it dies.
//!
//! ```text
//! writer           bits 0..30 token of the gate's owner, if it is a writer   30 ASLEEP   31 INSIDE
//!
//! 0                no writer has the gate, or it has not said so yet
//! token            it waits for the readers inside
//! token | ASLEEP   it sleeps: who leaves wakes it
//! token | INSIDE   it writes: if its owner is dead, what it wrote may be half done
//! ```

use std::time::Duration;

use crate::futex;
use crate::ledger::{Entry, Ledger};
use crate::primitive::{AtomicU32, Ordering::*, full_fence, spin};
use crate::raw_lock::{Acquired, RawLock, RawLockError};
use crate::watch::Watch;
use crate::{Deadline, Me};

const ASLEEP: u32 = 1 << 30;
const INSIDE: u32 = 1 << 31;

/// Who may not wait for a writer waits so long for a reader that passes the gate, which takes a few instructions.
const PASSING: Duration = Duration::from_millis(1);

/// ```text
///  0 4 gate
///  4 4 writer    see above
///  8 4 turns     what the writer sleeps on: another number when a reader has left
/// 12 4 poisoned  0 = consistent, 1 = a writer died or panicked, and nobody has marked it consistent since
/// 16 … readers   note: how many times its thread is inside
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct RawRwLock<const N: usize> {
    gate: RawLock,
    writer: AtomicU32,
    turns: AtomicU32,
    poisoned: AtomicU32,
    readers: Ledger<N>,
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (RawLock is a transparent one, Ledger an array of them).
    unsafe impl<const N: usize> ipc_shm::Cells for super::RawRwLock<N> {}
}

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The lock says so.
    Lock(RawLockError),
    /// As many threads as there are places read already.
    Full,
}

impl From<RawLockError> for Refusal {
    fn from(error: RawLockError) -> Self {
        Refusal::Lock(error)
    }
}

impl<const N: usize> RawRwLock<N> {
    /// Enters this thread as a reader; its place.
    #[inline]
    pub(crate) fn read(&self, me: &Me, deadline: Deadline) -> Result<usize, Refusal> {
        let token = me.token();
        if let Some((place, count)) = self.entry_of(token) {
            let note = count.checked_add(1).ok_or(Refusal::Full)?;
            self.readers.set(place, Entry { token, note }); // its place is marked as used already
            return Ok(place);
        }
        self.enter(me, deadline)?;
        let place = self.place_for(me);
        if let Some(place) = place {
            self.readers.set(place, Entry { token, note: 1 });
        }
        self.gate.unlock();
        place.ok_or(Refusal::Full)
    }

    /// This thread reads no more, or one time less.
    #[inline]
    pub(crate) fn leave(&self, me: &Me, place: usize) {
        let token = me.token();
        match self.readers.get(place) {
            Some(entry) if entry.token != token => {} // damaged
            Some(entry) if entry.note > 1 => self.readers.set(place, Entry { token, note: entry.note - 1 }),
            Some(_) => self.leave_last(me, place),
            None => {}
        }
    }

    /// A writer that sleeps beside this thread is woken by its death as well as by the wake.
    #[inline]
    fn leave_last(&self, me: &Me, place: usize) {
        me.arm();
        self.readers.clear(place);
        full_fence();
        if self.writer.load(Relaxed) & ASLEEP != 0 {
            futex::increment_and_wake(&self.turns, &self.turns, 1);
        }
    }

    /// Lets this thread in alone.
    #[inline]
    pub(crate) fn write(&self, me: &Me, deadline: Deadline) -> Result<(), Refusal> {
        let token = me.token();
        if self.entry_of(token).is_some() {
            return Err(RawLockError::Deadlock.into());
        }
        self.enter(me, deadline)?;
        self.writer.store(token, SeqCst);
        if self.somebody_reads() {
            if let Err(error) = self.wait_for_readers(me, deadline) {
                self.finish();
                return Err(error.into());
            }
        }
        self.writer.swap(token | INSIDE, SeqCst); // nothing is written before
        Ok(())
    }

    /// Lets others in.
    #[inline]
    pub(crate) fn finish(&self) {
        self.writer.store(0, Release);
        self.gate.unlock();
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(1, Relaxed);
    }

    pub(crate) fn cure(&self) {
        self.poisoned.store(0, Relaxed);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed) != 0
    }

    /// The token of the writer inside, dead or alive.
    pub(crate) fn writer(&self) -> Option<u32> {
        let word = self.writer.load(Relaxed);
        (word & INSIDE != 0).then_some(word & !INSIDE)
    }

    /// The tokens of the readers inside, dead or alive.
    pub(crate) fn readers(&self) -> impl Iterator<Item = u32> + '_ {
        self.readers.tokens()
    }

    /// Whether somebody may wait.
    pub(crate) fn has_waiters(&self) -> bool {
        let word = self.writer.load(Relaxed);
        self.gate.has_waiters() || word != 0 && word & INSIDE == 0
    }

    fn somebody_reads(&self) -> bool {
        self.readers.entries().next().is_some()
    }

    fn entry_of(&self, token: u32) -> Option<(usize, u32)> {
        let place = self.readers.find(token)?;
        Some((place, self.readers.get(place)?.note))
    }

    fn place_for(&self, me: &Me) -> Option<usize> {
        self.readers.free_place(me.token()).or_else(|| {
            let mut watch = Watch::new(me, Deadline::NOW);
            self.readers.bury(|token| watch.is_dead(token));
            self.readers.free_place(me.token())
        })
    }

    /// Takes the gate. A reader that passes it is no reason to give up.
    #[inline]
    fn enter(&self, me: &Me, deadline: Deadline) -> Result<(), RawLockError> {
        match self.gate.lock(me, deadline) {
            Ok(Acquired::Free) => Ok(()),
            gate => self.enter_slow(me, gate),
        }
    }

    #[cold]
    fn enter_slow(&self, me: &Me, gate: Result<Acquired, RawLockError>) -> Result<(), RawLockError> {
        let gate = match gate {
            Err(RawLockError::TimedOut) if self.writer.load(Relaxed) == 0 => {
                self.gate.lock(me, Deadline::after(PASSING))
            }
            gate => gate,
        };
        if gate? == Acquired::OwnerDied {
            self.take_over();
        }
        Ok(())
    }

    /// From a dead owner of the gate: poison first, so that a second death changes nothing.
    fn take_over(&self) {
        if self.writer.load(Relaxed) & INSIDE != 0 {
            self.poisoned.store(1, Release);
        }
        self.writer.store(0, Release);
    }

    /// Sleeps, with the gate, until no living thread reads.
    #[cold]
    #[inline(never)]
    fn wait_for_readers(&self, me: &Me, deadline: Deadline) -> Result<(), RawLockError> {
        let mut watch = Watch::new(me, deadline);
        if deadline != Deadline::NOW && spin(|| !self.somebody_reads()) {
            return Ok(());
        }
        self.writer.store(me.token() | ASLEEP, SeqCst);
        full_fence(); // who leaves after we looked sees that we sleep
        loop {
            let turn = self.turns.load(SeqCst);
            self.readers.bury(|token| watch.is_dead(token));
            let mut tokens = [0; N];
            let count = tokens.iter_mut().zip(self.readers.tokens()).map(|(to, token)| *to = token).count();
            if count == 0 {
                watch.is_over();
                return Ok(());
            } else if watch.gives_up() {
                return Err(RawLockError::Corrupt);
            } else if deadline.has_passed() {
                return Err(RawLockError::TimedOut);
            }
            watch.sleep((&self.turns, turn), tokens[..count].iter().copied());
        }
    }
}

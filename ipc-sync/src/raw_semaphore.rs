//! The words of a semaphore: how many permits there are, and a ledger of who has them.
//!
//! Available is `total` less what the living hold. Nothing is ever added when somebody dies: its entry goes, and
//! the rest is added up again. One store is the commit of each operation, so a death leaves it done or not.
//!
//! ```text
//! operation  stores, all under the leaf lock        a death between them
//! acquire    entry + 1, held + 1                    the entry goes with its thread
//! give back  entry - 1, held - 1                    as above
//! forget     total - 1, entry - 1, held - 1         forgotten: the entry, a permit too large, goes
//! release    total + 1
//! ```
//!
//! # Who wakes whom
//!
//! A waiter looks, enters the ledger and notes `turns` under the leaf lock, and then sleeps on `turns` together with the
//! live words of all others in the ledger. So these wake it at once:
//!
//! - a permit given back, or passed on by one who was woken and found more than it needed;
//! - the death of a holder, also between giving back and the wake;
//! - the death of a waiter that a wake was spent on. One that came later may be unknown to it, but that one then sleeps
//!   behind it, for each newcomer changes `turns`, and the kernel wakes in the order of sleeping.
//!
//! A `release` comes from anybody, whom nobody watches: there the new total and the wake are one system call.

use std::time::Duration;

use crate::futex;
use crate::ledger::{Entry, Ledger};
use crate::primitive::{AtomicU32, Ordering::*, spin};
use crate::raw_lock::{Acquired, RawLock, RawLockError};
use crate::watch::Watch;
use crate::{Deadline, Me};

/// Most permits of any semaphore.
pub(crate) const MOST: u32 = (1 << 31) - 1;

/// In the note of an entry: its thread waits. The other bits count its permits.
const WAITER: u32 = 1 << 31;

/// In `waiting`: somebody waits who found no place in the ledger, for a permit or for the place. The next wake is for
/// all.
const CROWD: u32 = 1 << 31;

/// Who may not wait at all waits so long for the leaf lock, which is held for a few instructions.
const PASSING: Duration = Duration::from_millis(5);

/// ```text
///  0 4 leaf     guards everything
///  4 4 total    permits that were not forgotten
///  8 4 held     what the ledger adds up to; a copy, made anew when an owner of the leaf lock died
/// 12 4 waiting  entries with WAITER, a copy too; bit 31 CROWD
/// 16 4 turns    what waiters sleep on: another number after each wake and for each newcomer
/// 20 4 limit    total stays at or below it; never changes
/// 24  … ledger  note: bit 31 WAITER   0..31 permits held
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct RawSemaphore<const N: usize> {
    leaf: RawLock,
    total: AtomicU32,
    held: AtomicU32,
    waiting: AtomicU32,
    turns: AtomicU32,
    limit: AtomicU32,
    ledger: Ledger<N>,
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (RawLock and Ledger are transparent ones).
    unsafe impl<const N: usize> ipc_shm::Cells for super::RawSemaphore<N> {}
}

/// Why an operation did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The deadline came.
    TimedOut,
    /// This thread is inside already: a signal handler interrupted it.
    Deadlock,
    /// The words hold what nobody of ours writes.
    Corrupt,
    /// As many threads as there are places held permits until the deadline came.
    Full,
    /// There are as many permits as there may be.
    AtLimit,
}

impl From<RawLockError> for Refusal {
    fn from(error: RawLockError) -> Self {
        match error {
            RawLockError::TimedOut => Refusal::TimedOut,
            RawLockError::Deadlock => Refusal::Deadlock,
            RawLockError::Corrupt => Refusal::Corrupt,
        }
    }
}

/// What `Debug` tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    pub(crate) available: u32,
    pub(crate) holders: usize,
    pub(crate) waiting: u32,
}

impl<const N: usize> RawSemaphore<N> {
    /// Of zeroes: so many permits, all free.
    pub(crate) fn fill(&self, permits: u32, limit: u32) {
        self.total.store(permits, Relaxed);
        self.limit.store(limit, Relaxed);
    }

    /// Most permits there may be.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Takes a permit for this thread; sleeps until `deadline` while there is none.
    #[inline(always)]
    pub(crate) fn acquire(&self, me: &Me, deadline: Deadline) -> Result<(), Refusal> {
        match self.leaf.lock(me, Deadline::NOW) {
            Ok(Acquired::Free) if self.take_at_home(me.token()) => {
                self.leaf.unlock();
                Ok(())
            }
            leaf => self.acquire_slow(me, leaf, deadline),
        }
    }

    /// Gives a permit of this thread back.
    #[inline(always)]
    pub(crate) fn give_back(&self, me: &Me) {
        match self.leaf.lock(me, Deadline::NOW) {
            Ok(Acquired::Free) if self.waiting.load(Relaxed) == 0 && self.drop_at_home(me.token()) => {
                self.leaf.unlock();
            }
            leaf => self.give_back_slow(me, leaf),
        }
    }

    /// A permit of this thread is nobody's from now on.
    pub(crate) fn forget(&self, me: &Me) {
        if self.lock(me, Deadline::NEVER).is_err() {
            return; // it is damaged; the permit is held until this thread ends
        }
        if let Some((place, note)) = self.entry_of(me.token()) {
            self.total.store(self.total.load(Relaxed).saturating_sub(1), Relaxed);
            self.drop_at(place, me.token(), note);
        }
        self.leaf.unlock();
    }

    /// Adds a permit.
    pub(crate) fn release(&self, me: &Me) -> Result<(), Refusal> {
        self.lock(me, Deadline::NEVER)?;
        let total = self.total.load(Relaxed);
        if total >= self.limit().min(MOST) {
            self.leaf.unlock();
            return Err(if total > MOST { Refusal::Corrupt } else { Refusal::AtLimit });
        }
        match self.call(me) {
            0 => self.total.store(total + 1, Relaxed),
            // Under the leaf lock still: nobody else may change the total between.
            count => futex::increment_and_wake(&self.total, &self.turns, count),
        }
        self.leaf.unlock();
        Ok(())
    }

    /// How many permits nobody living has. Whoever keeps the leaf lock, stopped perhaps, changes nothing meanwhile.
    pub(crate) fn value(&self, me: &Me) -> Result<u32, Refusal> {
        match self.lock(me, Deadline::NOW) {
            Ok(()) => self.recount(&mut Watch::new(me, Deadline::NOW)),
            Err(Refusal::TimedOut) => return self.add_up(me),
            Err(refusal) => return Err(refusal),
        }
        let available = self.available();
        self.leaf.unlock();
        available
    }

    /// The same without the leaf lock: what the ledger says.
    #[cold]
    fn add_up(&self, me: &Me) -> Result<u32, Refusal> {
        let total = self.total.load(Relaxed);
        let living = self.ledger.entries().filter(|(_, entry)| !me.registry().is_dead(entry.token));
        let held = living.fold(0u32, |held, (_, entry)| held.saturating_add(entry.note & !WAITER));
        if total <= MOST { Ok(total.saturating_sub(held)) } else { Err(Refusal::Corrupt) }
    }

    /// A look without waiting, true if nobody is at it.
    pub(crate) fn glance(&self) -> Glance {
        let available = self.available().unwrap_or(0);
        let holders = self.ledger.entries().filter(|(_, entry)| entry.note & !WAITER != 0).count();
        Glance { available, holders, waiting: self.waiting.load(Relaxed) & !CROWD }
    }

    #[inline(always)]
    fn available(&self) -> Result<u32, Refusal> {
        let total = self.total.load(Relaxed);
        if total <= MOST { Ok(total.saturating_sub(self.held.load(Relaxed))) } else { Err(Refusal::Corrupt) }
    }

    /// The usual case: a permit is there, and the entry of this thread where it is looked for first.
    #[inline(always)]
    fn take_at_home(&self, token: u32) -> bool {
        let (total, held) = (self.total.load(Relaxed), self.held.load(Relaxed));
        let place = Ledger::<N>::home(token);
        let count = match self.ledger.get(place) {
            Some(entry) if entry.token == token && entry.note < MOST => entry.note,
            None if held | self.waiting.load(Relaxed) == 0 => 0, // so it has no entry elsewhere
            _ => return false,
        };
        if held >= total || total > MOST {
            return false;
        }
        self.ledger.set(place, Entry { token, note: count + 1 });
        self.held.store(held + 1, Relaxed);
        true
    }

    #[inline(always)]
    fn drop_at_home(&self, token: u32) -> bool {
        let place = Ledger::<N>::home(token);
        match self.ledger.get(place) {
            Some(Entry { token: owner, note: 1 }) if owner == token => self.ledger.clear(place),
            Some(entry) if entry.token == token && (2..WAITER).contains(&entry.note) => {
                self.ledger.set(place, Entry { token, note: entry.note - 1 });
            }
            _ => return false,
        }
        self.held.store(self.held.load(Relaxed).wrapping_sub(1), Relaxed);
        true
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(
        &self,
        me: &Me,
        leaf: Result<Acquired, RawLockError>,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        self.settle(me, leaf, deadline)?;
        let mut watch = Watch::new(me, deadline);
        let mut spun = false;
        loop {
            match self.look(&mut watch) {
                Ok(None) if deadline.has_passed() => return Err(self.give_up(me.token())),
                Ok(None) if !spun => {
                    spun = true;
                    self.leaf.unlock();
                    spin(|| self.held.load(Relaxed) < self.total.load(Relaxed));
                    self.lock(me, deadline)?;
                }
                Ok(None) => self.sleep(&mut watch)?,
                Ok(Some(place)) => {
                    self.take(&watch, place);
                    return Ok(());
                }
                Err(refusal) => {
                    self.leaf.unlock();
                    return Err(refusal);
                }
            }
        }
    }

    /// A place in the ledger and its note so far, if there is a permit too, after the dead have given back theirs.
    fn look(&self, watch: &mut Watch<'_>) -> Result<Option<(usize, u32)>, Refusal> {
        if self.available()? == 0 {
            self.recount(watch);
        }
        let place = if self.available()? > 0 { self.place_for(watch) } else { None };
        if place.is_none() && watch.gives_up() { Err(Refusal::Corrupt) } else { Ok(place) }
    }

    /// Leaves without a permit, and unlocks; what was missing.
    #[cold]
    fn give_up(&self, token: u32) -> Refusal {
        self.leave(token);
        let available = self.available();
        self.leaf.unlock();
        match available {
            Ok(0) => Refusal::TimedOut,
            Ok(_) => Refusal::Full,
            Err(refusal) => refusal,
        }
    }

    /// Takes a permit that is there, passes a wake on if there are more, and unlocks.
    fn take(&self, watch: &Watch<'_>, (place, note): (usize, u32)) {
        let token = watch.me.token();
        self.ledger.set(place, Entry { token, note: (note & !WAITER).wrapping_add(1) });
        self.held.store(self.held.load(Relaxed).wrapping_add(1), Relaxed);
        self.count_out(note);
        watch.is_over();
        let more = self.available().is_ok_and(|available| available > 0);
        self.unlock_and_wake(if more { self.call(watch.me) } else { 0 });
    }

    /// Where the entry of this thread is or may be put, and its note so far. The place of a waiter that has no permit is
    /// for the taking: it waits without one.
    fn place_for(&self, watch: &mut Watch<'_>) -> Option<(usize, u32)> {
        let token = watch.me.token();
        if let Some(found) = self.entry_of(token) {
            return Some(found);
        }
        let free = || Some((self.ledger.free_place(token)?, 0));
        free().or_else(|| {
            self.recount(watch);
            free().or_else(|| {
                let (place, _) = self.ledger.entries().find(|(_, entry)| entry.note == WAITER)?;
                self.count_out(WAITER);
                self.crowd();
                Some((place, 0))
            })
        })
    }

    fn entry_of(&self, token: u32) -> Option<(usize, u32)> {
        let place = self.ledger.find(token)?;
        Some((place, self.ledger.get(place)?.note))
    }

    /// Unlocks, sleeps, and locks again.
    fn sleep(&self, watch: &mut Watch<'_>) -> Result<(), Refusal> {
        let token = watch.me.token();
        self.enter(token);
        let turn = self.turns.load(SeqCst);
        let mut others = [0; N];
        let mut count = 0;
        for other in self.ledger.tokens().filter(|&other| other != token) {
            others[count] = other;
            count += 1;
        }
        self.leaf.unlock();
        watch.sleep((&self.turns, turn), others[..count].iter().copied());
        self.lock(watch.me, watch.deadline).inspect_err(|_| {
            self.turns.fetch_add(1, SeqCst); // the wake that was for us
            futex::wake(&self.turns, 1);
        })
    }

    /// Lets this thread be counted, and watched, as one that waits.
    fn enter(&self, token: u32) {
        let place = self.entry_of(token).or_else(|| Some((self.ledger.free_place(token)?, 0)));
        match place {
            Some((_, note)) if note & WAITER != 0 => {}
            Some((place, note)) => {
                self.ledger.set(place, Entry { token, note: note | WAITER });
                self.waiting.store(self.waiting.load(Relaxed).wrapping_add(1), Relaxed);
                self.turns.fetch_add(1, SeqCst);
            }
            None => self.crowd(),
        }
    }

    /// It waits no more.
    fn leave(&self, token: u32) {
        if let Some((place, note)) = self.entry_of(token) {
            match note & !WAITER {
                0 => self.ledger.clear(place),
                count => self.ledger.set(place, Entry { token, note: count }),
            }
            self.count_out(note);
        }
    }

    /// An entry with this note lost its WAITER, if it had one.
    fn count_out(&self, note: u32) {
        let waiting = self.waiting.load(Relaxed);
        if note & WAITER != 0 && waiting & !CROWD != 0 {
            self.waiting.store(waiting - 1, Relaxed);
        }
    }

    fn crowd(&self) {
        self.waiting.store(self.waiting.load(Relaxed) | CROWD, Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn give_back_slow(&self, me: &Me, leaf: Result<Acquired, RawLockError>) {
        if self.settle(me, leaf, Deadline::NEVER).is_err() {
            return; // it is damaged; whoever waits finds that too
        }
        if let Some((place, note)) = self.entry_of(me.token()) {
            self.drop_at(place, me.token(), note);
        }
        self.unlock_and_wake(self.call(me));
    }

    fn drop_at(&self, place: usize, token: u32, note: u32) {
        match note & !WAITER {
            0 => return,
            1 => self.ledger.clear(place),
            count => self.ledger.set(place, Entry { token, note: count - 1 }),
        }
        self.held.store(self.held.load(Relaxed).wrapping_sub(1), Relaxed);
        self.count_out(note); // a wait that ended without the leaf lock left it
    }

    /// How many sleepers to wake for one permit; whoever is not asleep yet will not fall asleep.
    fn call(&self, me: &Me) -> i32 {
        if self.waiting.load(Relaxed) == 0 {
            return 0;
        }
        self.recount(&mut Watch::new(me, Deadline::NOW)); // the dead need no wake
        let waiting = self.waiting.load(Relaxed);
        if waiting == 0 {
            return 0;
        }
        self.turns.fetch_add(1, SeqCst);
        if waiting & CROWD == 0 {
            return 1;
        }
        self.waiting.store(waiting & !CROWD, Relaxed); // those who sleep again say so again
        i32::MAX
    }

    fn unlock_and_wake(&self, count: i32) {
        self.leaf.unlock();
        if count > 0 {
            futex::wake(&self.turns, count);
        }
    }

    /// Takes the leaf lock. Nobody has it for long, so who may not wait does wait for that.
    fn lock(&self, me: &Me, deadline: Deadline) -> Result<(), Refusal> {
        let patient = deadline == Deadline::NEVER;
        let until = if patient { deadline } else { deadline.max(Deadline::after(PASSING)) };
        self.admit(me, self.leaf.lock(me, until))
    }

    /// Has the leaf lock in the end, whatever came of a first try.
    fn settle(
        &self,
        me: &Me,
        leaf: Result<Acquired, RawLockError>,
        deadline: Deadline,
    ) -> Result<(), Refusal> {
        match leaf {
            Err(RawLockError::TimedOut) => self.lock(me, deadline),
            leaf => self.admit(me, leaf),
        }
    }

    /// Makes the copies anew if the last owner of the leaf lock died with it. It may have been about to wake a crowd.
    fn admit(&self, me: &Me, leaf: Result<Acquired, RawLockError>) -> Result<(), Refusal> {
        if leaf? == Acquired::OwnerDied {
            self.crowd();
            self.recount(&mut Watch::new(me, Deadline::NOW));
        }
        Ok(())
    }

    /// Frees the places of the dead and adds up what the living have.
    fn recount(&self, watch: &mut Watch<'_>) {
        let token = watch.me.token();
        self.ledger.bury(|other| other != token && watch.is_dead(other));
        let (mut held, mut waiting) = (0u32, self.waiting.load(Relaxed) & CROWD);
        for (_, entry) in self.ledger.entries() {
            held = held.saturating_add(entry.note & !WAITER);
            waiting += entry.note >> 31;
        }
        self.held.store(held, Relaxed);
        self.waiting.store(waiting, Relaxed);
    }
}

//! Who waits for a notification: a table of sleepers, oldest first, in which no notification is lost with the dead.
//!
//! A notification is given to one waiter, by a bit in its own state word, and to nobody if nobody waits. So none is
//! stored, none wakes whom it was not meant for, and whoever notifies waits for no answer.
//!
//! A waiter that dies with a notification must hand it on at once, or somebody sleeps for ever. So the waiters form a
//! chain: each sleeps on its state and on the live word of its *predecessor*, the next older one. Who finds its
//! predecessor dead buries the dead and passes on what they were given. Who leaves the table while an older one is
//! still in it tells its successor to look for a new predecessor. The oldest are notified first, so the heirs of
//! the notified are always behind them in the chain. One that waits alone sleeps on one word.
//!
//! A waiter stays in the table until it has its lock back: a death in the queue for that lock is a death in the
//! wait. Whoever came after a notification was given never inherits it.
//!
//! Whoever leaves does not wait for a leaf lock that its owner, stopped perhaps, keeps for long: it says in its state
//! that it has left, and the next in the leaf lock clears the entry away. What it was given before that it has; what
//! comes after that is passed on, as from the dead. Its successor finds out at its next backstop.
//!
//! ```text
//!  0     4  leaf     see `raw_lock`; for all that follows, except the states
//!  4     4  next     ticket of the next to come; wraps
//!  8     8  places   bit i: place i is taken. A waiter comes and goes with its bit
//! 16     4  passing  0 = none, else a notification on its way from the dead to an heir: place + 1 | heir + 1 << 8
//! 20     4  padding
//! 24  N×16  waiters  token, ticket, state, before: the ticket that was next when it was notified
//!
//! state          bit 31 NOTIFIED   30 ASLEEP   29 LOOK   28 QUIT   27 SERVED   others zero
//! 0              waits, awake
//! ASLEEP         waits, may sleep: who changes the word wakes it in the same system call
//! LOOK (| ASLEEP)       its predecessor has left: it finds another, and clears both
//! NOTIFIED (| any)      it returns; the bit stays until its place is free
//! QUIT (| any)          it left without a notification: one that comes all the same is another's
//! SERVED | NOTIFIED     it left with its notification
//! ```
//!
//! What a death in the leaf lock leaves behind: an entry without its bit, which is no entry; fewer notifications
//! than were asked for; or `passing`, which the next in the leaf lock finishes.

use std::time::Duration;

use ipc_shm::Cells;

use crate::futex::{self, Woken};
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*, full_fence, spin};
use crate::raw_lock::{Acquired, RawLock, RawLockError};
use crate::registry::Registry;
use crate::{BACKSTOP, Deadline, Me};

const NOTIFIED_BIT: u32 = 31;
const LOOK_BIT: u32 = 29;
const NOTIFIED: u32 = 1 << NOTIFIED_BIT;
const ASLEEP: u32 = 1 << 30;
const LOOK: u32 = 1 << LOOK_BIT;
const QUIT: u32 = 1 << 28;
const SERVED: u32 = 1 << 27;

/// Whoever has its own time to keep waits so long for the leaf lock, which is held for a few instructions.
const PASSING: Duration = Duration::from_millis(5);

/// Waiters, `N` at most and never more than 64; nobody when zero.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Waiters<const N: usize> {
    leaf: RawLock,
    next: AtomicU32,
    places: AtomicU64,
    passing: AtomicU32,
    padding: AtomicU32,
    waiters: [Waiter; N],
}

#[derive(Debug, Default)]
#[repr(C)]
struct Waiter {
    token: AtomicU32,
    ticket: AtomicU32,
    state: AtomicU32,
    before: AtomicU32,
}

mod cells {
    //! The promise about the structures above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (RawLock is a transparent one); the padding is a field.
    unsafe impl<const N: usize> super::Cells for super::Waiters<N> {}
}

impl<const N: usize> Default for Waiters<N> {
    fn default() -> Self {
        Waiters {
            leaf: RawLock::default(),
            next: AtomicU32::default(),
            places: AtomicU64::default(),
            passing: AtomicU32::default(),
            padding: AtomicU32::default(),
            waiters: std::array::from_fn(|_| Waiter::default()),
        }
    }
}

/// The place of a waiting thread, and whose death it watches.
#[derive(Debug)]
pub(crate) struct Wait {
    place: usize,
    /// 0 = there is no older one.
    predecessor: u32,
}

impl<const N: usize> Waiters<N> {
    /// Puts this thread into the table, as the newest; `None` = `N` living ones wait already.
    pub(crate) fn enter(&self, me: &Me, deadline: Deadline) -> Result<Option<Wait>, RawLockError> {
        self.inside(me, at_least_passing(deadline), |registry| {
            let gone = |place| self.is_gone(place, registry);
            if self.free_place().is_none() || self.newest().is_some_and(gone) {
                self.bury(registry);
            }
            let predecessor = self.newest().map_or(0, |place| self.token(place));
            self.free_place().map(|place| {
                self.settle(place, me.token());
                Wait { place, predecessor }
            })
        })
    }

    fn settle(&self, place: usize, token: u32) {
        let (waiter, ticket) = (&self.waiters[place], self.next.load(Relaxed));
        waiter.token.store(token, Relaxed);
        waiter.ticket.store(ticket, Relaxed);
        waiter.state.store(0, Relaxed);
        self.next.store(ticket.wrapping_add(1), Relaxed);
        self.places.store(self.places.load(Relaxed) | 1 << place, Release);
    }

    /// Waits until it is notified or `deadline` comes. Stays in the table.
    pub(crate) fn sleep(&self, me: &Me, wait: &mut Wait, deadline: Deadline) -> Result<(), RawLockError> {
        let registry = me.registry();
        let state = &self.waiters[wait.place].state;
        if deadline != Deadline::NOW {
            spin(|| state.load(Relaxed) & NOTIFIED != 0); // one that comes now needs no system call
        }
        loop {
            let woken = wait.rest(registry, state, deadline);
            let seen = state.fetch_and(NOTIFIED, AcqRel);
            let time_is_up = deadline.has_passed();
            let overslept = woken == Woken::TimedOut && !time_is_up;
            let unguarded = seen & LOOK != 0 || wait.lost_predecessor(registry, overslept);
            if overslept && (seen & NOTIFIED != 0 || unguarded) {
                registry.count_rescue();
            }
            if seen & NOTIFIED != 0 || time_is_up {
                return Ok(());
            }
            if unguarded || overslept {
                match self.look_around(me, wait.place, deadline) {
                    Err(RawLockError::TimedOut) => return Ok(()),
                    predecessor => wait.predecessor = predecessor?,
                }
            }
        }
    }

    /// Buries the dead; whom the waiter at `place` watches from now on.
    #[cold]
    fn look_around(&self, me: &Me, place: usize, deadline: Deadline) -> Result<u32, RawLockError> {
        self.inside(me, at_least_passing(deadline), |registry| {
            self.bury(registry);
            let age = self.age(place);
            let older = self.taken().filter(|&other| self.age(other) > age);
            older.min_by_key(|&other| self.age(other)).map_or(0, |other| self.token(other))
        })
    }

    /// Takes this thread out of the table; whether it was notified.
    pub(crate) fn leave(&self, me: &Me, wait: Wait) -> Result<bool, RawLockError> {
        let left = self.inside(me, Deadline::after(PASSING), |_| {
            let notified = self.is_notified(wait.place);
            self.withdraw(wait.place);
            notified
        });
        match left {
            Err(RawLockError::TimedOut) => Ok(self.slip_away(wait)),
            left => left,
        }
    }

    /// Frees a place; with the leaf lock.
    fn withdraw(&self, place: usize) {
        let age = self.age(place);
        self.free(place);
        if self.taken().any(|other| self.age(other) > age) {
            let younger = self.taken().filter(|&other| self.age(other) < age && !self.has_left(other));
            let successor = younger.max_by_key(|&other| self.age(other));
            // One that was notified looks at nobody any more, and when it leaves its own successor is told.
            if let Some(successor) = successor.filter(|&other| !self.is_notified(other)) {
                self.tell(successor, LOOK_BIT);
            }
        }
    }

    /// Leaves without the leaf lock; whether it was notified.
    #[cold]
    pub(crate) fn slip_away(&self, wait: Wait) -> bool {
        let state = &self.waiters[wait.place].state;
        let mut seen = state.load(Relaxed);
        loop {
            let notified = seen & NOTIFIED != 0;
            let left = if notified { SERVED } else { QUIT };
            match state.compare_exchange(seen, seen | left, AcqRel, Relaxed) {
                Ok(_) => return notified,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether nobody waits: then there is nobody to notify.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        full_fence(); // what the caller changed is seen by whoever comes from now on
        self.places.load(Acquire) == 0
    }

    /// Notifies the `count` oldest that wait; answers how many there were. Waits for none of them.
    #[cold]
    pub(crate) fn notify(&self, me: &Me, count: usize) -> Result<usize, RawLockError> {
        self.inside(me, Deadline::NEVER, |registry| {
            let mut told = 0;
            while told < count {
                let Some(place) = self.oldest(|place| !self.is_notified(place)) else { break };
                if self.is_gone(place, registry) {
                    self.withdraw(place);
                    continue;
                }
                self.give(place, self.next.load(Relaxed));
                if self.state(place) & QUIT != 0 {
                    self.withdraw(place);
                    continue; // it left before, and somebody else gets it
                }
                told += 1;
            }
            told
        })
    }

    /// How many living ones wait. Looks only; the table may change meanwhile.
    pub(crate) fn count(&self, registry: &Registry) -> usize {
        self.taken().filter(|&place| !self.is_gone(place, registry)).count()
    }

    /// Runs `f` with the leaf lock. If its last holder died, what that one was passing on is passed on first.
    #[inline(always)]
    fn inside<R>(
        &self,
        me: &Me,
        deadline: Deadline,
        f: impl FnOnce(&Registry) -> R,
    ) -> Result<R, RawLockError> {
        if self.leaf.lock(me, deadline)? == Acquired::OwnerDied {
            self.pass_on();
        }
        let result = f(me.registry());
        self.leaf.unlock();
        Ok(result)
    }

    /// Frees the places of those who died or left, and passes on the notifications that they were given.
    fn bury(&self, registry: &Registry) {
        while let Some(place) = self.taken().find(|&place| self.is_gone(place, registry)) {
            match self.heir(place, registry) {
                Some(heir) => {
                    self.passing.store((place as u32 + 1) | ((heir as u32 + 1) << 8), Release);
                    self.pass_on();
                }
                None => self.withdraw(place),
            }
        }
    }

    /// Who gets the notification of the one at `place`, if it has one and does not need it: the oldest that waited already
    /// when it was given.
    fn heir(&self, place: usize, registry: &Registry) -> Option<usize> {
        let before = self.since(self.waiters[place].before.load(Relaxed));
        let waited = |other| self.age(other) > before && !self.is_notified(other);
        let heir = || self.oldest(|other| waited(other) && !self.is_gone(other, registry));
        if self.state(place) & (NOTIFIED | SERVED) == NOTIFIED { heir() } else { None }
    }

    /// Finishes what `passing` says; may be done again after a death at any instruction of it.
    fn pass_on(&self) {
        let passing = self.passing.load(Relaxed);
        let place_of = |number: u32| (number as usize & 0xff).checked_sub(1).filter(|&place| place < N);
        if let (Some(dead), Some(heir)) = (place_of(passing), place_of(passing >> 8)) {
            self.give(heir, self.waiters[dead].before.load(Relaxed));
            self.free(dead);
        }
        self.passing.store(0, Release);
    }

    /// Notifies the waiter at `place`, of something that happened when ticket `before` was next.
    fn give(&self, place: usize, before: u32) {
        self.waiters[place].before.store(before, Relaxed);
        self.tell(place, NOTIFIED_BIT);
    }

    /// Sets a bit of a state and wakes its waiter if that may sleep. No death comes between.
    fn tell(&self, place: usize, bit: u32) {
        let state = &self.waiters[place].state;
        let mut seen = state.load(Relaxed);
        while seen & ASLEEP == 0 {
            match state.compare_exchange(seen, seen | 1 << bit, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        futex::set_bit_and_wake(state, bit, state, 1);
    }

    fn free(&self, place: usize) {
        self.places.store(self.places.load(Relaxed) & !(1 << place), Release);
    }

    fn free_place(&self) -> Option<usize> {
        let place = self.places.load(Relaxed).trailing_ones() as usize;
        (place < N).then_some(place)
    }

    /// The places that are taken.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        let mut left = self.places.load(Relaxed);
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (place < N).then_some(place)
        })
    }

    fn newest(&self) -> Option<usize> {
        self.taken().min_by_key(|&place| self.age(place))
    }

    fn oldest(&self, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        self.taken().filter(|&place| wanted(place)).max_by_key(|&place| self.age(place))
    }

    /// How many have come since it came, itself among them.
    fn age(&self, place: usize) -> u32 {
        self.since(self.waiters[place].ticket.load(Relaxed))
    }

    fn since(&self, ticket: u32) -> u32 {
        self.next.load(Relaxed).wrapping_sub(ticket)
    }

    fn token(&self, place: usize) -> u32 {
        self.waiters[place].token.load(Relaxed)
    }

    fn state(&self, place: usize) -> u32 {
        self.waiters[place].state.load(Acquire)
    }

    fn is_notified(&self, place: usize) -> bool {
        self.state(place) & NOTIFIED != 0
    }

    fn has_left(&self, place: usize) -> bool {
        self.state(place) & (QUIT | SERVED) != 0
    }

    /// Whether nobody waits in it any more.
    fn is_gone(&self, place: usize, registry: &Registry) -> bool {
        self.has_left(place) || registry.is_dead(self.token(place))
    }
}

/// Nobody has the leaf lock for long, so who may not wait does wait for that.
fn at_least_passing(deadline: Deadline) -> Deadline {
    if deadline == Deadline::NEVER { deadline } else { deadline.max(Deadline::after(PASSING)) }
}

impl Wait {
    /// Sleeps once, unless the state says something already.
    fn rest(&self, registry: &Registry, state: &AtomicU32, deadline: Deadline) -> Woken {
        if deadline.has_passed() || state.compare_exchange(0, ASLEEP, AcqRel, Relaxed).is_err() {
            return Woken::Look;
        }
        let round = deadline.min(Deadline::after(BACKSTOP));
        match self.predecessor {
            0 => futex::wait(state, ASLEEP, round),
            predecessor => registry.sleep((state, ASLEEP), predecessor, round),
        }
    }

    /// Whether nobody is left whose death would wake it; after a sleep that nobody ended, /proc is asked too.
    fn lost_predecessor(&self, registry: &Registry, overslept: bool) -> bool {
        let has_ended = |token| if overslept { registry.has_ended(token) } else { registry.is_dead(token) };
        self.predecessor != 0 && has_ended(self.predecessor)
    }
}

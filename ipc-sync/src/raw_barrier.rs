//! The meeting point: who has arrived in which round, and how the round ended.
//!
//! The table of members is the truth; it changes under the leaf lock, one word at a time, so a holder of that lock that
//! dies leaves nothing half done. What ends a round is one change of the round word: released or broken, for all
//! who arrived in it. Where somebody sleeps, that change and the wake of all sleepers are one system call, so nobody
//! is left asleep by a death. Sleepers also watch the live words of all members, so each learns of a death by itself.
//!
//! Who gives up does not take the leaf lock, whose holder may be stopped: it breaks its round by one change of the word,
//! then wakes. If it dies between the two, the sleepers learn of that death. So a round can be broken at any time
//! under the hands of whoever has the lock; whichever of RELEASED and QUIT was set first says how it ended.
//!
//! ```text
//!   0   4  lock     leaf lock
//!   4   4  cause    why the round is broken; means something while BROKEN is set
//!   8   4  parties  arrivals that make a round
//!  12 116  padding: who waits looks at `round`, who arrives locks
//! 128   4  round    see below
//! 132   4  padding
//! 136   …  members  entries {token, note}
//!
//! round    bits 0..27 number of the round   27 RELEASED   28 QUIT   29 JOINING   30 BROKEN   31 ASLEEP
//!
//! n            open, nobody sleeps           → n + 1 (released), n | ASLEEP (one goes to sleep), n | BROKEN
//! n | ASLEEP   open, somebody may sleep      → … | RELEASED and a wake of all, … | BROKEN and a wake of all
//! … | RELEASED nobody may sleep              → n + 1, by who set it, or by the next with the leaf lock if that one died
//! … | BROKEN   nobody may sleep              → n + 1 (reset); RELEASED means nothing here
//!
//! … | QUIT     set with BROKEN by one who gave up, without the leaf lock, and only where neither BROKEN nor RELEASED is:
//!              the cause is a timeout, whatever `cause` says
//!
//! … | JOINING  a new member comes, whom the sleepers must watch too: set with a wake of all, taken down under the
//!              leaf lock, for which those who woke wait before they sleep again
//!
//! Whoever arrives first in a round takes down what is left of ASLEEP.
//!
//! note     bit 31 ARRIVED in round 0..27     bit 30 BROKEN: kind 22..25 and pid 0..22 of the cause     0 neither
//!
//! 0                  a member, not here      → ARRIVED | round (arrives)
//! ARRIVED | round    inside a wait, unless the round is over: then → 0 (the next to arrive), ARRIVED | next;
//!                    of a broken round → 0 (leaves), BROKEN | cause (reset)
//! BROKEN | cause     of a round that was broken before a reset → 0 (leaves), ARRIVED | round (arrives: it left without
//!                    the leaf lock)
//! ```
//!
//! So whoever finds that the number has changed knows from its own entry how its round ended, however many rounds ago
//! that was.

use std::time::Duration;

use crate::futex::{self, Woken};
use crate::ledger::{Entry, Ledger};
use crate::primitive::{AtomicU32, Ordering::*, spin};
use crate::raw_lock::{Acquired, RawLock, RawLockError};
use crate::{BACKSTOP, Deadline, Me, Registry};

const ROUND: u32 = (1 << 27) - 1;
const RELEASED_BIT: u32 = 27;
const RELEASED: u32 = 1 << RELEASED_BIT;
const QUIT: u32 = 1 << 28;
const JOINING_BIT: u32 = 29;
const JOINING: u32 = 1 << JOINING_BIT;
const BROKEN_BIT: u32 = 30;
const BROKEN: u32 = 1 << BROKEN_BIT;
const ASLEEP: u32 = 1 << 31;

const ARRIVED: u32 = 1 << 31;
const PID: u32 = (1 << 22) - 1;
const KIND_SHIFT: u32 = 22;

/// How often one looks at a process one of whose threads has ended, which may be its end or may not.
const DOUBT: Duration = Duration::from_millis(10);

/// How long a call whose time is over waits for the leaf lock, so that one who passes by does not turn it away.
const GRACE: Duration = Duration::from_millis(20);

/// Why a round was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// 0 = it is not known which process that was.
    Died {
        pid: u32,
    },
    TimedOut,
    Aborted,
    Reset,
    Panicked,
}

impl Cause {
    fn note(self) -> u32 {
        let (kind, pid) = match self {
            Cause::Aborted => (0, 0),
            Cause::TimedOut => (1, 0),
            Cause::Reset => (2, 0),
            Cause::Panicked => (3, 0),
            Cause::Died { pid } => (4, pid & PID),
        };
        BROKEN | kind << KIND_SHIFT | pid
    }

    fn of(note: u32) -> Cause {
        match (note & !BROKEN) >> KIND_SHIFT {
            1 => Cause::TimedOut,
            2 => Cause::Reset,
            3 => Cause::Panicked,
            4 => Cause::Died { pid: note & PID },
            _ => Cause::Aborted,
        }
    }
}

/// Why a wait ended without a full round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Broken(Cause),
    /// The time was over before it could arrive.
    Late,
    /// No place for one more member.
    Crowded,
    /// This thread is inside already.
    Deadlock,
    /// The memory was written over.
    Corrupt,
}

fn refused(error: RawLockError) -> Refusal {
    match error {
        RawLockError::Deadlock => Refusal::Deadlock,
        RawLockError::TimedOut => Refusal::Late,
        RawLockError::Corrupt => Refusal::Corrupt,
    }
}

/// The word of the round after that of `word`, open.
fn next(word: u32) -> u32 {
    word.wrapping_add(1) & ROUND
}

/// A member's part in a round.
#[derive(Clone, Copy)]
struct Arrival {
    round: u32,
    place: usize,
    index: u32,
}

/// What an attempt to arrive came to.
enum Step {
    Arrived(Arrival),
    /// All parties of this round are there, and its action runs: ours is the next.
    Full(u32),
}

/// What a look at the table found.
#[derive(Default)]
struct Survey {
    own: Option<(usize, Entry)>,
    arrived: u32,
    deaths: Deaths,
}

/// What the ends of threads in the table mean.
#[derive(Default)]
struct Deaths {
    /// The pid of a party that is lost.
    lost: Option<u32>,
    /// A thread that ended, while its process seems to live on.
    ended: Option<u32>,
}

/// A barrier for `N` members at most. All zero but for the parties, it is open.
#[derive(Default)]
#[repr(C)]
pub(crate) struct RawBarrier<const N: usize> {
    lock: RawLock,
    cause: AtomicU32,
    parties: AtomicU32,
    _apart: [u32; 29],
    round: AtomicU32,
    _even: u32,
    members: Ledger<N>,
}

impl<const N: usize> RawBarrier<N> {
    /// Before anybody else sees it.
    pub(crate) fn init(&self, parties: u32) {
        self.parties.store(parties, Relaxed);
    }

    pub(crate) fn parties(&self) -> u32 {
        self.parties.load(Relaxed)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.round.load(Relaxed) & BROKEN != 0
    }

    /// For its model: whether a round was released and is not counted yet.
    #[cfg(test)]
    #[allow(dead_code)]
    pub(crate) fn has_released(&self) -> bool {
        self.round.load(Relaxed) & (RELEASED | BROKEN) == RELEASED
    }

    /// How many have arrived in a round that is neither full nor broken.
    pub(crate) fn waiting(&self) -> usize {
        let word = self.round.load(Relaxed);
        let arrived = |entry: &(usize, Entry)| word & BROKEN == 0 && entry.1.note == ARRIVED | word & ROUND;
        self.members.entries().filter(arrived).count()
    }

    /// Arrives, and waits for all others. The last to arrive has index 0 and runs the action before anyone leaves.
    #[inline]
    pub(crate) fn wait(
        &self,
        me: &Me,
        deadline: Deadline,
        action: Option<impl FnOnce()>,
    ) -> Result<u32, Refusal> {
        let arrival = self.arrive(me, deadline, action.is_none())?;
        match action {
            _ if arrival.index > 0 => self.stay(me, &arrival, deadline)?,
            Some(action) => self.act(me, &arrival, deadline, action)?,
            None => {}
        }
        Ok(arrival.index)
    }

    /// `releases`: the last one releases the round as it arrives.
    fn arrive(&self, me: &Me, deadline: Deadline, releases: bool) -> Result<Arrival, Refusal> {
        loop {
            match self.locked(me, deadline, || self.try_arrive(me, releases))?? {
                Step::Arrived(arrival) => return Ok(arrival),
                Step::Full(round) if self.watch(me, round, deadline)? => {}
                Step::Full(_) => return Err(Refusal::Late),
            }
        }
    }

    /// Under the leaf lock.
    #[inline]
    fn try_arrive(&self, me: &Me, releases: bool) -> Result<Step, Refusal> {
        let word = self.round.load(Relaxed);
        if word & BROKEN != 0 {
            return Err(Refusal::Broken(self.cause()));
        }
        let (round, parties) = (word & ROUND, self.parties());
        let Survey { own, arrived, deaths } = self.survey(me, round);
        if let Some(pid) = deaths.lost {
            self.end_broken(Cause::Died { pid });
            return Err(Refusal::Broken(self.cause()));
        }
        if own.is_some_and(|(_, entry)| entry.note == ARRIVED | round) {
            return Err(Refusal::Deadlock);
        }
        if arrived >= parties {
            return if parties == 0 { Err(Refusal::Corrupt) } else { Ok(Step::Full(round)) };
        }
        if arrived == 0 && word != round {
            self.round.store(round, Relaxed);
        }
        let place = match own {
            Some((place, _)) => place,
            None => self.join(me)?,
        };
        self.members.set(place, Entry { token: me.token(), note: ARRIVED | round });
        let index = parties - 1 - arrived;
        if index == 0 && releases && !self.release() {
            self.members.set(place, Entry { token: me.token(), note: 0 });
            return Err(Refusal::Broken(self.cause()));
        }
        Ok(Step::Arrived(Arrival { round, place, index }))
    }

    /// Makes us a member.
    #[cold]
    fn join(&self, me: &Me) -> Result<usize, Refusal> {
        let place = self.free_place(me).ok_or(Refusal::Crowded)?;
        self.raise(JOINING_BIT);
        self.members.set(place, Entry { token: me.token(), note: 0 });
        self.joined();
        Ok(place)
    }

    /// Takes JOINING down, under the leaf lock: whoever set it has done its part, or is dead. ASLEEP goes too, for nobody
    /// sleeps: who looked through the table before must not fall asleep on the same word after.
    fn joined(&self) {
        if self.round.load(Relaxed) & JOINING != 0 {
            self.round.fetch_and(!(JOINING | ASLEEP), SeqCst);
        }
    }

    /// A place for one more, if need be that of a thread that ended while its process lives on.
    fn free_place(&self, me: &Me) -> Option<usize> {
        let free = || self.members.free_place(me.token());
        free().or_else(|| {
            self.members.bury(|token| me.registry().is_dead(token));
            free()
        })
    }

    /// Looks through the table, and forgets who had arrived in the rounds before.
    #[inline]
    fn survey(&self, me: &Me, round: u32) -> Survey {
        let (registry, mut survey) = (me.registry(), Survey::default());
        for (place, entry) in self.members.entries() {
            if entry.token == me.token() {
                survey.own = Some((place, entry));
                continue;
            }
            if entry.note == ARRIVED | round {
                survey.arrived += 1;
            } else if entry.note & ARRIVED != 0 {
                self.members.set(place, Entry { note: 0, ..entry });
            }
            if registry.is_dead(entry.token) {
                survey.deaths.judge(registry, entry, round);
            }
        }
        survey
    }

    /// Waits for the others; the round ends for all of them alike.
    fn stay(&self, me: &Me, arrival: &Arrival, deadline: Deadline) -> Result<(), Refusal> {
        let looked = !deadline.has_passed() && spin(|| !self.is_open(arrival.round));
        if !looked && !self.watch(me, arrival.round, deadline)? {
            self.quit(arrival.round);
        }
        self.outcome(me, arrival)
    }

    /// How the round of `arrival`, which is over, ended.
    #[inline]
    fn outcome(&self, me: &Me, arrival: &Arrival) -> Result<(), Refusal> {
        let word = self.round.load(Acquire);
        let broken = if word & ROUND == arrival.round {
            word & BROKEN != 0
        } else {
            self.own(me, arrival).is_some_and(|entry| entry.note & BROKEN != 0)
        };
        if broken { self.leave_broken(me, arrival) } else { Ok(()) }
    }

    fn own(&self, me: &Me, arrival: &Arrival) -> Option<Entry> {
        self.members.get(arrival.place).filter(|entry| entry.token == me.token())
    }

    /// Leaves a round that was broken; without a trace in the table if its lock is not to be had.
    #[cold]
    #[inline(never)]
    fn leave_broken(&self, me: &Me, arrival: &Arrival) -> Result<(), Refusal> {
        let cause = self.locked(me, Deadline::NOW, || {
            let cause = self.cause_for(me, arrival);
            if let Some(entry) = self.own(me, arrival) {
                self.members.set(arrival.place, Entry { note: 0, ..entry });
            }
            cause
        });
        match cause {
            Ok(cause) => Err(Refusal::Broken(cause)),
            Err(Refusal::Late) => Err(Refusal::Broken(self.cause_for(me, arrival))),
            Err(error) => Err(error),
        }
    }

    /// What broke the round of `arrival`. It is in the barrier until a reset, and after it in our entry.
    fn cause_for(&self, me: &Me, arrival: &Arrival) -> Cause {
        let stands = || self.round.load(Acquire) & (ROUND | BROKEN) == arrival.round | BROKEN;
        if stands() {
            let cause = self.cause();
            if stands() {
                return cause;
            }
        }
        match self.own(me, arrival) {
            Some(entry) if entry.note & BROKEN != 0 => Cause::of(entry.note),
            _ => Cause::Aborted, // nobody of ours takes it away
        }
    }

    /// Runs the action, then releases the round unless it was broken meanwhile.
    #[cold]
    fn act(
        &self,
        me: &Me,
        arrival: &Arrival,
        deadline: Deadline,
        action: impl FnOnce(),
    ) -> Result<(), Refusal> {
        let panicked = Panicked { barrier: self, me, arrival, deadline };
        action();
        std::mem::forget(panicked);
        match self.locked(me, deadline, || self.is_open(arrival.round) && self.release()) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(Refusal::Late) => self.quit(arrival.round),
            Err(error) => return Err(error),
        }
        self.leave_broken(me, arrival)
    }

    fn is_open(&self, round: u32) -> bool {
        self.round.load(Acquire) & (ROUND | RELEASED | BROKEN) == round
    }

    /// Lets all go; false = somebody gave up before. Under the leaf lock, in a round that was open.
    fn release(&self) -> bool {
        let mut word = self.round.load(Relaxed);
        while word & (ASLEEP | BROKEN) == 0 {
            match self.round.compare_exchange(word, next(word), SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        if word & BROKEN != 0 {
            return false;
        }
        futex::set_bit_and_wake(&self.round, RELEASED_BIT, &self.round, i32::MAX);
        self.settle()
    }

    /// Counts on, if the round was released. Under the leaf lock.
    #[cold]
    fn settle(&self) -> bool {
        let word = self.round.load(Relaxed);
        let released = word & (RELEASED | BROKEN) == RELEASED;
        if released {
            self.round.store(next(word), Release); // nobody else changes it now
        }
        released
    }

    /// Breaks `round` if it is open still, because we wait no longer. Needs no lock.
    #[cold]
    fn quit(&self, round: u32) {
        let mut word = self.round.load(Relaxed);
        while word & (ROUND | RELEASED | BROKEN) == round {
            match self.round.compare_exchange(word, word | BROKEN | QUIT, SeqCst, Relaxed) {
                Ok(_) => {
                    if word & ASLEEP != 0 {
                        futex::wake_all(&self.round);
                    }
                    return;
                }
                Err(now) => word = now,
            }
        }
    }

    /// Sends all away, unless that is done already. Under the leaf lock.
    #[cold]
    fn end_broken(&self, cause: Cause) {
        if !self.is_broken() {
            self.cause.store(cause.note(), Release);
            self.raise(BROKEN_BIT);
        }
    }

    /// Sets a bit of the round word and wakes all who sleep.
    fn raise(&self, bit: u32) {
        let mut word = self.round.load(Relaxed);
        while word & ASLEEP == 0 {
            match self.round.compare_exchange(word, word | 1 << bit, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        futex::set_bit_and_wake(&self.round, bit, &self.round, i32::MAX);
    }

    /// Of a broken round.
    fn cause(&self) -> Cause {
        if self.round.load(Acquire) & QUIT != 0 {
            Cause::TimedOut
        } else {
            Cause::of(self.cause.load(Acquire))
        }
    }

    /// Breaks whatever round it is.
    pub(crate) fn abort(&self, me: &Me) -> Result<(), Refusal> {
        self.locked(me, Deadline::NEVER, || self.end_broken(Cause::Aborted))
    }

    /// Opens a new round, breaking one that some have arrived in; forgets the dead.
    pub(crate) fn reset(&self, me: &Me) -> Result<(), Refusal> {
        self.locked(me, Deadline::NEVER, || {
            if self.waiting() > 0 {
                self.end_broken(Cause::Reset);
            }
            self.reopen(me.registry());
        })
    }

    /// Opens a new round if this one is broken; false if not.
    pub(crate) fn repair(&self, me: &Me) -> Result<bool, Refusal> {
        self.locked(me, Deadline::NEVER, || {
            let broken = self.is_broken();
            if broken {
                self.reopen(me.registry());
            }
            broken
        })
    }

    /// Whoever still stands in a broken round is told its cause before its number goes.
    fn reopen(&self, registry: &Registry) {
        if self.members.tokens().any(|token| registry.is_dead(token)) {
            self.members.bury(|token| registry.is_lost(token)); // with it other threads of its process may go
        }
        let word = self.round.load(Relaxed);
        if word & BROKEN == 0 {
            return;
        }
        let note = self.cause().note();
        for (place, entry) in self.members.entries() {
            if entry.note == ARRIVED | word & ROUND {
                self.members.set(place, Entry { note, ..entry });
            }
        }
        self.round.store(next(word), Release);
    }

    /// Takes out the members whom `is_ours` names, unless they are inside an open round.
    pub(crate) fn leave(&self, me: &Me, is_ours: impl Fn(u32) -> bool) -> Result<(), Refusal> {
        self.locked(me, Deadline::NEVER, || {
            let (open, inside) = (!self.is_broken(), ARRIVED | self.round.load(Relaxed) & ROUND);
            let ours = |entry: &Entry| !(open && entry.note == inside) && is_ours(entry.token);
            let leaving = self.members.entries().filter(|(_, entry)| ours(entry));
            leaving.for_each(|(place, _)| self.members.clear(place));
        })
    }

    /// Whether `is_ours` names a member.
    pub(crate) fn has_member(&self, is_ours: impl Fn(u32) -> bool) -> bool {
        self.members.tokens().any(is_ours)
    }

    /// Runs `f` with the leaf lock; too late if that is not free by `deadline` and a grace. Whoever died with the lock has
    /// left nothing half done but a release.
    #[inline]
    fn locked<R>(&self, me: &Me, deadline: Deadline, f: impl FnOnce() -> R) -> Result<R, Refusal> {
        let mut acquired = self.lock.lock(me, deadline);
        if acquired == Err(RawLockError::TimedOut) {
            acquired = self.lock.lock(me, Deadline::after(GRACE));
        }
        if acquired.map_err(refused)? == Acquired::OwnerDied {
            self.settle();
        }
        let result = f();
        self.lock.unlock();
        Ok(result)
    }

    /// Sleeps until `round` is over, and breaks it if a party is lost; false = `deadline` came.
    #[cold]
    #[inline(never)]
    fn watch(&self, me: &Me, round: u32, deadline: Deadline) -> Result<bool, Refusal> {
        match self.watch_members(me, round, deadline) {
            Err(Refusal::Late) => Ok(false),
            watched => watched,
        }
    }

    fn watch_members(&self, me: &Me, round: u32, deadline: Deadline) -> Result<bool, Refusal> {
        let mut sleeper = Sleeper { overslept: false, doubt: None };
        loop {
            let word = self.round.load(Acquire);
            if word & (ROUND | RELEASED | BROKEN) != round {
                if sleeper.overslept && !deadline.has_passed() {
                    me.registry().count_rescue();
                }
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            if word & JOINING != 0 {
                self.locked(me, deadline, || self.joined())?;
                continue;
            }
            self.look_after_members(me, round, deadline, &mut sleeper)?;
            let asleep = word | ASLEEP;
            if word == asleep || self.round.compare_exchange(word, asleep, SeqCst, Relaxed).is_ok() {
                self.sleep(me, asleep, deadline, &mut sleeper);
            }
        }
    }

    fn sleep(&self, me: &Me, asleep: u32, deadline: Deadline, sleeper: &mut Sleeper) {
        let registry = me.registry();
        let in_doubt = sleeper.doubt.is_some();
        let until = deadline.min(Deadline::after(if in_doubt { DOUBT } else { BACKSTOP }));
        let others = self.members.tokens().filter(|&token| token != me.token());
        let others = others.filter(|&token| !(in_doubt && registry.is_dead(token)));
        let woken = registry.sleep_any((&self.round, asleep), others, until);
        sleeper.overslept = woken == Woken::TimedOut && !in_doubt;
    }

    /// Breaks `round` if a party is lost, and forgets a member whose thread has ended and whose process lives on.
    ///
    /// The threads of a process that is killed end one after the other: for one backstop nobody can say which it is.
    fn look_after_members(
        &self,
        me: &Me,
        round: u32,
        deadline: Deadline,
        sleeper: &mut Sleeper,
    ) -> Result<(), Refusal> {
        let registry = me.registry();
        let overslept = sleeper.overslept;
        let is_dead = |token| if overslept { registry.has_ended(token) } else { registry.is_dead(token) };
        if !self.members.tokens().any(is_dead) {
            sleeper.doubt = None;
            return Ok(());
        }
        self.locked(me, deadline, || {
            let mut deaths = Deaths::default();
            for (_, entry) in self.members.entries() {
                if registry.is_dead(entry.token) {
                    deaths.judge(registry, entry, round);
                }
            }
            if !self.is_open(round) {
                return;
            }
            if let Some(pid) = deaths.lost {
                self.end_broken(Cause::Died { pid });
            } else if let Some(token) = sleeper.no_longer_doubts(deaths.ended) {
                self.members.bury(|other| other == token);
            }
        })
    }
}

impl Deaths {
    /// Adds the end of the thread that `entry` stands for.
    #[cold]
    fn judge(&mut self, registry: &Registry, entry: Entry, round: u32) {
        if entry.note == ARRIVED | round || registry.process_ended_too(entry.token) {
            self.lost = Some(registry.pid_of(entry.token).unwrap_or(0));
        } else {
            self.ended = Some(entry.token);
        }
    }
}

/// What one who waits knows of its wait.
struct Sleeper {
    /// The last sleep ended by the backstop.
    overslept: bool,
    /// A thread that ended, and when we conclude that its process lives on.
    doubt: Option<(u32, Deadline)>,
}

impl Sleeper {
    /// `ended`, if that has been so for a whole backstop.
    fn no_longer_doubts(&mut self, ended: Option<u32>) -> Option<u32> {
        let token = ended?;
        match self.doubt {
            Some((same, until)) if same == token => until.has_passed().then_some(token),
            _ => {
                self.doubt = Some((token, Deadline::after(BACKSTOP)));
                None
            }
        }
    }
}

/// Dropped by a panic in the action, it breaks the round.
struct Panicked<'a, const N: usize> {
    barrier: &'a RawBarrier<N>,
    me: &'a Me,
    arrival: &'a Arrival,
    deadline: Deadline,
}

impl<const N: usize> Drop for Panicked<'_, N> {
    fn drop(&mut self) {
        let Panicked { barrier, me, arrival, deadline } = self;
        let broken = barrier.locked(me, *deadline, || {
            if barrier.is_open(arrival.round) {
                barrier.end_broken(Cause::Panicked);
            }
        });
        if broken.is_err() {
            barrier.quit(arrival.round);
        }
        let _ = barrier.leave_broken(me, arrival);
    }
}

//! A worker as the pool sees it: its process, its connection, and what it has to do.

use std::collections::VecDeque;
use std::time::Duration;

use ipc_pipe::{Connection, RecvError, SendError, TryRecvError, pipe};
use ipc_shm::View;
use ipc_sync::Registry;

use super::error::PoolError;
use super::job::Job;
use super::setup::Setup;
use super::table::{Lane, SLOTS, Table};
use super::task::{Failure, Offer, Outcome, Reply};
use super::worker::{self, Start, now};
use crate::executor::TaskError;
use crate::process::{ExitStatus, Process};

/// Bytes that may lie unread in a connection, whose ring has room for 64 KiB.
const UNREAD: usize = 44 << 10;
/// What a task weighs besides its arguments.
const FRAME: usize = 128;

/// A worker has about so much work at a time: a lot of short tasks, or one long one and the next.
const AHEAD: u64 = 100_000;
/// A task that runs for so long keeps back those behind it.
const LONG: u64 = 200_000;
/// A worker that begins nothing for so long is stopped, or starved.
const STUCK: u64 = 10_000_000;

/// One worker.
pub(super) struct Hand {
    process: Process<()>,
    /// `None` = it has no more to do, and ends.
    connection: Option<Connection>,
    lane: View<Lane>,
    /// What it lives by; `None` = it has not said hello.
    token: Option<u32>,
    jobs: Vec<Option<Posted>>,
    /// Bit i: slot i has no task.
    free: u64,
    /// Tasks with a time limit among them.
    pub(super) limited: usize,
    /// How many orders were sent.
    orders: u64,
    /// Number and weight of those that it has not read, as far as we know, and what they weigh together.
    unread: VecDeque<(u64, usize)>,
    unread_weight: usize,
    /// Messages that came.
    results: u32,
    /// Tasks that it may still get.
    budget: Option<u32>,
    /// How long its tasks take; 0 = nobody knows.
    usual: u64,
    /// The larger, the later it did something.
    pub(super) last_used: u64,
    /// The kernel says that its main thread is gone.
    pub(super) dying: bool,
}

/// A task in the worker's connection or hands.
struct Posted {
    job: Job,
    number: u64,
    since: u64,
}

/// What became of an attempt to give a worker a task.
pub(super) enum Sent {
    Done,
    /// The worker is gone; the task has not begun.
    Gone(Job),
    /// The task cannot be sent.
    Refused(Job, TaskError),
}

impl Hand {
    /// Starts a worker.
    pub(super) fn start(setup: &Setup, table: &Table, place: usize, number: u32) -> Result<Hand, PoolError> {
        let lane = table.lane(place).expect("a table has a lane for each worker");
        lane.reset();
        let (here, there) = pipe().map_err(PoolError::Pipe)?;
        here.set_max_message(usize::MAX); // both ends are this program
        let start =
            Start { connection: there, table: table.clone(), place, initializer: setup.initializer.clone() };
        let process = setup.process(number).spawn(worker::live, start);
        Ok(Hand {
            process: process.map_err(|error| PoolError::Start(error.into_reason()))?,
            connection: Some(here),
            lane,
            token: None,
            jobs: (0..SLOTS).map(|_| None).collect(),
            free: !0,
            limited: 0,
            orders: 0,
            unread: VecDeque::new(),
            unread_weight: 0,
            results: 0,
            budget: setup.max_tasks,
            usual: 0,
            last_used: 0,
            dying: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn token(&self) -> Option<u32> {
        self.token
    }

    /// Whether it has said hello.
    pub(super) fn has_begun(&self) -> bool {
        self.token.is_some()
    }

    /// It has said hello.
    pub(super) fn begin(&mut self, token: u32) {
        self.token = Some(token);
    }

    /// Tasks that it has.
    pub(super) fn load(&self) -> u32 {
        self.free.count_zeros()
    }

    /// Whether it takes tasks at all.
    pub(super) fn is_at_work(&self) -> bool {
        self.token.is_some() && self.connection.is_some() && !self.dying && self.budget != Some(0)
    }

    /// What it has to read or to do: what was recalled lies in its connection all the same.
    pub(super) fn burden(&self) -> usize {
        self.unread.len().max(self.load() as usize)
    }

    /// Whether it should get a task that weighs so much: a second one keeps it from sleeping, more keep it from looking
    /// up after each short one. Its connection has room for it, so that nobody here waits for a worker.
    pub(super) fn has_room(&self, weight: usize) -> bool {
        let depth = (AHEAD / self.usual.max(1)).clamp(2, SLOTS as u64) as u32;
        let depth = if self.usual == 0 { 2 } else { depth };
        self.load() < depth && (self.unread.is_empty() || self.unread_weight + weight + FRAME <= UNREAD)
    }

    /// Finds out what it has read.
    pub(super) fn settle(&mut self) {
        let behind = (self.orders as u32).wrapping_sub(self.lane.orders());
        let read = self.orders.saturating_sub(behind.into());
        while let Some((number, weight)) = self.unread.front().copied() {
            if number > read {
                break;
            }
            self.unread.pop_front();
            self.unread_weight -= weight;
        }
    }

    /// Gives it a task.
    pub(super) fn send(&mut self, mut job: Job) -> Sent {
        let Some(connection) = &self.connection else { return Sent::Gone(job) };
        if let Err(error) = job.payload.put_away() {
            return Sent::Refused(job, TaskError::Arguments { message: error.to_string() });
        }
        let slot = self.free.trailing_zeros();
        self.lane.slot(slot).offer(job.ticket);
        let offer = Offer { slot, ticket: job.ticket, call: job.call, payload: &job.payload };
        match connection.send(&offer) {
            Ok(()) => self.post(slot, job),
            Err(SendError::Closed) => return Sent::Gone(job),
            Err(error) => return Sent::Refused(job, TaskError::Arguments { message: error.to_string() }),
        }
        Sent::Done
    }

    fn post(&mut self, slot: u32, job: Job) {
        self.orders += 1;
        let weight = job.payload.weight() + FRAME;
        self.unread.push_back((self.orders, weight));
        self.unread_weight += weight;
        self.free &= !(1 << slot);
        self.limited += usize::from(job.terms.time_limit.is_some());
        self.budget = self.budget.map(|budget| budget - 1);
        self.jobs[slot as usize] = Some(Posted { job, number: self.orders, since: now() });
    }

    /// Whether it has sent something.
    #[inline(always)]
    pub(super) fn has_told(&self) -> bool {
        self.lane.results() != self.results
    }

    /// The next thing it has said, if there is one. Something that is not understood is the end of it.
    pub(super) fn receive(&mut self) -> Option<Reply> {
        let connection = self.connection.as_ref()?;
        match connection.try_recv::<Reply>() {
            Ok(reply) => {
                self.results = self.results.wrapping_add(1);
                Some(reply)
            }
            Err(
                TryRecvError::Empty | TryRecvError::Failed(RecvError::Closed | RecvError::EofInside { .. }),
            ) => None,
            Err(TryRecvError::Failed(RecvError::HandlesLost { sent, received })) => {
                self.results = self.results.wrapping_add(1);
                let message = RecvError::HandlesLost { sent, received }.to_string();
                let (slot, ticket) = self.oldest_begun()?;
                let outcome = Outcome::Failed(Failure::Result(message));
                Some(Reply::Done { slot, ticket, nanoseconds: self.usual, outcome })
            }
            Err(_) => {
                self.kill();
                None
            }
        }
    }

    /// The slot and ticket of the task that it is at: results come in the order in which tasks were begun.
    fn oldest_begun(&self) -> Option<(u32, u64)> {
        let begun = self.posted().filter(|(slot, posted)| self.started(*slot, posted).is_some());
        let (slot, posted) = begun.min_by_key(|(_, posted)| posted.number)?;
        Some((slot as u32, posted.job.ticket))
    }

    fn posted(&self) -> impl Iterator<Item = (usize, &Posted)> {
        self.jobs.iter().enumerate().filter_map(|(slot, posted)| Some((slot, posted.as_ref()?)))
    }

    /// Whether it has begun the task with this ticket, and is not done.
    pub(super) fn is_at(&self, ticket: u64) -> bool {
        let mut posted = self.posted().filter(|(_, posted)| posted.job.ticket == ticket);
        posted.any(|(slot, posted)| posted.job.begun || self.started(slot, posted).is_some())
    }

    fn started(&self, slot: usize, posted: &Posted) -> Option<u64> {
        self.lane.slot(slot as u32).started(posted.job.ticket)
    }

    /// It is done with the task in `slot`, which took so long.
    pub(super) fn done(&mut self, slot: u32, ticket: u64, nanoseconds: u64) -> Option<Job> {
        let slot = slot as usize;
        self.jobs.get(slot)?.as_ref().filter(|posted| posted.job.ticket == ticket)?;
        self.usual =
            if self.usual == 0 { nanoseconds.max(1) } else { (self.usual * 7 + nanoseconds) / 8 + 1 };
        Some(self.take(slot)?.job)
    }

    /// It could not read its order of this number.
    pub(super) fn unread(&mut self, number: u64) -> Option<Job> {
        let slot = self.posted().find(|(_, posted)| posted.number == number)?.0;
        Some(self.take(slot)?.job)
    }

    fn take(&mut self, slot: usize) -> Option<Posted> {
        let posted = self.jobs[slot].take()?;
        self.free |= 1 << slot;
        self.limited -= usize::from(posted.job.terms.time_limit.is_some());
        Some(posted)
    }

    /// Takes the task in `slot` back, unless it has begun.
    fn recall(&mut self, slot: usize) -> Option<Job> {
        let ticket = self.jobs[slot].as_ref()?.job.ticket;
        if !self.lane.slot(slot as u32).recall(ticket) {
            return None;
        }
        self.budget = self.budget.map(|budget| budget + 1);
        Some(self.take(slot)?.job)
    }

    /// Takes the task with this ticket back. Outer `None` = it is not here; inner one: it has begun.
    pub(super) fn recall_ticket(&mut self, ticket: u64) -> Option<Option<Job>> {
        let slot = self.posted().find(|(_, posted)| posted.job.ticket == ticket)?.0;
        let begun = self.jobs[slot].as_ref().is_some_and(|posted| posted.job.begun);
        Some(if begun { None } else { self.recall(slot) })
    }

    /// Takes back what has not begun, here or elsewhere.
    pub(super) fn recall_all(&mut self) -> Vec<Job> {
        let fresh = self.posted().filter(|(_, posted)| !posted.job.begun);
        let slots: Vec<_> = fresh.map(|(slot, _)| slot).collect();
        slots.into_iter().filter_map(|slot| self.recall(slot)).collect()
    }

    /// Takes back what nobody waits for any more.
    pub(super) fn recall_unwanted(&mut self) -> Vec<Job> {
        let unwanted = self.posted().filter(|(_, posted)| !posted.job.done.is_wanted());
        let slots: Vec<_> = unwanted.map(|(slot, _)| slot).collect();
        slots.into_iter().filter_map(|slot| self.recall(slot)).collect()
    }

    /// In how many nanoseconds it will have kept back tasks for too long, if it comes to no other; `None` = there are none.
    pub(super) fn patience_left(&self, now: u64) -> Option<u64> {
        let begun = self.posted().find_map(|(slot, posted)| self.started(slot, posted));
        match begun {
            Some(_) if self.load() < 2 => None,
            Some(begun) => Some(LONG.saturating_sub(now.saturating_sub(begun))),
            None => {
                let since = self.posted().map(|(_, posted)| posted.since).min()?;
                Some(STUCK.saturating_sub(now.saturating_sub(since)))
            }
        }
    }

    /// Takes back everything that it has not begun, in order. From now on it gets one task at a time, and the next.
    pub(super) fn give_up_rest(&mut self) -> Vec<Job> {
        self.usual = self.usual.max(LONG);
        let mut slots: Vec<_> = self.posted().map(|(slot, posted)| (posted.number, slot)).collect();
        slots.sort();
        slots.into_iter().filter_map(|(_, slot)| self.recall(slot)).collect()
    }

    /// Kills it if a task has run for too long, and only in that task. Answers for how long nobody need look again.
    pub(super) fn enforce_limits(&mut self, now: u64) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for slot in 0..SLOTS {
            let Some(posted) = self.jobs[slot].as_ref().filter(|posted| !posted.job.overdue) else {
                continue;
            };
            let Some(limit) = posted.job.terms.time_limit else { continue };
            let run = self.started(slot, posted).map_or(0, |began| now.saturating_sub(began));
            let left = limit.saturating_sub(Duration::from_nanos(run));
            if left.is_zero() && self.lane.slot(slot as u32).doom(posted.job.ticket) {
                self.kill();
                self.jobs[slot].as_mut()?.job.overdue = true;
            } else {
                next = Some(next.map_or(left, |next| next.min(left))); // zero: it is done, and that was not heard yet
            }
        }
        next
    }

    pub(super) fn kill(&self) {
        let _ = self.process.kill();
    }

    /// It has nothing to do any more: it ends when it has read everything.
    pub(super) fn retire(&mut self) {
        self.connection = None;
    }

    /// Whether it has nothing to do any more.
    pub(super) fn is_retired(&self) -> bool {
        self.connection.is_none()
    }

    /// Whether it has had all tasks that it may.
    pub(super) fn is_spent(&self) -> bool {
        self.budget == Some(0) && self.load() == 0 && self.connection.is_some()
    }

    /// Whether it looks dead: by the word that the kernel marks, or, asked the slow way, by its process. The word is that
    /// of the thread that works: the rest of a process without one is ended here.
    pub(super) fn seems_dead(&self, slowly: bool) -> bool {
        let marked = match (self.token, Registry::get()) {
            (Some(token), Ok(registry)) => registry.is_dead(token),
            _ => false,
        };
        if marked {
            self.kill();
        }
        marked || ((slowly || self.token.is_none()) && !self.process.is_alive())
    }

    /// How it ended; `None` = it has not, quite.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// What a dead worker leaves behind, in the order in which it would have come to it, and whether it had begun it.
    pub(super) fn remains(&mut self) -> Vec<(Job, bool)> {
        let mut slots: Vec<_> = self.posted().map(|(slot, posted)| (posted.number, slot)).collect();
        slots.sort();
        let mut remains = Vec::with_capacity(slots.len());
        for (_, slot) in slots {
            match self.recall(slot) {
                Some(job) => remains.push((job, false)),
                None => remains.extend(self.take(slot).map(|posted| (posted.job, true))),
            }
        }
        remains
    }
}

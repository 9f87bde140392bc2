//! What a pool has to do and who does it, under one lock of this process: no worker ever sees it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipc_sync::BACKSTOP;

use super::error::PoolError;
use super::hand::{Hand, Sent};
use super::job::{Finished, Job};
use super::setup::Setup;
use super::table::Table;
use super::task::Reply;
use super::worker::now;
use crate::executor::TaskError;
use crate::process::ExitStatus;

/// How long one sleeps beside workers that have nothing to do. Their death is told at once.
const IDLE: Duration = Duration::from_secs(1);
/// How often workers are looked at that are coming or going.
const MOMENT: Duration = Duration::from_millis(2);
/// Workers are looked at no more often than this.
const LOOK: u64 = 1_000_000;
/// The slow look at all workers.
const SLOW_LOOK: u64 = BACKSTOP.as_nanos() as u64;

/// Workers that could not be started, in a row, before the pool gives up; and as many more as it has workers. One that
/// somebody killed counts an eighth.
const STARTS: u32 = 6;
const FAILURE: u32 = 8;
const KILLED: u32 = 1;
/// After the first of them one waits for so long, then twice as long, and so on.
const PAUSE: u64 = 5_000_000;

/// A worker that is to be started: what takes a while, and no lock.
pub(super) struct Birth {
    setup: Arc<Setup>,
    table: Table,
    pub(super) place: usize,
    number: u32,
}

impl Birth {
    pub(super) fn begin(&self) -> Result<Hand, PoolError> {
        Hand::start(&self.setup, &self.table, self.place, self.number)
    }
}

pub(super) struct State {
    setup: Arc<Setup>,
    table: Table,
    hands: Vec<Option<Hand>>,
    /// Workers that have no more to do and end in their own time, though others have their places by now.
    leaving: Vec<Hand>,
    /// Places whose next worker is on its way, and those of them that nobody has taken care of yet.
    coming: Vec<bool>,
    wanted: VecDeque<usize>,
    /// A thread takes care of them.
    starter: bool,
    /// In the order of their tickets; `None` = taken back.
    queue: VecDeque<(u64, Option<Job>)>,
    /// Before those: tasks whose worker died, or had too many.
    again: VecDeque<Job>,
    last_ticket: u64,
    /// Tasks that were submitted and whose completion was not told yet.
    outstanding: usize,
    /// No more tasks come; those that are there will be done.
    closed: bool,
    /// Nothing more is done.
    terminated: bool,
    /// No worker can be started any more, for this reason.
    broken: Option<TaskError>,
    /// Counts up with everything that a worker does.
    clock: u64,
    /// Workers that were started, and how many of the last of them never said hello.
    started: u32,
    failed_starts: u32,
    start_again_at: u64,
    /// `Shared::results` as it was before the last look.
    pub(super) seen: u32,
    looked: u64,
    looked_slowly: u64,
    /// How long one may sleep without another look.
    pub(super) rest: Duration,
}

impl State {
    /// A pool with all its workers on their way.
    pub(super) fn new(setup: Setup, table: Table) -> Result<State, PoolError> {
        let mut state = State {
            hands: (0..setup.workers).map(|_| None).collect(),
            leaving: Vec::new(),
            coming: vec![false; setup.workers],
            wanted: VecDeque::new(),
            starter: false,
            setup: Arc::new(setup),
            table,
            queue: VecDeque::new(),
            again: VecDeque::new(),
            last_ticket: 0,
            outstanding: 0,
            closed: false,
            terminated: false,
            broken: None,
            clock: 0,
            started: 0,
            failed_starts: 0,
            start_again_at: 0,
            seen: 0,
            looked: 0,
            looked_slowly: 0,
            rest: BACKSTOP,
        };
        for place in 0..state.hands.len() {
            match state.birth(place).begin() {
                Ok(hand) => state.hands[place] = Some(hand),
                Err(error) => {
                    state.hands.iter().flatten().for_each(Hand::kill);
                    return Err(error);
                }
            }
        }
        Ok(state)
    }

    fn birth(&mut self, place: usize) -> Birth {
        self.started += 1;
        Birth { setup: Arc::clone(&self.setup), table: self.table.clone(), place, number: self.started }
    }

    /// Whether workers are to be started and no thread does it; the caller starts one that does.
    pub(super) fn wants_starter(&mut self) -> bool {
        !self.wanted.is_empty() && !std::mem::replace(&mut self.starter, true)
    }

    /// The next worker to be started, without this lock; `None` = the thread that starts them can go.
    pub(super) fn next_birth(&mut self) -> Option<Birth> {
        while let Some(place) = self.wanted.pop_front() {
            if self.is_wanted() {
                return Some(self.birth(place));
            }
            self.coming[place] = false;
        }
        self.starter = false;
        None
    }

    /// What became of it.
    pub(super) fn born(&mut self, place: usize, hand: Result<Hand, PoolError>, finished: &mut Finished) {
        self.coming[place] = false;
        match hand {
            Ok(hand) => {
                if self.terminated {
                    hand.kill();
                }
                self.hands[place] = Some(hand);
            }
            Err(error) => self.note_failed_start(FAILURE, error.to_string(), finished),
        }
        self.looked = 0;
    }

    /// There is no thread that could start workers: another attempt is made later.
    pub(super) fn no_starter(&mut self, error: &dyn std::fmt::Display, finished: &mut Finished) {
        self.starter = false;
        self.wanted.drain(..).for_each(|place| self.coming[place] = false);
        self.note_failed_start(FAILURE, error.to_string(), finished);
    }

    /// Whether it takes tasks.
    pub(super) fn is_open(&self) -> bool {
        !self.closed && !self.terminated
    }

    /// A number for the next task; it must be submitted before the lock is given back.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Takes a task in. Another reason than success is the task's error.
    pub(super) fn submit(&mut self, job: Job, finished: &mut Finished) {
        self.outstanding += 1;
        if !self.is_open() {
            return finished.push(job, Err(TaskError::Closed));
        }
        if let Some(error) = &self.broken {
            return finished.push(job, Err(error.clone()));
        }
        self.queue.push_back((job.ticket, Some(job)));
        self.assign(finished);
    }

    /// Completions that were told.
    pub(super) fn told(&mut self, count: usize) {
        self.outstanding -= count;
    }

    /// Gives tasks to workers that have room for them.
    fn assign(&mut self, finished: &mut Finished) {
        while let Some(job) = self.next_job(finished) {
            match self.best_hand(job.payload.weight()) {
                Some(place) => self.give(place, job, finished),
                None => return self.again.push_front(job),
            }
        }
    }

    fn next_job(&mut self, finished: &mut Finished) -> Option<Job> {
        loop {
            let job = match self.again.pop_front() {
                Some(job) => job,
                None => match self.queue.pop_front()? {
                    (_, Some(job)) => job,
                    (_, None) => continue,
                },
            };
            if job.done.is_wanted() {
                return Some(job);
            }
            finished.push(job, Err(TaskError::Cancelled));
        }
    }

    /// The worker with the fewest tasks; among equals the one that worked last, for it may be awake.
    fn best_hand(&self, weight: usize) -> Option<usize> {
        let hands = self.hands.iter().enumerate().filter_map(|(place, hand)| Some((place, hand.as_ref()?)));
        let able = hands.filter(|(_, hand)| hand.is_at_work() && hand.has_room(weight));
        able.min_by_key(|(_, hand)| (hand.burden(), u64::MAX - hand.last_used)).map(|(place, _)| place)
    }

    fn give(&mut self, place: usize, job: Job, finished: &mut Finished) {
        let Some(hand) = &mut self.hands[place] else { return self.again.push_front(job) };
        match hand.send(job) {
            Sent::Done => {}
            Sent::Gone(job) => {
                hand.dying = true;
                self.again.push_front(job);
            }
            Sent::Refused(job, error) => finished.push(job, Err(error)),
        }
    }

    /// Looks at everything once: what workers have said, who has died, what there is to do.
    pub(super) fn tend(&mut self, finished: &mut Finished) {
        self.seen = self.table.shared.results();
        for place in 0..self.hands.len() {
            if self.hands[place].as_ref().is_some_and(Hand::has_told) {
                self.hear(place, false, finished);
            }
        }
        let now = now();
        if now - self.looked >= LOOK {
            self.look(now, finished);
        }
        self.assign(finished);
    }

    /// Takes everything that a worker has said, or, of a dead one, what it said before it could say so.
    fn hear(&mut self, place: usize, dead: bool, finished: &mut Finished) {
        self.clock += 1;
        if let Some(hand) = &mut self.hands[place] {
            hand.settle();
        }
        while let Some(hand) = self.hands[place].as_mut().filter(|hand| dead || hand.has_told()) {
            hand.last_used = self.clock;
            let (job, outcome) = match hand.receive() {
                Some(Reply::Done { slot, ticket, nanoseconds, outcome }) => {
                    (hand.done(slot, ticket, nanoseconds), Ok(outcome))
                }
                Some(Reply::Unread { number, message }) => {
                    (hand.unread(number), Err(TaskError::Arguments { message }))
                }
                Some(Reply::Hello { token, failure: None }) => {
                    hand.begin(token);
                    self.failed_starts = 0;
                    continue;
                }
                Some(Reply::Hello { failure: Some(failure), .. }) => {
                    let message = TaskError::from(failure).to_string();
                    return self.break_down(TaskError::Initializer { message }, finished);
                }
                None => return,
            };
            if let Some(job) = job {
                finished.push(job, outcome);
            }
        }
    }

    /// The look that need not follow each message: at the dead, at the clock, at those who wait behind a long task.
    pub(super) fn look(&mut self, now: u64, finished: &mut Finished) {
        let slowly = now - self.looked_slowly >= SLOW_LOOK;
        self.looked = now;
        if slowly {
            self.looked_slowly = now;
        }
        self.rest = if self.outstanding > 0 { BACKSTOP } else { IDLE };
        for place in 0..self.hands.len() {
            match &mut self.hands[place] {
                Some(hand) => {
                    hand.dying = hand.dying || hand.seems_dead(slowly);
                    if hand.dying {
                        self.bury(place, finished);
                    }
                }
                None => self.replace(place, now),
            }
            self.mind(place, now);
        }
        self.leaving.retain(|hand| !hand.seems_dead(slowly) || hand.exit_status().is_none());
        if let Some(error) = self.broken.clone() {
            self.drop_waiting(&error, finished); // what the dead had not begun
        }
        self.relieve(now, finished);
    }

    /// What else there is to see to at a worker.
    fn mind(&mut self, place: usize, now: u64) {
        let nothing_left = self.closed && self.outstanding == 0;
        if nothing_left && !self.leaving.is_empty() {
            self.rest = self.rest.min(MOMENT);
        }
        let Some(hand) = &mut self.hands[place] else { return };
        if hand.is_spent() || nothing_left {
            hand.retire();
        }
        // It may take its time: what it put on a queue has to be read by somebody. So many and no more do.
        if hand.is_retired() && !nothing_left && self.leaving.len() < self.coming.len() {
            self.leaving.extend(self.hands[place].take());
            return self.replace(place, now);
        }
        if hand.limited > 0 {
            let next = hand.enforce_limits(now).unwrap_or(MOMENT);
            self.rest = self.rest.min(next.max(Duration::from_millis(1)));
        }
        if hand.dying || !hand.has_begun() {
            self.rest = self.rest.min(MOMENT);
        }
    }

    /// A worker is dead or about to be: exactly the task that it had begun fails.
    fn bury(&mut self, place: usize, finished: &mut Finished) {
        let Some(hand) = &self.hands[place] else { return };
        let Some(status) = hand.exit_status() else { return };
        self.hear(place, true, finished); // what it said before is there by now
        let Some(mut hand) = self.hands[place].take() else { return };
        if !hand.has_begun() {
            let weight = if status.signal() == Some(libc::SIGKILL) { KILLED } else { FAILURE };
            let message = format!("worker process {} ended before it was ready, with {status}", hand.pid());
            self.note_failed_start(weight, message, finished);
        }
        let pid = hand.pid();
        for (job, begun) in hand.remains().into_iter().rev() {
            match begun {
                true => self.fail(job, pid, status, finished),
                false => self.again.push_front(job),
            }
        }
        self.replace(place, now());
    }

    fn fail(&mut self, mut job: Job, pid: u32, status: ExitStatus, finished: &mut Finished) {
        match job.terms {
            _ if self.terminated => finished.push(job, Err(TaskError::Terminated)),
            terms if job.overdue => {
                finished.push(job, Err(TaskError::TimeLimit { limit: terms.time_limit.unwrap_or_default() }));
            }
            terms if terms.retries > 0 => {
                job.terms.retries -= 1;
                job.begun = true;
                self.again.push_front(job);
            }
            _ => finished.push(job, Err(TaskError::WorkerDied { pid, status })),
        }
    }

    /// Whether workers are to be started where there are none.
    fn is_wanted(&self) -> bool {
        (self.is_open() || self.outstanding > 0 && !self.terminated) && self.broken.is_none()
    }

    /// Has a worker started where there is none, if there should be one.
    fn replace(&mut self, place: usize, now: u64) {
        if !self.is_wanted() || self.coming[place] {
            return;
        }
        self.rest = self.rest.min(MOMENT);
        if now >= self.start_again_at {
            self.coming[place] = true;
            self.wanted.push_back(place);
        }
    }

    fn note_failed_start(&mut self, weight: u32, message: String, finished: &mut Finished) {
        self.failed_starts = self.failed_starts.saturating_add(weight);
        let failures = self.failed_starts / FAILURE;
        self.start_again_at = now() + (PAUSE << failures.min(STARTS));
        let nobody_works = !self.hands.iter().flatten().any(Hand::has_begun);
        if nobody_works && failures >= STARTS + self.hands.len() as u32 {
            self.break_down(TaskError::NoWorker { message }, finished);
        }
    }

    /// There will be no workers any more: what waits for one fails.
    fn break_down(&mut self, error: TaskError, finished: &mut Finished) {
        let error = self.broken.get_or_insert(error).clone();
        self.drop_waiting(&error, finished);
    }

    fn drop_waiting(&mut self, error: &TaskError, finished: &mut Finished) {
        let waiting = self.again.drain(..).chain(self.queue.drain(..).filter_map(|(_, job)| job));
        waiting.for_each(|job| finished.push(job, Err(error.clone())));
    }

    /// Gives the tasks behind a long one to those who have none.
    fn relieve(&mut self, now: u64, finished: &mut Finished) {
        self.hands.iter_mut().flatten().for_each(Hand::settle);
        let mut idle = self.hands.iter().flatten().filter(|hand| hand.is_at_work() && hand.burden() == 0);
        if idle.next().is_none() || !self.again.is_empty() || !self.queue.is_empty() {
            return;
        }
        for hand in self.hands.iter_mut().flatten() {
            match hand.patience_left(now) {
                Some(0) => self.again.extend(hand.give_up_rest()),
                Some(left) => self.rest = self.rest.min(Duration::from_nanos(left)),
                None => {}
            }
        }
        self.assign(finished);
    }

    /// Takes back all of these tasks, or none: as soon as one has begun, or is done, the others go on.
    pub(super) fn recall(&mut self, tickets: &RangeInclusive<u64>, finished: &mut Finished) -> bool {
        let mut recalled = Vec::new();
        for ticket in tickets.clone() {
            match self.take_back(ticket) {
                Some(job) => recalled.push(job),
                None => {
                    recalled.into_iter().rev().for_each(|job| self.again.push_front(job));
                    self.assign(finished);
                    return false;
                }
            }
        }
        recalled.into_iter().for_each(|job| finished.push(job, Err(TaskError::Cancelled)));
        true
    }

    fn take_back(&mut self, ticket: u64) -> Option<Job> {
        if let Some(at) = self.again.iter().position(|job| job.ticket == ticket) {
            return if self.again[at].begun { None } else { self.again.remove(at) };
        }
        if let Some(found) = self.hands.iter_mut().flatten().find_map(|hand| hand.recall_ticket(ticket)) {
            return found;
        }
        let at = self.queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        self.queue[at].1.take()
    }

    /// Takes back everything that has not begun.
    pub(super) fn recall_all(&mut self, finished: &mut Finished) {
        let (begun, waiting) = std::mem::take(&mut self.again).into_iter().partition(|job| job.begun);
        self.again = waiting;
        self.drop_waiting(&TaskError::Cancelled, finished);
        self.again = begun;
        let recalled = self.hands.iter_mut().flatten().flat_map(Hand::recall_all);
        recalled.for_each(|job| finished.push(job, Err(TaskError::Cancelled)));
    }

    /// Takes back everything that nobody waits for any more and that has not begun.
    pub(super) fn recall_unwanted(&mut self, finished: &mut Finished) {
        let recalled = self.hands.iter_mut().flatten().flat_map(Hand::recall_unwanted);
        recalled.for_each(|job| finished.push(job, Err(TaskError::Cancelled)));
        self.assign(finished);
    }

    /// No more tasks.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.looked = 0;
    }

    /// Nothing more is done: everything that is not done fails, and all workers are killed.
    pub(super) fn terminate(&mut self, finished: &mut Finished) {
        self.drop_waiting(&TaskError::Terminated, finished);
        self.terminated = true;
        self.leaving.iter().for_each(Hand::kill);
        for hand in self.hands.iter_mut().flatten() {
            hand.kill();
            hand.remains().into_iter().for_each(|(job, _)| finished.push(job, Err(TaskError::Terminated)));
        }
        self.looked = 0;
    }

    /// Whether all is done and all workers are gone.
    pub(super) fn has_ended(&self) -> bool {
        let is_empty = self.leaving.is_empty() && self.hands.iter().all(Option::is_none);
        !self.is_open() && self.outstanding == 0 && is_empty && !self.starter
    }

    /// Whether a worker is at the task.
    pub(super) fn has_begun(&self, ticket: u64) -> bool {
        let ran_before = self.again.iter().any(|job| job.ticket == ticket && job.begun);
        ran_before || self.hands.iter().flatten().any(|hand| hand.is_at(ticket))
    }

    /// By what the living workers live.
    pub(super) fn tokens(&self) -> Vec<u32> {
        let living = self.hands.iter().flatten().filter(|hand| !hand.dying);
        living.filter_map(Hand::token).collect()
    }

    /// The numbers of the worker processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.hands.iter().flatten().map(Hand::pid).collect()
    }

    /// The next `tend` looks at everything.
    pub(super) fn look_soon(&mut self) {
        self.looked = 0;
    }
}

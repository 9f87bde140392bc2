//! Who looks after a pool: the thread that waits for a result, or else the pool's own.
//!
//! A result would take a thread's hop more if one thread collected all of them. So whoever waits becomes the
//! *conductor*, if nobody is: it takes what the workers say, tells who is done, gives out tasks, buries the dead, until
//! what it waits for is there. Others that wait sleep beside their results. The pool's own thread conducts when nobody
//! waits, so that callbacks run and the dead are replaced whatever the program does. It sleeps then in the kernel on
//! the `back` bell; a conductor takes that bell down and hangs it up again when it leaves, neither with a system call,
//! and sleeps on the `front` bell itself.
//!
//! ```text
//! conductor word
//! 0       nobody waits: the pool's own thread conducts             → token of a thread that begins to wait
//! token   that thread conducts                                     → 0 by itself
//! ```
//!
//! Both changes are made under the lock of the state, by threads of this process only.
//!
//! Workers that replace others are started by a thread of their own, which lives as long as there are any to be started:
//! that may take long, and the others go on meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipc_sync::{BACKSTOP, Bell, Deadline, Me, Patience, Registry, Woken, forks, full_fence};
use parking_lot::{Condvar, Mutex};

use super::error::PoolError;
use super::job::{Completion, Finished, Job, Terms};
use super::payload::Payload;
use super::setup::Setup;
use super::state::State;
use super::table::Table;
use super::worker::now;
use crate::executor::{Helper, Seat, TaskError, sleep_once};
use crate::process::{Call, servant};

/// Everything that the handles of a pool share.
pub(crate) struct Engine {
    /// For threads of its own.
    this: Weak<Engine>,
    table: Table,
    state: Mutex<State>,
    conductor: AtomicU32,
    front: Patience,
    back: Patience,
    end: Arc<End>,
    workers: usize,
    /// A copy of this process by fork has no workers.
    forks: u32,
}

/// What is to be run, and how.
pub(crate) struct Work {
    pub(crate) call: Call,
    pub(crate) payload: Payload,
    pub(crate) terms: Terms,
}

impl Engine {
    /// Starts all workers, and the pool's own thread.
    pub(crate) fn start(setup: Setup) -> Result<(Arc<Engine>, JoinHandle<()>), PoolError> {
        setup.check()?;
        let table = Table::create(setup.workers)?;
        let workers = setup.workers;
        let state = State::new(setup, table.clone())?;
        let engine = Arc::new_cyclic(|this| Engine {
            this: Weak::clone(this),
            state: Mutex::new(state),
            table,
            conductor: AtomicU32::new(0),
            front: Patience::default(),
            back: Patience::default(),
            end: Arc::new(End::default()),
            workers,
            forks: forks(),
        });
        let own = Arc::clone(&engine);
        match servant::without_signals(|| {
            thread::Builder::new().name("pool".into()).spawn(move || own.background())
        }) {
            Ok(thread) => Ok((engine, thread)),
            Err(error) => {
                engine.terminate();
                Err(PoolError::Io(error))
            }
        }
    }

    /// Whether this process is a copy of the pool's.
    pub(crate) fn is_copy(&self) -> bool {
        self.forks != forks()
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// The numbers of the worker processes that there are now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        if self.is_copy() { Vec::new() } else { self.state.lock().pids() }
    }

    /// Takes tasks in, those that `fill` adds. They are given to workers before this returns, as far as there is room.
    pub(crate) fn submit<T>(&self, fill: impl FnOnce(&mut Intake<'_>) -> T) -> T {
        let mut finished = Finished::default();
        if self.is_copy() {
            return fill(&mut Intake { state: None, limited: false, finished: &mut finished });
        }
        let mut state = self.state.lock();
        let mut intake = Intake { state: Some(&mut state), limited: false, finished: &mut finished };
        let answer = fill(&mut intake);
        let limited = intake.limited;
        drop(state);
        if limited {
            self.table.shared.nudge(); // whoever sleeps does not know of the limit
        }
        self.tell(finished);
        answer
    }

    /// Takes back all of these that have not begun, or none. True = none of them will ever run.
    pub(crate) fn recall(&self, tickets: std::ops::RangeInclusive<u64>) -> bool {
        if self.is_copy() {
            return false;
        }
        let mut finished = Finished::default();
        let recalled = self.state.lock().recall(&tickets, &mut finished);
        self.tell(finished);
        recalled
    }

    /// Whether a worker is at the task.
    pub(crate) fn has_begun(&self, ticket: u64) -> bool {
        !self.is_copy() && self.state.lock().has_begun(ticket)
    }

    /// Takes back everything that has not begun and that nobody waits for any more.
    pub(crate) fn recall_unwanted(&self) {
        self.change(State::recall_unwanted);
    }

    /// Takes back everything that has not begun: it is cancelled.
    pub(crate) fn cancel_all(&self) {
        self.change(State::recall_all);
    }

    /// Takes no more tasks. When those that are there are done, the workers end.
    pub(crate) fn close(&self) {
        self.change(|state, _| state.close());
        self.table.shared.nudge();
    }

    /// Kills all workers. Everything that is not done fails with [`TaskError::Terminated`].
    pub(crate) fn terminate(&self) {
        self.change(State::terminate);
        self.table.shared.nudge();
    }

    /// Whether it takes tasks.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_copy() && self.state.lock().is_open()
    }

    /// Waits until a closed or terminated pool has nothing left, neither tasks nor workers; false = the time was up.
    pub(crate) fn join(&self, until: Deadline) -> bool {
        if self.is_copy() {
            return true;
        }
        while !self.end.is_done() && !until.has_passed() {
            self.attend(&*self.end, until);
        }
        self.end.is_done()
    }

    fn change(&self, change: impl FnOnce(&mut State, &mut Finished)) {
        if self.is_copy() {
            return;
        }
        let mut finished = Finished::default();
        change(&mut self.state.lock(), &mut finished);
        self.tell(finished);
    }

    /// What tells this pool from others in this process.
    fn number(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Tells those whose tasks are done without the conductor's doing.
    fn tell(&self, mut finished: Finished) {
        let told = finished.tell(self.number());
        if told > 0 {
            self.state.lock().told(told);
            self.table.shared.nudge(); // one of them may be what the conductor waits for
        }
    }

    /// Works for the pool, or sleeps, until `seat` has what it waits for, or the time is up. It may return early.
    pub(crate) fn attend(&self, seat: &dyn Seat, until: Deadline) {
        let me = Me::get().map_or(0, |me| me.token());
        if me == 0 || self.is_copy() {
            return seat.sleep(until.min(Deadline::after(BACKSTOP)));
        }
        if self.conductor.load(Relaxed) == me {
            return self.conduct(seat, until); // a callback that waits
        }
        let state = self.state.lock();
        if self.conductor.load(Relaxed) != 0 {
            drop(state);
            return seat.sleep(until.min(Deadline::after(BACKSTOP)));
        }
        self.conductor.store(me, Relaxed);
        self.table.shared.back.take_down();
        drop(state);
        let _term = Term(self);
        self.conduct(seat, until);
    }

    fn conduct(&self, seat: &dyn Seat, until: Deadline) {
        let mut finished = Finished::default();
        loop {
            let seen = self.tend(&mut finished);
            let told = finished.tell(self.number());
            if told > 0 {
                self.state.lock().told(told);
            }
            if seat.is_done() || until.has_passed() {
                return;
            }
            if told == 0 {
                let is_over = || seat.is_done();
                self.wait(&self.front, &self.table.shared.front, seen, until, &is_over, &mut finished);
            }
        }
    }

    /// Looks at everything once; answers up to which message.
    fn tend(&self, finished: &mut Finished) -> u32 {
        let mut state = self.state.lock();
        state.tend(finished);
        self.see_to(&mut state, finished);
        state.seen
    }

    /// What is to be done after each look.
    fn see_to(&self, state: &mut State, finished: &mut Finished) {
        if state.wants_starter() {
            self.start_workers(state, finished);
        }
        self.note_end(state);
    }

    /// Has a thread start workers, as long as there are any to be started: nobody waits for that, whatever it takes.
    #[cold]
    fn start_workers(&self, state: &mut State, finished: &mut Finished) {
        let Some(engine) = self.this.upgrade() else { return };
        let start = move || while engine.start_worker() {};
        let starter =
            servant::without_signals(|| thread::Builder::new().name("pool starter".into()).spawn(start));
        if let Err(error) = starter {
            state.no_starter(&error, finished);
        }
    }

    /// Starts the next worker; false = there is none to be started.
    fn start_worker(&self) -> bool {
        let mut finished = Finished::default();
        let mut state = self.state.lock();
        let Some(birth) = state.next_birth() else {
            self.note_end(&state);
            return false;
        };
        drop(state);
        let born = birth.begin();
        self.state.lock().born(birth.place, born, &mut finished);
        self.tell(finished);
        self.table.shared.nudge();
        true
    }

    fn note_end(&self, state: &State) {
        if state.has_ended() && self.end.set() {
            self.table.shared.nudge();
            self.table.shared.relieve();
        }
    }

    /// Waits for a message, or until it is time to look again, or `is_over`: awake first, then asleep.
    fn wait(
        &self,
        patience: &Patience,
        bell: &Bell,
        seen: u32,
        until: Deadline,
        is_over: &dyn Fn() -> bool,
        finished: &mut Finished,
    ) {
        let (shared, slept) = (&self.table.shared, AtomicBool::new(false));
        let ready = || shared.results() != seen || is_over();
        let sleep = || {
            slept.store(true, Relaxed);
            self.nap(bell, &ready, until, finished);
            true
        };
        patience.wait(shared.processor(), || slept.load(Relaxed) || ready(), sleep);
    }

    /// Sleeps on a bell and on the lives of all workers, once.
    fn nap(&self, bell: &Bell, ready: &dyn Fn() -> bool, until: Deadline, finished: &mut Finished) {
        let mut state = self.state.lock();
        state.look(now(), finished);
        self.see_to(&mut state, finished);
        let (tokens, rest) = (state.tokens(), state.rest);
        drop(state);
        let Ok(registry) = Registry::get() else { return };
        let hung = bell.hang_up();
        full_fence();
        if finished.is_empty() && !ready() {
            let woken = registry.sleep_any((bell.word(), hung), tokens, until.min(Deadline::after(rest)));
            if woken == Woken::TimedOut && rest >= BACKSTOP && !until.has_passed() && ready() {
                registry.count_rescue(); // a message came and rang for nobody
            }
            self.state.lock().look_soon();
        }
        bell.take_down();
    }

    /// The pool's own thread.
    fn background(&self) {
        let mut finished = Finished::default();
        while !self.end.is_done() {
            if self.conductor.load(Relaxed) != 0 {
                self.stand_by();
                continue;
            }
            let seen = self.tend(&mut finished);
            let told = finished.tell(self.number());
            if told > 0 {
                self.state.lock().told(told);
                continue;
            }
            let is_over = || self.conductor.load(Relaxed) != 0 || self.end.is_done();
            let back = &self.table.shared.back;
            self.wait(&self.back, back, seen, Deadline::NEVER, &is_over, &mut finished);
        }
        finished.tell(self.number());
    }

    /// Sleeps as long as somebody else conducts, who hangs the bell up when it leaves.
    fn stand_by(&self) {
        let word = self.table.shared.back.word();
        let seen = word.load(Acquire);
        match Registry::get() {
            Ok(registry) if self.conductor.load(Acquire) != 0 && !self.end.is_done() => {
                registry.sleep_any((word, seen), [], Deadline::after(BACKSTOP));
            }
            _ => thread::yield_now(),
        }
    }

    /// The conductor goes: from here on messages ring for the pool's own thread.
    fn leave(&self) {
        let shared = &self.table.shared;
        let state = self.state.lock();
        self.conductor.store(0, Release);
        shared.back.hang_up();
        full_fence();
        if shared.results() != state.seen || state.rest < BACKSTOP {
            shared.back.ring();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// As long as it lives this thread conducts.
struct Term<'a>(&'a Engine);

impl Drop for Term<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Helper for Engine {
    fn help(&self, seat: &dyn Seat, until: Deadline) {
        self.attend(seat, until);
    }

    fn recall(&self, ticket: u64) -> bool {
        Engine::recall(self, ticket..=ticket)
    }

    fn has_begun(&self, ticket: u64) -> bool {
        Engine::has_begun(self, ticket)
    }
}

/// Where tasks are added to a pool.
pub(crate) struct Intake<'a> {
    /// `None` = this process is a copy of the pool's.
    state: Option<&'a mut State>,
    limited: bool,
    finished: &'a mut Finished,
}

impl Intake<'_> {
    /// The number of the next task, which is to be added before another number is asked for.
    pub(crate) fn next_ticket(&mut self) -> u64 {
        self.state.as_mut().map_or(0, |state| state.next_ticket())
    }

    pub(crate) fn add(&mut self, ticket: u64, work: Work, done: Box<dyn Completion>) {
        let Work { call, payload, terms } = work;
        self.limited |= terms.time_limit.is_some();
        let job = Job { ticket, call, payload, terms, done, overdue: false, begun: false };
        match &mut self.state {
            Some(state) => state.submit(job, self.finished),
            None => {
                job.done.complete(Err(TaskError::in_a_copy()));
            }
        }
    }
}

/// Whether all is over.
#[derive(Default)]
struct End {
    ended: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl End {
    /// False = it was before.
    fn set(&self) -> bool {
        let _lock = self.lock.lock();
        self.changed.notify_all();
        !self.ended.swap(true, SeqCst)
    }
}

impl Seat for End {
    fn is_done(&self) -> bool {
        self.ended.load(Acquire)
    }

    fn sleep(&self, until: Deadline) {
        let mut lock = self.lock.lock();
        if !self.is_done() {
            sleep_once(&self.changed, &mut lock, until.min(Deadline::after(BACKSTOP)));
        }
    }
}

/// How long a pool that is dropped waits for its workers, which were killed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A pool's engine and thread, which end with it.
pub(crate) struct Crew {
    pub(crate) engine: Arc<Engine>,
    thread: Option<JoinHandle<()>>,
    /// Nobody waits for it: its thread and workers end by themselves, when they have nothing left to do.
    left_alone: AtomicBool,
}

impl Crew {
    pub(crate) fn start(setup: Setup) -> Result<Crew, PoolError> {
        let (engine, thread) = Engine::start(setup)?;
        Ok(Crew { engine, thread: Some(thread), left_alone: AtomicBool::new(false) })
    }

    /// It is closed, and its drop neither terminates it nor waits.
    pub(crate) fn leave_alone(&self) {
        self.engine.close();
        self.left_alone.store(true, Relaxed);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.engine.is_copy() {
            return std::mem::forget(self.thread.take());
        }
        if *self.left_alone.get_mut() {
            return;
        }
        self.engine.terminate();
        let Some(thread) = self.thread.take() else { return };
        let in_callback = thread.thread().id() == thread::current().id();
        if !in_callback && self.engine.join(Deadline::after(FAREWELL)) {
            let _ = thread.join(); // no callback keeps it: all have returned
        }
    }
}

//! One result, from the promise of it to its taking.
//!
//! | state     | what is there       | goes to                                                    |
//! |-----------|---------------------|------------------------------------------------------------|
//! | PENDING   | nothing             | RUNNING by `start`, CANCELLED by `cancel`, FINISHED        |
//! | RUNNING   | nothing             | FINISHED                                                   |
//! | FINISHED  | the result or error | stays; a result is taken once                              |
//! | CANCELLED | the error           | stays                                                      |
//!
//! The state is changed under the lock, and read without it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, LazyLock};
use std::task::Waker;

use ipc_sync::{Deadline, Patience, forks};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::TaskError;
use super::gathering::Gathering;
use crate::process::is_leaving;

pub(crate) const PENDING: u32 = 0;
pub(crate) const RUNNING: u32 = 1;
pub(crate) const FINISHED: u32 = 2;
pub(crate) const CANCELLED: u32 = 3;

/// Who runs the task, and can do something for whoever waits for its result.
pub(crate) trait Helper: Send + Sync {
    /// Called again and again by a thread that waits, until `seat.is_done()` or the time is up: it works for the result,
    /// or sleeps in `seat.sleep`, or both. It may return early.
    fn help(&self, seat: &dyn Seat, until: Deadline);

    /// Asked by `cancel` for a task that was not started: whether it never will be, if the cell is cancelled now. No lock
    /// of the cell is held. Whoever recalls a task settles it, or drops its promise, which cancels the cell, and wakes
    /// those who sleep in `help` elsewhere than in their seat.
    fn recall(&self, _ticket: u64) -> bool {
        true
    }

    /// Whether a task that was not started by its promise runs all the same: in another process.
    fn has_begun(&self, _ticket: u64) -> bool {
        false
    }
}

/// Where somebody sleeps who waits for one result.
pub(crate) trait Seat: Send + Sync {
    fn is_done(&self) -> bool;

    /// Sleeps until the result is there or the time is up.
    fn sleep(&self, until: Deadline);
}

/// What is kept until the result is there; `None` = nobody would look at it any more.
pub(crate) type Callback = Box<dyn FnOnce() -> Option<Call> + Send>;

/// A callback that keeps alive what it is called with.
pub(crate) type Call = Box<dyn FnOnce()>;

pub(crate) struct Cell<R> {
    state: AtomicU32,
    inner: Mutex<Inner<R>>,
    changed: Condvar,
    /// Who runs it, and what it calls the task.
    helper: Option<(Arc<dyn Helper>, u64)>,
    /// In a copy of this process by fork nobody will settle it.
    forks: u32,
}

struct Inner<R> {
    /// `None` = not there yet, or taken.
    outcome: Option<Result<R, TaskError>>,
    /// Of the last poll: only that one counts.
    waker: Option<Waker>,
    /// Those who wait for many, and what they call this one.
    watchers: Vec<(Arc<Gathering>, usize)>,
    callbacks: VecDeque<Callback>,
    /// Somebody runs the callbacks, and will run those that are added meanwhile.
    calling: bool,
}

thread_local! {
    /// What is to be called when the callback that this thread runs has returned; `None` = it runs none. Callbacks do not
    /// nest: one that waits for a result settles others meanwhile, whose callbacks may wait too, without end.
    static LATER: RefCell<Option<VecDeque<Call>>> = const { RefCell::new(None) };
}

/// Whether this thread runs a callback: what waits for the end of all callbacks would wait for itself.
pub(crate) fn is_calling_back() -> bool {
    LATER.with_borrow(Option::is_some)
}

/// Calls `callback` now, or when the one that this thread runs has returned.
fn call(callback: Call) {
    let mut next = LATER.with_borrow_mut(|later| match later {
        Some(later) => {
            later.push_back(callback);
            None
        }
        None => {
            *later = Some(VecDeque::new());
            Some(callback)
        }
    });
    while let Some(callback) = next {
        // The panic itself was reported by the hook, with its text and place.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
            mem::forget(payload); // its drop might panic again
            eprintln!("multiprocess: that was a callback of a task; the other callbacks go on");
        }
        next = LATER.with_borrow_mut(|later| {
            let next = later.as_mut().and_then(VecDeque::pop_front);
            if next.is_none() {
                *later = None;
            }
            next
        });
    }
}

/// What this process has learned about its waits for results.
static PATIENCE: LazyLock<Patience> = LazyLock::new(Patience::default);

impl<R> Cell<R> {
    pub(crate) fn new(helper: Option<(Arc<dyn Helper>, u64)>) -> Cell<R> {
        let inner = Inner {
            outcome: None,
            waker: None,
            watchers: Vec::new(),
            callbacks: VecDeque::new(),
            calling: false,
        };
        let (inner, changed) = (Mutex::new(inner), Condvar::new());
        Cell { state: AtomicU32::new(PENDING), inner, changed, helper, forks: forks() }
    }

    pub(crate) fn state(&self) -> u32 {
        self.state.load(Acquire)
    }

    pub(crate) fn is_running(&self) -> bool {
        match (self.state(), &self.helper) {
            _ if self.is_lost() => false,
            (PENDING, Some((helper, ticket))) => helper.has_begun(*ticket) && self.state() == PENDING,
            (state, _) => state == RUNNING,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.state() >= FINISHED
    }

    /// Whether this is a copy that a forked process has, and that stays as it is. Its lock may be held for ever.
    pub(crate) fn is_lost(&self) -> bool {
        self.forks != forks() && !self.is_settled()
    }

    /// PENDING to RUNNING; false = it was cancelled.
    pub(crate) fn start(&self) -> bool {
        let _inner = self.inner.lock();
        if self.state() == PENDING {
            self.state.store(RUNNING, Release);
        }
        self.state() == RUNNING
    }

    pub(crate) fn helper(&self) -> Option<&Arc<dyn Helper>> {
        self.helper.as_ref().map(|(helper, _)| helper)
    }

    /// Gives the cell its result; one that has one keeps it.
    pub(crate) fn settle(&self, outcome: Result<R, TaskError>) {
        let inner = self.inner.lock();
        if !self.is_settled() {
            self.store(inner, outcome);
        }
    }

    /// PENDING to CANCELLED; true = it is cancelled now.
    pub(crate) fn cancel(&self) -> bool {
        if self.is_lost() {
            return false;
        }
        let recalled = |(helper, ticket): &(Arc<dyn Helper>, u64)| helper.recall(*ticket);
        if self.state() == PENDING && self.helper.as_ref().is_none_or(recalled) {
            self.cancel_now();
        }
        self.state() == CANCELLED
    }

    fn cancel_now(&self) {
        let inner = self.inner.lock();
        if self.state() == PENDING {
            self.store(inner, Err(TaskError::Cancelled));
        }
    }

    fn store(&self, mut inner: MutexGuard<'_, Inner<R>>, outcome: Result<R, TaskError>) {
        let cancelled = matches!(outcome, Err(TaskError::Cancelled));
        inner.outcome = Some(outcome);
        inner.calling = !inner.callbacks.is_empty();
        let (waker, watchers) = (inner.waker.take(), mem::take(&mut inner.watchers));
        let calling = inner.calling;
        self.state.store(if cancelled { CANCELLED } else { FINISHED }, Release);
        drop(inner);
        self.changed.notify_all();
        waker.into_iter().for_each(Waker::wake);
        watchers.into_iter().for_each(|(gathering, index)| gathering.add(index));
        if calling {
            self.call_back();
        }
    }

    /// Runs the callbacks in order, those included that are added meanwhile. None at the program's exit: what they would
    /// be told is that exit itself.
    fn call_back(&self) {
        while let Some(callback) = self.next_callback() {
            if is_leaving() {
                continue;
            }
            if let Some(ready) = callback() {
                call(ready);
            }
        }
    }

    fn next_callback(&self) -> Option<Callback> {
        let mut inner = self.inner.lock();
        let next = inner.callbacks.pop_front();
        inner.calling = next.is_some();
        next
    }

    /// Keeps `callback` until the cell is settled; runs it now if that is past.
    pub(crate) fn add_callback(&self, callback: Callback) {
        if self.is_lost() {
            return;
        }
        let mut inner = self.inner.lock();
        inner.callbacks.push_back(callback);
        if self.is_settled() && !inner.calling {
            inner.calling = true;
            drop(inner);
            self.call_back();
        }
    }

    /// Has `waker` woken when the cell is settled; false = it is.
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        if self.is_lost() {
            return false;
        }
        let mut inner = self.inner.lock();
        if self.is_settled() {
            return false;
        }
        match &mut inner.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        true
    }

    /// Tells `gathering` once the cell is settled, or now if it is.
    pub(crate) fn watch(&self, gathering: &Arc<Gathering>, index: usize) {
        if self.is_lost() {
            return gathering.add(index);
        }
        let mut inner = self.inner.lock();
        if self.is_settled() {
            drop(inner);
            gathering.add(index);
        } else {
            inner.watchers.push((Arc::clone(gathering), index));
        }
    }

    /// Takes that back.
    pub(crate) fn unwatch(&self, gathering: &Arc<Gathering>) {
        if self.is_lost() {
            return;
        }
        self.inner.lock().watchers.retain(|(known, _)| !Arc::ptr_eq(known, gathering));
    }

    /// The outcome of a settled cell. An error stays for those who ask later.
    pub(crate) fn take(&self) -> Result<R, TaskError> {
        if self.is_lost() {
            return Err(TaskError::in_a_copy());
        }
        let mut inner = self.inner.lock();
        match &inner.outcome {
            Some(Err(error)) => Err(error.clone()),
            _ => inner.outcome.take().unwrap_or(Err(TaskError::Taken)),
        }
    }

    /// The error of a settled cell, if it has one.
    pub(crate) fn error(&self) -> Option<TaskError> {
        if self.is_lost() {
            return Some(TaskError::in_a_copy());
        }
        self.inner.lock().outcome.as_ref()?.as_ref().err().cloned()
    }
}

impl<R: Send> Cell<R> {
    /// Waits until the cell is settled, or nobody can; false = the time was up before.
    pub(crate) fn wait(&self, until: Deadline) -> bool {
        self.is_settled() || self.is_lost() || wait_in(self, self.helper(), until)
    }
}

/// Waits until the seat has what one waits for in it; false = the time was up before.
#[cold]
pub(crate) fn wait_in(seat: &dyn Seat, helper: Option<&Arc<dyn Helper>>, until: Deadline) -> bool {
    if seat.is_done() || until.has_passed() {
        return seat.is_done();
    }
    let sleep = || {
        match helper {
            Some(helper) => helper.help(seat, until),
            None => seat.sleep(until),
        }
        !until.has_passed()
    };
    match helper {
        // How long to stay awake is the helper's business.
        Some(_) => while !seat.is_done() && sleep() {},
        None => return PATIENCE.wait(u32::MAX, || seat.is_done(), sleep),
    }
    seat.is_done()
}

impl<R: Send> Seat for Cell<R> {
    fn is_done(&self) -> bool {
        self.is_settled()
    }

    fn sleep(&self, until: Deadline) {
        let mut inner = self.inner.lock();
        while !self.is_settled() && sleep_once(&self.changed, &mut inner, until) {}
    }
}

/// Sleeps until somebody notifies; false = the time is up.
pub(crate) fn sleep_once<T>(changed: &Condvar, guard: &mut MutexGuard<'_, T>, until: Deadline) -> bool {
    match until.remaining() {
        Some(left) if left.is_zero() => return false,
        Some(left) => drop(changed.wait_for(guard, left)),
        None => changed.wait(guard),
    }
    true
}

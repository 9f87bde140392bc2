//! `Future`: the side of a result that waits for it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::cell::{CANCELLED, Cell, FINISHED};
use super::error::{NotDone, TaskError, TryResultError};

/// A result that is not there yet: of a task given to an [`Executor`](crate::Executor) or a pool.
///
/// Dropping it does nothing to the task, which goes on. It is a [`std::future::Future`] as well, so any async runtime
/// can wait for it; nothing in it blocks while it is polled.
///
/// The result is handed out once, by value: whoever asks again gets [`TaskError::Taken`]. An error stays, and
/// everybody gets it.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Executor, TaskError};
///
/// let executor = Executor::threads(1)?;
/// let six = executor.submit(|n: u32| n * 2, 3);
/// six.add_done_callback(|six| println!("{six:?}")); // Future(finished)
/// assert_eq!(six.exception(), None);
/// assert_eq!(six.result(), Ok(6));
/// assert_eq!(six.result(), Err(TaskError::Taken));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "concurrent.futures.Future")]
#[doc(alias = "AsyncResult")]
#[must_use = "the result of the task, and how it failed, is here only"]
pub struct Future<R> {
    cell: Arc<Cell<R>>,
}

impl<R> Future<R> {
    pub(crate) fn new(cell: Arc<Cell<R>>) -> Future<R> {
        Future { cell }
    }

    /// Cancels the task unless it was started; true = it is cancelled, and never runs. Does not wait.
    pub fn cancel(&self) -> bool {
        self.cell.cancel()
    }

    /// Whether it was cancelled before it started.
    pub fn cancelled(&self) -> bool {
        self.cell.state() == CANCELLED
    }

    /// Whether it was started and is not done: it cannot be cancelled any more.
    pub fn running(&self) -> bool {
        self.cell.is_running()
    }

    /// Whether it has a result or an error, or was cancelled.
    pub fn done(&self) -> bool {
        self.cell.is_settled()
    }

    /// Settles it without a promise: nobody took the task.
    pub(crate) fn refuse(&self, error: TaskError) {
        self.cell.settle(Err(error));
    }

    fn take(&self, done: bool) -> Result<R, TryResultError> {
        if done { Ok(self.cell.take()?) } else { Err(TryResultError::NotDone) }
    }

    /// The result, if it is there now.
    ///
    /// # Errors
    ///
    /// [`TryResultError::NotDone`], or as [`result`](Future::result).
    pub fn try_result(&self) -> Result<R, TryResultError> {
        self.take(self.done())
    }

    /// The error, if the task is done and has one. Takes nothing.
    ///
    /// # Errors
    ///
    /// [`NotDone`].
    pub fn try_exception(&self) -> Result<Option<TaskError>, NotDone> {
        if self.done() || self.cell.is_lost() { Ok(self.cell.error()) } else { Err(NotDone) }
    }
}

impl<R: Send + 'static> Future<R> {
    /// Waits for the result, and takes it.
    ///
    /// Blocks until the task is done; a worker that dies makes it done. In a forked copy of this process, which has no
    /// workers, what was not done is an error at once.
    ///
    /// # Errors
    ///
    /// What became of the task instead; [`TaskError::Taken`] if an earlier call took its result.
    pub fn result(&self) -> Result<R, TaskError> {
        self.cell.wait(Deadline::NEVER);
        self.cell.take()
    }

    /// The same, and waits so long at most.
    ///
    /// # Errors
    ///
    /// [`TryResultError::NotDone`] if the time was up, or as [`result`](Future::result).
    pub fn result_timeout(&self, timeout: Duration) -> Result<R, TryResultError> {
        self.take(self.cell.wait(Deadline::after(timeout)))
    }

    /// The same, and waits until then at most.
    ///
    /// # Errors
    ///
    /// As [`result_timeout`](Future::result_timeout).
    pub fn result_deadline(&self, deadline: Instant) -> Result<R, TryResultError> {
        self.take(self.cell.wait(Deadline::at(deadline)))
    }

    /// Waits until the task is done; false = the time was up before.
    pub(crate) fn wait_until(&self, until: Deadline) -> bool {
        self.cell.wait(until)
    }

    pub(crate) fn cell(&self) -> &Arc<Cell<R>> {
        &self.cell
    }

    /// Waits until the task is done; its error, if it has one. Takes nothing.
    pub fn exception(&self) -> Option<TaskError> {
        self.cell.wait(Deadline::NEVER);
        self.cell.error()
    }

    /// The same, and waits so long at most.
    ///
    /// # Errors
    ///
    /// [`NotDone`] if the time was up.
    pub fn exception_timeout(&self, timeout: Duration) -> Result<Option<TaskError>, NotDone> {
        self.cell.wait(Deadline::after(timeout));
        self.try_exception()
    }

    /// The same, and waits until then at most.
    ///
    /// # Errors
    ///
    /// [`NotDone`] if the time was up.
    pub fn exception_deadline(&self, deadline: Instant) -> Result<Option<TaskError>, NotDone> {
        self.cell.wait(Deadline::at(deadline));
        self.try_exception()
    }

    /// Has `callback` called once the task is done or cancelled: in the thread that finds that out, or here and now if
    /// it is past. Callbacks run in the order they were added, and a panic in one is reported on standard error and stops no
    /// other.
    ///
    /// They run where results are collected: one that blocks keeps back the others. At the exit of the program none is
    /// called any more.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<R>) + Send + 'static) {
        let future = Arc::downgrade(&self.cell);
        self.cell.add_callback(Box::new(move || {
            // Whoever settles the cell, or adds to a settled one, has it.
            let future = Future { cell: future.upgrade()? };
            Some(Box::new(move || callback(&future)))
        }));
    }
}

impl<R> std::future::Future for Future<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.done() && self.cell.register(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.cell.take())
    }
}

impl<R> fmt::Debug for Future<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.cell.state() {
            FINISHED => "finished",
            CANCELLED => "cancelled",
            _ if self.running() => "running",
            _ => "pending",
        };
        f.debug_tuple("Future").field(&format_args!("{state}")).finish()
    }
}

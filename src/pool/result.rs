//! What comes of one task, for whoever gave it to a pool.

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::job::Completion;
use super::payload::Payload;
use super::piece::Piece;
use super::task::Outcome;
use crate::executor::{Future, NotDone, Promise, TaskError, TryResultError};
use crate::process::catch;

/// A result that is not there yet; from [`Pool::apply_async`](crate::Pool::apply_async) and
/// [`Pool::map_async`](crate::Pool::map_async).
///
/// Dropping it does nothing to the task, which goes on. A worker that dies, a pool that is terminated or dropped, all
/// make it ready, with an error: nobody waits for ever. It is a [`Future`] in other words, and can be made one.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::Pool;
///
/// let pool = Pool::new(2)?;
/// let sum = pool.apply_async(|(a, b): (u32, u32)| a + b, (20, 22));
/// assert_eq!(sum.get()?, 42);
/// assert!(sum.ready() && sum.successful() == Ok(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.pool.AsyncResult")]
#[must_use = "the result of the task, and how it failed, is here only"]
pub struct AsyncResult<R>(Future<R>);

impl<R: Send + 'static> AsyncResult<R> {
    /// Waits for the result, and takes it. While it waits, this thread does the pool's work.
    ///
    /// # Errors
    ///
    /// What became of the task instead; [`TaskError::Taken`] if an earlier call took its result.
    pub fn get(&self) -> Result<R, TaskError> {
        self.0.result()
    }

    /// The result, if it is there now.
    ///
    /// # Errors
    ///
    /// [`TryResultError::NotDone`], or as [`get`](AsyncResult::get).
    pub fn try_get(&self) -> Result<R, TryResultError> {
        self.0.try_result()
    }

    /// As [`get`](AsyncResult::get), but waits so long at most.
    ///
    /// # Errors
    ///
    /// [`TryResultError::NotDone`] if the time was up: it can be asked again. Else as [`get`](AsyncResult::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TryResultError> {
        self.0.result_timeout(timeout)
    }

    /// As [`get`](AsyncResult::get), but waits until then at most.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](AsyncResult::get_timeout).
    pub fn get_deadline(&self, deadline: Instant) -> Result<R, TryResultError> {
        self.0.result_deadline(deadline)
    }

    /// Waits until the task is done, and takes nothing.
    pub fn wait(&self) {
        self.0.exception();
    }

    /// Waits until the task is done, so long at most; whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.exception_timeout(timeout).is_ok()
    }

    /// Waits until the task is done, until then at most; whether it is.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.0.exception_deadline(deadline).is_ok()
    }
}

impl<R> AsyncResult<R> {
    pub(super) fn new(future: Future<R>) -> AsyncResult<R> {
        AsyncResult(future)
    }

    /// Whether the task is done: it has a result or an error, or was cancelled. Does not wait.
    pub fn ready(&self) -> bool {
        self.0.done()
    }

    /// Whether the task has a result and no error. Does not wait.
    ///
    /// # Errors
    ///
    /// It is not done.
    pub fn successful(&self) -> Result<bool, NotDone> {
        Ok(self.0.try_exception()?.is_none())
    }

    /// Cancels the task unless a worker has begun it; true = it is cancelled, and never runs. Does not wait.
    ///
    /// All tasks of a [`map_async`](crate::Pool::map_async) are cancelled, or none.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }

    /// The same result as a [`Future`], which has callbacks, and which an async runtime can wait for.
    pub fn into_future(self) -> Future<R> {
        self.0
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncResult").field(&self.0).finish()
    }
}

/// The completion of a task that has a promise.
pub(super) struct One<R>(pub(super) Promise<R>);

impl<R: DeserializeOwned + Send + 'static> Completion for One<R> {
    fn complete(self: Box<Self>, outcome: Result<Outcome, TaskError>) {
        self.0.finish(outcome.and_then(|outcome| match outcome {
            Outcome::Returned(payload) | Outcome::Mixed(payload, _) => open(payload),
            Outcome::Failed(failure) => Err(failure.into()),
        }));
    }
}

/// The completion of a chunk with so many arguments, each of which has a result of its own.
pub(super) struct Each<R>(pub(super) Promise<Vec<Result<R, TaskError>>>, pub(super) usize);

impl<R: DeserializeOwned + Send + 'static> Completion for Each<R> {
    fn complete(self: Box<Self>, outcome: Result<Outcome, TaskError>) {
        let Each(promise, length) = *self;
        promise.finish(outcome.map(|outcome| Piece::of(Ok(outcome), length).collect()));
    }
}

/// The result in a payload. Its types may panic while they are read.
pub(super) fn open<R: DeserializeOwned>(payload: Payload) -> Result<R, TaskError> {
    match catch(|| payload.open()) {
        Ok(result) => result.map_err(|message| TaskError::Result { message }),
        Err(panic) => {
            Err(TaskError::Result { message: format!("panic while it was read: {}", panic.message) })
        }
    }
}

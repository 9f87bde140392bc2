//! `JoinableQueue`: a queue of a server that tells when everything that was put is also done.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::talk::{in_range, in_time, nothing, time};
use super::{Handle, Queue, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// A queue whose items are unfinished until whoever took them says [`task_done`](JoinableQueue::task_done);
/// [`join`](JoinableQueue::join) waits for that. Everything else is as with [`Queue`], to which it derefs.
///
/// Unfinished is what is in the queue, and what living processes have taken without saying `task_done`. So a consumer that dies
/// holds up no `join`: what it had taken counts no longer, and [`abandoned`](JoinableQueue::abandoned) tells how much that was.
/// Taken is counted for each process, all its threads together; `task_done` for an item that another process took is an
/// error here, which it is not in Python.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let queue = manager.joinable_queue(None)?;
/// let worker = queue.clone(); // in this process or another
/// std::thread::spawn(move || {
///     while let Ok(job) = worker.get() {
///         let _: u32 = job;
///         worker.task_done().unwrap();
///     }
/// });
/// for job in 0..100 {
///     queue.put(job)?;
/// }
/// queue.join()?;
/// assert_eq!(queue.unfinished()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.JoinableQueue")]
pub struct JoinableQueue<T> {
    /// Everything of a queue, and its handle.
    queue: Queue<T>,
}

proxy!(JoinableQueue<T>, Kind::JoinableQueue);

impl<T> JoinableQueue<T> {
    fn of(handle: Handle) -> JoinableQueue<T> {
        JoinableQueue { queue: Queue::of(handle) }
    }

    /// # Panics
    ///
    /// The bound is 0.
    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        name: Option<&str>,
        bound: Option<usize>,
    ) -> Result<JoinableQueue<T>, CallError> {
        Ok(JoinableQueue { queue: Queue::create_as(Kind::JoinableQueue, client, name, bound)? })
    }

    /// Says that one item which this process took is done. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`]: this process has taken no item that is not done.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        let done = self.handle.call(Op::QueueTaskDone, nothing, in_range);
        if done.map_err(TaskDoneError::Call)? { Ok(()) } else { Err(TaskDoneError::TooMany) }
    }

    /// Waits until nothing is unfinished.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn join(&self) -> Result<(), CallError> {
        self.join_until(Deadline::NEVER).map(|_| ())
    }

    /// As [`join`](JoinableQueue::join), for `timeout` at most; if the server is stopped, a quarter of a second longer. True =
    /// nothing is unfinished.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the server did not answer; else see [`CallError`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, CallError> {
        self.join_until(Deadline::after(timeout))
    }

    /// As [`join_timeout`](JoinableQueue::join_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](JoinableQueue::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<bool, CallError> {
        self.join_until(Deadline::at(deadline))
    }

    /// Items that are in the queue, or taken by living processes and not done.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn unfinished(&self) -> Result<usize, CallError> {
        Ok(self.state()?.unfinished)
    }

    /// Items that the dead had taken and not done.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn abandoned(&self) -> Result<usize, CallError> {
        Ok(self.state()?.abandoned)
    }

    fn join_until(&self, deadline: Deadline) -> Result<bool, CallError> {
        self.handle.wait(Op::QueueJoin, deadline, time(deadline), in_time)
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.queue
    }
}

/// Why no item was marked as done.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process has taken no item that is not done.
    TooMany,
    /// The server could not be asked.
    Call(CallError),
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskDoneError::TooMany => {
                f.write_str("task_done was called more often than this process has taken items")
            }
            TaskDoneError::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskDoneError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskDoneError::Call(error) => Some(error),
            TaskDoneError::TooMany => None,
        }
    }
}

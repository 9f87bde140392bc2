//! Why a task has no result.

use std::fmt;
use std::time::Duration;

use crate::process::ExitStatus;

/// Why a task has no result. The others go on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function panicked.
    Panicked {
        /// The text of the panic.
        message: String,
        /// File, line and column; empty if nobody knows.
        location: String,
    },
    /// The process that ran it ended: a signal killed it, or the function exited.
    WorkerDied {
        /// Which process it was.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// It was cancelled before it was started.
    Cancelled,
    /// It ran longer than it may; its worker was killed.
    TimeLimit {
        /// How long it may run.
        limit: Duration,
    },
    /// Its arguments could not be serialized here, or deserialized by the worker. It did not run.
    Arguments {
        /// Why.
        message: String,
    },
    /// Its function returned, and the result could not be serialized by the worker, or deserialized here.
    Result {
        /// Why.
        message: String,
    },
    /// Its function lies in a shared library, where a worker process cannot find it.
    NotInExecutable,
    /// There is no worker that could run it: none could be started.
    NoWorker {
        /// Why.
        message: String,
    },
    /// What prepares each worker failed.
    Initializer {
        /// Why.
        message: String,
    },
    /// It came after the pool or executor was closed.
    Closed,
    /// The pool or executor was terminated before the task was done.
    Terminated,
    /// It had a result, and an earlier call took it.
    Taken,
}

impl TaskError {
    /// Of a task whose workers belong to the process that this one was copied from.
    pub(crate) fn in_a_copy() -> TaskError {
        let message = "this process is a forked copy of the one that has them".to_owned();
        TaskError::NoWorker { message }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked { message, location } if location.is_empty() => {
                write!(f, "task panicked: {message}")
            }
            TaskError::Panicked { message, location } => write!(f, "task panicked at {location}: {message}"),
            TaskError::WorkerDied { pid, status } => {
                write!(f, "worker process {pid} ended while it ran the task, with {status}")
            }
            TaskError::Cancelled => f.write_str("task was cancelled"),
            TaskError::TimeLimit { limit } => write!(f, "task ran longer than {limit:?}"),
            TaskError::Arguments { message } => write!(f, "arguments of the task: {message}"),
            TaskError::Result { message } => write!(f, "result of the task: {message}"),
            TaskError::NotInExecutable => f.write_str("function of the task is not in the main executable"),
            TaskError::NoWorker { message } => write!(f, "no worker could be started: {message}"),
            TaskError::Initializer { message } => write!(f, "initializer of a worker failed: {message}"),
            TaskError::Closed => f.write_str("task came after the close"),
            TaskError::Terminated => f.write_str("workers were terminated before the task was done"),
            TaskError::Taken => f.write_str("result was taken already"),
        }
    }
}

impl std::error::Error for TaskError {}

/// The task is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDone;

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task is not done yet")
    }
}

impl std::error::Error for NotDone {}

/// Why a result was not there in time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryResultError {
    /// The task is not done yet. Its result can be asked for again.
    NotDone,
    /// What a plain `result` would have answered too.
    Failed(TaskError),
}

impl fmt::Display for TryResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryResultError::NotDone => NotDone.fmt(f),
            TryResultError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryResultError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryResultError::NotDone => None,
            TryResultError::Failed(error) => Some(error),
        }
    }
}

impl From<TaskError> for TryResultError {
    fn from(error: TaskError) -> Self {
        TryResultError::Failed(error)
    }
}

impl From<NotDone> for TryResultError {
    fn from(_: NotDone) -> Self {
        TryResultError::NotDone
    }
}

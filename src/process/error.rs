//! Why a process was not started, or has no result.

use std::fmt;
use std::io;

use ipc_pipe::{PipeError, RecvError, SendError};
use ipc_sync::RegistryError;

use super::status::ExitStatus;

/// A process was not started. The arguments are still here.
pub struct SpawnError<A> {
    reason: SpawnFailure,
    args: A,
}

impl<A> SpawnError<A> {
    pub(crate) fn new(reason: SpawnFailure, args: A) -> SpawnError<A> {
        SpawnError { reason, args }
    }

    /// Why.
    pub fn reason(&self) -> &SpawnFailure {
        &self.reason
    }

    pub(crate) fn into_reason(self) -> SpawnFailure {
        self.reason
    }

    /// The arguments back. Pipe ends among them may have moved to a child that died at once.
    pub fn into_args(self) -> A {
        self.args
    }
}

impl<A> fmt::Debug for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<A> fmt::Display for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process was not started: {}", self.reason)
    }
}

impl<A> std::error::Error for SpawnError<A> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}

/// Why a process was not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnFailure {
    /// [`init`](crate::init) was not called before: each child would start children of its own without end.
    NotInitialized,
    /// This process is a daemon, which may not have children.
    Daemon,
    /// The function lies in a shared library, where a child cannot find it.
    NotInExecutable,
    /// The arguments were not sent: they cannot be serialized, or are too large.
    Arguments(SendError),
    /// The process ended before it had read its arguments.
    Died {
        /// How it ended.
        status: ExitStatus,
    },
    /// The connection to the process could not be made.
    Pipe(PipeError),
    /// This process has no registry that it could share.
    Registry(RegistryError),
    /// The kernel refused: too many processes or descriptors, no memory, no /proc. Also a name or a variable with a
    /// NUL in it.
    Io(io::Error),
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnFailure::NotInitialized => {
                f.write_str("multiprocess::init() must be the first line of main")
            }
            SpawnFailure::Daemon => f.write_str("a daemon may not have children"),
            SpawnFailure::NotInExecutable => f.write_str("its function is not in the main executable"),
            SpawnFailure::Arguments(error) => write!(f, "arguments: {error}"),
            SpawnFailure::Died { status } => {
                write!(f, "it ended before it had read its arguments, with {status}")
            }
            SpawnFailure::Pipe(error) => error.fmt(f),
            SpawnFailure::Registry(error) => error.fmt(f),
            SpawnFailure::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpawnFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SpawnFailure::NotInitialized
            | SpawnFailure::Daemon
            | SpawnFailure::NotInExecutable
            | SpawnFailure::Died { .. } => None,
            SpawnFailure::Arguments(error) => Some(error),
            SpawnFailure::Pipe(error) => Some(error),
            SpawnFailure::Registry(error) => Some(error),
            SpawnFailure::Io(error) => Some(error),
        }
    }
}

impl From<PipeError> for SpawnFailure {
    fn from(error: PipeError) -> Self {
        SpawnFailure::Pipe(error)
    }
}

impl From<RegistryError> for SpawnFailure {
    fn from(error: RegistryError) -> Self {
        SpawnFailure::Registry(error)
    }
}

impl From<io::Error> for SpawnFailure {
    fn from(error: io::Error) -> Self {
        SpawnFailure::Io(error)
    }
}

/// Why a process has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// Its function panicked.
    Panicked {
        /// The text of the panic.
        message: String,
        /// File, line and column; empty if nobody knows.
        location: String,
    },
    /// It ended without a result: a signal killed it, or it exited in its function, or its `main` does not begin with
    /// [`init`](crate::init).
    Died {
        /// How it ended.
        status: ExitStatus,
    },
    /// Its function was not called.
    NotStarted {
        /// Why, in the child's words: the arguments could not be deserialized, mostly.
        message: String,
    },
    /// Its function returned, and the result could not be sent.
    ResultRefused {
        /// Why, in the child's words.
        message: String,
    },
    /// The result came and could not be read here.
    Result(RecvError),
    /// An earlier call took the result.
    AlreadyJoined,
    /// Only the process that spawned it can wait for it, and this one is a forked copy of that.
    NotParent,
    /// The kernel refused to wait.
    Io(io::Error),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked { message, location } if location.is_empty() => {
                write!(f, "process panicked: {message}")
            }
            JoinError::Panicked { message, location } => {
                write!(f, "process panicked at {location}: {message}")
            }
            JoinError::Died { status } => write!(f, "process ended without a result, with {status}"),
            JoinError::NotStarted { message } => write!(f, "process did not call its function: {message}"),
            JoinError::ResultRefused { message } => write!(f, "process could not send its result: {message}"),
            JoinError::Result(error) => write!(f, "result of the process: {error}"),
            JoinError::AlreadyJoined => f.write_str("process was joined already"),
            JoinError::NotParent => f.write_str("only the process that spawned it can join it"),
            JoinError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::Result(error) => Some(error),
            JoinError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a process was not joined in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryJoinError {
    /// It still runs. It can be joined later.
    StillRunning,
    /// What a plain [`join`](crate::Process::join) would have answered too.
    Failed(JoinError),
}

impl fmt::Display for TryJoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryJoinError::StillRunning => f.write_str("process still runs"),
            TryJoinError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryJoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryJoinError::StillRunning => None,
            TryJoinError::Failed(error) => Some(error),
        }
    }
}

//! Why there is no pool, and why one was not joined.

use std::fmt;
use std::io;

use ipc_pipe::PipeError;
use ipc_sync::RegistryError;

use crate::process::SpawnFailure;

/// Why a pool was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// It would have no worker.
    NoWorkers,
    /// A worker could not be started. Those that could are gone.
    Start(SpawnFailure),
    /// Workers cannot be forked: a pool has a thread of its own.
    Fork,
    /// The initializer lies in a shared library, where a worker cannot find it.
    NotInExecutable,
    /// The arguments of the initializer cannot be serialized.
    Arguments {
        /// Why.
        message: String,
    },
    /// A worker's connection could not be made.
    Pipe(PipeError),
    /// This process has no registry that it could share.
    Registry(RegistryError),
    /// No memory, no descriptor or no thread.
    Io(io::Error),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoWorkers => f.write_str("a pool needs a worker"),
            PoolError::Start(error) => write!(f, "a worker was not started: {error}"),
            PoolError::Fork => f.write_str("workers of a pool cannot be forked"),
            PoolError::NotInExecutable => f.write_str("the initializer is not in the main executable"),
            PoolError::Arguments { message } => write!(f, "arguments of the initializer: {message}"),
            PoolError::Pipe(error) => error.fmt(f),
            PoolError::Registry(error) => error.fmt(f),
            PoolError::Io(error) => write!(f, "a new pool: {error}"),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PoolError::Start(error) => Some(error),
            PoolError::Pipe(error) => Some(error),
            PoolError::Registry(error) => Some(error),
            PoolError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a pool was not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolJoinError {
    /// It was neither closed nor terminated, so it would never end.
    Open,
    /// It has tasks still, or workers that have not ended yet. It can be joined later.
    StillRunning,
}

impl fmt::Display for PoolJoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolJoinError::Open => "a pool must be closed or terminated before it is joined",
            PoolJoinError::StillRunning => "pool still runs",
        })
    }
}

impl std::error::Error for PoolJoinError {}

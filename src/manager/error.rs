//! Why a call to a server failed.

use std::fmt;
use std::io;

use ipc_pipe::ConnectError;
use ipc_pipe::codec::{DecodeError, EncodeError};

use super::message::{Answer, Budget, Kind, Malformed, Reader};

/// Why a call of a proxy has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The server has ended, or let go of this process. Whether it did what was asked for is not known; the call is not
    /// repeated. The next call of a *named* object's proxy looks for a server at the same address.
    ServerDied,
    /// A server is to be looked for, and cannot be reached.
    Unreachable(ConnectError),
    /// The object went with its server. Another server is there now, but the object has no name by which it could have it.
    Unnamed,
    /// The server has nothing of that name: it was removed, or another server came and nobody made it there.
    NoSuchName {
        /// The name.
        name: Box<str>,
    },
    /// The object is gone, though its server is there.
    Gone,
    /// The name is that of an object of another kind.
    OtherKind {
        /// What it is.
        found: &'static str,
    },
    /// This process has used up what the server gives to one client.
    Exhausted(Budget),
    /// There is no element of that index.
    OutOfRange,
    /// What is stored there is no integer of the type that was to be added.
    NotThatInteger,
    /// The server does not answer; it is stopped, or has too much to do. Only for calls with a time limit.
    TimedOut,
    /// The value cannot be serialized.
    Encode(EncodeError),
    /// What is stored is not of the type that was asked for.
    Decode(DecodeError),
    /// The message is larger than the server takes.
    TooBig {
        /// Bytes of the message.
        size: usize,
        /// Bytes at most.
        max: usize,
    },
    /// The server could not do it.
    Failed(Box<str>),
    /// The connection could not be used: a limit of this process.
    Link(Box<dyn std::error::Error + Send + Sync>),
    /// What the server said makes no sense; it is another program, or another version of this one.
    Protocol,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::ServerDied => f.write_str("the server has ended"),
            CallError::Unreachable(error) => write!(f, "the server cannot be reached: {error}"),
            CallError::Unnamed => f.write_str("the object went with its server, and has no name there"),
            CallError::NoSuchName { name } => write!(f, "the server has nothing named {name:?}"),
            CallError::Gone => f.write_str("the object is gone"),
            CallError::OtherKind { found } => write!(f, "the object of that name is a {found}"),
            CallError::Exhausted(budget) => write!(f, "the server gives this process no more {budget}"),
            CallError::OutOfRange => f.write_str("index out of range"),
            CallError::NotThatInteger => f.write_str("what is stored is no integer of that type"),
            CallError::TimedOut => f.write_str("the server did not answer in time"),
            CallError::Encode(error) => error.fmt(f),
            CallError::Decode(error) => error.fmt(f),
            CallError::TooBig { size, max } => write!(f, "message of {size} bytes is larger than {max}"),
            CallError::Failed(why) => write!(f, "the server could not do it: {why}"),
            CallError::Link(error) => write!(f, "connection to the server: {error}"),
            CallError::Protocol => f.write_str("the server speaks another language"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Unreachable(error) => Some(error),
            CallError::Link(error) => Some(&**error),
            CallError::Encode(error) => Some(error),
            CallError::Decode(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Malformed> for CallError {
    #[cold]
    fn from(_: Malformed) -> CallError {
        CallError::Protocol
    }
}

impl From<EncodeError> for CallError {
    #[cold]
    fn from(error: EncodeError) -> CallError {
        CallError::Encode(error)
    }
}

impl From<DecodeError> for CallError {
    #[cold]
    fn from(error: DecodeError) -> CallError {
        CallError::Decode(error)
    }
}

impl CallError {
    /// What an answer means that the caller has no better word for.
    #[cold]
    pub(super) fn unexpected(answer: Answer, mut rest: Reader<'_>) -> CallError {
        match answer {
            Answer::Gone => CallError::Gone,
            Answer::TimedOut => CallError::TimedOut,
            Answer::OutOfRange => CallError::OutOfRange,
            Answer::NoSuchName => CallError::NoSuchName { name: "".into() },
            Answer::OtherKind => match rest.u8().ok().and_then(Kind::of) {
                Some(kind) => CallError::OtherKind { found: kind.word() },
                None => CallError::Protocol,
            },
            Answer::Exhausted => {
                rest.u8().ok().and_then(Budget::of).map_or(CallError::Protocol, CallError::Exhausted)
            }
            Answer::Failed => match rest.bytes() {
                Ok(why) => CallError::Failed(String::from_utf8_lossy(why).into()),
                Err(Malformed) => CallError::Protocol,
            },
            _ => CallError::Protocol,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Budget::Bytes => "memory for values",
            Budget::Objects => "objects",
            Budget::Waiting => "waiting calls",
            Budget::Links => "connections",
        })
    }
}

impl Kind {
    /// What people call it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Dict => "dict",
            Kind::List => "list",
            Kind::Namespace => "namespace",
            Kind::Value => "value",
            Kind::Array => "array",
            Kind::Queue => "queue",
            Kind::JoinableQueue => "joinable queue",
            Kind::Lock => "lock",
            Kind::RLock => "reentrant lock",
            Kind::Condition => "condition",
            Kind::Semaphore => "semaphore",
            Kind::Event => "event",
            Kind::Barrier => "barrier",
        }
    }
}

/// Why there is no server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ManagerError {
    /// Its process could not be started, or ended before it listened.
    Start(Box<dyn std::error::Error + Send + Sync>),
    /// It cannot listen at its address: somebody does already, or the kernel refused.
    Listen(io::Error),
    /// There is no connection to it.
    Connect(CallError),
    /// It served, and the kernel does not let it wait any more.
    Served(io::Error),
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManagerError::Start(error) => write!(f, "a server cannot be started: {error}"),
            ManagerError::Listen(error) => write!(f, "the server cannot listen: {error}"),
            ManagerError::Connect(error) => error.fmt(f),
            ManagerError::Served(error) => write!(f, "the server cannot go on: {error}"),
        }
    }
}

impl std::error::Error for ManagerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ManagerError::Start(error) => Some(&**error),
            ManagerError::Listen(error) | ManagerError::Served(error) => Some(error),
            ManagerError::Connect(error) => Some(error),
        }
    }
}

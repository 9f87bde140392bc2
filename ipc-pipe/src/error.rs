//! Why something did not work: one type per operation.

use std::fmt;
use std::io;

use ipc_shm::HeaderError;
use ipc_sync::RegistryError;

use crate::codec::{DecodeError, EncodeError};
use crate::half::{Unusable, fmt_in_use};
use crate::owner::Refused;
use crate::payload::Payload;

/// Why a pipe could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipeError {
    /// This process has no registry.
    Registry(RegistryError),
    /// No memory or no descriptor.
    Io(io::Error),
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PipeError::Registry(error) => error.fmt(f),
            PipeError::Io(error) => write!(f, "a new pipe: {error}"),
        }
    }
}

impl std::error::Error for PipeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PipeError::Registry(error) => Some(error),
            PipeError::Io(error) => Some(error),
        }
    }
}

/// Why descriptors are not one end of a pipe.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The segment is not that of a pipe, or of another registry of processes.
    Header(HeaderError),
    /// This process has no registry.
    Registry(RegistryError),
    /// The other descriptor is not the socket of a pipe.
    NotASocket,
    /// A pipe has the sides 0 and 1.
    NoSuchSide {
        /// What was asked for.
        side: u32,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Header(error) => write!(f, "memory of a pipe: {error}"),
            OpenError::Registry(error) => error.fmt(f),
            OpenError::NotASocket => f.write_str("the descriptor is not the socket of a pipe"),
            OpenError::NoSuchSide { side } => write!(f, "a pipe has no side {side}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Header(error) => Some(error),
            OpenError::Registry(error) => Some(error),
            OpenError::NotASocket | OpenError::NoSuchSide { .. } => None,
        }
    }
}

/// Why a message was not sent. Nothing of it was, except with [`SendError::Closed`], where nobody is left to read it.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The other end is gone, in all processes that had it.
    Closed,
    /// The value cannot be serialized.
    Encode(EncodeError),
    /// The message is larger than this end sends; see [`set_max_message`](crate::Sender::set_max_message).
    TooBig {
        /// Bytes of the message.
        size: usize,
        /// Bytes at most.
        max: usize,
    },
    /// The message has more descriptors than the kernel lets travel at once.
    TooManyHandles {
        /// Descriptors in the message.
        count: usize,
        /// Descriptors at most.
        max: usize,
    },
    /// The kernel refused to take the descriptors: too many are on their way already (ETOOMANYREFS), or no memory.
    Descriptors(io::Error),
    /// The memory for a payload that travels as a whole could not be mapped.
    Memory(io::Error),
    /// This thread has a [`Loan`](crate::Loan) of this end: send that first, or abandon it.
    OnLoan,
    /// This end was sent away in a message.
    Moved,
    /// A living process has this side of the pipe; this one has a copy of the end.
    InUse {
        /// Which one, as far as it is known.
        pid: Option<u32>,
    },
    /// This thread could not enter the registry.
    Registry(RegistryError),
    /// The memory of the pipe was written over.
    Corrupt,
    /// The socket of a [`Link`](crate::Link) failed.
    Io(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed => f.write_str("the other end of the pipe is closed"),
            SendError::Encode(error) => error.fmt(f),
            SendError::TooBig { size, max } => write!(f, "message of {size} bytes is larger than {max}"),
            SendError::TooManyHandles { count, max } => {
                write!(f, "message with {count} descriptors, {max} at most can travel at once")
            }
            SendError::Descriptors(error) => write!(f, "descriptors cannot be sent: {error}"),
            SendError::Memory(error) => write!(f, "memory of a payload: {error}"),
            SendError::OnLoan => Unusable::OnLoan.fmt(f),
            SendError::Moved => f.write_str("this end was sent away"),
            SendError::InUse { pid } => fmt_in_use(*pid, f),
            SendError::Registry(error) => error.fmt(f),
            SendError::Corrupt => f.write_str("the memory of the pipe is damaged"),
            SendError::Io(error) => write!(f, "socket: {error}"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Encode(error) => Some(error),
            SendError::Descriptors(error) | SendError::Memory(error) | SendError::Io(error) => Some(error),
            SendError::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Why no message was sent in time. Nothing of it was: the receiver meets a message whole or not at all.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrySendError {
    /// There was no room until the end of the given time, or another thread was sending.
    Full,
    /// What would have stopped a plain [`Sender::send`](crate::Sender::send) too.
    Failed(SendError),
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full => f.write_str("no room for the message"),
            TrySendError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TrySendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrySendError::Full => None,
            TrySendError::Failed(error) => Some(error),
        }
    }
}

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> TrySendError {
        TrySendError::Failed(error)
    }
}

impl TrySendError {
    /// For a wait that had no end.
    pub(crate) fn endless(self) -> SendError {
        match self {
            TrySendError::Failed(error) => error,
            TrySendError::Full => unreachable!("a wait without end does not time out"),
        }
    }
}

impl From<Unusable> for TrySendError {
    #[cold]
    fn from(why: Unusable) -> TrySendError {
        TrySendError::Failed(match why {
            Unusable::Busy => return TrySendError::Full,
            Unusable::OnLoan => SendError::OnLoan,
            Unusable::Moved => SendError::Moved,
            Unusable::Refused(Refused::InUse { pid }) => SendError::InUse { pid },
            Unusable::Refused(Refused::Registry(error)) => SendError::Registry(error),
            Unusable::Corrupt => SendError::Corrupt,
        })
    }
}

/// Why a payload was not sent; it comes back.
#[derive(Debug)]
pub struct PayloadError {
    /// The payload, as it was.
    pub payload: Payload,
    /// Why.
    pub error: TrySendError,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for PayloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why no message was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// End of file: the other end is gone, in all processes that had it, and everything it sent was received.
    Closed,
    /// End of file inside a message: its sender died while it sent. The next receive answers `Closed`.
    EofInside {
        /// Bytes that came.
        received: usize,
        /// Bytes that were announced.
        total: usize,
    },
    /// The message ends early, or its beginning went to another process: a process died while it sent or received it.
    /// The next receive gets the next message.
    Truncated,
    /// The message is larger than this end takes; see [`set_max_message`](crate::Receiver::set_max_message). It is
    /// skipped.
    TooBig {
        /// Bytes of the message.
        size: u64,
        /// Bytes at most.
        max: usize,
    },
    /// The message is not a value of the type that was asked for. The next receive gets the next message.
    Decode {
        /// What is wrong with it.
        error: DecodeError,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Not all descriptors of the message came: this process has too many open, or a process that read from this side
    /// before died with them. The message is dropped; the next receive gets the next one.
    HandlesLost {
        /// Descriptors that were sent.
        sent: usize,
        /// Descriptors that came, and were closed.
        received: usize,
    },
    /// The memory that the message lies in could not be mapped. The message stays: the next receive tries again.
    Memory(io::Error),
    /// This end was sent away in a message.
    Moved,
    /// A living process has this side of the pipe; this one has a copy of the end.
    InUse {
        /// Which one, as far as it is known.
        pid: Option<u32>,
    },
    /// This thread could not enter the registry.
    Registry(RegistryError),
    /// The memory of the pipe was written over.
    Corrupt,
    /// What came over the socket of a [`Link`](crate::Link) is no message. Nothing behind it can be found: it stays so.
    Garbled,
    /// The socket of a [`Link`](crate::Link) failed.
    Io(io::Error),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Closed => f.write_str("the other end of the pipe is closed"),
            RecvError::EofInside { received, total } => {
                write!(f, "end of file inside a message, after {received} of {total} bytes")
            }
            RecvError::Truncated => f.write_str("a part of the message is missing"),
            RecvError::TooBig { size, max } => write!(f, "message of {size} bytes is larger than {max}"),
            RecvError::Decode { error, .. } => error.fmt(f),
            RecvError::HandlesLost { sent, received } => {
                write!(f, "only {received} of {sent} descriptors of the message could be received")
            }
            RecvError::Memory(error) => write!(f, "memory of a message: {error}"),
            RecvError::Moved => f.write_str("this end was sent away"),
            RecvError::InUse { pid } => fmt_in_use(*pid, f),
            RecvError::Registry(error) => error.fmt(f),
            RecvError::Corrupt => f.write_str("the memory of the pipe is damaged"),
            RecvError::Garbled => f.write_str("what came is not a message"),
            RecvError::Io(error) => write!(f, "socket: {error}"),
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecvError::Decode { error, .. } => Some(error),
            RecvError::Registry(error) => Some(error),
            RecvError::Memory(error) | RecvError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why no message was received in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None was there until the end of the given time, or another thread was receiving.
    Empty,
    /// What would have stopped a plain [`Receiver::recv`](crate::Receiver::recv) too.
    Failed(RecvError),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRecvError::Empty => f.write_str("no message has come"),
            TryRecvError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryRecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryRecvError::Empty => None,
            TryRecvError::Failed(error) => Some(error),
        }
    }
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> TryRecvError {
        TryRecvError::Failed(error)
    }
}

impl TryRecvError {
    /// For a wait that had no end.
    pub(crate) fn endless(self) -> RecvError {
        match self {
            TryRecvError::Failed(error) => error,
            TryRecvError::Empty => unreachable!("a wait without end does not time out"),
        }
    }
}

impl From<Unusable> for TryRecvError {
    #[cold]
    fn from(why: Unusable) -> TryRecvError {
        TryRecvError::Failed(match why {
            Unusable::Busy => return TryRecvError::Empty,
            Unusable::OnLoan => unreachable!("nobody has a loan of the side that reads"),
            Unusable::Moved => RecvError::Moved,
            Unusable::Refused(Refused::InUse { pid }) => RecvError::InUse { pid },
            Unusable::Refused(Refused::Registry(error)) => RecvError::Registry(error),
            Unusable::Corrupt => RecvError::Corrupt,
        })
    }
}

/// Why no message was received into a buffer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvIntoError {
    /// The buffer is too small; here is the whole message instead.
    TooSmall(Vec<u8>),
    /// What would have stopped [`Receiver::recv_bytes`](crate::Receiver::recv_bytes) too.
    Failed(RecvError),
}

impl fmt::Display for RecvIntoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvIntoError::TooSmall(message) => {
                write!(f, "message of {} bytes is larger than the buffer", message.len())
            }
            RecvIntoError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvIntoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecvIntoError::TooSmall(_) => None,
            RecvIntoError::Failed(error) => Some(error),
        }
    }
}

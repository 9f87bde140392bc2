//! What can go wrong, one type for each operation.

use std::fmt;
use std::io;

use ipc_pipe::codec::{DecodeError, EncodeError};
use ipc_shm::NameError;
use ipc_sync::RegistryError;

use crate::channel::Fault;
use crate::segment::{LARGEST, MOST, SMALLEST, Strange};

/// Why a queue could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// A joinable queue does not lend its items.
    Leased,
    /// A bound of no items, or of more than 2³¹ - 1.
    Bound(usize),
    /// A ring whose size is not a power of two between 512 bytes and 1 GiB.
    RingBytes(usize),
    /// This process has no registry.
    Registry(RegistryError),
    /// No memory, no descriptor, or no /proc.
    Io(io::Error),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Leased => f.write_str("a queue is joinable or leased, not both"),
            CreateError::Bound(0) => f.write_str("a queue bounded to no items would never take one"),
            CreateError::Bound(bound) => write!(f, "a bound of {bound} items is above {MOST}"),
            CreateError::RingBytes(bytes) => {
                write!(f, "a ring of {bytes} bytes is not a power of two between {SMALLEST} and {LARGEST}")
            }
            CreateError::Registry(error) => error.fmt(f),
            CreateError::Io(error) => write!(f, "shared memory for a queue: {error}"),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CreateError::Registry(error) => Some(error),
            CreateError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RegistryError> for CreateError {
    fn from(error: RegistryError) -> Self {
        CreateError::Registry(error)
    }
}

impl From<io::Error> for CreateError {
    fn from(error: io::Error) -> Self {
        CreateError::Io(error)
    }
}

/// Why the queue of a name was neither opened nor made. What was found under the name was not touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamedError {
    /// It could not be made: by these options never, or not now.
    Create(CreateError),
    /// The name is none, or leads to something else, or nothing could be made under it.
    Name(Box<NameError>),
    /// The queue of this name has another schema, or none.
    Schema,
    /// The name leads to a queue of another form, such as a `SimpleQueue`.
    Form,
    /// The queue's memory is damaged.
    Corrupt,
}

impl NamedError {
    pub(crate) fn of(strange: Strange) -> NamedError {
        match strange {
            Strange::Header(error) => NameError::from(error).into(),
            Strange::Registry(error) => CreateError::Registry(error).into(),
            Strange::Form(_) => NamedError::Form,
            _ => NamedError::Corrupt,
        }
    }
}

impl fmt::Display for NamedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedError::Create(error) => error.fmt(f),
            NamedError::Name(error) => error.fmt(f),
            NamedError::Schema => f.write_str("the queue of this name has another schema"),
            NamedError::Form => f.write_str("the queue of this name is of another form"),
            NamedError::Corrupt => f.write_str("the memory of the queue of this name is damaged"),
        }
    }
}

impl std::error::Error for NamedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NamedError::Create(error) => Some(error),
            NamedError::Name(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<CreateError> for NamedError {
    fn from(error: CreateError) -> Self {
        NamedError::Create(error)
    }
}

impl From<NameError> for NamedError {
    fn from(error: NameError) -> Self {
        NamedError::Name(Box::new(error))
    }
}

/// Why an item was not put.
#[derive(Debug)]
#[non_exhaustive]
pub enum PutFault {
    /// There is no room for it now.
    Full,
    /// There was no room for it in the given time.
    TimedOut,
    /// This process has closed the queue.
    Closed,
    /// Somebody has shut the queue down for all.
    ShutDown,
    /// It cannot be serialized.
    Encode(EncodeError),
    /// It is longer than [`max_message`](crate::Options::max_message), or, where that is not possible, than a quarter of
    /// the ring.
    TooLarge {
        /// Bytes of the item.
        bytes: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// It holds more descriptors than the kernel lets travel at once.
    TooManyHandles {
        /// Descriptors in the item.
        count: usize,
        /// Descriptors at most.
        max: usize,
    },
    /// It holds handles, and this queue carries none.
    NoHandles,
    /// The kernel refused one of its descriptors, or memory for a large item.
    Descriptors(io::Error),
    /// The queue's memory was written over.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
    /// The thread that keeps what the ring cannot take could not be started.
    Feeder(io::Error),
}

impl fmt::Display for PutFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutFault::Full => f.write_str("the queue is full"),
            PutFault::TimedOut => f.write_str("the queue was full until the time was up"),
            PutFault::Closed => f.write_str("this process has closed the queue"),
            PutFault::ShutDown => f.write_str("the queue is shut down"),
            PutFault::Encode(error) => error.fmt(f),
            PutFault::TooLarge { bytes, limit } => {
                write!(f, "an item of {bytes} bytes is longer than {limit}, the longest for this queue")
            }
            PutFault::TooManyHandles { count, max } => {
                write!(f, "an item with {count} descriptors; {max} can travel at once")
            }
            PutFault::NoHandles => f.write_str("this queue carries no handles"),
            PutFault::Descriptors(error) => write!(f, "what goes beside an item: {error}"),
            PutFault::Corrupt => f.write_str("the queue's memory is damaged"),
            PutFault::Registry(error) => error.fmt(f),
            PutFault::Feeder(error) => write!(f, "feeder thread of a queue: {error}"),
        }
    }
}

impl std::error::Error for PutFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PutFault::Encode(error) => Some(error),
            PutFault::Registry(error) => Some(error),
            PutFault::Feeder(error) | PutFault::Descriptors(error) => Some(error),
            _ => None,
        }
    }
}

/// A value that was not put, and why. Queues of other kinds have a fault of their own.
pub struct PutError<T, F = PutFault> {
    /// The value, as it was.
    pub value: T,
    /// Why it was not taken.
    pub fault: F,
}

impl<T, F> PutError<T, F> {
    /// The value, for another try.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T, F: fmt::Debug> fmt::Debug for PutError<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutError").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl<T, F: fmt::Display> fmt::Display for PutError<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl<T, F: std::error::Error> std::error::Error for PutError<T, F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// What of a batch was not put, and why. Queues of other kinds have a fault of their own.
pub struct PutManyError<R = (), F = PutFault> {
    /// So many items were put, the first ones.
    pub put: usize,
    /// The others, as they were; nothing, if they were lent.
    pub rest: R,
    /// Why the first of the others was not taken.
    pub fault: F,
}

impl<R, F> PutManyError<R, F> {
    /// What was not put, for another try.
    pub fn into_rest(self) -> R {
        self.rest
    }
}

impl<R, F: fmt::Debug> fmt::Debug for PutManyError<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("PutManyError");
        f.field("put", &self.put).field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl<R, F: fmt::Display> fmt::Display for PutManyError<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} items: {}", self.put, self.fault)
    }
}

impl<R, F: std::error::Error> std::error::Error for PutManyError<R, F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// Why there is no item.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// There is none now.
    Empty,
    /// None came in the given time.
    TimedOut,
    /// This process has closed the queue.
    Closed,
    /// Somebody has shut the queue down for all, and all that was put was taken.
    ShutDown,
    /// There was one, of another type. It is taken, and here are its bytes.
    Decode {
        /// What was put.
        bytes: Vec<u8>,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The next item has descriptors beside it, and this process cannot have so many more. The item stays where it is.
    Descriptors(io::Error),
    /// There was one, which is taken; but its bytes are gone, for a stranger wrote to the queue.
    Lost,
    /// The queue's memory was written over.
    Corrupt,
    /// The queue was not made to lend its items.
    NotLeased,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Empty => f.write_str("the queue is empty"),
            GetError::TimedOut => f.write_str("the queue was empty until the time was up"),
            GetError::Closed => f.write_str("this process has closed the queue"),
            GetError::ShutDown => f.write_str("the queue is shut down and empty"),
            GetError::Decode { error, .. } => error.fmt(f),
            GetError::Descriptors(error) => write!(f, "descriptors of the next item: {error}"),
            GetError::Lost => f.write_str("the bytes of an item are gone"),
            GetError::Corrupt => f.write_str("the queue's memory is damaged"),
            GetError::NotLeased => f.write_str("the queue was not made to lend its items"),
            GetError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GetError::Decode { error, .. } => Some(error),
            GetError::Descriptors(error) => Some(error),
            GetError::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Why there is no batch, or only a part of one.
pub struct GetManyError<T> {
    /// The items that were taken and are a `T`.
    pub items: Vec<T>,
    /// What is wrong: with the first item that is not a `T`, if there was any.
    pub error: GetError,
    /// What is wrong with further items.
    pub others: Vec<GetError>,
}

impl<T> From<GetError> for GetManyError<T> {
    fn from(error: GetError) -> Self {
        GetManyError { items: Vec::new(), error, others: Vec::new() }
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("GetManyError");
        f.field("items", &self.items.len()).field("error", &self.error).field("others", &self.others).finish()
    }
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for GetManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Why the end of the backlog was not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// This process may still put: close the queue first.
    NotClosed,
    /// Items were left when the time was up.
    TimedOut,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::NotClosed => "the queue is not closed in this process",
            JoinError::TimedOut => "items of this process were still waiting for room when the time was up",
        })
    }
}

impl std::error::Error for JoinError {}

/// Why no item was marked as done.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process has taken no item that is not done.
    TooMany,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskDoneError::TooMany => {
                f.write_str("task_done was called more often than this process has taken items")
            }
            TaskDoneError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskDoneError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskDoneError::Registry(error) => Some(error),
            TaskDoneError::TooMany => None,
        }
    }
}

/// Why it is not known that everything is done.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinTasksError {
    /// Something was unfinished when the time was up.
    TimedOut,
    /// The queue's memory was written over.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl From<Fault> for JoinTasksError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TimedOut => JoinTasksError::TimedOut,
            Fault::Corrupt => JoinTasksError::Corrupt,
            Fault::ShutDown | Fault::Refused(_) => JoinTasksError::Corrupt, // puts and gets only hear of these
        }
    }
}

impl fmt::Display for JoinTasksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinTasksError::TimedOut => f.write_str("items were unfinished when the time was up"),
            JoinTasksError::Corrupt => f.write_str("the queue's memory is damaged"),
            JoinTasksError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinTasksError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinTasksError::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// A lease that is not this process's, or whose queue is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHeld;

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this process does not have the item")
    }
}

impl std::error::Error for NotHeld {}

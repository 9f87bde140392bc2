//! `Queue`: messages that a server keeps, from any of its clients to any other.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::talk::{byte, count, nothing, time};
use super::{Handle, proxy};
use crate::manager::client::{Client, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Kind, Op, Write};

/// Messages from any client of a server to any other; each message goes to exactly one getter.
///
/// [`get`](Queue::get) waits while there is nothing to take, [`put`](Queue::put) while a queue with a bound is full. Items come
/// out in the order in which the server got them; who has waited longest is served first. Items stay with the server, whoever
/// put them: a producer may end.
///
/// A process that dies while its `put` waits has not put. One that dies in `get` takes along an item only if it had received it
/// already; over a network, if it was sent. Else the item is the next one again. When the server dies the items go with it, and who waits gets [`CallError::ServerDied`].
///
/// It is a handle: cloning shares the queue, and it can be sent inside any message or stored in a dict of its server. Where
/// processes can share memory, [`multiprocess::Queue`](crate::Queue) is faster by far.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let queue = manager.queue(Some(100))?;
/// let producer = queue.clone(); // in this process or another
/// producer.put(("line".to_owned(), 1))?;
/// assert_eq!(queue.get()?, ("line".to_owned(), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.Queue")]
pub struct Queue<T> {
    pub(super) handle: Handle,
    item: PhantomData<fn(T) -> T>,
}

proxy!(Queue<T>, Kind::Queue);

/// What a queue is at one moment.
pub(super) struct State {
    items: usize,
    bound: usize,
    pub(super) unfinished: usize,
    pub(super) abandoned: usize,
    shut: bool,
}

impl<T> Queue<T> {
    pub(super) fn of(handle: Handle) -> Queue<T> {
        Queue { handle, item: PhantomData }
    }

    /// # Panics
    ///
    /// The bound is 0.
    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        name: Option<&str>,
        bound: Option<usize>,
    ) -> Result<Queue<T>, CallError> {
        Queue::create_as(Kind::Queue, client, name, bound)
    }

    pub(super) fn create_as(
        kind: Kind,
        client: &Arc<Client>,
        name: Option<&str>,
        bound: Option<usize>,
    ) -> Result<Queue<T>, CallError> {
        assert!(bound != Some(0), "a queue bounded to no items would never take one");
        let arguments = |message: &mut Vec<u8>| message.put_number(bound.unwrap_or(0) as u64);
        Handle::create(client, kind, name, arguments).map(Queue::of)
    }

    /// Items that were put and not taken. By the time it is read it may have changed.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "qsize")]
    pub fn len(&self) -> Result<usize, CallError> {
        Ok(self.state()?.items)
    }

    /// Whether there is nothing to take at this moment.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool, CallError> {
        Ok(self.state()?.items == 0)
    }

    /// Whether a put would wait at this moment.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "full")]
    pub fn is_full(&self) -> Result<bool, CallError> {
        let state = self.state()?;
        Ok(state.bound != 0 && state.items >= state.bound)
    }

    /// Most items that it holds, if it has a bound.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Result<Option<usize>, CallError> {
        let bound = self.state()?.bound;
        Ok((bound != 0).then_some(bound))
    }

    /// Nobody can put any more; what was put can still be got, and then gets answer [`GetError::ShutDown`] and iterators end.
    /// Who waits is told. Done again, it does nothing. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn shutdown(&self) -> Result<(), CallError> {
        self.shut(false).map(|_| ())
    }

    /// As [`shutdown`](Queue::shutdown), and discards what was not taken: answers how many items.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "immediate")]
    pub fn shutdown_now(&self) -> Result<usize, CallError> {
        self.shut(true)
    }

    /// Whether the queue was shut down.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_shut_down(&self) -> Result<bool, CallError> {
        Ok(self.state()?.shut)
    }

    fn shut(&self, discard: bool) -> Result<usize, CallError> {
        self.handle.call(Op::QueueShutdown, byte(discard.into()), count)
    }

    pub(super) fn state(&self) -> Result<State, CallError> {
        self.handle.call(Op::QueueState, nothing, |answer, mut rest, _| match answer {
            Answer::Done => Ok(State {
                items: rest.number()? as usize,
                bound: rest.number()? as usize,
                unfinished: rest.number()? as usize,
                abandoned: rest.number()? as usize,
                shut: rest.u8()? != 0,
            }),
            other => Err(CallError::unexpected(other, rest)),
        })
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// See [`PutFault`]. The value comes back inside.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NEVER)
    }

    /// Puts a value if there is room. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`PutFault::Full`]; else as [`put`](Queue::put).
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NOW).map_err(|error| match error.fault {
            PutFault::TimedOut => PutError { fault: PutFault::Full, ..error },
            _ => error,
        })
    }

    /// Puts a value, waiting `timeout` at most; if the server is stopped, a quarter of a second longer.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`]; else as [`put`](Queue::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::after(timeout))
    }

    /// As [`put_timeout`](Queue::put_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Queue::put_timeout).
    pub fn put_deadline(&self, value: T, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::at(deadline))
    }

    fn put_until(&self, value: T, deadline: Deadline) -> Result<(), PutError<T>> {
        self.put_ref(&value, deadline).map_err(|fault| PutError { value, fault })
    }

    pub(super) fn put_ref(&self, value: &T, deadline: Deadline) -> Result<(), PutFault> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_time(deadline);
            storing.value(value, message)
        };
        let put = self.handle.wait(Op::QueuePut, deadline, write, |answer, rest, _| match answer {
            Answer::Done => Ok(Ok(())),
            Answer::TimedOut => Ok(Err(PutFault::TimedOut)),
            Answer::Closed => Ok(Err(PutFault::ShutDown)),
            other => Err(CallError::unexpected(other, rest)),
        });
        put.map_err(PutFault::Call)?
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item; waits while there is none.
    ///
    /// # Errors
    ///
    /// See [`GetError`].
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the oldest item if there is one. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`]; else as [`get`](Queue::get).
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW).map_err(|error| match error {
            GetError::TimedOut => GetError::Empty,
            other => other,
        })
    }

    /// Takes the oldest item, waiting `timeout` at most; if the server is stopped, a quarter of a second longer. What it may
    /// have got by then is the next item again.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`]; else as [`get`](Queue::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// As [`get_timeout`](Queue::get_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Queue::get_timeout).
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        self.get_until(Deadline::at(deadline))
    }

    /// Takes items as they come, until the queue is shut down and empty.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, ended: false }
    }

    pub(super) fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        let got =
            self.handle.wait(
                Op::QueueGet,
                deadline,
                time(deadline),
                |answer, mut rest, loading| match answer {
                    Answer::Done => loading.value(rest.value()?).map(Ok),
                    Answer::TimedOut => Ok(Err(GetError::TimedOut)),
                    Answer::Closed => Ok(Err(GetError::ShutDown)),
                    other => Err(CallError::unexpected(other, rest)),
                },
            );
        got.map_err(GetError::Call)?
    }
}

/// Takes items as they come; see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    ended: bool,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.queue.get();
        self.ended = !matches!(item, Ok(_) | Err(GetError::Call(CallError::Decode(_))));
        match item {
            Err(GetError::ShutDown) => None,
            item => Some(item),
        }
    }
}

impl<T: DeserializeOwned> FusedIterator for Iter<'_, T> {}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
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
    /// Somebody has shut the queue down.
    ShutDown,
    /// It cannot be serialized, or the server could not be asked. If this is [`CallError::TimedOut`], the server did not answer,
    /// and may put the item when it goes on.
    Call(CallError),
}

impl fmt::Display for PutFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutFault::Full => f.write_str("the queue is full"),
            PutFault::TimedOut => f.write_str("the queue was full until the time was up"),
            PutFault::ShutDown => f.write_str("the queue is shut down"),
            PutFault::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PutFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PutFault::Call(error) => Some(error),
            _ => None,
        }
    }
}

/// A value that was not put, and why.
pub type PutError<T> = ipc_queue::PutError<T, PutFault>;

/// Why there is no item.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// There is none now.
    Empty,
    /// None came in the given time.
    TimedOut,
    /// Somebody has shut the queue down, and all that was put was taken.
    ShutDown,
    /// The server could not be asked; or there was an item of another type, which is taken: [`CallError::Decode`].
    Call(CallError),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Empty => f.write_str("the queue is empty"),
            GetError::TimedOut => f.write_str("the queue was empty until the time was up"),
            GetError::ShutDown => f.write_str("the queue is shut down and empty"),
            GetError::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GetError::Call(error) => Some(error),
            _ => None,
        }
    }
}

//! `Queue::put_many`, `get_many` and their kind: many items in one trip.

use std::fmt;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::queue::{GetError, PutFault, Queue};
use super::talk::{count, many, put_many};
use crate::manager::client::{Loading, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Op, Reader, Write};

/// Values in one trip, and bytes after which no more are.
const CHUNK: usize = 1024;
const CHUNK_BYTES: usize = 256 << 10;

impl<T: Serialize> Queue<T> {
    /// Puts values one after another, many in one trip.
    ///
    /// Waits where [`put`](Queue::put) would wait. A getter may have the first before the last is put, and items of others may
    /// come between. A process that dies meanwhile has put the first of them, whole ones.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put). The error says how many were put, and the others come back.
    ///
    /// ```
    /// # multiprocess::testing!();
    /// let manager = multiprocess::Manager::start()?;
    /// let queue = manager.queue(Some(2))?;
    /// let error = queue.try_put_many(vec!['a', 'b', 'c']).unwrap_err();
    /// assert_eq!((error.put, &error.rest), (2, &vec!['c']));
    /// assert_eq!(queue.get_many(10)?, ['a', 'b']);
    /// queue.put_many(error.into_rest())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many(&self, values: Vec<T>) -> Result<(), PutManyError<T>> {
        self.put_many_until(values, Deadline::NEVER)
    }

    /// Puts those values in front that there are places for now.
    ///
    /// # Errors
    ///
    /// [`PutFault::Full`], or as [`put_many`](Queue::put_many).
    pub fn try_put_many(&self, values: Vec<T>) -> Result<(), PutManyError<T>> {
        self.put_many_until(values, Deadline::NOW).map_err(|error| match error.fault {
            PutFault::TimedOut => PutManyError { fault: PutFault::Full, ..error },
            _ => error,
        })
    }

    /// As [`put_many`](Queue::put_many), waiting `timeout` at most, for all values together.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`], or as [`put_many`](Queue::put_many).
    pub fn put_many_timeout(&self, values: Vec<T>, timeout: Duration) -> Result<(), PutManyError<T>> {
        self.put_many_until(values, Deadline::after(timeout))
    }

    /// As [`put_many_timeout`](Queue::put_many_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`put_many_timeout`](Queue::put_many_timeout).
    pub fn put_many_deadline(&self, values: Vec<T>, deadline: Instant) -> Result<(), PutManyError<T>> {
        self.put_many_until(values, Deadline::at(deadline))
    }

    fn put_many_until(&self, mut values: Vec<T>, deadline: Deadline) -> Result<(), PutManyError<T>> {
        let mut put = 0;
        while let Some(next) = values.get(put) {
            let step = match self.put_chunk(&values[put..], deadline) {
                Ok(0) => self.put_ref(next, deadline).map(|()| 1), // there is no room: wait for it
                step => step,
            };
            match step {
                Ok(count) => put += count,
                Err(fault) => return Err(PutManyError { put, rest: values.split_off(put), fault }),
            }
        }
        Ok(())
    }

    /// Puts some of the values in front, as many as there is room for; answers how many.
    fn put_chunk(&self, values: &[T], deadline: Deadline) -> Result<usize, PutFault> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            put_many(message, |message| chunk(values, message, storing))
        };
        let read = |answer, rest: Reader<'_>, loading: &Loading<'_>| match answer {
            Answer::Closed => Ok(Err(PutFault::ShutDown)),
            other => count(other, rest, loading).map(Ok),
        };
        // The server answers at once, unless it is stopped.
        self.handle.wait(Op::QueuePutMany, deadline, write, read).map_err(PutFault::Call)?
    }
}

/// Appends values up to a number, a size, or the first that cannot be serialized.
fn chunk<T: Serialize>(values: &[T], message: &mut Vec<u8>, storing: &Storing) -> Result<u32, CallError> {
    let (start, mut count) = (message.len(), 0);
    for value in values.iter().take(CHUNK) {
        let end = message.len();
        match storing.value(value, message) {
            Ok(()) if count > 0 && message.len() - start > CHUNK_BYTES => {
                message.truncate(end); // it may be large, and goes by itself
                break;
            }
            Ok(()) => count += 1,
            Err(error) if count == 0 => return Err(error),
            Err(_) => {
                message.truncate(end);
                break;
            }
        }
    }
    Ok(count)
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest items, at most `max`: waits for the first and takes what is there then.
    ///
    /// The items of a batch stood behind each other in the queue, and are taken all at once: a process that dies just then may
    /// take the whole batch along, where a [`get`](Queue::get) takes one item. A `max` of 0 is answered at once.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get). If items are not a `T`, the others of the batch come inside the error.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NEVER)
    }

    /// Takes the items that are there, at most `max`.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`], or as [`get_many`](Queue::get_many).
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NOW).map_err(|failed| match failed.error {
            GetError::TimedOut => GetManyError { error: GetError::Empty, ..failed },
            _ => failed,
        })
    }

    /// As [`get_many`](Queue::get_many), waiting for the first item for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get_many`](Queue::get_many).
    pub fn get_many_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::after(timeout))
    }

    /// As [`get_many_timeout`](Queue::get_many_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_many_timeout`](Queue::get_many_timeout).
    pub fn get_many_deadline(&self, max: usize, deadline: Instant) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::at(deadline))
    }

    fn get_many_until(&self, max: usize, deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let items = self.take_many(max, deadline)?;
        if !items.is_empty() {
            return whole(items);
        }
        let first = self.get_until(deadline)?;
        match self.take_many(max - 1, deadline) {
            Ok(others) => whole(std::iter::once(Ok(first)).chain(others).collect()),
            Err(_) => Ok(vec![first]), // whatever it is, the next call says so
        }
    }

    /// What is there, each a `T` or not.
    fn take_many(&self, max: usize, deadline: Deadline) -> Result<Vec<Result<T, CallError>>, GetError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            message.put_number(max as u64);
            Ok(())
        };
        let read = |answer, mut rest: Reader<'_>, loading: &Loading<'_>| match answer {
            Answer::Done => many(&mut rest, |rest| Ok(loading.value(rest.value()?))).map(Ok),
            Answer::Closed => Ok(Err(GetError::ShutDown)),
            other => Err(CallError::unexpected(other, rest)),
        };
        self.handle.wait(Op::QueueGetMany, deadline, write, read).map_err(GetError::Call)?
    }
}

fn whole<T>(results: Vec<Result<T, CallError>>) -> Result<Vec<T>, GetManyError<T>> {
    let (mut items, mut failure) = (Vec::with_capacity(results.len()), None);
    for result in results {
        match result {
            Ok(item) => items.push(item),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(items),
        Some(error) => Err(GetManyError { items, error: GetError::Call(error) }),
    }
}

/// What of a batch was not put, and why.
pub type PutManyError<T> = ipc_queue::PutManyError<Vec<T>, PutFault>;

/// Why there is no batch, or only a part of one.
pub struct GetManyError<T> {
    /// The items that were taken and are a `T`.
    pub items: Vec<T>,
    /// What is wrong: with the first item that is not a `T`, if there was any.
    pub error: GetError,
}

impl<T> From<GetError> for GetManyError<T> {
    fn from(error: GetError) -> Self {
        GetManyError { items: Vec::new(), error }
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("GetManyError");
        f.field("items", &self.items.len()).field("error", &self.error).finish()
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

//! `Queue::put_many`, `get_many` and their kind: several items by one hold of the lock, or by one claim.

use std::time::{Duration, Instant};

use ipc_pipe::codec::{self, EncodeError};
use ipc_shm::handle::Incoming;
use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Queue;
use crate::batch::{Batch, with_batch};
use crate::error::{GetError, GetManyError, PutFault, PutManyError};
use crate::raw::RawQueue;

/// Values that are serialized before they are put, and bytes after which no more are.
const CHUNK: usize = 64;
const CHUNK_BYTES: usize = 32 << 10;

/// Batches of values, as serde sees them.
impl<T: Serialize> Queue<T> {
    /// Puts values one after another, as so many puts would, but takes the producers' lock once for many of them.
    ///
    /// Waits where [`put`](Queue::put) would wait. A getter may have the first before the last is put, and items of
    /// others may come between. A process that dies meanwhile has put the first of them, whole ones.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put). The error says how many were put, and the others come back.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::bounded(2)?;
    /// let error = queue.try_put_many(vec!['a', 'b', 'c']).unwrap_err();
    /// assert_eq!((error.put, &error.rest), (2, &vec!['c']));
    /// assert_eq!(queue.get_many(10)?, ['a', 'b']);
    /// queue.put_many(error.into_rest())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many(&self, values: Vec<T>) -> Result<(), PutManyError<Vec<T>>> {
        self.put_many_until(values, Deadline::NEVER)
    }

    /// Puts those values in front that there are places for now.
    ///
    /// # Errors
    ///
    /// [`PutFault::Full`], or as [`put_many`](Queue::put_many).
    pub fn try_put_many(&self, values: Vec<T>) -> Result<(), PutManyError<Vec<T>>> {
        self.put_many_until(values, Deadline::NOW)
    }

    /// As [`put_many`](Queue::put_many), waiting `timeout` at most, for all values together.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`], or as [`put_many`](Queue::put_many).
    pub fn put_many_timeout(&self, values: Vec<T>, timeout: Duration) -> Result<(), PutManyError<Vec<T>>> {
        self.put_many_until(values, Deadline::after(timeout))
    }

    /// As [`put_many`](Queue::put_many), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`], or as [`put_many`](Queue::put_many).
    pub fn put_many_deadline(&self, values: Vec<T>, deadline: Instant) -> Result<(), PutManyError<Vec<T>>> {
        self.put_many_until(values, Deadline::at(deadline))
    }

    fn put_many_until(&self, mut values: Vec<T>, deadline: Deadline) -> Result<(), PutManyError<Vec<T>>> {
        let mut put = 0;
        let result = with_batch(|batch| {
            while put < values.len() {
                let encoded = encode(&self.raw, &values[put..], batch);
                if batch.is_empty() && encoded.is_ok() {
                    self.put_value(&values[put], deadline)?;
                    put += 1;
                    continue;
                }
                let chunk = self.raw.put_many(batch.iter(), deadline);
                put += chunk.as_ref().err().map_or(batch.len(), |&(put, _)| put);
                chunk.map_err(|(_, fault)| fault)?;
                encoded.map_err(PutFault::Encode)?;
            }
            Ok(())
        });
        result.map_err(|fault| PutManyError { put, rest: values.split_off(put), fault })
    }
}

/// Serializes a chunk of values: those before the first that cannot be, or that has handles, which goes by itself.
fn encode<T: Serialize>(queue: &RawQueue, values: &[T], batch: &mut Batch) -> Result<(), EncodeError> {
    batch.clear();
    for value in values.iter().take(CHUNK) {
        let table = queue.table();
        batch.try_push(|bytes| codec::encode(value, bytes))?;
        if !table.finish().is_empty() {
            batch.pop();
            break;
        }
        if batch.bytes() >= CHUNK_BYTES {
            break;
        }
    }
    Ok(())
}

/// Batches of values, as serde sees them.
impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest items, at most `max`: waits for the first and takes what is there then.
    ///
    /// The items of a batch stood behind each other in the queue, and are taken all at once: a process that dies just
    /// then may take the whole batch along, where a [`get`](Queue::get) takes one item. A `max` of 0 is answered at
    /// once. An item with handles, or above a quarter of the ring, comes alone.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get). If items are not a `T`, the others of the batch come inside the error.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put_many((0..10).collect())?;
    /// assert_eq!(queue.get_many(8)?, [0, 1, 2, 3, 4, 5, 6, 7]);
    /// assert_eq!(queue.get_many(8)?, [8, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NEVER)
    }

    /// Takes the oldest items, at most `max`, if there are any.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`], or as [`get_many`](Queue::get_many).
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::NOW)
    }

    /// As [`get_many`](Queue::get_many), waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get_many`](Queue::get_many).
    pub fn get_many_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::after(timeout))
    }

    /// As [`get_many`](Queue::get_many), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get_many`](Queue::get_many).
    pub fn get_many_deadline(&self, max: usize, deadline: Instant) -> Result<Vec<T>, GetManyError<T>> {
        self.get_many_until(max, Deadline::at(deadline))
    }

    fn get_many_until(&self, max: usize, deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        with_batch(|batch| {
            let _table = Incoming::open(self.raw.get_many(batch, max, deadline)?);
            decode(batch)
        })
    }
}

fn decode<T: DeserializeOwned>(batch: &Batch) -> Result<Vec<T>, GetManyError<T>> {
    let mut items = Vec::with_capacity(batch.len());
    let mut errors = Vec::new();
    for bytes in batch.iter() {
        match codec::decode(bytes) {
            Ok(item) => items.push(item),
            Err(error) => errors.push(GetError::Decode { bytes: bytes.into(), error }),
        }
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        None => Ok(items),
        Some(error) => Err(GetManyError { items, error, others: errors.collect() }),
    }
}

/// Batches of bytes, as they are.
impl<T> Queue<T> {
    /// Puts the bytes of several items; as [`put_many`](Queue::put_many).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Queue::put_many): the error says how many were put.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::<()>::new()?;
    /// queue.put_bytes_many(&[b"one", b"two"])?;
    /// assert_eq!(queue.get_bytes()?, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn put_bytes_many(&self, items: &[&[u8]]) -> Result<(), PutManyError> {
        self.put_bytes_many_until(items, Deadline::NEVER)
    }

    /// Puts the bytes of those items in front that there are places for now.
    ///
    /// # Errors
    ///
    /// As [`try_put_many`](Queue::try_put_many).
    #[inline]
    pub fn try_put_bytes_many(&self, items: &[&[u8]]) -> Result<(), PutManyError> {
        self.put_bytes_many_until(items, Deadline::NOW)
    }

    /// As [`put_bytes_many`](Queue::put_bytes_many), waiting `timeout` at most, for all items together.
    ///
    /// # Errors
    ///
    /// As [`put_many_timeout`](Queue::put_many_timeout).
    pub fn put_bytes_many_timeout(&self, items: &[&[u8]], timeout: Duration) -> Result<(), PutManyError> {
        self.put_bytes_many_until(items, Deadline::after(timeout))
    }

    /// As [`put_bytes_many`](Queue::put_bytes_many), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`put_many_deadline`](Queue::put_many_deadline).
    pub fn put_bytes_many_deadline(&self, items: &[&[u8]], deadline: Instant) -> Result<(), PutManyError> {
        self.put_bytes_many_until(items, Deadline::at(deadline))
    }

    #[inline]
    fn put_bytes_many_until(&self, items: &[&[u8]], deadline: Deadline) -> Result<(), PutManyError> {
        let put = self.raw.put_many(items.iter().copied(), deadline);
        put.map_err(|(put, fault)| PutManyError { put, rest: (), fault })
    }

    /// Takes the bytes of the oldest items, at most `max`, into `batch`, whose content they replace and whose memory
    /// they use; as [`get_many`](Queue::get_many). See [`Batch`].
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get); the content of `batch` means nothing then.
    #[inline]
    pub fn get_bytes_many(&self, max: usize, batch: &mut Batch) -> Result<(), GetError> {
        self.raw.get_many(batch, max, Deadline::NEVER).map(drop)
    }

    /// As [`get_bytes_many`](Queue::get_bytes_many), if there are items.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Queue::try_get).
    #[inline]
    pub fn try_get_bytes_many(&self, max: usize, batch: &mut Batch) -> Result<(), GetError> {
        self.raw.get_many(batch, max, Deadline::NOW).map(drop)
    }

    /// As [`get_bytes_many`](Queue::get_bytes_many), waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Queue::get_timeout).
    pub fn get_bytes_many_timeout(
        &self,
        max: usize,
        batch: &mut Batch,
        timeout: Duration,
    ) -> Result<(), GetError> {
        self.raw.get_many(batch, max, Deadline::after(timeout)).map(drop)
    }

    /// As [`get_bytes_many`](Queue::get_bytes_many), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`get_deadline`](Queue::get_deadline).
    pub fn get_bytes_many_deadline(
        &self,
        max: usize,
        batch: &mut Batch,
        deadline: Instant,
    ) -> Result<(), GetError> {
        self.raw.get_many(batch, max, Deadline::at(deadline)).map(drop)
    }
}

//! `Queue`, the public type: messages from many processes to many.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_pipe::codec;
use ipc_shm::handle;
use ipc_sync::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{CreateError, GetError, JoinError, PutError, PutFault};
use crate::raw::RawQueue;

/// Bytes of a ring, unless asked otherwise. They are backed as they are touched.
const RING_BYTES: usize = 256 << 10;

/// Messages from any number of processes to any number of processes; each goes to exactly one getter.
pub struct Queue<T> {
    raw: Arc<RawQueue>,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A new queue without a bound: a put never waits for a getter.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<Queue<T>, CreateError> {
        Options::default().create()
    }

    /// A new queue of `bound` items at most, wherever they wait: a put waits while there are so many.
    ///
    /// # Errors
    ///
    /// The bound is zero or above 2³¹ - 1; else as [`new`](Queue::new).
    pub fn bounded(bound: usize) -> Result<Queue<T>, CreateError> {
        Options::default().bound(bound).create()
    }

    /// A queue to be made with more to say about it.
    pub fn options() -> Options {
        Options::default()
    }

    fn of(raw: Arc<RawQueue>) -> Queue<T> {
        Queue { raw, item: PhantomData }
    }

    /// Puts bytes as they are.
    #[inline]
    pub fn put_bytes(&self, item: &[u8]) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::NEVER)
    }

    /// Puts bytes as they are, without waiting.
    #[inline]
    pub fn try_put_bytes(&self, item: &[u8]) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::NOW)
    }

    /// Puts bytes as they are, waiting `timeout` at most.
    pub fn put_bytes_timeout(&self, item: &[u8], timeout: Duration) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::after(timeout))
    }

    /// Puts bytes as they are, waiting until `deadline` at most.
    pub fn put_bytes_deadline(&self, item: &[u8], deadline: Instant) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::at(deadline))
    }

    /// Takes the bytes of the oldest item.
    #[inline]
    pub fn get_bytes(&self) -> Result<Vec<u8>, GetError> {
        let mut item = Vec::new();
        self.raw.get(&mut item, Deadline::NEVER)?;
        Ok(item)
    }

    /// Takes the bytes of the oldest item into `buffer`, whose content they replace.
    #[inline]
    pub fn get_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        self.raw.get(buffer, Deadline::NEVER)
    }

    /// Items in the queue at one instant.
    pub fn len(&self) -> Result<usize, GetError> {
        self.raw.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> Result<bool, GetError> {
        Ok(self.len()? == 0)
    }

    /// Most items at one time.
    pub fn capacity(&self) -> Option<usize> {
        self.raw.bound()
    }

    /// Whether a put would wait.
    pub fn is_full(&self) -> Result<bool, GetError> {
        let len = self.len()?;
        Ok(self.capacity().is_some_and(|bound| len >= bound))
    }

    /// This process puts and gets no more.
    pub fn close(&self) {
        self.raw.close();
    }

    /// Waits until what this process has put is in the ring.
    pub fn join_thread(&self) -> Result<(), JoinError> {
        self.raw.join(Deadline::NEVER)
    }

    /// As [`join_thread`](Queue::join_thread), waiting `timeout` at most.
    pub fn join_thread_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.raw.join(Deadline::after(timeout))
    }

    /// Lets this process end without waiting for what it has put.
    pub fn cancel_join_thread(&self) {
        self.raw.cancel_join();
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts `value`.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NEVER)
    }

    /// Puts `value` if there is room now.
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NOW)
    }

    /// Puts `value`, waiting `timeout` at most.
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::after(timeout))
    }

    /// Puts `value`, waiting until `deadline` at most.
    pub fn put_deadline(&self, value: T, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::at(deadline))
    }

    fn put_until(&self, value: T, deadline: Deadline) -> Result<(), PutError<T>> {
        with_scratch(|bytes| {
            codec::encode(&value, bytes).map_err(PutFault::Encode)?;
            self.raw.put(bytes, deadline)
        })
        .map_err(|fault| PutError { value, fault })
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the oldest item if there is one now.
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Takes the oldest item, waiting `timeout` at most.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// Takes the oldest item, waiting until `deadline` at most.
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        self.get_until(Deadline::at(deadline))
    }

    fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        with_scratch(|bytes| {
            self.raw.get(bytes, deadline)?;
            codec::decode(bytes).map_err(|error| GetError::Decode { bytes: std::mem::take(bytes), error })
        })
    }
}

/// A buffer larger than this is not kept.
const SCRATCH: usize = 64 << 10;

/// Runs `f` with an empty buffer that is this thread's for the time; a call inside `f` gets another.
fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= SCRATCH {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    result
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue::of(self.raw.clone())
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.segment().lend().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let descriptor = handle::take(u32::deserialize(deserializer)?).map_err(de::Error::custom)?;
        RawQueue::receive(descriptor).map(Queue::of).map_err(de::Error::custom)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// How a queue is to be made.
#[derive(Debug, Clone)]
#[must_use = "nothing is made before create"]
pub struct Options {
    bound: Option<usize>,
    ring_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { bound: None, ring_bytes: RING_BYTES }
    }
}

impl Options {
    /// Most items at one time.
    pub fn bound(mut self, bound: usize) -> Options {
        self.bound = Some(bound);
        self
    }

    /// Bytes of the ring: a power of two between 512 and 2³⁰. The longest item takes a quarter of it.
    pub fn ring_bytes(mut self, bytes: usize) -> Options {
        self.ring_bytes = bytes;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As [`Queue::bounded`]; or the ring has no size of rings.
    pub fn create<T>(self) -> Result<Queue<T>, CreateError> {
        RawQueue::create(self.bound, self.ring_bytes).map(Queue::of)
    }
}

//! `Queue::put` and its kind: values into a queue.

use std::time::{Duration, Instant};

use ipc_pipe::{codec, scratch};
use ipc_sync::Deadline;
use serde::Serialize;

use crate::Queue;
use crate::error::{PutError, PutFault};
use crate::item::Item;

/// Values, as serde sees them.
impl<T: Serialize> Queue<T> {
    /// Puts `value`; sleeps while a bounded queue is full.
    ///
    /// It is serialized here and now: what cannot be is the caller's to hear, and later changes do not matter. When
    /// getters die, a full queue stays full until another getter comes.
    ///
    /// Handles inside it travel with it, at any depth, 253 descriptors at most. Those that are lent stay usable here; those
    /// that move, such as an end of a pipe, are gone from here when the put has succeeded, and still here when not.
    /// An item that nobody gets keeps its descriptors open: a pipe whose one end lies in a queue is never at its end of
    /// file.
    ///
    /// # Errors
    ///
    /// The value comes back. The queue is shut down, or closed by this process; the value cannot be serialized; it is longer
    /// than [`max_message`](crate::Options::max_message), or has too many handles; the kernel has no descriptor or no
    /// memory for a large value; the queue's memory is damaged; or this process has no slot in the registry, or no
    /// thread to keep the value.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::options().max_message(2_000_000).create()?;
    /// queue.put(vec![1u8; 1_000_000])?;
    /// let error = queue.put(vec![1u8; 3_000_000]).unwrap_err();
    /// assert_eq!(error.into_value().len(), 3_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NEVER)
    }

    /// Puts `value` if there is a place for it now. Does not wait but for another producer in the middle of its put,
    /// 10 ms at most.
    ///
    /// # Errors
    ///
    /// [`PutFault::Full`], or as [`put`](Queue::put).
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::NOW)
    }

    /// Puts `value`, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`], or as [`put`](Queue::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::after(timeout))
    }

    /// Puts `value`, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutFault::TimedOut`], or as [`put`](Queue::put).
    pub fn put_deadline(&self, value: T, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_until(value, Deadline::at(deadline))
    }

    fn put_until(&self, value: T, deadline: Deadline) -> Result<(), PutError<T>> {
        self.put_value(&value, deadline).map_err(|fault| PutError { value, fault })
    }

    #[inline]
    pub(crate) fn put_value(&self, value: &T, deadline: Deadline) -> Result<(), PutFault> {
        scratch::with(|bytes| {
            let table = self.raw.table();
            codec::encode(value, bytes).map_err(PutFault::Encode)?;
            let sending = table.finish();
            self.raw.put(Item { bytes, descriptors: sending.shared() }, deadline)?;
            sending.sent();
            Ok(())
        })
    }
}

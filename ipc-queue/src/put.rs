//! `Queue::put` and its kind: values into a queue.

use std::time::{Duration, Instant};

use ipc_pipe::codec;
use ipc_sync::Deadline;
use serde::Serialize;

use crate::Queue;
use crate::error::{PutError, PutFault};
use crate::scratch::with_scratch;

/// Values, as serde sees them.
impl<T: Serialize> Queue<T> {
    /// Puts `value`; sleeps while a bounded queue is full.
    ///
    /// It is serialized here and now: what cannot be is the caller's to hear, and later changes do not matter. When
    /// getters die, a full queue stays full until another getter comes.
    ///
    /// # Errors
    ///
    /// The value comes back. The queue is shut down, or closed by this process; the value cannot be serialized, or holds a handle,
    /// which a queue cannot carry; it takes more than a quarter of the ring; the queue's memory is damaged; or this
    /// process has no slot in the registry, or no thread to keep the value.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put(vec![1u8; 1000])?;
    /// let error = queue.put(vec![1u8; 1_000_000]).unwrap_err();
    /// assert_eq!(error.into_value().len(), 1_000_000);
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
        let put = |bytes: &mut Vec<u8>| {
            codec::encode(&value, bytes).map_err(PutFault::Encode)?;
            self.raw.put(bytes, deadline)
        };
        with_scratch(put).map_err(|fault| PutError { value, fault })
    }
}

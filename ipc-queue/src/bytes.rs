//! `Queue::put_bytes`, `get_bytes` and their kind: items without serde.

use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use crate::Queue;
use crate::error::{GetError, PutFault};
use crate::item::Item;

/// Bytes, as they are: no serialization, and no copy but into the ring and out of it.
///
/// They are the bytes under the values of the other calls. A queue whose items are bytes only is a `Queue<()>`, or a
/// queue of anything. Handles that came with an item are closed.
impl<T> Queue<T> {
    /// Puts bytes; waits and fails as [`put`](Queue::put) does.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put).
    ///
    /// ```
    /// let queue = ipc_queue::Queue::<()>::new()?;
    /// queue.put_bytes(b"raw")?;
    /// assert_eq!(queue.get_bytes()?, b"raw");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn put_bytes(&self, item: &[u8]) -> Result<(), PutFault> {
        self.raw.put(Item::of(item), Deadline::NEVER)
    }

    /// Puts bytes if there is a place for them now.
    ///
    /// # Errors
    ///
    /// As [`try_put`](Queue::try_put).
    #[inline]
    pub fn try_put_bytes(&self, item: &[u8]) -> Result<(), PutFault> {
        self.raw.put(Item::of(item), Deadline::NOW)
    }

    /// Puts bytes, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Queue::put_timeout).
    pub fn put_bytes_timeout(&self, item: &[u8], timeout: Duration) -> Result<(), PutFault> {
        self.raw.put(Item::of(item), Deadline::after(timeout))
    }

    /// Puts bytes, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`put_deadline`](Queue::put_deadline).
    pub fn put_bytes_deadline(&self, item: &[u8], deadline: Instant) -> Result<(), PutFault> {
        self.raw.put(Item::of(item), Deadline::at(deadline))
    }

    /// Takes the bytes of the oldest item; sleeps while there is none.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get).
    #[inline]
    pub fn get_bytes(&self) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::NEVER)
    }

    /// Takes the bytes of the oldest item if there is one.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Queue::try_get).
    pub fn try_get_bytes(&self) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::NOW)
    }

    /// Takes the bytes of the oldest item, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Queue::get_timeout).
    pub fn get_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::after(timeout))
    }

    /// Takes the bytes of the oldest item, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`get_deadline`](Queue::get_deadline).
    pub fn get_bytes_deadline(&self, deadline: Instant) -> Result<Vec<u8>, GetError> {
        self.get_bytes_until(Deadline::at(deadline))
    }

    #[inline(always)]
    fn get_bytes_until(&self, deadline: Deadline) -> Result<Vec<u8>, GetError> {
        let mut item = Vec::new();
        self.raw.get(&mut item, deadline)?;
        Ok(item)
    }

    /// Takes the bytes of the oldest item into `buffer`, whose content they replace and whose memory they use;
    /// sleeps while there is none.
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get); the content of `buffer` means nothing then.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::<()>::new()?;
    /// queue.put_bytes(b"raw")?;
    /// let mut buffer = Vec::with_capacity(100);
    /// queue.get_bytes_into(&mut buffer)?;
    /// assert_eq!(buffer, b"raw");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        self.raw.get(buffer, Deadline::NEVER)
    }

    /// As [`get_bytes_into`](Queue::get_bytes_into), if there is an item.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Queue::try_get); the content of `buffer` means nothing then.
    #[inline]
    pub fn try_get_bytes_into(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        self.raw.get(buffer, Deadline::NOW)
    }
}

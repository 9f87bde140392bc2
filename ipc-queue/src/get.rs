//! `Queue::get` and its kind: values out of a queue.

use std::time::{Duration, Instant};

use ipc_pipe::{codec, scratch};
use ipc_shm::handle::Incoming;
use ipc_sync::Deadline;
use serde::de::DeserializeOwned;

use crate::Queue;
use crate::error::GetError;
use crate::iter::Iter;

/// Values, as serde sees them.
impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item; sleeps while there is none.
    ///
    /// When producers die it goes on sleeping: another may come. Items with handles, and those above a quarter of the ring,
    /// are taken one after another: for such an item a get also waits for another getter in the middle of it.
    ///
    /// # Errors
    ///
    /// The queue is shut down and empty; this process has closed it; the item is not a `T`, and its bytes come back; it
    /// has handles, and this process cannot have more descriptors, so that it stays in the queue; the queue's memory is
    /// damaged; or this thread has no slot in the registry.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put("text".to_owned())?;
    /// assert_eq!(queue.get()?, "text");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER)
    }

    /// Takes the oldest item if there is one. Does not wait but for an item that another process is moving to
    /// the ring, 1 ms at most.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`], or as [`get`](Queue::get).
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NOW)
    }

    /// Takes the oldest item, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get`](Queue::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    /// Takes the oldest item, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get`](Queue::get).
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        self.get_until(Deadline::at(deadline))
    }

    pub(crate) fn get_until(&self, deadline: Deadline) -> Result<T, GetError> {
        scratch::with(|bytes| {
            let _table = Incoming::open(self.raw.get_with(bytes, deadline)?);
            codec::decode(bytes).map_err(|error| GetError::Decode { bytes: std::mem::take(bytes), error })
        })
    }

    /// Takes items as they come, sleeping while there are none.
    ///
    /// It ends when the queue was [shut down](Queue::shutdown) and is empty, when this process has closed it, and after an
    /// error that is not about one item.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put_many(vec![1, 2])?;
    /// queue.shutdown();
    /// let mut sum = 0;
    /// for item in &queue {
    ///     sum += item?;
    /// }
    /// assert_eq!(sum, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self, Deadline::NEVER)
    }

    /// Takes items until there is none; as [`try_get`](Queue::try_get), again and again.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// (0..3).try_for_each(|i| queue.put(i))?;
    /// assert_eq!(queue.try_iter().count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_iter(&self) -> Iter<'_, T> {
        Iter::new(self, Deadline::NOW)
    }
}

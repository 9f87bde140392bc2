//! `Queue`, the public type: messages from many processes to many.

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
use crate::iter::Iter;
use crate::options::Options;
use crate::raw::RawQueue;
use crate::scratch::with_scratch;

/// Messages from any number of processes to any number of processes; each message goes to exactly one getter.
///
/// The items of one producing process come out in the order in which it put them, all its threads together. Between
/// processes there is no order but that of arrival.
///
/// [`get`](Queue::get) sleeps while there is nothing to take. [`put`](Queue::put) sleeps while a
/// [bounded](Queue::bounded) queue is full, and never for room in the ring: what does not fit waits in this process,
/// and a feeder thread moves it on. An item that fits can be taken at the moment put returns.
///
/// A process that dies takes along what still waited in it, and no more than one item that it was just getting;
/// nothing arrives half or twice, nobody waits for the dead, and their places in a bounded queue come back. A getter
/// that is stopped (SIGSTOP) stops nobody. A producer that is stopped within the 40 ns in which it has the
/// producers' lock stops other producers until it goes on.
///
/// A `Queue` is a handle: cloning shares the queue, in this process and, inside any message or as an argument of a
/// process, with others. It needs two descriptors in each process. A forked child has the queue, but not what its
/// parent had not moved to the ring yet, and it is open there though the parent closed it.
///
/// # End of a process
///
/// A process that returns from `main` or calls `exit` first waits until what it has put is in the ring. So do not
/// wait for the end of a producer before its items were taken; [`cancel_join_thread`](Queue::cancel_join_thread)
/// lets it go. When no other process has the queue any more the wait is given up after a second, with a line on
/// standard error.
///
/// ```
/// use ipc_queue::Queue;
///
/// let queue = Queue::bounded(100)?;
/// let producer = queue.clone(); // in this process or another
/// producer.put(("line".to_owned(), 1))?;
/// assert_eq!(queue.get()?, ("line".to_owned(), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Queue")]
#[doc(alias = "mpmc")]
pub struct Queue<T> {
    raw: Arc<RawQueue>,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A new queue without a bound: a put does not wait for getters, and memory is the only limit.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, no /proc, or no registry for this process.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::<u32>::new()?;
    /// assert_eq!(queue.capacity(), None);
    /// # Ok::<(), ipc_queue::CreateError>(())
    /// ```
    pub fn new() -> Result<Queue<T>, CreateError> {
        Options::default().create()
    }

    /// A new queue of `bound` items at most: those in the ring and those that wait in living processes.
    ///
    /// # Errors
    ///
    /// The bound is zero or above 2³¹ - 1; else as [`new`](Queue::new).
    ///
    /// ```
    /// let queue = ipc_queue::Queue::bounded(1)?;
    /// queue.put('a')?;
    /// assert!(queue.try_put('b').is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "maxsize")]
    pub fn bounded(bound: usize) -> Result<Queue<T>, CreateError> {
        Options::default().bound(bound).create()
    }

    /// A queue to be made with more to say about it.
    pub fn options() -> Options<T> {
        Options::default()
    }

    pub(crate) fn of(raw: Arc<RawQueue>) -> Queue<T> {
        Queue { raw, item: PhantomData }
    }

    /// Items that were put and not taken, at one instant: in the ring, and in living processes on their way to it.
    ///
    /// Does not wait for anybody. Others may put and take before the caller looks at the answer. Damaged memory
    /// counts as empty; a get will say what it is.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// (0..3).try_for_each(|i| queue.put(i))?;
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there is nothing to take; see [`len`](Queue::len).
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a put would wait; see [`len`](Queue::len). Never, without a bound.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|bound| self.len() >= bound)
    }

    /// Most items at one time; `None` = there is no bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        self.raw.bound()
    }

    /// This process, with all its clones of this queue, puts and gets no more: such calls answer `Closed`.
    ///
    /// Other processes do not notice: they get what was put, and nothing tells them that no more will come. Send
    /// them a value that says so. Does not wait; what waits for room still goes to the ring.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put(1)?;
    /// queue.close();
    /// assert!(queue.put(2).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        self.raw.close();
    }

    /// Waits until all that this process has put is in the ring, after [`close`](Queue::close). The end of the
    /// process does the same by itself.
    ///
    /// If nobody takes anything this waits for ever: it is also waited for while others have died. After
    /// [`cancel_join_thread`](Queue::cancel_join_thread) it does not wait.
    ///
    /// # Errors
    ///
    /// [`JoinError::NotClosed`]: this process might still put.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put(1)?;
    /// queue.close();
    /// queue.join_thread()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_thread(&self) -> Result<(), JoinError> {
        self.raw.join(Deadline::NEVER)
    }

    /// As [`join_thread`](Queue::join_thread), waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// Also [`JoinError::TimedOut`].
    pub fn join_thread_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.raw.join(Deadline::after(timeout))
    }

    /// As [`join_thread`](Queue::join_thread), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// Also [`JoinError::TimedOut`].
    pub fn join_thread_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.raw.join(Deadline::at(deadline))
    }

    /// Lets this process end without waiting for what it has put: what is not in the ring by then is lost.
    pub fn cancel_join_thread(&self) {
        self.raw.cancel_join();
    }
}

/// Values, as serde sees them.
impl<T: Serialize> Queue<T> {
    /// Puts `value`; sleeps while a bounded queue is full.
    ///
    /// It is serialized here and now: what cannot be is the caller's to hear, and later changes do not matter. When
    /// getters die, a full queue stays full until another getter comes.
    ///
    /// # Errors
    ///
    /// The value comes back. This process has closed the queue; the value cannot be serialized, or holds a handle,
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

/// Values, as serde sees them.
impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item; sleeps while there is none.
    ///
    /// When producers die it goes on sleeping: another may come.
    ///
    /// # Errors
    ///
    /// This process has closed the queue; the item is not a `T`, and its bytes come back; the queue's memory is
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
        with_scratch(|bytes| {
            self.raw.get(bytes, deadline)?;
            codec::decode(bytes).map_err(|error| GetError::Decode { bytes: std::mem::take(bytes), error })
        })
    }

    /// Takes items as they come, sleeping while there are none.
    ///
    /// It ends after an error that is not about one item, and when this process has closed the queue. That no more
    /// will come is for the producers to say, by a value of `T`:
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// [Some(1), Some(2), None].into_iter().try_for_each(|item| queue.put(item))?;
    /// let mut sum = 0;
    /// for item in &queue {
    ///     match item? {
    ///         Some(number) => sum += number,
    ///         None => break,
    ///     }
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

/// Bytes, as they are: no serialization, and no copy but into the ring and out of it.
///
/// They are the bytes under the values of the other calls. A queue whose items are bytes only is a `Queue<()>`, or a
/// queue of anything.
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
        self.raw.put(item, Deadline::NEVER)
    }

    /// Puts bytes if there is a place for them now.
    ///
    /// # Errors
    ///
    /// As [`try_put`](Queue::try_put).
    #[inline]
    pub fn try_put_bytes(&self, item: &[u8]) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::NOW)
    }

    /// Puts bytes, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Queue::put_timeout).
    pub fn put_bytes_timeout(&self, item: &[u8], timeout: Duration) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::after(timeout))
    }

    /// Puts bytes, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`put_deadline`](Queue::put_deadline).
    pub fn put_bytes_deadline(&self, item: &[u8], deadline: Instant) -> Result<(), PutFault> {
        self.raw.put(item, Deadline::at(deadline))
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
        f.debug_struct("Queue").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

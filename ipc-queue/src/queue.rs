//! `Queue`, the public type: messages from many processes to many.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{CreateError, JoinError};
use crate::form::Form;
use crate::options::Options;
use crate::raw::{RawQueue, Ticket};
use crate::user::User;

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
/// that is stopped (SIGSTOP) stops nobody, except within the microseconds in which it takes an item with handles or above
/// a quarter of the ring: then other getters wait until it goes on, or for their timeout. A producer that is stopped within the 40 ns in which it has the
/// producers' lock stops other producers until it goes on.
///
/// A `Queue` is a handle: cloning shares the queue, in this process and, inside any message or as an argument of a
/// process, with others. It needs four descriptors in each process. A forked child has the queue, but not what its
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
    pub(crate) raw: User,
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

    pub(crate) fn of(raw: User) -> Queue<T> {
        Queue { raw, item: PhantomData }
    }

    /// The queue in a message, if it is of one of these forms.
    pub(crate) fn of_form<'de, D: Deserializer<'de>>(
        deserializer: D,
        forms: &[Form],
    ) -> Result<Self, D::Error> {
        RawQueue::receive(Ticket::deserialize(deserializer)?, forms).map(Queue::of).map_err(de::Error::custom)
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

    /// This process, with all its clones of this queue, puts and gets no more: such calls answer `Closed`,
    /// also those that sleep now.
    ///
    /// Other processes do not notice; [`shutdown`](Queue::shutdown) tells them that no more will come. Does not wait;
    /// what waits for room still goes to the ring.
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

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue::of(self.raw.clone())
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.lend().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::of_form(deserializer, &[Form::Plain, Form::Leased, Form::Joinable])
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

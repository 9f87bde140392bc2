//! `SimpleQueue`: a queue whose put waits for room in the ring, so that nothing is kept anywhere else.

use std::fmt;
use std::ops::Deref;

use ipc_sync::{Deadline, Me};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Queue;
use crate::channel::{Fault, Put};
use crate::error::{CreateError, NamedError, PutFault};
use crate::form::Form;
use crate::item::{Count, Item, put_fault};
use crate::options::Options;
use crate::raw::{MOMENT, RawQueue};

/// A queue without a feeder thread: [`put`](Queue::put) sleeps while the ring is full, and what it has put is in the
/// ring when it returns.
///
/// So there is no backlog: nothing is lost with a producer that dies, its end waits for nothing, and
/// [`is_empty`](Queue::is_empty) tells of all that was put. There is no bound but the bytes of the ring. Everything
/// else is as with [`Queue`], to which it derefs.
///
/// A put waits for consumers, in all processes: a full queue whose consumers are dead stays full until another
/// comes, or until the time is up. Of several puts that wait, a short one may pass a long one.
///
/// ```
/// use ipc_queue::SimpleQueue;
///
/// let queue = SimpleQueue::new()?;
/// queue.put("line".to_owned())?;
/// assert!(!queue.is_empty());
/// assert_eq!(queue.get()?, "line");
/// assert!(queue.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.SimpleQueue")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// A new queue, with a ring of 256 KiB.
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> Result<SimpleQueue<T>, CreateError> {
        SimpleQueue::of(Options::default())
    }

    /// A new queue, with a ring of so many bytes; see [`ring_bytes`](Options::ring_bytes).
    ///
    /// # Errors
    ///
    /// A ring cannot have that size; else as [`Queue::new`].
    ///
    /// ```
    /// let queue = ipc_queue::SimpleQueue::<()>::with_ring_bytes(512)?;
    /// while queue.try_put_bytes(&[7; 100]).is_ok() {}
    /// assert!((3..5).contains(&queue.len()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_ring_bytes(bytes: usize) -> Result<SimpleQueue<T>, CreateError> {
        SimpleQueue::of(Options::default().ring_bytes(bytes))
    }

    /// The queue of this name, with a ring of 256 KiB; made, if there is none. As [`Queue::named`].
    ///
    /// # Errors
    ///
    /// As [`Queue::named`].
    pub fn named(name: &str) -> Result<SimpleQueue<T>, NamedError> {
        Options::default().form(Form::Simple).named(name).map(SimpleQueue)
    }

    fn of(options: Options<T>) -> Result<SimpleQueue<T>, CreateError> {
        options.form(Form::Simple).create().map(SimpleQueue)
    }
}

impl<T> Deref for SimpleQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        SimpleQueue(self.0.clone())
    }
}

impl<T> Serialize for SimpleQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for SimpleQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::of_form(deserializer, &[Form::Simple]).map(SimpleQueue)
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleQueue").field("len", &self.len()).finish()
    }
}

impl RawQueue {
    /// A put that waits for room in the ring.
    #[cold]
    #[inline(never)]
    pub(crate) fn put_into_ring(&self, me: &Me, item: Item<'_>, deadline: Deadline) -> Result<(), PutFault> {
        let now = deadline == Deadline::NOW;
        let patience = if now { Deadline::after(MOMENT) } else { deadline };
        loop {
            if self.is_closed() {
                return Err(PutFault::Closed);
            }
            match self.append(me, item, Count::New, patience) {
                Ok(Put::Done) => return Ok(()),
                Err(fault @ (Fault::Corrupt | Fault::ShutDown | Fault::Refused(_))) => {
                    return Err(put_fault(fault));
                }
                _ if now => return Err(PutFault::Full),
                _ if deadline.has_passed() => return Err(PutFault::TimedOut),
                Ok(Put::NoRoom(room)) => self.wait_for_room(me, room, || self.takes_no_more(), deadline),
                Ok(Put::Full(_)) | Err(Fault::TimedOut) => {} // it has no bound, and the time is not up
            }
        }
    }
}

//! How a queue is made.

use std::fmt;
use std::marker::PhantomData;

use crate::error::CreateError;
use crate::form::Form;
use crate::queue::Queue;
use crate::raw::RawQueue;
use crate::segment::{Schema, Shape};

/// Bytes of a ring, unless asked otherwise.
const RING_BYTES: usize = 256 << 10;

/// Bytes of the longest item, unless asked otherwise.
const MAX_MESSAGE: usize = 64 << 20;

/// How a queue is to be made: without a bound, and with a ring of 256 KiB, unless something else is said.
///
/// ```
/// use ipc_queue::Queue;
/// let queue = Queue::<Vec<f64>>::options().bound(10).ring_bytes(1 << 22).create()?;
/// queue.put(vec![0.0; 100_000])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is made before create"]
pub struct Options<T> {
    pub(crate) shape: Shape,
    pub(crate) schema: Option<Schema>,
    item: PhantomData<fn(T) -> T>,
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Options {
            shape: Shape { bound: None, bytes: RING_BYTES, max_message: MAX_MESSAGE, form: Form::Plain },
            schema: None,
            item: PhantomData,
        }
    }
}

impl<T> Options<T> {
    /// Most items at one time; see [`Queue::bounded`].
    pub fn bound(mut self, bound: usize) -> Self {
        self.shape.bound = Some(bound);
        self
    }

    /// Bytes of the ring: a power of two between 512 and 2³⁰. Memory is taken as it is touched. An item of more
    /// than a quarter of the ring, or of 1 MiB and more, lies elsewhere, which takes a few system calls more.
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.shape.bytes = bytes;
        self
    }

    /// Bytes of the longest item: 64 MiB unless set. What is longer is refused, and not received either.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.shape.max_message = bytes;
        self
    }

    /// What the items of a [named](Options::named) queue are, in words of your own, such as `"jobs/1"`. Who opens the
    /// queue with other words is refused; who opens it without any is not asked.
    pub fn schema(mut self, words: &str) -> Self {
        self.schema = Some(Schema::new(words));
        self
    }

    /// Items are lent: [`get_lease`](Queue::get_lease) gives one that comes back unless it is acknowledged, and no death
    /// loses one. All takes go one after another under a lock, and copy an item once more; 64 items can be lent
    /// at one time. An item must fit a quarter of the ring and be shorter than 1 MiB, and holds no handles but those
    /// that travel by a name: see [`Queue::named`].
    ///
    /// [`len`](Queue::len) counts what came back, and not what is in living hands; the bound counts neither. A plain
    /// [`get`](Queue::get) takes a lease and acknowledges it at once. After [`shutdown`](Queue::shutdown) getters wait
    /// for what others have: it may come back.
    ///
    /// ```
    /// use ipc_queue::Queue;
    /// let queue = Queue::options().leased().create()?;
    /// queue.put("job".to_owned())?;
    /// drop(queue.get_lease()?); // it was not dealt with
    /// assert_eq!(queue.len(), 1);
    /// assert_eq!(queue.get_lease()?.ack()?, "job");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leased(self) -> Self {
        self.form(Form::Leased)
    }

    pub(crate) fn is_leased(&self) -> bool {
        self.shape.form == Form::Leased
    }

    pub(crate) fn form(mut self, form: Form) -> Self {
        self.shape.form = form;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As [`Queue::bounded`]; or a ring cannot have that size.
    pub fn create(self) -> Result<Queue<T>, CreateError> {
        RawQueue::create(&self.shape).map(Queue::of)
    }
}

impl<T> fmt::Debug for Options<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("shape", &self.shape).finish()
    }
}

//! Queues that are found by a name.

use crate::error::NamedError;
use crate::options::Options;
use crate::queue::Queue;
use crate::raw::RawQueue;
use crate::segment;

impl<T> Options<T> {
    /// The queue of this name; made as the options say, if there is none. See [`Queue::named`].
    ///
    /// A queue that exists is as its maker made it, whatever the options say but for the schema.
    ///
    /// # Errors
    ///
    /// As [`Queue::named`]; or the queue has another [`schema`](Options::schema), or none.
    ///
    /// ```
    /// # let name = &format!("doc-schema-{}", std::process::id());
    /// use ipc_queue::{NamedError, Queue};
    ///
    /// let queue = Queue::<u32>::options().bound(100).schema("jobs/1").named(name)?;
    /// let newer = Queue::<u64>::options().schema("jobs/2").named(name);
    /// assert!(matches!(newer, Err(NamedError::Schema)));
    /// # drop(queue);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named(self, name: &str) -> Result<Queue<T>, NamedError> {
        let segment = segment::named(name, &self.shape, self.schema)?;
        RawQueue::open(segment, None, &[self.shape.form]).map(Queue::of).map_err(NamedError::of)
    }
}

impl<T> Queue<T> {
    /// The queue of this name, for processes that share nothing else; made, if there is none.
    ///
    /// A name has 1 to 255 bytes and no slash, and is that of a file in /dev/shm, for this user only. It goes with the last
    /// user of the queue; what was left in the queue goes with it. If all users were killed, the name is
    /// stale, and the next one makes a new queue. Nothing blocks but a process that was stopped while it examined the
    /// name, 100 ms at most.
    ///
    /// # What travels
    ///
    /// Items of at most a quarter of the ring, and less than 1 MiB: see [`ring_bytes`](Options::ring_bytes). No
    /// descriptors: a handle inside an item travels by its name. So shared memory, locks and queues that are named themselves can be put,
    /// and anything anonymous, files and connections are an error. The getter opens the name; the putter, or
    /// somebody else, must keep the thing until then, or the getter finds no item but
    /// [`GetError::Decode`](crate::GetError::Decode).
    ///
    /// Whoever may write the file may also truncate it, and that kills its users at their next touch (SIGBUS).
    ///
    /// The programs must agree on the type of the items; [`schema`](Options::schema) lets them find out. An item that is
    /// not a `T` is an error for its getter and costs nothing else.
    ///
    /// # Errors
    ///
    /// The name is none, or leads to something else; the queue is of another form or damaged; or as
    /// [`new`](Queue::new).
    ///
    /// ```
    /// # let name = &format!("doc-queue-{}", std::process::id());
    /// use ipc_queue::Queue;
    ///
    /// let here = Queue::named(name)?;
    /// let there = Queue::<String>::named(name)?; // in another program
    /// here.put("hello".to_owned())?;
    /// assert_eq!(there.get()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named(name: &str) -> Result<Queue<T>, NamedError> {
        Options::default().named(name)
    }

    /// The name of a named queue.
    pub fn name(&self) -> Option<&str> {
        self.raw.name()
    }
}

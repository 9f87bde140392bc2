//! Messages between many processes, which no `kill -9` wedges.
//!
//! # Where to begin
//!
//! [`Queue::bounded`] if producers can be faster than consumers, else [`Queue::new`]. Clone the queue into each
//! process that is to use it; [`put`](Queue::put) on one side, [`get`](Queue::get) on the other.
//!
//! ```
//! use ipc_queue::Queue;
//!
//! let queue = Queue::bounded(100)?;
//! queue.put("a message".to_owned())?;
//! assert_eq!(queue.get()?, "a message");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//!
//! All processes share one ring of bytes. Producers write one after another under a lock that passes on when its
//! owner dies; each item begins with a header whose store is the commit. Consumers need no lock: a get copies the
//! item and claims it by one compare-and-swap. Neither side makes a system call unless somebody sleeps.
//!
//! A put never waits for room in the ring. What does not fit is kept in the process, in order, and its feeder thread
//! moves it on; only the bound of a bounded queue makes a put wait.
//!
//! # What happens when a process dies
//!
//! Nothing arrives half or twice, and nobody waits for the dead. Lost is what the dead process had kept back, and
//! one item at most that it was just getting, or one batch if it gets [many](Queue::get_many). Places in a bounded queue come back. A full or an empty queue whose
//! other side is gone stays as it is: waiting calls wait for the next process, or for their timeout.
//!
//! # What this does not do
//!
//! No item above a quarter of the ring, and no handle inside an item: both are clear errors. No order between producers. No protection from a process that writes
//! garbage over the ring: others may get wrong bytes or `Corrupt`, or wait, but never leave the ring. Linux only.

mod batch;
mod bytes;
mod channel;
mod error;
#[allow(dead_code)] // for items that are more than a frame
mod exclusive;
mod exit;
mod feeder;
mod form;
mod get;
mod iter;
mod joinable;
mod many;
mod options;
mod presence;
mod primitive;
mod put;
mod queue;
mod raw;
mod scratch;
mod segment;
mod several;
mod shutdown;
mod simple;
mod state;
mod tasks;

pub use batch::Batch;
pub use error::{
    CreateError, GetError, GetManyError, JoinError, JoinTasksError, PutError, PutFault, PutManyError,
    TaskDoneError,
};
pub use iter::Iter;
pub use joinable::JoinableQueue;
pub use options::Options;
pub use queue::Queue;
pub use simple::SimpleQueue;

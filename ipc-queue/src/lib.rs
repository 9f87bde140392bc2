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
//! | type                                | what is different                                         |
//! |-------------------------------------|-----------------------------------------------------------|
//! | [`Queue`]                           |                                                           |
//! | [`Queue`], [leased](Options::leased) | an item comes back unless it is acknowledged: no death loses one |
//! | [`JoinableQueue`]                   | `task_done`, and `join` until everything is done          |
//! | [`SimpleQueue`]                     | no feeder thread: a put waits for room in the ring        |
//!
//! Queues, connections, events, processes and descriptors can be waited for together: `ipc_pipe::wait`; and in an event loop
//! of others: [`Queue::readiness`].
//!
//! Programs that share nothing else meet by a name: [`Queue::named`]. When no more will come, say so to all:
//! [`Queue::shutdown`].
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
//! # What an item may be
//!
//! Any value that serde takes, with handles in it: a [`Queue`], an end of a pipe, shared memory, a lock, an open file. Their
//! descriptors travel beside the ring, on a socket of the queue. While items with handles lie unread, so do they, and
//! the kernel has limits for that: about 270 such items of one queue, and for all queues and sockets of a user as many
//! descriptors as one process may have open. What is above them waits in its process, like what the ring cannot take.
//!
//! An item above a quarter of the ring lies in memory of its own, which goes by descriptor and is used again. It arrives
//! whole or not at all. Eight such items of a queue are on their way at one time; others wait in their process.
//!
//! # What it costs
//!
//! A queue needs 4 descriptors in each process, so that 200 queues fit a limit of 1024, and up to 8 more in a process
//! that puts items above a quarter of the ring, and in one that gets them. It has 260 KiB of shared memory and uses 4 KiB of it when it is new;
//! the ring is backed by memory as far as it was ever filled. A process that puts large items, or gets them, keeps up to 8 pieces of
//! memory of at most 2 MiB each for the next ones; larger pieces are given back. An unbounded queue grows in the process
//! that puts.
//!
//! # What happens when a process dies
//!
//! Nothing arrives half or twice, and nobody waits for the dead. Lost is what the dead process had kept back, and
//! one item at most that it was just getting, or one batch if it gets [many](Queue::get_many). Places in a bounded queue come back. A full or an empty queue whose
//! other side is gone stays as it is: waiting calls wait for the next process, or for their timeout.
//!
//! A leased queue loses nothing that is in the ring or in somebody's hands: what a consumer had not acknowledged goes to
//! the next one, marked. What a dead consumer of a joinable queue had not done holds up no `join`.
//!
//! # What this does not do
//!
//! No order between producers. No protection from a process that writes garbage over the ring: others may get wrong
//! bytes or `Corrupt`, or wait, but never leave the ring. Linux only.

mod batch;
mod beside;
mod blob;
mod bytes;
mod channel;
mod error;
mod exclusive;
mod exit;
mod feeder;
mod form;
mod get;
mod item;
mod iter;
mod joinable;
mod lease;
mod leases;
mod many;
mod named;
mod options;
mod presence;
mod primitive;
mod put;
mod queue;
mod raw;
mod segment;
mod several;
mod shutdown;
mod simple;
mod state;
mod tasks;
mod user;
mod waitable;

pub use batch::Batch;
pub use error::{
    CreateError, GetError, GetManyError, JoinError, JoinTasksError, NamedError, NotHeld, PutError, PutFault,
    PutManyError, TaskDoneError,
};
pub use iter::Iter;
pub use joinable::JoinableQueue;
pub use lease::Lease;
pub use options::Options;
pub use queue::Queue;
pub use simple::SimpleQueue;

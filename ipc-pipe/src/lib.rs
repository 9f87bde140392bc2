//! A duplex or simplex pipe between processes: values, bytes and handles.
//!
//! What Python has in `multiprocessing.Pipe`, `Connection`, `Listener` and `Client`. A message is one value, however large; it arrives whole and in
//! order or not at all. It lies in a ring of shared memory, so that a small one costs no system call as long as both
//! sides are awake.
//!
//! ```
//! use ipc_pipe::{RecvError, pipe};
//!
//! let (parent, child) = pipe()?;
//!
//! // In another process, which got `child` as an argument or inside a message:
//! let worker = std::thread::spawn(move || {
//!     let numbers: Vec<u64> = child.recv().unwrap();
//!     child.send(&numbers.iter().sum::<u64>()).unwrap();
//! });
//!
//! parent.send(&vec![1u64, 2, 3])?;
//! assert_eq!(parent.recv::<u64>()?, 6);
//! worker.join().unwrap();
//! assert!(matches!(parent.recv::<u64>(), Err(RecvError::Closed)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Values and bytes
//!
//! [`send`](Connection::send) and [`recv`](Connection::recv) take anything that serde can serialize; the receiver names the
//! type. Bytes, strings and slices of numbers are copied at once. [`codec`] tells the format, and the few serde shapes
//! that it does not carry. [`send_bytes`](Connection::send_bytes) and [`recv_bytes`](Connection::recv_bytes) leave out
//! serde; [`recv_bytes_into`](Connection::recv_bytes_into) leaves out the allocation too.
//!
//! [`recv_with`](Connection::recv_with) lends the bytes and allocates nothing; [`loan`](Connection::loan) lends the place of a
//! message, to be written where it will be read. A [`Payload`] is handed over whole: a mebibyte costs what a word costs.
//!
//! A message that does not decode, or is larger than [`set_max_message`](Connection::set_max_message) says, costs
//! itself only: the stream stays in step. Lengths that a peer pretends take no memory.
//!
//! # Handles
//!
//! Shared memory, locks, [`Descriptor`](ipc_shm::Descriptor)s and ends of pipes are fields like any others, at any depth of
//! a message, up to 253 descriptors in one. An end of a pipe *moves*: who sent it has it no more, and what lay
//! unread in it comes along.
//!
//! # Unrelated processes
//!
//! The ends of a [`pipe`] start in one process and travel from there. Processes that share nothing yet meet at an [`Address`]: one
//! has a [`Listener`], others [`connect`], both prove to each other that they have the same [`Key`], and each gets a
//! [`Link`]. On one machine, between processes of one user, that is a connection like that of a [`pipe`]; else it is a
//! stream, over TCP to other machines too.
//!
//! # What blocks
//!
//! A receive waits for a message, unless it is [`try_recv`](Connection::try_recv) or has a time limit, which covers the
//! whole call. A send waits for room: 64 KiB may lie unread, and 4 MiB of messages of 64 KiB and more; what is larger, or
//! finds no room there, goes part by part as it is read.
//! A send with a time limit ([`try_send`](Connection::try_send), [`send_timeout`](Connection::send_timeout)) is whole or
//! not at all, whatever its size. Waiting is first a short pause, then yields, then sleep.
//!
//! [`wait`](wait()) waits for many things at once: connections, events, processes, descriptors, and whatever else is
//! [`Waitable`]. For event loops from outside there are [`readiness`](Receiver::readiness) and [`Doorbell`].
//!
//! # What it costs
//!
//! | a pipe        | costs                                                                                         |
//! |---------------|-----------------------------------------------------------------------------------------------|
//! | descriptors   | 3 where both ends are in one process, else 2 in each                                          |
//! | memory        | 4 KiB when new; 64 KiB more for each direction that is used, whoever has the ends             |
//! | long messages and payloads | 64 MiB at most in each direction, unread and held; 4 MiB of it are kept until the receiver has waited for 100 ms |
//! | address space | 132 KiB; and 64 MiB for each direction of long messages in each end that uses them            |
//!
//! 300 pipes fit a limit of 1024 descriptors. Messages on their way take memory of the pipe and of nobody else, and
//! nothing grows with what a peer announces.
//!
//! # What happens when a process dies
//!
//! When all copies of one end are gone, closed or dead by whatever signal, the other end receives what was sent, and then
//! [`RecvError::Closed`], at once, also if it was asleep. A message of which only parts were sent is
//! [`RecvError::EofInside`]. Sends answer [`SendError::Closed`] as soon as they notice. Nothing hangs, nothing is torn.
//!
//! A forked child has copies of all its parent's ends, and end of file waits for them too: drop those that are not
//! meant for it. Two processes that use the same end at the same time get [`RecvError::InUse`] and not each other's
//! halves of messages; when the user dies, or drops the end, the other may go on with it.
//!
//! # What is not done
//!
//! - No protection of what goes over a network: both sides of a [`connect`] know each other, but TCP carries the messages as they
//!   are.
//! - No protection from another user: who has an end has it from you. A peer that writes garbage into the shared memory
//!   gets garbage or errors out of it, never more.
//! - Nothing limits how long a message may take: a peer that stops in the middle of one keeps the other waiting as long as
//!   its call waits.
//! - Linux only.

mod address;
mod ancillary;
#[doc(hidden)] // for tests, which play both sides without a socket
pub mod auth;
mod blob;
mod bridge;
mod bytes;
pub mod codec;
mod connect;
mod deserialize;
mod error;
mod frame;
mod greeting;
mod half;
mod key;
mod letter;
mod link;
mod listener;
mod loan;
mod message;
mod outlet;
mod owner;
mod payload;
mod pipe;
mod primitive;
mod receiver;
mod ring;
mod run;
#[doc(hidden)] // for the other crates of this workspace
pub mod scratch;
mod segment;
mod sender;
#[doc(hidden)] // for the queue, whose items have descriptors beside them too
mod serialize;
mod site;
mod sleep;
pub mod socket;
mod store;
mod stream;
mod wait;
mod waitable;

pub use address::{Address, AddressError};
pub use bridge::Doorbell;
pub use bytes::Bytes;
pub use connect::{ConnectError, connect, connect_deadline, connect_python, connect_timeout};
pub use error::{
    OpenError, PayloadError, PipeError, RecvError, RecvIntoError, SendError, TryRecvError, TrySendError,
};
pub use frame::{Flags, HEADER, Header, MAX_PAYLOAD, span};
pub use greeting::Peer;
pub use key::{Key, KeyError};
pub use link::Link;
pub use listener::{Listener, ListenerOptions, Refusals};
pub use loan::Loan;
pub use payload::Payload;
pub use pipe::{Connection, Parts, pipe, simplex};
pub use receiver::{Readiness, Receiver};
pub use sender::Sender;
pub use wait::{wait, wait_deadline, wait_timeout};
pub use waitable::{Readable, Waitable, Watch, Writable};

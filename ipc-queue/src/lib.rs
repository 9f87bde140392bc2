//! Messages between many processes, which no `kill -9` wedges.

mod channel;
mod error;
mod exit;
mod feeder;
mod lease;
mod per_process;
mod primitive;
mod queue;
mod raw;
mod segment;

pub use error::{CreateError, GetError, JoinError, PutError, PutFault};
pub use queue::{Options, Queue};

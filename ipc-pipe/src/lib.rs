//! A duplex or simplex pipe between processes.

mod ancillary;
mod blob;
mod bytes;
pub mod codec;
mod error;
mod frame;
mod half;
mod message;
mod owner;
mod pipe;
mod primitive;
mod receiver;
mod ring;
mod run;
mod scratch;
mod segment;
mod sender;
mod sleep;
mod socket;

pub use bytes::Bytes;
pub use error::{OpenError, PipeError, RecvError, RecvIntoError, SendError, TryRecvError};
pub use frame::{Flags, HEADER, Header, MAX_PAYLOAD, span};
pub use pipe::{Connection, Parts, pipe, simplex};
pub use receiver::{Readiness, Receiver};
pub use sender::Sender;

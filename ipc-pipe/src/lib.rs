//! A duplex or simplex pipe between processes.

mod bytes;
pub mod codec;
mod frame;

pub use bytes::Bytes;
pub use frame::{Flags, HEADER, Header, MAX_PAYLOAD, span};

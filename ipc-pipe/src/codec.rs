//! serde to bytes and back: the only file that knows bincode.
//!
//! The format is bincode's with fixed-size little-endian integers. It does not describe itself: the receiver must ask
//! for the type that was sent. A message that is a string, or a vector or slice of numbers, is copied at once and not
//! number by number. Its bytes are the same either way. Inside a larger value, wrap bytes in a [`Blob`]:
//! serde takes a `Vec<u8>` byte by byte, 6 ms for a mebibyte.
//!
//! # What does not travel
//!
//! serde shapes that need a format which describes itself, or leave out what was written down as there:
//!
//! | shape                                         | what happens                                  |
//! |-----------------------------------------------|-----------------------------------------------|
//! | `#[serde(untagged)]`                          | is sent; an error when it is received         |
//! | `#[serde(tag = "…")]`, also with `content`    | is sent; an error when it is received         |
//! | `#[serde(flatten)]`                           | an error when it is sent                      |
//! | `#[serde(skip_serializing_if = "…")]`         | if skipped: an error when it is received, or a wrong value |
//! | a value of any shape, such as JSON's          | as untagged                                   |
//!
//! Enums with the default tag, `Option`, maps, tuples, and borrowed data to be sent, are fine.
use std::fmt;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use bincode::error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::blob::Blob;
use crate::run;

type Format<const LIMIT: usize> = Configuration<LittleEndian, Fixint, Limit<LIMIT>>;

/// Decoding claims no more memory than the next of these, whatever lengths the bytes pretend.
const SMALL: usize = 64 << 10;
const MIDDLE: usize = 64 << 20;
const LARGE: usize = usize::MAX;

fn format<const LIMIT: usize>() -> Format<LIMIT> {
    standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// A value that serde could not turn into bytes.
#[derive(Debug)]
pub struct EncodeError(BincodeEncodeError);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value cannot be serialized: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Bytes that are not a value of the type that was asked for.
#[derive(Debug)]
pub struct DecodeError(Fault);

#[derive(Debug)]
enum Fault {
    Format(BincodeDecodeError),
    LeftOver { used: usize, length: usize },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Format(error) => write!(f, "message cannot be deserialized: {error}"),
            Fault::LeftOver { used, length } => {
                write!(f, "message of {length} bytes is a value of the type in its first {used}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends the bytes of `value` to `buffer`.
///
/// # Errors
///
/// A `Serialize` implementation refused; `buffer` holds garbage behind its former end.
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some((count, bytes)) = run::of(value) {
        buffer.extend_from_slice(&count.to_le_bytes());
        buffer.extend_from_slice(bytes);
        return Ok(());
    }
    bincode::serde::encode_into_writer(value, Appender(buffer), format::<LARGE>()).map_err(EncodeError)
}

/// Gives the bytes of `value` to `sink`, piece by piece, until it answers false.
pub(crate) fn encode_to<T: Serialize + ?Sized>(
    value: &T,
    mut sink: impl FnMut(&[u8]) -> bool,
) -> Result<(), EncodeError> {
    if let Some((count, bytes)) = run::of(value) {
        let taken = sink(&count.to_le_bytes()) && sink(bytes);
        return if taken { Ok(()) } else { Err(EncodeError(BincodeEncodeError::UnexpectedEnd)) };
    }
    bincode::serde::encode_into_writer(value, Pieces(sink), format::<LARGE>()).map_err(EncodeError)
}

struct Pieces<F>(F);

impl<F: FnMut(&[u8]) -> bool> bincode::enc::write::Writer for Pieces<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BincodeEncodeError> {
        if (self.0)(bytes) { Ok(()) } else { Err(BincodeEncodeError::UnexpectedEnd) }
    }
}

/// The value that `bytes` hold, all of them.
///
/// # Errors
///
/// They are not a `T`, or a `T` and more.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if let Some(value) = run::into(bytes) {
        return Ok(value);
    }
    let decoded = if bytes.len() <= SMALL {
        bincode::serde::decode_from_slice(bytes, format::<SMALL>())
    } else if bytes.len() <= MIDDLE {
        bincode::serde::decode_from_slice(bytes, format::<MIDDLE>())
    } else {
        bincode::serde::decode_from_slice(bytes, format::<LARGE>())
    };
    let (value, used) = decoded.map_err(|error| DecodeError(Fault::Format(error)))?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(DecodeError(Fault::LeftOver { used, length: bytes.len() }))
    }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appender<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), BincodeEncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

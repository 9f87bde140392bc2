//! What Dict and Namespace have in common: values by keys.

use ipc_pipe::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::{self, Integer};
use super::talk::{self, copy, count, done, flag, nothing, optional, put_bytes_of, put_many};
use super::{Handle, Updated};
use crate::manager::client::{Loading, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Op, Reader, Write};

/// A key, to be written into a message.
pub(super) trait Key: Copy {
    fn put(self, message: &mut Vec<u8>) -> Result<(), CallError>;
}

/// A key of any type: the bytes that serde makes of it.
pub(super) struct Coded<'k, Q: ?Sized>(pub(super) &'k Q);

impl<Q: ?Sized> Clone for Coded<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized> Copy for Coded<'_, Q> {}

impl<Q: Serialize + ?Sized> Key for Coded<'_, Q> {
    #[inline]
    fn put(self, message: &mut Vec<u8>) -> Result<(), CallError> {
        put_bytes_of(message, |message| Ok(codec::encode(self.0, message)?))
    }
}

/// A key that is text, as it is.
#[derive(Clone, Copy)]
pub(super) struct Text<'k>(pub(super) &'k str);

impl Key for Text<'_> {
    fn put(self, message: &mut Vec<u8>) -> Result<(), CallError> {
        message.put_bytes(self.0.as_bytes());
        Ok(())
    }
}

/// What of the entries is wanted.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Part {
    Keys = 1,
    Values = 2,
    Both = 3,
}

/// What was found behind a key: the value, and the same as it was sent.
struct Found<T> {
    value: Option<T>,
    raw: Option<Vec<u8>>,
}

impl<T: DeserializeOwned> Found<T> {
    fn nothing() -> Found<T> {
        Found { value: None, raw: None }
    }

    fn read(rest: &mut Reader<'_>, loading: &Loading<'_>) -> Result<Found<T>, CallError> {
        let found = rest.value()?;
        Ok(Found { raw: Some(copy(found)), value: Some(loading.value(found)?) })
    }
}

/// An object with values by keys.
#[derive(Clone, Copy)]
pub(super) struct Map<'h>(pub(super) &'h Handle);

impl Map<'_> {
    #[inline]
    pub(super) fn get<T: DeserializeOwned>(self, key: impl Key) -> Result<Option<T>, CallError> {
        self.0.call(Op::MapGet, |message, _| key.put(message), optional)
    }

    #[inline]
    pub(super) fn set<T: Serialize + ?Sized>(self, key: impl Key, value: &T) -> Result<(), CallError> {
        self.0.call(Op::MapSet, entry(key, value), done)
    }

    /// `MapInsert` and `MapInsertIfAbsent`: what was there before.
    pub(super) fn swap<T: Serialize + ?Sized, F: DeserializeOwned>(
        self,
        op: Op,
        key: impl Key,
        value: &T,
    ) -> Result<Option<F>, CallError> {
        self.0.call(op, entry(key, value), optional)
    }

    pub(super) fn take<T: DeserializeOwned>(self, key: impl Key) -> Result<Option<T>, CallError> {
        self.0.call(Op::MapRemove, |message, _| key.put(message), optional)
    }

    /// Whether there was such a key.
    pub(super) fn remove(self, key: impl Key) -> Result<bool, CallError> {
        self.0.call(Op::MapRemove, |message, _| key.put(message), flag)
    }

    pub(super) fn contains(self, key: impl Key) -> Result<bool, CallError> {
        self.0.call(Op::MapContains, |message, _| key.put(message), flag)
    }

    pub(super) fn len(self) -> Result<usize, CallError> {
        self.0.call(Op::MapLen, nothing, count)
    }

    pub(super) fn clear(self) -> Result<(), CallError> {
        self.0.call(Op::MapClear, nothing, done)
    }

    /// One page: the place of the next one, 0 = there is none, and what `read` reads.
    pub(super) fn page<T>(
        self,
        place: u64,
        part: Part,
        mut read: impl FnMut(&mut Reader<'_>, &Loading<'_>) -> Result<T, CallError>,
    ) -> Result<(u64, Vec<T>), CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            message.put_number(place);
            message.put_u8(part as u8);
            message.put_number(talk::PAGE);
            Ok(())
        };
        self.0.call(Op::MapPage, write, |answer, mut rest, loading| match answer {
            Answer::Done => {
                let next = rest.number()?;
                if next != 0 && next <= place {
                    return Err(CallError::Protocol); // it would never end
                }
                Ok((next, talk::many(&mut rest, |rest| read(rest, loading))?))
            }
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// All pages.
    pub(super) fn pages<T>(
        self,
        part: Part,
        mut read: impl FnMut(&mut Reader<'_>, &Loading<'_>) -> Result<T, CallError>,
    ) -> Result<Vec<T>, CallError> {
        let (mut next, mut all) = self.page(0, part, &mut read)?;
        while next != 0 {
            let (after, page) = self.page(next, part, &mut read)?;
            next = after;
            all.extend(page);
        }
        Ok(all)
    }

    /// Whether it was done; else what is there.
    pub(super) fn compare_exchange<T: Serialize + ?Sized, F: DeserializeOwned>(
        self,
        key: impl Key,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<Result<(), Option<F>>, CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            key.put(message)?;
            put_option(expected, message, storing)?;
            put_option(new, message, storing)
        };
        self.0.call(Op::MapCompareExchange, write, |answer, mut rest, loading| match answer {
            Answer::Done => Ok(Ok(())),
            Answer::Differs if rest.u8()? == 0 => Ok(Err(None)),
            Answer::Differs => loading.value(rest.value()?).map(|found| Err(Some(found))),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Reads, changes and writes until nobody came between.
    pub(super) fn update<T: Serialize + DeserializeOwned>(
        self,
        key: impl Key,
        mut change: impl FnMut(Option<T>) -> Option<T>,
    ) -> Result<Updated<Option<T>>, CallError> {
        let mut found = self.find(key)?;
        let mut retries = 0;
        loop {
            let value = change(found.value);
            match self.replace(key, found.raw.as_deref(), value.as_ref())? {
                None => return Ok(Updated { value, retries }),
                Some(now) => found = now,
            }
            retries += 1;
        }
    }

    fn find<T: DeserializeOwned>(self, key: impl Key) -> Result<Found<T>, CallError> {
        let read = |answer, mut rest: Reader<'_>, loading: &Loading<'_>| match answer {
            Answer::Done => Found::read(&mut rest, loading),
            Answer::Nothing => Ok(Found::nothing()),
            other => Err(CallError::unexpected(other, rest)),
        };
        self.0.call(Op::MapGet, |message, _| key.put(message), read)
    }

    /// `new` instead of what is in `expected`; `Some` = something else is there.
    fn replace<T: Serialize + DeserializeOwned>(
        self,
        key: impl Key,
        expected: Option<&[u8]>,
        new: Option<&T>,
    ) -> Result<Option<Found<T>>, CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            key.put(message)?;
            message.put_u8(expected.is_some().into());
            message.put(expected.unwrap_or_default());
            put_option(new, message, storing)
        };
        self.0.call(Op::MapCompareExchange, write, |answer, mut rest, loading| match answer {
            Answer::Done => Ok(None),
            Answer::Differs if rest.u8()? == 0 => Ok(Some(Found::nothing())),
            Answer::Differs => Found::read(&mut rest, loading).map(Some),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Adds; what is not there counts as 0. The former number.
    pub(super) fn add<N: Integer>(self, key: impl Key, number: N) -> Result<N, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            key.put(message)?;
            integer::put(number, message);
            Ok(())
        };
        self.0.call(Op::MapAdd, write, integer::former)
    }

    /// All entries at once.
    pub(super) fn extend(
        self,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<u32, CallError>,
    ) -> Result<(), CallError> {
        let write =
            |message: &mut Vec<u8>, storing: &Storing| put_many(message, |message| write(message, storing));
        self.0.call(Op::MapExtend, write, done)
    }
}

/// Appends a key and a value.
#[inline]
pub(super) fn entry<T: Serialize + ?Sized>(
    key: impl Key,
    value: &T,
) -> impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError> {
    move |message, storing| {
        key.put(message)?;
        storing.value(value, message)
    }
}

fn put_option<T: Serialize + ?Sized>(
    value: Option<&T>,
    message: &mut Vec<u8>,
    storing: &Storing,
) -> Result<(), CallError> {
    message.put_u8(value.is_some().into());
    value.map_or(Ok(()), |value| storing.value(value, message))
}

/// A value of an entry, for pages.
pub(super) fn page_value<T: DeserializeOwned>(
    rest: &mut Reader<'_>,
    loading: &Loading<'_>,
) -> Result<T, CallError> {
    loading.value(rest.value()?)
}

/// A key of an entry, for pages.
pub(super) fn page_key<K: DeserializeOwned>(rest: &mut Reader<'_>, _: &Loading<'_>) -> Result<K, CallError> {
    talk::key(rest.bytes()?)
}

/// A key and its value, for pages.
pub(super) fn page_entry<K: DeserializeOwned, T: DeserializeOwned>(
    rest: &mut Reader<'_>,
    loading: &Loading<'_>,
) -> Result<(K, T), CallError> {
    let (key, value) = (rest.bytes()?, rest.value()?);
    let value = loading.value(value)?;
    Ok((talk::key(key)?, value))
}

/// The last entry.
pub(super) fn last_entry<K: DeserializeOwned, T: DeserializeOwned>(
    answer: Answer,
    mut rest: Reader<'_>,
    loading: &Loading<'_>,
) -> Result<Option<(K, T)>, CallError> {
    match answer {
        Answer::Done => page_entry(&mut rest, loading).map(Some),
        Answer::Nothing => Ok(None),
        other => Err(CallError::unexpected(other, rest)),
    }
}

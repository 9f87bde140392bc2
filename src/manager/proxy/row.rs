//! What List, Array and Value have in common: values in a row.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::{self, Integer};
use super::talk::{self, copy, count, done, nothing, put_values, value};
use super::{Handle, Updated};
use crate::manager::client::{Loading, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Op, Reader, Write};

/// Any version of a list.
pub(super) const ANY: u64 = 0;

/// Indexes from the first to behind the last; below 0 they count from the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) stop: i64,
}

impl Span {
    pub(super) const ALL: Span = Span { start: 0, stop: i64::MAX };

    pub(super) fn of(range: impl RangeBounds<i64>) -> Span {
        let start = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(first) => *first,
            Bound::Excluded(before) => behind(*before),
        };
        let stop = match range.end_bound() {
            Bound::Unbounded => i64::MAX,
            Bound::Included(last) => behind(*last),
            Bound::Excluded(stop) => *stop,
        };
        Span { start, stop }
    }

    fn put(self, message: &mut Vec<u8>) {
        message.put_index(self.start);
        message.put_index(self.stop);
    }
}

/// The index after this one. Behind the last one, counted from the end, is the end.
fn behind(index: i64) -> i64 {
    if index == -1 { i64::MAX } else { index.saturating_add(1) }
}

/// Some elements at one moment.
struct Page<T> {
    version: u64,
    /// The index after the last of them.
    next: i64,
    /// How many elements there are in all.
    length: i64,
    values: Vec<T>,
}

impl<T> Page<T> {
    /// What of `span` is behind this page; `None` = nothing, or the page is none of it.
    fn rest(&self, span: Span) -> Option<Span> {
        let stop = if span.stop < 0 { span.stop.saturating_add(self.length) } else { span.stop };
        (span.start < self.next && self.next < stop.min(self.length))
            .then_some(Span { start: self.next, stop })
    }
}

/// An element, and the same as it was sent.
struct Found<T> {
    value: T,
    raw: Vec<u8>,
}

impl<T: DeserializeOwned> Found<T> {
    fn read(mut rest: Reader<'_>, loading: &Loading<'_>) -> Result<Found<T>, CallError> {
        let found = rest.value()?;
        Ok(Found { raw: copy(found), value: loading.value(found)? })
    }
}

/// An object with values in a row.
#[derive(Clone, Copy)]
pub(super) struct Row<'h>(pub(super) &'h Handle);

impl Row<'_> {
    /// `ListGet` and `ListPop`.
    #[inline]
    pub(super) fn get<T: DeserializeOwned>(self, op: Op, index: i64) -> Result<T, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            message.put_index(index);
            Ok(())
        };
        self.0.call(op, write, value)
    }

    /// `ListSet` and `ListInsert`.
    #[inline]
    pub(super) fn put<T: Serialize + ?Sized>(self, op: Op, index: i64, value: &T) -> Result<(), CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_index(index);
            storing.value(value, message)
        };
        self.0.call(op, write, done)
    }

    pub(super) fn len(self) -> Result<usize, CallError> {
        self.0.call(Op::ListLen, nothing, count)
    }

    fn page<T: DeserializeOwned>(self, span: Span) -> Result<Page<T>, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            span.put(message);
            message.put_number(talk::PAGE);
            Ok(())
        };
        self.0.call(Op::ListPage, write, |answer, mut rest, loading| match answer {
            Answer::Done => {
                let (version, next, length) = (rest.number()?, rest.index()?, rest.index()?);
                let values = talk::many(&mut rest, |rest| loading.value(rest.value()?))?;
                Ok(Page { version, next, length, values })
            }
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// The elements of a span, all at one moment, and the version of the list that has them.
    pub(super) fn read<T: DeserializeOwned>(self, span: Span) -> Result<(u64, Vec<T>), CallError> {
        'again: loop {
            let mut whole = self.page(span)?;
            while let Some(rest) = whole.rest(span) {
                let page = self.page(rest)?;
                if page.version != whole.version {
                    continue 'again;
                }
                if page.next <= rest.start {
                    return Err(CallError::Protocol);
                }
                whole.next = page.next;
                whole.values.extend(page.values);
            }
            return Ok((whole.version, whole.values));
        }
    }

    /// These values instead of a span; false = the list is of another version.
    pub(super) fn splice<T: Serialize>(
        self,
        version: u64,
        span: Span,
        values: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<bool, CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_number(version);
            span.put(message);
            put_values(values, message, storing)
        };
        self.0.call(Op::ListSplice, write, |answer, rest, _| match answer {
            Answer::Done => Ok(true),
            Answer::Differs => Ok(false),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Whether it was done; else what is there.
    pub(super) fn compare_exchange<T: Serialize + DeserializeOwned>(
        self,
        index: i64,
        expected: &T,
        new: &T,
    ) -> Result<Result<(), T>, CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_index(index);
            storing.value(expected, message)?;
            storing.value(new, message)
        };
        self.0.call(Op::ListCompareExchange, write, |answer, mut rest, loading| match answer {
            Answer::Done => Ok(Ok(())),
            Answer::Differs => loading.value(rest.value()?).map(Err),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Reads, changes and writes until nobody came between.
    pub(super) fn update<T: Serialize + DeserializeOwned>(
        self,
        index: i64,
        mut change: impl FnMut(T) -> T,
    ) -> Result<Updated<T>, CallError> {
        let mut found = self.find(index)?;
        let mut retries = 0;
        loop {
            let value = change(found.value);
            match self.replace(index, &found.raw, &value)? {
                None => return Ok(Updated { value, retries }),
                Some(now) => found = now,
            }
            retries += 1;
        }
    }

    fn find<T: DeserializeOwned>(self, index: i64) -> Result<Found<T>, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            message.put_index(index);
            Ok(())
        };
        self.0.call(Op::ListGet, write, |answer, rest, loading| match answer {
            Answer::Done => Found::read(rest, loading),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// `new` instead of what is in `expected`; `Some` = something else is there.
    fn replace<T: Serialize + DeserializeOwned>(
        self,
        index: i64,
        expected: &[u8],
        new: &T,
    ) -> Result<Option<Found<T>>, CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_index(index);
            message.put(expected);
            storing.value(new, message)
        };
        self.0.call(Op::ListCompareExchange, write, |answer, rest, loading| match answer {
            Answer::Done => Ok(None),
            Answer::Differs => Found::read(rest, loading).map(Some),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Adds to an element. The former number.
    pub(super) fn add<N: Integer>(self, index: i64, number: N) -> Result<N, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            message.put_index(index);
            integer::put(number, message);
            Ok(())
        };
        self.0.call(Op::ListAdd, write, integer::former)
    }
}

/// An element that may not be there.
pub(super) fn perhaps<T>(found: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(CallError::OutOfRange) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The elements of a list or array, page by page; see [`List::iter`](super::List::iter). After an error it ends.
pub struct Elements<T> {
    handle: Handle,
    page: std::vec::IntoIter<T>,
    /// `None` = there are no more pages.
    next: Option<Span>,
}

impl<T> Elements<T> {
    pub(super) fn of(handle: &Handle) -> Elements<T> {
        let page = Vec::new().into_iter();
        Elements { handle: handle.clone(), page, next: Some(Span::ALL) }
    }
}

impl<T: DeserializeOwned> Iterator for Elements<T> {
    type Item = Result<T, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(value) = self.page.next() {
                return Some(Ok(value));
            }
            let span = self.next.take()?;
            match Row(&self.handle).page(span) {
                Ok(page) => {
                    self.next = page.rest(span);
                    self.page = page.values.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<T> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements").field("of", &self.handle).finish_non_exhaustive()
    }
}

//! `List`: values in a row, in a server.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::Integer;
use super::row::{ANY, Elements, Row, Span, perhaps};
use super::talk::{count, done, flag, nothing, put_values};
use super::{Handle, Updated, proxy};
use crate::manager::client::Storing;
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Kind, Op, Write};

/// A list that lives in a server process: values in a row, for any number of processes.
///
/// It is a proxy, as [`Dict`](super::Dict) is, and all that is said there of copies, of names, of what blocks and of death
/// holds here.
///
/// An index below 0 counts from the end, as Python's: -1 is the last element. Each method is one trip and one step, unless it
/// says otherwise.
///
/// ```
/// # multiprocess::testing!();
/// use multiprocess::Manager;
///
/// let manager = Manager::start()?;
/// let list = manager.list()?;
/// list.extend(["b", "c", "a"].map(String::from))?;
/// list.sort()?;
/// assert_eq!(list.to_vec()?, ["a", "b", "c"]);
/// assert_eq!(list.get(-1)?.as_deref(), Some("c"));
/// assert_eq!(list.slice(1..)?, ["b", "c"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ListProxy")]
#[doc(alias = "SyncManager.list")]
#[doc(alias = "ShareableList")]
pub struct List<T> {
    handle: Handle,
    types: PhantomData<fn(T) -> T>,
}

proxy!(List<T>, Kind::List);

impl<T> List<T> {
    pub(in crate::manager) fn of(handle: Handle) -> List<T> {
        List { handle, types: PhantomData }
    }

    #[inline]
    fn row(&self) -> Row<'_> {
        Row(&self.handle)
    }

    /// The name it has, if it was made or opened by one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }

    /// How many elements there are.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__len__")]
    pub fn len(&self) -> Result<usize, CallError> {
        self.row().len()
    }

    /// Whether there are none.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|len| len == 0)
    }

    /// Removes all elements.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.call(Op::ListClear, nothing, done)
    }

    /// Turns the order around.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn reverse(&self) -> Result<(), CallError> {
        self.handle.call(Op::ListReverse, nothing, done)
    }

    /// Removes the elements of a range, which are not sent back: see [`drain`](List::drain).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__delitem__")]
    pub fn remove_range(&self, range: impl RangeBounds<i64>) -> Result<(), CallError> {
        self.row().splice::<()>(ANY, Span::of(range), [(); 0]).map(drop)
    }
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// The element of an index; `None` = there is none.
    ///
    /// # Errors
    ///
    /// It is not a `T`; else see [`CallError`].
    #[inline]
    #[doc(alias = "__getitem__")]
    pub fn get(&self, index: i64) -> Result<Option<T>, CallError> {
        perhaps(self.row().get(Op::ListGet, index))
    }

    /// Sets the element of an index.
    ///
    /// # Errors
    ///
    /// [`CallError::OutOfRange`]: there is none. The value cannot be serialized, is larger than the server takes, or more than
    /// it gives this process. Else see [`CallError`].
    #[inline]
    #[doc(alias = "__setitem__")]
    pub fn set<W>(&self, index: i64, value: &W) -> Result<(), CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.row().put(Op::ListSet, index, value)
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    #[inline]
    #[doc(alias = "append")]
    pub fn push<W>(&self, value: &W) -> Result<(), CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.handle.call(Op::ListPush, |message, storing| storing.value(value, message), done)
    }

    /// Inserts an element before that of an index. As in Python, what is beyond an end is that end.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    pub fn insert<W>(&self, index: i64, value: &W) -> Result<(), CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.row().put(Op::ListInsert, index, value)
    }

    /// Appends many elements, all of them at one moment, in one trip.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set); all of them together must fit in one message. Then none is appended.
    #[doc(alias = "__iadd__")]
    pub fn extend(&self, values: impl IntoIterator<Item = T>) -> Result<(), CallError> {
        let write = |message: &mut Vec<u8>, storing: &Storing| put_values::<T>(values, message, storing);
        self.handle.call(Op::ListExtend, write, done)
    }

    /// Removes the last element, and answers it; `None` = there is none.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get).
    pub fn pop(&self) -> Result<Option<T>, CallError> {
        self.pop_at(-1)
    }

    /// Removes the element of an index, and answers it; `None` = there is none.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get).
    pub fn pop_at(&self, index: i64) -> Result<Option<T>, CallError> {
        perhaps(self.row().get(Op::ListPop, index))
    }

    /// Removes the first element that is equal to `value`, which is to serialize to the same bytes; false = there is none.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn remove<W>(&self, value: &W) -> Result<bool, CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.handle.call(Op::ListRemove, |message, storing| storing.value(value, message), flag)
    }

    /// The index of the first element that is equal to `value`, as in [`remove`](List::remove).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "index")]
    pub fn index_of<W>(&self, value: &W) -> Result<Option<i64>, CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            storing.value(value, message)?;
            message.put_index(Span::ALL.start);
            message.put_index(Span::ALL.stop);
            Ok(())
        };
        self.handle.call(Op::ListIndex, write, |answer, mut rest, _| match answer {
            Answer::Done => Ok(Some(rest.index()?)),
            Answer::Nothing => Ok(None),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// Whether an element is equal to `value`, as in [`remove`](List::remove).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "__contains__")]
    pub fn contains<W>(&self, value: &W) -> Result<bool, CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.index_of(value).map(|index| index.is_some())
    }

    /// How many elements are equal to `value`, as in [`remove`](List::remove).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn count<W>(&self, value: &W) -> Result<usize, CallError>
    where
        T: Borrow<W>,
        W: Serialize + ?Sized,
    {
        self.handle.call(Op::ListCount, |message, storing| storing.value(value, message), count)
    }

    /// The elements of a range, all as they are at one moment. Above 256 KiB it takes several trips, and begins anew when
    /// somebody changes the list between them.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get).
    #[doc(alias = "__getslice__")]
    pub fn slice(&self, range: impl RangeBounds<i64>) -> Result<Vec<T>, CallError> {
        self.row().read(Span::of(range)).map(|(_, values)| values)
    }

    /// All elements, as [`slice`](List::slice) has them.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get).
    #[doc(alias = "_getvalue")]
    pub fn to_vec(&self) -> Result<Vec<T>, CallError> {
        self.slice(..)
    }

    /// Element after element, fetched in pages of up to 256 KiB. Nothing is held meanwhile, and nobody waits.
    ///
    /// A page is of one moment, and the next one begins at the index after it. So when somebody inserts or removes elements in
    /// front of that, some come twice or not at all; [`to_vec`](List::to_vec) is of one moment.
    #[doc(alias = "__iter__")]
    pub fn iter(&self) -> Elements<T> {
        Elements::of(&self.handle)
    }

    /// Replaces the elements of a range by others, more or fewer, at one moment.
    ///
    /// ```
    /// # multiprocess::testing!();
    /// # let manager = multiprocess::Manager::start()?;
    /// let list = manager.list()?;
    /// list.extend(0..5)?;
    /// list.splice(1..4, [9])?;
    /// assert_eq!(list.to_vec()?, [0, 9, 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`extend`](List::extend).
    #[doc(alias = "set_slice")]
    #[doc(alias = "__setslice__")]
    pub fn splice(
        &self,
        range: impl RangeBounds<i64>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), CallError> {
        self.row().splice::<T>(ANY, Span::of(range), values).map(drop)
    }

    /// Removes the elements of a range at one moment, and answers them. It takes two trips or more, and begins anew when somebody
    /// changes the list between them.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get).
    pub fn drain(&self, range: impl RangeBounds<i64>) -> Result<Vec<T>, CallError> {
        let span = Span::of(range);
        loop {
            let (version, values) = self.row().read(span)?;
            if self.row().splice::<T>(version, span, Vec::<T>::new())? {
                return Ok(values);
            }
        }
    }

    /// Sorts the list, stably, in one step: it is fetched, sorted here and put back, unless somebody changed it meanwhile; then
    /// it is fetched again.
    ///
    /// # Errors
    ///
    /// As of [`get`](List::get) and [`extend`](List::extend).
    pub fn sort(&self) -> Result<(), CallError>
    where
        T: Ord,
    {
        self.sort_by(T::cmp)
    }

    /// Sorts the list by `compare`, as [`sort`](List::sort) does.
    ///
    /// # Errors
    ///
    /// As of [`sort`](List::sort).
    #[doc(alias = "sort(key=…)")]
    pub fn sort_by(&self, mut compare: impl FnMut(&T, &T) -> Ordering) -> Result<(), CallError> {
        loop {
            let (version, mut values) = self.row().read::<T>(Span::ALL)?;
            values.sort_by(&mut compare);
            if self.row().splice::<T>(version, Span::ALL, &values)? {
                return Ok(());
            }
        }
    }

    /// Changes the element of an index in one step: `change` gets the value and answers the new one.
    ///
    /// If somebody else changes the element meanwhile, `change` is called again with the newer one; [`Updated`] says how often.
    /// What counts is the value and not the place: if others insert or remove elements in front of it, the element changed is the
    /// one that has this index at the end, and it had the value that `change` saw.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    pub fn update(&self, index: i64, change: impl FnMut(T) -> T) -> Result<Updated<T>, CallError> {
        self.row().update(index, change)
    }

    /// Sets the element of an index to `new` if it is `expected`. Else answers what it is, as an error inside.
    ///
    /// # Errors
    ///
    /// As of [`set`](List::set).
    pub fn compare_exchange(&self, index: i64, expected: &T, new: &T) -> Result<Result<(), T>, CallError> {
        self.row().compare_exchange(index, expected, new)
    }
}

impl<T: Integer> List<T> {
    /// Adds to the element of an index, in one step at the server, and answers what it was before. It wraps around at its ends.
    ///
    /// # Errors
    ///
    /// [`CallError::NotThatInteger`]: what is stored is no `T`. Else as of [`set`](List::set).
    pub fn fetch_add(&self, index: i64, number: T) -> Result<T, CallError> {
        self.row().add(index, number)
    }
}

impl<T: Serialize + DeserializeOwned> IntoIterator for &List<T> {
    type Item = Result<T, CallError>;
    type IntoIter = Elements<T>;

    fn into_iter(self) -> Elements<T> {
        self.iter()
    }
}

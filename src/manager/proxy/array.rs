//! `Array`: so many values in a row, in a server.

use std::marker::PhantomData;
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::Integer;
use super::row::{Elements, Row, Span, perhaps};
use super::{Handle, Updated, proxy};
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// Values in a row that live in a server process; how many stays as it was made.
///
/// It is a proxy, as [`Dict`](super::Dict) is, and all that is said there of copies, of names, of what blocks and of death
/// holds here. Values that only processes of this machine share are faster in [`sync::Array`](crate::sync::Array), which is
/// shared memory.
///
/// ```
/// # multiprocess::testing!();
/// # let manager = multiprocess::Manager::start()?;
/// let array = manager.array([1.5, 2.5])?;
/// array.set(-1, &4.0)?;
/// assert_eq!(array.to_vec()?, [1.5, 4.0]);
/// assert!(array.set(2, &0.0).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ArrayProxy")]
#[doc(alias = "SyncManager.Array")]
pub struct Array<T> {
    handle: Handle,
    types: PhantomData<fn(T) -> T>,
}

proxy!(Array<T>, Kind::Array);

impl<T> Array<T> {
    pub(in crate::manager) fn of(handle: Handle) -> Array<T> {
        Array { handle, types: PhantomData }
    }

    #[inline]
    fn row(&self) -> Row<'_> {
        Row(&self.handle)
    }

    /// The name it has, if it was made or opened by one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }

    /// How many elements it has.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn len(&self) -> Result<usize, CallError> {
        self.row().len()
    }

    /// Whether it has none.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_empty(&self) -> Result<bool, CallError> {
        self.len().map(|len| len == 0)
    }
}

impl<T: Serialize + DeserializeOwned> Array<T> {
    /// The element of an index; `None` = there is none. Below 0 it counts from the end.
    ///
    /// # Errors
    ///
    /// It is not a `T`; else see [`CallError`].
    #[inline]
    pub fn get(&self, index: i64) -> Result<Option<T>, CallError> {
        perhaps(self.row().get(Op::ListGet, index))
    }

    /// Sets the element of an index.
    ///
    /// # Errors
    ///
    /// [`CallError::OutOfRange`]: there is none. Else see [`CallError`].
    #[inline]
    pub fn set(&self, index: i64, value: &T) -> Result<(), CallError> {
        self.row().put(Op::ListSet, index, value)
    }

    /// The elements of a range, as [`List::slice`](super::List::slice) has them.
    ///
    /// # Errors
    ///
    /// As of [`get`](Array::get).
    pub fn slice(&self, range: impl RangeBounds<i64>) -> Result<Vec<T>, CallError> {
        self.row().read(Span::of(range)).map(|(_, values)| values)
    }

    /// All elements, as they are at one moment.
    ///
    /// # Errors
    ///
    /// As of [`get`](Array::get).
    pub fn to_vec(&self) -> Result<Vec<T>, CallError> {
        self.slice(..)
    }

    /// Element after element, fetched in pages, each as it is when its page is fetched.
    pub fn iter(&self) -> Elements<T> {
        Elements::of(&self.handle)
    }

    /// Changes the element of an index in one step, as [`List::update`](super::List::update) does.
    ///
    /// # Errors
    ///
    /// As of [`set`](Array::set).
    pub fn update(&self, index: i64, change: impl FnMut(T) -> T) -> Result<Updated<T>, CallError> {
        self.row().update(index, change)
    }

    /// Sets the element of an index to `new` if it is `expected`. Else answers what it is, as an error inside.
    ///
    /// # Errors
    ///
    /// As of [`set`](Array::set).
    pub fn compare_exchange(&self, index: i64, expected: &T, new: &T) -> Result<Result<(), T>, CallError> {
        self.row().compare_exchange(index, expected, new)
    }
}

impl<T: Integer> Array<T> {
    /// Adds to the element of an index, in one step at the server, and answers what it was before. It wraps around at its ends.
    ///
    /// # Errors
    ///
    /// As of [`set`](Array::set).
    pub fn fetch_add(&self, index: i64, number: T) -> Result<T, CallError> {
        self.row().add(index, number)
    }
}

impl<T: Serialize + DeserializeOwned> IntoIterator for &Array<T> {
    type Item = Result<T, CallError>;
    type IntoIter = Elements<T>;

    fn into_iter(self) -> Elements<T> {
        self.iter()
    }
}

//! `Value`: one value in a server.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::integer::Integer;
use super::row::Row;
use super::{Handle, Updated, proxy};
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// One value that lives in a server process.
///
/// It is a proxy, as [`Dict`](super::Dict) is, and all that is said there of copies, of names, of what blocks and of death
/// holds here. A value that only processes of this machine share is faster in [`sync::Value`](crate::sync::Value), which is
/// shared memory.
///
/// ```
/// # multiprocess::testing!();
/// # let manager = multiprocess::Manager::start()?;
/// let best = manager.value(0u64)?;
/// best.update(|best| best.max(17))?;
/// assert_eq!(best.fetch_add(1)?, 17);
/// assert_eq!(best.get()?, 18);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ValueProxy")]
#[doc(alias = "SyncManager.Value")]
pub struct Value<T> {
    handle: Handle,
    types: PhantomData<fn(T) -> T>,
}

proxy!(Value<T>, Kind::Value);

impl<T> Value<T> {
    pub(in crate::manager) fn of(handle: Handle) -> Value<T> {
        Value { handle, types: PhantomData }
    }

    #[inline]
    fn row(&self) -> Row<'_> {
        Row(&self.handle)
    }

    /// The name it has, if it was made or opened by one.
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// What it is.
    ///
    /// # Errors
    ///
    /// It is not a `T`; else see [`CallError`].
    #[inline]
    pub fn get(&self) -> Result<T, CallError> {
        self.row().get(Op::ListGet, 0)
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[inline]
    pub fn set(&self, value: &T) -> Result<(), CallError> {
        self.row().put(Op::ListSet, 0, value)
    }

    /// Changes it in one step: `change` gets the value and answers the new one. If somebody else changes it meanwhile, `change` is
    /// called again with the newer one; [`Updated`] says how often.
    ///
    /// # Errors
    ///
    /// As of [`get`](Value::get) and [`set`](Value::set).
    pub fn update(&self, change: impl FnMut(T) -> T) -> Result<Updated<T>, CallError> {
        self.row().update(0, change)
    }

    /// Sets it to `new` if it is `expected`, which is to serialize to the same bytes. Else answers what it is, as an error inside.
    ///
    /// # Errors
    ///
    /// As of [`get`](Value::get) and [`set`](Value::set).
    pub fn compare_exchange(&self, expected: &T, new: &T) -> Result<Result<(), T>, CallError> {
        self.row().compare_exchange(0, expected, new)
    }
}

impl<T: Integer> Value<T> {
    /// Adds to it, in one step at the server, and answers what it was before. It wraps around at its ends.
    ///
    /// # Errors
    ///
    /// As of [`get`](Value::get).
    pub fn fetch_add(&self, number: T) -> Result<T, CallError> {
        self.row().add(0, number)
    }
}

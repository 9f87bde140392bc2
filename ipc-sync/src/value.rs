//! `Value`: one value that processes share, with a lock for those who read and write it in one step.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use ipc_shm::{Cells, HeaderError, NameError, Shareable, layout_hash};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::element::{Element, Room, shape, type_hash};
use crate::integer::Integer;
use crate::lock::LockCell;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::unwinding::Unwinding;
use crate::{CreateError, Deadline, LockError, LockGuard, NamedError, Place, Primitive, TryLockError};

/// ```text
///  0 8 lock     see `lock`
///  8 8 kind     hash of the type's name
/// 16 … element  see `element`
/// ```
#[repr(C)]
struct ValueCell<T> {
    lock: LockCell,
    kind: AtomicU64,
    element: Room<T>,
}

mod cells {
    //! Promises about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers, and a room that is touched as if it were made of them.
    unsafe impl<T: super::Shareable> super::Cells for super::ValueCell<T> {}
}

impl<T: Shareable> Primitive for ValueCell<T> {
    const TAG: [u8; 4] = *b"VALU";
    const LAYOUT: u64 = layout_hash("value 2: lock u32, poisoned u32, kind u64, element") ^ shape::<T>();
}

impl<T: Shareable> ValueCell<T> {
    fn init(&self, value: T) {
        self.kind.store(type_hash::<T>(), Relaxed);
        self.element.element().store(value);
    }

    /// Whether it was made for this very type, and not for another one of its size.
    fn check(&self) -> Result<(), HeaderError> {
        if self.kind.load(Relaxed) == type_hash::<T>() { Ok(()) } else { Err(HeaderError::Layout) }
    }
}

/// A value that the threads of any number of processes share.
///
/// [`get`](Value::get) answers the value that was stored last and never waits. [`update`](Value::update) changes it in
/// one step, [`lock`](Value::lock) gives a guard for longer sections: both wait while another thread has the value's
/// lock. Integers also have what atomics have ([`fetch_add`](Value::fetch_add) and friends), which take no lock: choose
/// one way for each value, for an update stores over what a `fetch_add` did in the midst of it.
///
/// A value is always whole, of whatever size: whoever reads it, and whoever dies at whatever instruction, sees what was
/// there before a store or what is there after it. When the holder of the lock dies, the lock goes to the next one
/// within a millisecond or so, the value is as it was before that holder's section, and guards say
/// [`owner_died`](ValueGuard::owner_died) until one of them calls [`mark_consistent`](ValueGuard::mark_consistent).
/// Python's `v.value += 1` is two steps and loses counts; here a step is one call.
///
/// A `Value` is a handle: cloning shares the value, and it can be sent inside any message. Creating a small one costs
/// no descriptor. A value of more than 8 bytes takes twice its size.
///
/// ```
/// use ipc_sync::Value;
///
/// let total = Value::new(40u64)?;
/// total.fetch_add(1); // one instruction
/// total.update(|total| *total += 1)?; // any change, under the lock
/// assert_eq!(total.get(), 42);
///
/// let place = Value::new([0.0f64; 3])?;
/// place.lock()?[2] = 1.5; // stored when the guard is dropped
/// assert_eq!(place.get(), [0.0, 0.0, 1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "multiprocessing.Value")]
#[doc(alias = "RawValue")]
#[doc(alias = "sharedctypes")]
pub struct Value<T: Shareable> {
    cell: Place<ValueCell<T>>,
}

impl<T: Shareable> Value<T> {
    /// A new value.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new(value: T) -> Result<Value<T>, CreateError> {
        Ok(Value { cell: Place::new(|cell: &ValueCell<T>| cell.init(value))? })
    }

    /// The value of this name; if there is none it is made and holds `value`. The name goes with its last user, dead or
    /// alive.
    ///
    /// ```
    /// # let name = &format!("doc-value-{}", std::process::id());
    /// use ipc_sync::Value;
    /// let first = Value::named(name, 1u32)?;
    /// let again = Value::named(name, 2u32)?; // in this process or another
    /// assert_eq!(again.get(), 1);
    /// assert!(Value::named(name, 1.0f32).is_err()); // of the same size, but another type
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched. A value of another type is one: types are told
    /// apart by size, alignment and full name, so what programs share is a type of one crate.
    pub fn named(name: &str, value: T) -> Result<Value<T>, NamedError> {
        let (cell, _) = Place::named(name, |cell: &ValueCell<T>| cell.init(value))?;
        cell.check().map_err(NameError::from)?;
        Ok(Value { cell })
    }

    /// The value that was stored last. Takes no lock and does not wait for whoever has it, stopped or dead as it may be.
    ///
    /// Up to 8 bytes this is one load. What is larger is copied, again if it was replaced meanwhile. After a hundred
    /// disturbed copies in a row it has whoever stores all the time pause for it, 10 ms at most.
    #[inline(always)]
    #[doc(alias = "value")]
    #[must_use]
    pub fn get(&self) -> T {
        self.element().load()
    }

    /// Replaces the value. Up to 8 bytes this is one store, which does not block and does not fail, and a guard or an
    /// update that is under way elsewhere will store over it; what is larger waits for the lock.
    ///
    /// # Errors
    ///
    /// As [`lock`](Value::lock), for more than 8 bytes.
    #[inline(always)]
    pub fn set(&self, value: T) -> Result<(), LockError> {
        if Element::<T>::IS_SMALL {
            self.element().store(value);
            return Ok(());
        }
        self.update(|place| *place = value)
    }

    /// Changes the value in one step, under the lock: `f` gets a private copy, which is stored when it returns. Answers
    /// what `f` does. To wait for a limited time, use [`lock_timeout`](Value::lock_timeout).
    ///
    /// A process that dies inside leaves the value as it was. So does a panic in `f`; both poison the value.
    ///
    /// ```
    /// # let stock = ipc_sync::Value::new(250u8)?;
    /// // Overflow is yours to judge; `fetch_add` wraps around.
    /// let sum = stock.update(|stock| stock.checked_add(10).inspect(|sum| *stock = *sum))?;
    /// assert_eq!((sum, stock.get()), (None, 250));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](Value::lock); `f` was not called.
    #[inline]
    #[doc(alias = "get_lock")]
    pub fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, LockError> {
        let guard = self.cell.lock.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)?;
        let mut copy = self.element().load_undisturbed();
        let result = f(&mut copy);
        if guard.is_ours() {
            self.element().store(copy);
        }
        Ok(result)
    }

    /// Takes the value's lock; sleeps while a living thread has it. The guard holds a copy of the value, which is stored
    /// when the guard is dropped.
    ///
    /// # Errors
    ///
    /// This thread has the lock already, or it cannot take part, or the lock's memory is damaged.
    #[inline]
    #[doc(alias = "acquire")]
    #[doc(alias = "get_lock")]
    #[doc(alias = "get_obj")]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the value's lock if nobody living has it. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](Value::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the value's lock, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Value::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the value's lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Value::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ValueGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline(always)]
    fn lock_until(&self, deadline: Deadline) -> Result<ValueGuard<'_, T>, TryLockError> {
        let lock = self.cell.lock.lock_until(deadline)?;
        let element = self.element();
        let copy = element.load_undisturbed();
        Ok(ValueGuard { lock, element, copy, changed: false, unwinding: Unwinding::now() })
    }

    #[inline(always)]
    fn element(&self) -> Element<'_, T> {
        self.cell.element.element()
    }
}

/// Changes by one instruction: no lock, no waiting, nothing that a death could leave half done. All are sequentially
/// consistent.
impl<T: Integer> Value<T> {
    /// Adds, wrapping around at the end of the type; answers what was there before.
    #[inline(always)]
    pub fn fetch_add(&self, operand: T) -> T {
        T::fetch_add(self.element().atomic(), operand)
    }

    /// Subtracts, wrapping around at the end of the type; answers what was there before.
    #[inline(always)]
    pub fn fetch_sub(&self, operand: T) -> T {
        T::fetch_sub(self.element().atomic(), operand)
    }

    /// Keeps the bits that `operand` has, too; answers what was there before.
    #[inline(always)]
    pub fn fetch_and(&self, operand: T) -> T {
        T::fetch_and(self.element().atomic(), operand)
    }

    /// Sets the bits that `operand` has; answers what was there before.
    #[inline(always)]
    pub fn fetch_or(&self, operand: T) -> T {
        T::fetch_or(self.element().atomic(), operand)
    }

    /// Turns the bits that `operand` has; answers what was there before.
    #[inline(always)]
    pub fn fetch_xor(&self, operand: T) -> T {
        T::fetch_xor(self.element().atomic(), operand)
    }

    /// Stores `operand` if it is larger; answers what was there before.
    #[inline(always)]
    pub fn fetch_max(&self, operand: T) -> T {
        T::fetch_max(self.element().atomic(), operand)
    }

    /// Stores `operand` if it is smaller; answers what was there before.
    #[inline(always)]
    pub fn fetch_min(&self, operand: T) -> T {
        T::fetch_min(self.element().atomic(), operand)
    }

    /// Stores `new`; answers what was there before.
    #[inline(always)]
    pub fn swap(&self, new: T) -> T {
        T::swap(self.element().atomic(), new)
    }

    /// Stores `new` if the value is `current`; answers what was there before.
    ///
    /// # Errors
    ///
    /// What was there instead, and still is.
    #[inline(always)]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        T::compare_exchange(self.element().atomic(), current, new)
    }
}

impl<T: Shareable> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.cell.serialize(serializer)
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cell = Place::<ValueCell<T>>::deserialize(deserializer)?;
        cell.check().map_err(de::Error::custom)?;
        Ok(Value { cell })
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Value");
        out.field("value", &self.get());
        self.cell.lock.describe(&mut out);
        out.finish()
    }
}

/// Holds a [`Value`]'s lock and a private copy of the value, which is stored when the guard is dropped.
///
/// It is stored only if it was borrowed mutably, so a guard that only reads disturbs no `fetch_add`. Nobody sees
/// the copy before. A guard that is dropped by a panic that began while it was held stores nothing and poisons the value,
/// as a death would. A guard copied into a child by `fork` is inert there. It stays in its thread, to which the lock belongs.
#[must_use = "the value is stored and the lock released when the guard is dropped"]
pub struct ValueGuard<'a, T: Shareable> {
    lock: LockGuard<'a>,
    element: Element<'a, T>,
    copy: T,
    changed: bool,
    unwinding: Unwinding,
}

impl<T: Shareable> ValueGuard<'_, T> {
    /// Whether a holder died or panicked with the lock, and nobody has called
    /// [`mark_consistent`](ValueGuard::mark_consistent) since. The value is whole; it is the one from before that
    /// holder's section, or that from after it.
    pub fn owner_died(&self) -> bool {
        self.lock.owner_died()
    }

    /// What the value means has been looked through and is in order again.
    pub fn mark_consistent(&self) {
        self.lock.mark_consistent();
    }
}

impl<T: Shareable> Deref for ValueGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.copy
    }
}

impl<T: Shareable> DerefMut for ValueGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.copy
    }
}

impl<T: Shareable> Drop for ValueGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.changed && !self.unwinding.has_begun() && self.lock.is_ours() {
            self.element.store(self.copy);
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueGuard")
            .field("value", &self.copy)
            .field("owner_died", &self.owner_died())
            .finish()
    }
}

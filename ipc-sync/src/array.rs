//! `Array`: values in a row that processes share, with one lock for those who change several in one step.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use ipc_shm::{Cells, HeaderError, Kind, NameError, Parcel, Segment, Shareable, View, layout_hash};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::element::{Element, Elements, shape, type_hash};
use crate::integer::Integer;
use crate::lock::LockCell;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::{CreateError, Deadline, LockError, LockGuard, NamedError, Registry, TryLockError};

/// Begin of the segment's body; the elements follow.
///
/// ```text
///  0  8  lock      see `lock`
///  8  8  kind      hash of the type's name
/// 16  8  len       elements
/// 24 40  zero
/// 64  …  elements  see `element`
/// ```
#[repr(C)]
struct ArrayHead {
    lock: LockCell,
    kind: AtomicU64,
    len: AtomicU64,
}

const ELEMENTS: usize = 64;

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::ArrayHead {}
}

/// An index, or a range, that the array does not have. Nothing was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange {
    /// The last index asked for.
    pub index: usize,
    /// Elements there are.
    pub len: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} is out of range of an array of {}", self.index, self.len)
    }
}

impl std::error::Error for OutOfRange {}

/// Why elements were not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArrayError {
    /// The array does not have them.
    OutOfRange(OutOfRange),
    /// The lock could not be taken.
    Lock(LockError),
    /// The guard came here by fork: the lock is the parent's.
    NotOwner,
}

impl fmt::Display for ArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArrayError::OutOfRange(error) => error.fmt(f),
            ArrayError::Lock(error) => error.fmt(f),
            ArrayError::NotOwner => f.write_str("the guard is a forked copy, its lock belongs to the parent"),
        }
    }
}

impl std::error::Error for ArrayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ArrayError::OutOfRange(error) => Some(error),
            ArrayError::Lock(error) => Some(error),
            ArrayError::NotOwner => None,
        }
    }
}

impl From<OutOfRange> for ArrayError {
    fn from(error: OutOfRange) -> Self {
        ArrayError::OutOfRange(error)
    }
}

impl From<LockError> for ArrayError {
    fn from(error: LockError) -> Self {
        ArrayError::Lock(error)
    }
}

/// A fixed number of values in a row that the threads of any number of processes share.
///
/// Elements are read and written by copy. Each is always whole, of whatever size: whoever reads it, and whoever dies at
/// whatever instruction, sees what was there before a store or what is there after it. Several elements are consistent
/// with each other only under the lock of the whole array: [`lock`](Array::lock) gives a guard for read-modify-write
/// of any of them and waits while another thread has it. Reading never waits. Integers also have what atomics have
/// ([`fetch_add`](Array::fetch_add) and friends), element by element and without the lock.
///
/// When the holder of the lock dies, the lock goes to the next one within a millisecond or so; what was written is
/// written, what was not is not, and guards say [`owner_died`](ArrayGuard::owner_died) until one of them calls
/// [`mark_consistent`](ArrayGuard::mark_consistent).
///
/// An `Array` is a handle: cloning shares the elements, and it can be sent inside any message. It has a segment of its
/// own: one descriptor, and memory for what was touched. An element of more than 8 bytes takes twice its size and 8; one
/// of 3, 5, 6 or 7 bytes is rounded up to 4 or 8.
///
/// ```
/// use ipc_sync::Array;
///
/// let shelf = Array::from_slice(&[1u32, 2, 3])?;
/// shelf.set(0, 10)?;
/// shelf.fetch_add(1, 1)?; // one instruction
/// {
///     let guard = shelf.lock()?; // several in one step
///     let sum = guard.get(0)? + guard.get(1)?;
///     guard.set(2, sum)?;
/// }
/// assert_eq!(shelf.to_vec(), [10, 3, 13]);
/// assert_eq!(shelf.get(3).unwrap_err().to_string(), "index 3 is out of range of an array of 3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Array")]
#[doc(alias = "RawArray")]
#[doc(alias = "sharedctypes")]
pub struct Array<T: Shareable> {
    head: View<ArrayHead>,
    elements: Elements<T>,
}

impl<T: Shareable> Array<T> {
    const KIND: Kind = Kind {
        tag: *b"ARRY",
        layout: layout_hash("array 2: lock u32, poisoned u32, kind u64, len u64, elements at 64")
            ^ shape::<T>(),
    };

    /// A new array of `len` elements whose bytes are zero. It may be empty.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process; or it would be larger than an address space.
    pub fn new(len: usize) -> Result<Array<T>, CreateError> {
        let registry = Registry::get().map_err(CreateError::Registry)?;
        let size =
            size_of_body::<T>(len).ok_or_else(|| CreateError::Io(io::ErrorKind::InvalidInput.into()))?;
        let segment = Segment::create(c"array", Self::KIND, size, registry.id()).map_err(CreateError::Io)?;
        begin::<T>(&segment, len);
        Ok(Array::of(segment).expect("it was made for this type"))
    }

    /// A new array that holds what `elements` does.
    ///
    /// # Errors
    ///
    /// As [`new`](Array::new).
    pub fn from_slice(elements: &[T]) -> Result<Array<T>, CreateError> {
        let array = Array::new(elements.len())?;
        array.elements.write(0, elements).expect("it has as many");
        Ok(array)
    }

    /// The array of this name; if there is none it is made, of `len` elements whose bytes are zero. The name goes with
    /// its last user, dead or alive.
    ///
    /// ```
    /// # let name = &format!("doc-array-{}", std::process::id());
    /// use ipc_sync::Array;
    /// let first = Array::<u16>::named(name, 3)?;
    /// first.set(2, 7)?;
    /// assert_eq!(Array::<u16>::named(name, 3)?.to_vec(), [0, 0, 7]); // in this process or another
    /// let error = Array::<u16>::named(name, 4).unwrap_err();
    /// assert_eq!(error.to_string(), "the array of this name has 3 elements");
    /// assert!(Array::<i16>::named(name, 3).is_err()); // of the same size, but another type
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched. An array of another type or length is one: types
    /// are told apart by size, alignment and full name, so what programs share is a type of one crate.
    pub fn named(name: &str, len: usize) -> Result<Array<T>, NamedError> {
        let registry = Registry::get().map_err(NamedError::Registry)?;
        let too_large = || ipc_shm::CreateError::TooLarge { size: len };
        let size = size_of_body::<T>(len).ok_or_else(too_large).map_err(NameError::from)?;
        let init = |segment: &Segment| begin::<T>(segment, len);
        let (segment, _) = Segment::leased(name, Self::KIND, size, registry.id(), init)?;
        if segment.registry() != registry.id() {
            return Err(NameError::from(HeaderError::ForeignRegistry).into());
        }
        let array = Array::of(segment).map_err(NameError::from)?;
        if array.len() != len {
            return Err(NamedError::Length { found: array.len() });
        }
        Ok(array)
    }

    /// The array in a segment of its kind and of our registry.
    fn of(segment: Segment) -> Result<Array<T>, HeaderError> {
        let head = segment.view::<ArrayHead>(0).map_err(|_| HeaderError::Layout)?;
        let len = usize::try_from(head.len.load(Relaxed)).map_err(|_| HeaderError::Layout)?;
        if head.kind.load(Relaxed) != type_hash::<T>() {
            return Err(HeaderError::Layout);
        }
        let elements = Elements::new(segment, ELEMENTS, len).ok_or(HeaderError::Layout)?;
        Ok(Array { head, elements })
    }

    /// Elements there are. It never changes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, as it was stored last. Takes no lock and does not wait for whoever has it; see
    /// [`Value::get`](crate::Value::get).
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Result<T, OutOfRange> {
        Ok(self.elements.element(index)?.load())
    }

    /// Replaces the element at `index`. Up to 8 bytes this is one store, which does not block, and a guard or an update
    /// that is under way elsewhere may store over it; what is larger waits for the lock.
    ///
    /// # Errors
    ///
    /// There is no such element; for more than 8 bytes also as [`lock`](Array::lock).
    #[inline(always)]
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        let element = self.elements.element(index)?;
        let _guard = self.lock_if_large()?;
        element.store(value);
        Ok(())
    }

    /// Copies elements out, from `offset` on as many as `target` has. Does not block. Each is whole; if others write
    /// meanwhile, some may be older than others: read under [`lock`](Array::lock) where that matters.
    ///
    /// # Errors
    ///
    /// There are not so many; nothing was copied.
    pub fn read(&self, offset: usize, target: &mut [T]) -> Result<(), OutOfRange> {
        self.elements.check(offset, target.len())?;
        target.iter_mut().zip(offset..).for_each(|(place, index)| *place = self.load_at(index));
        Ok(())
    }

    /// Copies `source` over the elements from `offset` on. Does not block for elements of up to 8 bytes; what is larger
    /// waits for the lock. Each is stored as a whole, one after the other: who dies in the midst has written the first
    /// ones.
    ///
    /// # Errors
    ///
    /// There are not so many, and nothing was written; for elements of more than 8 bytes also as [`lock`](Array::lock).
    pub fn write(&self, offset: usize, source: &[T]) -> Result<(), ArrayError> {
        self.elements.check(offset, source.len())?;
        let _guard = self.lock_if_large()?;
        Ok(self.elements.write(offset, source)?)
    }

    /// All elements, copied as by [`read`](Array::read).
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }

    /// The elements in turn, each copied when its turn comes. Does not block.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + DoubleEndedIterator + '_ {
        (0..self.len()).map(|index| self.load_at(index))
    }

    /// Changes one element in one step, under the lock: `f` gets a private copy, which is stored when it returns. Answers
    /// what `f` does. To wait for a limited time, use [`lock_timeout`](Array::lock_timeout).
    ///
    /// A process that dies inside leaves the element as it was. So does a panic in `f`; both poison the array.
    ///
    /// # Errors
    ///
    /// There is no such element, or as [`lock`](Array::lock); `f` was not called.
    #[inline]
    pub fn update<R>(&self, index: usize, f: impl FnOnce(&mut T) -> R) -> Result<R, ArrayError> {
        self.elements.element(index)?;
        self.lock()?.update(index, f)
    }

    /// Takes the lock of the whole array; sleeps while a living thread has it.
    ///
    /// # Errors
    ///
    /// This thread has the lock already, or it cannot take part, or the lock's memory is damaged.
    #[inline]
    #[doc(alias = "acquire")]
    #[doc(alias = "get_lock")]
    #[doc(alias = "get_obj")]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the array's lock if nobody living has it. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](Array::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the array's lock, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Array::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the array's lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Array::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ArrayGuard<'_, T>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline(always)]
    fn lock_until(&self, deadline: Deadline) -> Result<ArrayGuard<'_, T>, TryLockError> {
        Ok(ArrayGuard { lock: self.head.lock.lock_until(deadline)?, elements: &self.elements })
    }

    /// Stores of what one atomic holds need no lock.
    #[inline(always)]
    fn lock_if_large(&self) -> Result<Option<ArrayGuard<'_, T>>, LockError> {
        if Element::<T>::IS_SMALL { Ok(None) } else { self.lock().map(Some) }
    }

    #[inline(always)]
    fn load_at(&self, index: usize) -> T {
        self.elements.element(index).expect("the index was checked").load()
    }
}

fn size_of_body<T: Shareable>(len: usize) -> Option<usize> {
    Elements::<T>::size(len)?.checked_add(ELEMENTS)
}

/// Writes the head of a new array, whose lock is free and whose elements are zero.
fn begin<T: Shareable>(segment: &Segment, len: usize) {
    let head = segment.view::<ArrayHead>(0).expect("made for it");
    head.kind.store(type_hash::<T>(), Relaxed);
    head.len.store(len as u64, Relaxed);
}

impl<T: Shareable> Elements<T> {
    #[inline(always)]
    fn element(&self, index: usize) -> Result<Element<'_, T>, OutOfRange> {
        self.at(index).ok_or(OutOfRange { index, len: self.len() })
    }

    fn check(&self, offset: usize, count: usize) -> Result<(), OutOfRange> {
        match offset.checked_add(count) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(OutOfRange { index: offset.saturating_add(count).saturating_sub(1), len: self.len() }),
        }
    }

    /// Stores one after the other. The caller has the lock if they are large.
    fn write(&self, offset: usize, source: &[T]) -> Result<(), OutOfRange> {
        self.check(offset, source.len())?;
        source.iter().zip(offset..).try_for_each(|(value, index)| {
            self.element(index)?.store(*value);
            Ok(())
        })
    }
}

/// Changes by one instruction: no lock, no waiting, nothing that a death could leave half done. All are sequentially
/// consistent.
impl<T: Integer> Array<T> {
    /// Adds, wrapping around at the end of the type; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_add(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_add(self.atomic(index)?, operand))
    }

    /// Subtracts, wrapping around at the end of the type; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_sub(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_sub(self.atomic(index)?, operand))
    }

    /// Keeps the bits that `operand` has, too; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_and(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_and(self.atomic(index)?, operand))
    }

    /// Sets the bits that `operand` has; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_or(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_or(self.atomic(index)?, operand))
    }

    /// Turns the bits that `operand` has; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_xor(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_xor(self.atomic(index)?, operand))
    }

    /// Stores `operand` if it is larger; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_max(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_max(self.atomic(index)?, operand))
    }

    /// Stores `operand` if it is smaller; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn fetch_min(&self, index: usize, operand: T) -> Result<T, OutOfRange> {
        Ok(T::fetch_min(self.atomic(index)?, operand))
    }

    /// Stores `new`; answers what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn swap(&self, index: usize, new: T) -> Result<T, OutOfRange> {
        Ok(T::swap(self.atomic(index)?, new))
    }

    /// Stores `new` if the element is `current`; answers whether it did, and what was there before.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn compare_exchange(&self, index: usize, current: T, new: T) -> Result<Result<T, T>, OutOfRange> {
        Ok(T::compare_exchange(self.atomic(index)?, current, new))
    }

    #[inline(always)]
    fn atomic(&self, index: usize) -> Result<&T::Atomic, OutOfRange> {
        Ok(self.elements.element(index)?.atomic())
    }
}

impl<T: Shareable> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array { head: self.head.clone(), elements: self.elements.clone() }
    }
}

impl<T: Shareable> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.elements.segment().pack().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parcel = Parcel::deserialize(deserializer)?;
        let segment = Segment::unpack(parcel, Self::KIND).map_err(de::Error::custom)?;
        if segment.registry() != Registry::get().map_err(de::Error::custom)?.id() {
            return Err(de::Error::custom(HeaderError::ForeignRegistry));
        }
        Array::of(segment).map_err(de::Error::custom)
    }
}

/// Elements that `Debug` shows.
const SHOWN: usize = 16;

impl<T: Shareable + fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let look = |index| self.elements.at(index).map(Element::load);
        let first: Vec<T> = (0..SHOWN).map_while(look).collect();
        let mut out = f.debug_struct("Array");
        out.field("len", &self.len()).field("first", &first);
        self.head.lock.describe(&mut out);
        out.finish()
    }
}

/// Holds an [`Array`]'s lock until it is dropped. Stays in its thread, to which the lock belongs.
///
/// It works in place and keeps no copy: what it writes is seen by lock-free readers at once, element by element, and
/// stays written if its holder panics or dies afterwards. Both poison the array. A guard copied into a child by `fork`
/// writes nothing there, and leaves the lock to the parent.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ArrayGuard<'a, T: Shareable> {
    lock: LockGuard<'a>,
    elements: &'a Elements<T>,
}

impl<T: Shareable> ArrayGuard<'_, T> {
    /// The element at `index`.
    ///
    /// # Errors
    ///
    /// There is no such element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Result<T, OutOfRange> {
        Ok(self.elements.element(index)?.load()) // in a forked copy of the guard, others may store
    }

    /// Replaces the element at `index`.
    ///
    /// # Errors
    ///
    /// There is no such element, or this is a forked copy of the guard.
    #[inline(always)]
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        self.check_owner()?;
        self.elements.element(index)?.store(value);
        Ok(())
    }

    /// Copies elements out, from `offset` on as many as `target` has.
    ///
    /// # Errors
    ///
    /// There are not so many; nothing was copied.
    pub fn read(&self, offset: usize, target: &mut [T]) -> Result<(), OutOfRange> {
        self.elements.check(offset, target.len())?;
        target.iter_mut().zip(offset..).try_for_each(|(place, index)| {
            *place = self.get(index)?;
            Ok(())
        })
    }

    /// Copies `source` over the elements from `offset` on.
    ///
    /// # Errors
    ///
    /// There are not so many, or this is a forked copy of the guard; nothing was written.
    pub fn write(&self, offset: usize, source: &[T]) -> Result<(), ArrayError> {
        self.check_owner()?;
        Ok(self.elements.write(offset, source)?)
    }

    /// Changes one element: `f` gets a private copy, which is stored when it returns. Answers what `f` does.
    ///
    /// # Errors
    ///
    /// There is no such element, and `f` was not called; or this is a forked copy of the guard.
    #[inline]
    pub fn update<R>(&self, index: usize, f: impl FnOnce(&mut T) -> R) -> Result<R, ArrayError> {
        let mut copy = self.get(index)?;
        let result = f(&mut copy);
        self.set(index, copy)?;
        Ok(result)
    }

    /// All elements.
    pub fn to_vec(&self) -> Vec<T> {
        (0..self.elements.len()).map_while(|index| self.get(index).ok()).collect()
    }

    /// Whether a holder died or panicked with the lock, and nobody has called
    /// [`mark_consistent`](ArrayGuard::mark_consistent) since: some elements may be from before its section, others
    /// from within.
    pub fn owner_died(&self) -> bool {
        self.lock.owner_died()
    }

    /// The elements have been looked through and fit each other again.
    pub fn mark_consistent(&self) {
        self.lock.mark_consistent();
    }

    #[inline(always)]
    fn check_owner(&self) -> Result<(), ArrayError> {
        if self.lock.is_ours() { Ok(()) } else { Err(ArrayError::NotOwner) }
    }
}

impl<T: Shareable> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayGuard")
            .field("len", &self.elements.len())
            .field("owner_died", &self.owner_died())
            .finish()
    }
}

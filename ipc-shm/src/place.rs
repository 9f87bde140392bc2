//! Typed views into shared memory, and copies in and out of it, that are sound while another process writes.
//!
//! A race with another process is a wrong value here, never undefined behaviour: memory is touched only
//! through atomics, or by an instruction the compiler cannot look into.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::Mapping;

/// Plain data that may lie in shared memory and be copied in and out of it.
///
/// # Safety
///
/// Every bit pattern is a valid value, there are no padding bytes, no pointers, references, descriptors or
/// interior mutability, and the layout is fixed (`repr(C)` or a primitive). Not `bool`, `char`, enums or
/// `NonZero`: a peer may write any bytes.
pub unsafe trait Shareable: Copy + Send + Sync + 'static {}

macro_rules! shareable {
    ($($t:ty)*) => {$(
        // SAFETY: a primitive number: any bits are a value, no padding, a fixed layout.
        unsafe impl Shareable for $t {}
    )*};
}
shareable!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);
// SAFETY: an array has the layout of its elements in a row, without padding between them.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// A structure made of atomics only, that is used in place while other processes use it too.
///
/// # Safety
///
/// `repr(C)`; every field is an atomic integer, an array of such structures, or padding that is never read; every
/// bit pattern is valid; alignment is at most 128.
pub unsafe trait Cells: Send + Sync + 'static {}

// SAFETY: an atomic integer alone.
unsafe impl Cells for AtomicU32 {}
// SAFETY: an atomic integer alone.
unsafe impl Cells for AtomicU64 {}
// SAFETY: atomics in a row.
unsafe impl<T: Cells, const N: usize> Cells for [T; N] {}

/// A range that does not lie in the segment, or not at the alignment it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBounds {
    /// First byte asked for.
    pub offset: usize,
    /// Bytes asked for.
    pub length: usize,
    /// Bytes there are.
    pub size: usize,
}

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfBounds { offset, length, size } = self;
        write!(
            f,
            "{length} bytes at offset {offset} are out of bounds or misaligned in a segment of {size} bytes"
        )
    }
}

impl std::error::Error for OutOfBounds {}

/// Atomics in place: a `T` inside a mapping, which lives as long as its views.
pub struct View<T: Cells> {
    mapping: Arc<Mapping>,
    at: NonNull<T>,
}

// SAFETY: a view only lends `&T`, and `T: Sync` is for use from any thread; the mapping is Send and Sync.
unsafe impl<T: Cells> Send for View<T> {}
// SAFETY: as above.
unsafe impl<T: Cells> Sync for View<T> {}

impl<T: Cells> View<T> {
    /// The mapping that this view keeps alive.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl<T: Cells> Clone for View<T> {
    fn clone(&self) -> Self {
        View { mapping: self.mapping.clone(), at: self.at }
    }
}

impl<T: Cells> Deref for View<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `Mapping::view` checked bounds and alignment; `mapping` is alive; `T: Cells` is valid for any
        // bits and all its fields are atomics, so that others may write it meanwhile.
        unsafe { self.at.as_ref() }
    }
}

impl<T: Cells> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Mapping {
    /// The atomics at `offset`.
    ///
    /// # Errors
    ///
    /// They would leave the segment, or `offset` is not aligned for `T`.
    pub fn view<T: Cells>(self: &Arc<Self>, offset: usize) -> Result<View<T>, OutOfBounds> {
        let at = NonNull::from(self.cells::<T>(offset)?);
        Ok(View { mapping: self.clone(), at })
    }

    /// The atomics at `offset`, borrowed from the mapping.
    ///
    /// # Errors
    ///
    /// They would leave the segment, or `offset` is not aligned for `T`.
    pub fn cells<T: Cells>(&self, offset: usize) -> Result<&T, OutOfBounds> {
        let at = self.pointer(offset, size_of::<T>())?.cast::<T>();
        if !at.is_aligned() {
            return Err(OutOfBounds { offset, length: size_of::<T>(), size: self.size() });
        }
        // SAFETY: bounds and alignment were checked; the memory stays mapped as long as `self`; `T: Cells` is
        // valid for any bits and all its fields are atomics, so that others may write it meanwhile.
        Ok(unsafe { &*at })
    }

    /// Copies bytes out of the segment. Others may write them meanwhile: then the copy is a mixture.
    ///
    /// # Errors
    ///
    /// The range leaves the segment; nothing was copied.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let source = self.pointer(offset, bytes.len())?;
        // SAFETY: `pointer` checked that the range lies in the mapping; `bytes` is ours alone.
        unsafe { copy_out(bytes.as_mut_ptr(), source, bytes.len()) };
        Ok(())
    }

    /// Copies bytes into the segment. Others may read or write them meanwhile.
    ///
    /// # Errors
    ///
    /// The range leaves the segment; nothing was copied.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let target = self.pointer(offset, bytes.len())?;
        // SAFETY: `pointer` checked that the range lies in the mapping.
        unsafe { copy_in(target, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn pointer(&self, offset: usize, length: usize) -> Result<*mut u8, OutOfBounds> {
        match offset.checked_add(length) {
            // SAFETY: `offset <= end <= size`, so the pointer stays within the mapping or one past its end.
            Some(end) if end <= self.size() => Ok(unsafe { self.base().add(offset) }),
            _ => Err(OutOfBounds { offset, length, size: self.size() }),
        }
    }
}

const WORD: usize = size_of::<u64>();

/// From here on one string instruction beats a loop of words.
const LONG: usize = 256;

/// Copies `length` bytes from private to shared memory.
///
/// # Safety
///
/// `source` is readable and `target` is writable shared memory for `length` bytes; they do not overlap.
#[inline(always)]
pub unsafe fn copy_in(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: every access stays below `length`; words are touched only where `target` is aligned for them.
    unsafe {
        if length > LONG && string_copy(target, source, length) {
            return;
        }
        let mut i = 0;
        while i < length {
            if length - i >= WORD && target.add(i).addr() % WORD == 0 {
                shared_word(target.add(i)).store(source.add(i).cast::<u64>().read_unaligned(), Relaxed);
                i += WORD;
            } else {
                (*target.add(i).cast::<AtomicU8>()).store(*source.add(i), Relaxed);
                i += 1;
            }
        }
    }
}

/// Copies `length` bytes from shared to private memory.
///
/// # Safety
///
/// `source` is readable shared memory and `target` is writable for `length` bytes; they do not overlap.
#[inline(always)]
pub unsafe fn copy_out(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: every access stays below `length`; words are touched only where `source` is aligned for them.
    unsafe {
        if length > LONG && string_copy(target, source, length) {
            return;
        }
        let mut i = 0;
        while i < length {
            if length - i >= WORD && source.add(i).addr() % WORD == 0 {
                target.add(i).cast::<u64>().write_unaligned(shared_word(source.add(i)).load(Relaxed));
                i += WORD;
            } else {
                *target.add(i) = (*source.add(i).cast::<AtomicU8>()).load(Relaxed);
                i += 1;
            }
        }
    }
}

/// [`copy_in`] for a target that is aligned to 8 and has room up to the next multiple of 8: whole words only.
///
/// # Safety
///
/// As [`copy_in`], and `target` is 8-aligned and writable up to `length` rounded up to 8.
#[inline(always)]
pub unsafe fn copy_in_padded(target: *mut u8, source: *const u8, length: usize) {
    debug_assert!(target.addr() % WORD == 0);
    // SAFETY: `source` is read below `length` only; `target` has room for the last, padded word.
    unsafe {
        if length > LONG && string_copy(target, source, length) {
            return;
        }
        let whole = length & !(WORD - 1);
        let mut i = 0;
        while i < whole {
            shared_word(target.add(i)).store(source.add(i).cast::<u64>().read_unaligned(), Relaxed);
            i += WORD;
        }
        if i < length {
            let mut last = [0u8; WORD];
            source.add(i).copy_to_nonoverlapping(last.as_mut_ptr(), length - i);
            shared_word(target.add(i)).store(u64::from_ne_bytes(last), Relaxed);
        }
    }
}

/// [`copy_out`] from a source that is aligned to 8 and readable up to the next multiple of 8.
///
/// # Safety
///
/// As [`copy_out`], and `source` is 8-aligned and readable up to `length` rounded up to 8.
#[inline(always)]
pub unsafe fn copy_out_padded(target: *mut u8, source: *const u8, length: usize) {
    debug_assert!(source.addr() % WORD == 0);
    // SAFETY: `target` is written below `length` only; `source` is readable for the last, padded word.
    unsafe {
        if length > LONG && string_copy(target, source, length) {
            return;
        }
        let whole = length & !(WORD - 1);
        let mut i = 0;
        while i < whole {
            target.add(i).cast::<u64>().write_unaligned(shared_word(source.add(i)).load(Relaxed));
            i += WORD;
        }
        if i < length {
            let last = shared_word(source.add(i)).load(Relaxed).to_ne_bytes();
            last.as_ptr().copy_to_nonoverlapping(target.add(i), length - i);
        }
    }
}

/// # Safety
///
/// `at` is 8-aligned and readable (writable, if stored to) shared memory for 8 bytes during `'a`.
#[inline(always)]
unsafe fn shared_word<'a>(at: *const u8) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; an atomic is valid for any bits and may be shared with any writer.
    unsafe { &*at.cast::<AtomicU64>() }
}

/// Copies with one instruction that the compiler cannot look into; false where there is none.
///
/// # Safety
///
/// `source` is readable and `target` writable for `length` bytes; they do not overlap.
#[inline(always)]
unsafe fn string_copy(target: *mut u8, source: *const u8, length: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `rep movsb` reads and writes exactly `length` bytes (the caller's promise); the direction flag is
    // clear by the ABI.
    unsafe {
        std::arch::asm!("rep movsb", inout("rcx") length => _, inout("rdi") target => _, inout("rsi") source => _,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (target, source, length);
    cfg!(target_arch = "x86_64")
}

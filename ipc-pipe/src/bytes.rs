//! The bytes of a ring: a power of two, addressed by positions that never wrap.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ipc_shm::{Mapping, OutOfBounds, copy_in, copy_in_padded, copy_out_padded};

/// A ring of bytes inside a mapping, which it keeps alive.
///
/// Positions are reduced modulo the capacity, and lengths are cut to it, so no position or length
/// that a peer wrote leads outside.
pub struct Bytes {
    /// First byte; 8-aligned.
    base: *mut u8,
    mask: u64,
    _mapping: Arc<Mapping>,
}

// SAFETY: the memory is shared with other processes anyway and touched by atomics and copies only.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// The ring of `capacity` bytes at `offset` of `mapping`.
    ///
    /// # Errors
    ///
    /// It would leave the mapping, `offset` is not a multiple of 8, or `capacity` is not a power of two of 64 or more.
    pub fn new(mapping: &Arc<Mapping>, offset: usize, capacity: usize) -> Result<Bytes, OutOfBounds> {
        let size = mapping.size();
        let fits = offset.checked_add(capacity).is_some_and(|end| end <= size);
        if !fits || offset % 8 != 0 || !capacity.is_power_of_two() || capacity < 64 {
            return Err(OutOfBounds { offset, length: capacity, size });
        }
        // SAFETY: `offset <= size`, checked above.
        let base = unsafe { mapping.base().add(offset) };
        Ok(Bytes { base, mask: capacity as u64 - 1, _mapping: mapping.clone() })
    }

    /// Bytes of the ring.
    #[inline(always)]
    pub fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// The word at `position`, rounded down to a multiple of 8.
    #[inline(always)]
    pub fn header(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the offset is below the capacity and a multiple of 8, the base is 8-aligned, and the capacity is a
        // multiple of 8: an aligned word of the mapping, which lives as long as `self`. It is only used atomically.
        unsafe { &*self.at(position & !7).cast::<AtomicU64>() }
    }

    /// Asks for the line at `position` in a writable state, without waiting for it.
    #[inline(always)]
    pub fn prefetch_write(&self, position: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint and faults on no address.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) self.at(position), options(nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = position;
    }

    /// Copies `payload` to `position`, a multiple of 8, around the end if need be. Up to 7 bytes behind it become zero.
    #[inline(always)]
    pub fn write(&self, position: u64, payload: &[u8]) {
        let length = payload.len().min(self.mask as usize + 1);
        let first = length.min(self.until_end(position));
        // SAFETY: `first` bytes lie before the ring's end and the rest starts at its base, and `length` is at
        // most the capacity; position and capacity are multiples of 8, so that both parts are aligned and padded.
        unsafe {
            copy_in_padded(self.at(position & !7), payload.as_ptr(), first);
            if first < length {
                copy_in_padded(self.base, payload.as_ptr().add(first), length - first);
            }
        }
    }

    /// Copies `bytes` to `position`, around the end if need be, and touches nothing else.
    pub fn write_at(&self, position: u64, bytes: &[u8]) {
        let length = bytes.len().min(self.mask as usize + 1);
        let first = length.min((self.capacity() - (position & self.mask)) as usize);
        // SAFETY: `first` bytes lie before the ring's end and the rest starts at its base, and `length` is at
        // most the capacity.
        unsafe {
            copy_in(self.at(position), bytes.as_ptr(), first);
            copy_in(self.base, bytes.as_ptr().add(first), length - first);
        }
    }

    /// Appends `length` bytes from `position`, a multiple of 8, to `buffer`; cut to the capacity.
    #[inline(always)]
    pub fn read(&self, position: u64, length: usize, buffer: &mut Vec<u8>) {
        let length = length.min(self.mask as usize + 1);
        let first = length.min(self.until_end(position));
        buffer.reserve(length);
        // SAFETY: as in `write` for the ring; `buffer` has room for `length` bytes behind its end, which are
        // all written before its length covers them.
        unsafe {
            let target = buffer.as_mut_ptr().add(buffer.len());
            copy_out_padded(target, self.at(position & !7), first);
            if first < length {
                copy_out_padded(target.add(first), self.base, length - first);
            }
            buffer.set_len(buffer.len() + length);
        }
    }

    /// Copies as many bytes as `target` has from `position`, a multiple of 8; cut to the capacity.
    #[inline(always)]
    pub fn read_into(&self, position: u64, target: &mut [u8]) {
        let length = target.len().min(self.mask as usize + 1);
        let first = length.min(self.until_end(position));
        // SAFETY: as in `read`; `target` has `length` bytes, and not one behind them is written.
        unsafe {
            copy_out_padded(target.as_mut_ptr(), self.at(position & !7), first);
            if first < length {
                copy_out_padded(target.as_mut_ptr().add(first), self.base, length - first);
            }
        }
    }

    #[inline(always)]
    fn until_end(&self, position: u64) -> usize {
        (self.capacity() - (position & !7 & self.mask)) as usize
    }

    #[inline(always)]
    fn at(&self, position: u64) -> *mut u8 {
        // SAFETY: the offset is below the capacity, all of which lies in the mapping.
        unsafe { self.base.add((position & self.mask) as usize) }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

//! Memory that all processes of a test see: accounts, marks and flags.
//!
//! It is never unmapped: a test needs little of it, and a child that still runs may hold a reference. Its pages go
//! with the processes.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

/// What may lie in shared memory as zeroes.
///
/// # Safety
///
/// All zero bytes are a valid value, and it may be changed by other processes at any time.
pub unsafe trait Zero: Sync + 'static {}

macro_rules! zero {
    ($($t:ty)*) => {$(
        // SAFETY: an atomic of an integer or a bool: zero is valid, and changes from outside are its purpose.
        unsafe impl Zero for $t {}
    )*};
}
zero!(AtomicBool AtomicU8 AtomicU32 AtomicI32 AtomicU64 AtomicI64 AtomicUsize);
// SAFETY: as its elements.
unsafe impl<T: Zero, const N: usize> Zero for [T; N] {}

/// One `T::default()` that this process and the children it forks from now on share: a structure of atomics.
///
/// # Panics
///
/// `T` owns something (it needs drop), or there is no memory.
pub fn shared<T: Default + Sync + 'static>() -> &'static T {
    assert!(!std::mem::needs_drop::<T>(), "what is shared must not own memory of one process");
    let at = map(size_of::<T>()).cast::<T>();
    // SAFETY: `map` gave room for a `T`, aligned to a page, that nobody else knows yet; it is never unmapped.
    unsafe {
        at.write(T::default());
        &*at
    }
}

/// `count` zeroes, shared as [`shared`] does. Memory is spent only for those that are touched.
pub fn shared_slice<T: Zero>(count: usize) -> &'static [T] {
    let at = map(count * size_of::<T>()).cast::<T>();
    // SAFETY: `map` gave room for them, aligned to a page and all zeroes, which `Zero` says are valid.
    unsafe { std::slice::from_raw_parts(at, count) }
}

fn map(bytes: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice takes nothing from anybody.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes.max(1), protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "mmap of {bytes} bytes: {}", std::io::Error::last_os_error());
    at.cast()
}

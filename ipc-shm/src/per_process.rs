//! A value that a forked child finds new, whatever its parent's other threads were doing to it.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::*};

use crate::fork::{forks, watch};

/// A `T::default()` of each process, for statics of the crates above.
///
/// A forked child cannot use its copy of the parent's value: a lock in it may be held by a thread that
/// does not exist here. It leaves the copy alone for ever and makes one of its own.
pub struct PerProcess<T> {
    current: AtomicPtr<Made<T>>,
    /// It owns a `T`, for `Send` and `Sync`.
    owns: PhantomData<T>,
}

struct Made<T> {
    forks: u32,
    value: T,
}

impl<T> PerProcess<T> {
    /// Nothing yet; made at the first use of each process.
    pub const fn new() -> Self {
        PerProcess { current: AtomicPtr::new(null_mut()), owns: PhantomData }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        PerProcess::new()
    }
}

impl<T: Default> PerProcess<T> {
    /// This process's value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        let made = self.current.load(Acquire);
        // SAFETY: null, or from `renew`, which stores it complete; it is freed by `drop` alone, which has us
        // exclusively.
        match unsafe { made.as_ref() } {
            Some(made) if made.forks == forks() => &made.value,
            _ => self.renew(made),
        }
    }

    #[cold]
    #[inline(never)]
    fn renew(&self, old: *mut Made<T>) -> &T {
        watch();
        let made = Box::into_raw(Box::new(Made { forks: forks(), value: T::default() }));
        let now = match self.current.compare_exchange(old, made, AcqRel, Acquire) {
            Ok(_) => made, // the old one is a copy of the parent's, and stays as it is
            Err(now) => {
                // SAFETY: made above from a box, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                now
            }
        };
        // SAFETY: as in `get`; not null, for a value of this process replaces nothing but what it was made for.
        unsafe { &(*now).value }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let made = *self.current.get_mut();
        // SAFETY: as in `get`.
        if unsafe { made.as_ref() }.is_some_and(|made| made.forks == forks()) {
            // SAFETY: from `Box::into_raw` in `renew`; we are the last who could use it.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

impl<T: fmt::Debug + Default> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

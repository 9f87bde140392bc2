//! How a process knows that it is a copy: what belongs to a process is not its copy's.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);
static COPIES: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that first used this crate: what belongs to a process
/// remembers the number, and knows by another one that it is a copy.
#[inline(always)]
pub fn forks() -> u32 {
    FORKS.load(Relaxed)
}

/// How often this process was copied by fork: what it had before may have other users since.
#[inline(always)]
pub fn copies() -> u32 {
    COPIES.load(Relaxed)
}

/// Does what follows a fork in the child, for one that `fork` of the C library did not make.
pub fn forked() {
    FORKS.fetch_add(1, Relaxed);
}

/// Counts forks from here on.
pub fn watch() {
    extern "C" fn before() {
        COPIES.fetch_add(1, Relaxed);
    }
    extern "C" fn child() {
        forked();
    }
    static WATCHED: Once = Once::new();
    // SAFETY: both only touch atomics, which is async-signal-safe.
    WATCHED.call_once(|| _ = unsafe { libc::pthread_atfork(Some(before), None, Some(child)) });
}

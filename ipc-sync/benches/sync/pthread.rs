//! What C programs use: the primitives of glibc, shared between processes.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;

use support::shared_slice;

/// Zeroes in shared memory for a `T`, aligned to a page and never unmapped.
fn room<T>() -> *mut T {
    shared_slice::<AtomicU64>(size_of::<T>().div_ceil(8)).as_ptr().cast_mut().cast()
}

/// `PTHREAD_PROCESS_SHARED`, robust or not.
pub(crate) struct Mutex(*mut libc::pthread_mutex_t);

// SAFETY: made for use by many threads.
unsafe impl Sync for Mutex {}

impl Mutex {
    pub(crate) fn robust() -> Mutex {
        Mutex::new(libc::PTHREAD_MUTEX_ROBUST, libc::PTHREAD_MUTEX_NORMAL)
    }

    pub(crate) fn plain() -> Mutex {
        Mutex::new(libc::PTHREAD_MUTEX_STALLED, libc::PTHREAD_MUTEX_NORMAL)
    }

    /// Robust, and its owner may take it again.
    pub(crate) fn recursive() -> Mutex {
        Mutex::new(libc::PTHREAD_MUTEX_ROBUST, libc::PTHREAD_MUTEX_RECURSIVE)
    }

    fn new(robustness: i32, kind: i32) -> Mutex {
        let mutex = room();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized first; `room` gave the mutex its memory.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), robustness);
            libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind);
            assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
        }
        Mutex(mutex)
    }

    #[inline(always)]
    pub(crate) fn with(&self, f: impl FnOnce()) {
        // SAFETY: initialized in `new`, and unlocked by the thread that locked it.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.0), 0);
            f();
            libc::pthread_mutex_unlock(self.0);
        }
    }
}

/// `pthread_rwlock_t`, which nothing makes robust.
pub(crate) struct RwLock(*mut libc::pthread_rwlock_t);

impl RwLock {
    pub(crate) fn new() -> RwLock {
        let lock = room();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: as for the mutex.
        unsafe {
            libc::pthread_rwlockattr_init(attributes.as_mut_ptr());
            libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_rwlock_init(lock, attributes.as_ptr()), 0);
        }
        RwLock(lock)
    }

    #[inline(always)]
    pub(crate) fn read(&self) {
        // SAFETY: initialized in `new`, and unlocked by the thread that locked it.
        unsafe {
            assert_eq!(libc::pthread_rwlock_rdlock(self.0), 0);
            libc::pthread_rwlock_unlock(self.0);
        }
    }

    #[inline(always)]
    pub(crate) fn write(&self) {
        // SAFETY: as above.
        unsafe {
            assert_eq!(libc::pthread_rwlock_wrlock(self.0), 0);
            libc::pthread_rwlock_unlock(self.0);
        }
    }
}

/// `sem_t`: what Python's `multiprocessing.Semaphore` is.
pub(crate) struct Semaphore(*mut libc::sem_t);

impl Semaphore {
    pub(crate) fn new(permits: u32) -> Semaphore {
        let semaphore = room();
        // SAFETY: `room` gave it its memory; 1 means that processes share it.
        assert_eq!(unsafe { libc::sem_init(semaphore, 1, permits) }, 0);
        Semaphore(semaphore)
    }

    #[inline(always)]
    pub(crate) fn pair(&self) {
        // SAFETY: initialized in `new`.
        unsafe {
            assert_eq!(libc::sem_wait(self.0), 0);
            libc::sem_post(self.0);
        }
    }
}

/// `pthread_barrier_t`.
pub(crate) struct Barrier(*mut libc::pthread_barrier_t);

impl Barrier {
    pub(crate) fn new(parties: u32) -> Barrier {
        let barrier = room();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: as for the mutex.
        unsafe {
            libc::pthread_barrierattr_init(attributes.as_mut_ptr());
            libc::pthread_barrierattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_barrier_init(barrier, attributes.as_ptr(), parties), 0);
        }
        Barrier(barrier)
    }

    pub(crate) fn wait(&self) {
        // SAFETY: initialized in `new`.
        unsafe { libc::pthread_barrier_wait(self.0) };
    }
}

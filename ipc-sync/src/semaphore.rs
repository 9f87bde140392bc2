//! `Semaphore`: so many at once, between processes; permits of the dead come back.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::me::current_token;
use crate::raw_semaphore::{MOST, RawSemaphore, Refusal};
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive, RegistryError};

/// Threads that may hold permits of one semaphore at the same time: one can sleep beside so many.
const HOLDERS: usize = 64;

impl Primitive for RawSemaphore<HOLDERS> {
    const TAG: [u8; 4] = *b"SEMA";
}

/// Lets so many threads of any number of processes in at once.
///
/// [`acquire`](Semaphore::acquire) sleeps while there is no permit; a dropped [`Permit`] goes back. It is not fair: who
/// comes at the right moment passes those who sleep. A thread may take any number of permits, and one that
/// takes the last one twice waits for itself.
///
/// When a holder dies, at whatever instruction, its permits come back within a millisecond or so. A holder that is
/// stopped (SIGSTOP) is not dead. To hand a permit over for good, [`forget`](Permit::forget) it: then nobody has it, and
/// it comes back when somebody, here or elsewhere, calls [`release`](Semaphore::release).
///
/// With a bound ([`bounded`](Semaphore::bounded)) there are never more permits than at the start, so only what was
/// forgotten can be released. That finds the release that is one too many.
///
/// A `Semaphore` is a handle: cloning shares the semaphore, and it can be sent inside any message. A forked child holds
/// no permit of its parent's. At most 64 threads hold permits at the same time; any number may wait, also for one of these
/// 64 places.
///
/// Dropping a [`Permit`] waits for a few instructions of others that change the semaphore, and so as long as a process is
/// stopped (SIGSTOP) inside these.
///
/// ```
/// use ipc_sync::Semaphore;
///
/// let semaphore = Semaphore::new(2)?;
/// let one = semaphore.acquire()?;
/// let two = semaphore.acquire()?;
/// assert!(semaphore.try_acquire().is_err());
/// drop(one);
/// assert_eq!(semaphore.value()?, 1);
/// # drop(two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "multiprocessing.Semaphore")]
#[doc(alias = "BoundedSemaphore")]
#[doc(alias = "sem_t")]
pub struct Semaphore {
    cell: Place<RawSemaphore<HOLDERS>>,
}

/// Why a semaphore gave no permit, or none of its figures.
#[derive(Debug)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// There are permits, but 64 threads held some until the end of the given time, and no more can be written down. A
    /// plain [`Semaphore::acquire`] waits for one of them instead.
    TooManyHolders,
    /// A signal handler called while this thread was changing the same semaphore.
    Deadlock,
    /// The semaphore's memory was written over.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for SemaphoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SemaphoreError::TooManyHolders => f.write_str("too many threads hold permits of the semaphore"),
            SemaphoreError::Deadlock => f.write_str("this thread is changing the semaphore already"),
            SemaphoreError::Corrupt => f.write_str("the semaphore's memory is damaged"),
            SemaphoreError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SemaphoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SemaphoreError::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a semaphore gave no permit in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// There was none until the end of the given time.
    WouldBlock,
    /// What would have stopped a plain [`Semaphore::acquire`] too.
    Failed(SemaphoreError),
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryAcquireError::WouldBlock => f.write_str("all permits are taken"),
            TryAcquireError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryAcquireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryAcquireError::WouldBlock => None,
            TryAcquireError::Failed(error) => Some(error),
        }
    }
}

/// Why a permit was not added.
#[derive(Debug)]
#[non_exhaustive]
#[doc(alias = "ValueError")]
pub enum ReleaseError {
    /// There are as many as the bound allows, or 2³¹ − 1. Nothing was changed.
    TooMany,
    /// The semaphore cannot be used.
    Failed(SemaphoreError),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseError::TooMany => f.write_str("semaphore released too many times"),
            ReleaseError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReleaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReleaseError::TooMany => None,
            ReleaseError::Failed(error) => Some(error),
        }
    }
}

impl Semaphore {
    /// Most permits that a semaphore can have: 2³¹ − 1.
    pub const MAX: u32 = MOST;

    /// A new semaphore with `permits` permits. [`release`](Semaphore::release) adds more, up to [`MAX`](Semaphore::MAX).
    /// However many there are, 64 threads hold them at most: the 65th waits.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    ///
    /// # Panics
    ///
    /// `permits` is above [`MAX`](Semaphore::MAX).
    pub fn new(permits: u32) -> Result<Semaphore, CreateError> {
        Semaphore::anonymous(permits, Semaphore::MAX)
    }

    /// A new semaphore with `permits` permits, that will never have more. 64 threads hold them at most: the 65th waits.
    ///
    /// ```
    /// use ipc_sync::{ReleaseError, Semaphore};
    ///
    /// let semaphore = Semaphore::bounded(1)?;
    /// assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    /// semaphore.acquire()?.forget();
    /// semaphore.release()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    ///
    /// # Panics
    ///
    /// `permits` is above [`MAX`](Semaphore::MAX).
    #[doc(alias = "BoundedSemaphore")]
    pub fn bounded(permits: u32) -> Result<Semaphore, CreateError> {
        Semaphore::anonymous(permits, permits)
    }

    /// The semaphore of this name, without a bound; made, with `permits` permits, if there is none. The name goes with
    /// its last user, dead or alive.
    ///
    /// ```
    /// # let name = &format!("doc-semaphore-{}", std::process::id());
    /// let semaphore = ipc_sync::Semaphore::named(name, 1)?;
    /// let same = ipc_sync::Semaphore::named(name, 5)?; // in this process or another: it has 1
    /// let _permit = semaphore.acquire()?;
    /// assert!(same.try_acquire().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; [`NamedError::Bound`] if the one of this name has a bound. What was found under the name is not
    /// touched.
    ///
    /// # Panics
    ///
    /// `permits` is above [`MAX`](Semaphore::MAX).
    pub fn named(name: &str, permits: u32) -> Result<Semaphore, NamedError> {
        Semaphore::of_name(name, permits, Semaphore::MAX)
    }

    /// The semaphore of this name, bounded; made, with `permits` permits, if there is none.
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; [`NamedError::Bound`] if the one of this name has another bound, or none. What was found under
    /// the name is not touched.
    ///
    /// # Panics
    ///
    /// `permits` is above [`MAX`](Semaphore::MAX).
    pub fn named_bounded(name: &str, permits: u32) -> Result<Semaphore, NamedError> {
        Semaphore::of_name(name, permits, permits)
    }

    fn anonymous(permits: u32, limit: u32) -> Result<Semaphore, CreateError> {
        check(permits);
        Ok(Semaphore { cell: Place::new(|cell: &RawSemaphore<HOLDERS>| cell.fill(permits, limit))? })
    }

    fn of_name(name: &str, permits: u32, limit: u32) -> Result<Semaphore, NamedError> {
        check(permits);
        let (cell, _) = Place::named(name, |cell: &RawSemaphore<HOLDERS>| cell.fill(permits, limit))?;
        let found = cell.limit();
        if found != limit {
            return Err(NamedError::Bound { found: (found != Semaphore::MAX).then_some(found) });
        }
        Ok(Semaphore { cell })
    }

    /// Takes a permit; sleeps while there is none, or 64 other threads hold some. Permits of the dead count as free.
    ///
    /// # Errors
    ///
    /// See [`SemaphoreError`].
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire_until(Deadline::NEVER).map_err(|error| match error {
            TryAcquireError::Failed(error) => error,
            TryAcquireError::WouldBlock => unreachable!("a wait without end does not time out"),
        })
    }

    /// Takes a permit if there is one. Does not block, except for a few instructions of somebody else's, 5 ms at most.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::WouldBlock`] if there is none; [`SemaphoreError::TooManyHolders`] if there are, but 64 other threads
    /// hold some; else as [`acquire`](Semaphore::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::NOW)
    }

    /// Takes a permit, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Takes a permit, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::at(deadline))
    }

    /// Adds a permit and wakes one who waits for it. It need not be one's own: it replaces one that was
    /// [forgotten](Permit::forget), or, without a bound, is one more.
    ///
    /// Waits while somebody else changes the semaphore, which is a few instructions, and so as long as a process is stopped
    /// (SIGSTOP) inside these. The caller may die at any of its own: then the permit was added and the waiter woken, or
    /// neither.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::TooMany`], and nothing is changed.
    pub fn release(&self) -> Result<(), ReleaseError> {
        let me = Me::get().map_err(|error| ReleaseError::Failed(SemaphoreError::Registry(error)))?;
        self.cell.release(&me).map_err(|refusal| match refusal {
            Refusal::AtLimit => ReleaseError::TooMany,
            refusal => ReleaseError::Failed(failure(refusal)),
        })
    }

    /// How many permits there are to take at this moment, those of the dead among them.
    ///
    /// Does not block, except for a few instructions of somebody else's, 5 ms at most. By the time it is read it may have
    /// changed.
    ///
    /// # Errors
    ///
    /// See [`SemaphoreError`].
    #[doc(alias = "get_value")]
    #[doc(alias = "available_permits")]
    pub fn value(&self) -> Result<u32, SemaphoreError> {
        self.cell.value(&Me::get().map_err(SemaphoreError::Registry)?).map_err(failure)
    }

    /// The bound, if it has one.
    pub fn bound(&self) -> Option<u32> {
        let limit = self.cell.limit();
        (limit != Semaphore::MAX).then_some(limit)
    }

    #[inline(always)]
    fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, TryAcquireError> {
        let me = Me::get().map_err(unregistered)?;
        match self.cell.acquire(&me, deadline) {
            Ok(()) => Ok(Permit { cell: &self.cell, token: me.token(), not_send: PhantomData }),
            Err(refusal) => Err(refused(refusal)),
        }
    }
}

#[track_caller]
fn check(permits: u32) {
    assert!(permits <= Semaphore::MAX, "a semaphore has {} permits at most", Semaphore::MAX);
}

#[cold]
fn unregistered(error: RegistryError) -> TryAcquireError {
    TryAcquireError::Failed(SemaphoreError::Registry(error))
}

#[cold]
fn refused(refusal: Refusal) -> TryAcquireError {
    match refusal {
        Refusal::TimedOut => TryAcquireError::WouldBlock,
        refusal => TryAcquireError::Failed(failure(refusal)),
    }
}

fn failure(refusal: Refusal) -> SemaphoreError {
    match refusal {
        Refusal::Full => SemaphoreError::TooManyHolders,
        Refusal::Deadlock => SemaphoreError::Deadlock,
        Refusal::TimedOut | Refusal::Corrupt | Refusal::AtLimit => SemaphoreError::Corrupt,
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let glance = self.cell.glance();
        f.debug_struct("Semaphore")
            .field("value", &glance.available)
            .field("bound", &self.bound())
            .field("holders", &glance.holders)
            .field("waiting", &glance.waiting)
            .finish()
    }
}

/// A permit of a [`Semaphore`], given back when it is dropped. Stays in its thread, to which it belongs.
///
/// A permit copied into a child by `fork` is inert there: it is the parent's. One that is leaked (`mem::forget`) is held
/// until its thread ends.
#[must_use = "the permit is given back when it is dropped"]
pub struct Permit<'a> {
    cell: &'a RawSemaphore<HOLDERS>,
    token: u32,
    not_send: PhantomData<*const ()>,
}

impl Permit<'_> {
    /// Hands the permit over: neither the end of this value nor the death of this thread gives it back, only somebody's
    /// [`release`](Semaphore::release).
    ///
    /// A death in the middle of it leaves it done or not done. In a forked child, whose copy is inert, it does nothing.
    ///
    /// ```
    /// use ipc_sync::Semaphore;
    ///
    /// let items = Semaphore::new(1)?;
    /// items.acquire()?.forget(); // taken for good
    /// assert_eq!(items.value()?, 0);
    /// items.release()?;
    /// assert_eq!(items.value()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forget(self) {
        if current_token() == self.token {
            if let Ok(me) = Me::get() {
                self.cell.forget(&me);
            }
        }
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if current_token() != self.token {
            return; // a forked child's copy
        }
        if let Ok(me) = Me::get() {
            self.cell.give_back(&me);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

//! `Semaphore`: so many at once, among all clients of a server; permits of the dead come back.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::talk::{byte, in_range, in_time, nothing, time};
use super::{Handle, proxy};
use crate::manager::client::{Client, Epoch};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Kind, Op, Write};

/// Lets so many threads of all clients of a server in at once.
///
/// [`acquire`](Semaphore::acquire) waits while there is no permit; who has waited longest gets the next one. A dropped
/// [`Permit`] goes back. When a process dies, its permits come back at once. One that is stopped (SIGSTOP) is not dead. To hand
/// a permit over for good, [`forget`](Permit::forget) it: then nobody has it, and it comes back when somebody, here or
/// elsewhere, calls [`release`](Semaphore::release).
///
/// With a bound there are never more permits than at the start, so only what was forgotten can be released. That finds the
/// release that is one too many.
///
/// It is a handle: cloning shares the semaphore, and it can be sent inside any message or stored in a dict of its server.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let semaphore = manager.semaphore(2)?;
/// let one = semaphore.acquire()?;
/// let two = semaphore.acquire()?;
/// assert!(semaphore.try_acquire().is_err());
/// drop(one);
/// assert_eq!(semaphore.value()?, 1);
/// # drop(two);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.Semaphore")]
#[doc(alias = "BoundedSemaphore")]
pub struct Semaphore {
    handle: Handle,
}

proxy!(Semaphore, Kind::Semaphore);

impl Semaphore {
    /// Most permits that a semaphore can have: 2³¹ − 1.
    pub const MAX: u32 = ipc_sync::Semaphore::MAX;

    fn of(handle: Handle) -> Semaphore {
        Semaphore { handle }
    }

    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        name: Option<&str>,
        permits: u32,
        bounded: bool,
    ) -> Result<Semaphore, CallError> {
        assert!(permits <= Semaphore::MAX, "a semaphore has {} permits at most", Semaphore::MAX);
        let arguments = |message: &mut Vec<u8>| {
            message.put_number(permits.into());
            message.put_u8(bounded.into());
        };
        Handle::create(client, Kind::Semaphore, name, arguments).map(Semaphore::of)
    }

    /// Takes a permit; waits while there is none. Permits of the dead are free.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn acquire(&self) -> Result<Permit<'_>, CallError> {
        self.acquire_until(Deadline::NEVER).map_err(|error| match error {
            TryAcquireError::Failed(error) => error,
            TryAcquireError::WouldBlock => CallError::Protocol, // no server says so
        })
    }

    /// Takes a permit if there is one. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::WouldBlock`] if there is none; else as [`acquire`](Semaphore::acquire).
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::NOW)
    }

    /// Takes a permit, waiting `timeout` at most; if the server is stopped, a quarter of a second longer.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Semaphore::try_acquire); [`CallError::TimedOut`] if the server did not answer.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// As [`acquire_timeout`](Semaphore::acquire_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_>, TryAcquireError> {
        self.acquire_until(Deadline::at(deadline))
    }

    /// Adds a permit, which goes to who has waited longest. It replaces one that was [forgotten](Permit::forget), or, without a
    /// bound, is one more. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::TooMany`], and nothing is changed; else see [`CallError`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        let released = self.handle.call(Op::SemaphoreRelease, byte(0), in_range);
        if released.map_err(ReleaseError::Failed)? { Ok(()) } else { Err(ReleaseError::TooMany) }
    }

    /// How many permits there are to take at this moment. By the time it is read it may have changed.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "get_value")]
    pub fn value(&self) -> Result<u32, CallError> {
        Ok(self.state()?.0)
    }

    /// The bound, if it has one.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn bound(&self) -> Result<Option<u32>, CallError> {
        let limit = self.state()?.1;
        Ok((limit != Semaphore::MAX).then_some(limit))
    }

    fn state(&self) -> Result<(u32, u32), CallError> {
        self.handle.call(Op::SemaphoreValue, nothing, |answer, mut rest, _| match answer {
            Answer::Done => Ok((rest.number()? as u32, rest.number()? as u32)),
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, TryAcquireError> {
        let held = self.handle.hold(Op::SemaphoreAcquire, deadline, time(deadline), in_time);
        match held.map_err(TryAcquireError::Failed)? {
            (epoch, true) => Ok(Permit { handle: &self.handle, epoch, not_send: PhantomData }),
            (_, false) => Err(TryAcquireError::WouldBlock),
        }
    }
}

/// A permit of a [`Semaphore`], given back when it is dropped.
///
/// Dropping it waits until the server has heard of it, or for a quarter of a second; then the server hears of it when it goes
/// on. A permit copied into a child by `fork` is inert there: it is the parent's. One that is leaked (`mem::forget`) is held
/// until its process ends. When the server dies, permits hold nothing any more.
#[must_use = "the permit is given back when it is dropped"]
pub struct Permit<'a> {
    handle: &'a Handle,
    epoch: Epoch,
    not_send: PhantomData<*const ()>,
}

impl Permit<'_> {
    /// Hands the permit over: neither the end of this value nor the death of this process gives it back, only somebody's
    /// [`release`](Semaphore::release).
    ///
    /// # Errors
    ///
    /// [`CallError::ServerDied`] if it is held no longer, or is a forked child's copy; else see [`CallError`]. It is given back
    /// then, as if it were dropped.
    pub fn forget(self) -> Result<(), CallError> {
        self.handle.change_in(self.epoch, Op::SemaphoreForget)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.handle.give_back(self.epoch, Op::SemaphoreRelease, &[1]);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// Why a semaphore gave no permit in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// There was none until the end of the given time.
    WouldBlock,
    /// What would have stopped a plain [`Semaphore::acquire`] too; or the server did not answer in time, which is
    /// [`CallError::TimedOut`].
    Failed(CallError),
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
    /// The server could not be asked.
    Failed(CallError),
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

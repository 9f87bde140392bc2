//! `ReentrantLock`: a lock of a server that its holder may take again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::held::Hold;
use super::lock::{LockError, TryLockError, is_locked};
use super::{Handle, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::Kind;

/// Mutual exclusion between the threads of all clients of a server, which its holder may take again.
///
/// The owner is a thread of a process. It may [`lock`](ReentrantLock::lock) as often as it likes, and each guard stands for one
/// level; others get the lock when all are dropped, in whatever order. For everybody else it is a [`Lock`](super::Lock): who
/// has waited longest is next, and when the owner dies, at whatever level, that is at once.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let lock = manager.reentrant_lock()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?; // the same thread: one level more
/// drop(outer);
/// assert!(lock.is_locked()?);
/// drop(inner);
/// assert!(!lock.is_locked()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "RLock")]
#[doc(alias = "SyncManager.RLock")]
pub struct ReentrantLock {
    pub(super) handle: Handle,
}

proxy!(ReentrantLock, Kind::RLock);

impl ReentrantLock {
    pub(super) fn of(handle: Handle) -> ReentrantLock {
        ReentrantLock { handle }
    }

    pub(in crate::manager) fn create(client: &Arc<Client>, name: Option<&str>) -> Result<Self, CallError> {
        Handle::create(client, Kind::RLock, name, |_| ()).map(ReentrantLock::of)
    }

    /// Takes the lock, or one level more of it; waits while another living thread has it.
    ///
    /// # Errors
    ///
    /// [`LockError::TooDeep`] at a million levels, or the server cannot be asked. Never [`LockError::Deadlock`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<ReentrantGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the lock, or one level more of it, if nobody else who lives has it. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](ReentrantLock::lock).
    pub fn try_lock(&self) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the lock, or one level more of it, waiting `timeout` at most; if the server is stopped, a quarter of a second
    /// longer.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](ReentrantLock::try_lock); [`CallError::TimedOut`] if the server did not answer.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// As [`lock_timeout`](ReentrantLock::lock_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](ReentrantLock::lock_timeout).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    /// Whether somebody has the lock, this thread included. Waits for the server only; by the time it is read it may have
    /// changed.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_locked(&self) -> Result<bool, CallError> {
        is_locked(&self.handle)
    }

    fn lock_until(&self, deadline: Deadline) -> Result<ReentrantGuard<'_>, TryLockError> {
        Ok(ReentrantGuard { hold: Hold::new(&self.handle, deadline)? })
    }
}

/// Holds one level of a [`ReentrantLock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// What is said of a [`LockGuard`](super::LockGuard) holds for it too.
#[must_use = "the level is given back when the guard is dropped"]
pub struct ReentrantGuard<'a> {
    pub(super) hold: Hold<'a>,
}

impl ReentrantGuard<'_> {
    /// Whether, when this guard was made, a holder had died or panicked with the lock and nobody had called
    /// [`mark_consistent`](ReentrantGuard::mark_consistent) since: what the lock guards may be half done.
    pub fn owner_died(&self) -> bool {
        self.hold.owner_died()
    }

    /// What the lock guards has been looked through and is in order again.
    ///
    /// # Errors
    ///
    /// [`CallError::ServerDied`] if the lock is not held any more; else see [`CallError`].
    pub fn mark_consistent(&self) -> Result<(), CallError> {
        self.hold.mark_consistent()
    }
}

impl fmt::Debug for ReentrantGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantGuard").field("owner_died", &self.owner_died()).finish()
    }
}

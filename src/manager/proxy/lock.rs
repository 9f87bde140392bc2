//! `Lock`: mutual exclusion between all clients of a server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::held::Hold;
use super::talk::{nothing, truth};
use super::{Handle, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// Mutual exclusion between the threads of all clients of a server.
///
/// [`lock`](Lock::lock) waits while another thread, here or elsewhere, has the lock. Who has waited longest gets it next. It
/// is not recursive: a thread that locks twice gets an error and not a deadlock.
///
/// When the holder dies, the next one gets the lock at once, and its guard says [`owner_died`](LockGuard::owner_died),
/// as do all later ones until one of them calls [`mark_consistent`](LockGuard::mark_consistent). A holder that is stopped
/// (SIGSTOP) is not dead. When the server dies the lock goes with it: guards then hold nothing, and a server that comes
/// back at its address knows of no holder.
///
/// Every call is a trip to the server. Processes that can share memory have a faster one in [`sync::Lock`](crate::Lock).
///
/// A `Lock` is a handle: cloning shares the lock, and it can be sent inside any message or stored in a dict of its server.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let lock = manager.lock()?;
/// let guard = lock.lock()?;
/// assert!(std::thread::scope(|scope| scope.spawn(|| lock.try_lock().is_err()).join().unwrap()));
/// drop(guard);
/// assert!(lock.try_lock().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.Lock")]
pub struct Lock {
    pub(super) handle: Handle,
}

proxy!(Lock, Kind::Lock);

impl Lock {
    pub(super) fn of(handle: Handle) -> Lock {
        Lock { handle }
    }

    pub(in crate::manager) fn create(client: &Arc<Client>, name: Option<&str>) -> Result<Lock, CallError> {
        Handle::create(client, Kind::Lock, name, |_| ()).map(Lock::of)
    }

    /// Takes the lock; waits while a living thread has it. When the holder dies, the lock goes to who has waited longest, and
    /// its guard says so.
    ///
    /// # Errors
    ///
    /// This thread has the lock already, or the server cannot be asked.
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the lock if nobody living has it. Waits for the server only.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](Lock::lock).
    pub fn try_lock(&self) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the lock, waiting `timeout` at most; if the server is stopped, a quarter of a second longer.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Lock::try_lock); [`CallError::TimedOut`] if the server did not answer.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// As [`lock_timeout`](Lock::lock_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Lock::lock_timeout).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    /// Whether somebody has the lock. Waits for the server only; by the time it is read it may have changed.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> Result<bool, CallError> {
        is_locked(&self.handle)
    }

    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, TryLockError> {
        Ok(LockGuard { hold: Hold::new(&self.handle, deadline)? })
    }
}

/// What both kinds of locks know.
pub(super) fn is_locked(handle: &Handle) -> Result<bool, CallError> {
    handle.call(Op::LockIsLocked, nothing, truth)
}

/// Holds a [`Lock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// Dropping it waits until the server has heard of it, or for a quarter of a second; then the server hears of it when it goes
/// on. A guard that is dropped by a panic that began while it was held counts as a holder that died. A guard copied into a
/// child by `fork` is inert there: the lock is the parent's. A forgotten guard keeps the lock until its process ends.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    pub(super) hold: Hold<'a>,
}

impl LockGuard<'_> {
    /// Whether, when this guard was made, a holder had died or panicked with the lock and nobody had called
    /// [`mark_consistent`](LockGuard::mark_consistent) since: what the lock guards may be half done.
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

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("owner_died", &self.owner_died()).finish()
    }
}

/// Why a lock was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// This thread holds the lock already.
    Deadlock,
    /// This thread holds a [`ReentrantLock`](super::ReentrantLock) at more levels than any program means to.
    TooDeep,
    /// The server could not be asked, or refused.
    Call(CallError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Deadlock => f.write_str("this thread holds the lock already"),
            LockError::TooDeep => f.write_str("this thread holds the lock at too many levels"),
            LockError::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Call(error) => Some(error),
            LockError::Deadlock | LockError::TooDeep => None,
        }
    }
}

/// Why a lock was not taken in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryLockError {
    /// Somebody had it until the end of the given time.
    WouldBlock,
    /// What would have stopped a plain [`Lock::lock`] too; or the server did not answer in time, which is
    /// [`CallError::TimedOut`].
    Failed(LockError),
}

impl TryLockError {
    /// The error of a call that waits for ever.
    #[cold]
    pub(super) fn of_endless(self) -> LockError {
        match self {
            TryLockError::Failed(error) => error,
            TryLockError::WouldBlock => LockError::Call(CallError::Protocol), // no server says so
        }
    }
}

impl From<CallError> for TryLockError {
    #[cold]
    fn from(error: CallError) -> TryLockError {
        TryLockError::Failed(LockError::Call(error))
    }
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::WouldBlock => f.write_str("somebody else holds the lock"),
            TryLockError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryLockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryLockError::WouldBlock => None,
            TryLockError::Failed(error) => Some(error),
        }
    }
}

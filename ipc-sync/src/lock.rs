//! `Lock`: mutual exclusion between processes that outlives its holders.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use ipc_shm::Cells;
use serde::{Deserialize, Serialize};

use crate::held::Held;
use crate::me::current_token;
use crate::primitive::{AtomicU32, Ordering::Relaxed};
use crate::raw_lock::{Acquired, RawLock, RawLockError};
use crate::unwinding::Unwinding;
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive, Registry, RegistryError};

/// ```text
/// 0 4 word      see `raw_lock`
/// 4 4 poisoned  0 = consistent, 1 = a holder died or panicked, and nobody has marked it consistent since
/// ```
#[derive(Default)]
#[repr(C)]
pub(crate) struct LockCell {
    word: RawLock,
    poisoned: AtomicU32,
}

mod cells {
    //! Promises about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (RawLock is a transparent one).
    unsafe impl super::Cells for super::LockCell {}
}

impl Primitive for LockCell {
    const TAG: [u8; 4] = *b"LOCK";
}

/// Mutual exclusion between the threads of any number of processes.
///
/// [`lock`](Lock::lock) sleeps while another thread, here or elsewhere, has the lock. It is not recursive: a
/// thread that locks twice gets an error and not a deadlock. It is not fair: who comes at the right moment passes
/// those who sleep.
///
/// When the holder dies, at whatever instruction, the next one gets the lock within a millisecond or so, and its guard says
/// [`owner_died`](LockGuard::owner_died), as do all later ones until one of them calls
/// [`mark_consistent`](LockGuard::mark_consistent). A holder that is stopped (SIGSTOP) is not dead: nothing is taken
/// from the living.
///
/// A `Lock` is a handle: cloning shares the lock, and it can be sent inside any message. A forked child holds nothing
/// that its parent holds. Creating one costs no descriptor; they share segments of 4096.
///
/// ```
/// use ipc_sync::Lock;
///
/// let lock = Lock::new()?;
/// let guard = lock.lock()?;
/// assert!(lock.try_lock().is_err());
/// drop(guard);
/// assert!(lock.try_lock().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "multiprocessing.Lock")]
#[doc(alias = "Mutex")]
pub struct Lock {
    cell: Place<LockCell>,
}

/// Why a lock was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// This thread holds the lock already.
    Deadlock,
    /// This thread holds a [`ReentrantLock`](crate::ReentrantLock) at more levels than any program means to.
    TooDeep,
    /// The lock's memory was written over: nobody can say who owns it.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Deadlock => f.write_str("this thread holds the lock already"),
            LockError::TooDeep => f.write_str("this thread holds the lock at too many levels"),
            LockError::Corrupt => f.write_str("the lock's memory is damaged"),
            LockError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Registry(error) => Some(error),
            LockError::Deadlock | LockError::TooDeep | LockError::Corrupt => None,
        }
    }
}

/// Why a lock was not taken in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryLockError {
    /// Somebody had it until the end of the given time.
    WouldBlock,
    /// What would have stopped a plain [`Lock::lock`] too.
    Failed(LockError),
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::WouldBlock => f.write_str("somebody else holds the lock"),
            TryLockError::Failed(error) => error.fmt(f),
        }
    }
}

impl TryLockError {
    /// The error of a call that waits for ever.
    #[cold]
    pub(crate) fn of_endless(self) -> LockError {
        match self {
            TryLockError::Failed(error) => error,
            TryLockError::WouldBlock => unreachable!("a wait without end does not time out"),
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

impl Lock {
    /// A new lock, free.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<Lock, CreateError> {
        Ok(Lock { cell: Place::new(|_| ())? })
    }

    /// The lock of this name; made, free, if there is none. The name goes with its last user, dead or alive.
    ///
    /// ```
    /// # let name = &format!("doc-lock-{}", std::process::id());
    /// let lock = ipc_sync::Lock::named(name)?;
    /// let same = ipc_sync::Lock::named(name)?; // in this process or another
    /// let _guard = lock.lock()?;
    /// assert!(same.try_lock().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str) -> Result<Lock, NamedError> {
        Ok(Lock { cell: Place::named(name, |_| ())?.0 })
    }

    /// Takes the lock; sleeps while a living thread has it. When the holder dies, the lock comes here or to another
    /// waiter, and the guard says so.
    ///
    /// # Errors
    ///
    /// This thread has the lock already, or it cannot take part, or the lock's memory is damaged.
    #[inline]
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the lock if nobody living has it. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](Lock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the lock, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Lock::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Lock::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<LockGuard<'_>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline(always)]
    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, TryLockError> {
        self.cell.lock_until(deadline)
    }
}

impl LockCell {
    /// What every lock with a poisoned word does, whatever else lies beside it.
    #[inline(always)]
    pub(crate) fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, TryLockError> {
        let me = Me::get().map_err(failed)?;
        self.take(&me, deadline).map_err(refused)?;
        Ok(LockGuard { cell: self, token: me.token(), unwinding: Unwinding::now(), not_send: PhantomData })
    }

    /// Takes the lock, without a guard. What is taken from the dead is poisoned.
    #[inline(always)]
    pub(crate) fn take(&self, me: &Me, deadline: Deadline) -> Result<(), RawLockError> {
        if self.word.lock(me, deadline)? == Acquired::OwnerDied {
            self.poisoned.store(1, Relaxed);
        }
        Ok(())
    }

    /// Gives the lock back, as it is.
    #[inline(always)]
    pub(crate) fn release(&self) {
        self.word.unlock();
    }

    /// The token of whoever has the lock, dead or alive; 0 = nobody.
    #[inline(always)]
    pub(crate) fn owner(&self) -> u32 {
        self.word.owner()
    }

    /// What the end of a guard does before anything else: a panic inside poisons as a death does.
    #[inline(always)]
    pub(crate) fn poison_in_panic(&self, unwinding: Unwinding) {
        if unwinding.has_begun() {
            self.poisoned.store(1, Relaxed);
        }
    }

    pub(crate) fn owner_died(&self) -> bool {
        self.poisoned.load(Relaxed) != 0
    }

    pub(crate) fn mark_consistent(&self) {
        self.poisoned.store(0, Relaxed);
    }

    /// Adds the state of the lock to what `Debug` tells of its owner. Does not block.
    pub(crate) fn describe(&self, out: &mut fmt::DebugStruct<'_, '_>) {
        let owner = self.word.owner();
        let pid =
            if owner == 0 { None } else { Registry::get().ok().and_then(|registry| registry.pid_of(owner)) };
        out.field("locked", &(owner != 0))
            .field("owner", &pid)
            .field("waiters", &self.word.has_waiters())
            .field("poisoned", &self.owner_died());
    }
}

#[cold]
pub(crate) fn failed(error: RegistryError) -> TryLockError {
    TryLockError::Failed(LockError::Registry(error))
}

#[cold]
pub(crate) fn refused(error: RawLockError) -> TryLockError {
    match error {
        RawLockError::TimedOut => TryLockError::WouldBlock,
        RawLockError::Deadlock => TryLockError::Failed(LockError::Deadlock),
        RawLockError::Corrupt => TryLockError::Failed(LockError::Corrupt),
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Lock");
        self.cell.describe(&mut out);
        out.finish()
    }
}

/// Holds a [`Lock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// A guard that is dropped by a panic that began while it was held poisons the lock as a death would. A guard copied into a child by `fork`
/// is inert there: the lock is the parent's. A forgotten guard keeps the lock until its thread ends.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    cell: &'a LockCell,
    token: u32,
    unwinding: Unwinding,
    not_send: PhantomData<*const ()>,
}

impl LockGuard<'_> {
    /// Whether a holder died or panicked with the lock, and nobody has called
    /// [`mark_consistent`](LockGuard::mark_consistent) since: what the lock guards may be half written.
    pub fn owner_died(&self) -> bool {
        self.cell.owner_died()
    }

    /// What the lock guards has been looked through and is in order again.
    pub fn mark_consistent(&self) {
        self.cell.mark_consistent();
    }

    /// Whether this thread has the lock; false in a forked child, which only has a copy of the guard.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        current_token() == self.token
    }
}

impl Drop for LockGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_ours() {
            return; // a forked child's copy
        }
        self.cell.poison_in_panic(self.unwinding);
        self.cell.release();
    }
}

impl Held for LockGuard<'_> {
    fn is_ours(&self) -> bool {
        LockGuard::is_ours(self)
    }

    fn release(&self) -> u32 {
        self.cell.release();
        1
    }

    fn take_back(&self, me: &Me, _: u32) -> Result<(), RawLockError> {
        self.cell.take(me, Deadline::NEVER)
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("owner_died", &self.owner_died()).finish()
    }
}

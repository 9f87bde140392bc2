//! `RwLock`: many readers or one writer, between processes, that outlives them all.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::me::current_token;
use crate::raw_lock::RawLockError;
use crate::raw_rwlock::{RawRwLock, Refusal};
use crate::unwinding::Unwinding;
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive, Registry, RegistryError};

/// Threads that may read at the same time: a writer can sleep beside so many.
const READERS: usize = 64;

impl Primitive for RawRwLock<READERS> {
    const TAG: [u8; 4] = *b"RWLK";
}

/// Many readers or one writer, among the threads of any number of processes.
///
/// [`read`](RwLock::read) sleeps while a writer is inside or waits for its turn, [`write`](RwLock::write) while anybody is
/// inside. Writers do not starve: readers that come later queue behind a writer that waits. A thread that reads
/// may read again at once, whoever waits; wanting to write while it reads, or anything while it writes, is an error
/// and not a deadlock. At most 64 threads read at the same time.
///
/// Readers and writers that die, at whatever instruction, give way within a millisecond or so. If a writer died
/// inside, guards say [`owner_died`](ReadGuard::owner_died) until somebody calls
/// [`mark_consistent`](WriteGuard::mark_consistent); a reader's death harms nothing and is not told. A stopped process
/// (SIGSTOP) is not dead: nothing is taken from the living.
///
/// A `RwLock` is a handle: cloning shares the lock, and it can be sent inside any message. A forked child holds nothing
/// that its parent holds.
///
/// ```
/// use ipc_sync::RwLock;
///
/// let lock = RwLock::new()?;
/// let reader = lock.read()?;
/// let again = lock.read()?;
/// assert!(lock.try_write().is_err());
/// drop((reader, again));
/// let writer = lock.write()?;
/// assert!(!writer.owner_died());
/// # drop(writer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "pthread_rwlock_t")]
#[doc(alias = "RWLock")]
pub struct RwLock {
    cell: Place<RawRwLock<READERS>>,
}

/// Why nobody was let in.
#[derive(Debug)]
#[non_exhaustive]
pub enum RwLockError {
    /// This thread is inside already, in a way that would make it wait for itself.
    Deadlock,
    /// 64 threads read already, and no more can be written down.
    TooManyReaders,
    /// The lock's memory was written over.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for RwLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RwLockError::Deadlock => f.write_str("this thread holds the lock already"),
            RwLockError::TooManyReaders => f.write_str("too many threads read under the lock"),
            RwLockError::Corrupt => f.write_str("the lock's memory is damaged"),
            RwLockError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RwLockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RwLockError::Registry(error) => Some(error),
            _ => None,
        }
    }
}

/// Why nobody was let in in time.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRwLockError {
    /// Somebody was in the way until the end of the given time.
    WouldBlock,
    /// What would have stopped a call without an end too.
    Failed(RwLockError),
}

impl fmt::Display for TryRwLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryRwLockError::WouldBlock => f.write_str("somebody else holds the lock"),
            TryRwLockError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryRwLockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TryRwLockError::WouldBlock => None,
            TryRwLockError::Failed(error) => Some(error),
        }
    }
}

impl RwLock {
    /// A new lock, free. 64 threads can read together, and one more gets [`RwLockError::TooManyReaders`].
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<RwLock, CreateError> {
        Ok(RwLock { cell: Place::new(|_| ())? })
    }

    /// The lock of this name; made, free, if there is none. The name goes with its last user, dead or alive. 64 threads can
    /// read together.
    ///
    /// ```
    /// # let name = &format!("doc-rwlock-{}", std::process::id());
    /// let lock = ipc_sync::RwLock::named(name)?;
    /// let same = ipc_sync::RwLock::named(name)?; // in this process or another
    /// let _guard = lock.read()?;
    /// assert!(same.try_write().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str) -> Result<RwLock, NamedError> {
        Ok(RwLock { cell: Place::named(name, |_| ())?.0 })
    }

    /// Lets this thread read beside others; sleeps while a living writer is inside or waits. A thread that reads already
    /// does not sleep.
    ///
    /// # Errors
    ///
    /// This thread writes, or 64 others read ([`RwLockError::TooManyReaders`]), or it cannot take part, or the lock's memory is
    /// damaged.
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_>, RwLockError> {
        self.read_until(Deadline::NEVER).map_err(endless)
    }

    /// Lets this thread read if no living writer is inside or waits. Does not block, except for a few instructions of
    /// another reader's, 1 ms at most.
    ///
    /// # Errors
    ///
    /// [`TryRwLockError::WouldBlock`] if a writer is in the way; else as [`read`](RwLock::read).
    #[inline]
    pub fn try_read(&self) -> Result<ReadGuard<'_>, TryRwLockError> {
        self.read_until(Deadline::NOW)
    }

    /// Lets this thread read, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_>, TryRwLockError> {
        self.read_until(Deadline::after(timeout))
    }

    /// Lets this thread read, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read).
    pub fn read_deadline(&self, deadline: Instant) -> Result<ReadGuard<'_>, TryRwLockError> {
        self.read_until(Deadline::at(deadline))
    }

    /// Lets this thread write alone; sleeps while any living thread is inside. From the moment it has its turn, readers
    /// that come wait behind it.
    ///
    /// # Errors
    ///
    /// This thread reads or writes, or it cannot take part, or the lock's memory is damaged.
    #[inline]
    pub fn write(&self) -> Result<WriteGuard<'_>, RwLockError> {
        self.write_until(Deadline::NEVER).map_err(endless)
    }

    /// Lets this thread write if no living thread is inside. Does not block, except for a few instructions of a
    /// reader's, 1 ms at most.
    ///
    /// # Errors
    ///
    /// [`TryRwLockError::WouldBlock`] if somebody is in the way; else as [`write`](RwLock::write).
    #[inline]
    pub fn try_write(&self) -> Result<WriteGuard<'_>, TryRwLockError> {
        self.write_until(Deadline::NOW)
    }

    /// Lets this thread write, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_write`](RwLock::try_write).
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>, TryRwLockError> {
        self.write_until(Deadline::after(timeout))
    }

    /// Lets this thread write, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_write`](RwLock::try_write).
    pub fn write_deadline(&self, deadline: Instant) -> Result<WriteGuard<'_>, TryRwLockError> {
        self.write_until(Deadline::at(deadline))
    }

    #[inline]
    fn read_until(&self, deadline: Deadline) -> Result<ReadGuard<'_>, TryRwLockError> {
        let me = Me::get().map_err(unregistered)?;
        let place = self.cell.read(&me, deadline).map_err(refused)?;
        Ok(ReadGuard { cell: &self.cell, token: me.token(), place, not_send: PhantomData })
    }

    #[inline]
    fn write_until(&self, deadline: Deadline) -> Result<WriteGuard<'_>, TryRwLockError> {
        let me = Me::get().map_err(unregistered)?;
        self.cell.write(&me, deadline).map_err(refused)?;
        let unwinding = Unwinding::now();
        Ok(WriteGuard { cell: &self.cell, token: me.token(), unwinding, not_send: PhantomData })
    }
}

#[cold]
fn endless(error: TryRwLockError) -> RwLockError {
    match error {
        TryRwLockError::Failed(error) => error,
        TryRwLockError::WouldBlock => unreachable!("a wait without end does not time out"),
    }
}

#[cold]
fn unregistered(error: RegistryError) -> TryRwLockError {
    TryRwLockError::Failed(RwLockError::Registry(error))
}

#[cold]
fn refused(refusal: Refusal) -> TryRwLockError {
    TryRwLockError::Failed(match refusal {
        Refusal::Lock(RawLockError::TimedOut) => return TryRwLockError::WouldBlock,
        Refusal::Lock(RawLockError::Deadlock) => RwLockError::Deadlock,
        Refusal::Lock(RawLockError::Corrupt) => RwLockError::Corrupt,
        Refusal::Full => RwLockError::TooManyReaders,
    })
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = Registry::get().ok();
        let lives = |token: &u32| registry.is_some_and(|registry| !registry.is_dead(*token));
        f.debug_struct("RwLock")
            .field("writer", &self.cell.writer().and_then(|token| registry?.pid_of(token)))
            .field("readers", &self.cell.readers().filter(lives).count())
            .field("waiters", &self.cell.has_waiters())
            .field("poisoned", &self.cell.is_poisoned())
            .finish()
    }
}

/// Reads under a [`RwLock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// A guard copied into a child by `fork` is inert there. A leaked guard reads until its thread ends.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<'a> {
    cell: &'a RawRwLock<READERS>,
    token: u32,
    place: usize,
    not_send: PhantomData<*const ()>,
}

impl ReadGuard<'_> {
    /// Whether a writer died or panicked inside, and nobody has called [`mark_consistent`](ReadGuard::mark_consistent)
    /// since: what the lock guards may be half written.
    pub fn owner_died(&self) -> bool {
        self.cell.is_poisoned()
    }

    /// What the lock guards has been looked through and is in order. To mend it takes a [`WriteGuard`].
    pub fn mark_consistent(&self) {
        self.cell.cure();
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if current_token() != self.token {
            return; // a forked child's copy
        }
        if let Ok(me) = Me::get() {
            self.cell.leave(&me, self.place);
        }
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard").field("owner_died", &self.owner_died()).finish()
    }
}

/// Writes under a [`RwLock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// A guard that is dropped by a panic that began while it was held poisons the lock as a death would. A guard copied into
/// a child by `fork` is inert there. A leaked guard keeps the lock until its thread ends.
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard<'a> {
    cell: &'a RawRwLock<READERS>,
    token: u32,
    unwinding: Unwinding,
    not_send: PhantomData<*const ()>,
}

impl WriteGuard<'_> {
    /// Whether a writer died or panicked inside, and nobody has called [`mark_consistent`](WriteGuard::mark_consistent)
    /// since: what the lock guards may be half written.
    pub fn owner_died(&self) -> bool {
        self.cell.is_poisoned()
    }

    /// What the lock guards has been looked through and is in order again.
    pub fn mark_consistent(&self) {
        self.cell.cure();
    }
}

impl Drop for WriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if current_token() != self.token {
            return; // a forked child's copy
        }
        if self.unwinding.has_begun() {
            self.cell.poison();
        }
        self.cell.finish();
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").field("owner_died", &self.owner_died()).finish()
    }
}

//! `ReentrantLock`: a lock that its owner may take again, and that no death leaves at any level.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use ipc_shm::Cells;
use serde::{Deserialize, Serialize};

use crate::held::Held;
use crate::lock::{LockCell, LockError, TryLockError, failed, refused};
use crate::me::current_token;
use crate::primitive::{AtomicU32, Ordering::Relaxed};
use crate::raw_lock::RawLockError;
use crate::unwinding::Unwinding;
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive};

/// ```text
/// 0 8 lock   as a `Lock`
/// 8 4 depth  levels at which its owner holds it; only the owner writes it, and whoever takes the lock writes 1
/// ```
#[derive(Default)]
#[repr(C)]
struct ReentrantCell {
    lock: LockCell,
    depth: AtomicU32,
}

mod cells {
    //! Promises about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (LockCell is made of them).
    unsafe impl super::Cells for super::ReentrantCell {}
}

impl Primitive for ReentrantCell {
    const TAG: [u8; 4] = *b"RLCK";
}

/// More levels than a stack has room for: a recursion without end becomes an error, and never a wrong count.
const MOST_LEVELS: u32 = 1 << 20;

/// Mutual exclusion between the threads of any number of processes, which its holder may take again.
///
/// The owner is a thread of a process. It may [`lock`](ReentrantLock::lock) as often as it likes, and each guard
/// stands for one level; others get the lock when all are dropped, in whatever order. For everybody else it is a
/// [`Lock`](crate::Lock): they sleep as long as the owner lives and has it, and nobody is served in turn.
///
/// When the owner dies, at whatever level and instruction, the next one gets the lock within a millisecond or so,
/// at level 1, and its guard says [`owner_died`](ReentrantGuard::owner_died) until somebody calls
/// [`mark_consistent`](ReentrantGuard::mark_consistent). A stopped owner is not dead. A forked child is another
/// thread and holds nothing that its parent holds.
///
/// It is a handle, as a `Lock` is: cloning shares the lock, and it can be sent inside any message. Where it is not
/// needed, a `Lock` is better: it tells a thread that would deadlock with itself.
///
/// Python calls it `RLock`; its `acquire` and `release` are [`lock`](ReentrantLock::lock) and the end of the guard.
///
/// ```
/// use ipc_sync::ReentrantLock;
///
/// let lock = ReentrantLock::new()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?; // the same thread: one level more
/// drop(outer);
/// assert!(std::thread::scope(|s| s.spawn(|| lock.try_lock().is_err()).join().unwrap()));
/// drop(inner);
/// assert!(std::thread::scope(|s| s.spawn(|| lock.try_lock().is_ok()).join().unwrap()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "RLock")]
#[doc(alias = "multiprocessing.RLock")]
#[doc(alias = "PTHREAD_MUTEX_RECURSIVE")]
pub struct ReentrantLock {
    cell: Place<ReentrantCell>,
}

impl ReentrantLock {
    /// A new lock, free.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<ReentrantLock, CreateError> {
        Ok(ReentrantLock { cell: Place::new(|_| ())? })
    }

    /// The lock of this name; made, free, if there is none. The name goes with its last user, dead or alive.
    ///
    /// ```
    /// # let name = &format!("doc-reentrant-{}", std::process::id());
    /// let lock = ipc_sync::ReentrantLock::named(name)?;
    /// let same = ipc_sync::ReentrantLock::named(name)?; // in this process or another
    /// let (_outer, _inner) = (lock.lock()?, same.lock()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str) -> Result<ReentrantLock, NamedError> {
        Ok(ReentrantLock { cell: Place::named(name, |_| ())?.0 })
    }

    /// Takes the lock, or one level more of it; sleeps while another living thread has it. When the owner dies, the
    /// lock comes here or to another waiter, and the guard says so.
    ///
    /// # Errors
    ///
    /// [`LockError::TooDeep`] at a million levels, or this thread cannot take part, or the lock's memory is damaged.
    /// Never [`LockError::Deadlock`].
    #[inline]
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<ReentrantGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER).map_err(TryLockError::of_endless)
    }

    /// Takes the lock, or one level more of it, if nobody else who lives has it. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody has it; else as [`lock`](ReentrantLock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Takes the lock, or one level more of it, waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](ReentrantLock::try_lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock, or one level more of it, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](ReentrantLock::try_lock).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<ReentrantGuard<'_>, TryLockError> {
        self.lock_until(Deadline::at(deadline))
    }

    #[inline(always)]
    fn lock_until(&self, deadline: Deadline) -> Result<ReentrantGuard<'_>, TryLockError> {
        let me = Me::get().map_err(failed)?;
        if self.cell.lock.owner() == me.token() {
            self.cell.deepen()?;
        } else {
            self.cell.take(&me, deadline, 1).map_err(refused)?;
        }
        let unwinding = Unwinding::now();
        Ok(ReentrantGuard { cell: &self.cell, token: me.token(), unwinding, not_send: PhantomData })
    }
}

impl ReentrantCell {
    /// Takes the lock, which this thread does not have, at so many levels: whatever a dead owner left is forgotten.
    #[inline(always)]
    fn take(&self, me: &Me, deadline: Deadline, levels: u32) -> Result<(), RawLockError> {
        self.lock.take(me, deadline)?;
        self.depth.store(levels, Relaxed);
        Ok(())
    }

    #[inline(always)]
    fn deepen(&self) -> Result<(), TryLockError> {
        let depth = self.depth.load(Relaxed);
        if depth >= MOST_LEVELS {
            return Err(TryLockError::Failed(LockError::TooDeep));
        }
        self.depth.store(depth + 1, Relaxed);
        Ok(())
    }
}

impl fmt::Debug for ReentrantLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = if self.cell.lock.owner() == 0 { 0 } else { self.cell.depth.load(Relaxed) };
        let mut out = f.debug_struct("ReentrantLock");
        self.cell.lock.describe(&mut out);
        out.field("depth", &depth).finish()
    }
}

/// Holds one level of a [`ReentrantLock`] until it is dropped. Stays in its thread, to which the lock belongs.
///
/// A guard that is dropped by a panic that began while it was held poisons the lock as a death would. A guard copied into a child by `fork` is
/// inert there: the lock is the parent's. A forgotten guard keeps the lock until its thread ends.
#[must_use = "the level is given back when the guard is dropped"]
pub struct ReentrantGuard<'a> {
    cell: &'a ReentrantCell,
    token: u32,
    unwinding: Unwinding,
    not_send: PhantomData<*const ()>,
}

impl ReentrantGuard<'_> {
    /// Whether a holder died or panicked with the lock, and nobody has called
    /// [`mark_consistent`](ReentrantGuard::mark_consistent) since: what the lock guards may be half written.
    pub fn owner_died(&self) -> bool {
        self.cell.lock.owner_died()
    }

    /// What the lock guards has been looked through and is in order again.
    pub fn mark_consistent(&self) {
        self.cell.lock.mark_consistent();
    }
}

impl Drop for ReentrantGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if current_token() != self.token {
            return; // a forked child's copy
        }
        self.cell.lock.poison_in_panic(self.unwinding);
        let left = self.cell.depth.load(Relaxed).saturating_sub(1);
        self.cell.depth.store(left, Relaxed);
        if left == 0 {
            self.cell.lock.release();
        }
    }
}

impl Held for ReentrantGuard<'_> {
    fn is_ours(&self) -> bool {
        current_token() == self.token
    }

    fn release(&self) -> u32 {
        let levels = self.cell.depth.load(Relaxed);
        self.cell.lock.release();
        levels
    }

    fn take_back(&self, me: &Me, levels: u32) -> Result<(), RawLockError> {
        self.cell.take(me, Deadline::NEVER, levels)
    }
}

impl fmt::Debug for ReentrantGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = self.cell.depth.load(Relaxed);
        f.debug_struct("ReentrantGuard")
            .field("depth", &depth)
            .field("owner_died", &self.owner_died())
            .finish()
    }
}

//! `Condition`: waiting for what somebody else changes under a lock.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::held::ConditionGuard;
use crate::raw_lock::RawLockError;
use crate::waiters::Waiters;
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive, Registry, RegistryError};

/// Threads that may wait on one condition together.
const MOST_WAITERS: usize = 64;

impl Primitive for Waiters<MOST_WAITERS> {
    const TAG: [u8; 4] = *b"COND";
}

/// Lets threads of any number of processes sleep until another one has changed what a lock guards.
///
/// Whoever finds, with the lock, that it cannot go on calls [`wait`](Condition::wait) with its guard: the lock is
/// given back, with all levels of a [`ReentrantLock`](crate::ReentrantLock), and taken again before the call
/// returns. Whoever changes something calls [`notify_one`](Condition::notify_one), [`notify`](Condition::notify) or
/// [`notify_all`](Condition::notify_all).
///
/// Only those are notified who wait already, the oldest first; a notification that meets nobody is gone. Nobody
/// returns from `wait` without one. Still, look again at what you wait for, as [`wait_for`](Condition::wait_for)
/// does: somebody else may have been faster to the lock.
///
/// A notifier waits for no waiter, whoever has died. A waiter that dies in `wait`, until the moment it has its lock
/// back, hands a notification that it was given to the oldest of those who waited beside it. A notifier that dies
/// leaves each waiter notified or waiting. A stopped waiter (SIGSTOP) is not dead, and keeps what it was given.
///
/// It is a handle: cloning shares the condition, and it can be sent inside any message. 64 threads can wait on it
/// together.
///
/// Python's `Condition` has a lock of its own; here it is the lock of the guard, and should be the same for all who
/// wait. `wait(timeout)` is [`wait_timeout`](Condition::wait_timeout), and `wait_for(predicate, timeout)` is
/// [`wait_for_timeout`](Condition::wait_for_timeout). The lock need not be held to notify; but what is waited for
/// should be changed under it, or a waiter may look just before and sleep just after.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
///
/// use ipc_sync::{Condition, Lock};
///
/// let (lock, condition, ready) = (Lock::new()?, Condition::new()?, AtomicBool::new(false));
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         let _guard = lock.lock().unwrap();
///         ready.store(true, Relaxed);
///         condition.notify_one().unwrap();
///     });
///     let guard = lock.lock().unwrap();
///     let _guard = condition.wait_for(guard, |_| ready.load(Relaxed)).unwrap();
///     assert!(ready.load(Relaxed));
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "multiprocessing.Condition")]
#[doc(alias = "Condvar")]
#[doc(alias = "pthread_cond_t")]
pub struct Condition {
    waiters: Place<Waiters<MOST_WAITERS>>,
}

/// Why a wait was not one. What still has its lock comes back inside.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConditionError<G> {
    /// The guard is the copy that a fork made; the lock is the parent's.
    NotHeld(G),
    /// 64 threads wait already. The lock was not given back.
    TooManyWaiters(G),
    /// This thread is inside a call on this condition: a signal handler interrupted it.
    Reentered(G),
    /// The condition's memory was written over. The lock is held.
    Corrupt(G),
    /// The lock's memory was written over during the wait: it is not held any more.
    LockLost,
}

impl<G> ConditionError<G> {
    /// The guard, if its lock is held.
    pub fn into_guard(self) -> Option<G> {
        match self {
            ConditionError::NotHeld(guard)
            | ConditionError::TooManyWaiters(guard)
            | ConditionError::Reentered(guard)
            | ConditionError::Corrupt(guard) => Some(guard),
            ConditionError::LockLost => None,
        }
    }

    #[cold]
    fn new(error: RawLockError, guard: G) -> Self {
        match error {
            RawLockError::Deadlock => ConditionError::Reentered(guard),
            RawLockError::TimedOut | RawLockError::Corrupt => ConditionError::Corrupt(guard),
        }
    }
}

impl<G> fmt::Display for ConditionError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConditionError::NotHeld(_) => "the guard was copied by a fork and holds nothing",
            ConditionError::TooManyWaiters(_) => "64 threads wait on the condition already",
            ConditionError::Reentered(_) => "this thread is inside a call on the condition already",
            ConditionError::Corrupt(_) => "the condition's memory is damaged",
            ConditionError::LockLost => "the lock's memory was damaged during the wait",
        })
    }
}

impl<G: fmt::Debug> std::error::Error for ConditionError<G> {}

/// Why nobody was notified.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotifyError {
    /// This thread is inside a call on this condition: a signal handler interrupted it.
    Reentered,
    /// The condition's memory was written over.
    Corrupt,
    /// This thread could not enter the registry.
    Registry(RegistryError),
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotifyError::Reentered => f.write_str("this thread is inside a call on the condition already"),
            NotifyError::Corrupt => f.write_str("the condition's memory is damaged"),
            NotifyError::Registry(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NotifyError::Registry(error) => Some(error),
            NotifyError::Reentered | NotifyError::Corrupt => None,
        }
    }
}

impl Condition {
    /// A new condition; nobody waits. 64 threads can wait on it together, and one more gets
    /// [`ConditionError::TooManyWaiters`].
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<Condition, CreateError> {
        Ok(Condition { waiters: Place::new(|_| ())? })
    }

    /// The condition of this name; made if there is none. The name goes with its last user, dead or alive. 64 threads can
    /// wait on it together.
    ///
    /// ```
    /// # let name = &format!("doc-condition-{}", std::process::id());
    /// let condition = ipc_sync::Condition::named(name)?;
    /// let same = ipc_sync::Condition::named(name)?; // in this process or another
    /// assert_eq!(same.notify_all()?, 0); // nobody waits
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str) -> Result<Condition, NamedError> {
        Ok(Condition { waiters: Place::named(name, |_| ())?.0 })
    }

    /// Gives the lock of `guard` back, with all levels; sleeps until it is notified; takes the lock again, at as many
    /// levels.
    ///
    /// Taking it again waits as long as somebody who lives has it. If a holder died meanwhile, the guard says
    /// `owner_died`.
    ///
    /// # Errors
    ///
    /// See [`ConditionError`]; the guard comes back inside as long as its lock is held.
    pub fn wait<G: ConditionGuard>(&self, guard: G) -> Result<G, ConditionError<G>> {
        Ok(self.wait_until(guard, Deadline::NEVER)?.0)
    }

    /// As [`wait`](Condition::wait), but sleeps for `timeout` at most. True = it was notified.
    ///
    /// The timeout does not cover taking the lock again. A notification that comes during that counts. A process that is
    /// stopped (SIGSTOP) in a call on the condition adds a few milliseconds at most.
    ///
    /// ```
    /// # let (lock, condition) = (ipc_sync::Lock::new()?, ipc_sync::Condition::new()?);
    /// let guard = lock.lock()?;
    /// let (guard, notified) = condition.wait_timeout(guard, std::time::Duration::from_millis(1)).unwrap();
    /// assert!(!notified && !guard.owner_died());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait). That the time is up is none.
    pub fn wait_timeout<G: ConditionGuard>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, bool), ConditionError<G>> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Condition::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait). That the time is up is none.
    pub fn wait_deadline<G: ConditionGuard>(
        &self,
        guard: G,
        deadline: Instant,
    ) -> Result<(G, bool), ConditionError<G>> {
        self.wait_until(guard, Deadline::at(deadline))
    }

    /// Waits until `predicate` holds; does not give the lock back if it holds already. It is called with the lock,
    /// before each wait and after it, and gets the guard, which knows whether a holder died.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_for<G: ConditionGuard>(
        &self,
        guard: G,
        predicate: impl FnMut(&G) -> bool,
    ) -> Result<G, ConditionError<G>> {
        Ok(self.wait_for_until(guard, Deadline::NEVER, predicate)?.0)
    }

    /// As [`wait_for`](Condition::wait_for), for `timeout` in all, however often it is notified. Answers what
    /// `predicate` said last.
    ///
    /// ```
    /// # let (lock, condition) = (ipc_sync::Lock::new()?, ipc_sync::Condition::new()?);
    /// let (timeout, guard) = (std::time::Duration::from_millis(1), lock.lock()?);
    /// let (_guard, holds) = condition.wait_for_timeout(guard, timeout, |_| false).unwrap();
    /// assert!(!holds);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait). That the time is up is none.
    pub fn wait_for_timeout<G: ConditionGuard>(
        &self,
        guard: G,
        timeout: Duration,
        predicate: impl FnMut(&G) -> bool,
    ) -> Result<(G, bool), ConditionError<G>> {
        self.wait_for_until(guard, Deadline::after(timeout), predicate)
    }

    /// As [`wait_for_timeout`](Condition::wait_for_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait). That the time is up is none.
    pub fn wait_for_deadline<G: ConditionGuard>(
        &self,
        guard: G,
        deadline: Instant,
        predicate: impl FnMut(&G) -> bool,
    ) -> Result<(G, bool), ConditionError<G>> {
        self.wait_for_until(guard, Deadline::at(deadline), predicate)
    }

    /// Notifies the one that has waited longest. Answers 0 if nobody waits; nothing is kept for later. Needs no lock.
    ///
    /// Waits for no waiter, but for a few instructions of others that enter, leave or notify, and so as long as a process is
    /// stopped (SIGSTOP) inside these.
    ///
    /// # Errors
    ///
    /// The condition's memory is damaged, or this thread cannot take part.
    #[doc(alias = "signal")]
    pub fn notify_one(&self) -> Result<usize, NotifyError> {
        self.notify(1)
    }

    /// Notifies the `count` that have waited longest, or all if they are fewer. Answers how many they were. Waits as
    /// [`notify_one`](Condition::notify_one) does.
    ///
    /// If this process dies during the call, the oldest are notified and the others wait on.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Condition::notify_one).
    #[inline]
    pub fn notify(&self, count: usize) -> Result<usize, NotifyError> {
        if self.waiters.is_empty() { Ok(0) } else { self.notify_waiters(count) }
    }

    /// Notifies all that wait. Answers how many they were. Waits as [`notify_one`](Condition::notify_one) does.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Condition::notify_one).
    #[doc(alias = "broadcast")]
    pub fn notify_all(&self) -> Result<usize, NotifyError> {
        self.notify(usize::MAX)
    }

    #[cold]
    fn notify_waiters(&self, count: usize) -> Result<usize, NotifyError> {
        let me = Me::get().map_err(NotifyError::Registry)?;
        self.waiters.notify(&me, count).map_err(|error| match error {
            RawLockError::Deadlock => NotifyError::Reentered,
            RawLockError::TimedOut | RawLockError::Corrupt => NotifyError::Corrupt,
        })
    }

    fn wait_until<G: ConditionGuard>(
        &self,
        guard: G,
        deadline: Deadline,
    ) -> Result<(G, bool), ConditionError<G>> {
        let me = match Me::get() {
            Ok(me) if guard.is_ours() => me,
            _ => return Err(ConditionError::NotHeld(guard)),
        };
        let mut wait = match self.waiters.enter(&me, deadline) {
            Ok(Some(wait)) => wait,
            Ok(None) => return Err(ConditionError::TooManyWaiters(guard)),
            Err(RawLockError::TimedOut) => return Ok((guard, false)),
            Err(error) => return Err(ConditionError::new(error, guard)),
        };
        let levels = guard.release();
        let slept = self.waiters.sleep(&me, &mut wait, deadline);
        let taken = guard.take_back(&me, levels);
        let notified = slept.and_then(|()| self.waiters.leave(&me, wait));
        if taken.is_err() {
            std::mem::forget(guard); // its drop would give back what is not ours
            return Err(ConditionError::LockLost);
        }
        match notified {
            Ok(notified) => Ok((guard, notified)),
            Err(error) => Err(ConditionError::new(error, guard)),
        }
    }

    fn wait_for_until<G: ConditionGuard>(
        &self,
        mut guard: G,
        deadline: Deadline,
        mut predicate: impl FnMut(&G) -> bool,
    ) -> Result<(G, bool), ConditionError<G>> {
        loop {
            if predicate(&guard) {
                return Ok((guard, true));
            }
            if deadline.has_passed() {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, deadline)?.0;
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiters = Registry::get().map_or(0, |registry| self.waiters.count(registry));
        f.debug_struct("Condition").field("waiters", &waiters).finish()
    }
}

//! `Condition`: waiting for what somebody else changes under a lock of the server.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use serde::{Deserialize, Serialize};

use super::handle::number;
use super::held::Hold;
use super::talk::{count as count_of, nothing};
use super::{Handle, Lock, LockGuard, ReentrantGuard, ReentrantLock, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op, Write};

/// Lets clients of a server wait until another one has changed what a lock guards.
///
/// A condition belongs to one lock. Whoever finds, with the lock, that it cannot go on calls [`wait`](Condition::wait) with
/// its guard: the lock is given back, with all levels of a [`ReentrantLock`](super::ReentrantLock), and taken again before the
/// call returns. Whoever changes something calls [`notify_one`](Condition::notify_one), [`notify`](Condition::notify) or
/// [`notify_all`](Condition::notify_all).
///
/// Only those are notified who wait already, the oldest first; a notification that meets nobody is gone. A notified waiter
/// stands in the row for the lock at once, and runs when it has it: there is no stampede. Still, look again at what you wait
/// for, as [`wait_for`](Condition::wait_for) does: somebody else may have been faster to the lock.
///
/// A waiter that dies after it was notified and before it gave the lock back hands the notification to the oldest of those
/// who waited beside it. A stopped waiter (SIGSTOP) is not dead, and keeps what it was given. When the server dies, who waits
/// gets [`ConditionError::LockLost`].
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let (lock, ready) = (manager.lock()?, manager.event()?);
/// let condition = manager.condition(&lock)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let _guard = lock.lock().unwrap();
///         ready.set().unwrap();
///         condition.notify_one().unwrap();
///     });
///     let guard = lock.lock().unwrap();
///     let _guard = condition.wait_for(guard, |_| ready.is_set().unwrap()).unwrap();
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "SyncManager.Condition")]
pub struct Condition {
    own: Own,
    lock: ConditionLock,
}

/// What keeps the condition.
struct Own {
    handle: Handle,
}

proxy!(Own, Kind::Condition);

impl Own {
    fn of(handle: Handle) -> Own {
        Own { handle }
    }
}

/// The lock of a condition, of one kind or the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConditionLock {
    /// A plain one.
    Lock(Lock),
    /// A reentrant one, all of whose levels are given back.
    ReentrantLock(ReentrantLock),
}

impl ConditionLock {
    fn handle(&self) -> &Handle {
        match self {
            ConditionLock::Lock(lock) => &lock.handle,
            ConditionLock::ReentrantLock(lock) => &lock.handle,
        }
    }
}

impl From<&Lock> for ConditionLock {
    fn from(lock: &Lock) -> Self {
        ConditionLock::Lock(lock.clone())
    }
}

impl From<&ReentrantLock> for ConditionLock {
    fn from(lock: &ReentrantLock) -> Self {
        ConditionLock::ReentrantLock(lock.clone())
    }
}

/// A guard that [`Condition::wait`] takes: [`LockGuard`] and [`ReentrantGuard`], and no others.
pub trait ConditionGuard: sealed::Held {}

impl<G: sealed::Held> ConditionGuard for G {}

mod sealed {
    use super::Hold;

    /// What only the guards of this module have.
    pub trait Held {
        #[doc(hidden)]
        fn hold(&self) -> &Hold<'_>;
    }

    impl Held for super::LockGuard<'_> {
        fn hold(&self) -> &Hold<'_> {
            &self.hold
        }
    }

    impl Held for super::ReentrantGuard<'_> {
        fn hold(&self) -> &Hold<'_> {
            &self.hold
        }
    }
}

/// Why a wait was not one. What still has its lock comes back inside.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConditionError<G> {
    /// The guard holds nothing: it is the copy that a fork made, or its server has died.
    NotHeld(G),
    /// The guard is of another lock than the condition.
    OtherLock(G),
    /// The server refused. The lock was not given back.
    Refused(G, CallError),
    /// The server died, or could not be asked. The lock is not held any more.
    LockLost(CallError),
}

impl<G> ConditionError<G> {
    /// The guard, if it may still have its lock.
    pub fn into_guard(self) -> Option<G> {
        match self {
            ConditionError::NotHeld(guard)
            | ConditionError::OtherLock(guard)
            | ConditionError::Refused(guard, _) => Some(guard),
            ConditionError::LockLost(_) => None,
        }
    }
}

impl<G> fmt::Display for ConditionError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConditionError::NotHeld(_) => f.write_str("the guard holds nothing any more"),
            ConditionError::OtherLock(_) => f.write_str("the guard is of another lock than the condition"),
            ConditionError::Refused(_, error) => error.fmt(f),
            ConditionError::LockLost(error) => write!(f, "the lock was lost: {error}"),
        }
    }
}

impl<G: fmt::Debug> std::error::Error for ConditionError<G> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConditionError::Refused(_, error) | ConditionError::LockLost(error) => Some(error),
            ConditionError::NotHeld(_) | ConditionError::OtherLock(_) => None,
        }
    }
}

impl Condition {
    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        name: Option<&str>,
        lock: ConditionLock,
    ) -> Result<Condition, CallError> {
        let object = lock.handle().object()?;
        let handle = Handle::create(client, Kind::Condition, name, |message| message.put_number(object))?;
        let found = handle.call(Op::ConditionLock, nothing, |answer, rest, _| number(answer, rest))?;
        if found != lock.handle().object()? {
            return Err(CallError::Failed("the condition of this name has another lock".into()));
        }
        Ok(Condition { own: Own { handle }, lock })
    }

    /// Gives the lock of `guard` back, with all levels; waits until it is notified; takes the lock again, at as many levels.
    ///
    /// Taking it again waits as long as somebody who lives has it. If a holder died meanwhile, the guard says `owner_died`.
    ///
    /// # Errors
    ///
    /// See [`ConditionError`]; the guard comes back inside as long as its lock is held.
    pub fn wait<G: ConditionGuard>(&self, guard: G) -> Result<G, ConditionError<G>> {
        Ok(self.wait_until(guard, Deadline::NEVER)?.0)
    }

    /// As [`wait`](Condition::wait), but waits for a notification for `timeout` at most. True = it was notified.
    ///
    /// The timeout does not cover taking the lock again, nor a server that is stopped.
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

    /// Waits until `predicate` holds; does not give the lock back if it holds already. It is called with the lock, before each
    /// wait and after it, and gets the guard, which knows whether a holder died.
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

    /// As [`wait_for`](Condition::wait_for), for `timeout` in all, however often it is notified. Answers what `predicate` said
    /// last.
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

    /// Notifies the one that has waited longest. Answers 0 if nobody waits; nothing is kept for later. Needs no lock, though
    /// what is waited for should be changed under it. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "signal")]
    pub fn notify_one(&self) -> Result<usize, CallError> {
        self.notify(1)
    }

    /// Notifies the `count` that have waited longest, or all if they are fewer. Answers how many they were.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn notify(&self, count: usize) -> Result<usize, CallError> {
        let object = self.own.handle.object()?;
        let write = |message: &mut Vec<u8>, _: &_| {
            message.put_number(object);
            message.put_number(count as u64);
            Ok(())
        };
        self.lock.handle().call(Op::ConditionNotify, write, count_of)
    }

    /// Notifies all that wait. Answers how many they were.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "broadcast")]
    pub fn notify_all(&self) -> Result<usize, CallError> {
        self.notify(usize::MAX)
    }

    /// The lock it belongs to.
    pub fn lock(&self) -> &ConditionLock {
        &self.lock
    }

    fn wait_until<G: ConditionGuard>(
        &self,
        guard: G,
        deadline: Deadline,
    ) -> Result<(G, bool), ConditionError<G>> {
        if !guard.hold().is_held() {
            return Err(ConditionError::NotHeld(guard));
        }
        if !guard.hold().is_of(self.lock.handle()) {
            return Err(ConditionError::OtherLock(guard));
        }
        let object = match self.own.handle.object() {
            Ok(object) => object,
            Err(error) => return Err(ConditionError::Refused(guard, error)),
        };
        match guard.hold().wait(object, deadline) {
            Ok(Some(notified)) => Ok((guard, notified)),
            Ok(None) => Err(ConditionError::NotHeld(guard)),
            Err(error @ CallError::Exhausted(_)) => Err(ConditionError::Refused(guard, error)),
            Err(error) => Err(ConditionError::LockLost(error)), // the guard gives back what it may have
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
        self.own.handle.describe("Condition", f)
    }
}

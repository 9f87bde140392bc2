//! Guards that a condition can wait with: it gives their lock back for a while, with all levels, and takes it again.

use crate::Me;
use crate::raw_lock::RawLockError;

/// A guard that [`Condition::wait`](crate::Condition::wait) takes: [`LockGuard`](crate::LockGuard) and
/// [`ReentrantGuard`](crate::ReentrantGuard), and no others.
pub trait ConditionGuard: Held {}

impl<G: Held> ConditionGuard for G {}

/// What only this crate's guards can do.
pub trait Held {
    /// Whether this thread has the lock; false in a forked child, which only has a copy of the guard.
    fn is_ours(&self) -> bool;

    /// Gives the lock back; answers at how many levels it was held.
    fn release(&self) -> u32;

    /// Takes the lock again, at so many levels. Waits for it without end.
    fn take_back(&self, me: &Me, levels: u32) -> Result<(), RawLockError>;
}

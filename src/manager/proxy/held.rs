//! What both guards are: a lock of a server in the hands of this thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::thread::panicking;

use ipc_sync::Deadline;

use super::Handle;
use super::lock::{LockError, TryLockError};
use super::talk::time;
use crate::manager::client::Epoch;
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Op, Write};

/// A lock that this thread has, in a session. Given back when it is dropped, if that session still is.
#[derive(Debug)]
pub struct Hold<'a> {
    handle: &'a Handle,
    epoch: Epoch,
    owner_died: Cell<bool>,
    /// The thread unwound already when this was made.
    unwinding: bool,
    /// The server knows the lock by its thread.
    not_send: PhantomData<*const ()>,
}

impl<'a> Hold<'a> {
    pub(super) fn new(handle: &'a Handle, deadline: Deadline) -> Result<Hold<'a>, TryLockError> {
        let (epoch, refusal) =
            handle.hold(Op::LockAcquire, deadline, time(deadline), |answer, mut rest, _| {
                Ok(match answer {
                    Answer::Done => Ok(rest.u8()? != 0),
                    Answer::TimedOut => Err(TryLockError::WouldBlock),
                    Answer::Deadlock => Err(TryLockError::Failed(LockError::Deadlock)),
                    Answer::OutOfRange => Err(TryLockError::Failed(LockError::TooDeep)),
                    other => return Err(CallError::unexpected(other, rest)),
                })
            })?;
        let (owner_died, not_send) = (Cell::new(refusal?), PhantomData);
        Ok(Hold { handle, epoch, owner_died, unwinding: panicking(), not_send })
    }

    pub(super) fn owner_died(&self) -> bool {
        self.owner_died.get()
    }

    pub(super) fn mark_consistent(&self) -> Result<(), CallError> {
        self.handle.change_in(self.epoch, Op::LockMarkConsistent)?;
        self.owner_died.set(false);
        Ok(())
    }

    /// Whether it is a lock of `handle`.
    pub(super) fn is_of(&self, handle: &Handle) -> bool {
        self.handle == handle
    }

    /// Whether it is held as far as this process knows: not in a forked child, nor if the server has died.
    pub(super) fn is_held(&self) -> bool {
        self.handle.client().is_in(self.epoch)
    }

    /// Gives the lock back with all levels, until `deadline` or a notification, and takes it again. True = notified; `None` =
    /// the server does not know of this hold.
    pub(super) fn wait(&self, condition: u64, deadline: Deadline) -> Result<Option<bool>, CallError> {
        let write = |message: &mut Vec<u8>, _: &_| {
            message.put_number(condition);
            message.put_time(deadline);
            Ok(())
        };
        self.handle.call_in(self.epoch, Op::ConditionWait, write, |answer, mut rest, _| match answer {
            Answer::Done => {
                let notified = rest.u8()? != 0;
                self.owner_died.set(rest.u8()? != 0);
                Ok(Some(notified))
            }
            Answer::NotHeld => Ok(None),
            other => Err(CallError::unexpected(other, rest)),
        })
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let panicked = !self.unwinding && panicking();
        self.handle.give_back(self.epoch, Op::LockRelease, &[panicked.into()]);
    }
}

//! The objects of a server, and what they may use of it.
//!
//! An object answers calls, lets them wait, and gives up what a dead client held. It never sees a link or a clock: it
//! writes its answers on the [`Desk`], which the server clears after each call.

mod desk;
mod stored;

pub(super) use desk::{Caller, Desk, SessionId, Ticket, Verdict};
pub(super) use stored::Stored;

use super::message::{Malformed, Op, Reader};

/// Why a call waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    TimeUp,
    /// Nobody hears an answer: its link is closed, or it was abandoned.
    Gone,
}

/// What each kind of object does for the server.
pub(super) trait Hosted {
    /// Answers `op` on the desk, or keeps `caller.ticket` in a row of its own and says until when.
    ///
    /// # Errors
    ///
    /// The arguments are not of the grammar. Nothing was changed.
    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed>;

    /// The call of `ticket` waits no longer. When its time is up the object wakes it, now or, for a condition, when the lock
    /// is free.
    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk);

    /// The answer to `op`, which was Done and `answer` after it, has reached nobody, and whoever called knows: it could not
    /// be sent, or was abandoned. What it gave the caller comes back.
    fn undo(&mut self, _op: Op, _caller: Caller, _answer: Reader<'_>, _desk: &mut Desk) {}

    /// All that `session` holds here is free: locks, permits, places. Its waiting calls were given up before.
    fn bury(&mut self, session: SessionId, desk: &mut Desk);

    /// The object goes: everything stored in it is given back to the desk.
    fn clear(&mut self, desk: &mut Desk);
}

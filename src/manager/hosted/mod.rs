//! The objects of a server, and what they may use of it.
//!
//! An object answers calls, lets them wait, and gives up what a dead client held. It never sees a link or a clock: it
//! writes its answers on the [`Desk`], which the server clears after each call.

mod desk;
mod stored;

pub(super) use desk::{Caller, Desk, SessionId, Ticket, Verdict};
pub(super) use stored::Stored;

use super::message::{Malformed, Op, Reader};

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

    /// The call of `ticket` waits no longer: its time is up (the answer is given by the object, on the desk, now or, for a
    /// condition, when the lock is free), or its client is gone (nobody hears an answer).
    fn give_up(&mut self, ticket: Ticket, desk: &mut Desk);

    /// All that `session` holds here is free: locks, permits, places. Its waiting calls were given up before.
    fn bury(&mut self, session: SessionId, desk: &mut Desk);

    /// The object goes: everything stored in it is given back to the desk.
    fn clear(&mut self, desk: &mut Desk);
}

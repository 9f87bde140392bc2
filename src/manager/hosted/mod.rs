//! The objects of a server, and what they may use of it.
//!
//! An object answers calls, lets them wait, and gives up what a dead client held. It never sees a link or a clock: it
//! writes its answers on the [`Desk`], which the server clears after each call.

mod barrier;
mod condition;
mod data;
mod desk;
mod dict;
mod event;
mod holdings;
mod integer;
mod list;
mod lock;
mod many;
mod page;
mod queue;
mod row;
mod semaphore;
mod spacious;
mod stored;
#[cfg(test)]
mod tests;

pub(super) use desk::{Caller, Desk, SessionId, Ticket, Verdict};
pub(super) use stored::{NOBODY, Stored};

use super::message::{Kind, Malformed, Op, Reader};

/// Why a call waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    TimeUp,
    /// Nobody hears an answer: its link is closed, or it was abandoned.
    Gone,
}

/// What each kind of object does for the server. One at which nobody waits, holds or stores anything has nothing to do for
/// the end of a call, of a client, of itself.
pub(super) trait Hosted: Sized {
    /// A new object of `kind`, which is one of its own. `None` = the answer on the desk says why not.
    ///
    /// # Errors
    ///
    /// The arguments are not of the grammar.
    fn create(
        kind: Kind,
        caller: Caller,
        arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Option<Self>, Malformed>;

    /// Answers `op`, which its kind has ([`Kind::has`]), on the desk, or keeps `caller.ticket` in a row of its own and says
    /// until when.
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
    fn give_up(&mut self, _ticket: Ticket, _end: End, _desk: &mut Desk) {}

    /// The answer to `op`, which was Done and `answer` after it, has reached nobody, and whoever called knows: it could not
    /// be sent, or was abandoned. What it gave the caller comes back.
    fn undo(&mut self, _op: Op, _caller: Caller, _answer: Reader<'_>, _desk: &mut Desk) {}

    /// All that `session` holds here is free: locks, permits, places. Its waiting calls were given up before.
    fn bury(&mut self, _session: SessionId, _desk: &mut Desk) {}

    /// The object goes: everything stored in it is given back to the desk.
    fn clear(&mut self, _desk: &mut Desk) {}
}

/// Makes one type of all types of objects: the name of the type, and the kinds that it is.
macro_rules! objects {
    ($($object:ident($type:ty): $($kind:ident)|+;)*) => {
        /// Any object of a server.
        #[derive(Debug)]
        pub(super) enum Object { $($object($type),)* }

        impl Hosted for Object {
            fn create(kind: Kind, caller: Caller, arguments: Reader<'_>, desk: &mut Desk) -> Result<Option<Self>, Malformed> {
                match kind {
                    $($(Kind::$kind)|+ => Ok(<$type>::create(kind, caller, arguments, desk)?.map(Object::$object)),)*
                    #[allow(unreachable_patterns)]
                    _ => Err(Malformed),
                }
            }

            #[inline]
            fn call(&mut self, op: Op, caller: Caller, arguments: Reader<'_>, desk: &mut Desk) -> Result<Verdict, Malformed> {
                match self { $(Object::$object(object) => object.call(op, caller, arguments, desk),)* }
            }

            fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
                match self { $(Object::$object(object) => object.give_up(ticket, end, desk),)* }
            }

            fn undo(&mut self, op: Op, caller: Caller, answer: Reader<'_>, desk: &mut Desk) {
                match self { $(Object::$object(object) => object.undo(op, caller, answer, desk),)* }
            }

            fn bury(&mut self, session: SessionId, desk: &mut Desk) {
                match self { $(Object::$object(object) => object.bury(session, desk),)* }
            }

            fn clear(&mut self, desk: &mut Desk) {
                match self { $(Object::$object(object) => object.clear(desk),)* }
            }
        }
    };
}

objects! {
    Dict(dict::Dict): Dict | Namespace;
    List(list::List): List | Value | Array;
    Queue(queue::Queue): Queue | JoinableQueue;
    Lock(lock::Lock): Lock | RLock;
    Condition(condition::Condition): Condition;
    Semaphore(semaphore::Semaphore): Semaphore;
    Event(event::Event): Event;
    Barrier(barrier::Barrier): Barrier;
}

//! Where an object puts what comes of a call: the answer, the calls that need wait no longer, and references.

use ipc_sync::Deadline;

use super::Stored;
use crate::manager::message::{Answer, Budget, ObjectId, ValueRef, Write};

/// A client: all links of one process. Never used twice by one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::manager) struct SessionId(pub(in crate::manager) u64);

/// A call that waits. Never used twice by one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::manager) struct Ticket(pub(in crate::manager) u64);

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(in crate::manager) struct Caller {
    pub(in crate::manager) session: SessionId,
    /// The process behind it, for messages; 0 = not known.
    pub(in crate::manager) pid: u32,
    /// The thread of that process.
    pub(in crate::manager) thread: u32,
    /// The number of this call, should it wait.
    pub(in crate::manager) ticket: Ticket,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manager) enum Verdict {
    /// The answer is on the desk.
    Answered,
    /// The object keeps its ticket, and puts an answer among the woken later; the server gives it up at that time.
    Waits(Deadline),
}

/// One call's papers.
#[derive(Debug, Default)]
pub(in crate::manager) struct Desk {
    /// The answer to the call itself.
    pub(in crate::manager) answer: Vec<u8>,
    /// Answers to calls that waited.
    pub(in crate::manager) woken: Vec<(Ticket, Vec<u8>)>,
    /// Objects that were stored in a value, each time they were.
    pub(in crate::manager) stored: Vec<ObjectId>,
    /// Objects that are in one value less, each time. Counted last: what goes from one place to another stays.
    pub(in crate::manager) dropped: Vec<ObjectId>,
    /// Objects that the answer names: who gets it has a reference to each, each time.
    pub(in crate::manager) given: Vec<(SessionId, ObjectId)>,
    /// Bytes that values take, by who stored them: more, or fewer.
    pub(in crate::manager) taken: Vec<(SessionId, i64)>,
    /// Bytes that the calling session may still store.
    pub(in crate::manager) allowance: u64,
    /// Bytes that the answer may have.
    pub(in crate::manager) room: usize,
    /// Elements that were looked at or moved, where one request may do so to many of them.
    pub(in crate::manager) steps: usize,
}

impl Desk {
    /// The answer is `answer`; what belongs to it may be appended to the vector.
    #[inline]
    pub(in crate::manager) fn say(&mut self, answer: Answer) -> &mut Vec<u8> {
        self.answer.clear();
        self.answer.put_u8(answer as u8);
        &mut self.answer
    }

    /// The answer is `answer`, and nothing belongs to it.
    #[inline]
    pub(in crate::manager) fn tell(&mut self, answer: Answer) {
        self.say(answer);
    }

    /// The call of `ticket` waits no longer; what belongs to its answer may be appended.
    pub(in crate::manager) fn wake(&mut self, ticket: Ticket, answer: Answer) -> &mut Vec<u8> {
        self.woken.push((ticket, vec![answer as u8]));
        // Just pushed.
        let (_, message) = self.woken.last_mut().unwrap_or_else(|| unreachable!());
        message
    }

    /// Whether a value of so many bytes has room in the answer; if not, the answer says so. A value that leaves its object
    /// is asked for before it does.
    #[inline]
    pub(in crate::manager) fn has_room(&mut self, size: usize) -> bool {
        let has_room = self.answer.len() + size <= self.room;
        if !has_room {
            self.say(Answer::Failed).put_bytes(b"the answer would be too large");
        }
        has_room
    }

    /// Appends a stored value to the answer of the call itself, which `session` made.
    #[inline]
    pub(in crate::manager) fn give(&mut self, session: SessionId, value: &Stored) {
        self.answer.put_value(value.references(), value.bytes());
        self.given.extend(value.references().iter().map(|id| (session, *id)));
    }

    /// Appends a stored value to the answer, if there is room; else the answer says that there is none.
    #[inline]
    pub(in crate::manager) fn give_if_room(&mut self, session: SessionId, value: &Stored) -> bool {
        let has_room = self.has_room(value.size());
        if has_room {
            self.give(session, value);
        }
        has_room
    }

    /// The answer is `answer` and a stored value, if there is room for it.
    #[inline]
    pub(in crate::manager) fn answer_value(
        &mut self,
        answer: Answer,
        session: SessionId,
        value: &Stored,
    ) -> bool {
        self.say(answer);
        self.give_if_room(session, value)
    }

    /// `value` comes in place of what is stored; the answer says so, or that the budget does not suffice.
    #[inline]
    pub(in crate::manager) fn replace(
        &mut self,
        session: SessionId,
        stored: &mut Stored,
        value: ValueRef<'_>,
    ) {
        if stored.overwrite(session, value) {
            self.tell(Answer::Done);
        } else if let Some(kept) = self.keep(session, value) {
            self.discard(std::mem::replace(stored, kept));
            self.tell(Answer::Done);
        }
    }

    /// As [`replace`](Desk::replace), and the answer has what was there.
    pub(in crate::manager) fn exchange(
        &mut self,
        session: SessionId,
        stored: &mut Stored,
        value: ValueRef<'_>,
    ) {
        self.tell(Answer::Done);
        if !self.has_room(stored.size()) {
            return;
        }
        if let Some(kept) = self.keep(session, value) {
            let former = std::mem::replace(stored, kept);
            self.give(session, &former);
            self.discard(former);
        }
    }

    /// Keeps a value that `session` sent; `None` = its budget is used up, and the answer says so.
    #[inline]
    pub(in crate::manager) fn keep(&mut self, session: SessionId, value: ValueRef<'_>) -> Option<Stored> {
        self.charge(session, value.charge()).then(|| {
            self.stored.extend(value.references());
            Stored::new(session, value)
        })
    }

    /// Charges `session`, which calls, with so many bytes; false = its budget is used up, and the answer says so.
    #[inline]
    pub(in crate::manager) fn charge(&mut self, session: SessionId, bytes: usize) -> bool {
        let fits = self.affords(bytes);
        if fits {
            self.allowance -= bytes as u64;
            self.count(session, bytes as i64);
        }
        fits
    }

    /// Whether the caller can store so many bytes; if not, the answer says so.
    #[inline]
    pub(in crate::manager) fn affords(&mut self, bytes: usize) -> bool {
        let fits = bytes as u64 <= self.allowance;
        if !fits {
            self.say(Answer::Exhausted).put_u8(Budget::Bytes as u8);
        }
        fits
    }

    /// `session` was charged with so many bytes that are free now.
    #[inline]
    pub(in crate::manager) fn refund(&mut self, session: SessionId, bytes: usize) {
        self.count(session, -(bytes as i64));
    }

    /// Many that follow each other are mostly of one session.
    #[inline]
    fn count(&mut self, session: SessionId, bytes: i64) {
        match self.taken.last_mut() {
            Some((last, sum)) if *last == session => *sum += bytes,
            _ => self.taken.push((session, bytes)),
        }
    }

    /// Appends a stored value to the answer of a call of `session` that waits no longer.
    pub(in crate::manager) fn hand(&mut self, ticket: Ticket, session: SessionId, value: &Stored) {
        self.wake(ticket, Answer::Done).put_value(value.references(), value.bytes());
        self.given.extend(value.references().iter().map(|id| (session, *id)));
    }

    /// Keeps a value that `session` was given and has never seen. It is charged with it, whatever its budget.
    pub(in crate::manager) fn take_back(&mut self, session: SessionId, value: ValueRef<'_>) -> Stored {
        self.count(session, value.charge() as i64);
        self.stored.extend(value.references());
        Stored::new(session, value)
    }

    /// A stored value goes.
    #[inline]
    pub(in crate::manager) fn discard(&mut self, value: Stored) {
        self.refund(value.owner(), value.charge());
        self.dropped.extend_from_slice(value.references());
    }
}

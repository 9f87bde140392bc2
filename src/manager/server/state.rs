//! What the server knows: sessions, objects, calls that wait. It has no links, and nothing here blocks.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::process;

use ipc_pipe::codec;
use ipc_shm::random_id;
use ipc_sync::Deadline;

use super::saver::Saver;
use super::session::{Limits, Session};
use super::slab::{ByNumber, Slab};
use super::table::Table;
use crate::manager::hosted::{Caller, Desk, End, Hosted, SessionId, Ticket};
use crate::manager::message::{Answer, Budget, ObjectId, Op, Reader, Write};
use crate::manager::statistics::Statistics;

/// The number of a link.
pub(super) type LinkId = u64;

/// A link, as far as its calls go.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) session: Option<SessionId>,
    /// The process at the other end; 0 = not known.
    pub(super) pid: u32,
    /// That process is of the server's own user.
    pub(super) is_own: bool,
    /// The call that waits.
    pub(super) waits: Option<Ticket>,
    /// The call that may have waited and was answered last, until the next request shows that the answer came.
    pub(super) last: Option<Answered>,
}

/// A call that was answered, should the answer reach nobody.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) op: Op,
    pub(super) object: ObjectId,
    pub(super) caller: Caller,
    pub(super) answer: Vec<u8>,
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) link: LinkId,
    pub(super) op: Op,
    pub(super) object: ObjectId,
    pub(super) caller: Caller,
    pub(super) deadline: Deadline,
}

/// A reference on its way to another session.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) object: ObjectId,
    pub(super) lender: SessionId,
    pub(super) deadline: Deadline,
}

/// What is to be done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Call(Ticket),
    Lent(u64),
}

/// A call that waited has its answer.
#[derive(Debug)]
pub(super) struct Woken {
    pub(super) link: LinkId,
    pub(super) answered: Answered,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) instance: u128,
    pub(super) sessions: Slab<Session>,
    pub(super) table: Table,
    pub(super) desk: Desk,
    /// Where the answers of a batch are put together.
    pub(super) batch: Vec<u8>,
    pub(super) parked: HashMap<Ticket, Parked, ByNumber>,
    pub(super) last_ticket: u64,
    pub(super) lent: Slab<Lent>,
    timers: BTreeSet<(Deadline, Timer)>,
    /// Answers to calls that waited, for their links.
    pub(super) woken: Vec<Woken>,
    pub(super) saver: Saver,
    /// Snapshots that are to be taken.
    pub(super) saves: VecDeque<(Ticket, PathBuf)>,
    pub(super) is_over: bool,
    /// Links and those of them that were refused, as the links' keeper counts them.
    pub(super) links: u64,
    pub(super) refused: u64,
    pub(super) calls: u64,
}

impl State {
    pub(super) fn new(limits: Limits) -> io::Result<State> {
        Ok(State {
            limits,
            instance: random_id()?,
            sessions: Slab::default(),
            table: Table::default(),
            desk: Desk::default(),
            batch: Vec::new(),
            parked: HashMap::default(),
            last_ticket: 0,
            lent: Slab::default(),
            timers: BTreeSet::new(),
            woken: Vec::new(),
            saver: Saver::new()?,
            saves: VecDeque::new(),
            is_over: false,
            links: 0,
            refused: 0,
            calls: 0,
        })
    }

    #[inline]
    pub(super) fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id.0)
    }

    /// The answer is that a budget is used up.
    #[cold]
    pub(super) fn exhausted(&mut self, budget: Budget) {
        self.desk.say(Answer::Exhausted).put_u8(budget as u8);
    }

    #[cold]
    pub(super) fn failed(&mut self, why: &str) {
        self.desk.say(Answer::Failed).put_bytes(why.as_bytes());
    }

    // References.

    /// Whether `session` may have one more object; if not, the answer says so.
    pub(super) fn may_have(&mut self, session: SessionId) -> bool {
        let most = self.limits.objects;
        let may = self.session(session).is_some_and(|session| session.objects() < most);
        if !may {
            self.exhausted(Budget::Objects);
        }
        may
    }

    /// `session` has one more reference to `object`.
    pub(super) fn retain(&mut self, session: SessionId, object: ObjectId) {
        let (Some(entry), Some(session)) = (self.table.get_mut(object), self.sessions.get_mut(session.0))
        else {
            return;
        };
        *session.references.entry(object).or_default() += 1;
        entry.references += 1;
    }

    /// `session` has one reference less, if it had one.
    pub(super) fn release(&mut self, session: SessionId, object: ObjectId) {
        let Some(session) = self.sessions.get_mut(session.0) else { return };
        let Some(count) = session.references.get_mut(&object) else { return };
        *count -= 1;
        if *count == 0 {
            session.references.remove(&object);
        }
        self.uncount(object, 1);
    }

    fn uncount(&mut self, object: ObjectId, references: u64) {
        if let Some(entry) = self.table.get_mut(object) {
            entry.references -= references;
            self.collect(object);
        }
    }

    /// `object` goes if nobody keeps it, and with it what only it kept.
    pub(super) fn collect(&mut self, object: ObjectId) {
        let Some(mut entry) = self.table.take_unkept(object) else { return };
        entry.object.clear(&mut self.desk);
        if entry.waiting > 0 {
            self.orphan(object);
        }
    }

    /// Calls that wait for an object that is gone hear so.
    #[cold]
    fn orphan(&mut self, object: ObjectId) {
        let waiting = self.parked.iter().filter(|(_, call)| call.object == object);
        let waiting: Vec<Ticket> = waiting.map(|(ticket, _)| *ticket).collect();
        waiting.into_iter().for_each(|ticket| self.desk.woken.push((ticket, vec![Answer::Gone as u8])));
    }

    // What comes of a call.

    /// Does what the desk says, but for the answer.
    #[inline]
    pub(super) fn settle(&mut self) {
        let Desk { woken, stored, dropped, given, taken, .. } = &self.desk;
        let quiet = taken.is_empty()
            && given.is_empty()
            && dropped.is_empty()
            && stored.is_empty()
            && woken.is_empty();
        if !quiet {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        loop {
            self.settle_bytes();
            while let Some(object) = self.desk.stored.pop() {
                self.table.store(object);
            }
            while let Some((session, object)) = self.desk.given.pop() {
                self.retain(session, object);
            }
            for (ticket, answer) in std::mem::take(&mut self.desk.woken) {
                self.wake(ticket, answer);
            }
            // Last: what goes from one place to another stays.
            let Some(object) = self.desk.dropped.pop() else { break };
            self.table.unstore(object);
            self.collect(object);
        }
        self.settle_bytes();
    }

    fn settle_bytes(&mut self) {
        while let Some((session, bytes)) = self.desk.taken.pop() {
            if let Some(session) = self.sessions.get_mut(session.0) {
                session.bytes = session.bytes.saturating_add_signed(bytes);
            }
        }
    }

    // Calls that wait.

    pub(super) fn park(&mut self, call: Parked) {
        let ticket = call.caller.ticket;
        if call.deadline != Deadline::NEVER {
            self.timers.insert((call.deadline, Timer::Call(ticket)));
        }
        if let Some(session) = self.session(call.caller.session) {
            session.waiting += 1;
        }
        if let Some(entry) = self.table.get_mut(call.object) {
            entry.waiting += 1;
        }
        self.parked.insert(ticket, call);
    }

    fn unpark(&mut self, ticket: Ticket) -> Option<Parked> {
        let call = self.parked.remove(&ticket)?;
        self.timers.remove(&(call.deadline, Timer::Call(ticket)));
        if let Some(session) = self.session(call.caller.session) {
            session.waiting -= 1;
        }
        if let Some(entry) = self.table.get_mut(call.object) {
            entry.waiting -= 1;
        }
        Some(call)
    }

    fn wake(&mut self, ticket: Ticket, answer: Vec<u8>) {
        if let Some(Parked { link, op, object, caller, .. }) = self.unpark(ticket) {
            self.woken.push(Woken { link, answered: Answered { op, object, caller, answer } });
        }
    }

    /// Nobody hears the answer to the call of `ticket`.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        let Some(call) = self.unpark(ticket) else { return };
        if let Some(object) = self.table.object(call.object) {
            object.give_up(ticket, End::Gone, &mut self.desk);
        }
        self.settle();
    }

    /// The answer reached nobody.
    pub(super) fn undo(&mut self, answered: Answered) {
        let Answered { op, object, caller, answer } = answered;
        if answer.first() != Some(&(Answer::Done as u8)) {
            return;
        }
        let rest = Reader::new(&answer[1..]);
        if let Some(object) = self.table.object(object) {
            object.undo(op, caller, rest, &mut self.desk);
        }
        self.settle();
        // The references that came with an item are nobody's.
        let value = if op == Op::QueueGet { Reader::new(&answer[1..]).value().ok() } else { None };
        let references = value.into_iter().flat_map(|value| value.references());
        references.for_each(|object| self.release(caller.session, object));
        self.settle();
    }

    // Time.

    pub(super) fn set_timer(&mut self, deadline: Deadline, timer: Timer) {
        self.timers.insert((deadline, timer));
    }

    pub(super) fn remove_timer(&mut self, deadline: Deadline, timer: Timer) {
        self.timers.remove(&(deadline, timer));
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        self.timers.first().map_or(Deadline::NEVER, |(deadline, _)| *deadline)
    }

    /// Does what its time has come for.
    pub(super) fn run_timers(&mut self) {
        while let Some((deadline, timer)) = self.timers.first().copied() {
            if !deadline.has_passed() {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Call(ticket) => self.time_up(ticket),
                Timer::Lent(ticket) => self.end_loan(ticket),
            }
        }
    }

    /// The object answers, now or later.
    fn time_up(&mut self, ticket: Ticket) {
        let Some(object) = self.parked.get(&ticket).map(|call| call.object) else { return };
        match self.table.object(object) {
            Some(object) => object.give_up(ticket, End::TimeUp, &mut self.desk),
            None => self.desk.woken.push((ticket, vec![Answer::Gone as u8])),
        }
        self.settle();
    }

    /// The reference on its way is nobody's any more.
    pub(super) fn end_loan(&mut self, ticket: u64) {
        let Some(lent) = self.lent.remove(ticket) else { return };
        if let Some(lender) = self.session(lent.lender) {
            lender.made -= 1;
        }
        self.desk.dropped.push(lent.object);
        self.settle();
    }

    // Ends.

    /// A link is closed.
    pub(super) fn hang_up(&mut self, line: Line) {
        if let Some(ticket) = line.waits {
            self.give_up(ticket);
        }
        let Some(id) = line.session else { return };
        let Some(session) = self.session(id) else { return };
        session.links -= 1;
        if session.links == 0 {
            self.bury(id);
        }
    }

    /// The last link of a session is closed: what it held is free.
    fn bury(&mut self, id: SessionId) {
        let Some(mut session) = self.sessions.remove(id.0) else { return };
        for object in session.take_stakes() {
            if let Some(object) = self.table.object(object) {
                object.bury(id, &mut self.desk);
            }
            self.settle();
        }
        for (object, count) in session.references {
            self.uncount(object, count);
            self.settle();
        }
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            pid: process::id(),
            clients: self.sessions.len() as u64,
            links: self.links,
            objects: self.table.len() as u64,
            names: self.table.names_len() as u64,
            bytes: self.sessions.iter().map(|(_, session)| session.bytes).sum(),
            waiting: self.parked.len() as u64,
            calls: self.calls,
            refused: self.refused,
        }
    }

    pub(super) fn tell_statistics(&mut self) {
        let mut bytes = Vec::new();
        match codec::encode(&self.statistics(), &mut bytes) {
            Ok(()) => self.desk.say(Answer::Done).put(&bytes),
            Err(why) => self.failed(&why.to_string()),
        }
    }
}

//! A queue: items, who waits for one or for room, and what is not done of those that were taken.
//!
//! Whoever waits for an item, there is none; whoever waits for room, there is none either. An item goes to the oldest
//! getter at once, a place to the oldest putter, whose item waits with it.

use std::collections::VecDeque;

use ipc_sync::Deadline;

use super::holdings::Holdings;
use super::many::Many;
use super::page::Page;
use super::row::Row;
use super::spacious::to_keep;
use super::{Caller, Desk, End, Hosted, SessionId, Stored, Ticket, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, Op, Reader, Write};

#[derive(Debug)]
pub(in crate::manager) struct Queue {
    items: VecDeque<Stored>,
    /// 0 = none.
    bound: u64,
    shut: bool,
    putters: Row<Stored>,
    getters: Row<SessionId>,
    /// `None` = it is not joinable.
    tasks: Option<Tasks>,
}

/// What was taken and is not done.
#[derive(Debug, Default)]
struct Tasks {
    /// By who took it.
    taken: Holdings,
    /// What the dead had taken.
    abandoned: u64,
    joiners: Row<()>,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.bound != 0 && self.items.len() as u64 >= self.bound
    }

    fn put(
        &mut self,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let (until, value) = (arguments.time()?, arguments.value()?);
        arguments.end()?;
        if self.shut {
            desk.say(Answer::Closed);
        } else if self.is_full() && until == Deadline::NOW {
            desk.say(Answer::TimedOut);
        } else if let Some(item) = desk.keep(caller.session, value) {
            if self.is_full() {
                self.putters.push(caller.ticket, item);
                return Ok(Verdict::Waits(until));
            }
            desk.say(Answer::Done);
            self.admit(item, desk);
        }
        Ok(Verdict::Answered)
    }

    /// As many as there is room for, and the budget suffices for.
    fn put_many(&mut self, caller: Caller, arguments: Reader<'_>, desk: &mut Desk) -> Result<(), Malformed> {
        let mut values = Many::read(arguments)?;
        if self.shut {
            desk.tell(Answer::Closed);
            return Ok(());
        }
        let mut count = 0;
        while !self.is_full() {
            let Some(value) = values.next() else { break };
            let Some(item) = desk.keep(caller.session, value) else {
                if count == 0 {
                    return Ok(()); // the answer says so
                }
                break;
            };
            self.admit(item, desk);
            count += 1;
        }
        desk.say(Answer::Done).put_number(count);
        Ok(())
    }

    /// An item has a place: with the oldest getter, or in the queue.
    fn admit(&mut self, item: Stored, desk: &mut Desk) {
        match self.getters.pop() {
            None => self.items.push_back(item),
            Some((ticket, session)) => self.hand(ticket, session, item, desk),
        }
    }

    fn hand(&mut self, ticket: Ticket, session: SessionId, item: Stored, desk: &mut Desk) {
        self.count_taken(session);
        desk.hand(ticket, session, &item);
        desk.discard(item);
    }

    fn count_taken(&mut self, session: SessionId) {
        if let Some(tasks) = &mut self.tasks {
            tasks.taken.add(session);
        }
    }

    fn get(&mut self, caller: Caller, until: Deadline, desk: &mut Desk) -> Verdict {
        if self.items.front().is_some_and(|item| !desk.has_room(item.size())) {
            return Verdict::Answered; // the answer says so
        }
        if let Some(item) = self.items.pop_front() {
            desk.answer_value(Answer::Done, caller.session, &item);
            desk.discard(item);
            self.count_taken(caller.session);
            self.fill(desk);
        } else if self.shut {
            desk.say(Answer::Closed);
        } else if until == Deadline::NOW {
            desk.say(Answer::TimedOut);
        } else {
            self.getters.push(caller.ticket, caller.session);
            return Verdict::Waits(until);
        }
        Verdict::Answered
    }

    /// What is there, as far as it belongs to one answer.
    fn get_many(&mut self, session: SessionId, most: u64, desk: &mut Desk) {
        if self.items.is_empty() && self.shut {
            return desk.tell(Answer::Closed);
        }
        desk.tell(Answer::Done);
        let mut page = Page::begin(desk, u64::MAX);
        let most = self.items.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        for _ in 0..most {
            if !self.items.front().is_some_and(|item| page.takes(desk, item.size())) {
                break;
            }
            let Some(item) = self.items.pop_front() else { break };
            desk.give(session, &item);
            desk.discard(item);
            self.count_taken(session);
        }
        page.end(desk, most == 0);
        self.fill(desk);
    }

    /// There may be room: the oldest putters have it. If there is much, some of the memory is given back.
    fn fill(&mut self, desk: &mut Desk) {
        if let Some(places) = to_keep(self.items.len(), self.items.capacity()) {
            self.items.shrink_to(places);
        }
        while !self.is_full() {
            let Some((ticket, item)) = self.putters.pop() else { break };
            desk.wake(ticket, Answer::Done);
            self.admit(item, desk);
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.items.capacity()
    }

    fn unfinished(&self) -> u64 {
        self.items.len() as u64 + self.tasks.as_ref().map_or(0, |tasks| tasks.taken.total())
    }

    fn task_done(&mut self, session: SessionId, desk: &mut Desk) -> Result<Answer, Malformed> {
        let finished = self.tasks.as_mut().ok_or(Malformed)?.taken.take(session);
        self.tell_joiners(desk);
        Ok(if finished { Answer::Done } else { Answer::OutOfRange })
    }

    fn join(&mut self, ticket: Ticket, until: Deadline, desk: &mut Desk) -> Result<Verdict, Malformed> {
        let unfinished = self.unfinished();
        let tasks = self.tasks.as_mut().ok_or(Malformed)?;
        if unfinished != 0 && until != Deadline::NOW {
            tasks.joiners.push(ticket, ());
            return Ok(Verdict::Waits(until));
        }
        desk.say(if unfinished == 0 { Answer::Done } else { Answer::TimedOut });
        Ok(Verdict::Answered)
    }

    fn tell_joiners(&mut self, desk: &mut Desk) {
        if self.unfinished() != 0 {
            return;
        }
        for (ticket, ()) in self.tasks.iter_mut().flat_map(|tasks| tasks.joiners.drain()) {
            desk.wake(ticket, Answer::Done);
        }
    }

    /// Nobody puts any more; who waits hears so. Answers how many items went.
    fn shut(&mut self, discard: bool, desk: &mut Desk) -> u64 {
        self.shut = true;
        for (ticket, item) in self.putters.drain() {
            desk.wake(ticket, Answer::Closed);
            desk.discard(item);
        }
        for (ticket, _) in self.getters.drain() {
            desk.wake(ticket, Answer::Closed);
        }
        if !discard {
            return 0;
        }
        let count = self.items.len() as u64;
        std::mem::take(&mut self.items).into_iter().for_each(|item| desk.discard(item));
        self.tell_joiners(desk);
        count
    }

    fn describe(&self, answer: &mut Vec<u8>) {
        answer.put_number(self.items.len() as u64);
        answer.put_number(self.bound);
        answer.put_number(self.unfinished());
        answer.put_number(self.tasks.as_ref().map_or(0, |tasks| tasks.abandoned));
        answer.put_u8(self.shut.into());
    }
}

impl Hosted for Queue {
    fn create(
        kind: Kind,
        _: Caller,
        mut arguments: Reader<'_>,
        _: &mut Desk,
    ) -> Result<Option<Self>, Malformed> {
        let bound = arguments.number()?;
        arguments.end()?;
        Ok(Some(Queue {
            items: VecDeque::new(),
            bound,
            shut: false,
            putters: Row::default(),
            getters: Row::default(),
            tasks: (kind == Kind::JoinableQueue).then(Tasks::default),
        }))
    }

    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        if op == Op::QueuePut {
            return self.put(caller, arguments, desk);
        }
        if op == Op::QueuePutMany {
            self.put_many(caller, arguments, desk)?;
            return Ok(Verdict::Answered);
        }
        let until = match op {
            Op::QueueGet | Op::QueueJoin => arguments.time()?,
            _ => Deadline::NOW,
        };
        let discard = op == Op::QueueShutdown && arguments.u8()? != 0;
        let most = if op == Op::QueueGetMany { arguments.number()? } else { 0 };
        arguments.end()?;
        match op {
            Op::QueueGet => return Ok(self.get(caller, until, desk)),
            Op::QueueJoin => return self.join(caller.ticket, until, desk),
            Op::QueueGetMany => self.get_many(caller.session, most, desk),
            Op::QueueState => self.describe(desk.say(Answer::Done)),
            Op::QueueTaskDone => {
                let answer = self.task_done(caller.session, desk)?;
                desk.say(answer);
            }
            Op::QueueShutdown => {
                let count = self.shut(discard, desk);
                desk.say(Answer::Done).put_number(count);
            }
            _ => return Err(Malformed),
        }
        Ok(Verdict::Answered)
    }

    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
        if let Some(item) = self.putters.give_up(ticket, end, desk) {
            desk.discard(item);
        }
        self.getters.give_up(ticket, end, desk);
        if let Some(tasks) = &mut self.tasks {
            tasks.joiners.give_up(ticket, end, desk);
        }
    }

    /// An item that nobody saw is the next one again, though there be one too many.
    fn undo(&mut self, op: Op, caller: Caller, mut answer: Reader<'_>, desk: &mut Desk) {
        if op != Op::QueueGet {
            return;
        }
        let Ok(value) = answer.value() else { return };
        let item = desk.take_back(caller.session, value);
        if let Some(tasks) = &mut self.tasks {
            tasks.taken.take(caller.session);
        }
        match self.getters.pop() {
            None => self.items.push_front(item),
            Some((ticket, session)) => self.hand(ticket, session, item, desk),
        }
    }

    fn bury(&mut self, session: SessionId, desk: &mut Desk) {
        if let Some(tasks) = &mut self.tasks {
            tasks.abandoned += tasks.taken.take_all(session);
            self.tell_joiners(desk);
        }
    }

    fn clear(&mut self, desk: &mut Desk) {
        self.items.drain(..).for_each(|item| desk.discard(item));
        for (_, item) in self.putters.drain() {
            desk.discard(item);
        }
    }
}

//! A semaphore: permits, who has how many, and who waits for one. The oldest waiter is served first.

use ipc_sync::{Deadline, Semaphore as Sibling};

use super::holdings::Holdings;
use super::row::Row;
use super::{Caller, Desk, End, Hosted, SessionId, Ticket, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, Op, Reader, Write};

/// Whoever waits, there is no permit to take: one that comes back goes to the oldest at once.
#[derive(Debug)]
pub(in crate::manager) struct Semaphore {
    available: u64,
    limit: u64,
    /// Permits in the hands of sessions.
    held: Holdings,
    row: Row<SessionId>,
}

impl Semaphore {
    fn acquire(&mut self, caller: Caller, until: Deadline, desk: &mut Desk) -> Verdict {
        if self.available > 0 {
            self.available -= 1;
            self.held.add(caller.session);
            desk.say(Answer::Done);
        } else if until == Deadline::NOW {
            desk.say(Answer::TimedOut);
        } else {
            self.row.push(caller.ticket, caller.session);
            return Verdict::Waits(until);
        }
        Verdict::Answered
    }

    /// So many permits are nobody's: they go to whoever waits, the others can be taken.
    fn give(&mut self, permits: u64, desk: &mut Desk) {
        for _ in 0..permits {
            let Some((ticket, session)) = self.row.pop() else {
                self.available += 1;
                continue;
            };
            self.held.add(session);
            desk.wake(ticket, Answer::Done);
        }
    }

    fn give_back(&mut self, session: SessionId, desk: &mut Desk) -> Answer {
        if !self.held.take(session) {
            return Answer::NotHeld;
        }
        self.give(1, desk);
        Answer::Done
    }

    fn add(&mut self, desk: &mut Desk) -> Answer {
        if self.available + self.held.total() >= self.limit {
            return Answer::OutOfRange;
        }
        self.give(1, desk);
        Answer::Done
    }
}

impl Hosted for Semaphore {
    fn create(
        _: Kind,
        _: Caller,
        mut arguments: Reader<'_>,
        _: &mut Desk,
    ) -> Result<Option<Self>, Malformed> {
        let (permits, bounded) = (arguments.number()?, arguments.u8()?);
        arguments.end()?;
        let most = u64::from(Sibling::MAX);
        if permits > most || bounded > 1 {
            return Err(Malformed);
        }
        let limit = if bounded == 1 { permits } else { most };
        Ok(Some(Semaphore { available: permits, limit, held: Holdings::default(), row: Row::default() }))
    }

    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let until = if op == Op::SemaphoreAcquire { arguments.time()? } else { Deadline::NOW };
        let own = op == Op::SemaphoreRelease && arguments.u8()? != 0;
        arguments.end()?;
        let answer = match op {
            Op::SemaphoreAcquire => return Ok(self.acquire(caller, until, desk)),
            Op::SemaphoreRelease if own => self.give_back(caller.session, desk),
            Op::SemaphoreRelease => self.add(desk),
            Op::SemaphoreForget if self.held.take(caller.session) => Answer::Done,
            Op::SemaphoreForget => Answer::NotHeld,
            Op::SemaphoreValue => {
                let answer = desk.say(Answer::Done);
                answer.put_number(self.available);
                answer.put_number(self.limit);
                return Ok(Verdict::Answered);
            }
            _ => return Err(Malformed),
        };
        desk.say(answer);
        Ok(Verdict::Answered)
    }

    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
        self.row.give_up(ticket, end, desk);
    }

    fn undo(&mut self, op: Op, caller: Caller, _: Reader<'_>, desk: &mut Desk) {
        if op == Op::SemaphoreAcquire {
            self.give_back(caller.session, desk);
        }
    }

    fn bury(&mut self, session: SessionId, desk: &mut Desk) {
        let permits = self.held.take_all(session);
        self.give(permits, desk);
    }
}

//! A lock and its conditions: one place gives it back, wakes who waited, and hands it on.
//!
//! The lock goes from hand to hand, to the oldest in the row: whoever waits, somebody has it. Who is notified, or waited
//! too long for it, moves from the row of the condition to that of the lock, so a notification wakes nobody who would
//! have to sleep again at once. A waiter of a condition that is cut off after it was notified passes that on.

use std::collections::HashMap;

use ipc_sync::Deadline;

use super::row::Row;
use super::{Caller, Desk, End, Hosted, SessionId, Ticket, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, ObjectId, Op, Reader, Write};

/// More levels than a stack has room for.
const MOST_LEVELS: u32 = 1 << 20;

#[derive(Debug)]
pub(in crate::manager) struct Lock {
    reentrant: bool,
    holder: Option<Waiter>,
    /// A holder died or panicked, and nobody has called it consistent since.
    poisoned: bool,
    row: Row<Waiter>,
    /// Who waits to be notified; a condition for which nobody waits is not here.
    conditions: HashMap<ObjectId, Row<Owner>>,
}

/// Who has the lock, wants it, or had it and will have it again.
#[derive(Debug, Clone, Copy)]
struct Owner {
    session: SessionId,
    thread: u32,
    levels: u32,
}

impl Owner {
    fn is(&self, caller: Caller) -> bool {
        self.session == caller.session && self.thread == caller.thread
    }
}

/// Who waits for the lock, or has it since.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    owner: Owner,
    from: From,
}

impl Waiter {
    fn is(&self, caller: Caller) -> bool {
        self.owner.is(caller)
    }
}

/// Where a waiter came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Outside,
    /// It waits for the condition no longer: it was notified.
    Notified(ObjectId),
    /// Its time was up, and it needs the lock to return.
    TimeUp,
}

impl Lock {
    fn acquire(&mut self, caller: Caller, until: Deadline, desk: &mut Desk) -> Verdict {
        let owner = Owner { session: caller.session, thread: caller.thread, levels: 1 };
        let waiter = Waiter { owner, from: From::Outside };
        match &mut self.holder {
            None => {
                self.holder = Some(waiter);
                desk.say(Answer::Done).put_u8(self.poisoned.into());
            }
            Some(holder) if holder.is(caller) && !self.reentrant => _ = desk.say(Answer::Deadlock),
            Some(holder) if holder.is(caller) && holder.owner.levels == MOST_LEVELS => {
                desk.say(Answer::OutOfRange);
            }
            Some(holder) if holder.is(caller) => {
                holder.owner.levels += 1;
                desk.say(Answer::Done).put_u8(self.poisoned.into());
            }
            Some(_) if until == Deadline::NOW => _ = desk.say(Answer::TimedOut),
            Some(_) => {
                self.row.push(caller.ticket, waiter);
                return Verdict::Waits(until);
            }
        }
        Verdict::Answered
    }

    fn release(&mut self, caller: Caller, panicked: bool, desk: &mut Desk) -> Answer {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.is(caller)) else {
            return Answer::NotHeld;
        };
        self.poisoned |= panicked;
        holder.owner.levels -= 1;
        if holder.owner.levels == 0 {
            self.hand_over(desk);
        }
        Answer::Done
    }

    /// Nobody has the lock any more: the oldest in the row gets it.
    fn hand_over(&mut self, desk: &mut Desk) {
        let Some((ticket, next)) = self.row.pop() else {
            self.holder = None;
            return;
        };
        self.holder = Some(next);
        let answer = desk.wake(ticket, Answer::Done);
        if next.from != From::Outside {
            answer.put_u8((next.from != From::TimeUp).into());
        }
        answer.put_u8(self.poisoned.into());
    }

    /// Into the row; at once through it if nobody has the lock.
    fn line_up(&mut self, ticket: Ticket, owner: Owner, from: From, desk: &mut Desk) {
        self.row.push(ticket, Waiter { owner, from });
        if self.holder.is_none() {
            self.hand_over(desk);
        }
    }

    fn wait(&mut self, condition: ObjectId, until: Deadline, caller: Caller, desk: &mut Desk) -> Verdict {
        let Some(Waiter { owner, .. }) = self.holder.filter(|holder| holder.is(caller)) else {
            desk.say(Answer::NotHeld);
            return Verdict::Answered;
        };
        if until != Deadline::NOW {
            self.conditions.entry(condition).or_default().push(caller.ticket, owner);
            self.hand_over(desk);
            return Verdict::Waits(until);
        }
        if self.row.is_empty() {
            let answer = desk.say(Answer::Done);
            answer.put_u8(0);
            answer.put_u8(self.poisoned.into());
            return Verdict::Answered;
        }
        self.row.push(caller.ticket, Waiter { owner, from: From::TimeUp });
        self.hand_over(desk);
        Verdict::Waits(Deadline::NEVER)
    }

    /// The oldest waiters of the condition want the lock now; answers how many they are.
    fn notify(&mut self, condition: ObjectId, most: u64, desk: &mut Desk) -> u64 {
        let mut count = 0;
        while count < most {
            let Some((ticket, owner)) = self.conditions.get_mut(&condition).and_then(Row::pop) else { break };
            self.line_up(ticket, owner, From::Notified(condition), desk);
            count += 1;
        }
        self.forget_if_empty(condition);
        count
    }

    #[cfg(test)]
    pub(super) fn conditions_are_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    fn forget_if_empty(&mut self, condition: ObjectId) {
        if self.conditions.get(&condition).is_some_and(Row::is_empty) {
            self.conditions.remove(&condition);
        }
    }

    /// The condition and the owner of a call that waits to be notified, which it no longer does.
    fn take_sleeper(&mut self, ticket: Ticket) -> Option<Owner> {
        let mut rows = self.conditions.iter_mut();
        let (condition, owner) = rows.find_map(|(condition, row)| Some((*condition, row.remove(ticket)?)))?;
        self.forget_if_empty(condition);
        Some(owner)
    }

    fn time_is_up(&mut self, ticket: Ticket, desk: &mut Desk) {
        if let Some(owner) = self.take_sleeper(ticket) {
            self.line_up(ticket, owner, From::TimeUp, desk);
        } else if self.row.get(ticket).is_some_and(|waiter| waiter.from == From::Outside) {
            self.row.remove(ticket);
            desk.wake(ticket, Answer::TimedOut);
        }
    }

    fn cut_off(&mut self, ticket: Ticket, desk: &mut Desk) {
        if let Some(waiter) = self.row.remove(ticket) {
            self.pass_on(waiter.from, desk);
        } else {
            self.take_sleeper(ticket);
        }
    }

    /// The holder did not do what it took the lock for.
    fn take_away(&mut self, desk: &mut Desk) {
        if let Some(holder) = self.holder {
            self.pass_on(holder.from, desk);
        }
        self.hand_over(desk);
    }

    /// Whoever came from there makes no use of it: if it was notified, the next one is.
    fn pass_on(&mut self, from: From, desk: &mut Desk) {
        if let From::Notified(condition) = from {
            self.notify(condition, 1, desk);
        }
    }
}

impl Hosted for Lock {
    fn create(kind: Kind, _: Caller, arguments: Reader<'_>, _: &mut Desk) -> Result<Option<Self>, Malformed> {
        arguments.end()?;
        let (row, conditions) = (Row::default(), HashMap::new());
        Ok(Some(Lock { reentrant: kind == Kind::RLock, holder: None, poisoned: false, row, conditions }))
    }

    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let condition = match op {
            Op::ConditionWait | Op::ConditionNotify => arguments.number()?,
            _ => 0,
        };
        let until = match op {
            Op::LockAcquire | Op::ConditionWait => arguments.time()?,
            _ => Deadline::NOW,
        };
        let panicked = op == Op::LockRelease && arguments.u8()? != 0;
        let most = if op == Op::ConditionNotify { arguments.number()? } else { 0 };
        arguments.end()?;
        let answer = match op {
            Op::LockAcquire => return Ok(self.acquire(caller, until, desk)),
            Op::ConditionWait => return Ok(self.wait(condition, until, caller, desk)),
            Op::LockRelease => self.release(caller, panicked, desk),
            Op::LockIsLocked => {
                desk.say(Answer::Done).put_u8(self.holder.is_some().into());
                return Ok(Verdict::Answered);
            }
            Op::LockMarkConsistent if self.holder.is_some_and(|holder| holder.is(caller)) => {
                self.poisoned = false;
                Answer::Done
            }
            Op::LockMarkConsistent => Answer::NotHeld,
            Op::ConditionNotify => {
                let count = self.notify(condition, most, desk);
                desk.say(Answer::Done).put_number(count);
                return Ok(Verdict::Answered);
            }
            _ => return Err(Malformed),
        };
        desk.say(answer);
        Ok(Verdict::Answered)
    }

    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
        match end {
            End::TimeUp => self.time_is_up(ticket, desk),
            End::Gone => self.cut_off(ticket, desk),
        }
    }

    fn undo(&mut self, op: Op, caller: Caller, _: Reader<'_>, desk: &mut Desk) {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.is(caller)) else { return };
        match op {
            Op::LockAcquire => holder.owner.levels -= 1,
            // Whoever waited has no way to know that it has the lock again.
            Op::ConditionWait => holder.owner.levels = 0,
            _ => return,
        }
        if holder.owner.levels == 0 {
            self.take_away(desk);
        }
    }

    fn bury(&mut self, session: SessionId, desk: &mut Desk) {
        if self.holder.is_some_and(|holder| holder.owner.session == session) {
            self.poisoned = true;
            self.take_away(desk);
        }
    }
}

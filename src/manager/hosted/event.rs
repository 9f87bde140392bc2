//! An event: a flag, and who waits for it. It belongs to nobody, so nobody's death changes it.

use ipc_sync::Deadline;

use super::row::Row;
use super::{Caller, Desk, End, Hosted, Ticket, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, Op, Reader, Write};

#[derive(Debug, Default)]
pub(in crate::manager) struct Event {
    set: bool,
    row: Row<()>,
}

impl Event {
    fn set(&mut self, desk: &mut Desk) {
        self.set = true;
        for (ticket, ()) in self.row.drain() {
            desk.wake(ticket, Answer::Done);
        }
    }

    fn wait(&mut self, ticket: Ticket, until: Deadline, desk: &mut Desk) -> Verdict {
        if !self.set && until != Deadline::NOW {
            self.row.push(ticket, ());
            return Verdict::Waits(until);
        }
        desk.say(if self.set { Answer::Done } else { Answer::TimedOut });
        Verdict::Answered
    }
}

impl Hosted for Event {
    fn create(_: Kind, _: Caller, arguments: Reader<'_>, _: &mut Desk) -> Result<Option<Self>, Malformed> {
        arguments.end()?;
        Ok(Some(Event::default()))
    }

    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let until = if op == Op::EventWait { arguments.time()? } else { Deadline::NOW };
        arguments.end()?;
        match op {
            Op::EventSet => self.set(desk),
            Op::EventClear => self.set = false,
            Op::EventIsSet => {
                desk.say(Answer::Done).put_u8(self.set.into());
                return Ok(Verdict::Answered);
            }
            Op::EventWait => return Ok(self.wait(caller.ticket, until, desk)),
            _ => return Err(Malformed),
        }
        desk.say(Answer::Done);
        Ok(Verdict::Answered)
    }

    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
        self.row.give_up(ticket, end, desk);
    }
}

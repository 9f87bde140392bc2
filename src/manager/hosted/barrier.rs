//! A barrier: parties that wait for each other, round after round.

use ipc_sync::Deadline;

use super::row::Row;
use super::{Caller, Desk, End, Hosted, Ticket, Verdict};
use crate::manager::message::{Answer, Breach, Kind, Malformed, Op, Reader, Write};

/// Whoever waits, the barrier is whole.
#[derive(Debug)]
pub(in crate::manager) struct Barrier {
    parties: u64,
    /// Who waits, by process.
    row: Row<u32>,
    /// What broke it, and the process that died.
    broken: Option<(Breach, u32)>,
}

impl Barrier {
    fn wait(&mut self, caller: Caller, until: Deadline, desk: &mut Desk) -> Verdict {
        if let Some(breach) = self.broken {
            tell(breach, desk.say(Answer::Broken));
        } else if self.row.len() as u64 + 1 >= self.parties {
            self.release(desk);
        } else if until == Deadline::NOW {
            desk.say(Answer::TimedOut);
            self.break_by((Breach::TimedOut, 0), desk);
        } else {
            self.row.push(caller.ticket, caller.pid);
            return Verdict::Waits(until);
        }
        Verdict::Answered
    }

    /// The last party is here: it has index 0, and who came before it the next ones.
    fn release(&mut self, desk: &mut Desk) {
        desk.say(Answer::Done).put_number(0);
        let count = self.row.len() as u64;
        for (index, (ticket, _)) in (1..=count).rev().zip(self.row.drain()) {
            desk.wake(ticket, Answer::Done).put_number(index);
        }
    }

    /// Refuses everybody from now on, and those who wait. What is broken stays as it is.
    fn break_by(&mut self, breach: (Breach, u32), desk: &mut Desk) {
        self.broken.get_or_insert(breach);
        self.dismiss(breach, desk);
    }

    fn dismiss(&mut self, breach: (Breach, u32), desk: &mut Desk) {
        for (ticket, _) in self.row.drain() {
            tell(breach, desk.wake(ticket, Answer::Broken));
        }
    }

    /// Makes it whole, with nobody in it; with `only_broken`, false = it was whole.
    fn reset(&mut self, only_broken: bool, desk: &mut Desk) -> bool {
        if only_broken && self.broken.is_none() {
            return false;
        }
        self.broken = None;
        self.dismiss((Breach::Reset, 0), desk);
        true
    }

    fn describe(&self, answer: &mut Vec<u8>) {
        answer.put_number(self.parties);
        answer.put_number(self.row.len() as u64);
        answer.put_u8(self.broken.is_some().into());
    }
}

fn tell((breach, pid): (Breach, u32), answer: &mut Vec<u8>) {
    answer.put_u8(breach as u8);
    answer.put_u32(pid);
}

impl Hosted for Barrier {
    fn create(
        _: Kind,
        _: Caller,
        mut arguments: Reader<'_>,
        _: &mut Desk,
    ) -> Result<Option<Self>, Malformed> {
        let parties = arguments.number()?;
        arguments.end()?;
        if parties == 0 {
            return Err(Malformed);
        }
        Ok(Some(Barrier { parties, row: Row::default(), broken: None }))
    }

    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let until = if op == Op::BarrierWait { arguments.time()? } else { Deadline::NOW };
        let only_broken = op == Op::BarrierReset && arguments.u8()? != 0;
        arguments.end()?;
        match op {
            Op::BarrierWait => return Ok(self.wait(caller, until, desk)),
            Op::BarrierAbort => {
                self.break_by((Breach::Aborted, 0), desk);
                desk.say(Answer::Done);
            }
            Op::BarrierReset => {
                let done = self.reset(only_broken, desk);
                desk.say(if done { Answer::Done } else { Answer::Nothing });
            }
            Op::BarrierState => self.describe(desk.say(Answer::Done)),
            _ => return Err(Malformed),
        }
        Ok(Verdict::Answered)
    }

    fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) {
        let Some(pid) = self.row.give_up(ticket, end, desk) else { return };
        let breach = match end {
            End::TimeUp => (Breach::TimedOut, 0),
            End::Gone => (Breach::Died, pid),
        };
        self.break_by(breach, desk);
    }
}

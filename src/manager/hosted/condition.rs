//! A condition: the number by which its lock knows who waits for it.

use super::{Caller, Desk, Hosted, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, ObjectId, Op, Reader, Write};

/// It keeps its lock alive. The server has seen that it is one.
#[derive(Debug)]
pub(in crate::manager) struct Condition {
    lock: ObjectId,
}

impl Hosted for Condition {
    fn create(
        _: Kind,
        _: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Option<Self>, Malformed> {
        let lock = arguments.number()?;
        arguments.end()?;
        desk.stored.push(lock);
        Ok(Some(Condition { lock }))
    }

    fn call(
        &mut self,
        op: Op,
        _: Caller,
        arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        arguments.end()?;
        if op != Op::ConditionLock {
            return Err(Malformed);
        }
        desk.say(Answer::Done).put_number(self.lock);
        Ok(Verdict::Answered)
    }

    fn clear(&mut self, desk: &mut Desk) {
        desk.dropped.push(self.lock);
    }
}

//! Requests about objects as a whole: making, naming, keeping, lending and dropping them.

use std::time::Duration;

use ipc_sync::Deadline;

use super::state::{Lent, State, Timer};
use super::table::Entry;
use crate::manager::hosted::{Caller, Hosted, Object};
use crate::manager::message::{Answer, Kind, MAX_NAME, Malformed, ObjectId, Reader, Write};

/// A reference is on its way for so long at most.
const LONGEST_LOAN: Duration = Duration::from_secs(3600);

impl State {
    pub(super) fn create(&mut self, caller: Caller, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        let kind = Kind::of(arguments.u8()?).ok_or(Malformed)?;
        let name = arguments.bytes()?;
        if name.len() > MAX_NAME {
            return Err(Malformed);
        }
        if let Some(object) = self.table.named(name) {
            self.tell_object(caller, object, kind);
        } else if self.may_have(caller.session) {
            if let Some(object) = self.make(kind, caller, arguments)? {
                self.name(caller, object, name);
                self.tell_object(caller, object, kind);
                self.collect(object);
            }
        }
        self.settle();
        Ok(())
    }

    /// A new object; `None` = the answer says why there is none.
    fn make(
        &mut self,
        kind: Kind,
        caller: Caller,
        arguments: Reader<'_>,
    ) -> Result<Option<ObjectId>, Malformed> {
        if kind == Kind::Condition && !self.may_have_condition(arguments)? {
            return Ok(None);
        }
        let bytes = self.session(caller.session).map_or(u64::MAX, |session| session.bytes);
        self.desk.allowance = self.limits.bytes.saturating_sub(bytes);
        let object = Object::create(kind, caller, arguments, &mut self.desk)?;
        Ok(object.map(|object| self.table.insert(Entry::new(kind, object))))
    }

    /// Whether the object that a condition is to belong to is a lock; if not, the answer says so.
    fn may_have_condition(&mut self, mut arguments: Reader<'_>) -> Result<bool, Malformed> {
        let lock = self.table.get(arguments.number()?).map(|entry| entry.kind);
        match lock {
            Some(Kind::Lock | Kind::RLock) => return Ok(true),
            Some(kind) => self.desk.say(Answer::OtherKind).put_u8(kind as u8),
            None => self.desk.tell(Answer::Gone),
        }
        Ok(false)
    }

    fn name(&mut self, caller: Caller, object: ObjectId, name: &[u8]) {
        if name.is_empty() {
            return;
        }
        self.table.set_name(object, name, caller.session);
        if let Some(session) = self.session(caller.session) {
            session.made += 1;
        }
    }

    pub(super) fn open(&mut self, caller: Caller, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        let kind = Kind::of(arguments.u8()?).ok_or(Malformed)?;
        let name = arguments.bytes()?;
        arguments.end()?;
        match self.table.named(name) {
            Some(object) => self.tell_object(caller, object, kind),
            None => self.desk.tell(Answer::NoSuchName),
        }
        Ok(())
    }

    /// The session has a reference to `object`, if it is of that kind.
    fn tell_object(&mut self, caller: Caller, object: ObjectId, kind: Kind) {
        match self.table.get(object).map(|entry| entry.kind) {
            Some(found) if found == kind => {
                if self.may_have(caller.session) {
                    self.retain(caller.session, object);
                    self.desk.say(Answer::Done).put_number(object);
                }
            }
            Some(found) => self.desk.say(Answer::OtherKind).put_u8(found as u8),
            None => self.desk.tell(Answer::Gone),
        }
    }

    pub(super) fn retain_more(
        &mut self,
        caller: Caller,
        object: ObjectId,
        arguments: Reader<'_>,
    ) -> Result<(), Malformed> {
        arguments.end()?;
        if self.table.get(object).is_none() {
            self.desk.tell(Answer::Gone);
        } else if self.may_have(caller.session) {
            self.retain(caller.session, object);
            self.desk.tell(Answer::Done);
        }
        Ok(())
    }

    pub(super) fn release_one(
        &mut self,
        caller: Caller,
        object: ObjectId,
        arguments: Reader<'_>,
    ) -> Result<(), Malformed> {
        arguments.end()?;
        self.release(caller.session, object);
        self.settle();
        Ok(())
    }

    pub(super) fn lend(
        &mut self,
        caller: Caller,
        object: ObjectId,
        mut arguments: Reader<'_>,
    ) -> Result<(), Malformed> {
        let time = Duration::from_nanos(arguments.number()?).min(LONGEST_LOAN);
        arguments.end()?;
        if self.table.get(object).is_none() {
            self.desk.tell(Answer::Gone);
        } else if self.may_have(caller.session) {
            let (lender, deadline) = (caller.session, Deadline::after(time));
            let ticket = self.lent.insert(Lent { object, lender, deadline });
            self.set_timer(deadline, Timer::Lent(ticket));
            self.table.store(object);
            if let Some(session) = self.session(lender) {
                session.made += 1;
            }
            self.desk.say(Answer::Done).put_number(ticket);
        }
        Ok(())
    }

    pub(super) fn claim(
        &mut self,
        caller: Caller,
        object: ObjectId,
        mut arguments: Reader<'_>,
    ) -> Result<(), Malformed> {
        let ticket = arguments.number()?;
        arguments.end()?;
        match self.lent.get(ticket).filter(|lent| lent.object == object).map(|lent| lent.deadline) {
            None => self.desk.tell(Answer::Gone),
            Some(deadline) if self.may_have(caller.session) => {
                self.remove_timer(deadline, Timer::Lent(ticket));
                self.retain(caller.session, object);
                self.end_loan(ticket);
                self.desk.tell(Answer::Done);
            }
            Some(_) => {}
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        let name = arguments.bytes()?;
        arguments.end()?;
        let Some((object, maker)) = self.table.remove_name(name) else {
            self.desk.tell(Answer::NoSuchName);
            return Ok(());
        };
        if let Some(maker) = self.session(maker) {
            maker.made -= 1;
        }
        self.desk.tell(Answer::Done);
        self.collect(object);
        self.settle();
        Ok(())
    }

    pub(super) fn tell_names(&mut self) {
        let State { table, desk, .. } = self;
        let size: usize = table.names().map(|(name, ..)| name.len() + 13).sum();
        desk.say(Answer::Done).put_u32(table.names_len() as u32);
        if desk.has_room(size) {
            for (name, object, kind) in table.names() {
                desk.answer.put_bytes(name);
                desk.answer.put_u8(kind as u8);
                desk.answer.put_number(object);
            }
        }
    }
}

//! Dict and Namespace: values by keys, in the order in which the keys came.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

use super::integer::Addition;
use super::page::Page;
use super::spacious::{SPACIOUS, to_keep};
use super::{Caller, Desk, Hosted, SessionId, Stored, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, Op, Reader, ValueRef, Write};

/// Memory that an entry takes beside its key and its value, about.
const OVERHEAD: usize = 96;

/// Keys are hashed with a secret: they come from clients, who could choose them badly.
#[derive(Debug, Default)]
pub(in crate::manager) struct Dict {
    entries: HashMap<Rc<[u8]>, Entry>,
    /// Keys by the places of their entries. A page walks it, so that an iteration holds nothing.
    order: BTreeMap<u64, Rc<[u8]>>,
    /// The place of the last entry that came.
    last: u64,
}

#[derive(Debug)]
struct Entry {
    place: u64,
    /// Who brought the key, and is charged with it.
    owner: SessionId,
    value: Stored,
}

/// What a compare-exchange expects, or wants: no entry, or this value.
fn read_option<'a>(arguments: &mut Reader<'a>) -> Result<Option<ValueRef<'a>>, Malformed> {
    match arguments.u8()? {
        0 => Ok(None),
        1 => arguments.value().map(Some),
        _ => Err(Malformed),
    }
}

fn key_charge(key: &[u8]) -> usize {
    key.len() + OVERHEAD
}

impl Hosted for Dict {
    fn create(_: Kind, _: Caller, arguments: Reader<'_>, _: &mut Desk) -> Result<Option<Dict>, Malformed> {
        arguments.end()?;
        Ok(Some(Dict::default()))
    }

    #[inline]
    fn call(
        &mut self,
        op: Op,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Verdict, Malformed> {
        let session = caller.session;
        match op {
            Op::MapLen | Op::MapClear | Op::MapPopLast => {
                arguments.end()?;
                self.call_whole(op, session, desk);
            }
            Op::MapExtend => self.extend(session, arguments, desk)?,
            Op::MapPage => self.page(session, arguments, desk)?,
            Op::MapCompareExchange => self.compare_exchange(session, arguments, desk)?,
            Op::MapSet | Op::MapInsert | Op::MapInsertIfAbsent => {
                let (key, value) = (arguments.bytes()?, arguments.value()?);
                arguments.end()?;
                self.put(op, session, key, value, desk);
            }
            Op::MapAdd => {
                let (key, addition) = (arguments.bytes()?, Addition::read(&mut arguments)?);
                arguments.end()?;
                self.add(session, key, addition, desk);
            }
            _ => {
                let key = arguments.bytes()?;
                arguments.end()?;
                self.call_key(op, session, key, desk)?;
            }
        }
        Ok(Verdict::Answered)
    }

    fn clear(&mut self, desk: &mut Desk) {
        self.order.clear();
        for (key, entry) in std::mem::take(&mut self.entries) {
            discard(&key, entry, desk);
        }
    }
}

/// The entry goes.
fn discard(key: &[u8], entry: Entry, desk: &mut Desk) {
    desk.refund(entry.owner, key_charge(key));
    desk.discard(entry.value);
}

impl Dict {
    /// Ops without a key.
    fn call_whole(&mut self, op: Op, session: SessionId, desk: &mut Desk) {
        match op {
            Op::MapLen => desk.say(Answer::Done).put_number(self.entries.len() as u64),
            Op::MapClear => {
                self.clear(desk);
                desk.tell(Answer::Done);
            }
            _ => self.pop_last(session, desk),
        }
    }

    /// Ops with a key and nothing else.
    #[inline]
    fn call_key(&mut self, op: Op, session: SessionId, key: &[u8], desk: &mut Desk) -> Result<(), Malformed> {
        match op {
            Op::MapGet => self.get(session, key, desk),
            Op::MapRemove => self.remove(session, key, desk),
            Op::MapContains => {
                desk.tell(if self.entries.contains_key(key) { Answer::Done } else { Answer::Nothing });
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    #[inline]
    fn get(&self, session: SessionId, key: &[u8], desk: &mut Desk) {
        match self.entries.get(key) {
            Some(entry) => _ = desk.answer_value(Answer::Done, session, &entry.value),
            None => desk.tell(Answer::Nothing),
        }
    }

    #[inline]
    fn put(&mut self, op: Op, session: SessionId, key: &[u8], value: ValueRef<'_>, desk: &mut Desk) {
        let Some(entry) = self.entries.get_mut(key) else {
            if self.insert(session, key, value, desk) {
                desk.tell(if op == Op::MapSet { Answer::Done } else { Answer::Nothing });
            }
            return;
        };
        match op {
            Op::MapInsertIfAbsent => _ = desk.answer_value(Answer::Done, session, &entry.value),
            Op::MapInsert => desk.exchange(session, &mut entry.value, value),
            _ => desk.replace(session, &mut entry.value, value),
        }
    }

    /// A new entry behind all others; false = there is no room for it, and the answer says so.
    fn insert(&mut self, session: SessionId, key: &[u8], value: ValueRef<'_>, desk: &mut Desk) -> bool {
        if !desk.affords(key_charge(key) + value.charge()) {
            return false;
        }
        desk.charge(session, key_charge(key));
        let Some(value) = desk.keep(session, value) else { return false };
        self.append(key, session, value);
        true
    }

    /// A new entry; its key is not there.
    pub(super) fn append(&mut self, key: &[u8], owner: SessionId, value: Stored) {
        self.last += 1;
        let key: Rc<[u8]> = key.into();
        self.order.insert(self.last, key.clone());
        self.entries.insert(key, Entry { place: self.last, owner, value });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Stored)> {
        self.order.values().filter_map(|key| Some((&**key, &self.entries.get(key)?.value)))
    }

    fn take(&mut self, key: &[u8], desk: &mut Desk) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.order.remove(&entry.place);
            discard(&key, entry, desk);
            self.shrink();
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.capacity()
    }

    /// Gives memory back, now and then, of a dict that was much larger once.
    #[inline]
    fn shrink(&mut self) {
        if let Some(places) = to_keep(self.entries.len(), self.entries.capacity()) {
            self.entries.shrink_to(places);
        }
    }

    fn remove(&mut self, session: SessionId, key: &[u8], desk: &mut Desk) {
        let Some(entry) = self.entries.get(key) else { return desk.tell(Answer::Nothing) };
        if desk.answer_value(Answer::Done, session, &entry.value) {
            self.take(key, desk);
        }
    }

    fn pop_last(&mut self, session: SessionId, desk: &mut Desk) {
        let Some((_, key)) = self.order.last_key_value() else { return desk.tell(Answer::Nothing) };
        let key = key.clone();
        let Some(entry) = self.entries.get(&key) else { return desk.tell(Answer::Nothing) };
        desk.say(Answer::Done).put_bytes(&key);
        if desk.give_if_room(session, &entry.value) {
            self.take(&key, desk);
        }
    }

    fn add(&mut self, session: SessionId, key: &[u8], addition: Addition, desk: &mut Desk) {
        if let Some(entry) = self.entries.get_mut(key) {
            return addition.apply(&mut entry.value, desk);
        }
        let (bytes, width) = addition.alone();
        if self.insert(session, key, ValueRef::plain(&bytes[..width]), desk) {
            Addition::answer(0, desk);
        }
    }

    /// All of them or, when the budget does not suffice, none.
    fn extend(
        &mut self,
        session: SessionId,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        let count = arguments.u32()?;
        let (mut checked, mut charges) = (arguments, 0);
        for _ in 0..count {
            charges += key_charge(checked.bytes()?) + checked.value()?.charge();
        }
        checked.end()?;
        if !desk.affords(charges) {
            return Ok(());
        }
        self.entries.reserve(SPACIOUS.min(count as usize)); // it may be one key all the time
        for _ in 0..count {
            let (key, value) = (arguments.bytes()?, arguments.value()?);
            self.put(Op::MapSet, session, key, value, desk);
        }
        desk.tell(Answer::Done);
        Ok(())
    }

    fn compare_exchange(
        &mut self,
        session: SessionId,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        let key = arguments.bytes()?;
        let (expected, new) = (read_option(&mut arguments)?, read_option(&mut arguments)?);
        arguments.end()?;
        let found = self.entries.get_mut(key);
        let is_expected = match (&found, expected) {
            (Some(entry), Some(expected)) => entry.value.is(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        match (found, new) {
            (Some(entry), _) if !is_expected => {
                desk.say(Answer::Differs).put_u8(1);
                desk.give_if_room(session, &entry.value);
            }
            (None, _) if !is_expected => desk.say(Answer::Differs).put_u8(0),
            (Some(entry), Some(new)) => desk.replace(session, &mut entry.value, new),
            (Some(_), None) => {
                self.take(key, desk);
                desk.tell(Answer::Done);
            }
            (None, Some(new)) => {
                if self.insert(session, key, new, desk) {
                    desk.tell(Answer::Done);
                }
            }
            (None, None) => desk.tell(Answer::Done),
        }
        Ok(())
    }

    /// Entries behind a place, as many as fit; at least one.
    fn page(&self, session: SessionId, mut arguments: Reader<'_>, desk: &mut Desk) -> Result<(), Malformed> {
        let (place, what, most) = (arguments.number()?, arguments.u8()?, arguments.number()?);
        arguments.end()?;
        if !(1..=3).contains(&what) {
            return Err(Malformed);
        }
        desk.say(Answer::Done).put_number(0);
        let mut page = Page::begin(desk, most);
        let next = self.fill(place, what, &mut page, session, desk);
        if page.end(desk, next == 0) {
            desk.answer[1..9].copy_from_slice(&next.to_le_bytes());
        }
        Ok(())
    }

    /// Puts the entries behind `place` on a page; answers the place of the last one, or 0 = there are no more.
    fn fill(&self, place: u64, what: u8, page: &mut Page, session: SessionId, desk: &mut Desk) -> u64 {
        let (keys, values) = (what & 1 != 0, what & 2 != 0);
        let mut last = place;
        for (place, key) in self.order.range((Excluded(place), Unbounded)) {
            let Some(entry) = self.entries.get(key) else { continue };
            let size = if keys { 4 + key.len() } else { 0 } + if values { entry.value.size() } else { 0 };
            if !page.takes(desk, size) {
                return last.max(1);
            }
            if keys {
                desk.answer.put_bytes(key);
            }
            if values {
                desk.give(session, &entry.value);
            }
            last = *place;
        }
        0
    }
}

//! List, Array and Value: values in a row. The length of the last two stays, and that of a Value is one.

use std::ops::Range;

use super::integer::Addition;
use super::many::Many;
use super::page::Page;
use super::spacious::to_keep;
use super::{Caller, Desk, Hosted, SessionId, Stored, Verdict};
use crate::manager::message::{Answer, Kind, Malformed, Op, Reader, ValueRef, Write};

/// A version counts changes, so that a client that read the list knows whether it is still what it read.
#[derive(Debug)]
pub(in crate::manager) struct List {
    elements: Vec<Stored>,
    /// Never 0, which stands for any version.
    version: u64,
    /// Its length stays.
    fixed: bool,
}

/// Bytes that are compared in one step.
const LINE: usize = 64;

impl Hosted for List {
    fn create(
        kind: Kind,
        caller: Caller,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<Option<List>, Malformed> {
        let elements = match kind {
            Kind::Value => {
                let value = arguments.value()?;
                arguments.end()?;
                desk.keep(caller.session, value).map(|value| vec![value])
            }
            Kind::Array => Many::read(arguments)?.keep(caller.session, desk),
            _ => {
                arguments.end()?;
                Some(Vec::new())
            }
        };
        Ok(elements.map(|elements| List { elements, version: 1, fixed: kind != Kind::List }))
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
            Op::ListGet | Op::ListPop => {
                let index = arguments.index()?;
                arguments.end()?;
                self.get(op, session, index, desk);
            }
            Op::ListSet | Op::ListInsert => {
                let (index, value) = (arguments.index()?, arguments.value()?);
                arguments.end()?;
                self.put(op, session, index, value, desk);
            }
            Op::ListPush => {
                let value = arguments.value()?;
                arguments.end()?;
                self.put(Op::ListInsert, session, i64::MAX, value, desk);
            }
            Op::ListAdd => {
                let (index, addition) = (arguments.index()?, Addition::read(&mut arguments)?);
                arguments.end()?;
                self.add(index, addition, desk);
            }
            Op::ListReverse | Op::ListLen | Op::ListClear => {
                arguments.end()?;
                self.call_whole(op, desk);
            }
            Op::ListExtend => self.extend(session, arguments, desk)?,
            Op::ListRemove | Op::ListIndex | Op::ListCount => self.find(op, arguments, desk)?,
            Op::ListPage => self.page(session, arguments, desk)?,
            Op::ListSplice => self.splice(session, arguments, desk)?,
            Op::ListCompareExchange => self.compare_exchange(session, arguments, desk)?,
            _ => return Err(Malformed),
        }
        Ok(Verdict::Answered)
    }

    fn clear(&mut self, desk: &mut Desk) {
        self.changed();
        self.elements.drain(..).for_each(|value| desk.discard(value));
        self.shrink();
    }
}

impl List {
    pub(super) fn elements(&self) -> &[Stored] {
        &self.elements
    }

    pub(super) fn append(&mut self, value: Stored) {
        self.elements.push(value);
    }

    fn take(&mut self, place: usize, desk: &mut Desk) {
        desk.discard(self.elements.remove(place));
        self.shrink();
    }

    /// Gives memory back, now and then, of a list that was much longer once.
    #[inline]
    fn shrink(&mut self) {
        if let Some(places) = to_keep(self.elements.len(), self.elements.capacity()) {
            self.elements.shrink_to(places);
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.elements.capacity()
    }

    fn changed(&mut self) {
        self.version += 1;
    }

    /// The place of an element; `None` = there is none.
    #[inline]
    fn place(&self, index: i64) -> Option<usize> {
        let index = if index < 0 { index.checked_add_unsigned(self.elements.len() as u64)? } else { index };
        usize::try_from(index).ok().filter(|index| *index < self.elements.len())
    }

    /// A place between elements: what is beyond an end is that end.
    fn bound(&self, index: i64) -> usize {
        let length = self.elements.len();
        let index = if index < 0 { index.saturating_add_unsigned(length as u64) } else { index };
        usize::try_from(index).map_or(0, |index| index.min(length))
    }

    /// From `start` to `stop`; empty if they cross.
    fn range(&self, start: i64, stop: i64) -> Range<usize> {
        let (start, stop) = (self.bound(start), self.bound(stop));
        start..stop.max(start)
    }

    #[inline]
    fn get(&mut self, op: Op, session: SessionId, index: i64, desk: &mut Desk) {
        let Some(place) = self.place(index) else { return desk.tell(Answer::OutOfRange) };
        if desk.answer_value(Answer::Done, session, &self.elements[place]) && op == Op::ListPop {
            self.changed();
            desk.steps += self.elements.len() - place;
            self.take(place, desk);
        }
    }

    #[inline]
    fn put(&mut self, op: Op, session: SessionId, index: i64, value: ValueRef<'_>, desk: &mut Desk) {
        if op == Op::ListSet {
            let Some(place) = self.place(index) else { return desk.tell(Answer::OutOfRange) };
            self.changed();
            desk.replace(session, &mut self.elements[place], value);
        } else if let Some(value) = desk.keep(session, value) {
            self.changed();
            let place = self.bound(index);
            desk.steps += self.elements.len() - place;
            self.elements.insert(place, value);
            desk.tell(Answer::Done);
        }
    }

    fn add(&mut self, index: i64, addition: Addition, desk: &mut Desk) {
        let Some(place) = self.place(index) else { return desk.tell(Answer::OutOfRange) };
        self.changed();
        addition.apply(&mut self.elements[place], desk);
    }

    fn call_whole(&mut self, op: Op, desk: &mut Desk) {
        match op {
            Op::ListLen => return desk.say(Answer::Done).put_number(self.elements.len() as u64),
            Op::ListClear => self.clear(desk),
            _ => {
                self.changed();
                desk.steps += self.elements.len();
                self.elements.reverse();
            }
        }
        desk.tell(Answer::Done);
    }

    fn extend(
        &mut self,
        session: SessionId,
        arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        if let Some(values) = Many::read(arguments)?.keep(session, desk) {
            self.changed();
            self.elements.extend(values);
            desk.tell(Answer::Done);
        }
        Ok(())
    }

    /// Ops that look for a value.
    fn find(&mut self, op: Op, mut arguments: Reader<'_>, desk: &mut Desk) -> Result<(), Malformed> {
        let value = arguments.value()?;
        let range = match op {
            Op::ListIndex => self.range(arguments.index()?, arguments.index()?),
            _ => 0..self.elements.len(),
        };
        arguments.end()?;
        desk.steps += range.len() * (1 + value.bytes.len() / LINE);
        let mut found = range.filter(|place| self.elements[*place].is(value));
        if op == Op::ListCount {
            let count = found.count();
            desk.say(Answer::Done).put_number(count as u64);
            return Ok(());
        }
        let Some(place) = found.next() else {
            desk.tell(Answer::Nothing);
            return Ok(());
        };
        let answer = desk.say(Answer::Done);
        if op == Op::ListIndex {
            answer.put_index(place as i64);
        } else {
            self.changed();
            self.take(place, desk);
        }
        Ok(())
    }

    /// Elements from a place on, as many as fit; at least one.
    fn page(&self, session: SessionId, mut arguments: Reader<'_>, desk: &mut Desk) -> Result<(), Malformed> {
        let range = self.range(arguments.index()?, arguments.index()?);
        let most = arguments.number()?;
        arguments.end()?;
        let answer = desk.say(Answer::Done);
        answer.put_number(self.version);
        answer.put_index(0);
        answer.put_number(self.elements.len() as u64);
        let (mut page, mut next) = (Page::begin(desk, most), range.start);
        for value in &self.elements[range.clone()] {
            if !page.takes(desk, value.size()) {
                break;
            }
            desk.give(session, value);
            next += 1;
        }
        if page.end(desk, next == range.end) {
            desk.answer[9..17].copy_from_slice(&(next as i64).to_le_bytes());
        }
        Ok(())
    }

    fn splice(
        &mut self,
        session: SessionId,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        let version = arguments.number()?;
        let range = self.range(arguments.index()?, arguments.index()?);
        let values = Many::read(arguments)?;
        if version != 0 && version != self.version {
            desk.tell(Answer::Differs);
        } else if self.fixed && values.count as usize != range.len() {
            desk.tell(Answer::OutOfRange);
        } else if let Some(values) = values.keep(session, desk) {
            self.changed();
            desk.steps += self.elements.len() - range.start;
            self.elements.splice(range, values).for_each(|value| desk.discard(value));
            self.shrink();
            desk.tell(Answer::Done);
        }
        Ok(())
    }

    fn compare_exchange(
        &mut self,
        session: SessionId,
        mut arguments: Reader<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        let (index, expected, new) = (arguments.index()?, arguments.value()?, arguments.value()?);
        arguments.end()?;
        let Some(place) = self.place(index) else {
            desk.tell(Answer::OutOfRange);
            return Ok(());
        };
        let element = &mut self.elements[place];
        if element.is(expected) {
            desk.replace(session, element, new);
            self.changed();
        } else {
            desk.answer_value(Answer::Differs, session, element);
        }
        Ok(())
    }
}

//! Calls that wait for the same thing, the oldest first.

use std::collections::VecDeque;

use super::{Desk, End, Ticket};
use crate::manager::message::Answer;

/// Who waits, and what is to be known about each.
#[derive(Debug)]
pub(super) struct Row<T>(VecDeque<(Ticket, T)>);

impl<T> Default for Row<T> {
    fn default() -> Self {
        Row(VecDeque::new())
    }
}

impl<T> Row<T> {
    pub(super) fn push(&mut self, ticket: Ticket, what: T) {
        self.0.push_back((ticket, what));
    }

    pub(super) fn pop(&mut self) -> Option<(Ticket, T)> {
        self.0.pop_front()
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let at = self.0.iter().position(|(waiting, _)| *waiting == ticket)?;
        self.0.remove(at).map(|(_, what)| what)
    }

    /// As [`Hosted::give_up`](super::Hosted::give_up). Answers what was known about the call, if it stood here.
    pub(super) fn give_up(&mut self, ticket: Ticket, end: End, desk: &mut Desk) -> Option<T> {
        let what = self.remove(ticket)?;
        if end == End::TimeUp {
            desk.wake(ticket, Answer::TimedOut);
        }
        Some(what)
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&T> {
        self.0.iter().find(|(waiting, _)| *waiting == ticket).map(|(_, what)| what)
    }

    pub(super) fn drain(&mut self) -> impl ExactSizeIterator<Item = (Ticket, T)> + use<'_, T> {
        self.0.drain(..)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

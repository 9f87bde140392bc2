//! What one waiting thread knows of those it waits for.
//!
//! Whoever holds something is watched through its live word, which the kernel marks. After a sleep that nobody ended
//! /proc is asked too, and an owner that makes no sense for about a second is an error and no owner.

use crate::futex::Woken;
use crate::primitive::AtomicU32;
use crate::registry::Owner;
use crate::{BACKSTOP, Deadline, Me};

/// Looks at an owner that makes no sense, 20 ms apart, before it is an error.
const UNCLEAR_LIMIT: u32 = 50;

/// One wait.
pub(crate) struct Watch<'a> {
    pub(crate) me: &'a Me,
    pub(crate) deadline: Deadline,
    /// The last sleep was ended by nobody.
    overslept: bool,
    /// It was the backstop, and not the deadline of the call.
    rescued: bool,
    /// Sleeps in a row beside an owner that made no sense.
    unclear: u32,
    saw_unclear: bool,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(me: &'a Me, deadline: Deadline) -> Self {
        Watch { me, deadline, overslept: false, rescued: false, unclear: 0, saw_unclear: false }
    }

    /// Whether the owner of `token` has ended.
    pub(crate) fn is_dead(&mut self, token: u32) -> bool {
        let registry = self.me.registry();
        match registry.look(token) {
            Owner::Dead => true,
            Owner::Alive { .. } if !self.overslept => false,
            Owner::Alive { .. } | Owner::Unmarked => registry.ask(token),
            Owner::Unclear => {
                self.saw_unclear = true;
                false
            }
        }
    }

    /// Whether some owner has made no sense for too long.
    pub(crate) fn gives_up(&mut self) -> bool {
        self.unclear = if self.saw_unclear { self.unclear + 1 } else { 0 };
        self.saw_unclear = false;
        self.unclear > UNCLEAR_LIMIT
    }

    /// Sleeps while `word` holds what it should and none of `tokens` ends, one backstop at most.
    pub(crate) fn sleep(&mut self, word: (&AtomicU32, u32), tokens: impl IntoIterator<Item = u32>) {
        let round = self.deadline.min(Deadline::after(BACKSTOP));
        self.overslept = self.me.registry().sleep_any(word, tokens, round) == Woken::TimedOut;
        self.rescued = self.overslept && !self.deadline.has_passed();
    }

    /// What it waited for is there.
    pub(crate) fn is_over(&self) {
        if self.rescued {
            self.me.registry().count_rescue();
        }
    }
}

//! How many of something each session has in its hands: permits, items that it has not dealt with.

use std::collections::HashMap;

use super::SessionId;

#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// None of them zero.
    held: HashMap<SessionId, u64>,
    /// The sum of these.
    total: u64,
}

impl Holdings {
    pub(super) fn add(&mut self, session: SessionId) {
        *self.held.entry(session).or_default() += 1;
        self.total += 1;
    }

    /// One less; false = the session has none.
    pub(super) fn take(&mut self, session: SessionId) -> bool {
        let Some(count) = self.held.get_mut(&session) else { return false };
        *count -= 1;
        self.total -= 1;
        if *count == 0 {
            self.held.remove(&session);
        }
        true
    }

    /// All that the session has; answers how many they were.
    pub(super) fn take_all(&mut self, session: SessionId) -> u64 {
        let count = self.held.remove(&session).unwrap_or(0);
        self.total -= count;
        count
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

//! Who has how much of something: a table of tokens with a note for each.
//!
//! It is the truth of whatever is counted, and is recomputed from, never added to, when somebody died: an entry is
//! one word, so it is there or not. What changes it holds the leaf lock of the primitive, unless it says otherwise.
//!
//! ```text
//! entry   bits 0..32 token of a thread, 0 = nobody   32..64 note: what it has
//! ```
//!
//! An entry lies where its token's slot says, or at the next free place behind: a thread finds its own at the first
//! look.

use ipc_shm::Cells;

use crate::primitive::{AtomicU64, Ordering::*};

/// A thread and what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) token: u32,
    pub(crate) note: u32,
}

impl Entry {
    #[inline(always)]
    fn of(word: u64) -> Option<Entry> {
        let entry = Entry { token: word as u32, note: (word >> 32) as u32 };
        (entry.token != 0).then_some(entry)
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.token) | u64::from(self.note) << 32
    }
}

/// Entries of `N` threads at most, all free when zero.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Ledger<const N: usize>([AtomicU64; N]);

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: atomic integers only.
    unsafe impl<const N: usize> super::Cells for super::Ledger<N> {}
}

impl<const N: usize> Ledger<N> {
    /// The entry at `place`, if there is one.
    ///
    /// # Panics
    ///
    /// There is no such place.
    #[inline(always)]
    pub(crate) fn get(&self, place: usize) -> Option<Entry> {
        Entry::of(self.0[place].load(Relaxed))
    }

    /// Where the entry of `token` is.
    #[inline(always)]
    pub(crate) fn find(&self, token: u32) -> Option<usize> {
        self.search(token, |entry| entry.is_some_and(|entry| entry.token == token))
    }

    /// Where an entry for `token`, which has none, may be put; `None` = all places are taken.
    pub(crate) fn free_place(&self, token: u32) -> Option<usize> {
        self.search(token, |entry| entry.is_none())
    }

    #[inline(always)]
    fn search(&self, token: u32, wanted: impl Fn(Option<Entry>) -> bool) -> Option<usize> {
        let home = token as usize % N;
        (home..N).chain(0..home).find(|&place| wanted(self.get(place)))
    }

    /// Writes an entry.
    #[inline(always)]
    pub(crate) fn set(&self, place: usize, entry: Entry) {
        self.0[place].store(entry.word(), Relaxed);
    }

    /// Frees a place.
    #[inline(always)]
    pub(crate) fn clear(&self, place: usize) {
        self.0[place].store(0, Relaxed);
    }

    /// All entries and their places.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, Entry)> + '_ {
        (0..N).filter_map(|place| Some((place, self.get(place)?)))
    }

    /// Whose entries they are.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries().map(|(_, entry)| entry.token)
    }

    /// Frees the places of the dead; whether there were any.
    pub(crate) fn bury(&self, is_dead: impl Fn(u32) -> bool) -> bool {
        let dead = self.entries().filter(|(_, entry)| is_dead(entry.token));
        dead.fold(false, |_, (place, _)| {
            self.clear(place);
            true
        })
    }
}

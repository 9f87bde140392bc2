//! Who has how much of something: a table of tokens with a note for each.
//!
//! It is the truth of whatever is counted, and is recomputed from, never added to, when somebody died: an entry is
//! one word, so it is there or not. What changes it holds the leaf lock of the primitive, unless it says otherwise.
//! Whoever sees an entry change sees what its writer did before.
//!
//! ```text
//! 0  8 used   bit i: place i may have an entry. Set before the entry is, cleared when it is seen to be gone
//! 8 8N entry  bits 0..32 token of a thread, 0 = nobody   32..64 note: what it has
//! ```
//!
//! An entry lies where its token's slot says, or at any free place: a thread finds its own at the first look.

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

/// Entries of `N` threads, 64 at most; all free when zero.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ledger<const N: usize> {
    used: AtomicU64,
    entries: [AtomicU64; N],
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl<const N: usize> super::Cells for super::Ledger<N> {}
}

impl<const N: usize> Default for Ledger<N> {
    fn default() -> Self {
        Ledger { used: AtomicU64::new(0), entries: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> Ledger<N> {
    /// The entry at `place`, if there is one.
    ///
    /// # Panics
    ///
    /// There is no such place.
    #[inline(always)]
    pub(crate) fn get(&self, place: usize) -> Option<Entry> {
        Entry::of(self.entries[place].load(Acquire))
    }

    /// Where the entry of `token` is looked for first.
    #[inline(always)]
    pub(crate) fn home(token: u32) -> usize {
        const { assert!(N <= 64, "one bit each") };
        token as usize % N
    }

    /// Where the entry of `token` is.
    #[inline(always)]
    pub(crate) fn find(&self, token: u32) -> Option<usize> {
        let home = Self::home(token);
        if self.get(home).is_some_and(|entry| entry.token == token) {
            return Some(home);
        }
        self.entries().find_map(|(place, entry)| (entry.token == token).then_some(place))
    }

    /// Where an entry for `token`, which has none, may be put; `None` = all places are taken.
    pub(crate) fn free_place(&self, token: u32) -> Option<usize> {
        let home = Self::home(token);
        (home..N).chain(0..home).find(|&place| self.get(place).is_none())
    }

    /// Writes an entry.
    #[inline(always)]
    pub(crate) fn set(&self, place: usize, entry: Entry) {
        let used = self.used.load(Relaxed);
        if used & 1 << place == 0 {
            self.used.store(used | 1 << place, Relaxed);
        }
        self.entries[place].store(entry.word(), Release);
    }

    /// Frees a place.
    #[inline(always)]
    pub(crate) fn clear(&self, place: usize) {
        self.entries[place].store(0, Release);
    }

    /// All entries and their places.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, Entry)> + '_ {
        self.places().filter_map(|place| Some((place, self.get(place)?)))
    }

    fn places(&self) -> impl Iterator<Item = usize> + use<N> {
        let mut used = self.used.load(Relaxed);
        std::iter::from_fn(move || {
            let place = used.trailing_zeros() as usize;
            used &= used.wrapping_sub(1);
            (place < N).then_some(place)
        })
    }

    /// Whose entries they are.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries().map(|(_, entry)| entry.token)
    }

    /// Frees the places of the dead. Nobody puts an entry into a free place meanwhile.
    pub(crate) fn bury(&self, mut is_dead: impl FnMut(u32) -> bool) {
        let mut used = 0;
        for place in self.places() {
            match self.get(place) {
                None => {}
                Some(entry) if is_dead(entry.token) => self.clear(place),
                Some(_) => used |= 1 << place,
            }
        }
        self.used.store(used, Relaxed);
    }
}

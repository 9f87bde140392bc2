//! Items that were lent and not acknowledged: a table of who has which, and their bytes.
//!
//! ```text
//! offset  size  word
//!      0     4  places   bell of those who found no place, see `ipc_sync::Bell`
//!      4     4  padding
//!      8  2048  entries  64 of {holder u64, position u64, length u32, 12 unused}
//!
//! behind the ring, for each entry, as many bytes as the longest item has
//!
//! holder  bits 0..30 token of a thread   30 RETURNED   31 FREE   32..64 how often the item was lent
//!
//! 0                      free, and never used
//! token | FREE           free; the token of the last holder stays, for those who watch it
//! token, alive           lent
//! token, dead            comes back, if `head` is beyond the position; else it was never lent, and is free
//! token | RETURNED       given back: comes back
//! anything else          damaged: nobody's, and never free
//! ```
//!
//! Items are lent under the takers' lock: the bytes are copied out of the ring, then the entry is written, the holder
//! last, and then `head` moves on, which is the commit. A death before that leaves the item in the ring, and an
//! entry whose position `head` has not passed; the next owner of the lock is told of the death and frees it. A death
//! behind it leaves an entry of somebody dead. Who has an item gives it up by one compare-and-swap, without the lock.
//!
//! Who waits sleeps on the live words of all whose token is in the table, so the kernel tells of their death. A
//! token that is new there is told to a sleeper, so that somebody watches it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use ipc_shm::View;
use ipc_sync::{Bell, Me, Registry};

use crate::channel::{Channel, Fault};
use crate::primitive::{Acquired, Bytes, HEADER, Header, complete_barrier};

/// Items that can be lent at one time.
pub(crate) const PLACES: usize = 64;

const TOKEN: u64 = (1 << 30) - 1;
const RETURNED: u64 = 1 << 30;
const FREE: u64 = 1 << 31;
/// One time lent.
const ONCE: u64 = 1 << 32;

/// What all processes share.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Words {
    places: Bell,
    unused: AtomicU32,
    entries: [Entry; PLACES],
}

/// An item that was lent.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    holder: AtomicU64,
    position: AtomicU64,
    length: AtomicU32,
    unused: [AtomicU32; 3],
}

/// One process's view of the table.
#[derive(Debug)]
pub(crate) struct Leases {
    words: View<Words>,
    bytes: Bytes,
    /// Bytes of one item.
    slot: u64,
}

/// What was lent to this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lent {
    place: usize,
    holder: u64,
    /// The processor of its writer; `u32::MAX` = it has been somewhere else since.
    pub(crate) producer: u32,
    /// Nobody may watch this thread yet.
    pub(crate) is_news: bool,
}

impl Lent {
    /// How often it was lent before.
    pub(crate) fn redelivered(&self) -> u32 {
        ((self.holder >> 32) as u32).saturating_sub(1)
    }
}

/// Bytes that are kept for each place, given those of the longest item.
pub(crate) fn slot(longest: usize) -> usize {
    longest.next_power_of_two()
}

impl Leases {
    pub(crate) fn new(words: View<Words>, bytes: Bytes) -> Leases {
        let slot = bytes.capacity() / PLACES as u64;
        Leases { words, bytes, slot }
    }

    /// Under the takers' lock: lends the oldest item to this thread and copies it into `buffer`; `None` = there is
    /// none, or no place in the table.
    pub(crate) fn lend(
        &self,
        me: &Me,
        channel: &Channel,
        acquired: Acquired,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Lent>, Fault> {
        let head = channel.head();
        if acquired == Acquired::OwnerDied {
            self.free_unborn(head);
        }
        let is_news = self.entries().all(|(_, holder)| holder & TOKEN != u64::from(me.token()));
        match self.oldest(me.registry(), head) {
            Some((place, holder)) => self.lend_again(me, place, holder, buffer)?,
            None => self.lend_first(me, channel, head, buffer)?,
        }
        .map_or(Ok(None), |lent| Ok(Some(Lent { is_news, ..lent })))
    }

    /// The dead owner of the lock had written an entry, and not moved `head`: its item is in the ring.
    #[cold]
    fn free_unborn(&self, head: u64) {
        for (entry, holder) in self.entries() {
            if is_lent(holder) && entry.position.load(Relaxed) >= head {
                entry.holder.store(holder | FREE, SeqCst);
            }
        }
    }

    /// The one that was put first of those that come back.
    fn oldest(&self, registry: &Registry, head: u64) -> Option<(usize, u64)> {
        let back = |entry: &Entry, holder| {
            let position = entry.position.load(Acquire);
            let comes = position < head && comes_back(registry, holder);
            comes.then_some(position)
        };
        let places = self.entries().enumerate();
        let found = places.filter_map(|(place, (entry, holder))| Some((back(entry, holder)?, place, holder)));
        found.min().map(|(_, place, holder)| (place, holder))
    }

    /// Nobody else changes the entry: its holder is dead, or has given it up, and we have the lock.
    #[cold]
    fn lend_again(
        &self,
        me: &Me,
        place: usize,
        holder: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Lent>, Fault> {
        let entry = &self.words.entries[place];
        let length = entry.length.load(Relaxed) as usize;
        if length as u64 > self.slot {
            return Err(Fault::Corrupt);
        }
        buffer.clear();
        self.bytes.read(self.at(place), length, buffer);
        let times = (holder & !(ONCE - 1)).saturating_add(ONCE) & !(ONCE - 1);
        let lent = Lent { place, holder: times | u64::from(me.token()), producer: u32::MAX, is_news: false };
        match entry.holder.compare_exchange(holder, lent.holder, SeqCst, Relaxed) {
            Ok(_) => Ok(Some(lent)),
            Err(_) => Err(Fault::Corrupt),
        }
    }

    fn lend_first(
        &self,
        me: &Me,
        channel: &Channel,
        head: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Lent>, Fault> {
        let Some(header) = Header::published(channel.ring.header(head).load(Acquire)) else {
            return Ok(None);
        };
        let Some(place) = self.place_for(me.token()) else { return Ok(None) };
        let length = header.length();
        if !channel.is_sane(head, header) || length as u64 > self.slot {
            return Err(Fault::Corrupt);
        }
        buffer.clear();
        channel.ring.read(head.wrapping_add(HEADER), length, buffer);
        let lent = Lent {
            place,
            holder: ONCE | u64::from(me.token()),
            producer: header.processor(),
            is_news: false,
        };
        self.write(lent, head, buffer);
        match channel.claim_exclusively(head, head.wrapping_add(header.span())) {
            true => Ok(Some(lent)),
            false => {
                self.release(lent, FREE);
                Err(Fault::Corrupt)
            }
        }
    }

    /// The holder comes last: before it the place is free.
    fn write(&self, lent: Lent, position: u64, item: &[u8]) {
        let entry = &self.words.entries[lent.place];
        self.bytes.write(self.at(lent.place), item);
        entry.position.store(position, Relaxed);
        entry.length.store(item.len() as u32, Relaxed);
        entry.holder.store(lent.holder, SeqCst);
    }

    /// A free place: that with our token if there is one.
    fn place_for(&self, token: u32) -> Option<usize> {
        let ours = |holder: u64| holder & TOKEN == u64::from(token);
        let free = || self.entries().enumerate().filter(|(_, (_, holder))| is_free(*holder));
        let home = free().find(|(_, (_, holder))| ours(*holder)).or_else(|| free().next());
        home.map(|(place, _)| place)
    }

    fn at(&self, place: usize) -> u64 {
        place as u64 * self.slot
    }

    /// Gives up what was lent: with `FREE` it is done, with `RETURNED` it comes back. False: it is not ours.
    fn release(&self, lent: Lent, mark: u64) -> bool {
        let entry = &self.words.entries[lent.place];
        let released =
            entry.holder.compare_exchange(lent.holder, lent.holder | mark, SeqCst, Relaxed).is_ok();
        complete_barrier();
        if self.words.places.is_hung() {
            self.words.places.ring_all();
        }
        released
    }

    /// It is done, and its place is free. False: it is not ours.
    pub(crate) fn ack(&self, lent: Lent) -> bool {
        self.release(lent, FREE)
    }

    /// It comes back. False: it is not ours.
    pub(crate) fn nack(&self, lent: Lent) -> bool {
        self.release(lent, RETURNED)
    }

    /// Whether there may be something to lend.
    pub(crate) fn may_lend(&self, registry: &Registry, channel: &Channel) -> bool {
        channel.has_item() && !self.is_full() || self.returned(registry, channel.head()) > 0
    }

    /// Whether no more can be lent before something is given up.
    pub(crate) fn is_full(&self) -> bool {
        !self.entries().any(|(_, holder)| is_free(holder))
    }

    /// Items that come back.
    pub(crate) fn returned(&self, registry: &Registry, head: u64) -> u32 {
        let back =
            |entry: &Entry, holder| entry.position.load(Acquire) < head && comes_back(registry, holder);
        self.entries().filter(|(entry, holder)| back(entry, *holder)).count() as u32
    }

    /// Whether nothing that this thread does not have can come back.
    pub(crate) fn others_have_none(&self, me: &Me) -> bool {
        let ours = |holder| is_lent(holder) && holder & TOKEN == u64::from(me.token());
        self.entries().all(|(_, holder)| is_free(holder) || ours(holder))
    }

    /// Whose end would be news.
    pub(crate) fn watched(&self, registry: &Registry) -> Vec<u32> {
        let tokens = self.entries().map(|(_, holder)| (holder & TOKEN) as u32);
        let mut living: Vec<_> = tokens.filter(|&token| token != 0 && !registry.is_dead(token)).collect();
        living.sort_unstable();
        living.dedup();
        living
    }

    /// Asks /proc about all who have something, for threads whose end the kernel did not mark.
    #[cold]
    pub(crate) fn ask(&self, registry: &Registry) {
        let holders = self.entries().filter(|(_, holder)| is_lent(*holder));
        holders.for_each(|(_, holder)| _ = registry.has_ended((holder & TOKEN) as u32));
    }

    /// The bell of those who find the table full.
    pub(crate) fn places(&self) -> &Bell {
        &self.words.places
    }

    fn entries(&self) -> impl Iterator<Item = (&Entry, u64)> + '_ {
        self.words.entries.iter().map(|entry| (entry, entry.holder.load(SeqCst)))
    }
}

fn is_free(holder: u64) -> bool {
    holder & FREE != 0 || holder as u32 == 0
}

fn is_lent(holder: u64) -> bool {
    !is_free(holder) && holder & RETURNED == 0
}

/// Given that the item was ever lent.
fn comes_back(registry: &Registry, holder: u64) -> bool {
    !is_free(holder) && (holder & RETURNED != 0 || registry.is_dead((holder & TOKEN) as u32))
}

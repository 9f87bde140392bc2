//! Items that were taken and are not done yet: one count for each process that takes some.
//!
//! ```text
//! offset  size  word
//!      0   512  entries   64 words
//!    512     4  bell      of those who wait until nothing is left, see `ipc_sync::Bell`
//!    516     4  abandoned what the dead had in entries that were used again; for whoever asks, nothing rests on it
//!
//! entry  bits 0..32 token of a thread   32..64 items that its process has taken and not done
//!
//! 0                    free
//! {living process, 0}  free for the taking, if there is no better
//! {living process, n}  counts
//! {dead process, n}    counts nothing, and is free for the taking
//! ```
//!
//! An entry belongs to a process. Its token is that of one thread; when that one has ended, its process is asked
//! about, and the next thread that takes an item puts its own there. One compare-and-swap is each change.
//!
//! A getter counts before it claims, and takes that back if it got nothing. So what has left the ring is counted
//! here already, and who looks at the ring first and here second misses nothing. There is no sum to be repaired
//! after a death.
//!
//! Who waits sleeps on the bell and on the live words of all who have an entry: of a consumer's death the kernel
//! tells. Whoever makes an entry rings before it counts anything, so that it is watched.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use ipc_shm::{PerProcess, View};
use ipc_sync::{Bell, Deadline, Me, Registry, Woken};
use parking_lot::Mutex;

use crate::primitive::{ENTRIES, complete_barrier};

/// So many items, in an entry.
fn of(items: u32) -> u64 {
    u64::from(items) << 32
}

/// What all processes share.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Words {
    entries: [AtomicU64; ENTRIES],
    bell: Bell,
    abandoned: AtomicU32,
}

/// One process's view of it.
#[derive(Debug)]
pub(crate) struct Tasks {
    words: View<Words>,
    here: PerProcess<Mutex<Option<Mine>>>,
}

/// The entry of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mine {
    place: usize,
    token: u32,
}

/// Who must finish something, and how much.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    pub(crate) items: usize,
    /// Threads whose end may change it.
    pub(crate) tokens: Vec<u32>,
}

impl Tasks {
    pub(crate) fn new(words: View<Words>) -> Tasks {
        Tasks { words, here: PerProcess::new() }
    }

    /// Counts so many items more of this process. False: all places belong to living processes that have something to
    /// do.
    pub(crate) fn count(&self, me: &Me, items: u32) -> bool {
        let mut mine = self.here.get().lock();
        if mine.is_some_and(|mine| self.raise(mine, me, items)) {
            return true;
        }
        *mine = self.enter(me);
        mine.is_some_and(|mine| self.raise(mine, me, items))
    }

    /// Counts them down again: they were not taken, or are done. Answers how many are left; `None` = so many are not
    /// counted.
    pub(crate) fn uncount(&self, me: &Me, items: u32) -> Option<u32> {
        let mut mine = self.here.get().lock();
        *mine = mine.or_else(|| self.find(me.registry()));
        let before = self.change((*mine)?, |word| word.checked_sub(of(items)))?;
        Some((before >> 32) as u32 - items)
    }

    /// Whether [`count`](Tasks::count) would find a place.
    pub(crate) fn has_place(&self, me: &Me) -> bool {
        let registry = me.registry();
        let has_one = self.here.get().lock().is_some();
        has_one || self.entries().any(|(_, token, items)| items == 0 || is_gone(registry, token))
    }

    /// In the entry of this process, if it is that still and names a living thread.
    fn raise(&self, mine: Mine, me: &Me, items: u32) -> bool {
        let lives = mine.token == me.token() || !me.registry().is_dead(mine.token);
        lives && self.change(mine, |word| word.checked_add(of(items))).is_some()
    }

    /// Wakes all who wait until nothing is left. If we die of it the kernel wakes one, and that one the others.
    pub(crate) fn tell(&self, me: &Me) {
        let bell = &self.words.bell;
        complete_barrier();
        if bell.is_hung() {
            me.name(bell.word());
            bell.ring_all();
            me.arm();
        }
    }

    /// Changes the word of an entry as long as it is ours. Answers what it was.
    fn change(&self, mine: Mine, mut new: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        let ours = |word: u64| (word as u32 == mine.token).then_some(word);
        self.words.entries[mine.place].fetch_update(SeqCst, SeqCst, |word| new(ours(word)?)).ok()
    }

    /// Makes an entry, or puts a living token into the one that there is.
    #[cold]
    fn enter(&self, me: &Me) -> Option<Mine> {
        let registry = me.registry();
        let free = |(_, token, _): &(usize, u32, u32)| is_gone(registry, *token);
        let idle = |(_, _, items): &(usize, u32, u32)| *items == 0;
        let mut places = self.entries().filter(free).chain(self.entries().filter(idle));
        let renewed = self.find(registry).and_then(|old| self.renew(old, me.token()));
        let mine = renewed.or_else(|| places.find_map(|seen| self.occupy(seen, me.token())));
        self.tell(me); // so that it watches us
        mine
    }

    fn renew(&self, old: Mine, token: u32) -> Option<Mine> {
        self.change(old, |word| Some(word ^ u64::from(old.token ^ token)))?;
        Some(Mine { token, ..old })
    }

    /// Takes a place from whoever has it no more, or does not need it.
    fn occupy(&self, (place, owner, items): (usize, u32, u32), token: u32) -> Option<Mine> {
        let seen = of(items) | u64::from(owner);
        self.words.entries[place].compare_exchange(seen, token.into(), SeqCst, Relaxed).ok()?;
        self.words.abandoned.fetch_add(items, Relaxed);
        Some(Mine { place, token })
    }

    /// The entry of this process, by whatever thread, and for whatever handle of the queue.
    #[cold]
    fn find(&self, registry: &Registry) -> Option<Mine> {
        let mine = |(place, token, _)| is_ours(registry, token).then_some(Mine { place, token });
        self.entries().find_map(mine)
    }

    /// Places, tokens and counts.
    fn entries(&self) -> impl Iterator<Item = (usize, u32, u32)> + '_ {
        self.words.entries.iter().enumerate().map(|(place, entry)| {
            let word = entry.load(SeqCst);
            (place, word as u32, (word >> 32) as u32)
        })
    }

    /// What living processes have not done. With `ask`, /proc is asked about each of them, for threads whose end the
    /// kernel did not mark.
    pub(crate) fn unfinished(&self, registry: &Registry, ask: bool) -> Unfinished {
        let mut sum = Unfinished::default();
        for (_, token, items) in self.entries().filter(|(_, token, _)| *token != 0) {
            let ended = if ask { registry.has_ended(token) } else { registry.is_dead(token) };
            if ended && is_gone(registry, token) || registry.pid_of(token).is_none() {
                continue;
            }
            if !ended {
                sum.tokens.push(token);
            }
            sum.items = sum.items.saturating_add(items as usize);
        }
        sum
    }

    /// What processes had not done when they died.
    pub(crate) fn abandoned(&self, registry: &Registry) -> usize {
        let gone = self.entries().filter(|(_, token, _)| is_gone(registry, *token));
        let now: usize = gone.map(|(_, _, items)| items as usize).sum();
        now.saturating_add(self.words.abandoned.load(Relaxed) as usize)
    }

    /// Sleeps until it is told that nothing may be left, one of the threads to `watch` ends, or `until` comes. `watch` looks once
    /// more; `None` = there is no need to sleep.
    pub(crate) fn sleep(
        &self,
        registry: &Registry,
        watch: impl FnOnce() -> Option<Vec<u32>>,
        until: Deadline,
    ) -> Woken {
        registry.sleep_at(&self.words.bell, watch, until)
    }
}

/// Whether the process of this thread has ended; what is no token is nobody's.
fn is_gone(registry: &Registry, token: u32) -> bool {
    token == 0
        || registry.pid_of(token).is_none()
        || registry.is_dead(token) && registry.process_ended_too(token)
}

fn is_ours(registry: &Registry, token: u32) -> bool {
    registry.is_of_this_process(token) && !is_gone(registry, token)
}

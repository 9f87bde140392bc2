//! Where a pipe keeps payloads that travel as a whole: blocks behind the rings, handed over by name instead of copied.
//!
//! ```text
//! one store, for each direction, behind the mapped front of the pipe's file
//!      0  16 KiB  table: an entry for each block
//!  16384  64 MiB  blocks of 64 KiB, backed as they are used
//!
//! entry, of the first block of an extent; those of its other blocks are zero
//! off size
//!   0   8  word    bits 0..16 number of blocks, 16 HELD, 17 SENT, 32..64 token of who holds or sent it
//!   8   8  frame   bit 63 direction, the rest position of the frame that names it; all ones = none does
//!
//! word
//! 0              free, if no extent before covers it      → HELD by the writer of this direction, who alone allots
//! HELD, token    somebody fills or reads it, or cools it     → SENT, by the same; 0 when it lets go
//! SENT, token    a frame names it, or is about to         → HELD by whoever takes the frame, before the frame goes
//! ```
//!
//! The file belongs to the pipe, so whoever has an end has the store too: nothing is sent ahead, and an end that moves, or
//! a reader that takes over, finds unread payloads where they are. The store is mapped at its first use.
//!
//! The first blocks keep their memory when they are let go of, so that a stream of payloads finds it warm; a reader that has
//! waited for a while gives it back. It claims the first block for all of them, and the writer any other: each looks for the
//! other's claim behind a full barrier, and gives way.
//!
//! Who dies holding an extent holds it no more: its writer, when it finds no room, takes back what dead processes hold, if
//! no frame that names it is unread. A holder whose thread has ended but whose process has not is left alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use ipc_shm::{Mapping, OutOfBounds, Segment, View};
use ipc_sync::{Registry, forks, full_fence};

use crate::ring::Words;
use crate::segment;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64 << 10;
/// Blocks of a store.
pub(crate) const BLOCKS: usize = 1024;
/// Longest payload.
pub(crate) const LARGEST: usize = BLOCK * BLOCKS;
/// Bytes of the table.
const TABLE: usize = BLOCKS * size_of::<Entry>();
/// Bytes of a store.
pub(crate) const STORE: usize = TABLE + LARGEST;

/// Blocks whose memory is kept when they are let go of; that of later ones goes back to the kernel.
pub(crate) const WARM: usize = 64;

const COUNT: u64 = 0xffff;
const HELD: u64 = 1 << 16;
const SENT: u64 = 1 << 17;

/// No frame names it.
const NONE: u64 = u64::MAX;

/// What the table says of one block.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Entry {
    word: AtomicU64,
    frame: AtomicU64,
}

pub(crate) type Table = [Entry; BLOCKS];

/// The store of one direction, as this process sees it.
#[derive(Debug)]
pub(crate) struct Store {
    mapping: Arc<Mapping>,
    table: View<Table>,
    /// Of both directions: a payload may go back the other way.
    words: [View<Words>; 2],
    pipe: Arc<Mapping>,
    direction: u32,
}

/// Where a frame lies, as the table notes it.
pub(crate) fn frame(direction: u32, position: u64) -> u64 {
    u64::from(direction & 1) << 63 | position
}

fn holder(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Store {
    /// The store of `direction`.
    pub(crate) fn open(segment: &Segment, direction: u32) -> io::Result<Arc<Store>> {
        let mapping = segment::back(segment, direction)?;
        let table = mapping.view(0).expect("a store has a table");
        let words = [segment::words(segment, 0), segment::words(segment, 1)];
        Ok(Arc::new(Store { mapping, table, words, pipe: segment.mapping().clone(), direction }))
    }

    pub(crate) fn is_of(&self, segment: &Segment) -> bool {
        Arc::ptr_eq(&self.pipe, segment.mapping())
    }

    /// Blocks for `length` bytes among the first `blocks`, held by `token`. Only for the writer of this direction. `None` =
    /// no room.
    pub(crate) fn allot(self: &Arc<Self>, length: usize, blocks: usize, token: u32) -> Option<Extent> {
        let need = length.div_ceil(BLOCK).max(1);
        let (mut at, mut free) = (0, 0);
        while at < blocks && free < need {
            match self.table[at].word.load(Acquire) {
                0 => (at, free) = (at + 1, free + 1),
                word => (at, free) = (at + extent_of(word), 0),
            }
        }
        let first = at - free;
        if free < need || first + need > blocks {
            return None;
        }
        let extent = self.claim(first, need, length, token)?;
        self.table[first].frame.store(NONE, Relaxed);
        full_fence();
        // A reader may have claimed all that is warm meanwhile: one of us sees the other.
        let claimed = if first == 0 { 0 } else { extent_of(self.table[0].word.load(Acquire)) };
        (claimed <= first).then_some(extent)
    }

    /// Makes free blocks an extent.
    fn claim(self: &Arc<Self>, first: usize, need: usize, length: usize, token: u32) -> Option<Extent> {
        let word = HELD | need as u64 | u64::from(token) << 32;
        self.table[first].word.compare_exchange(0, word, AcqRel, Relaxed).ok()?;
        Some(Extent { store: self.clone(), first, length, word, forks: forks() })
    }

    /// Gives the memory that is kept back to the kernel, if nothing of it is in use. For the reader of this direction, which
    /// does it when it has waited for long.
    pub(crate) fn cool(self: &Arc<Self>, token: u32) -> bool {
        let Some(_all) = self.claim(0, WARM, 0, token) else { return false };
        full_fence();
        let is_free = |entry: &Entry| entry.word.load(Acquire) == 0;
        let free = self.table[1..WARM].iter().all(is_free);
        if free {
            self.release(0, WARM);
        }
        free
    }

    /// Takes back what dead processes hold, or were about to send. Only for the writer of this direction, which has published
    /// everything before `end`.
    #[cold]
    pub(crate) fn reclaim(&self, end: u64) {
        let Ok(registry) = Registry::get() else { return };
        let mut at = 0;
        while let Some(entry) = self.table.get(at) {
            let word = entry.word.load(Acquire);
            let unread = self.is_unread(entry.frame.load(Acquire), end);
            let left = word & SENT != 0 || is_of_the_dead(registry, holder(word));
            if word != 0 && !unread && left {
                let _ = entry.word.compare_exchange(word, 0, AcqRel, Relaxed);
            }
            at += extent_of(word);
        }
    }

    /// Whether a frame is still to be taken. One in the other direction may be about to be published.
    fn is_unread(&self, frame: u64, end: u64) -> bool {
        let (direction, position) = ((frame >> 63) as u32, frame & !(1 << 63));
        let is_there = direction != self.direction || position < end;
        frame != NONE && is_there && self.words[direction as usize].taken() <= position
    }

    /// Takes the extent that `frame` names, for `token`. `None` = the frame lies.
    pub(crate) fn take(
        self: &Arc<Self>,
        first: usize,
        length: usize,
        frame: u64,
        token: u32,
    ) -> Option<Extent> {
        let entry = self.table.get(first)?;
        let seen = entry.word.load(Acquire);
        let blocks = (seen & COUNT) as usize;
        let fits = length.div_ceil(BLOCK).max(1) <= blocks && first + blocks <= BLOCKS;
        if !fits || entry.frame.load(Acquire) != frame {
            return None;
        }
        let word = HELD | blocks as u64 | u64::from(token) << 32;
        entry.word.compare_exchange(seen, word, AcqRel, Relaxed).ok()?;
        Some(Extent { store: self.clone(), first, length, word, forks: forks() })
    }
}

/// Blocks that an entry speaks for, whatever it says.
fn extent_of(word: u64) -> usize {
    ((word & COUNT) as usize).clamp(1, BLOCKS)
}

/// Whether the process that a token stands for is known to have ended.
fn is_of_the_dead(registry: &Registry, token: u32) -> bool {
    registry.pid_of(token).is_some() && registry.has_ended(token) && registry.process_ended_too(token)
}

/// Blocks in a row that this process holds; given back on drop.
#[derive(Debug)]
pub(crate) struct Extent {
    store: Arc<Store>,
    first: usize,
    length: usize,
    word: u64,
    /// A forked child's copy holds nothing.
    forks: u32,
}

impl Extent {
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Makes it shorter; its blocks stay its own.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What a frame says to name it.
    pub(crate) fn name(&self) -> u64 {
        u64::from(self.store.direction) << 32 | self.first as u64
    }

    fn at(&self, offset: usize, length: usize) -> Result<usize, OutOfBounds> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        let outside = OutOfBounds { offset, length, size: self.length };
        if fits { Ok(self.start() + offset) } else { Err(outside) }
    }

    fn start(&self) -> usize {
        TABLE + self.first * BLOCK
    }

    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        self.store.mapping.read(self.at(offset, bytes.len())?, bytes)
    }

    /// A copy of all of it.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        let read = self.read(0, &mut bytes);
        debug_assert!(read.is_ok());
        bytes
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.store.mapping.write(self.at(offset, bytes.len())?, bytes)
    }

    /// Copies as much of `other` as there is room for.
    pub(crate) fn copy_from(&mut self, other: &Extent) {
        let mut buffer = vec![0; BLOCK];
        let length = self.length.min(other.length);
        for offset in (0..length).step_by(BLOCK) {
            let piece = &mut buffer[..BLOCK.min(length - offset)];
            let copied = other.read(offset, piece).and_then(|()| self.write(offset, piece));
            debug_assert!(copied.is_ok());
        }
    }

    /// The first byte; `length` bytes are there as long as `self` lives.
    pub(crate) fn base(&self) -> *mut u8 {
        self.store.mapping.base().wrapping_add(self.start())
    }

    /// Passes it on to whoever takes the frame, which must be published next. False = somebody wrote over the table.
    pub(crate) fn pass(&mut self, frame: u64, token: u32) -> bool {
        if self.word == 0 {
            return false;
        }
        let entry = &self.store.table[self.first];
        let sent = self.word & COUNT | SENT | u64::from(token) << 32;
        entry.frame.store(frame, Release);
        let passed = entry.word.compare_exchange(self.word, sent, AcqRel, Relaxed).is_ok();
        self.word = 0;
        passed
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        if self.word == 0 || self.forks != forks() {
            return;
        }
        let blocks = (self.word & COUNT) as usize;
        let cold = (self.first + blocks).saturating_sub(WARM).min(blocks);
        if cold > 0 {
            self.store.release(self.first + blocks - cold, cold);
        }
        let entry = &self.store.table[self.first];
        let _ = entry.word.compare_exchange(self.word, 0, AcqRel, Relaxed);
        full_fence();
        let room = &self.store.words[self.store.direction as usize].reader.room;
        room.passed(u64::MAX, room.processor());
    }
}

impl Store {
    #[cold]
    fn release(&self, first: usize, blocks: usize) {
        let base = segment::back_offset(self.direction) + TABLE;
        self.mapping.release(base + first * BLOCK, blocks * BLOCK);
    }
}

mod cells {
    //! Promises about the table.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl ipc_shm::Cells for super::Entry {}
}

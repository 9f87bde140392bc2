//! A thread's slot in the registry, and the tokens that name it.
//!
//! ```text
//!  0  4  live       state of the slot, see below
//!  4  4  pid
//!  8  8  stamp      generation | check << 32; stored after the rest of the slot
//! 16  8  start      when the thread started, clock ticks since boot
//! 24  4  tid        | UNMARKED: the kernel will not mark this slot
//! 28  4  namespace  in which pid, tid and start were read, see `process`
//!
//! live word               bits 0..30 TID   30 OWNER_DIED   31 WAITERS
//! 0                       never used
//! TID                     held; the fields are being written, or are right: then the stamp fits them
//! TID | WAITERS           held; somebody sleeps on this word and must be woken when it changes
//! OWNER_DIED (| WAITERS)  the thread has ended; the slot is free
//! anything else           damaged: nobody concludes anything from it
//!
//! token    bits 0..14 slot   14..29 generation   29 always set, so that a token is never a TID
//! ```

use ipc_shm::Cells;

use crate::futex;
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*};
use crate::process::Identity;

/// TIDs end at 2^22.
const OWNED: u32 = 1 << 29;
const SLOT_BITS: u32 = 14;
const GENERATION_BITS: u32 = 15;

/// Slots of a registry.
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;

/// All bits that a token may have.
pub(crate) const TOKEN: u32 = OWNED | (OWNED - 1);

const DIED: u32 = 1 << 30;
pub(crate) const WAITERS: u32 = 1 << 31;

/// In `tid`: no robust list, the kernel will not mark this slot.
const UNMARKED: u32 = 1 << 31;

#[repr(C)]
pub(crate) struct Slot {
    pub(crate) live: AtomicU32,
    pid: AtomicU32,
    stamp: AtomicU64,
    start: AtomicU64,
    tid: AtomicU32,
    namespace: AtomicU32,
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::Slot {}
}

/// What a look at the owner of a token found.
pub(crate) enum Owner<'a> {
    /// It lives; `live` holds `seen`, and changes when it ends.
    Alive { live: &'a AtomicU32, seen: u32 },
    /// It lived when last asked, and nobody will mark its end: ask again, do not sleep long.
    Unmarked,
    /// It ended.
    Dead,
    /// The slot is being written, or was written over: wait a little, and give up if it stays so.
    Unclear,
}

impl Slot {
    /// Whether a thread may take the slot, given what `live` holds.
    pub(crate) fn is_free(live: u32) -> bool {
        live == 0 || live & !WAITERS == DIED
    }

    /// Fills the slot, whose live word holds our TID already; the token of its new owner. The stamp comes last; then the
    /// live word drops the WAITERS bit of those who still wait for the former owner, so that none of them falls
    /// asleep on it, and they are woken.
    pub(crate) fn claim(&self, index: usize, identity: Identity, marked: bool) -> u32 {
        self.pid.store(identity.pid, Relaxed);
        self.start.store(identity.start, Relaxed);
        self.tid.store(identity.tid | if marked { 0 } else { UNMARKED }, Relaxed);
        self.namespace.store(identity.namespace, Relaxed);
        let generation = (self.stamp.load(Relaxed) as u32).wrapping_add(1);
        self.stamp.store(make_stamp(generation, identity), SeqCst);
        self.live.swap(identity.tid, SeqCst);
        futex::wake_all(&self.live);
        token(index, generation)
    }

    /// The token of whoever has the slot, or had it last.
    pub(crate) fn token(&self, index: usize) -> u32 {
        token(index, self.stamp.load(SeqCst) as u32)
    }

    /// What the slot says of the owner of `token`. The live word is read before the stamp: whoever claims a slot
    /// writes them in the other order.
    pub(crate) fn look(&self, token: u32) -> Owner<'_> {
        let seen = self.live.load(SeqCst);
        let tid = self.tid.load(Relaxed);
        let Some(same) = self.is_of(token) else { return Owner::Unclear };
        match seen & !WAITERS {
            _ if !same => Owner::Dead, // the slot was used again
            DIED => Owner::Dead,
            live if live != tid & !UNMARKED => Owner::Unclear,
            _ if tid & UNMARKED != 0 => Owner::Unmarked,
            _ => Owner::Alive { live: &self.live, seen },
        }
    }

    /// Who has the slot, if that is still the owner of `token`.
    pub(crate) fn identity_of(&self, token: u32) -> Option<Identity> {
        (self.is_of(token) == Some(true)).then(|| self.identity())
    }

    /// Does what the kernel failed to do: marks the slot, if its live word still holds `seen`.
    pub(crate) fn mark(&self, seen: u32) {
        if seen & DIED == 0 {
            let _ = self.live.compare_exchange(seen, DIED | seen & WAITERS, SeqCst, Relaxed);
            futex::wake_all(&self.live);
        }
    }

    /// Whether the slot is that of `token`; `None` = its stamp does not fit it: it is being written or was damaged.
    fn is_of(&self, wanted: u32) -> Option<bool> {
        let stamp = self.stamp.load(SeqCst);
        let fits = stamp == make_stamp(stamp as u32, self.identity());
        fits.then(|| token(index_of(wanted), stamp as u32) == wanted)
    }

    fn identity(&self) -> Identity {
        Identity {
            namespace: self.namespace.load(Relaxed),
            pid: self.pid.load(Relaxed),
            tid: self.tid.load(Relaxed) & !UNMARKED,
            start: self.start.load(Relaxed),
        }
    }
}

/// Generation and, above it, a sum over it and the identity: a slot that was written over does not fit its stamp.
fn make_stamp(generation: u32, identity: Identity) -> u64 {
    let Identity { namespace, pid, tid, start } = identity;
    let mixed = [u64::from(generation), u64::from(namespace), u64::from(pid), u64::from(tid), start]
        .into_iter()
        .fold(0x9e37_79b9_7f4a_7c15u64, |sum, field| {
            (sum ^ field).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29)
        });
    u64::from(generation) | mixed >> 32 << 32
}

fn token(index: usize, generation: u32) -> u32 {
    OWNED | (generation & ((1 << GENERATION_BITS) - 1)) << SLOT_BITS | index as u32
}

/// Which slot a token names, if it is one at all.
pub(crate) fn index_of(token: u32) -> usize {
    token as usize % SLOTS
}

/// Whether a word could be a token.
pub(crate) fn is_token(word: u32) -> bool {
    word & OWNED != 0 && word & !TOKEN == 0
}

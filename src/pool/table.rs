//! The words that a pool shares with its workers. There is no lock among them: nothing that a dying worker does holds up
//! anybody.
//!
//! ```text
//! body of the segment
//!    0     4  results    messages that all workers have sent, wrapping
//!    4     4  front bell of the thread that waits for a result
//!    8     4  back bell  of the pool's own thread
//!   12     4  processor  that the last message came from: a hint
//!   16   112  zero
//!  128  1152  lane of worker 0; one for each
//!
//! lane
//!    0     4  results    messages that this worker has sent, wrapping
//!    4     4  orders     messages that it has read, wrapping
//!    8   120  zero
//!  128  1024  64 slots
//!
//! slot
//!    0     8  state      bits 0..3 what it is, 3..64 the ticket of the task
//!    8     8  started    nanoseconds of the monotonic clock, of a task that is STARTED or was
//! ```
//!
//! | state    | the task                                       | goes to                                            |
//! |----------|------------------------------------------------|----------------------------------------------------|
//! | 0        | none yet                                       | PENDING                                            |
//! | PENDING  | lies in the worker's connection, not begun     | STARTED by the worker, RECALLED by the pool        |
//! | STARTED  | is being run                                   | DONE by the worker, DOOMED by the pool             |
//! | DONE     | has a result that the pool may not have heard  | PENDING with another ticket, after it has          |
//! | DOOMED   | ran too long: the worker is killed in it       | PENDING with another ticket, for the next worker   |
//! | RECALLED | is the pool's again; the worker skips it       | PENDING with another ticket, at once               |
//!
//! Both ways out of PENDING are a compare-and-swap, so a task is begun or recalled and never both; and so are both ways
//! out of STARTED: a kill for the time of one task never hits the next. Whoever finds a dead worker reads here which task
//! it had begun.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use ipc_shm::{Cells, HeaderError, Kind, Segment, View};
use ipc_sync::{Bell, Registry, processor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::error::PoolError;

/// Tasks that one worker may have at a time.
pub(super) const SLOTS: usize = 64;

const KIND: Kind = Kind::new(
    *b"POOL",
    "pool 1: results u32, bells u32 2, processor u32, lanes of 1152 at 128: results u32, orders u32, 64 x {state u64, started u64}",
);
const LANES_AT: usize = size_of::<Shared>();

const PENDING: u64 = 1;
const STARTED: u64 = 2;
const RECALLED: u64 = 3;
const DONE: u64 = 4;
const DOOMED: u64 = 5;
const TICKET: u32 = 3;

/// What everybody looks at.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Shared {
    results: AtomicU32,
    pub(super) front: Bell,
    pub(super) back: Bell,
    processor: AtomicU32,
}

/// One task of one worker.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Slot {
    state: AtomicU64,
    started: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Counts {
    results: AtomicU32,
    orders: AtomicU32,
}

/// What one worker and the pool look at.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Lane {
    counts: Counts,
    slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Shared>() == 128 && size_of::<Lane>() == 1152);

// SAFETY: repr(C); atomic integers and transparent wrappers of them, then padding that is never read; aligned to 128.
unsafe impl Cells for Shared {}
// SAFETY: as above.
unsafe impl Cells for Lane {}

impl Shared {
    /// A message is on its way to the pool, from the worker of `lane`.
    pub(super) fn tell(&self, lane: &Lane) {
        lane.counts.results.fetch_add(1, Release);
        self.processor.store(processor(), Relaxed);
        self.results.fetch_add(1, SeqCst);
        ipc_sync::full_fence(); // a locked instruction is one on x86 only
        self.front.ring();
        self.back.ring();
    }

    /// How many messages there were; another number than before = there are more.
    #[inline(always)]
    pub(super) fn results(&self) -> u32 {
        self.results.load(Acquire)
    }

    /// Where the last one came from.
    pub(super) fn processor(&self) -> u32 {
        self.processor.load(Relaxed)
    }

    /// Has whoever waits look at the pool again.
    pub(super) fn nudge(&self) {
        ipc_sync::full_fence();
        self.front.ring();
        self.back.ring();
    }

    /// Has the pool's own thread look again, though it only stands by and no bell hangs for it.
    pub(super) fn relieve(&self) {
        self.back.hang_up(); // the word changes, also for one that is just going to sleep on it
        self.back.ring_all();
    }
}

impl Lane {
    pub(super) fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize % SLOTS]
    }

    /// How many messages its worker has sent.
    #[inline(always)]
    pub(super) fn results(&self) -> u32 {
        self.counts.results.load(Acquire)
    }

    /// For a new worker. The old one has ended.
    pub(super) fn reset(&self) {
        self.counts.results.store(0, Relaxed);
        self.counts.orders.store(0, Relaxed);
    }

    /// The worker has read an order.
    pub(super) fn note_order(&self) {
        self.counts.orders.fetch_add(1, Relaxed);
    }

    /// How many orders the worker has read.
    pub(super) fn orders(&self) -> u32 {
        self.counts.orders.load(Relaxed)
    }
}

impl Slot {
    /// The pool gives the worker a task.
    pub(super) fn offer(&self, ticket: u64) {
        self.state.store(ticket << TICKET | PENDING, Release);
    }

    /// The worker begins a task; false = it was recalled.
    pub(super) fn start(&self, ticket: u64, now: u64) -> bool {
        self.started.store(now, Relaxed); // read only beside STARTED
        self.change(ticket, PENDING, STARTED)
    }

    /// The pool takes a task back; false = the worker has begun it.
    pub(super) fn recall(&self, ticket: u64) -> bool {
        self.change(ticket, PENDING, RECALLED)
    }

    /// The worker is done with a task; false = it is being killed for it.
    pub(super) fn finish(&self, ticket: u64) -> bool {
        self.change(ticket, STARTED, DONE)
    }

    /// The pool will kill the worker for this task; false = the task is done.
    pub(super) fn doom(&self, ticket: u64) -> bool {
        self.change(ticket, STARTED, DOOMED)
    }

    fn change(&self, ticket: u64, from: u64, to: u64) -> bool {
        let (from, to) = (ticket << TICKET | from, ticket << TICKET | to);
        self.state.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }

    /// When the task was begun; `None` = it was not.
    pub(super) fn started(&self, ticket: u64) -> Option<u64> {
        let state = self.state.load(Acquire);
        let started = state >> TICKET == ticket && matches!(state & !(!0 << TICKET), STARTED | DONE | DOOMED);
        started.then(|| self.started.load(Relaxed))
    }
}

/// The memory of one pool.
#[derive(Debug, Clone)]
pub(super) struct Table {
    segment: Segment,
    pub(super) shared: View<Shared>,
}

impl Table {
    /// A new one, with so many lanes.
    pub(super) fn create(lanes: usize) -> Result<Table, PoolError> {
        let registry = Registry::get().map_err(PoolError::Registry)?;
        let size = LANES_AT + lanes * size_of::<Lane>();
        let segment = Segment::create(c"pool", KIND, size, registry.id()).map_err(PoolError::Io)?;
        Ok(Table { shared: segment.view(0).expect("a new segment holds its words"), segment })
    }

    /// The lane of worker `index`; `None` = there are not so many.
    pub(super) fn lane(&self, index: usize) -> Option<View<Lane>> {
        self.segment.view(LANES_AT + index * size_of::<Lane>()).ok()
    }

    fn check(segment: Segment) -> Result<Table, String> {
        let registry = Registry::get().map_err(|error| error.to_string())?;
        if segment.registry() != registry.id() {
            return Err(HeaderError::ForeignRegistry.to_string());
        }
        let shared = segment.view(0).map_err(|error| error.to_string())?;
        Ok(Table { segment, shared })
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.segment.pack().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parcel = Deserialize::deserialize(deserializer)?;
        let segment = Segment::unpack(parcel, KIND).map_err(de::Error::custom)?;
        Table::check(segment).map_err(de::Error::custom)
    }
}

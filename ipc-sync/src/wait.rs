//! The stages of a wait before it sleeps: pause, then yield, as long as each is worth its price.
//!
//! Two things must be known to choose well: does the other side run on my processor (then a pause only keeps it
//! from running), and did the last yield meet a program that computes (then a yield costs a whole time slice).
//! All state is private to one waiting side; nothing here is needed for correctness.

use crate::deadline::now;
use crate::primitive::{AtomicU32, AtomicU64, Ordering::Relaxed, processor, spin_loop, yield_now};

const MICROSECOND: u64 = 1_000;

/// Looks, with a pause between, before the first yield: 0.7 µs, a reply of a peer that is already at it.
const LOOKS: u32 = 64;
/// A yield that took longer let somebody else run.
const SWITCHED: u64 = 600;
/// A yield that took longer met a hog: a thread that computes to the end of its slice.
const HOG: u64 = 2_000 * MICROSECOND;
/// After a hog, no yields for so many times what it cost.
const HOG_REST: u64 = 16;
/// Yields in all: twice what waking a sleeper takes.
const LIMIT: u64 = 100 * MICROSECOND;
/// The same, when waits have been long lately.
const SHORT_LIMIT: u64 = 5 * MICROSECOND;
/// From here on a wait was long.
const LONG: u64 = 400 * MICROSECOND;
/// Long waits in a row after which only every eighth tries the full limit.
const LONG_ROW: u32 = 4;
/// Yields that let others run, before sleeping: they are many.
const CROWD: u32 = 12;
/// Most pauses between two yields when nobody else wants this processor.
const BLOCK: u32 = 128;

/// What one side has learned about its waits. Shared by the threads of that side; races only blur it.
#[derive(Debug, Default)]
pub struct Patience {
    no_yield_until: AtomicU64,
    long_row: AtomicU32,
}

impl Patience {
    /// Waits until `ready`: awake first, then by `sleep`, which sleeps once and answers false when time is up. False
    /// = time was up and it is still not ready. `other` is the processor that the other side was last seen on.
    pub fn wait(&self, other: u32, mut ready: impl FnMut() -> bool, mut sleep: impl FnMut() -> bool) -> bool {
        if self.awake(other, &mut ready) {
            self.long_row.store(0, Relaxed);
            return true;
        }
        let start = now();
        while !ready() {
            if !sleep() {
                return ready();
            }
        }
        let row = if now() - start > LONG { self.long_row.load(Relaxed).wrapping_add(1).max(1) } else { 0 };
        self.long_row.store(row, Relaxed);
        true
    }

    /// True: ready. False: it is time to sleep.
    fn awake(&self, other: u32, ready: &mut impl FnMut() -> bool) -> bool {
        if other != processor() && look(LOOKS, ready) {
            return true;
        }
        let start = now();
        if start < self.no_yield_until.load(Relaxed) {
            return false;
        }
        self.yields(start, ready)
    }

    fn yields(&self, start: u64, ready: &mut impl FnMut() -> bool) -> bool {
        let (mut before, mut block, mut crowd) = (start, 8, 0);
        while before - start <= self.limit() {
            yield_now();
            let after = now();
            let cost = after - before;
            if cost > HOG {
                self.no_yield_until.store(after + HOG_REST * cost, Relaxed);
                return ready();
            }
            if ready() {
                return true;
            }
            if cost > SWITCHED {
                crowd += 1;
                if crowd > CROWD {
                    return false;
                }
            } else {
                // Alone here: what we wait for runs elsewhere, and pauses see it sooner than yields.
                if look(block, ready) {
                    return true;
                }
                block = (block * 2).min(BLOCK);
            }
            before = now();
        }
        false
    }

    fn limit(&self) -> u64 {
        let row = self.long_row.load(Relaxed);
        if row >= LONG_ROW && row % 8 != 0 { SHORT_LIMIT } else { LIMIT }
    }
}

fn look(times: u32, ready: &mut impl FnMut() -> bool) -> bool {
    for _ in 0..times {
        if ready() {
            return true;
        }
        spin_loop();
    }
    false
}

//! The word that says whether the queue goes on.
//!
//! ```text
//! 0                nobody has shut it down
//! SHUT             no more puts; what was put, also what its process keeps back, can be got
//! SHUT | DISCARD   and what is kept back goes nowhere
//! ```
//!
//! Bits are only ever set: under the producers' lock, so that a put that went before is whole and one that comes
//! after sees them.

use crate::primitive::{AtomicU32, Ordering::*};

/// Nobody may put any more.
pub(crate) const SHUT: u32 = 1;
/// What processes keep back is discarded.
pub(crate) const DISCARD: u32 = 2;

#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct State(AtomicU32);

impl State {
    /// Whether one of `bits` is set.
    #[inline(always)]
    pub(crate) fn is(&self, bits: u32) -> bool {
        self.0.load(SeqCst) & bits != 0
    }

    pub(crate) fn set(&self, bits: u32) {
        self.0.fetch_or(bits, SeqCst);
    }
}

//! How long one link may have the server to itself.

use nix::time::{ClockId, clock_gettime};

/// The time between two ticks of the kernel, a few milliseconds: to ask whether it is over takes a few nanoseconds.
#[derive(Debug)]
pub(super) struct Slice(i64);

impl Slice {
    pub(super) fn begin() -> Slice {
        Slice(tick())
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        tick() != self.0
    }
}

/// A number that is another one after the next tick.
#[inline]
fn tick() -> i64 {
    // A kernel without this clock has none that ticks, and each slice is endless.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |now| now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

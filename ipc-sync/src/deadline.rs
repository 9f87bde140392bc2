//! A point on the monotonic clock until which a call waits.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// When a waiting call gives up: nanoseconds of `CLOCK_MONOTONIC`, or never.
///
/// A deadline is computed once, at the start of a call, and covers all of it. Steps of the wall clock do not
/// matter. Times too far away to count are [`Deadline::NEVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Waits for ever.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// Does not wait at all.
    pub const NOW: Deadline = Deadline(0);

    /// So long from now on.
    pub fn after(timeout: Duration) -> Deadline {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Deadline(now().saturating_add(nanoseconds))
    }

    /// At `instant`; at once if that is past.
    pub fn at(instant: Instant) -> Deadline {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Whether the time has come.
    pub fn has_passed(self) -> bool {
        self != Deadline::NEVER && now() >= self.0
    }

    /// What is left; `None` = there is no end.
    pub fn remaining(self) -> Option<Duration> {
        (self != Deadline::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(now())))
    }

    /// The kernel's form of an absolute time; `None` = there is no end.
    pub(crate) fn timespec(self) -> Option<libc::timespec> {
        (self != Deadline::NEVER).then_some(libc::timespec {
            tv_sec: (self.0 / SECOND) as libc::time_t,
            tv_nsec: (self.0 % SECOND) as libc::c_long,
        })
    }
}

/// Nanoseconds of the monotonic clock.
#[inline]
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec of ours to write to; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

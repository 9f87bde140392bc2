//! Waiting for a condition. A test never sleeps for a while and hopes.

use std::time::{Duration, Instant};

use super::procfs;

/// Long enough for any machine under any load; a condition that takes it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
///
/// # Panics
///
/// It does not within 20 seconds.
#[track_caller]
pub fn until(condition: impl FnMut() -> bool) {
    assert!(until_within(PATIENCE, condition), "the condition did not come within {PATIENCE:?}");
}

/// Waits until `condition` holds; false if it did not in time. Looks once at least.
pub fn until_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut looks = 0u32;
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        pause(looks);
        looks += 1;
    }
}

/// A yield is enough for what comes at once; what takes longer must not be slowed by our looking.
fn pause(looks: u32) {
    match looks {
        0..100 => std::thread::yield_now(),
        100..1000 => std::thread::sleep(Duration::from_micros(20)),
        _ => std::thread::sleep(Duration::from_millis(1)),
    }
}

/// Waits until the thread (or the only thread of the process) `tid` sleeps in the kernel in a wait for somebody else:
/// on a futex, in poll, in a receive.
///
/// # Panics
///
/// It does not within 20 seconds.
#[track_caller]
pub fn asleep(tid: i32) {
    let asleep = until_within(PATIENCE, || procfs::waits(tid));
    assert!(asleep, "{} does not wait for anybody", procfs::describe(tid));
}

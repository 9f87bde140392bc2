//! The only futex calls: sleep on a shared word, on several of them, wake, and change-and-wake.
//!
//! No call passes `FUTEX_PRIVATE_FLAG`, with which a wait between processes would never end. EINTR is
//! answered like a wake: every caller looks at its word again anyway.
#![allow(unsafe_code)]

use std::ptr::null;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::Deadline;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// A wake, a word that had changed before, a signal: look again.
    Look,
    /// A wake through another word than the first of several: through that one.
    Other(usize),
    /// The deadline came.
    TimedOut,
}

/// How often a wait on one word looks at the others where the kernel cannot wait for many.
const SLICE: Duration = Duration::from_millis(20);

/// Cleared at the first refusal: kernels before 5.16, valgrind, some sandboxes.
static KERNEL_WAITS_FOR_MANY: AtomicBool = AtomicBool::new(true);

/// Sleeps as long as `word` holds `expected`, at most until `deadline`.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Woken {
    let timeout = deadline.timespec();
    let timeout = timeout.as_ref().map_or(null(), |time| time as *const libc::timespec);
    // SAFETY: FUTEX_WAIT_BITSET reads the aligned 32-bit word behind a live reference, and a timespec that is
    // null or lives in this frame; it writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            timeout,
            null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if result == -1 && errno() == libc::ETIMEDOUT { Woken::TimedOut } else { Woken::Look }
}

/// Wakes up to `count` sleepers of `word`; answers how many.
#[cold]
pub(crate) fn wake(word: &AtomicU32, count: i32) -> usize {
    // SAFETY: FUTEX_WAKE uses the address as a key only.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(woken).unwrap_or(0)
}

/// Wakes all sleepers of `word`.
pub(crate) fn wake_all(word: &AtomicU32) -> usize {
    wake(word, i32::MAX)
}

/// Sets bit number `bit` of `word` and wakes up to `count` sleepers of `sleepers`, which may be the same word.
///
/// Both are one system call: no death can come between a change and the wake that tells of it.
#[cold]
pub(crate) fn set_bit_and_wake(word: &AtomicU32, bit: u32, sleepers: &AtomicU32, count: i32) {
    const OR: u32 = 2;
    const ARGUMENT_IS_A_BIT_NUMBER: u32 = 8;
    if !wake_op(word, (OR | ARGUMENT_IS_A_BIT_NUMBER) << 28 | bit << 12, sleepers, count) {
        word.fetch_or(1 << bit, SeqCst);
        wake(sleepers, count);
    }
}

/// Adds 1 to `word`, wrapping, and wakes up to `count` sleepers of `sleepers`, which may be the same word.
///
/// Both are one system call, see [`set_bit_and_wake`].
#[cold]
pub(crate) fn increment_and_wake(word: &AtomicU32, sleepers: &AtomicU32, count: i32) {
    const ADD: u32 = 1;
    if !wake_op(word, ADD << 28 | 1 << 12, sleepers, count) {
        word.fetch_add(1, SeqCst);
        wake(sleepers, count);
    }
}

/// False: the kernel, or a filter before it, does not know the operation; nothing was done.
fn wake_op(word: &AtomicU32, operation: u32, sleepers: &AtomicU32, count: i32) -> bool {
    const SLEEPERS_OF_WORD: usize = 0;
    // SAFETY: FUTEX_WAKE_OP changes the aligned 32-bit word behind a live reference, atomically as any other thread
    // would, and uses the address of `sleepers` as a key only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            sleepers.as_ptr(),
            libc::FUTEX_WAKE_OP,
            count,
            SLEEPERS_OF_WORD,
            word.as_ptr(),
            operation,
        )
    };
    result != -1
}

/// Most words one sleeps on together; the kernel would take 128.
pub(crate) const WORDS: usize = 127;

/// Words of a usual sleep: the kernel's form of them is made anew each time.
const FEW: usize = 4;

/// Sleeps as long as all words hold what is expected of them, at most until `deadline`. Looks at the first [`WORDS`] of
/// them only.
///
/// Where the kernel has no `futex_waitv` it sleeps on the first word in slices of 20 ms, and answers
/// [`Woken::Look`] after each: the caller looks at the other words itself.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Woken {
    let Some((first, others)) = words.split_first() else { return Woken::Look };
    if others.is_empty() {
        return wait(first.0, first.1, deadline);
    }
    if KERNEL_WAITS_FOR_MANY.load(Relaxed) {
        let wait = if words.len() <= FEW { wait_vector::<FEW> } else { wait_vector::<WORDS> };
        if let Some(woken) = wait(words, deadline) {
            return woken;
        }
        KERNEL_WAITS_FOR_MANY.store(false, Relaxed);
    }
    let slice = Deadline::after(SLICE);
    match wait(first.0, first.1, deadline.min(slice)) {
        Woken::TimedOut if deadline > slice => Woken::Look,
        woken => woken,
    }
}

/// The kernel's `struct futex_waitv`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    /// `FUTEX2_SIZE_U32` without `FUTEX2_PRIVATE`.
    const SHARED_U32: u32 = 2;

    const NONE: Waiter = Waiter { value: 0, address: 0, flags: 0, reserved: 0 };

    fn new((word, expected): (&AtomicU32, u32)) -> Waiter {
        Waiter {
            value: expected.into(),
            address: word.as_ptr().addr() as u64,
            flags: Self::SHARED_U32,
            reserved: 0,
        }
    }
}

/// `None` = the kernel, or a filter before it, does not know the call.
fn wait_vector<const MOST: usize>(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Option<Woken> {
    let mut waiters = [Waiter::NONE; MOST];
    let count = words.len().min(MOST);
    waiters.iter_mut().zip(words).for_each(|(waiter, &word)| *waiter = Waiter::new(word));
    let timeout = deadline.timespec();
    let timeout = timeout.as_ref().map_or(null(), |time| time as *const libc::timespec);
    // SAFETY: the kernel reads `count` waiters from this frame, the aligned words behind live references, and a
    // timespec that is null or lives in this frame; it writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            count as libc::c_uint,
            0,
            timeout,
            libc::CLOCK_MONOTONIC,
        )
    };
    match result {
        0 => Some(Woken::Look),
        1.. => Some(Woken::Other(result as usize)),
        _ => match errno() {
            libc::ETIMEDOUT => Some(Woken::TimedOut),
            libc::EAGAIN | libc::EINTR => Some(Woken::Look),
            _ => None,
        },
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_and_its_wake_are_one_call() {
        let (word, sleepers) = (AtomicU32::new(0), AtomicU32::new(7));
        std::thread::scope(|scope| {
            let woken = scope.spawn(|| {
                while word.load(SeqCst) == 0 {
                    wait(&sleepers, 7, Deadline::NEVER);
                }
            });
            set_bit_and_wake(&word, 31, &sleepers, 1);
            while !woken.is_finished() {
                wake(&sleepers, 1); // it may have slept after the change
            }
        });
        assert_eq!(word.load(SeqCst), 1 << 31);
        increment_and_wake(&word, &word, i32::MAX);
        assert_eq!(word.load(SeqCst), 1 << 31 | 1);
        word.store(u32::MAX, SeqCst);
        increment_and_wake(&word, &sleepers, 1);
        assert_eq!(word.load(SeqCst), 0);
    }
}

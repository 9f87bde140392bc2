//! `WakeWord`: what becomes ready and wakes a word, for those who wait for several things at once.

use std::fmt;
use std::sync::atomic::AtomicU32;

use crate::{Deadline, Woken, futex};

/// Something that becomes ready and then changes a word of shared memory and wakes its sleepers.
///
/// It keeps the word where it is. One who wants to sleep calls [`arm`](WakeWord::arm), sleeps on [`word`](WakeWord::word)
/// as long as that holds the answer, looks at [`is_ready`](WakeWord::is_ready), and calls
/// [`pass_on`](WakeWord::pass_on) after each sleep.
pub trait WakeWord: Send + Sync + fmt::Debug {
    /// Has whoever makes it ready wake the word, and answers what the word holds until then. `None` = it is ready.
    fn arm(&self) -> Option<u32>;

    /// The word. A wake of it may be in vain, and is never missing.
    fn word(&self) -> &AtomicU32;

    /// Whether it is ready, or was since this was made.
    fn is_ready(&self) -> bool;

    /// Wakes another sleeper, if the wake was for one only and there is something left to take: the one who was woken by
    /// this means may take nothing.
    fn pass_on(&self) {}
}

/// Sleeps as long as all `words` hold what is expected of them, at most until `deadline`. Looks at the first 127 of them.
#[doc(hidden)]
pub fn sleep_on(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Woken {
    futex::wait_any(words, deadline)
}

/// Wakes whoever sleeps on `word`.
#[doc(hidden)]
pub fn wake_sleepers(word: &AtomicU32) {
    futex::wake_all(word);
}

//! What becomes a process, or a thread, that works for another one: workers of pools, servers of managers.
#![allow(unsafe_code)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};

/// Ctrl-C reaches all processes of a terminal. What is to become of the work is for the parent to say.
pub(crate) fn leave_terminal_to_parent() {
    // SAFETY: SIG_IGN is no handler of ours, so nothing runs asynchronously.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
}

/// A core dump of a large process takes seconds, and the news of its death come after it. One byte is too few for a
/// file, and the value that tells the kernel not to call a program for it; with 0 it would.
pub(crate) fn leave_no_core() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, most.min(1), most);
    }
}

/// As many descriptors as this user may have.
pub(crate) fn open_many_descriptors() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Runs `f`, whose threads get no signals: those are for the program's own.
pub(crate) fn without_signals<T>(f: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let answer = f();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    answer
}

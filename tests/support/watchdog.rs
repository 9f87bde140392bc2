//! A test that hangs says what hangs, and dies.
#![allow(unsafe_code)]

use std::panic::Location;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{procfs, say};

/// Dropped, it calls the watchdog off.
#[must_use = "the watchdog watches as long as this lives"]
pub struct Guard {
    off: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Aborts this process unless the guard is dropped within `seconds`; says which test it was, and what its threads and
/// children were doing. It is a thread, so a forked child has none: there, use [`alarm`].
#[track_caller]
pub fn watchdog(seconds: u64) -> Guard {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let place = Location::caller();
    let (off, called_off) = mpsc::channel();
    let watch = move || {
        if called_off.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) {
            bark(&format!("{test} ({place}) hangs: {seconds} seconds are over"))
        }
    };
    let thread = thread::Builder::new().name("watchdog".into()).spawn(watch).expect("one more thread");
    Guard { off: Some(off), thread: Some(thread) }
}

fn bark(complaint: &str) -> ! {
    say(complaint);
    let pid = std::process::id() as i32;
    for tid in procfs::threads(pid) {
        say(&format!("  thread {}", procfs::describe(tid)));
    }
    for child in procfs::children(pid) {
        say(&format!("  child {}", procfs::describe(child)));
    }
    std::process::abort()
}

/// The watchdog of a forked child: SIGALRM kills it after `seconds`.
pub fn alarm(seconds: u32) {
    // SAFETY: `alarm` takes a number.
    unsafe { libc::alarm(seconds) };
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.off = None;
        // Joined, so that the leak oracle does not see a thread that is about to end.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

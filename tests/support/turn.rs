//! A test of stale names must not meet the sweep of another test binary: they take turns on one file.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Waits for this process's turn on this machine, which lasts as long as the file is open.
pub fn turn() -> File {
    // SAFETY: no conditions.
    let user = unsafe { libc::geteuid() };
    let file = File::create(std::env::temp_dir().join(format!("multiprocess-tests-{user}.lock"))).unwrap();
    lock(&file, libc::LOCK_EX);
    file
}

/// flock(2).
pub fn lock(file: &File, operation: i32) {
    // SAFETY: two numbers; the descriptor is open.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), operation) }, 0);
}

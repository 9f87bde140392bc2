//! A line on standard error, written past libtest's capture and past every lock.
//!
//! A forked child may not use `eprintln`: another thread of its parent may have held the lock of standard error, and
//! libtest would keep the line in a buffer that dies with the child.
#![allow(unsafe_code)]

/// Writes one line to descriptor 2.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    // SAFETY: the pointer and the length are of a live string. A failed write is nothing a test could mend.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

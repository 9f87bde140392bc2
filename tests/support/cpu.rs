//! Which processor a test runs on.
#![allow(unsafe_code)]

use std::io;

/// Keeps this thread, and what it forks from now on, on one processor.
///
/// # Panics
///
/// There is no such processor, or this process may not use it.
pub fn pin(cpu: usize) {
    let error = set_affinity(THIS_THREAD, &only(cpu)).err();
    assert!(error.is_none(), "processor {cpu} is not for us");
}

/// Two threads that take turns do so many times faster on one processor, where neither must be woken from afar. Until
/// the drop of this, our thread and the thread `tid` share the one that ours is on.
#[derive(Debug)]
pub(crate) struct Together(Option<libc::cpu_set_t>);

impl Together {
    /// It is a help and no promise: where it is forbidden nothing changes.
    pub(crate) fn with(tid: i32) -> Together {
        let before = affinity();
        // SAFETY: takes nothing and touches nothing of ours.
        let here = unsafe { libc::sched_getcpu() };
        let here = only(here.try_into().unwrap_or(0));
        let both = set_affinity(THIS_THREAD, &here).and_then(|()| set_affinity(tid, &here));
        both.ok();
        Together(before)
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        self.0.inspect(|before| _ = set_affinity(THIS_THREAD, before));
    }
}

const THIS_THREAD: i32 = 0;

fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: a `cpu_set_t` is plain bits, zero is the empty set; CPU_SET checks `cpu` against its size.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

fn affinity() -> Option<libc::cpu_set_t> {
    let mut set = only(0);
    // SAFETY: the set lives during the call and its true size is given.
    let result = unsafe { libc::sched_getaffinity(THIS_THREAD, size_of_val(&set), &mut set) };
    (result == 0).then_some(set)
}

fn set_affinity(tid: i32, set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the set lives during the call and its true size is given.
    let result = unsafe { libc::sched_setaffinity(tid, size_of_val(set), set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

//! Which processor a test runs on.
#![allow(unsafe_code)]

/// Keeps this thread, and what it forks from now on, on one processor.
///
/// # Panics
///
/// There is no such processor, or this process may not use it.
pub fn pin(cpu: usize) {
    // SAFETY: a `cpu_set_t` is plain bits, zero is the empty set; CPU_SET checks `cpu` against its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set lives during the call and its true size is given; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(result, 0, "processor {cpu} is not for us");
}

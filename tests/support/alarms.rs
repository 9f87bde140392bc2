//! Signals that interrupt every system call before long.
#![allow(unsafe_code)]

/// SIGALRM to this process every so many µs, without SA_RESTART. The handler is async-signal-safe.
pub fn alarms(handler: extern "C" fn(i32), microseconds: libc::suseconds_t) {
    let every = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a zeroed sigaction is one without flags and with an empty mask; both structures live during the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()), 0);
    }
}

/// SIGALRM every 100 µs, which does nothing else.
pub fn storm_of_alarms() {
    extern "C" fn ignore(_: i32) {}
    alarms(ignore, 100);
}

//! What the kernel tells of a process or thread.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// System calls in which a thread waits for another one. A plain sleep is not among them.
const WAITS: &[libc::c_long] = &[
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_write,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_flock,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// The letter of its state: R runs, S sleeps, T stopped, t traced, Z dead but not reaped. `None`: there is no such.
pub fn state(tid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// How long this thread was ready to run and others ran instead; zero if the kernel does not count it.
pub fn time_in_line() -> Duration {
    waited("/proc/thread-self/schedstat")
}

/// The same for all threads of a process that live.
pub fn time_in_line_of(pid: i32) -> Duration {
    threads(pid).into_iter().map(|tid| waited(&format!("/proc/{pid}/task/{tid}/schedstat"))).sum()
}

fn waited(file: &str) -> Duration {
    let text = fs::read_to_string(file).unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The number of the system call it sleeps in; `None` if it runs, or if the kernel does not tell.
pub fn system_call(tid: i32) -> Option<libc::c_long> {
    let text = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Whether it sleeps and waits for somebody else.
pub fn waits(tid: i32) -> bool {
    state(tid) == Some('S') && system_call(tid).is_some_and(|call| WAITS.contains(&call))
}

/// One line for a human: name, state, where in the kernel.
pub fn describe(tid: i32) -> String {
    let word = |file: &str| {
        let text = fs::read_to_string(format!("/proc/{tid}/{file}")).unwrap_or_default();
        text.split_whitespace().next().unwrap_or("?").to_owned()
    };
    let state = state(tid).unwrap_or('-');
    format!("{tid} {:?} state {state} call {} in {}", word("comm"), word("syscall"), word("wchan"))
}

/// The threads of a process.
pub fn threads(pid: i32) -> BTreeSet<i32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeSet::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process, the dead that nobody reaped among them.
pub fn children(pid: i32) -> BTreeSet<i32> {
    let of_thread = |tid| fs::read_to_string(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
    let parse = |text: String| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>();
    threads(pid).into_iter().flat_map(|tid| parse(of_thread(tid))).collect()
}

//! What tells one thread from another for ever: namespace, process, thread and start time.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use ipc_shm::fork;

/// A thread's identity. A PID alone is none: it is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// See [`own_namespace`].
    pub(crate) namespace: u32,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    /// Clock ticks since boot, 0 = unknown.
    pub(crate) start: u64,
}

impl Identity {
    pub(crate) fn of_this_thread() -> Identity {
        let start = match stat("/proc/thread-self/stat") {
            Look::There(stat) => stat.start,
            Look::Gone | Look::Unknown => 0,
        };
        // SAFETY: gettid takes nothing and cannot fail.
        let tid = unsafe { libc::gettid() } as u32;
        Identity { namespace: own_namespace(), pid: std::process::id(), tid, start }
    }

    /// Asks /proc. `None` = it cannot tell: another namespace, no /proc, no free descriptor, start time unknown.
    pub(crate) fn is_alive(self) -> Option<bool> {
        let Identity { pid, tid, start, .. } = self;
        if !self.is_in_our_proc() {
            return None;
        }
        match stat(&format!("/proc/{pid}/task/{tid}/stat")) {
            Look::There(stat) => Some(stat.start == start && !stat.ended),
            Look::Gone => has_gone(pid, tid).then_some(false),
            Look::Unknown => None,
        }
    }

    /// Whether the process of this thread lives and is not about to end. `None` = /proc cannot tell.
    pub(crate) fn process_is_alive(self) -> Option<bool> {
        let Identity { pid, start, .. } = self;
        if !self.is_in_our_proc() {
            return None;
        }
        match stat(&format!("/proc/{pid}/stat")) {
            Look::There(leader) => Some(!leader.ends() && leader.start <= start),
            Look::Gone => has_gone(pid, pid).then_some(false),
            Look::Unknown => None,
        }
    }

    /// Whether the numbers mean in /proc what they mean here. What is mounted there may be that of another namespace.
    fn is_in_our_proc(self) -> bool {
        let ours = || {
            fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == &*std::process::id().to_string())
        };
        self.namespace != 0 && self.start != 0 && self.namespace == own_namespace() && ours()
    }

    /// Whether it is the main thread, which ends with its process or by exec.
    pub(crate) fn is_main(self) -> bool {
        self.tid == self.pid
    }

    /// Whether it is a thread of this process.
    pub(crate) fn is_of_this_process(self) -> bool {
        self.pid == std::process::id() && self.namespace == own_namespace()
    }
}

struct Stat {
    start: u64,
    /// A zombie: it writes nothing more.
    ended: bool,
    /// Of the kernel: `PF_EXITING` says that it is on its way.
    flags: u64,
}

impl Stat {
    /// State, flags and start time are fields 3, 9 and 22; the name before them may hold anything but ends with the last ')'.
    fn parse(text: &[u8]) -> Option<Stat> {
        let after_name = text.get(text.iter().rposition(|&byte| byte == b')')? + 2..)?;
        let mut fields = std::str::from_utf8(after_name).ok()?.split(' ');
        let ended = matches!(fields.next()?, "Z" | "X" | "x");
        let flags = fields.nth(5)?.parse().ok()?;
        Some(Stat { start: fields.nth(12)?.parse().ok()?, ended, flags })
    }

    fn ends(&self) -> bool {
        const EXITING: u64 = 4;
        self.ended || self.flags & EXITING != 0
    }
}

/// What /proc shows of a thread or process.
enum Look {
    There(Stat),
    Gone,
    /// Nobody can say: no descriptor or memory left to read with, no permission.
    Unknown,
}

fn stat(path: &str) -> Look {
    // Longer than any: `fs::read` would feel its way there with six system calls.
    let mut text = [0; 1024];
    match File::open(path).and_then(|mut file| file.read(&mut text)) {
        Ok(length) => Stat::parse(&text[..length]).map_or(Look::Unknown, Look::There),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Look::Gone,
        Err(_) => Look::Unknown,
    }
}

/// What /proc does not show may be hidden from us. The kernel itself says whether it is there.
fn has_gone(pid: u32, tid: u32) -> bool {
    // SAFETY: numbers; signal 0 is only asked about and never sent.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
    sent == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Which numbers this process sees in /proc: those of its PID namespace, and times of start shifted by its time namespace.
/// 0 = unknown. Not kept: a forked child may live in other ones.
fn own_namespace() -> u32 {
    let inode = |kind| fs::metadata(format!("/proc/self/ns/{kind}")).map_or(0, |status| status.ino() as u32);
    match inode("pid") {
        0 => 0,
        pid => (pid.wrapping_mul(0x9e37_79b1) ^ inode("time")).max(1), // both are numbers near 2^32
    }
}

/// The user whose files this process makes.
pub(crate) fn geteuid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

static IN_CHILD: OnceLock<fn()> = OnceLock::new();

/// Does what follows a fork in the child, for one that `fork` of the C library did not make.
#[doc(hidden)]
pub fn forked() {
    fork::forked();
    in_child();
}

extern "C" fn in_child() {
    IN_CHILD.get().inspect(|handler| handler());
}

/// Has `handler` called in each forked child, right after the count was raised.
pub(crate) fn watch_forks(handler: fn()) {
    fork::watch();
    if IN_CHILD.set(handler).is_ok() {
        // SAFETY: it only touches what `handler` touches, which is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
}

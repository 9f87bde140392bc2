//! What tells one thread from another for ever: namespace, process, thread and start time.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

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
        // SAFETY: gettid takes nothing and cannot fail.
        let (tid, pid) = (unsafe { libc::gettid() } as u32, std::process::id());
        let start = || match stat("/proc/thread-self/stat") {
            Look::There(stat) => stat.start,
            Look::Gone | Look::Unknown => 0,
        };
        // Between two looks at the clock that fall in one tick there is no other start.
        let known =
            (tid == pid).then(|| BEGUN.load(Relaxed)).filter(|begun| *begun != 0 && *begun == ticks());
        Identity { namespace: own_namespace(), pid, tid, start: known.unwrap_or_else(start) }
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
/// 0 = unknown. Kept only as far as [`Copies`] told it: a forked child may live in other ones.
fn own_namespace() -> u32 {
    match NAMESPACE.load(Relaxed) {
        0 => namespace("pid", "time"),
        known => known,
    }
}

fn namespace(pid: &str, time: &str) -> u32 {
    let inode = |name| fs::metadata(format!("/proc/self/ns/{name}")).map_or(0, |status| status.ino() as u32);
    match inode(pid) {
        0 => 0,
        pid => (pid.wrapping_mul(0x9e37_79b1) ^ inode(time)).max(1), // both are numbers near 2^32
    }
}

/// The clock by which /proc tells when a thread began, in its ticks.
fn ticks() -> u64 {
    const TICK: i64 = 10_000_000; // USER_HZ is 100
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the structure.
    match unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) } {
        0 => time.tv_sec as u64 * 100 + (time.tv_nsec / TICK) as u64,
        _ => 0,
    }
}

/// The user whose files this process makes.
pub(crate) fn geteuid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

static IN_CHILD: OnceLock<fn()> = OnceLock::new();

/// What a copy was told of its identity; 0 = nothing.
static NAMESPACE: AtomicU32 = AtomicU32::new(0);
/// A tick of the clock before it began.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Who copies this process again and again, by a system call and not by `fork` of the C library, and tells the copies what
/// each would have to ask /proc for: that takes longer than all else in a short life.
#[doc(hidden)]
#[derive(Debug)]
pub struct Copies {
    namespace: u32,
}

impl Copies {
    /// This process will not choose other namespaces for its children from here on.
    pub fn new() -> Copies {
        Copies { namespace: namespace("pid_for_children", "time_for_children") }
    }

    /// To be called right before each copy is made: what it is to be told.
    pub fn begin(&self) -> Birth {
        Birth { namespace: self.namespace, begun: ticks() }
    }
}

/// What a copy is told.
#[doc(hidden)]
#[derive(Debug)]
pub struct Birth {
    namespace: u32,
    begun: u64,
}

impl Birth {
    /// Does what follows a fork in the child.
    pub fn forked(&self) {
        fork::forked();
        in_child();
        NAMESPACE.store(self.namespace, Relaxed);
        BEGUN.store(self.begun, Relaxed);
    }
}

impl Default for Copies {
    fn default() -> Copies {
        Copies::new()
    }
}

extern "C" fn in_child() {
    NAMESPACE.store(0, Relaxed);
    BEGUN.store(0, Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that began and ended its look within one tick began in that tick.
    #[test]
    fn clock_and_proc_agree() {
        let agree = || {
            let before = ticks();
            let look = || match stat("/proc/thread-self/stat") {
                Look::There(stat) => (stat.start, ticks()),
                Look::Gone | Look::Unknown => (0, ticks()),
            };
            let (start, after) = std::thread::spawn(look).join().unwrap();
            (before == after).then_some(start == before)
        };
        let seen: Vec<bool> = (0..1000).filter_map(|_| agree()).collect();
        assert!(seen.len() > 100 && seen.iter().all(|agreed| *agreed), "{} looks", seen.len());
    }
}

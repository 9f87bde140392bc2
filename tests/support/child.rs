//! Forked children that die with their test.
#![allow(unsafe_code)]

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use super::{say, shared, until};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited: 0 after its function returned, 101 after it panicked.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl Status {
    /// The status word of waitpid; `None` while the child only stopped.
    fn of(word: i32) -> Option<Status> {
        if libc::WIFEXITED(word) {
            return Some(Status::Code(libc::WEXITSTATUS(word)));
        }
        libc::WIFSIGNALED(word).then(|| Status::Signal(libc::WTERMSIG(word)))
    }
}

/// What a wait for a child saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is traced and stopped at this signal.
    Stopped(i32),
    /// It is gone.
    Ended(Status),
}

/// A forked child. Dropped by the process that forked it, it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    parent: i32,
    status: Option<Status>,
}

/// Runs `f` in a forked child, which ends with it: no destructors of the parent's, no exit handlers.
///
/// Once `f` runs, the child is killed when the thread that forked it ends. A panic in `f` is printed and ends it with 101.
pub fn fork(f: impl FnOnce()) -> Child {
    report_panics_of_children();
    let parent = std::process::id() as i32;
    // SAFETY: the child runs on a copy of this thread alone. It allocates (glibc's malloc is usable after fork) and
    // takes no lock of std's that another thread may have held: that is what `say` is for.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => run_child(parent, f),
        pid => Child { pid, parent, status: None },
    }
}

/// A child that does `take`, which leaks the guards of what it takes, and then stays. Returns when it has.
#[track_caller]
pub fn hold(take: impl FnOnce()) -> Child {
    let held = shared::<AtomicU32>();
    let child = fork(|| {
        take();
        held.store(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    until(|| held.load(SeqCst) == 1);
    child
}

/// Waits for the end of each, which must be a good one.
#[track_caller]
pub fn join(children: impl IntoIterator<Item = Child>) {
    let all: Vec<_> = children.into_iter().collect(); // an iterator may fork them: they run side by side
    all.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
}

static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// libtest keeps what a test thread prints, and the copy in a child would be lost with it.
fn report_panics_of_children() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match IN_CHILD.load(Relaxed) {
            true => say(&format!("child {}: {info}", std::process::id())),
            false => usual(info),
        }));
    });
}

fn run_child(parent: i32, f: impl FnOnce()) -> ! {
    IN_CHILD.store(true, Relaxed);
    die_with(parent);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    let code = if result.is_ok() { 0 } else { 101 };
    // SAFETY: `_exit` has no conditions.
    unsafe { libc::_exit(code) }
}

fn die_with(parent: i32) {
    // SAFETY: the arguments are numbers. The parent may have died before the signal was asked for; in a new PID
    // namespace it has the number 0. A thread of a living parent that ended before cannot be seen from here.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let now = libc::getppid();
        if now != parent && now != 0 {
            libc::_exit(0);
        }
    }
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Status {
        loop {
            if let Change::Ended(status) = self.wait_change() {
                return status;
            }
        }
    }

    /// How it ended, if it did.
    pub fn try_wait(&mut self) -> Option<Status> {
        match self.look(libc::WNOHANG) {
            Some(Change::Ended(status)) => Some(status),
            _ => None,
        }
    }

    /// Waits for its end or, if this thread traces it, for its next stop.
    pub fn wait_change(&mut self) -> Change {
        loop {
            if let Some(change) = self.look(0) {
                return change;
            }
        }
    }

    /// Kills it at once and reaps it. Answers how it ended: it may have been faster.
    pub fn kill9(&mut self) -> Status {
        self.signal(libc::SIGKILL);
        self.wait()
    }

    /// Sends it a signal, unless it was reaped already.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: two numbers; the pid is ours until it is reaped.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn look(&mut self, flags: i32) -> Option<Change> {
        if let Some(status) = self.status {
            return Some(Change::Ended(status));
        }
        let mut word = 0;
        // SAFETY: `word` lives during the call.
        let found = unsafe { libc::waitpid(self.pid, &mut word, flags) };
        if found < 0 {
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waitpid {}: {error}", self.pid);
        }
        if found != self.pid {
            return None;
        }
        self.status = Status::of(word);
        Some(self.status.map_or(Change::Stopped(libc::WSTOPSIG(word)), Change::Ended))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A child inherits the handles of its brothers: they are not its own to kill.
        if self.parent == std::process::id() as i32 && self.status.is_none() {
            self.kill9();
        }
    }
}

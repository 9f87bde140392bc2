//! The children of this process: all that were started and have not been reaped yet.
//!
//! There is no thread and no signal handler: whoever spawns, joins, drops or lists a process looks through the list, so
//! that none stays a zombie and no drop blocks. The idea is tokio's orphan queue. At exit daemons are ended and the others
//! waited for, as Python does it.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Once};
use std::time::Duration;

use ipc_pipe::{Waitable, Watch};
use ipc_shm::PerProcess;
use ipc_sync::{Deadline, forks};
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::builder::Builder;
use super::pidfd::Pidfd;
use super::status::ExitStatus;

static CHILDREN: PerProcess<Mutex<Vec<Child>>> = PerProcess::new();

/// A child of this process, without the result of its function: what [`active_children`] lists.
///
/// Cloning shares it. It can be asked and signalled for as long as it is kept; a signal never hits a stranger, whatever
/// became of the process's number.
#[derive(Clone)]
pub struct Child(Arc<Inner>);

struct Inner {
    name: String,
    pid: u32,
    daemon: bool,
    /// A helper of our own is on the list, to be reaped with the others, and nobody is shown it.
    listed: bool,
    /// Copies of this process by fork cannot wait.
    forks: u32,
    pidfd: Pidfd,
    status: Mutex<Option<ExitStatus>>,
}

impl Child {
    /// A child that was just started.
    pub(crate) fn new(name: String, pid: u32, builder: &Builder, pidfd: Pidfd) -> Child {
        let (daemon, listed) = (builder.daemon, !builder.unnumbered);
        Child(Arc::new(Inner { name, pid, daemon, listed, forks: forks(), pidfd, status: Mutex::new(None) }))
    }

    /// Puts it on the list.
    pub(crate) fn enlist(&self) {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(|| {
            // SAFETY: `leave` touches nothing that is gone at exit: no thread-local, no stream but standard error.
            unsafe { libc::atexit(leave) };
        });
        CHILDREN.get().lock().push(self.clone());
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its number, for humans and logs. Nothing here acts on it, as the kernel uses numbers again.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether it ends with this process; see [`Builder::daemon`](crate::Builder::daemon).
    pub fn is_daemon(&self) -> bool {
        self.0.daemon
    }

    /// Whether this process started it, and is no copy of the one that did.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.forks == forks()
    }

    /// Whether it still runs. Does not block. A process that is stopped (SIGSTOP) is alive.
    pub fn is_alive(&self) -> bool {
        self.0.status.lock().is_none() && !matches!(self.0.pidfd.wait(Deadline::NOW), Ok(true))
    }

    /// How it ended; `None` as long as it runs. Does not block.
    #[doc(alias = "exitcode")]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        if !self.is_ours() {
            return None;
        }
        let mut status = self.0.status.lock();
        if status.is_none() {
            *status = self.0.pidfd.reap();
        }
        *status
    }

    /// Waits until it has ended, `timeout` at most. `None` = it still runs.
    ///
    /// # Errors
    ///
    /// The kernel refused to wait: no memory.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Deadline::after(timeout))
    }

    pub(crate) fn wait_until(&self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        let known = *self.0.status.lock();
        if known.is_none() && !self.0.pidfd.wait(deadline)? {
            return Ok(None);
        }
        Ok(self.exit_status())
    }

    /// Asks it to end (SIGTERM); see [`Process::terminate`](crate::Process::terminate).
    ///
    /// # Errors
    ///
    /// The kernel refused: the process has changed its user.
    pub fn terminate(&self) -> io::Result<()> {
        self.0.pidfd.signal(Signal::SIGTERM)
    }

    /// Kills it (SIGKILL). Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// The kernel refused: the process has changed its user.
    pub fn kill(&self) -> io::Result<()> {
        self.0.pidfd.signal(Signal::SIGKILL)
    }

    /// A descriptor that is readable as soon as the process has ended, for `poll` and the like.
    #[doc(alias = "pidfd")]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl Waitable for Child {
    fn is_ready(&self) -> bool {
        self.sentinel().is_ready()
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Readable(self.sentinel())
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Child");
        form.field("name", &self.name()).field("pid", &self.pid()).field("status", &*self.0.status.lock());
        form.finish_non_exhaustive()
    }
}

/// The children of this process that still run, whether their [`Process`](crate::Process) was kept or dropped. Does not
/// block. Those that have ended are reaped.
///
/// A copy of this process by `fork` has none.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, active_children};
///
/// let idle: Process<()> = Process::builder().name("idle").spawn(|()| loop { std::thread::park() }, ())?;
/// assert_eq!(active_children().iter().map(|child| child.name()).collect::<Vec<_>>(), ["idle"]);
/// idle.kill()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn active_children() -> Vec<Child> {
    let mut children = CHILDREN.get().lock();
    retain_living(&mut children);
    children.iter().filter(|child| child.0.listed).cloned().collect()
}

/// Reaps those that have ended. Somebody else who does it at the moment does it for us.
pub(crate) fn sweep() {
    if let Some(mut children) = CHILDREN.get().try_lock() {
        retain_living(&mut children);
    }
}

fn retain_living(children: &mut Vec<Child>) {
    children.retain(|child| child.exit_status().is_none());
}

static LEAVING: AtomicBool = AtomicBool::new(false);

/// Whether this process is at its normal exit, and its daemons are being ended.
pub(crate) fn is_leaving() -> bool {
    LEAVING.load(Relaxed)
}

/// At the normal exit of this process: daemons are asked to end, the others are waited for. What is still there
/// of the daemons dies with us; see `lifeline`.
extern "C" fn leave() {
    LEAVING.store(true, SeqCst); // before anybody can see one of them end
    let Some(mut children) = CHILDREN.get().try_lock() else { return };
    retain_living(&mut children);
    let (daemons, others): (Vec<_>, Vec<_>) = children.drain(..).partition(Child::is_daemon);
    drop(children); // an exit handler that spawns finds the list free
    for daemon in daemons {
        let _ = daemon.terminate();
    }
    for child in others {
        let _ = child.wait_until(Deadline::NEVER);
    }
}

//! The process that spawned this one, by descriptor: its death is seen whatever becomes of its number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_shm::PerProcess;
use ipc_sync::Deadline;
use nix::unistd::getpid;
use parking_lot::Mutex;

use super::current::birth;
use super::pidfd::Pidfd;

/// A descriptor of this process for its children.
pub(crate) fn own() -> io::Result<Arc<OwnedFd>> {
    static OWN: PerProcess<Mutex<Option<Arc<OwnedFd>>>> = PerProcess::new();
    let mut own = OWN.get().lock();
    if let Some(descriptor) = own.as_ref() {
        return Ok(descriptor.clone());
    }
    Ok(own.insert(Arc::new(OwnedFd::from(Pidfd::open(getpid())?))).clone())
}

static PARENT: Mutex<Option<&'static Pidfd>> = Mutex::new(None);

/// This process was spawned by that one.
pub(crate) fn remember(parent: OwnedFd) {
    *PARENT.lock() = Some(Box::leak(Box::new(Pidfd::from(parent))));
}

/// The process that spawned this one, whether it still lives or not.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, parent_process};
///
/// assert!(parent_process().is_none()); // a main process
/// let mut child = Process::spawn(|()| parent_process().map(|parent| parent.pid()), ())?;
/// assert_eq!(child.join()?, Some(std::process::id()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ParentProcess {
    pidfd: &'static Pidfd,
}

/// The process that spawned this one; `None` in a main process.
pub fn parent_process() -> Option<ParentProcess> {
    PARENT.lock().map(|pidfd| ParentProcess { pidfd })
}

impl ParentProcess {
    /// `MainProcess`, or the name that its own parent gave it.
    pub fn name(&self) -> &'static str {
        birth().map_or("", |birth| &birth.parent_name)
    }

    /// Its number, for humans and logs: the kernel uses numbers again.
    pub fn pid(&self) -> u32 {
        birth().map_or(0, |birth| birth.parent)
    }

    /// Whether it still runs. Does not block. Its end is seen also if it was killed and this process has another parent now.
    pub fn is_alive(&self) -> bool {
        !matches!(self.pidfd.wait(Deadline::NOW), Ok(true))
    }

    /// Waits until it has ended, `timeout` at most; whether it has.
    ///
    /// # Errors
    ///
    /// The kernel refused to wait: no memory.
    #[doc(alias = "join")]
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.pidfd.wait(Deadline::after(timeout))
    }

    /// A descriptor that is readable as soon as it has ended, for `poll` and the like.
    pub fn sentinel(&self) -> BorrowedFd<'static> {
        self.pidfd.as_fd()
    }
}

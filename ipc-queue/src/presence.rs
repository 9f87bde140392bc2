//! Who else has a queue: a lock on its file, which the kernel gives back for the dead.
//!
//! Each process that has the queue holds a shared lock on an open file description of its own, on all bytes but the
//! first: that one is the gate of those who examine whether a name is in use. Such a lock ends with
//! the last copy of the description, so it needs no table, no process numbers, and no care at fork: the child
//! inherits the description and with it the lock. Asking takes nothing, so nobody ever waits here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use parking_lot::Mutex;

/// This process's lock on the file of a queue.
#[derive(Debug)]
pub(crate) struct Presence {
    mine: Mutex<Option<File>>,
    /// The description that the memory came with: others have it too, so it holds no lock.
    file: Arc<OwnedFd>,
}

impl Presence {
    /// Takes the lock.
    pub(crate) fn new(file: &Arc<OwnedFd>) -> io::Result<Presence> {
        let presence = Presence { mine: Mutex::new(None), file: file.clone() };
        presence.take()?;
        Ok(presence)
    }

    /// Takes the lock, unless this process has it.
    pub(crate) fn take(&self) -> io::Result<()> {
        let mut mine = self.mine.lock();
        if mine.is_none() {
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let own = OpenOptions::new().read(true).write(true).open(path)?;
            fcntl(&own, FcntlArg::F_OFD_SETLK(&all_but_the_gate(libc::F_RDLCK)))?;
            *mine = Some(own);
        }
        Ok(())
    }

    /// Gives it back. What a forked child has of it stays.
    pub(crate) fn leave(&self) {
        drop(self.mine.lock().take());
    }

    /// Whether anybody holds one. The kernel's refusal to tell counts as yes.
    pub(crate) fn is_held(&self) -> bool {
        let mut lock = all_but_the_gate(libc::F_WRLCK);
        let asked = fcntl(&*self.file, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_err() || lock.l_type != libc::F_UNLCK as libc::c_short
    }
}

fn all_but_the_gate(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1,
        l_len: 0,
        l_pid: 0,
    }
}

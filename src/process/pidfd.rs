//! A process by descriptor: signals and waits that cannot hit a stranger, whatever became of its number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use ipc_sync::Deadline;

use super::status::ExitStatus;

/// A process, dead or alive, until this is dropped.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// The process with this number. Only of this process and of children that nobody has reaped is it sure that the number is
    /// not somebody else's by now.
    pub(crate) fn open(process: nix::unistd::Pid) -> io::Result<Pidfd> {
        // SAFETY: two numbers; the descriptor is new, CLOEXEC and ours.
        unsafe {
            let descriptor = Errno::result(libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0))?;
            Ok(Pidfd(OwnedFd::from_raw_fd(descriptor as i32)))
        }
    }

    /// Sends a signal; a process that has ended takes none and that is fine.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: numbers, and null instead of a siginfo.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, 0usize, 0) };
        match Errno::result(sent) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until the process has ended; false if it had not at `deadline`. It is not reaped.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<bool> {
        wait_readable(self.as_fd(), deadline)
    }

    /// Reaps the process, a child, if it has ended.
    pub(crate) fn reap(&self) -> Option<ExitStatus> {
        // SAFETY: a siginfo of zeros is one; the kernel fills it in before it is read.
        let (ended, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let fd = self.0.as_raw_fd() as libc::id_t;
            let ended = libc::waitid(libc::P_PIDFD, fd, &mut info, libc::WEXITED | libc::WNOHANG);
            (Errno::result(ended), info)
        };
        // SAFETY: waitid fills in these fields, and leaves zero where nothing ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        match ended {
            Ok(_) if pid == 0 => None,
            Ok(_) if info.si_code == libc::CLD_EXITED => Some(ExitStatus::exited(status)),
            Ok(_) => Some(ExitStatus::killed(status)),
            Err(_) => Some(ExitStatus::UNKNOWN),
        }
    }
}

/// Waits until there is something to be read, if only the end; false if there was not at `deadline`.
pub(crate) fn wait_readable(descriptor: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    loop {
        let time = deadline.remaining().map(TimeSpec::from);
        match ppoll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], time, None) {
            Ok(0) if deadline.has_passed() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => (),
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(descriptor: OwnedFd) -> Pidfd {
        Pidfd(descriptor)
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> OwnedFd {
        pidfd.0
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

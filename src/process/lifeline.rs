//! Daemons die with their parent, at whatever instruction that is killed.
//!
//! The parent keeps the writing end of a pipe that nobody ever writes to. Each daemon opens its reading end anew
//! and has the kernel send it SIGKILL when something happens there: the end of the last writer. The kernel closes that
//! with the parent's other descriptors, so no thread watches, and a daemon that is stopped dies too. (PR_SET_PDEATHSIG
//! means the thread that spawned, not its process.)
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use ipc_sync::forks;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use parking_lot::Mutex;

/// fcntl(2): which signal to send instead of SIGIO; libc lacks it.
const F_SETSIG: i32 = 10;

/// The pipe of this process, whose daemons read from it.
struct Line {
    reading: Arc<OwnedFd>,
    _writing: OwnedFd,
    /// A copy of this process by fork needs a line of its own.
    forks: u32,
}

static LINE: Mutex<Option<Line>> = Mutex::new(None);

/// What a daemon of this process is given.
pub(crate) fn reading_end() -> io::Result<Arc<OwnedFd>> {
    let mut line = LINE.lock();
    if let Some(line) = line.as_ref().filter(|line| line.forks == forks()) {
        return Ok(line.reading.clone());
    }
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    let new = Line { reading: Arc::new(reading), _writing: writing, forks: forks() };
    Ok(line.insert(new).reading.clone())
}

/// In a forked child: its parent's daemons do not hang on it.
pub(crate) fn let_go() {
    LINE.lock().take();
}

/// In a daemon: has the kernel kill this process as soon as its parent is gone, from here on until it ends.
pub(crate) fn hold(line: &OwnedFd) -> io::Result<()> {
    let own = open_anew(line)?;
    let flags = OFlag::O_ASYNC | OFlag::O_NONBLOCK;
    // SAFETY: fcntl with numbers, on a descriptor of ours.
    unsafe {
        Errno::result(libc::fcntl(own.as_raw_fd(), F_SETSIG, libc::SIGKILL))?;
        Errno::result(libc::fcntl(own.as_raw_fd(), libc::F_SETOWN, libc::getpid()))?;
        Errno::result(libc::fcntl(own.as_raw_fd(), libc::F_SETFL, flags.bits()))?;
    }
    let mut look = [PollFd::new(own.as_fd(), PollFlags::POLLIN)];
    if poll(&mut look, PollTimeout::ZERO)? > 0 {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the parent is gone"));
    }
    mem::forget(own); // until this process ends
    Ok(())
}

/// Another open file of the same pipe: signal and owner belong to an open file, and all daemons share the one they got.
fn open_anew(line: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", line.as_raw_fd());
    Ok(open(path.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?)
}

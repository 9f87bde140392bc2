//! Children that are copies: of this process, or of a fork server, which makes them our children all the same.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::exit;
use std::sync::atomic::AtomicU32;

use ipc_pipe::{Connection, Parts};
use ipc_sync::Copies;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, fchdir};

use super::builder::{Builder, Stdio, Stream};
use super::exec::{hold, is_inherited, null};
use super::pidfd::Pidfd;
use super::{entry, lifeline};

/// What a copied child is given besides its connection; taken from a `Builder` or from a request.
pub(crate) struct Surroundings {
    /// What becomes of the standard streams; `None` = as they are.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// Where it works; `None` = as it is.
    pub(crate) directory: Option<OwnedFd>,
    /// `None` = as it is.
    pub(crate) environment: Option<BTreeMap<OsString, OsString>>,
}

impl Surroundings {
    /// For a copy of this process: what changes.
    fn changes(builder: &Builder) -> io::Result<Surroundings> {
        let environment = builder.changes_environment().then(|| builder.environment());
        Ok(Surroundings { streams: streams(builder)?, directory: None, environment })
    }

    /// For a copy of another process: all that this one has at the moment, and what changes.
    pub(crate) fn all(builder: &Builder) -> io::Result<Surroundings> {
        let mut streams = streams(builder)?;
        for (stream, number) in streams.iter_mut().zip(0..).filter(|(stream, _)| stream.is_none()) {
            *stream = Some(own_stream(number)?);
        }
        let directory = Some(working_directory()?);
        Ok(Surroundings { streams, directory, environment: Some(builder.environment()) })
    }
}

fn streams(builder: &Builder) -> io::Result<[Option<OwnedFd>; 3]> {
    let [input, output, error] = &builder.streams;
    Ok([stream(input, true)?, stream(output, false)?, stream(error, false)?])
}

fn stream(stream: &Stdio, is_input: bool) -> io::Result<Option<OwnedFd>> {
    match &stream.0 {
        Stream::Usual if is_input => Ok(Some(null()?.into())),
        Stream::Null => Ok(Some(null()?.into())),
        Stream::Usual | Stream::Inherit => Ok(None),
        Stream::Descriptor(descriptor) => Ok(Some(descriptor.try_clone()?)),
    }
}

/// What an executable started anew would find there.
fn own_stream(number: i32) -> io::Result<OwnedFd> {
    if !is_inherited(number) {
        return Ok(null()?.into());
    }
    // SAFETY: it is open. Should another thread close it meanwhile, the kernel answers EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

/// Good for going there, whoever may read it, and even if its name is gone.
fn working_directory() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(".", flags, Mode::empty()).map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("the working directory cannot be opened: {error}"))
    })
}

/// Copies this process; the copy runs what it finds behind `parts` and never returns.
pub(crate) fn start(builder: &Builder, parts: &Parts) -> io::Result<(u32, Pidfd)> {
    if fs::read_dir("/proc/self/task")?.count() > 1 {
        return Err(io::Error::other("a process cannot be forked while other threads run"));
    }
    let surroundings = Surroundings::changes(builder)?;
    let parts =
        Parts { socket: parts.socket.try_clone()?, segment: parts.segment.try_clone()?, side: parts.side };
    // SAFETY: no other thread runs, so nothing is in the middle of anything; see also `StartMethod::fork`.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => live(parts, surroundings),
        ForkResult::Parent { child } => {
            drop(parts);
            Ok((child.as_raw() as u32, hold(child)?))
        }
    }
}

/// The life of a copied child.
pub(crate) fn live(parts: Parts, surroundings: Surroundings) -> ! {
    let connected =
        settle(surroundings).and_then(|()| Connection::from_parts(parts).map_err(io::Error::other));
    exit(match connected {
        Ok(parent) => entry::run(Box::leak(Box::new(parent))),
        Err(error) => {
            eprintln!("multiprocess: this process was forked as a child and cannot be one: {error}");
            1
        }
    })
}

fn settle(surroundings: Surroundings) -> io::Result<()> {
    lifeline::let_go();
    for (stream, target) in surroundings.streams.iter().zip(0..) {
        if let Some(stream) = stream {
            // SAFETY: two numbers; the standard streams belong to the process, which is nobody else's by now.
            Errno::result(unsafe { libc::dup2(stream.as_raw_fd(), target) })?;
        }
    }
    if let Some(directory) = surroundings.directory {
        fchdir(directory)?;
    }
    if let Some(environment) = surroundings.environment {
        set_environment(environment);
    }
    Ok(())
}

/// Replaces the environment of this process, which has one thread.
pub(crate) fn set_environment(environment: BTreeMap<OsString, OsString>) {
    for (key, _) in std::env::vars_os() {
        // SAFETY: nobody else reads the environment.
        unsafe { std::env::remove_var(key) };
    }
    for (key, value) in environment {
        // SAFETY: as above.
        unsafe { std::env::set_var(key, value) };
    }
}

/// Copies this process, which has one thread; the copy is a child of this process's parent, as if that had forked it.
///
/// glibc's `fork` knows no CLONE_PARENT. What it does besides for a process with one thread is done here: the robust
/// list is registered again, and glibc's own idea of the thread's number is corrected.
///
/// The kernel writes the copy's number to `note` within the system call that makes the copy: who is killed at whatever
/// instruction has noted it or has made none.
pub(crate) fn fork_for_parent(note: &AtomicU32, copies: &Copies) -> io::Result<Option<Pid>> {
    let (list, birth) = (RobustList::of_this_thread(), copies.begin());
    let (flags, number) = match list.thread_number() {
        Some(at) => (libc::CLONE_CHILD_SETTID, at),
        None => (0, std::ptr::null_mut()),
    };
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::SIGCHLD | flags;
    // SAFETY: as fork: without CLONE_VM the child has memory of its own and goes on with this stack. The kernel writes
    // the child's number to `note`, and to where glibc keeps it, in the child's memory.
    let child = Errno::result(unsafe {
        libc::syscall(libc::SYS_clone, flags, 0usize, note.as_ptr(), number, 0usize)
    })?;
    if child != 0 {
        return Ok(Some(Pid::from_raw(child as i32)));
    }
    list.register();
    birth.forked();
    Ok(None)
}

/// The kernel's robust list of this thread, as glibc registered it.
struct RobustList {
    head: *mut u8,
    size: usize,
}

impl RobustList {
    fn of_this_thread() -> RobustList {
        let mut list = RobustList { head: std::ptr::null_mut(), size: 0 };
        // SAFETY: writes a pointer and a size into this frame; 0 = the calling thread.
        let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut list.head, &mut list.size) };
        if result != 0 {
            list.head = std::ptr::null_mut();
        }
        list
    }

    /// A copy of a process has no list.
    fn register(&self) {
        if !self.head.is_null() {
            // SAFETY: the head that glibc had registered for this thread, which is the only one in the copy.
            unsafe { libc::syscall(libc::SYS_set_robust_list, self.head, self.size) };
        }
    }

    /// Where glibc keeps the number of this thread: 16 bytes before the list, if it is the one we know.
    fn thread_number(&self) -> Option<*mut i32> {
        if self.head.is_null() {
            return None;
        }
        let at = self.head.wrapping_sub(16).cast::<i32>();
        // SAFETY: the list's head lies in the thread's control block, behind other fields of it.
        let found = unsafe { at.read_volatile() };
        // SAFETY: takes nothing and cannot fail.
        (found == unsafe { libc::gettid() }).then_some(at)
    }
}

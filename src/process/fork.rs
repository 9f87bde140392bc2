//! Children that are copies: of this process, or of a fork server, which makes them our children all the same.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::exit;

use ipc_pipe::{Connection, Parts};
use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid};

use super::builder::{Builder, Stdio, Stream};
use super::exec::{hold, null};
use super::pidfd::Pidfd;
use super::{entry, lifeline};

/// What a copied child is given besides its connection; taken from a `Builder` or from a request.
pub(crate) struct Surroundings {
    /// What becomes of the standard streams; `None` = as they are.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// `None` = as it is.
    pub(crate) environment: Option<BTreeMap<OsString, OsString>>,
}

impl Surroundings {
    pub(crate) fn new(
        builder: &Builder,
        environment: Option<BTreeMap<OsString, OsString>>,
    ) -> io::Result<Surroundings> {
        let [input, output, error] = &builder.streams;
        Ok(Surroundings {
            streams: [stream(input, true)?, stream(output, false)?, stream(error, false)?],
            environment,
        })
    }
}

fn stream(stream: &Stdio, is_input: bool) -> io::Result<Option<OwnedFd>> {
    match &stream.0 {
        Stream::Usual if is_input => Ok(Some(null()?.into())),
        Stream::Null => Ok(Some(null()?.into())),
        Stream::Usual | Stream::Inherit => Ok(None),
        Stream::Descriptor(descriptor) => Ok(Some(descriptor.try_clone()?)),
    }
}

/// Copies this process; the copy runs what it finds behind `parts` and never returns.
pub(crate) fn start(builder: &Builder, parts: &Parts) -> io::Result<(u32, Pidfd)> {
    if fs::read_dir("/proc/self/task")?.count() > 1 {
        return Err(io::Error::other("a process cannot be forked while other threads run"));
    }
    let environment = builder.changes_environment().then(|| builder.environment());
    let surroundings = Surroundings::new(builder, environment)?;
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
pub(crate) fn fork_for_parent() -> io::Result<Option<Pid>> {
    let list = RobustList::of_this_thread();
    let (flags, number) = match list.thread_number() {
        Some(at) => (libc::CLONE_CHILD_SETTID, at),
        None => (0, std::ptr::null_mut()),
    };
    let flags = libc::CLONE_PARENT | libc::SIGCHLD | flags;
    // SAFETY: as fork: without CLONE_VM the child has memory of its own and goes on with this stack. The kernel writes
    // the child's number to where glibc keeps it, in the child's memory.
    let child =
        Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, number, 0usize) })?;
    if child != 0 {
        return Ok(Some(Pid::from_raw(child as i32)));
    }
    list.register();
    ipc_sync::forked();
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

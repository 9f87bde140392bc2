//! The executable, started anew: with three descriptors, a clean signal state and nothing else.
//!
//! `posix_spawn` does not copy this process (glibc's is a vfork), so its size and its threads do not matter. What a
//! child is born with stands at fixed places:
//!
//! ```text
//! 0 1 2  standard streams
//! 3      socket of its connection to the parent
//! 4      segment of that connection
//! 5      registry of processes of the family
//! ```
//!
//! and one variable of its environment says so. Descriptors of this process without CLOEXEC come along for a moment;
//! the child closes everything above its own first of all.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use ipc_pipe::Parts;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::builder::{Builder, Stdio, Stream};
use super::image::Identity;
use super::pidfd::Pidfd;

/// The variable that makes a process a child: `1:3,4,5:SIDE`, which is the version of this agreement, the three
/// descriptors, and which side of the connection it is.
pub(crate) const VARIABLE: &str = "MULTIPROCESS_CHILD";

/// What the variable begins with.
pub(crate) const AGREEMENT: &str = "1:3,4,5:";

/// Where the child finds its descriptors.
pub(crate) const SOCKET: i32 = 3;
pub(crate) const SEGMENT: i32 = 4;
pub(crate) const REGISTRY: i32 = 5;

/// Above every place that a child's descriptors are put to.
const ABOVE: i32 = 10;

/// Starts the child `name`, which will look for its instructions behind `parts`.
pub(crate) fn start(
    builder: &Builder,
    name: &str,
    parts: &Parts,
    registry: BorrowedFd<'_>,
) -> io::Result<(u32, Pidfd)> {
    let mut plan = Plan::new()?;
    for (stream, target) in builder.streams.iter().zip(0..) {
        plan.stream(stream, target)?;
    }
    plan.pass(parts.socket.as_fd(), SOCKET)?;
    plan.pass(parts.segment.as_fd(), SEGMENT)?;
    plan.pass(registry, REGISTRY)?;

    let program = program()?;
    let argument =
        std::env::args_os().next().map_or(Ok(program.clone()), |own| CString::new(own.into_vec()))?;
    let environment = environment(builder, parts.side)?;
    let child = posix_spawn(
        program.as_c_str(),
        &plan.actions,
        &clean_signals()?,
        &[argument, CString::new(name)?],
        &environment,
    )?;
    Ok((child.as_raw() as u32, hold(child)?))
}

/// What becomes of which descriptor. Sources are copies above all targets, so that no target overwrites a source.
struct Plan {
    actions: PosixSpawnFileActions,
    copies: Vec<OwnedFd>,
}

impl Plan {
    fn new() -> io::Result<Plan> {
        Ok(Plan { actions: PosixSpawnFileActions::init()?, copies: Vec::new() })
    }

    fn pass(&mut self, source: BorrowedFd<'_>, target: i32) -> io::Result<()> {
        let copy = fcntl(source, FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
        // SAFETY: fcntl just made it, and nobody else knows of it.
        self.copies.push(unsafe { OwnedFd::from_raw_fd(copy) });
        Ok(self.actions.add_dup2(copy, target)?)
    }

    fn stream(&mut self, stream: &Stdio, target: i32) -> io::Result<()> {
        match &stream.0 {
            Stream::Usual if target == 0 => self.null(target),
            Stream::Null => self.null(target),
            Stream::Usual | Stream::Inherit if is_inherited(target) => Ok(()),
            Stream::Usual | Stream::Inherit => self.null(target),
            Stream::Descriptor(source) => self.pass(source.as_fd(), target),
        }
    }

    fn null(&mut self, target: i32) -> io::Result<()> {
        self.pass(null()?.as_fd(), target)
    }
}

/// Input from nowhere, output to nowhere.
pub(crate) fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Whether a standard stream of this process is one: it may be closed, or its number taken by something else.
pub(crate) fn is_inherited(stream: i32) -> bool {
    // SAFETY: fcntl answers EBADF for a number that is no descriptor.
    let flags = fcntl(unsafe { BorrowedFd::borrow_raw(stream) }, FcntlArg::F_GETFD);
    flags.is_ok_and(|flags| !FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC))
}

/// No signal blocked, none ignored.
fn clean_signals() -> io::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    Ok(attributes)
}

/// The file that this process runs: by its path, which `ps` shows, as long as that still leads to it. A deleted or
/// replaced one is reached through /proc, where the new process finds itself in our place.
fn program() -> io::Result<CString> {
    let own = Identity::own()?;
    let path = std::env::current_exe().ok();
    let path = path.filter(|path| Identity::of(path).is_ok_and(|file| file == own));
    let path = path.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    Ok(CString::new(path.into_os_string().into_vec())?)
}

fn environment(builder: &Builder, side: u32) -> io::Result<Vec<CString>> {
    let mut variables = builder.environment();
    variables.insert(VARIABLE.into(), format!("{AGREEMENT}{side}").into());
    variables.iter().map(|(key, value)| variable(key, value)).collect()
}

pub(crate) fn variable(key: &OsStr, value: &OsStr) -> io::Result<CString> {
    // A '=' may come first: some shells hide variables that way.
    if key.is_empty() || key.as_bytes()[1..].contains(&b'=') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an environment variable cannot have that name",
        ));
    }
    Ok(CString::new([key.as_bytes(), b"=", value.as_bytes()].concat())?)
}

/// Holds a child that was just started. Without a descriptor for that it is not kept at all.
pub(crate) fn hold(child: Pid) -> io::Result<Pidfd> {
    Pidfd::open(child).inspect_err(|_| {
        // Nobody has reaped it, so the number is still its own.
        let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
        while nix::sys::wait::waitpid(child, None) == Err(Errno::EINTR) {}
    })
}

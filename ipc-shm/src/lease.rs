//! Files behind names: they appear only complete, and the kernel knows whether anybody uses them.
//!
//! A file is made without a name, filled, leased and only then linked: nobody meets it half made, and a death
//! on the way leaves nothing. A lease is a shared flock on the open file description behind a mapping. It is
//! inherited by a forked child, travels with the descriptor, and ends when the last of them all is gone, also by
//! SIGKILL. Files of ours carry the sticky bit, which means nothing on a file: others are left alone, because
//! those who use them take no leases.
//!
//! Whoever wants to know whether a marked name is stale opens it afresh (an own description would upgrade its
//! own lease and find nobody) and takes two locks without waiting:
//!
//! ```text
//!                         lease: flock          gate: OFD lock on byte 0
//! user                    shared                -
//! examiner                exclusive, if free    exclusive
//!
//! gate refused            another examiner is at work, for microseconds: yield and look again
//! gate, lease refused     in use: nobody but a user can stand in the way
//! gate, lease granted     stale: the name may be removed before either is let go
//! ```
//!
//! A user who was refused its lease has met an examiner, and looks again at what the name leads to now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, AtFlags, FcntlArg, FlockArg, OFlag, fcntl, posix_fallocate};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, lstat};
use nix::unistd::{geteuid, linkat, unlink};

use crate::error::{CreateError, OpenError};
use crate::name::{DIRECTORY, Name};

/// The owner reads and writes, nobody else does anything.
const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Marks a file of ours.
const MARK: Mode = Mode::S_ISVTX;

/// Neither a symbolic link nor a FIFO put in the place of a segment does any harm.
const OPEN: OFlag = OFlag::O_RDWR.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK);

/// How long an examiner is waited for. It needs microseconds, unless it was stopped.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often one looks at least before patience runs out.
const LOOKS: u32 = 20;

/// How often a creator that meets one stale file after another tries again.
const ROUNDS: usize = 1000;

/// Which file a descriptor or a name leads to: device and inode.
pub(crate) type Inode = (u64, u64);

pub(crate) fn inode(status: &FileStat) -> Inode {
    (status.st_dev, status.st_ino)
}

/// Checks a size before the kernel does.
pub(crate) fn check_size(size: usize) -> Result<(), CreateError> {
    match size {
        0 => Err(CreateError::ZeroSize),
        _ if isize::try_from(size).is_err() => Err(CreateError::TooLarge { size }),
        _ => Ok(()),
    }
}

/// A new file that has no name yet, leased, with `size` zero bytes that are really there.
pub(crate) fn make(size: usize, marked: bool) -> Result<(OwnedFd, FileStat), CreateError> {
    check_size(size)?;
    let mode = if marked { PRIVATE | MARK } else { PRIVATE };
    let file = fcntl::open(DIRECTORY, OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, mode)?;
    allocate(&file, size)?;
    let status = fstat(&file)?;
    if status.st_mode & 0o7777 != mode.bits() {
        fchmod(&file, mode)?; // the umask took something away
    }
    try_flock(&file, FlockArg::LockSharedNonblock)?; // nobody else has this file: granted
    Ok((file, status))
}

/// Reserves the memory now: a full /dev/shm is an error here and a SIGBUS later.
fn allocate(file: &OwnedFd, size: usize) -> Result<(), CreateError> {
    loop {
        match posix_fallocate(file, 0, size as libc::off_t) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EFBIG) => return Err(CreateError::TooLarge { size }),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Gives a file of [`make`] its name; false if the name is taken.
pub(crate) fn link(file: &OwnedFd, name: &Name) -> Result<bool, CreateError> {
    let linked = match linkat(file, c"", AT_FDCWD, name.path(), AtFlags::AT_EMPTY_PATH) {
        Err(Errno::ENOENT) => link_by_path(file, name),
        result => result,
    };
    match linked {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Before Linux 6.10 only root may link a bare descriptor; by its path anybody may.
#[cold]
fn link_by_path(file: &OwnedFd, name: &Name) -> nix::Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, source.as_str(), AT_FDCWD, name.path(), AtFlags::AT_SYMLINK_FOLLOW)
}

/// Gives a file of [`make`] its name, and takes the name over if it is stale.
pub(crate) fn publish(file: &OwnedFd, name: &Name) -> Result<(), CreateError> {
    for _ in 0..ROUNDS {
        if link(file, name)? {
            return Ok(());
        }
        if !take_over(name)? {
            break;
        }
    }
    Err(CreateError::AlreadyExists)
}

/// What a user found behind a name.
pub(crate) enum Found {
    /// A file, leased if it is one of ours, and what it is.
    File(OwnedFd, FileStat),
    /// Nothing.
    Nothing,
    /// A file that an examiner held for too long.
    Held,
}

/// The file behind a name.
pub(crate) fn open(name: &Name) -> Result<Found, OpenError> {
    let mut patience = Patience::default();
    loop {
        // A look before opening: to open a FIFO or a device may wake or reset somebody.
        let Some(seen) = look(name)? else { return Ok(Found::Nothing) };
        check(&seen)?;
        if let Some((file, status)) = open_as_seen(name, &seen)? {
            check(&status)?;
            return Ok(Found::File(file, status));
        }
        if !patience.wait() {
            return Ok(Found::Held);
        }
    }
}

/// `None` when the name changed meanwhile, or an examiner holds the file.
fn open_as_seen(name: &Name, seen: &FileStat) -> Result<Option<(OwnedFd, FileStat)>, OpenError> {
    let Some(file) = open_fresh(name)? else { return Ok(None) };
    if is_marked(seen) && !try_flock(&file, FlockArg::LockSharedNonblock)? {
        return Ok(None);
    }
    // A leased file is not removed by any examiner: if it has a name now, it keeps it.
    let status = fstat(&file)?;
    let as_seen = inode(&status) == inode(seen) && status.st_nlink > 0;
    Ok(as_seen.then_some((file, status)))
}

/// What the name leads to, a link not followed.
fn look(name: &Name) -> Result<Option<FileStat>, OpenError> {
    match lstat(name.path()) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::ENOENT) if lstat(DIRECTORY).is_ok() => Ok(None),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(OpenError::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a file may be mapped: regular, this user's alone, and not reached by a second name.
#[allow(clippy::unnecessary_cast)] // a link count has 32 bits on aarch64
pub(crate) fn check(status: &FileStat) -> Result<(), OpenError> {
    let what = match SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => "",
        SFlag::S_IFLNK => return Err(OpenError::Symlink),
        SFlag::S_IFDIR => "directory",
        SFlag::S_IFIFO => "fifo",
        SFlag::S_IFSOCK => "socket",
        _ => "device",
    };
    match status {
        _ if !what.is_empty() => Err(OpenError::NotAFile { what }),
        _ if status.st_uid != geteuid().as_raw() => Err(OpenError::OtherOwner { uid: status.st_uid }),
        _ if status.st_mode & 0o022 != 0 => {
            Err(OpenError::WritableByOthers { mode: status.st_mode & 0o7777 })
        }
        _ if status.st_nlink > 1 => Err(OpenError::HardLinked { links: status.st_nlink as u64 }),
        _ if status.st_size == 0 => Err(OpenError::Empty),
        _ => Ok(()),
    }
}

fn is_marked(status: &FileStat) -> bool {
    Mode::from_bits_truncate(status.st_mode).contains(MARK)
}

/// What an examiner found behind a name.
pub(crate) enum Verdict {
    /// Nothing.
    Free,
    /// A file that nobody uses, and nobody can begin to use as long as the descriptor is open.
    Stale {
        /// The examiner's locks.
        held: OwnedFd,
        /// What may be removed.
        inode: Inode,
    },
    /// A file that is used, or was under examination for too long.
    InUse,
    /// A file this toolkit did not make, or gave up: nobody knows who uses it.
    Unmarked,
}

/// Finds out whether anybody uses a name.
pub(crate) fn examine(name: &Name) -> io::Result<Verdict> {
    let mut patience = Patience::default();
    loop {
        match lstat(name.path()) {
            Err(Errno::ENOENT) => return Ok(Verdict::Free),
            Err(errno) => return Err(errno.into()),
            Ok(seen) if check(&seen).is_err() || !is_marked(&seen) => return Ok(Verdict::Unmarked),
            Ok(_) => {}
        }
        if let Some(verdict) = examine_file(name)? {
            return Ok(verdict);
        }
        if !patience.wait() {
            return Ok(Verdict::InUse);
        }
    }
}

/// `None` when the name changed meanwhile, or another examiner holds the file.
fn examine_file(name: &Name) -> io::Result<Option<Verdict>> {
    let Some(file) = open_fresh(name)? else { return Ok(None) };
    if !try_gate(&file)? {
        return Ok(None);
    }
    let unused = try_flock(&file, FlockArg::LockExclusiveNonblock)?;
    let status = fstat(&file)?;
    Ok(match status {
        _ if status.st_nlink == 0 => None,
        _ if check(&status).is_err() || !is_marked(&status) => Some(Verdict::Unmarked),
        _ if unused => Some(Verdict::Stale { inode: inode(&status), held: file }),
        _ => Some(Verdict::InUse),
    })
}

/// Removes the name if nobody uses it; true when it is free now.
pub(crate) fn take_over(name: &Name) -> io::Result<bool> {
    match examine(name)? {
        Verdict::Free => Ok(true),
        Verdict::Stale { held: _held, inode } => remove(name, inode).map(|_| true),
        Verdict::InUse | Verdict::Unmarked => Ok(false),
    }
}

/// Removes the name if nobody uses it; true when this call did it.
pub(crate) fn remove_stale(name: &Name) -> io::Result<bool> {
    match examine(name)? {
        Verdict::Stale { held: _held, inode } => remove(name, inode),
        _ => Ok(false),
    }
}

/// Removes the name if it still leads to this file; false if it does not.
pub(crate) fn remove(name: &Name, file: Inode) -> io::Result<bool> {
    remove_if(name, |status| inode(status) == file)
}

/// Removes the name if it still leads to this file and the file is still marked; false if not.
pub(crate) fn remove_marked(name: &Name, file: Inode) -> io::Result<bool> {
    remove_if(name, |status| inode(status) == file && is_marked(status))
}

fn remove_if(name: &Name, condition: impl Fn(&FileStat) -> bool) -> io::Result<bool> {
    match lstat(name.path()) {
        Ok(status) if condition(&status) => {}
        Ok(_) | Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    match unlink(name.path()) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes the mark away: from now on the file is nobody's to sweep.
pub(crate) fn unmark(file: impl AsFd) -> io::Result<()> {
    Ok(fchmod(file, PRIVATE)?)
}

/// Removes its name on drop if nobody uses it any more; dropped after the lease of the same process.
#[derive(Debug)]
pub(crate) struct LastUser {
    pub(crate) name: Name,
    pub(crate) inode: Inode,
}

impl Drop for LastUser {
    fn drop(&mut self) {
        if let Ok(Verdict::Stale { held: _held, .. }) = examine(&self.name) {
            let _ = remove(&self.name, self.inode); // if this fails the name is stale, and is swept one day
        }
    }
}

fn open_fresh(name: &Name) -> nix::Result<Option<OwnedFd>> {
    match fcntl::open(name.path(), OPEN, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// False when the lock is refused. The lock goes with the description, not with the descriptor.
#[allow(deprecated)] // nix's `Flock` unlocks on drop: it would end the lease of all who share the description
fn try_flock(file: &OwnedFd, operation: FlockArg) -> nix::Result<bool> {
    granted(fcntl::flock(file.as_raw_fd(), operation))
}

/// False when another examiner is at work.
fn try_gate(file: &OwnedFd) -> nix::Result<bool> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    granted(fcntl(file, FcntlArg::F_OFD_SETLK(&whole)).map(drop))
}

fn granted(outcome: nix::Result<()>) -> nix::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Yields until somebody else's short section is over, or took too long.
#[derive(Default)]
struct Patience {
    until: Option<Instant>,
    looks: u32,
}

impl Patience {
    /// False when it has run out.
    #[cold]
    fn wait(&mut self) -> bool {
        thread::yield_now();
        let now = Instant::now();
        self.looks += 1;
        // A busy machine may take all the time away between two looks.
        now < *self.until.get_or_insert(now + PATIENCE) || self.looks < LOOKS
    }
}

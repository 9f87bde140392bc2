//! A bound socket, and the file and the directory that are removed with it.
//!
//! The file appears under its name when it listens and has its mode, not before: it is made under a name that nobody knows, and
//! linked. In a directory that we made for it nobody else can look meanwhile, so there it is made where it stays.
//!
//! A file that is there already is a living listener's, a dead one's, or something else. Only a dead one's is replaced, under
//! a lock of the directory: of two who find it dead at once the second would replace the first. Whoever holds that lock for no
//! reason, in a directory that is everybody's, costs us a second and not more.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_shm::random_id;
use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, listen,
    setsockopt, socket, sockopt,
};

use crate::address::Address;
use crate::ancillary;
use crate::stream::tune;

/// Strangers, who know nothing of the lock, may take the name between our looks at it, but not for ever.
const TRIES: usize = 100;

/// How long we wait for the lock of a directory.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket of a listener.
#[derive(Debug)]
pub(crate) enum Door {
    Local(UnixListener),
    Tcp(TcpListener),
}

impl Door {
    /// A client, without blocking.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        match self {
            Door::Local(listener) => listener.accept().map(|(stream, _)| stream.into()),
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                tune(&stream)?;
                Ok(stream.into())
            }
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Local(listener) => listener.as_fd(),
            Door::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A listening socket at its address.
///
/// Fields are dropped in this order: whoever finds the file must find somebody behind it.
#[derive(Debug)]
pub(crate) struct Site {
    _file: Option<File>,
    _directory: Option<Directory>,
    pub(crate) door: Door,
    pub(crate) address: Address,
}

impl Site {
    /// Listens at `address`, with room for `backlog` clients that wait to be accepted.
    pub(crate) fn new(address: &Address, backlog: i32) -> io::Result<Site> {
        address.check().map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let backlog = Backlog::new(backlog.max(1)).unwrap_or(Backlog::MAXCONN);
        match address {
            Address::Unix(path) => Site::at(path, backlog),
            Address::Abstract(name) => {
                let door = local(&UnixAddr::new_abstract(name)?, backlog)?;
                Ok(Site { _file: None, _directory: None, door, address: address.clone() })
            }
            Address::Tcp(place) => {
                let (door, address) = tcp(place, backlog)?;
                Ok(Site { _file: None, _directory: None, door, address })
            }
        }
    }

    fn at(path: &Path, backlog: Backlog) -> io::Result<Site> {
        let directory = Directory::new(folder(path))?;
        let (door, file) = match directory {
            Some(_) => {
                let door = local(&UnixAddr::new(path)?, backlog)?;
                (door, File::new(path)?)
            }
            None => settle(path, backlog)?,
        };
        Ok(Site { _file: Some(file), _directory: directory, door, address: Address::Unix(path.into()) })
    }
}

/// Listens under another name, and then gives the file its own.
fn settle(path: &Path, backlog: Backlog) -> io::Result<(Door, File)> {
    let hidden = beside(path)?;
    let door = local(&UnixAddr::new(&hidden)?, backlog)?;
    let hidden = File::new(&hidden)?;
    let _turn = take_turn(folder(path));
    for _ in 0..TRIES {
        let named = match is_dead(path)? {
            Some(false) => return Err(ErrorKind::AddrInUse.into()),
            Some(true) => fs::rename(&hidden.path, path),
            None => fs::hard_link(&hidden.path, path),
        };
        match named {
            Ok(()) => return Ok((door, hidden.at(path))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// The lock of a directory, if it can be had in time.
fn take_turn(folder: &Path) -> Option<Flock<fs::File>> {
    let mut file = fs::File::open(folder).ok()?;
    let deadline = Deadline::after(PATIENCE);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err(_) if deadline.has_passed() => return None,
            Err((unlocked, _)) => file = unlocked,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether nobody listens at the socket file; `None` = there is no file.
fn is_dead(path: &Path) -> io::Result<Option<bool>> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = format!("{} is there and is not a socket", path.display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match knock(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(Some(true)),
        _ => Ok(Some(false)), // somebody does, or nobody can tell
    }
}

/// Connects, if that can be done at once.
fn knock(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket.into())
}

/// Where its file is.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new name in the same directory.
fn beside(path: &Path) -> io::Result<PathBuf> {
    Ok(folder(path).join(format!(".{:016x}", random_id()? as u64)))
}

fn local(address: &UnixAddr, backlog: Backlog) -> io::Result<Door> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    ancillary::refuse(socket.as_fd());
    bind(socket.as_raw_fd(), address)?;
    if let Some(path) = address.path() {
        // Before it listens: until then nobody gets in, whatever the umask was.
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .inspect_err(|_| drop(fs::remove_file(path)))?;
    }
    listen(&socket, backlog)?;
    Ok(Door::Local(socket.into()))
}

fn tcp(place: &str, backlog: Backlog) -> io::Result<(Door, Address)> {
    let mut refused = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in place.to_socket_addrs()? {
        match tcp_at(&address.into(), backlog) {
            Ok(listener) => {
                let address = Address::Tcp(listener.local_addr()?.to_string());
                return Ok((Door::Tcp(listener), address));
            }
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

fn tcp_at(address: &SockaddrStorage, backlog: Backlog) -> Result<TcpListener, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = address.family().ok_or(Errno::EAFNOSUPPORT)?;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // The connections of an earlier listener do not keep its port from us.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), address)?;
    listen(&socket, backlog)?;
    Ok(socket.into())
}

/// A socket file of ours; a forked child's copy leaves it alone.
#[derive(Debug)]
struct File {
    path: PathBuf,
    inode: (u64, u64),
    process: u32,
}

impl File {
    fn new(path: &Path) -> io::Result<File> {
        let found = path.symlink_metadata()?;
        Ok(File { path: path.into(), inode: (found.dev(), found.ino()), process: std::process::id() })
    }

    /// The same under another name; this one is removed.
    fn at(self, path: &Path) -> File {
        File { path: path.into(), inode: self.inode, process: self.process }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let is_ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.inode;
        if self.process == std::process::id() && self.path.symlink_metadata().is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A directory that we made, for one socket.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    process: u32,
}

impl Directory {
    /// Makes it; `None` = it was there.
    fn new(path: &Path) -> io::Result<Option<Directory>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            made => made?,
        }
        let directory = Directory { path: path.into(), process: std::process::id() };
        fs::set_permissions(path, Permissions::from_mode(0o700))?; // whatever the umask is
        Ok(Some(directory))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

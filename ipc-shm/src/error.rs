//! What can go wrong when a named segment is made or opened.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::header::HeaderError;
use crate::name::InvalidName;

const UNSUPPORTED: &str = "there is no tmpfs at /dev/shm for named segments";

/// Why a segment was not made. Nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is not a name.
    Name(InvalidName),
    /// A segment of no bytes cannot be mapped.
    ZeroSize,
    /// More bytes than an address space or a file has room for.
    TooLarge {
        /// Bytes asked for.
        size: usize,
    },
    /// The name is in use, or belongs to a file this toolkit did not make and will not touch.
    AlreadyExists,
    /// /dev/shm is full. It would have been a SIGBUS later.
    NoSpace,
    /// There is no usable /dev/shm here. Anonymous segments work without.
    Unsupported,
    /// The kernel refused for another reason: too many descriptors, no memory.
    Io(io::Error),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Name(error) => error.fmt(f),
            CreateError::ZeroSize => f.write_str("a segment cannot have zero bytes"),
            CreateError::TooLarge { size } => write!(f, "a segment cannot have {size} bytes"),
            CreateError::AlreadyExists => f.write_str("a segment of this name exists"),
            CreateError::NoSpace => f.write_str("no space left in /dev/shm"),
            CreateError::Unsupported => f.write_str(UNSUPPORTED),
            CreateError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CreateError::Name(error) => Some(error),
            CreateError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<InvalidName> for CreateError {
    fn from(error: InvalidName) -> Self {
        CreateError::Name(error)
    }
}

impl From<io::Error> for CreateError {
    fn from(error: io::Error) -> Self {
        CreateError::Io(error)
    }
}

impl From<Errno> for CreateError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOSPC | Errno::EDQUOT => CreateError::NoSpace,
            Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR | Errno::EOPNOTSUPP => CreateError::Unsupported,
            other => CreateError::Io(other.into()),
        }
    }
}

/// Why a name was not opened. What it leads to was not touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is not a name.
    Name(InvalidName),
    /// There is no segment of this name, or it is being removed.
    NotFound,
    /// The name leads to a symbolic link, which is never followed.
    Symlink,
    /// The name leads to something that is not a file: a directory, a FIFO, a socket, a device.
    NotAFile {
        /// What it is.
        what: &'static str,
    },
    /// The file belongs to another user.
    OtherOwner {
        /// The user's number.
        uid: u32,
    },
    /// Other users may write to the file.
    WritableByOthers {
        /// The file's permission bits.
        mode: u32,
    },
    /// The file has a second name, so that somebody may reach it who should not.
    HardLinked {
        /// Names it has.
        links: u64,
    },
    /// The file has no bytes: somebody has not finished making it.
    Empty,
    /// There is no usable /dev/shm here.
    Unsupported,
    /// The kernel refused for another reason: too many descriptors, no memory, no permission.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Name(error) => error.fmt(f),
            OpenError::NotFound => f.write_str("no segment of this name"),
            OpenError::Symlink => f.write_str("name leads to a symbolic link"),
            OpenError::NotAFile { what } => write!(f, "name leads to a {what}, not a file"),
            OpenError::OtherOwner { uid } => write!(f, "segment belongs to user {uid}"),
            OpenError::WritableByOthers { mode } => {
                write!(f, "segment of mode {mode:04o} is writable by others")
            }
            OpenError::HardLinked { links } => write!(f, "segment has {links} names"),
            OpenError::Empty => f.write_str("segment has zero bytes"),
            OpenError::Unsupported => f.write_str(UNSUPPORTED),
            OpenError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Name(error) => Some(error),
            OpenError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<InvalidName> for OpenError {
    fn from(error: InvalidName) -> Self {
        OpenError::Name(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        OpenError::Io(errno.into())
    }
}

/// Why a typed segment was neither opened nor made under its name.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// Something of this name exists and cannot be used.
    Open(OpenError),
    /// A segment of this name exists and is not what was expected.
    Header(HeaderError),
    /// None existed, and none could be made.
    Create(CreateError),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Open(error) => error.fmt(f),
            NameError::Header(error) => error.fmt(f),
            NameError::Create(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NameError::Open(error) => Some(error),
            NameError::Header(error) => Some(error),
            NameError::Create(error) => Some(error),
        }
    }
}

impl From<OpenError> for NameError {
    fn from(error: OpenError) -> Self {
        NameError::Open(error)
    }
}

impl From<HeaderError> for NameError {
    fn from(error: HeaderError) -> Self {
        NameError::Header(error)
    }
}

impl From<CreateError> for NameError {
    fn from(error: CreateError) -> Self {
        NameError::Create(error)
    }
}

impl From<InvalidName> for NameError {
    fn from(error: InvalidName) -> Self {
        NameError::Open(error.into())
    }
}

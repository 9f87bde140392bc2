//! Names of segments and the paths they stand for.
//!
//! A name is what Python's `multiprocessing.shared_memory` calls a name, and what shm_open(3) takes without
//! its leading slash: the segment `jobs` is the file `/dev/shm/jobs`.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;

use crate::random::random_id;

/// Where names live: the tmpfs that shm_open(3) uses too.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// The longest name in bytes, as for any file.
const MAX_LENGTH: usize = 255;

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidName {
    /// It has no letters.
    Empty,
    /// `.` and `..` are directories.
    Dots,
    /// It contains a slash; a name has none, not even in front.
    Slash,
    /// It contains a NUL byte.
    Nul,
    /// It is longer than 255 bytes.
    TooLong {
        /// Bytes it has.
        length: usize,
    },
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidName::Empty => f.write_str("name is empty"),
            InvalidName::Dots => f.write_str("name is . or .."),
            InvalidName::Slash => f.write_str("name contains a slash"),
            InvalidName::Nul => f.write_str("name contains a NUL byte"),
            InvalidName::TooLong { length } => write!(f, "name has {length} bytes, more than {MAX_LENGTH}"),
        }
    }
}

impl std::error::Error for InvalidName {}

/// A valid name and its path.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    name: Box<str>,
    path: CString,
}

impl Name {
    pub(crate) fn new(name: &str) -> Result<Name, InvalidName> {
        match name {
            "" => return Err(InvalidName::Empty),
            "." | ".." => return Err(InvalidName::Dots),
            _ if name.contains('/') => return Err(InvalidName::Slash),
            _ if name.len() > MAX_LENGTH => return Err(InvalidName::TooLong { length: name.len() }),
            _ => {}
        }
        let path = CString::new(format!("{DIRECTORY}/{name}")).map_err(|_| InvalidName::Nul)?;
        Ok(Name { name: name.into(), path })
    }

    /// A name of 128 random bits, which nobody can guess or squat on.
    pub(crate) fn random() -> io::Result<Name> {
        let name = format!("mp_{:032x}", random_id()?);
        Ok(Name::new(&name).expect("hexadecimal digits make a valid name"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }
}

//! The first bytes of a typed segment, which tell a stranger from one of ours.
//!
//! ```text
//! offset  size  field
//!      0     8  magic: "mpsegmt" and 1, read as one number, so another endianness is another magic
//!      8     4  version of this header
//!     12     4  kind: four letters, what lies behind
//!     16     8  layout: hash of the kind's own structures
//!     24     8  size of the whole segment
//!     32    16  registry: whose tokens the words behind refer to, 0 = none
//!     48    80  zero
//!    128     …  body
//! ```

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::mapping::is_sealed;
use crate::name::Name;
use crate::{Cells, Mapping, OutOfBounds, View, handle};

const MAGIC: u64 = u64::from_be_bytes(*b"mpsegmt\x01");
const VERSION: u32 = 1;

/// Bytes before the body; keeps the body aligned for any [`Cells`].
pub const HEADER_SIZE: usize = 128;

/// What a typed segment is: its kind and the exact layout of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Four letters, such as `*b"LOCK"`.
    pub tag: [u8; 4],
    /// Hash of everything that both sides must agree on, from [`layout_hash`].
    pub layout: u64,
}

impl Kind {
    /// A kind whose layout is told by `description`: names, sizes and offsets, and a version to bump when the
    /// meaning of a field changes.
    pub const fn new(tag: [u8; 4], description: &str) -> Kind {
        Kind { tag, layout: layout_hash(description) }
    }
}

/// FNV-1a of a description of a layout.
pub const fn layout_hash(description: &str) -> u64 {
    let bytes = description.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Why a segment is not the one that was expected. The segment was not touched.
#[derive(Debug)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than a header, or than its header says.
    TooShort {
        /// Bytes there are.
        size: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Not a segment of ours, or of a machine of another endianness.
    Magic,
    /// Written by another version of this crate.
    Version {
        /// The version found.
        found: u32,
    },
    /// Another kind of object.
    Kind {
        /// The four letters found.
        found: [u8; 4],
    },
    /// The same kind, laid out differently.
    Layout,
    /// The header's size is not the file's.
    Size {
        /// What the header says.
        header: u64,
        /// What the file has.
        file: u64,
    },
    /// Its tokens belong to a registry this process does not use.
    ForeignRegistry,
    /// An anonymous segment that a peer could still shrink under us.
    NotSealed,
    /// The kernel refused to look at it or map it.
    Io(io::Error),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::TooShort { size, need } => {
                write!(f, "segment of {size} bytes is shorter than {need}")
            }
            HeaderError::Magic => f.write_str("not a segment of this toolkit"),
            HeaderError::Version { found } => write!(f, "segment has header version {found}, not {VERSION}"),
            HeaderError::Kind { found } => write!(f, "segment is a {:?}", String::from_utf8_lossy(found)),
            HeaderError::Layout => f.write_str("segment is laid out differently, by another version or type"),
            HeaderError::Size { header, file } => {
                write!(f, "header says {header} bytes, the file has {file}")
            }
            HeaderError::ForeignRegistry => f.write_str("segment belongs to another registry of processes"),
            HeaderError::NotSealed => f.write_str("anonymous segment is not sealed against resizing"),
            HeaderError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HeaderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            HeaderError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        HeaderError::Io(error)
    }
}

/// A mapped segment whose header was checked. Offsets count from its body.
#[derive(Debug, Clone)]
pub struct Segment {
    mapping: Arc<Mapping>,
    registry: u128,
}

impl Segment {
    /// A new anonymous segment with a body of `body` zero bytes.
    ///
    /// # Errors
    ///
    /// As [`Mapping::anonymous`].
    pub fn create(label: &CStr, kind: Kind, body: usize, registry: u128) -> io::Result<Segment> {
        let size = body.checked_add(HEADER_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Segment::begin(Mapping::anonymous(label, size)?, kind, registry))
    }

    /// A new anonymous segment with a body of `body` zero bytes, and `behind` bytes after it that are not mapped with it; see
    /// [`Mapping::part`].
    ///
    /// # Errors
    ///
    /// As [`Mapping::anonymous`].
    pub fn create_front(
        label: &CStr,
        kind: Kind,
        body: usize,
        behind: usize,
        registry: u128,
    ) -> io::Result<Segment> {
        let front = body.checked_add(HEADER_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let size = front.checked_add(behind).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Segment::begin(Mapping::anonymous_front(label, front, size)?, kind, registry))
    }

    /// As [`open`](Segment::open), for one that [`create_front`](Segment::create_front) made with a body of `body` bytes.
    ///
    /// # Errors
    ///
    /// As [`open`](Segment::open).
    pub fn open_front(descriptor: Arc<OwnedFd>, kind: Kind, body: usize) -> Result<Segment, HeaderError> {
        if !is_sealed(&*descriptor) {
            return Err(HeaderError::NotSealed);
        }
        Segment::check(Mapping::front(descriptor, body.saturating_add(HEADER_SIZE))?, kind)
    }

    /// Writes the header of a new segment.
    pub(crate) fn begin(mapping: Arc<Mapping>, kind: Kind, registry: u128) -> Segment {
        let header = header_bytes(kind, mapping.size(), registry);
        mapping.write(0, &header).expect("a new segment holds its header");
        Segment { mapping, registry }
    }

    /// The segment behind an anonymous descriptor, after checking that it is sealed and what `kind` says.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`]; the registry is not compared, ask [`Segment::registry`].
    pub fn open(descriptor: Arc<OwnedFd>, kind: Kind) -> Result<Segment, HeaderError> {
        if !is_sealed(&*descriptor) {
            return Err(HeaderError::NotSealed);
        }
        Segment::check(Mapping::of(descriptor)?, kind)
    }

    /// Checks the header of a segment that is mapped already.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    pub fn check(mapping: Arc<Mapping>, kind: Kind) -> Result<Segment, HeaderError> {
        let mut bytes = [0; HEADER_SIZE];
        let size = mapping.size() as u64;
        if mapping.read(0, &mut bytes).is_err() {
            return Err(HeaderError::TooShort { size, need: HEADER_SIZE as u64 });
        }
        let registry = check_header(&bytes, size, kind)?;
        Ok(Segment { mapping, registry })
    }

    /// The id of the registry that the tokens in this segment refer to, 0 = it holds none.
    pub fn registry(&self) -> u128 {
        self.registry
    }

    /// The whole mapping, header included.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The name that goes with the segment's last user; `None` = it is anonymous, or its name stays.
    pub fn name(&self) -> Option<&str> {
        self.mapping.leased_name().map(Name::as_str)
    }

    /// Bytes of the body.
    pub fn size(&self) -> usize {
        self.mapping.size() - HEADER_SIZE
    }

    /// The atomics at `offset` of the body.
    ///
    /// # Errors
    ///
    /// They would leave the segment, or `offset` is not aligned for `T`.
    pub fn view<T: Cells>(&self, offset: usize) -> Result<View<T>, OutOfBounds> {
        let in_body = |error| OutOfBounds { offset, size: self.size(), ..error };
        self.mapping.view(offset.saturating_add(HEADER_SIZE)).map_err(in_body)
    }

    /// Lends the segment to the message being serialized in this thread; see [`handle::lend`].
    ///
    /// # Errors
    ///
    /// No message that carries descriptors is being serialized in this thread.
    pub fn lend(&self) -> Result<u32, handle::LendError> {
        handle::lend(self.mapping.descriptor())
    }
}

/// The header of a segment of `size` bytes in all.
pub fn header_bytes(kind: Kind, size: usize, registry: u128) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[0..8].copy_from_slice(&MAGIC.to_ne_bytes());
    bytes[8..12].copy_from_slice(&VERSION.to_ne_bytes());
    bytes[12..16].copy_from_slice(&kind.tag);
    bytes[16..24].copy_from_slice(&kind.layout.to_ne_bytes());
    bytes[24..32].copy_from_slice(&(size as u64).to_ne_bytes());
    bytes[32..48].copy_from_slice(&registry.to_ne_bytes());
    bytes
}

/// Checks a copy of a header; answers the registry.
fn check_header(bytes: &[u8; HEADER_SIZE], file: u64, kind: Kind) -> Result<u128, HeaderError> {
    fn at<const N: usize>(bytes: &[u8; HEADER_SIZE], offset: usize) -> [u8; N] {
        bytes[offset..offset + N].try_into().expect("the slice has N bytes")
    }
    if u64::from_ne_bytes(at(bytes, 0)) != MAGIC {
        return Err(HeaderError::Magic);
    }
    let found = u32::from_ne_bytes(at(bytes, 8));
    if found != VERSION {
        return Err(HeaderError::Version { found });
    }
    let found = at(bytes, 12);
    if found != kind.tag {
        return Err(HeaderError::Kind { found });
    }
    if u64::from_ne_bytes(at(bytes, 16)) != kind.layout {
        return Err(HeaderError::Layout);
    }
    let header = u64::from_ne_bytes(at(bytes, 24));
    if header > file {
        return Err(HeaderError::TooShort { size: file, need: header });
    }
    if header != file {
        return Err(HeaderError::Size { header, file });
    }
    Ok(u128::from_ne_bytes(at(bytes, 32)))
}

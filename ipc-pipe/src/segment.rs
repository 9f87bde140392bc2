//! The shared memory of a pipe: both directions, each a pair of lines with words and a ring.
//!
//! ```text
//! body of the segment
//!      0   256  words of direction 0, from side 0 to side 1; see `ring`
//!    256   256  words of direction 1
//!    512   64K  ring of direction 0
//!  66048   64K  ring of direction 1; never touched, and so never backed, in a simplex pipe
//!
//! behind the body, mapped when it is first used
//! offset in the file
//! 135168   …    store of direction 0, see `store`
//!      …   …    store of direction 1
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc_shm::{Cells, HEADER_SIZE, HeaderError, Kind, Mapping, Segment, View};
use ipc_sync::Registry;

use crate::bytes::Bytes;
use crate::error::{OpenError, PipeError};
use crate::half::Track;
use crate::ring::Words;
use crate::store::STORE;

/// Bytes of one ring.
pub(crate) const RING: usize = 64 << 10;

const WORDS: usize = 256;
const RINGS: usize = 2 * WORDS;
const BODY: usize = RINGS + 2 * RING;
const BACK: usize = (HEADER_SIZE + BODY).next_multiple_of(4096);
const BEHIND: usize = BACK - HEADER_SIZE - BODY + 2 * STORE;

const KIND: Kind = Kind::new(
    *b"PIPE",
    "pipe 2: 2 x words of 256 (owner u32 0, bell u32 4, tail u64 8, item u32 16, owner u32 128, head u64 136, room 144), \
     2 x ring of 65536; frame 1; at 135168 2 x store of 1024 x (word u64, frame u64), 1024 x 65536",
);

const _: () = assert!(size_of::<Words>() == WORDS && align_of::<Words>() <= HEADER_SIZE);
const _: () = assert!(BACK == 135_168 && STORE % 4096 == 0);

mod cells {
    //! Promises about the words.
    #![allow(unsafe_code)]
    // SAFETY: repr(C); atomic integers, transparent wrappers of them, and `RoomBell`, which is such a structure
    // itself; aligned to 128.
    unsafe impl super::Cells for super::Words {}
}

/// A new one, all zero: both rings empty, nobody's.
pub(crate) fn create() -> Result<Segment, PipeError> {
    let registry = Registry::get().map_err(PipeError::Registry)?;
    Segment::create_front(c"pipe", KIND, BODY, BEHIND, registry.id()).map_err(PipeError::Io)
}

/// The one behind a descriptor that came from elsewhere.
pub(crate) fn open(descriptor: Arc<OwnedFd>) -> Result<Segment, OpenError> {
    let segment = Segment::open_front(descriptor, KIND, BODY).map_err(OpenError::Header)?;
    let registry = Registry::get().map_err(OpenError::Registry)?;
    if segment.size() != BODY {
        return Err(OpenError::Header(HeaderError::Layout));
    }
    if segment.registry() == registry.id() {
        Ok(segment)
    } else {
        Err(OpenError::Header(HeaderError::ForeignRegistry))
    }
}

/// The words of a direction.
pub(crate) fn words(segment: &Segment, direction: u32) -> View<Words> {
    segment.view(direction as usize * WORDS).expect("the segment has the size of a pipe")
}

/// A direction.
pub(crate) fn track(segment: &Segment, direction: u32) -> Track {
    let offset = HEADER_SIZE + RINGS + direction as usize * RING;
    let bytes = Bytes::new(segment.mapping(), offset, RING).expect("the segment has the size of a pipe");
    Track { words: words(segment, direction), bytes }
}

/// Where the store of a direction begins in the file.
pub(crate) fn back_offset(direction: u32) -> usize {
    BACK + direction as usize * STORE
}

/// The store of a direction, mapped by itself.
pub(crate) fn back(segment: &Segment, direction: u32) -> io::Result<Arc<Mapping>> {
    segment.mapping().part(back_offset(direction), STORE)
}

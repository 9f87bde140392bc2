//! Cells for anonymous primitives: many small objects in few segments, each sendable by itself.
//!
//! A segment costs a descriptor and a mapping; a lock needs eight bytes. So the anonymous primitives of a process
//! are cells of a few shared arenas, and a handle is (segment, offset). A cell that never left the process is used
//! again after its last handle; one that was sent stays as it is until its arena goes with its last user, because
//! nobody can know who still looks at it.
//!
//! ```text
//! body of the segment: 4096 cells of 64 bytes, each
//!  0  4  kind    which primitive lies here, 0 = free
//!  4  4  zero
//!  8 56  the primitive
//! ```

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ipc_shm::{Cells, HeaderError, Kind, Segment, View, handle};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::primitive::AtomicU32;
use crate::process::forks;
use crate::{Registry, RegistryError};

const KIND: Kind = Kind::new(*b"AREN", "arena 1: 4096 cells of 64: kind u32, zero u32, 56");
const CELL: usize = 64;
const CONTENT: usize = 8;
const CELLS: usize = 4096;

/// A primitive that fits a cell; all bytes zero is its first state.
pub trait Primitive: Cells {
    /// Four letters that no other primitive has.
    const TAG: [u8; 4];
}

/// Why an anonymous primitive could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// This process has no registry.
    Registry(RegistryError),
    /// No memory or no descriptor.
    Io(io::Error),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Registry(error) => error.fmt(f),
            CreateError::Io(error) => write!(f, "shared memory for a primitive: {error}"),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CreateError::Registry(error) => Some(error),
            CreateError::Io(error) => Some(error),
        }
    }
}

/// One arena of this process: the segment and which of its cells are free.
#[derive(Debug)]
struct Arena {
    segment: Segment,
    /// A copy in a forked child allots nothing: the cells are its parent's.
    forks: u32,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// Cells from here on were never used.
    fresh: usize,
    /// Cells that came back.
    released: Vec<usize>,
}

impl Arena {
    fn new() -> Result<Arc<Arena>, CreateError> {
        let registry = Registry::get().map_err(CreateError::Registry)?;
        let segment =
            Segment::create(c"arena", KIND, CELLS * CELL, registry.id()).map_err(CreateError::Io)?;
        Ok(Arc::new(Arena { segment, forks: forks(), free: Mutex::default() }))
    }

    fn allot(&self) -> Option<usize> {
        let mut free = self.free.lock();
        if let Some(index) = free.released.pop() {
            return Some(index);
        }
        let index = free.fresh;
        free.fresh = CELLS.min(index + 1);
        (index < CELLS).then_some(index)
    }
}

/// Arenas of this process that may have a free cell. One that is found full leaves the list, and goes with the last
/// handle of its cells.
static ARENAS: Mutex<Vec<Arc<Arena>>> = Mutex::new(Vec::new());

/// A primitive in shared memory and what keeps it there. Cloning shares it.
pub struct Place<T: Primitive>(Arc<Inner<T>>);

struct Inner<T: Primitive> {
    view: View<T>,
    segment: Segment,
    index: usize,
    /// The arena that gets the cell back; `None` = it came in a message.
    home: Option<Arc<Arena>>,
    sent: AtomicBool,
}

impl<T: Primitive> Place<T> {
    /// A new cell, all zero.
    ///
    /// # Errors
    ///
    /// No registry, no memory or no descriptor.
    pub fn new() -> Result<Self, CreateError> {
        let (arena, index) = allot()?;
        let segment = arena.segment.clone();
        kind_of(&segment, index).store(u32::from_ne_bytes(T::TAG), Relaxed);
        Ok(Place::at(segment, index, Some(arena)))
    }

    fn at(segment: Segment, index: usize, home: Option<Arc<Arena>>) -> Self {
        const { assert!(size_of::<T>() <= CELL - CONTENT && align_of::<T>() <= CONTENT) };
        let view = segment.view(index * CELL + CONTENT).expect("a cell lies in its arena");
        Place(Arc::new(Inner { view, segment, index, home, sent: AtomicBool::new(false) }))
    }

    fn receive(slot: u32, index: usize) -> Result<Self, PlaceError> {
        let segment = Segment::open(handle::take(slot)?, KIND)?;
        let ours = Registry::get().map_err(PlaceError::Registry)?;
        if segment.registry() != ours.id() {
            return Err(HeaderError::ForeignRegistry.into());
        }
        if index >= CELLS || segment.size() != CELLS * CELL {
            return Err(PlaceError::NoSuchCell);
        }
        let found = kind_of(&segment, index).load(Relaxed).to_ne_bytes();
        if found != T::TAG {
            Err(HeaderError::Kind { found }.into())
        } else {
            Ok(Place::at(segment, index, None))
        }
    }
}

fn kind_of(segment: &Segment, index: usize) -> View<AtomicU32> {
    segment.view(index * CELL).expect("a cell lies in its arena")
}

fn allot() -> Result<(Arc<Arena>, usize), CreateError> {
    let mut arenas = ARENAS.lock();
    arenas.retain(|arena| arena.forks == forks());
    while let Some(arena) = arenas.last() {
        match arena.allot() {
            Some(index) => return Ok((arena.clone(), index)),
            None => drop(arenas.pop()),
        }
    }
    let arena = Arena::new()?;
    arenas.push(arena.clone());
    let index = arena.allot().expect("a new arena has free cells");
    Ok((arena, index))
}

impl<T: Primitive> Clone for Place<T> {
    fn clone(&self) -> Self {
        Place(self.0.clone())
    }
}

impl<T: Primitive> Deref for Place<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0.view
    }
}

impl<T: Primitive> Drop for Inner<T> {
    fn drop(&mut self) {
        let Some(arena) = self.home.take() else { return };
        if self.sent.load(Relaxed) || arena.forks != forks() {
            return;
        }
        let zero = [0; CELL];
        let _ = self.segment.mapping().write(ipc_shm::HEADER_SIZE + self.index * CELL, &zero);
        arena.free.lock().released.push(self.index);
    }
}

/// Why a handle in a message leads to no primitive.
#[derive(Debug)]
enum PlaceError {
    Slot(handle::NoSuchSlot),
    Header(HeaderError),
    Registry(RegistryError),
    NoSuchCell,
}

impl From<handle::NoSuchSlot> for PlaceError {
    fn from(error: handle::NoSuchSlot) -> Self {
        PlaceError::Slot(error)
    }
}

impl From<HeaderError> for PlaceError {
    fn from(error: HeaderError) -> Self {
        PlaceError::Header(error)
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::Slot(error) => error.fmt(f),
            PlaceError::Header(error) => error.fmt(f),
            PlaceError::Registry(error) => error.fmt(f),
            PlaceError::NoSuchCell => f.write_str("the handle names a cell outside its arena"),
        }
    }
}

impl<T: Primitive> Serialize for Place<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let slot = self.0.segment.lend().map_err(ser::Error::custom)?;
        self.0.sent.store(true, Relaxed);
        (slot, self.0.index as u32).serialize(serializer)
    }
}

impl<'de, T: Primitive> Deserialize<'de> for Place<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (slot, index) = <(u32, u32)>::deserialize(deserializer)?;
        Place::receive(slot, index as usize).map_err(de::Error::custom)
    }
}

impl<T: Primitive> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("index", &self.0.index).finish_non_exhaustive()
    }
}

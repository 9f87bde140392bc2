//! Cells for anonymous primitives: many small objects in few segments, each sendable by itself.
//!
//! A segment costs a descriptor and a mapping; a lock needs eight bytes. So the anonymous primitives of a process
//! are cells of a few shared arenas, and a handle is (segment, offset). A cell that never left the process is used
//! again after its last handle; one that was sent, or copied by a fork, stays as it is until its arena goes with its last
//! user, because nobody can know who still looks at it.
//!
//! ```text
//! body of the segment: cells of one size, a power of two from 64 on, each
//!  0  4  kind    which primitive lies here, 0 = free
//!  4  4  layout  half of the hash of its layout
//!  8  …  the primitive
//! ```

use std::fmt;
use std::io;
use std::sync::Arc;

use ipc_shm::fork::forks;
use ipc_shm::{Cells, Kind, PerProcess, Segment, View};
use parking_lot::Mutex;

use crate::primitive::AtomicU32;
use crate::{Registry, RegistryError};

/// Bytes before the primitive in its cell.
pub(crate) const CONTENT: usize = 8;

/// Bytes of an arena's cells, unless one of them is larger.
const BODY: usize = 256 << 10;

const LEAST_CELL: usize = 64;

/// Which arenas hold cells for `bytes` of content: the size of their cells.
pub(crate) const fn cell_size(bytes: usize) -> usize {
    let size = (bytes + CONTENT).next_power_of_two();
    if size < LEAST_CELL { LEAST_CELL } else { size }
}

/// Arenas of each cell size are a kind of their own.
pub(crate) const fn arena_kind(cell: usize) -> Kind {
    let Kind { tag, layout } = Kind::new(*b"AREN", "arena 2: cells of kind u32, layout u32, primitive");
    Kind { tag, layout: layout ^ cell as u64 }
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

/// First words of a cell.
#[repr(C)]
pub(crate) struct Label {
    pub(crate) tag: AtomicU32,
    pub(crate) layout: AtomicU32,
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::Label {}
}

/// One arena of this process: the segment and which of its cells are free.
#[derive(Debug)]
pub(crate) struct Arena {
    segment: Segment,
    cell: usize,
    /// A copy in a forked child takes nothing back: the cells are its parent's.
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

/// Arenas of this process that may have a free cell. One that is found full leaves the list, and goes with the last
/// handle of its cells.
static ARENAS: PerProcess<Mutex<Vec<Arc<Arena>>>> = PerProcess::new();

impl Arena {
    fn new(cell: usize) -> Result<Arc<Arena>, CreateError> {
        let registry = Registry::get().map_err(CreateError::Registry)?;
        let segment = Segment::create(c"arena", arena_kind(cell), cell.max(BODY), registry.id())
            .map_err(CreateError::Io)?;
        Ok(Arc::new(Arena { segment, cell, forks: forks(), free: Mutex::default() }))
    }

    /// A cell of `cell` zero bytes: its arena and its index.
    pub(crate) fn allot(cell: usize) -> Result<(Arc<Arena>, usize), CreateError> {
        let mut arenas = ARENAS.get().lock();
        while let Some(at) = arenas.iter().rposition(|arena| arena.cell == cell) {
            match arenas[at].take() {
                Some(index) => return Ok((arenas[at].clone(), index)),
                None => drop(arenas.swap_remove(at)),
            }
        }
        let arena = Arena::new(cell)?;
        arenas.push(arena.clone());
        let index = arena.take().expect("a new arena has free cells");
        Ok((arena, index))
    }

    fn take(&self) -> Option<usize> {
        let mut free = self.free.lock();
        if let Some(index) = free.released.pop() {
            return Some(index);
        }
        let index = free.fresh;
        let cells = self.segment.size() / self.cell;
        free.fresh = cells.min(index + 1);
        (index < cells).then_some(index)
    }

    /// Takes back a cell that nobody else can have seen.
    pub(crate) fn release(&self, index: usize) {
        if self.forks != forks() {
            return;
        }
        let zero = vec![0; self.cell];
        let _ = self.segment.mapping().write(ipc_shm::HEADER_SIZE + index * self.cell, &zero);
        self.free.lock().released.push(index);
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }
}

/// The label of a cell.
///
/// # Panics
///
/// There is no such cell.
pub(crate) fn label(segment: &Segment, cell: usize, index: usize) -> View<Label> {
    segment.view(index * cell).expect("a cell lies in its arena")
}

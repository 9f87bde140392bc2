//! Where a primitive lies: in a cell of an arena if it is anonymous, in a segment of its own if it has a name.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ipc_shm::fork::copies;
use ipc_shm::{Cells, HeaderError, Kind, NameError, Origin, Parcel, ParcelError, Segment, View};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::arena::{Arena, CONTENT, CreateError, arena_kind, cell_size, label};
use crate::{Registry, RegistryError};

/// A structure of atomics that is shared as a whole. All bytes zero must be valid.
pub trait Primitive: Cells {
    /// Four letters that no other primitive has.
    const TAG: [u8; 4];

    /// Whatever both sides must agree on besides the size, such as the hash of an element's type.
    const LAYOUT: u64 = 0;
}

const fn layout<T: Primitive>() -> u64 {
    (T::LAYOUT ^ size_of::<T>() as u64).wrapping_mul(0x0100_0000_01b3)
}

/// A primitive in shared memory and what keeps it there. Cloning shares it.
pub struct Place<T: Primitive>(Arc<Inner<T>>);

struct Inner<T: Primitive> {
    view: View<T>,
    segment: Segment,
    home: Home,
    /// Somebody else may have the handle too.
    sent: AtomicBool,
    /// How often this process had been copied by fork when it made the cell.
    copies: u32,
}

/// Whose the memory is.
enum Home {
    /// A cell that goes back to its arena.
    Own(Arc<Arena>, usize),
    /// A cell of somebody's arena.
    Received(usize),
    /// A segment with a name.
    Named,
}

impl<T: Primitive> Place<T> {
    /// A new anonymous one. `init` finds all bytes zero, and nobody else sees it before it has returned.
    ///
    /// # Errors
    ///
    /// No registry, no memory or no descriptor.
    pub fn new(init: impl FnOnce(&T)) -> Result<Self, CreateError> {
        let cell = const { cell_size(size_of::<T>()) };
        let (arena, index) = Arena::allot(cell)?;
        let segment = arena.segment().clone();
        let place = Place::at(segment, index * cell + CONTENT, Home::Own(arena, index));
        init(&place);
        let label = label(&place.0.segment, cell, index);
        label.layout.store(layout::<T>() as u32, Relaxed);
        label.tag.store(u32::from_ne_bytes(T::TAG), Relaxed);
        Ok(place)
    }

    /// The one of this name; if there is none it is made, and appears under its name after `init` has returned.
    ///
    /// The name goes with its last user, dead or alive. Nothing blocks but a process that was stopped while it examined
    /// the name, 100 ms at most.
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str, init: impl FnOnce(&T)) -> Result<(Self, Origin), NamedError> {
        let registry = Registry::get().map_err(NamedError::Registry)?;
        let begin = |segment: &Segment| init(&segment.view::<T>(0).expect("made for it"));
        let (segment, origin) = Segment::leased(name, Self::NAMED, size_of::<T>(), registry.id(), begin)?;
        if segment.registry() != registry.id() {
            return Err(NameError::from(HeaderError::ForeignRegistry).into());
        }
        if segment.size() != size_of::<T>() {
            return Err(NameError::from(HeaderError::Layout).into());
        }
        Ok((Place::at(segment, 0, Home::Named), origin))
    }

    const NAMED: Kind = Kind { tag: T::TAG, layout: layout::<T>() };

    fn at(segment: Segment, offset: usize, home: Home) -> Self {
        const { assert!(align_of::<T>() <= CONTENT) };
        let view = segment.view(offset).expect("it lies in its segment");
        Place(Arc::new(Inner { view, segment, home, sent: AtomicBool::new(false), copies: copies() }))
    }

    fn receive(parcel: Parcel, index: usize) -> Result<Self, PlaceError> {
        let named = parcel.is_named();
        let cell = const { cell_size(size_of::<T>()) };
        let segment = Segment::unpack(parcel, if named { Self::NAMED } else { arena_kind(cell) })?;
        let ours = Registry::get().map_err(PlaceError::Registry)?;
        if segment.registry() != ours.id() {
            return Err(HeaderError::ForeignRegistry.into());
        }
        if named {
            let whole = segment.size() == size_of::<T>();
            return if whole {
                Ok(Place::at(segment, 0, Home::Named))
            } else {
                Err(HeaderError::Layout.into())
            };
        }
        if index >= segment.size() / cell {
            return Err(PlaceError::NoSuchCell);
        }
        check_label::<T>(&segment, cell, index)?;
        Ok(Place::at(segment, index * cell + CONTENT, Home::Received(index)))
    }
}

fn check_label<T: Primitive>(segment: &Segment, cell: usize, index: usize) -> Result<(), HeaderError> {
    let label = label(segment, cell, index);
    let found = label.tag.load(Relaxed).to_ne_bytes();
    if found != T::TAG {
        Err(HeaderError::Kind { found })
    } else if label.layout.load(Relaxed) != layout::<T>() as u32 {
        Err(HeaderError::Layout)
    } else {
        Ok(())
    }
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
        if let Home::Own(arena, index) = &self.home {
            if !self.sent.load(Relaxed) && self.copies == copies() {
                arena.release(*index);
            }
        }
    }
}

/// Why a named primitive was neither opened nor made.
#[derive(Debug)]
#[non_exhaustive]
pub enum NamedError {
    /// This process has no registry.
    Registry(RegistryError),
    /// The name is none, or leads to something else, or nothing could be made.
    Name(Box<NameError>),
    /// An array of this type, with another number of elements.
    Length {
        /// Elements it has.
        found: usize,
    },
    /// A semaphore, with another bound.
    Bound {
        /// The bound it has; `None` = it has none.
        found: Option<u32>,
    },
}

impl fmt::Display for NamedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamedError::Registry(error) => error.fmt(f),
            NamedError::Name(error) => error.fmt(f),
            NamedError::Length { found } => write!(f, "the array of this name has {found} elements"),
            NamedError::Bound { found: Some(found) } => {
                write!(f, "the semaphore of this name has the bound {found}")
            }
            NamedError::Bound { found: None } => f.write_str("the semaphore of this name has no bound"),
        }
    }
}

impl std::error::Error for NamedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NamedError::Registry(error) => Some(error),
            NamedError::Name(error) => Some(&**error),
            NamedError::Length { .. } => None,
            NamedError::Bound { .. } => None,
        }
    }
}

impl From<NameError> for NamedError {
    fn from(error: NameError) -> Self {
        NamedError::Name(Box::new(error))
    }
}

/// Why a handle in a message leads to no primitive.
#[derive(Debug)]
enum PlaceError {
    Parcel(ParcelError),
    Header(HeaderError),
    Registry(RegistryError),
    NoSuchCell,
}

impl From<ParcelError> for PlaceError {
    fn from(error: ParcelError) -> Self {
        PlaceError::Parcel(error)
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
            PlaceError::Parcel(error) => error.fmt(f),
            PlaceError::Header(error) => error.fmt(f),
            PlaceError::Registry(error) => error.fmt(f),
            PlaceError::NoSuchCell => f.write_str("the handle names a cell outside its arena"),
        }
    }
}

impl<T: Primitive> Serialize for Place<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parcel = self.0.segment.pack().map_err(ser::Error::custom)?;
        self.0.sent.store(true, Relaxed);
        let index = match self.0.home {
            Home::Own(_, index) | Home::Received(index) => index,
            Home::Named => 0,
        };
        (parcel, index as u32).serialize(serializer)
    }
}

impl<'de, T: Primitive> Deserialize<'de> for Place<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (parcel, index) = <(Parcel, u32)>::deserialize(deserializer)?;
        Place::receive(parcel, index as usize).map_err(de::Error::custom)
    }
}

impl<T: Primitive> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let home = match &self.0.home {
            Home::Own(_, index) | Home::Received(index) => format!("cell {index}"),
            Home::Named => "named".to_owned(),
        };
        f.debug_tuple("Place").field(&home).finish()
    }
}

//! Typed segments with a name: opened, or made if there is none.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::stat::FileStat;

use crate::error::{CreateError, NameError, OpenError};
use crate::header::{HEADER_SIZE, Kind, Segment};
use crate::lease::{self, Found};
use crate::mapping::Mapping;
use crate::name::Name;
use crate::parcel::ParcelError;

/// How often an open-or-create that loses each race, against makers and removers in turn, tries again.
const ROUNDS: usize = 1000;

/// Whether a named segment was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was made by this call.
    Created,
    /// It existed.
    Opened,
}

impl Segment {
    /// The segment of this name; if there is none it is made, with a body of `body` zero bytes.
    ///
    /// The name stays when its last user leaves, and the next one finds the segment as it was left; only
    /// [`sweep`](crate::sweep) removes it then. It waits only for a process that was stopped while it examined the
    /// name, 100 ms at most.
    ///
    /// A segment that existed has the size and the registry of the one who made it: ask [`Segment::size`] and
    /// [`Segment::registry`].
    ///
    /// # Errors
    ///
    /// See [`NameError`]; what was found under the name is not touched.
    ///
    /// ```
    /// # let name = &format!("doc-named-{}", std::process::id());
    /// use ipc_shm::{Kind, Origin, Segment, SharedMemory};
    /// const COUNT: Kind = Kind::new(*b"COUN", "count 1: u64");
    /// let (first, _) = Segment::named(name, COUNT, 8, 0)?;
    /// let (again, origin) = Segment::named(name, COUNT, 8, 0)?;
    /// assert_eq!((origin, again.size()), (Origin::Opened, first.size()));
    /// SharedMemory::open(name)?.unlink()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named(
        name: &str,
        kind: Kind,
        body: usize,
        registry: u128,
    ) -> Result<(Segment, Origin), NameError> {
        let name = Name::new(name)?;
        open_or_create(&name, || Ok(()), || Segment::make(kind, body, registry, |_| {}), kind)
    }

    /// As [`Segment::named`], but the name goes with its last user, dead or alive.
    ///
    /// The last process that drops its mapping removes the name; that, too, may take 100 ms. When the last one was killed, the name is
    /// stale, and this call makes a new segment in its place. A new segment appears under its name after `init`
    /// has returned: nobody sees it half made. `init` is not called when the segment existed.
    ///
    /// # Errors
    ///
    /// See [`NameError`]; what was found under the name is not touched.
    ///
    /// ```
    /// # let name = &format!("doc-leased-{}", std::process::id());
    /// use ipc_shm::{Kind, OpenError, Segment, SharedMemory};
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// const COUNT: Kind = Kind::new(*b"COUN", "count 1: u64");
    /// let ten = |segment: &Segment| segment.view::<AtomicU64>(0).unwrap().store(10, Relaxed);
    /// let (segment, _) = Segment::leased(name, COUNT, 8, 0, ten)?;
    /// assert_eq!(segment.view::<AtomicU64>(0)?.load(Relaxed), 10);
    /// drop(segment);
    /// assert!(matches!(SharedMemory::open(name), Err(OpenError::NotFound)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leased(
        name: &str,
        kind: Kind,
        body: usize,
        registry: u128,
        init: impl FnOnce(&Segment),
    ) -> Result<(Segment, Origin), NameError> {
        let name = Name::new(name)?;
        let forget_stale = || lease::take_over(&name).map(drop).map_err(OpenError::Io);
        let make = || Segment::make(kind, body, registry, init);
        let (segment, origin) = open_or_create(&name, forget_stale, make, kind)?;
        segment.mapping().remove_with_last_user(name);
        Ok((segment, origin))
    }

    /// As [`Segment::leased`], but only if there is one that somebody uses.
    pub(crate) fn leased_already(name: Name, kind: Kind) -> Result<Segment, ParcelError> {
        lease::take_over(&name).map_err(OpenError::Io)?;
        let Found::File(file, status) = lease::open(&name)? else { return Err(OpenError::NotFound.into()) };
        let mapping = Mapping::of_status(Arc::new(file), &status).map_err(OpenError::Io)?;
        let segment = Segment::check(mapping, kind)?;
        segment.mapping().remove_with_last_user(name);
        Ok(segment)
    }

    /// A complete segment in a file that has no name yet.
    fn make(
        kind: Kind,
        body: usize,
        registry: u128,
        init: impl FnOnce(&Segment),
    ) -> Result<Segment, CreateError> {
        let size = body.checked_add(HEADER_SIZE).ok_or(CreateError::TooLarge { size: body })?;
        let (file, status) = lease::make(size, true)?;
        let mapping = Mapping::of_status(Arc::new(file), &status)?;
        let segment = Segment::begin(mapping, kind, registry);
        init(&segment);
        Ok(segment)
    }
}

/// Looks and makes in turn until one of the two succeeds; `prepare` runs before each look.
fn open_or_create(
    name: &Name,
    prepare: impl Fn() -> Result<(), OpenError>,
    make: impl FnOnce() -> Result<Segment, CreateError>,
    kind: Kind,
) -> Result<(Segment, Origin), NameError> {
    let mut make = Some(make);
    let mut made = None;
    for _ in 0..ROUNDS {
        prepare()?;
        match lease::open(name)? {
            Found::File(file, status) => return Ok((open_typed(file, &status, kind)?, Origin::Opened)),
            Found::Nothing => {}
            Found::Held => break,
        }
        if let Some(make) = make.take() {
            made = Some(make()?);
        }
        if let Some(segment) = &made {
            if lease::link(segment.mapping().descriptor(), name)? {
                return Ok((segment.clone(), Origin::Created));
            }
        }
    }
    Err(CreateError::AlreadyExists.into())
}

fn open_typed(file: OwnedFd, status: &FileStat, kind: Kind) -> Result<Segment, NameError> {
    let mapping = Mapping::of_status(Arc::new(file), status).map_err(OpenError::Io)?;
    Ok(Segment::check(mapping, kind)?)
}

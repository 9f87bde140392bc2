//! How a typed segment travels inside a message: by its descriptor, and with its name if it has one; or by its name alone,
//! where a message takes no descriptors along.

use std::fmt;

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::handle::{self, LendError, NoSuchSlot};
use crate::header::{HeaderError, Kind, Segment};
use crate::name::Name;
use crate::{Mapping, lease};

/// What a message holds of a segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parcel {
    /// Where its descriptor is among those of the message; `None` = it has to be opened by its name.
    slot: Option<u32>,
    /// The name that goes with the segment's last user; `None` = anonymous.
    name: Option<Box<str>>,
}

impl Parcel {
    /// Whether the segment has a name.
    pub fn is_named(&self) -> bool {
        self.name.is_some()
    }
}

impl Segment {
    /// Lends the segment to the message being serialized in this thread. The lease of a named one travels with it:
    /// its name stays while the message is on its way. In a message that takes [names
    /// only](handle::Outgoing::names_only) it does not: somebody must keep the segment until it is unpacked.
    ///
    /// # Errors
    ///
    /// No message is being serialized in this thread, or it takes names only and the segment has none.
    pub fn pack(&self) -> Result<Parcel, LendError> {
        let slot = handle::lend_named(self.mapping().descriptor(), self.name())?;
        Ok(Parcel { slot, name: self.name().map(Box::from) })
    }

    /// The segment that a message brought. This process is among its users now: if it is the last one, the name goes
    /// with it.
    ///
    /// # Errors
    ///
    /// See [`ParcelError`]; the registry is not compared, ask [`Segment::registry`].
    pub fn unpack(parcel: Parcel, kind: Kind) -> Result<Segment, ParcelError> {
        let name = parcel.name.map(|name| Name::new(&name)).transpose().map_err(OpenError::from)?;
        let (descriptor, name) = match (parcel.slot, name) {
            (Some(slot), Some(name)) => (handle::take(slot)?, name),
            (Some(slot), None) => return Ok(Segment::open(handle::take(slot)?, kind)?),
            (None, Some(name)) => return Segment::leased_already(name, kind),
            (None, None) => return Err(NoSuchSlot { slot: u32::MAX }.into()),
        };
        let status = fstat(&descriptor).map_err(OpenError::from)?;
        lease::check(&status)?;
        let mapping = Mapping::of_status(descriptor, &status).map_err(OpenError::Io)?;
        let segment = Segment::check(mapping, kind)?;
        segment.mapping().remove_with_last_user(name);
        Ok(segment)
    }
}

/// Why a message brought no usable segment.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParcelError {
    /// Its descriptor did not come with the message.
    Slot(NoSuchSlot),
    /// Its file is not one that may be mapped.
    Open(OpenError),
    /// It is not what was expected.
    Header(HeaderError),
}

impl fmt::Display for ParcelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParcelError::Slot(error) => error.fmt(f),
            ParcelError::Open(error) => error.fmt(f),
            ParcelError::Header(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ParcelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ParcelError::Slot(error) => Some(error),
            ParcelError::Open(error) => Some(error),
            ParcelError::Header(error) => Some(error),
        }
    }
}

impl From<NoSuchSlot> for ParcelError {
    fn from(error: NoSuchSlot) -> Self {
        ParcelError::Slot(error)
    }
}

impl From<OpenError> for ParcelError {
    fn from(error: OpenError) -> Self {
        ParcelError::Open(error)
    }
}

impl From<HeaderError> for ParcelError {
    fn from(error: HeaderError) -> Self {
        ParcelError::Header(error)
    }
}

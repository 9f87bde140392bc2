//! How a typed segment travels inside a message: by its descriptor, and with its name if it has one.

use std::fmt;

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::handle::{self, NoMessage, NoSuchSlot};
use crate::header::{HeaderError, Kind, Segment};
use crate::name::Name;
use crate::{Mapping, lease};

/// What a message holds of a segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parcel {
    /// Where its descriptor is among those of the message.
    slot: u32,
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
    /// its name stays while the message is on its way.
    ///
    /// # Errors
    ///
    /// No message is being serialized in this thread.
    pub fn pack(&self) -> Result<Parcel, NoMessage> {
        let slot = handle::lend(self.mapping().descriptor())?;
        Ok(Parcel { slot, name: self.mapping().leased_name().map(|name| name.as_str().into()) })
    }

    /// The segment that a message brought. This process is among its users now: if it is the last one, the name goes
    /// with it.
    ///
    /// # Errors
    ///
    /// See [`ParcelError`]; the registry is not compared, ask [`Segment::registry`].
    pub fn unpack(parcel: Parcel, kind: Kind) -> Result<Segment, ParcelError> {
        let descriptor = handle::take(parcel.slot)?;
        let Some(name) = parcel.name else { return Ok(Segment::open(descriptor, kind)?) };
        let name = Name::new(&name).map_err(OpenError::from)?;
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

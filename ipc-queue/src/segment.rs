//! The memory of a queue: where each part lies, and what a stranger's memory is asked before it is used.
//!
//! ```text
//! offset in the body
//!    0  256  words of the ring, see `channel`
//!  256  512  ledger: 64 entries of {token u32, count u32}
//!  768    4  bound: most items at one time, 0 = any number; written once
//!  772    4  bytes of the ring, a power of two; written once
//!  776    4  form of the queue, see `form`; written once
//!  780    4  padding
//!  784    8  bytes of the longest item; written once
//!  792  520  of a joinable queue: items not done, see `tasks`
//! 1312 2056  of a leased queue: who has which item, see `leases`
//! 3368  576  padding
//! 3944    8  schema of a named queue, 0 = none; written once
//! 3952   16  padding
//! 3968    …  ring, on a page of its own
//!    …    …  of a leased queue: 64 items that are lent, each as long as the longest
//! ```
#![allow(unsafe_code)]

use std::fmt;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ipc_shm::handle::NoSuchSlot;
use ipc_shm::{
    Cells, HEADER_SIZE, HeaderError, Kind, OutOfBounds, Parcel, ParcelError, Segment, layout_hash,
};
use ipc_sync::{Registry, RegistryError};

use crate::channel::{Channel, Consumers, Entry, Producers, Words};
use crate::error::{CreateError, NamedError};
use crate::form::Form;
use crate::leases::{self, Leases, PLACES};
use crate::primitive::{Bytes, ENTRIES, MAX_PAYLOAD};
use crate::tasks::{self, Tasks};

const KIND: Kind =
    Kind::new(*b"QUEU", "queue 2: words 256, 64 entries of 8, bound u32, bytes u32, ring at 3968");
const LEDGER_AT: usize = 256;
const SETTINGS_AT: usize = 768;
const TASKS_AT: usize = 792;
const LEASES_AT: usize = 1312;
const SCHEMA_AT: usize = 3944;
const RING_AT: usize = 4096 - HEADER_SIZE;

/// Bytes that a ring may have.
pub(crate) const SMALLEST: usize = 512;
pub(crate) const LARGEST: usize = 1 << 30;

/// Most items that a bounded queue may hold: numbers of items wrap, and are compared.
pub(crate) const MOST: usize = i32::MAX as usize;

#[repr(C)]
struct Settings {
    bound: AtomicU32,
    bytes: AtomicU32,
    form: AtomicU32,
    padding: AtomicU32,
    max_message: AtomicU64,
}

const _: () = {
    assert!(size_of::<Words>() == LEDGER_AT);
    assert!(offset_of!(Words, consumers) == 128);
    assert!(offset_of!(Producers, tail) == 16 && offset_of!(Producers, state) == 40);
    assert!(offset_of!(Consumers, room) == 8 && offset_of!(Consumers, takers) == 24);
    assert!(size_of::<[Entry; ENTRIES]>() == SETTINGS_AT - LEDGER_AT);
    assert!(size_of::<tasks::Words>() == LEASES_AT - TASKS_AT);
    assert!(size_of::<leases::Words>() == 2056);
};

// SAFETY: repr(C), atomic integers and transparent or repr(C) structures of them; the rest is padding that is never
// read; aligned to 128.
unsafe impl Cells for Words {}
// SAFETY: repr(C), atomic integers only.
unsafe impl Cells for Entry {}
// SAFETY: repr(C), atomic integers and a transparent structure of one.
unsafe impl Cells for tasks::Words {}
// SAFETY: repr(C), atomic integers and structures of them.
unsafe impl Cells for leases::Words {}
// SAFETY: repr(C), atomic integers only.
unsafe impl Cells for Settings {}

/// Why a handle in a message leads to no queue.
#[derive(Debug)]
pub(crate) enum Strange {
    Slot(NoSuchSlot),
    Parcel(ParcelError),
    Header(HeaderError),
    Registry(RegistryError),
    Settings,
    Socket,
    Form(Form),
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strange::Slot(error) => error.fmt(f),
            Strange::Parcel(error) => error.fmt(f),
            Strange::Header(error) => error.fmt(f),
            Strange::Registry(error) => error.fmt(f),
            Strange::Settings => f.write_str("the queue's memory is damaged"),
            Strange::Socket => f.write_str("a descriptor is not the socket of a queue"),
            Strange::Form(form) => write!(f, "the queue is a {form} one"),
        }
    }
}

impl From<ParcelError> for Strange {
    fn from(error: ParcelError) -> Self {
        Strange::Parcel(error)
    }
}

impl From<HeaderError> for Strange {
    fn from(error: HeaderError) -> Self {
        Strange::Header(error)
    }
}

impl From<NoSuchSlot> for Strange {
    fn from(error: NoSuchSlot) -> Self {
        Strange::Slot(error)
    }
}

impl From<RegistryError> for Strange {
    fn from(error: RegistryError) -> Self {
        Strange::Registry(error)
    }
}

impl From<OutOfBounds> for Strange {
    fn from(_: OutOfBounds) -> Self {
        Strange::Settings
    }
}

/// What the items of a queue are, as a hash of its maker's words; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schema(u64);

impl Schema {
    pub(crate) fn new(text: &str) -> Schema {
        Schema(layout_hash(text).max(1))
    }
}

/// What a queue is made to be.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Most items at one time; `None` = any number.
    pub(crate) bound: Option<usize>,
    /// Bytes of the ring.
    pub(crate) bytes: usize,
    /// Bytes of the longest item.
    pub(crate) max_message: usize,
    pub(crate) form: Form,
}

impl Shape {
    fn check(&self) -> Result<(), CreateError> {
        if let Some(bound) = self.bound.filter(|bound| !(1..=MOST).contains(bound)) {
            return Err(CreateError::Bound(bound));
        }
        if !self.bytes.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&self.bytes) {
            return Err(CreateError::RingBytes(self.bytes));
        }
        Ok(())
    }

    fn write(&self, segment: &Segment) {
        let settings = segment.view::<Settings>(SETTINGS_AT).expect("a new segment holds its settings");
        settings.bound.store(self.bound.unwrap_or(0) as u32, Relaxed);
        settings.bytes.store(self.bytes as u32, Relaxed);
        settings.max_message.store(self.max_message as u64, Relaxed);
        settings.form.store(self.form.word(), Relaxed);
    }
}

/// New memory for a queue.
pub(crate) fn create(shape: &Shape) -> Result<Segment, CreateError> {
    shape.check()?;
    let segment = Segment::create(c"queue", KIND, size(shape.form, shape.bytes), Registry::get()?.id())?;
    shape.write(&segment);
    Ok(segment)
}

/// The memory of a queue that came in a message.
pub(crate) fn unpack(parcel: Parcel) -> Result<Segment, Strange> {
    let segment = Segment::unpack(parcel, KIND)?;
    check_registry(&segment)?;
    Ok(segment)
}

/// The memory of the queue of this name; made, if there is none.
pub(crate) fn named(name: &str, shape: &Shape, schema: Option<Schema>) -> Result<Segment, NamedError> {
    shape.check()?;
    let registry = Registry::get().map_err(CreateError::Registry)?.id();
    let init = |segment: &Segment| {
        shape.write(segment);
        if let Some(Schema(hash)) = schema {
            segment.view::<AtomicU64>(SCHEMA_AT).expect("it lies before the ring").store(hash, Relaxed);
        }
    };
    let (segment, _) = Segment::leased(name, KIND, size(shape.form, shape.bytes), registry, init)?;
    check_registry(&segment).map_err(NamedError::of)?;
    if schema.is_some_and(|schema| schema_of(&segment) != Some(schema)) {
        return Err(NamedError::Schema);
    }
    Ok(segment)
}

fn check_registry(segment: &Segment) -> Result<(), Strange> {
    match segment.registry() == Registry::get()?.id() {
        true => Ok(()),
        false => Err(HeaderError::ForeignRegistry.into()),
    }
}

fn schema_of(segment: &Segment) -> Option<Schema> {
    let hash = segment.view::<AtomicU64>(SCHEMA_AT).ok()?.load(Relaxed);
    (hash != 0).then_some(Schema(hash))
}

/// What a queue's memory consists of.
pub(crate) struct Parts {
    pub(crate) form: Form,
    pub(crate) channel: Channel,
    pub(crate) tasks: Option<Tasks>,
    pub(crate) leases: Option<Leases>,
    /// Bytes of the longest item.
    pub(crate) max_message: usize,
}

/// The parts of a queue, which must be of one of these forms.
pub(crate) fn parts(segment: &Segment, forms: &[Form]) -> Result<Parts, Strange> {
    let form = form(segment, forms)?;
    let tasks = (form == Form::Joinable).then(|| segment.view(TASKS_AT)).transpose()?.map(Tasks::new);
    let (channel, ring) = channel(segment, form)?;
    let leases = (form == Form::Leased).then(|| leases(segment, ring)).transpose()?;
    let max_message = segment.view::<Settings>(SETTINGS_AT)?.max_message.load(Relaxed);
    let max_message = usize::try_from(max_message).map_err(|_| Strange::Settings)?;
    Ok(Parts { form, channel, tasks, leases, max_message })
}

/// Bytes of the whole, given those of the ring.
fn size(form: Form, ring: usize) -> usize {
    RING_AT + ring + lent_bytes(form, ring)
}

/// Bytes behind a ring of `ring` bytes.
fn lent_bytes(form: Form, ring: usize) -> usize {
    if form == Form::Leased { PLACES * leases::slot(MAX_PAYLOAD.min(ring / 4)) } else { 0 }
}

fn leases(segment: &Segment, ring: usize) -> Result<Leases, Strange> {
    let bytes = lent_bytes(Form::Leased, ring);
    let lent = Bytes::new(segment.mapping(), HEADER_SIZE + RING_AT + ring, bytes)?;
    Ok(Leases::new(segment.view(LEASES_AT)?, lent))
}

fn form(segment: &Segment, forms: &[Form]) -> Result<Form, Strange> {
    let settings = segment.view::<Settings>(SETTINGS_AT)?;
    let form = Form::of(settings.form.load(Relaxed)).ok_or(Strange::Settings)?;
    if forms.contains(&form) { Ok(form) } else { Err(Strange::Form(form)) }
}

/// The ring in `segment`, and its bytes. Bound and size are read once.
fn channel(segment: &Segment, form: Form) -> Result<(Channel, usize), Strange> {
    let settings = segment.view::<Settings>(SETTINGS_AT)?;
    let (bound, bytes) = (settings.bound.load(Relaxed), settings.bytes.load(Relaxed) as usize);
    let sane = (SMALLEST..=LARGEST).contains(&bytes) && bound as usize <= MOST;
    if !sane || segment.size() != size(form, bytes) {
        return Err(Strange::Settings);
    }
    let ring = Bytes::new(segment.mapping(), HEADER_SIZE + RING_AT, bytes)?;
    Ok((Channel::new(segment.view(0)?, segment.view(LEDGER_AT)?, ring, bound), bytes))
}

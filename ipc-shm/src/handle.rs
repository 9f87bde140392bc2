//! Descriptors inside serde messages: the slot table of a message in flight.
//!
//! A transport opens an [`Outgoing`] table around serialization. A handle that is serialized meanwhile, however
//! deep inside the message, [`lend`]s its descriptor and writes down the slot it got. The transport sends the
//! table's descriptors beside the bytes, opens an [`Incoming`] table around deserialization, and each handle
//! [`take`]s its slot. Tables stack, one per message under way in this thread; without a table, serializing a
//! handle is an error and not a dead number.
//!
//! A transport that carries bytes only opens a table for [names only](Outgoing::names_only): handles of things that have a
//! name write it down and are opened by it, all others are errors.
//!
//! The table holds the descriptors by `Arc`: a temporary handle may be dropped before the message is sent.
//! The idea is ipc-channel's (`OpaqueIpcSender`), with guards instead of globals.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

thread_local! {
    static OUTGOING: RefCell<Vec<Sending>> = const { RefCell::new(Vec::new()) };
    static INCOMING: RefCell<Vec<Vec<Arc<OwnedFd>>>> = const { RefCell::new(Vec::new()) };
}

/// What is done when the fate of a message is known: true = it was sent.
type Outcome = Box<dyn FnOnce(bool)>;

/// A handle was serialized, but not by a transport that can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LendError {
    /// No transport is serializing a message in this thread.
    NoMessage,
    /// The transport carries names only, and the handle is of a thing without a name.
    NamesOnly,
}

impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LendError::NoMessage => {
                "a handle can only travel inside a message of a transport that carries descriptors"
            }
            LendError::NamesOnly => "a handle of a thing without a name cannot travel where only names do",
        })
    }
}

impl std::error::Error for LendError {}

/// A message named a descriptor that did not come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchSlot {
    /// The slot that the message names.
    pub slot: u32,
}

impl fmt::Display for NoSuchSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message names descriptor {}, which did not come with it", self.slot)
    }
}

impl std::error::Error for NoSuchSlot {}

/// The table of the message being serialized in this thread; closes on drop.
#[derive(Debug)]
pub struct Outgoing {
    /// A table belongs to the thread that opened it.
    not_send: PhantomData<*const ()>,
}

impl Outgoing {
    /// Opens a table on top of those that are open in this thread.
    #[inline]
    pub fn open() -> Outgoing {
        OUTGOING.with_borrow_mut(|tables| tables.push(Sending::default()));
        Outgoing { not_send: PhantomData }
    }

    /// Opens a table that takes no descriptors. What has a name travels by it; who receives it opens it by that name, so
    /// somebody must keep the thing until then.
    #[inline]
    pub fn names_only() -> Outgoing {
        let mut table = Sending::default();
        table.names_only = true;
        OUTGOING.with_borrow_mut(|tables| tables.push(table));
        Outgoing { not_send: PhantomData }
    }

    /// Closes the table and answers what it collected.
    #[inline]
    pub fn finish(self) -> Sending {
        OUTGOING.with_borrow_mut(|tables| tables.last_mut().map(std::mem::take)).unwrap_or_default()
    }
}

impl Drop for Outgoing {
    #[inline]
    fn drop(&mut self) {
        let closed = OUTGOING.with_borrow_mut(Vec::pop);
        drop(closed); // outside the borrow: it may run outcomes
    }
}

/// What a serialized message takes along. Dropped without [`sent`](Sending::sent), it tells the handles that
/// they stayed.
#[derive(Default)]
pub struct Sending {
    descriptors: Vec<Arc<OwnedFd>>,
    outcomes: Vec<Outcome>,
    names_only: bool,
}

impl Sending {
    /// Descriptors in slot order.
    pub fn descriptors(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.descriptors.iter().map(|descriptor| descriptor.as_fd())
    }

    /// The same, to be kept beyond the message: they close with their last user.
    pub fn shared(&self) -> &[Arc<OwnedFd>] {
        &self.descriptors
    }

    /// True when the message is bytes only.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// The message is on its way: handles that moved with it are gone here.
    #[inline]
    pub fn sent(mut self) {
        self.settle(true);
    }

    /// Tells the handles, once.
    #[inline]
    fn settle(&mut self, sent: bool) {
        if !self.outcomes.is_empty() {
            std::mem::take(&mut self.outcomes).into_iter().for_each(|outcome| outcome(sent));
        }
    }
}

impl Drop for Sending {
    #[inline]
    fn drop(&mut self) {
        self.settle(false);
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

/// Lends a descriptor to the message being serialized in this thread; the same descriptor gets the same slot.
///
/// # Errors
///
/// No transport is serializing a message in this thread, or it carries names only.
pub fn lend(descriptor: &Arc<OwnedFd>) -> Result<u32, LendError> {
    OUTGOING.with_borrow_mut(|tables| {
        let table = tables.last_mut().ok_or(LendError::NoMessage)?;
        if table.names_only {
            return Err(LendError::NamesOnly);
        }
        let lent = &mut table.descriptors;
        let known = lent.iter().rposition(|other| Arc::ptr_eq(other, descriptor));
        let slot = known.unwrap_or_else(|| {
            lent.push(descriptor.clone());
            lent.len() - 1
        });
        Ok(slot as u32)
    })
}

/// Lends a descriptor, unless the message takes along the `name` of the thing instead: then there is no slot.
///
/// # Errors
///
/// As [`lend`].
pub fn lend_named(descriptor: &Arc<OwnedFd>, name: Option<&str>) -> Result<Option<u32>, LendError> {
    let by_name =
        name.is_some() && OUTGOING.with_borrow(|tables| tables.last().is_some_and(|table| table.names_only));
    if by_name { Ok(None) } else { lend(descriptor).map(Some) }
}

/// Has `outcome` called when the message being serialized was sent (true) or given up (false).
///
/// # Errors
///
/// No transport is serializing a message in this thread; `outcome` is dropped uncalled.
pub fn on_outcome(outcome: impl FnOnce(bool) + 'static) -> Result<(), LendError> {
    OUTGOING.with_borrow_mut(|tables| {
        tables.last_mut().ok_or(LendError::NoMessage)?.outcomes.push(Box::new(outcome));
        Ok(())
    })
}

/// The descriptors of the message being deserialized in this thread; what nobody took is closed on drop.
#[derive(Debug)]
pub struct Incoming {
    /// A table belongs to the thread that opened it.
    not_send: PhantomData<*const ()>,
}

impl Incoming {
    /// Opens a table with what came with the message, in slot order.
    #[inline]
    pub fn open(descriptors: Vec<OwnedFd>) -> Incoming {
        let table = match descriptors.is_empty() {
            true => Vec::new(), // as most are: it costs nothing
            false => descriptors.into_iter().map(Arc::new).collect(),
        };
        INCOMING.with_borrow_mut(|tables| tables.push(table));
        Incoming { not_send: PhantomData }
    }
}

impl Drop for Incoming {
    #[inline]
    fn drop(&mut self) {
        let closed = INCOMING.with_borrow_mut(Vec::pop);
        drop(closed);
    }
}

/// The descriptor in `slot` of the message being deserialized in this thread. A slot may be taken many times.
///
/// # Errors
///
/// The message came with fewer descriptors, or no transport is deserializing in this thread.
pub fn take(slot: u32) -> Result<Arc<OwnedFd>, NoSuchSlot> {
    INCOMING.with_borrow(|tables| {
        let table = tables.last().ok_or(NoSuchSlot { slot })?;
        table.get(slot as usize).cloned().ok_or(NoSuchSlot { slot })
    })
}

/// Any descriptor as a field of a message: a file, a socket, one end of somebody's pipe.
///
/// Sending lends it: this process keeps its own copy open until it is dropped, and the receiver gets a
/// descriptor of its own for the same open file. Cloning is cheap and shares.
///
/// ```
/// use ipc_shm::Descriptor;
/// let file = Descriptor::from(std::fs::File::open("/dev/null")?);
/// let again: std::fs::File = file.try_into_file()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "SCM_RIGHTS")]
pub struct Descriptor(Arc<OwnedFd>);

impl Descriptor {
    /// A file of its own for the same open file description.
    ///
    /// # Errors
    ///
    /// The limit of open descriptors is reached and another user of this descriptor exists in this process.
    pub fn try_into_file(self) -> io::Result<File> {
        self.try_into_owned().map(File::from)
    }

    /// The descriptor itself if nobody else in this process uses it, else a duplicate.
    ///
    /// # Errors
    ///
    /// The limit of open descriptors is reached and a duplicate is needed.
    pub fn try_into_owned(self) -> io::Result<OwnedFd> {
        Arc::try_unwrap(self.0).or_else(|shared| shared.try_clone())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(descriptor: OwnedFd) -> Self {
        Descriptor(Arc::new(descriptor))
    }
}

impl From<File> for Descriptor {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<Arc<OwnedFd>> for Descriptor {
    fn from(descriptor: Arc<OwnedFd>) -> Self {
        Descriptor(descriptor)
    }
}

impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(&self.0).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(u32::deserialize(deserializer)?).map(Descriptor).map_err(de::Error::custom)
    }
}

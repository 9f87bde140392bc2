//! `Payload`: a message that is handed over instead of copied.
#![allow(unsafe_code)]

use std::fmt;
use std::slice;

use ipc_shm::OutOfBounds;

use crate::store::Extent;

/// A message as memory that both sides of a pipe see; handing it over costs the same for a kilobyte and for 64 MiB.
///
/// [`Sender::payload`](crate::Sender::payload) makes one, [`send_payload`](crate::Sender::send_payload) hands it over,
/// [`recv_payload`](crate::Receiver::recv_payload) takes it; it may be written and sent back as it is. Whoever has it is the
/// only one who may read and write it; a process that does so all the same is one that writes over the memory of the pipe. Any
/// other kind of receive gets a copy, and a message that was sent otherwise is received as a payload with memory of its own.
///
/// When it is dropped, its memory goes back to the pipe that it came from. The first 4 MiB of a direction are kept for the next
/// payload, until the receiver has waited for 100 ms; what lies beyond goes back to the kernel at once. A process that dies with a payload loses it with what was
/// in it, and the memory comes back when it is needed.
///
/// ```
/// let (here, there) = ipc_pipe::pipe()?;
/// let mut picture = here.payload(1 << 20)?;
/// picture.write_at(0, b"one mebibyte of colours")?;
/// here.send_payload(picture)?;
///
/// let mut picture = there.recv_payload()?;
/// assert_eq!(picture.len(), 1 << 20);
/// picture.write_at(0, b"ONE")?;
/// there.send_payload(picture)?;
/// assert_eq!(&here.recv_payload()?.to_vec()[..16], b"ONE mebibyte of ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What was never written holds what an earlier payload left there, or zeros.
#[doc(alias = "zero copy")]
pub struct Payload(Content);

enum Content {
    /// Memory of the pipe.
    Apart(Extent),
    /// Memory of this process.
    Private(Vec<u8>),
}

impl Payload {
    pub(crate) fn of(extent: Extent) -> Payload {
        Payload(Content::Apart(extent))
    }

    pub(crate) fn extent(&mut self) -> Option<&mut Extent> {
        match &mut self.0 {
            Content::Apart(extent) => Some(extent),
            Content::Private(_) => None,
        }
    }

    /// The bytes of one that is private.
    pub(crate) fn private(&self) -> &[u8] {
        match &self.0 {
            Content::Apart(_) => &[],
            Content::Private(bytes) => bytes,
        }
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        match &self.0 {
            Content::Apart(extent) => extent.length(),
            Content::Private(bytes) => bytes.len(),
        }
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it lies in the memory of a pipe, so that sending it there copies nothing.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Content::Apart(_))
    }

    /// Makes the message shorter.
    pub fn truncate(&mut self, length: usize) {
        match &mut self.0 {
            Content::Apart(extent) => extent.truncate(length),
            Content::Private(bytes) => bytes.truncate(length),
        }
    }

    /// Copies bytes from `offset` on out of the message.
    ///
    /// # Errors
    ///
    /// The range leaves the message; nothing was copied.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let own = match &self.0 {
            Content::Apart(extent) => return extent.read(offset, bytes),
            Content::Private(own) => own,
        };
        let source = offset.checked_add(bytes.len()).and_then(|end| own.get(offset..end));
        bytes.copy_from_slice(source.ok_or(OutOfBounds { offset, length: bytes.len(), size: own.len() })?);
        Ok(())
    }

    /// Copies `bytes` to `offset` of the message.
    ///
    /// # Errors
    ///
    /// The range leaves the message; nothing was copied.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let own = match &mut self.0 {
            Content::Apart(extent) => return extent.write(offset, bytes),
            Content::Private(own) => own,
        };
        let outside = OutOfBounds { offset, length: bytes.len(), size: own.len() };
        let target = offset.checked_add(bytes.len()).and_then(|end| own.get_mut(offset..end));
        target.ok_or(outside)?.copy_from_slice(bytes);
        Ok(())
    }

    /// A copy of the message.
    pub fn to_vec(&self) -> Vec<u8> {
        match &self.0 {
            Content::Apart(extent) => extent.to_vec(),
            Content::Private(bytes) => bytes.clone(),
        }
    }

    /// The message in place.
    ///
    /// # Safety
    ///
    /// No process writes to the memory while the slice is used. The other side of the pipe keeps to that if it
    /// is a program of ours that is not hostile: it has no payload of this memory while this one exists.
    pub unsafe fn as_slice(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the extent has so many bytes, mapped as long as it lives; nobody writes, as the caller promises.
            Content::Apart(extent) => unsafe { slice::from_raw_parts(extent.base(), extent.length()) },
            Content::Private(bytes) => bytes,
        }
    }

    /// The message in place, to be written.
    ///
    /// # Safety
    ///
    /// As [`as_slice`](Payload::as_slice), and no process reads the memory either.
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            // SAFETY: as in `as_slice`, and `&mut self` is the only way to it in this process.
            Content::Apart(extent) => unsafe { slice::from_raw_parts_mut(extent.base(), extent.length()) },
            Content::Private(bytes) => bytes,
        }
    }
}

/// As a message with memory of its own.
impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Content::Private(bytes))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len()).field("shared", &self.is_shared()).finish()
    }
}

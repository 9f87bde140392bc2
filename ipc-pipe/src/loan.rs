//! `Loan`: the place of a message that is written where the receiver will read it.

use std::fmt;
use std::io::{self, Write};
use std::thread::panicking;

use ipc_shm::OutOfBounds;
use ipc_sync::{Deadline, processor};
use parking_lot::MappedMutexGuard;
use serde::Serialize;

use crate::codec::{self, EncodeError};
use crate::error::{SendError, TrySendError};
use crate::frame::HEADER;
use crate::half::{Half, Here};
use crate::outlet::{Outlet, PREFIX};
use crate::store::Extent;

/// Longest loan that lies in the ring; longer ones are handed over.
const IN_RING: usize = 32 << 10;

/// What bytes that nobody wrote are made of.
const ZEROS: [u8; 4096] = [0; 4096];

/// The place of a message under way; see [`Sender::loan`](crate::Sender::loan).
///
/// What is written goes straight to where the receiver reads it: into the ring up to 32 KiB, beyond that into memory that
/// is handed over as a [`Payload`](crate::Payload) is. The receiver takes it as any other message. Bytes that were not
/// written are zero.
///
/// The message is sent by [`send`](Loan::send), or when the loan is dropped; not when it is dropped by a panic,
/// and not after [`abandon`](Loan::abandon). A process that dies with a loan sends nothing of it.
///
/// As long as the loan lasts, no other message is sent from this end: other threads wait, this one gets
/// [`SendError::OnLoan`]. It belongs to its thread.
pub struct Loan<'a> {
    half: &'a Half<Outlet>,
    here: MappedMutexGuard<'a, Here<Outlet>>,
    /// `None` = it lies in the ring.
    extent: Option<Extent>,
    length: usize,
    /// Everything before was written.
    filled: usize,
    /// Where `write` goes on.
    cursor: usize,
    over: bool,
    panicking: bool,
}

impl<'a> Loan<'a> {
    pub(crate) fn new(
        half: &'a Half<Outlet>,
        length: usize,
        deadline: Deadline,
    ) -> Result<Self, TrySendError> {
        let mut here = half.enter(deadline)?;
        let in_ring = length <= IN_RING;
        let extent = if in_ring { None } else { Some(here.allot(length, deadline)?) };
        here.wait_room(if in_ring { length } else { PREFIX }, deadline)?;
        half.set_borrower(here.token());
        let (filled, cursor, over) = Default::default();
        Ok(Loan { half, here, extent, length, filled, cursor, over, panicking: panicking() })
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// The range leaves the message; nothing was copied.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let end = offset.checked_add(bytes.len()).filter(|&end| end <= self.length);
        let end = end.ok_or(OutOfBounds { offset, length: bytes.len(), size: self.length })?;
        self.fill(offset);
        self.put(offset, bytes);
        self.filled = self.filled.max(end);
        Ok(())
    }

    /// Makes the message shorter.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        self.filled = self.filled.min(self.length);
        self.cursor = self.cursor.min(self.length);
    }

    /// Makes the message a value, for [`recv`](crate::Receiver::recv), and as long as that.
    ///
    /// ```
    /// let (receiver, sender) = ipc_pipe::simplex()?;
    /// let mut loan = sender.loan(1000)?;
    /// loan.serialize(&(1u8, "one"))?;
    /// drop(loan);
    /// assert_eq!(receiver.recv::<(u8, String)>()?, (1, "one".to_owned()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The value is longer than the loan, has handles inside, or its `Serialize` refused. What the message holds is then of no
    /// use.
    pub fn serialize<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let mut at = 0;
        codec::encode_to(value, |piece| {
            let written = self.write_at(at, piece).is_ok();
            at += piece.len();
            written
        })?;
        self.truncate(at);
        Ok(())
    }

    /// Sends the message.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if nobody is left to read it, [`SendError::Corrupt`].
    pub fn send(mut self) -> Result<(), SendError> {
        self.publish().map_err(TrySendError::endless)
    }

    /// Gives the place back; nothing is sent.
    pub fn abandon(mut self) {
        self.over = true;
    }

    /// There is room for all that this writes: it waits for nothing.
    fn publish(&mut self) -> Result<(), TrySendError> {
        self.over = true;
        self.fill(self.length);
        let Loan { here, extent, length, .. } = self;
        if let Some(extent) = extent {
            extent.truncate(*length);
            return here.hand_over(extent, &[], Deadline::NEVER);
        }
        let Here { cursor, track, .. } = &mut **here;
        cursor.producer.publish(&track.words, &track.bytes, *length, processor());
        here.tell()
    }

    /// Writes zeros up to `end`, where nothing was written.
    fn fill(&mut self, end: usize) {
        while self.filled < end {
            let piece = ZEROS.len().min(end - self.filled);
            self.put(self.filled, &ZEROS[..piece]);
            self.filled += piece;
        }
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(extent) = &self.extent {
            let written = extent.write(offset, bytes);
            debug_assert!(written.is_ok());
        } else {
            let start = self.here.cursor.producer.position() + HEADER;
            self.here.track.bytes.write_at(start + offset as u64, bytes);
        }
    }
}

impl Write for Loan<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.length - self.cursor);
        self.write_at(self.cursor, &bytes[..length]).map_err(io::Error::other)?;
        self.cursor += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let unwinding = panicking() && !self.panicking;
        if !self.over && !unwinding {
            let _ = self.publish(); // nobody is there to read it, nor to be told
        }
        self.half.set_borrower(0);
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("length", &self.length).finish_non_exhaustive()
    }
}

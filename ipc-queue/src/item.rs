//! What an item is: bytes, and the descriptors of the handles in them; and the way that each kind takes.
//!
//! ```text
//! bytes of at most a quarter of the ring   a frame
//! those, and descriptors                   a frame with a packet beside it, see `beside`
//! more bytes                               lie in a blob, whose descriptor is the first in the packet
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_pipe::socket::MAX_DESCRIPTORS;
use ipc_sync::{Deadline, Me};

use crate::batch::Batch;
use crate::beside::{Content, Found, NONCE, Parcel, Side};
use crate::blob;
use crate::channel::{Fault, Frame, Put, Taken};
use crate::error::{GetError, PutFault};
use crate::raw::{MOMENT, RawQueue};

/// Times that others may take what was in front, before a get counts it as nothing there.
const TRIES: u32 = 1000;

/// An item on its way into a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) descriptors: &'a [Arc<OwnedFd>],
}

impl<'a> Item<'a> {
    /// An item without handles.
    #[inline(always)]
    pub(crate) fn of(bytes: &'a [u8]) -> Item<'a> {
        Item { bytes, descriptors: &[] }
    }

    /// Whether it is a frame and nothing else.
    #[inline(always)]
    pub(crate) fn is_plain(&self, longest: usize) -> bool {
        self.bytes.len() <= longest && self.descriptors.is_empty()
    }
}

/// An item that waits.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: Box<[u8]>,
    descriptors: Box<[Arc<OwnedFd>]>,
}

impl Kept {
    pub(crate) fn of(item: Item<'_>) -> Kept {
        Kept { bytes: item.bytes.into(), descriptors: item.descriptors.into() }
    }

    pub(crate) fn item(&self) -> Item<'_> {
        Item { bytes: &self.bytes, descriptors: &self.descriptors }
    }
}

/// How an item counts that is put into the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    /// As one more.
    New,
    /// It is counted already, in this entry of the ledger.
    In(Option<usize>),
}

/// What became of a get.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// What came with the bytes.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The bytes are not where they should be.
    lost: bool,
}

impl Got {
    /// # Errors
    ///
    /// The item was taken, but its bytes are lost.
    pub(crate) fn check(self) -> Result<Vec<OwnedFd>, GetError> {
        if self.lost { Err(GetError::Lost) } else { Ok(self.descriptors) }
    }
}

impl RawQueue {
    /// # Errors
    ///
    /// The queue does not carry such an item, whatever the room.
    #[cold]
    pub(crate) fn check(&self, item: Item<'_>) -> Result<(), PutFault> {
        let has_side = self.side.is_some();
        let limit = if has_side { self.max_message } else { self.channel.longest() };
        if item.bytes.len() > limit {
            return Err(PutFault::TooLarge { bytes: item.bytes.len(), limit });
        }
        let count = item.descriptors.len();
        let max = MAX_DESCRIPTORS - usize::from(self.is_large(item));
        match count {
            0 => Ok(()),
            _ if !has_side => Err(PutFault::NoHandles),
            _ if count > max => Err(PutFault::TooManyHandles { count, max }),
            _ => Ok(()),
        }
    }

    /// Whether it does not fit a frame.
    fn is_large(&self, item: Item<'_>) -> bool {
        let prefix = if item.descriptors.is_empty() { 0 } else { NONCE };
        prefix + item.bytes.len() > self.channel.longest()
    }

    /// Appends an item to the ring if there is room.
    pub(crate) fn append(
        &self,
        me: &Me,
        item: Item<'_>,
        count: Count,
        deadline: Deadline,
    ) -> Result<Put, Fault> {
        let channel = &self.channel;
        let large = self.is_large(item);
        match (&self.side, count) {
            _ if !large && item.descriptors.is_empty() => match count {
                Count::New => channel.put(me, item.bytes, deadline),
                Count::In(entry) => channel
                    .put_reserved(me, entry, deadline, |at| channel.append(at, Frame::plain(item.bytes))),
            },
            (None, _) => Err(Fault::Corrupt), // `check` has refused it
            (Some(side), _) if large => self.append_large(me, side, item, count, deadline),
            (Some(side), _) => {
                let descriptors = borrow(item.descriptors);
                let parcel = Parcel { content: Content::Bytes(item.bytes), descriptors: &descriptors };
                self.append_parcel(me, side, &parcel, count, deadline)
            }
        }
    }

    /// The blob is made when there seems to be room for it, so that what waits is bytes and not descriptors, and before the
    /// lock is taken.
    #[cold]
    fn append_large(
        &self,
        me: &Me,
        side: &Side,
        item: Item<'_>,
        count: Count,
        deadline: Deadline,
    ) -> Result<Put, Fault> {
        let content = Content::Blob(item.bytes.len() as u64);
        if let Some(room) = self.channel.seems_full(self.channel.length_beside(content))? {
            return Ok(Put::NoRoom(room));
        }
        let filled = self.here.get().blobs.fill(item.bytes);
        let blob = filled.map_err(|error| Fault::Refused(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let mut descriptors = vec![blob.descriptor().as_fd()];
        descriptors.extend(borrow(item.descriptors));
        let put =
            self.append_parcel(me, side, &Parcel { content, descriptors: &descriptors }, count, deadline);
        if !matches!(put, Ok(Put::Done)) {
            blob::set_free(&blob);
        }
        put
    }

    fn append_parcel(
        &self,
        me: &Me,
        side: &Side,
        parcel: &Parcel<'_>,
        count: Count,
        deadline: Deadline,
    ) -> Result<Put, Fault> {
        let append = |at| self.channel.append_beside(me, at, side, parcel);
        match count {
            Count::New => {
                let put = |at| self.channel.put_new(me, at, || append(at));
                self.channel.locked(me, deadline, put)
            }
            Count::In(entry) => self.channel.put_reserved(me, entry, deadline, append),
        }
    }

    /// Takes the item in front, of whatever kind; answers the processor of its writer, `None` = there is none.
    pub(crate) fn take_any(
        &self,
        me: &Me,
        buffer: &mut Vec<u8>,
        got: &mut Got,
        deadline: Deadline,
    ) -> Result<Option<u32>, Fault> {
        for _ in 0..TRIES {
            match self.take(me, buffer)? {
                Taken::Item(processor) => return Ok(Some(processor)),
                Taken::Empty => return Ok(None),
                Taken::Beside => {}
            }
            if let Some(processor) = self.take_beside(me, buffer, got, deadline)? {
                return Ok(Some(processor));
            }
        }
        Ok(None)
    }

    /// As [`take_any`](RawQueue::take_any), for several items.
    pub(crate) fn take_any_many(
        &self,
        me: &Me,
        batch: &mut Batch,
        max: usize,
        got: &mut Got,
        deadline: Deadline,
    ) -> Result<Option<u32>, Fault> {
        for _ in 0..TRIES {
            match self.take_many(me, batch, max)? {
                Taken::Item(processor) => return Ok(Some(processor)),
                Taken::Empty => return Ok(None),
                Taken::Beside => {}
            }
            let mut item = Vec::new();
            if let Some(processor) = self.take_beside(me, &mut item, got, deadline)? {
                batch.clear();
                batch.push(|bytes| *bytes = item);
                return Ok(Some(processor));
            }
        }
        Ok(None)
    }

    /// Takes the item in front if it has something beside it.
    #[cold]
    fn take_beside(
        &self,
        me: &Me,
        buffer: &mut Vec<u8>,
        got: &mut Got,
        deadline: Deadline,
    ) -> Result<Option<u32>, Fault> {
        let side = self.side.as_ref().ok_or(Fault::Corrupt)?;
        let patience = if deadline == Deadline::NOW { Deadline::after(MOMENT) } else { deadline };
        let take = |buffer: &mut Vec<u8>| match self.channel.take_beside(me, side, buffer, patience) {
            Err(Fault::Refused(libc::EMFILE)) if self.here.get().blobs.forget() => {
                self.channel.take_beside(me, side, buffer, patience)
            }
            taken => taken,
        };
        let found = match &self.tasks {
            None => take(buffer)?,
            Some(tasks) => self.as_task(me, tasks, || take(buffer), Option::is_some)?,
        };
        let Some(found) = found else { return Ok(None) };
        let processor = found.processor;
        *got = self.unpack(found, buffer);
        Ok(Some(processor))
    }

    /// Reads what lies elsewhere. The item is taken, and nobody waits for this.
    #[cold]
    fn unpack(&self, found: Found, buffer: &mut Vec<u8>) -> Got {
        let mut descriptors = found.bundle.map_or_else(Vec::new, |bundle| bundle.descriptors);
        let Some(size) = found.blob else { return Got { descriptors, lost: false } };
        let size = usize::try_from(size).ok().filter(|&size| size <= self.max_message);
        let read = match size {
            Some(size) if !descriptors.is_empty() => {
                self.here.get().blobs.empty(descriptors.remove(0), size, buffer)
            }
            _ => None,
        };
        Got { descriptors, lost: read.is_none() }
    }
}

fn borrow(descriptors: &[Arc<OwnedFd>]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(|descriptor| descriptor.as_fd()).collect()
}

/// What a put says of a fault.
pub(crate) fn put_fault(fault: Fault) -> PutFault {
    match fault {
        Fault::TimedOut => PutFault::TimedOut,
        Fault::Corrupt => PutFault::Corrupt,
        Fault::ShutDown => PutFault::ShutDown,
        Fault::Refused(number) => PutFault::Descriptors(io::Error::from_raw_os_error(number)),
    }
}

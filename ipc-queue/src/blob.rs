//! Memory for one large item at a time: filled by its putter, emptied by its getter, used again.
//!
//! ```text
//! offset  size  what
//!      0     8  state
//!      8    56  padding
//!     64     …  the item
//!
//! state   0 FREE   → FULL by the process that made the blob, before it writes anything else
//!         1 FULL   → FREE by the getter, when it has read everything
//! ```
//!
//! Who made a blob, and who has read from it, keeps it mapped for the next item, so that its pages are faulted in once. It
//! is sealed against resizing, which is looked at before a byte of it is touched. A getter that dies with an item leaves
//! its blob full: then the pool forgets it, and the kernel frees it with its last descriptor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use ipc_shm::{Mapping, sealed_file};
use parking_lot::Mutex;

use crate::beside::BLOBS;

const FREE: u64 = 0;
const FULL: u64 = 1;
const CONTENT_AT: usize = 64;

/// Smallest content, and largest that is kept for another item.
const SMALLEST: usize = 64 << 10;
const KEPT: usize = 2 << 20;

/// The blobs that one process keeps for one queue.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    /// Those it has made and may use again.
    own: Mutex<Few>,
    /// Those it has read from, whose makers may use them again.
    read: Mutex<Few>,
}

/// At most [`BLOBS`], oldest first.
#[derive(Debug, Default)]
struct Few(VecDeque<Arc<Mapping>>);

impl Few {
    /// Large ones are not kept.
    fn keep(&mut self, blob: &Arc<Mapping>) {
        if content(blob) > KEPT || self.0.iter().any(|kept| Arc::ptr_eq(kept, blob)) {
            return;
        }
        if self.0.len() == BLOBS {
            self.0.pop_front();
        }
        self.0.push_back(blob.clone());
    }
}

impl Blobs {
    /// A blob that holds `item`.
    ///
    /// # Errors
    ///
    /// No descriptor, no memory.
    pub(crate) fn fill(&self, item: &[u8]) -> io::Result<Arc<Mapping>> {
        let blob = match self.claim(item.len()) {
            Some(blob) => blob,
            None => self.make(item.len())?,
        };
        blob.write(CONTENT_AT, item).map_err(io::Error::other)?;
        Ok(blob)
    }

    /// Keeps none any more, for their descriptors are wanted; whether there were any.
    #[cold]
    pub(crate) fn forget(&self) -> bool {
        let blobs = [&self.own, &self.read].map(|few| std::mem::take(&mut *few.lock()));
        blobs.iter().any(|few| !few.0.is_empty())
    }

    /// One that nobody uses, and that is neither too small nor much too large. It is full from now on.
    fn claim(&self, length: usize) -> Option<Arc<Mapping>> {
        let fits = |blob: &&Arc<Mapping>| {
            let room = content(blob);
            room >= length && room / 8 <= length.max(SMALLEST) && state(blob).load(Acquire) == FREE
        };
        let own = self.own.lock();
        let blob = own.0.iter().find(fits)?;
        state(blob).store(FULL, Relaxed);
        Some(blob.clone())
    }

    fn make(&self, length: usize) -> io::Result<Arc<Mapping>> {
        let room = length.max(SMALLEST).next_power_of_two();
        let blob = Mapping::of(Arc::new(sealed_file(c"queue item", CONTENT_AT + room)?))?;
        state(&blob).store(FULL, Relaxed);
        self.own.lock().keep(&blob);
        Ok(blob)
    }

    /// Reads the item of a blob that came with it, and gives the blob back. `None` = it does not hold so much, or is none,
    /// whatever a stranger sent.
    pub(crate) fn empty(&self, blob: OwnedFd, length: usize, buffer: &mut Vec<u8>) -> Option<()> {
        let blob = Mapping::of(Arc::new(blob)).ok()?;
        if blob.size() < CONTENT_AT || content(&blob) < length || !blob.is_sealed() {
            return None;
        }
        if buffer.capacity() < length {
            *buffer = vec![0; length]; // memory that is zero already
        } else {
            buffer.resize(length, 0); // what an item before left there is not zeroed
        }
        blob.read(CONTENT_AT, buffer).ok()?;
        self.read.lock().keep(&blob);
        set_free(&blob);
        Some(())
    }
}

/// Says that nobody uses the blob: its item was not put, or was read.
pub(crate) fn set_free(blob: &Mapping) {
    state(blob).store(FREE, Release);
}

fn state(blob: &Mapping) -> &AtomicU64 {
    blob.cells(0).expect("a blob begins with its state")
}

/// Bytes that its item may have.
fn content(blob: &Mapping) -> usize {
    blob.size().saturating_sub(CONTENT_AT)
}

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
//! It is read and written by system calls and not mapped: the kernel checks every bound, and no page is faulted in
//! twice. A getter that dies with an item leaves its blob full: then the pool forgets it, and the kernel frees it with
//! its last descriptor.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ipc_shm::sealed_file;
use parking_lot::Mutex;

use crate::beside::BLOBS;

const FREE: u64 = 0;
const FULL: u64 = 1;
const CONTENT_AT: u64 = 64;

/// Smallest content, and largest that is kept for another item.
const SMALLEST: usize = 64 << 10;
const KEPT: usize = 2 << 20;

/// The blobs that one process has made for one queue and may use again, oldest first; at most [`BLOBS`].
#[derive(Debug, Default)]
pub(crate) struct Blobs(Mutex<VecDeque<Arc<File>>>);

impl Blobs {
    /// A blob that holds `item`.
    ///
    /// # Errors
    ///
    /// No descriptor, no memory.
    pub(crate) fn fill(&self, item: &[u8]) -> io::Result<Arc<File>> {
        let blob = match self.claim(item.len()) {
            Some(blob) => blob,
            None => self.make(item.len())?,
        };
        blob.write_all_at(item, CONTENT_AT)?;
        Ok(blob)
    }

    /// One that nobody uses, and that is neither too small nor much too large. It is full from now on.
    fn claim(&self, length: usize) -> Option<Arc<File>> {
        let fits = |blob: &Arc<File>| {
            let room = content(blob).unwrap_or(0);
            room >= length && room / 8 <= length.max(SMALLEST) && state(blob) == Some(FREE)
        };
        let blobs = self.0.lock();
        let blob = blobs.iter().find(|blob| fits(blob))?;
        blob.write_all_at(&FULL.to_ne_bytes(), 0).ok()?;
        Some(blob.clone())
    }

    fn make(&self, length: usize) -> io::Result<Arc<File>> {
        let room = length.max(SMALLEST).next_power_of_two();
        let blob = Arc::new(File::from(sealed_file(c"queue item", CONTENT_AT as usize + room)?));
        blob.write_all_at(&FULL.to_ne_bytes(), 0)?;
        if room <= KEPT {
            let mut blobs = self.0.lock();
            if blobs.len() == BLOBS {
                blobs.pop_front();
            }
            blobs.push_back(blob.clone());
        }
        Ok(blob)
    }
}

/// Says that nobody uses the blob: its item was not put, or was read.
pub(crate) fn set_free(blob: &File) {
    let _ = blob.write_all_at(&FREE.to_ne_bytes(), 0);
}

/// Reads the item of a blob that came with it, and gives the blob back. `None` = it does not hold so much.
pub(crate) fn empty(blob: OwnedFd, length: usize, buffer: &mut Vec<u8>) -> Option<()> {
    let blob = File::from(blob);
    if content(&blob)? < length {
        return None;
    }
    if buffer.capacity() < length {
        *buffer = vec![0; length]; // memory that is zero already
    } else {
        buffer.resize(length, 0);
    }
    blob.read_exact_at(buffer, CONTENT_AT).ok()?;
    set_free(&blob);
    Some(())
}

/// Bytes that its item may have. A directory, a device or a socket is none, whatever a stranger sent.
fn content(blob: &File) -> Option<usize> {
    let about = blob.metadata().ok().filter(|about| about.is_file())?;
    usize::try_from(about.len().checked_sub(CONTENT_AT)?).ok()
}

fn state(blob: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    blob.read_exact_at(&mut bytes, 0).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

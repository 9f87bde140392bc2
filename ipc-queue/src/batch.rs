//! Several items in one buffer, used again and again.

use std::cell::Cell;
use std::fmt;
use std::ops::{Index, Range};

/// A batch that grew beyond so many bytes is not kept by its thread.
const KEPT: usize = 64 << 10;

/// Items that came together, one behind the other in one buffer. Used again, it allocates nothing.
///
/// ```
/// let queue = ipc_queue::Queue::<()>::new()?;
/// queue.put_bytes_many(&[b"one", b"two", b"three"])?;
/// let mut batch = ipc_queue::Batch::new();
/// queue.get_bytes_many(2, &mut batch)?;
/// assert!(batch.iter().eq([b"one", b"two"]));
/// queue.get_bytes_many(10, &mut batch)?;
/// assert_eq!((batch.len(), &batch[0]), (1, &b"three"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// Without items.
    pub const fn new() -> Batch {
        Batch { bytes: Vec::new(), ends: Vec::new() }
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Item number `index`; the oldest is 0.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        (index < self.len()).then(|| &self[index])
    }

    /// The items, the oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| &self[index])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Bytes of all items.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// One more item, which `write` appends to the buffer.
    #[inline(always)]
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Without the last item.
    pub(crate) fn pop(&mut self) {
        self.ends.pop();
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// One more item, which `write` appends to the buffer; none if it fails.
    pub(crate) fn try_push<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        match written {
            Ok(()) => self.ends.push(self.bytes.len()),
            Err(_) => self.bytes.truncate(start),
        }
        written
    }
}

impl Index<usize> for Batch {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        &self.bytes[self.range(index)]
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Runs `f` with an empty batch of this thread; a call inside `f` gets another.
pub(crate) fn with_batch<R>(f: impl FnOnce(&mut Batch) -> R) -> R {
    thread_local! {
        static BATCH: Cell<Batch> = const { Cell::new(Batch::new()) };
    }
    let mut batch = BATCH.try_with(Cell::take).unwrap_or_default();
    batch.clear();
    let result = f(&mut batch);
    if batch.bytes.capacity() <= KEPT && batch.ends.capacity() <= KEPT / size_of::<usize>() {
        let _ = BATCH.try_with(|kept| kept.set(batch));
    }
    result
}

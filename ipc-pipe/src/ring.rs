//! The lock-free half of a pipe: one producer, one consumer, and what each tells the other.
//!
//! ```text
//! words of one direction
//! off size
//!   0   4  writer   who has the writing side, see `owner`
//!   4   4  bell     data bell, see below
//!   8   8  tail     where the next frame goes                  writer, after the frame and `item`; a hint
//!  16   4  item     the number of the next message             writer, after the frame; a hint
//!  20 108  zero
//! 128   4  reader   who has the reading side, see `owner`
//! 132   4  zero
//! 136   8  head     everything before it was taken             reader; the truth
//! 144  16  room     `ipc_sync::RoomBell`: the writer waits for the head to come to a position
//! 160  96  zero
//!
//! data bell
//! 0        nobody sleeps: ringing costs one load
//! ASLEEP   the reader may sleep: the writer takes it down by a swap and sends one packet through the socket
//! ```
//!
//! What is in the ring is told by the frames alone (see `frame`): a frame is there when its header is, and then it is
//! whole. Each side keeps its own position to itself. Whoever takes a side over reads it anew: the reader's is `head`;
//! the writer's is the first header from `tail` on that is not published, because a writer may die between the
//! header and the hint. So there is nothing to repair.
//!
//! Both sides put a full barrier between telling and looking: the writer between the frame and the bell, the reader
//! between the bell and the frame; and the same, the other way round, for room.

use crate::bytes::Bytes;
use crate::frame::{Flags, HEADER, Header, span};
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*, RoomBell, full_fence};

const ASLEEP: u32 = 1 << 31;

/// How far ahead of the tail the writer asks for the line it will write.
const AHEAD: u64 = 128;

/// A position beyond it was never reached by anybody: at ten gigabytes a second it takes fourteen years.
const FAR: u64 = 1 << 62;

/// Tells the writer that the reader may sleep.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct DataBell(AtomicU32);

impl DataBell {
    /// The reader is about to sleep. It must look at the ring once more behind this.
    pub(crate) fn hang(&self) {
        self.0.swap(ASLEEP, SeqCst);
        full_fence();
    }

    /// The reader found something without sleeping. The writer may ring all the same.
    pub(crate) fn take_down(&self) {
        self.0.store(0, Relaxed);
    }

    /// Whether the reader must be woken now. The caller has published, and put a full barrier behind it.
    #[inline(always)]
    pub(crate) fn must_ring(&self) -> bool {
        self.0.load(Relaxed) != 0 && self.answer()
    }

    #[cold]
    fn answer(&self) -> bool {
        self.0.swap(0, SeqCst) != 0
    }
}

/// The line that the writer writes.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct WritersLine {
    pub(crate) owner: AtomicU32,
    pub(crate) bell: DataBell,
    tail: AtomicU64,
    item: AtomicU32,
}

/// The line that the reader writes.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct ReadersLine {
    pub(crate) owner: AtomicU32,
    head: AtomicU64,
    pub(crate) room: RoomBell,
}

/// The words of one direction.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Words {
    pub(crate) writer: WritersLine,
    pub(crate) reader: ReadersLine,
}

impl Words {
    /// How far the reader has come.
    #[inline(always)]
    pub(crate) fn taken(&self) -> u64 {
        self.reader.head.load(Acquire)
    }
}

/// What the writing side keeps to itself.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    tail: u64,
    /// Number of the message under way.
    item: u32,
    /// The head as last seen.
    head: u64,
}

impl Producer {
    /// Finds out where the side stands. `None` = the words or the ring were written over.
    pub(crate) fn take_over(words: &Words, bytes: &Bytes) -> Option<Producer> {
        let head = words.reader.head.load(Acquire);
        let tail = words.writer.tail.load(Acquire);
        let item = words.writer.item.load(Relaxed);
        // The hint may be one frame behind, and the reader may have taken that frame.
        let capacity = bytes.capacity();
        let plausible = head < FAR && tail < FAR && tail <= head + capacity && head <= tail + capacity;
        plausible.then_some(Producer { tail, item, head })?.walk(bytes)
    }

    /// Goes on over frames that are published already.
    fn walk(mut self, bytes: &Bytes) -> Option<Producer> {
        let start = self.tail;
        while let Some(header) = Header::published(bytes.header(self.tail).load(Acquire)) {
            self.tail += header.span();
            self.item = header.item().wrapping_add(header.flags().has(Flags::LAST).into());
            if self.tail - start > bytes.capacity() {
                return None;
            }
        }
        Some(self)
    }

    /// Where the next frame goes.
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    /// The number of the message under way.
    pub(crate) fn item(&self) -> u32 {
        self.item
    }

    /// Where the head must come to before a frame with so much payload, and the empty header behind it, have room.
    #[inline(always)]
    pub(crate) fn needs(&self, length: usize, bytes: &Bytes) -> u64 {
        (self.tail + span(length) + HEADER).saturating_sub(bytes.capacity())
    }

    /// A position that leaves half of the ring free: a writer that slept is worth waking then.
    pub(crate) fn half_empty(&self, bytes: &Bytes) -> u64 {
        self.tail.saturating_sub(bytes.capacity() / 2)
    }

    /// Whether the head has come to `position`.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, words: &Words, position: u64) -> bool {
        if self.head < position {
            self.head = words.reader.head.load(Acquire);
        }
        self.head >= position
    }

    /// Whether the reader has taken everything.
    pub(crate) fn all_taken(&self, words: &Words) -> bool {
        words.taken() >= self.tail
    }

    /// Publishes one frame, `prefix` and `payload`, for which there is room. A full barrier.
    #[inline(always)]
    pub(crate) fn put(&mut self, words: &Words, bytes: &Bytes, frame: Frame<'_>) {
        let length = size_of_val(frame.prefix) + frame.payload.len();
        let header = Header::new(length, frame.flags, frame.processor, self.item);
        let end = self.tail + header.span();
        bytes.header(end).store(0, Relaxed);
        let mut at = self.tail + HEADER;
        for word in frame.prefix {
            bytes.write(at, &word.to_ne_bytes());
            at += HEADER;
        }
        bytes.write(at, frame.payload);
        self.commit(words, bytes, header);
    }

    /// Publishes a whole message of `length` bytes that was written into its place already. A full barrier.
    pub(crate) fn publish(&mut self, words: &Words, bytes: &Bytes, length: usize, processor: u32) {
        let header = Header::new(length, Flags::WHOLE, processor, self.item);
        bytes.header(self.tail + header.span()).store(0, Relaxed);
        self.commit(words, bytes, header);
    }

    #[inline(always)]
    fn commit(&mut self, words: &Words, bytes: &Bytes, header: Header) {
        let end = self.tail + header.span();
        bytes.header(self.tail).store(header.word(), Release);
        self.item = self.item.wrapping_add(header.flags().has(Flags::LAST).into());
        self.tail = end;
        words.writer.item.store(self.item, Release);
        words.writer.tail.store(end, Release);
        bytes.prefetch_write(end + AHEAD);
        full_fence();
    }
}

/// What goes into the ring at once: words that the transport adds, and bytes of the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) flags: Flags,
    pub(crate) processor: u32,
    pub(crate) prefix: &'a [u64],
    pub(crate) payload: &'a [u8],
}

/// What the reading side keeps to itself.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    head: u64,
}

impl Consumer {
    /// Finds out where the side stands. `None` = the word was written over.
    pub(crate) fn take_over(words: &Words) -> Option<Consumer> {
        let head = words.reader.head.load(Acquire);
        (head < FAR && head % HEADER == 0).then_some(Consumer { head })
    }

    /// The frame in front, if it is published.
    #[inline(always)]
    pub(crate) fn front(&self, bytes: &Bytes) -> Option<Header> {
        Header::published(bytes.header(self.head).load(Acquire))
    }

    /// Where the frame in front begins.
    pub(crate) fn position(&self) -> u64 {
        self.head
    }

    /// Where the payload of the frame in front begins.
    #[inline(always)]
    pub(crate) fn payload(&self) -> u64 {
        self.head + HEADER
    }

    /// Gives the room of the frame in front back; `processor` is ours. A full barrier.
    #[inline(always)]
    pub(crate) fn advance(&mut self, words: &Words, header: Header, processor: u32) {
        self.head += header.span();
        words.reader.head.store(self.head, Release);
        full_fence();
        words.reader.room.passed(self.head, processor);
    }
}

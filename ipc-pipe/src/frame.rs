//! Headers and spans of the frames in a ring.
//!
//! ```text
//! frame    u64 header, then the payload, padded to 8
//!
//! header   bits  0..20  length of the payload in bytes
//!               20..24  flags, VALID always among them
//!               24..32  processor of the writer: a hint for the reader's wait
//!               32..64  item: number of the message, counts up by one and wraps
//! 0                     not published: here the ring ends for now
//! anything else         published; the payload was complete before
//! ```
//!
//! The header is the commit. A writer zeroes the header *after* its frame, writes the payload, and stores
//! its own header last, so that the first header that was not published is always zero, whatever old bytes lie
//! there. Before that store nothing has happened; after it everything has.

/// Bytes of a header.
pub const HEADER: u64 = 8;

/// Longest payload of one frame.
pub const MAX_PAYLOAD: usize = (1 << 20) - 1;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u64);

impl Flags {
    const VALID: Flags = Flags(1 << 20);
    /// Neither first nor last.
    pub const NONE: Flags = Flags(0);
    /// The message starts here.
    pub const FIRST: Flags = Flags(1 << 21);
    /// The message ends here.
    pub const LAST: Flags = Flags(1 << 22);
    /// Descriptors of this message travel beside the ring.
    pub const HANDLES: Flags = Flags(1 << 23);
    /// A message that lies elsewhere, in one piece; the frame says where. (No other frame has handles and is not the first.)
    pub const APART: Flags = Flags::LAST.and(Flags::HANDLES);
    /// A message in one frame.
    pub const WHOLE: Flags = Flags::FIRST.and(Flags::LAST);

    /// Both sets.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The first word of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header(u64);

impl Header {
    /// A header for `length` bytes, at most [`MAX_PAYLOAD`].
    #[inline(always)]
    pub fn new(length: usize, flags: Flags, processor: u32, item: u32) -> Header {
        debug_assert!(length <= MAX_PAYLOAD && processor < 256);
        Header(length as u64 | Flags::VALID.0 | flags.0 | u64::from(processor) << 24 | u64::from(item) << 32)
    }

    /// The header in `word`; `None` = nothing is published there.
    #[inline(always)]
    pub fn published(word: u64) -> Option<Header> {
        (word != 0).then_some(Header(word))
    }

    /// What to store.
    #[inline(always)]
    pub fn word(self) -> u64 {
        self.0
    }

    /// Bytes of payload. At most [`MAX_PAYLOAD`] whatever the word holds, but it may be more than the ring.
    #[inline(always)]
    pub fn length(self) -> usize {
        self.0 as usize & MAX_PAYLOAD
    }

    /// Whether it has `length` bytes of payload at most, and nothing beside it: one comparison for both.
    #[inline(always)]
    pub fn is_plain_up_to(self, length: usize) -> bool {
        self.0 & (Flags::HANDLES.0 | MAX_PAYLOAD as u64) <= length as u64
    }

    /// Whether the message lies elsewhere.
    #[inline(always)]
    pub fn is_apart(self) -> bool {
        self.flags().has(Flags::APART) && !self.flags().has(Flags::FIRST)
    }

    /// What the frame carries.
    #[inline(always)]
    pub fn flags(self) -> Flags {
        Flags(self.0 & (0xf << 20))
    }

    /// The processor of its writer.
    #[inline(always)]
    pub fn processor(self) -> u32 {
        self.0 as u32 >> 24
    }

    /// The number of its message.
    #[inline(always)]
    pub fn item(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes that the whole frame takes in the ring.
    #[inline(always)]
    pub fn span(self) -> u64 {
        span(self.length())
    }
}

/// Bytes that a frame with so much payload takes in the ring.
#[inline(always)]
pub fn span(length: usize) -> u64 {
    HEADER + ((length as u64 + 7) & !7)
}

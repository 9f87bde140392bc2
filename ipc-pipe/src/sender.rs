//! The side that writes.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ipc_shm::handle::{Outgoing, Sending};
use ipc_sync::{BACKSTOP, Deadline, Patience, processor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::ancillary::MAX_DESCRIPTORS;
use crate::error::SendError;
use crate::frame::{Flags, HEADER};
use crate::half::{Cursor, End, Half, Here, Ticket, Track};
use crate::ring::{Frame, Producer, Words};
use crate::segment::RING;
use crate::socket::nonce;
use crate::{codec, scratch};

/// Longest payload of a frame: its header and the empty one behind it have room too.
const LONGEST: usize = RING - 2 * HEADER as usize;

/// Words that the transport may add to a payload.
const PREFIX: usize = 2 * size_of::<u64>();

/// Longest message that goes as one frame to a reader on another processor: it reads one part while the next is written.
const WHOLE_ELSEWHERE: usize = 16 << 10;
/// Parts of longer ones; four fit the ring.
const PART_ELSEWHERE: usize = (16 << 10) - 64;
/// Parts for a reader on this processor, where each part costs two switches; two fit the ring.
const PART_HERE: usize = (32 << 10) - 64;

/// A sleeping writer asks for half a ring of room for so long, then for what it needs.
const GREED: Duration = Duration::from_millis(1);

/// What the writing side knows of itself.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    producer: Producer,
    patience: Patience,
}

impl Cursor for Outlet {
    const WRITES: bool = true;

    #[inline(always)]
    fn owner(words: &Words) -> &AtomicU32 {
        &words.writer.owner
    }

    fn take_over(track: &Track) -> Option<Outlet> {
        let producer = Producer::take_over(&track.words, &track.bytes)?;
        Some(Outlet { producer, patience: Patience::default() })
    }

    fn may_move(&self) -> bool {
        true
    }
}

/// The writing half of a [`Connection`](crate::Connection), or one end of a [`simplex`](crate::simplex) pipe.
///
/// Sending waits only for room: what fits the ring (64 KiB) is sent without waiting for the receiver. When the other end
/// is gone in all processes that had it, a send that needs room, or that finds the receiver asleep, answers
/// [`SendError::Closed`]; one that meets neither may still write into a ring that nobody will read. SIGPIPE is never
/// raised.
///
/// A sender may be shared between threads: messages go one after the other and whole. In another process (a forked
/// child has a copy) it is [`SendError::InUse`] as long as the thread that used it last lives. It is a handle: sent
/// inside a message, it moves to the receiver, and answers [`SendError::Moved`] here.
///
/// The two halves of one connection share a socket: the other end sees end of file when both are gone.
///
/// ```
/// let (receiver, sender) = ipc_pipe::simplex()?;
/// sender.send(&("a", 1))?;
/// assert_eq!(receiver.recv::<(String, i32)>()?, ("a".to_owned(), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "PipeConnection")]
pub struct Sender {
    half: Arc<Half<Outlet>>,
}

impl Sender {
    pub(crate) fn new(end: End) -> Sender {
        Sender { half: Arc::new(Half::new(end)) }
    }

    pub(crate) fn half(&self) -> &Arc<Half<Outlet>> {
        &self.half
    }

    pub(crate) fn into_half(self) -> Arc<Half<Outlet>> {
        self.half
    }

    /// Sends a value. Waits as long as the ring has no room for it; a message larger than the ring waits for the
    /// receiver to take it in parts.
    ///
    /// Handles inside the value travel with it, in the message, whatever the depth. An end of a pipe that is sent stays
    /// open while the message is unread: a pipe whose one end lies unread in a pipe that nobody reads is never at its
    /// end of file.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the value is unharmed, and handles in it are still here.
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        scratch::with(|buffer| {
            let table = Outgoing::open();
            codec::encode(value, buffer).map_err(SendError::Encode)?;
            let sending = table.finish();
            self.transmit(buffer, &sending)?;
            sending.sent();
            Ok(())
        })
    }

    /// Sends bytes as they are. Waits as [`send`](Sender::send) does. An empty message is a message.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.check_size(message.len())?;
        self.half.enter(Deadline::NEVER)?.transmit(message)
    }

    /// Sends no message larger than so many bytes; 64 MiB unless set. The receiver has a limit of its own.
    pub fn set_max_message(&self, bytes: usize) {
        self.half.set_max_message(bytes);
    }

    /// Closes this half here. What was sent can still be received.
    pub fn close(self) {}

    #[inline]
    fn transmit(&self, message: &[u8], sending: &Sending) -> Result<(), SendError> {
        self.check_size(message.len())?;
        if sending.is_empty() {
            return self.half.enter(Deadline::NEVER)?.transmit(message);
        }
        let count = sending.descriptors().len();
        if count > MAX_DESCRIPTORS {
            return Err(SendError::TooManyHandles { count, max: MAX_DESCRIPTORS });
        }
        let descriptors: Vec<_> = sending.descriptors().collect();
        self.half.enter(Deadline::NEVER)?.transmit_with(message, &descriptors)
    }

    #[inline]
    fn check_size(&self, size: usize) -> Result<(), SendError> {
        let max = self.half.max_message();
        if size > max { Err(SendError::TooBig { size, max }) } else { Ok(()) }
    }
}

impl Here<Outlet> {
    #[inline]
    fn transmit(&mut self, message: &[u8]) -> Result<(), SendError> {
        let processor = processor();
        let elsewhere = self.track.words.reader.room.processor() != processor;
        let longest = if elsewhere { WHOLE_ELSEWHERE } else { LONGEST };
        if message.len() <= longest {
            return self.put(Frame { flags: Flags::WHOLE, processor, prefix: &[], payload: message });
        }
        let part = if elsewhere { PART_ELSEWHERE } else { PART_HERE };
        let prefix = [message.len() as u64];
        let first = Frame { flags: Flags::FIRST, processor, prefix: &prefix, payload: &message[..part] };
        self.put(first)?;
        self.put_rest(&message[part..], part)
    }

    /// The packet goes first: a frame that names descriptors is never there without them. Room for the frame is had
    /// before the packet is sent, so that only a death comes between them.
    #[cold]
    fn transmit_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let part = message.len().min(PART_ELSEWHERE);
        self.wait_room(PREFIX + part)?;
        let nonce = self.send_packet(descriptors)?;
        let prefix = [nonce, message.len() as u64];
        let (flags, prefix) = if part == message.len() {
            (Flags::WHOLE.and(Flags::HANDLES), &prefix[..1])
        } else {
            (Flags::FIRST.and(Flags::HANDLES), &prefix[..])
        };
        self.put(Frame { flags, processor: processor(), prefix, payload: &message[..part] })?;
        if part < message.len() { self.put_rest(&message[part..], part) } else { Ok(()) }
    }

    /// The parts behind the first.
    fn put_rest(&mut self, rest: &[u8], part: usize) -> Result<(), SendError> {
        let last = rest.len().div_ceil(part) - 1;
        for (i, payload) in rest.chunks(part).enumerate() {
            let flags = if i == last { Flags::LAST } else { Flags::NONE };
            self.put(Frame { flags, processor: processor(), prefix: &[], payload })?;
        }
        Ok(())
    }

    #[inline(always)]
    fn put(&mut self, frame: Frame<'_>) -> Result<(), SendError> {
        self.wait_room(size_of_val(frame.prefix) + frame.payload.len())?;
        let Here { cursor, track, end, .. } = self;
        cursor.producer.put(&track.words, &track.bytes, frame);
        if track.words.writer.bell.must_ring()
            && !end.socket.ring()
            && !cursor.producer.all_taken(&track.words)
        {
            return Err(SendError::Closed);
        }
        Ok(()) // also for a peer that took the frame and went before we looked at its bell
    }

    /// Waits until a frame with so much payload has room.
    #[inline(always)]
    fn wait_room(&mut self, length: usize) -> Result<(), SendError> {
        let Outlet { producer, .. } = &mut self.cursor;
        let position = producer.needs(length, &self.track.bytes);
        if producer.has_room(&self.track.words, position) { Ok(()) } else { self.wait_head(position) }
    }

    /// Waits until the reader has come to `position`.
    #[cold]
    #[inline(never)]
    fn wait_head(&mut self, position: u64) -> Result<(), SendError> {
        let Here { cursor: Outlet { producer, patience }, track, end, .. } = self;
        let words = &*track.words;
        let gone = Cell::new(false);
        let target = Cell::new(producer.half_empty(&track.bytes).max(position));
        let ready = || words.taken() >= target.get() || gone.get();
        let sleep = || {
            let slice = if target.get() > position { GREED } else { BACKSTOP };
            words.reader.room.sleep(target.get(), ready, Deadline::after(slice));
            target.set(position);
            gone.set(end.socket.is_gone());
            true
        };
        patience.wait(words.reader.room.processor(), ready, sleep);
        if gone.get() { Err(SendError::Closed) } else { Ok(()) }
    }

    /// Sends descriptors; answers the nonce that their frame must say. It names our thread, so that a reader who finds
    /// a packet without a frame knows whether the frame may still come.
    fn send_packet(&self, descriptors: &[BorrowedFd<'_>]) -> Result<u64, SendError> {
        let nonce = nonce(self.token(), self.cursor.producer.item());
        let socket = &self.end.socket;
        loop {
            let Err(error) = socket.send(nonce, descriptors) else { return Ok(nonce) };
            match error.raw_os_error() {
                Some(libc::ECONNRESET) => {}
                Some(libc::EPIPE) => return Err(SendError::Closed),
                _ if error.kind() != io::ErrorKind::WouldBlock => return Err(SendError::Descriptors(error)),
                _ if socket.wait_room(Deadline::after(BACKSTOP)).gone => return Err(SendError::Closed),
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.half).finish()
    }
}

impl Serialize for Sender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.half.lend().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ticket::deserialize(deserializer)?.redeem().map(Sender::new).map_err(de::Error::custom)
    }
}

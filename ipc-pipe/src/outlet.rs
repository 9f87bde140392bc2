//! What the writing side does under its lock: frames into the ring, packets beside it, payloads into the store.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ipc_sync::{BACKSTOP, Deadline, Patience, processor};

use crate::error::{SendError, TrySendError};
use crate::frame::{Flags, HEADER};
use crate::half::{Cursor, Here, Track};
use crate::ring::{Frame, Producer, Words};
use crate::segment::RING;
use crate::socket::nonce;
use crate::store::{BLOCK, BLOCKS, Extent, LARGEST, WARM, frame};

/// Longest payload of a frame: its header and the empty one behind it have room too.
pub(crate) const LONGEST: usize = RING - 2 * HEADER as usize;

/// Words that the transport may add to a payload.
pub(crate) const PREFIX: usize = 3 * size_of::<u64>();

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
    pub(crate) producer: Producer,
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

impl Here<Outlet> {
    /// Sends a message. With a deadline it goes in one piece, and so whole or not at all; without one, a long message goes
    /// part by part.
    #[inline]
    pub(crate) fn transmit(&mut self, message: &[u8], deadline: Deadline) -> Result<(), TrySendError> {
        // Where the reader runs stands in a line that it writes all the time: short messages do not ask.
        let whole = message.len() <= WHOLE_ELSEWHERE || message.len() <= LONGEST && !self.must_part(deadline);
        if whole {
            let frame = Frame { flags: Flags::WHOLE, processor: processor(), prefix: &[], payload: message };
            return self.put(frame, deadline);
        }
        if deadline != Deadline::NEVER {
            return self.transmit_apart(message, &[], deadline);
        }
        self.transmit_long(message)
    }

    /// Whether the reader runs elsewhere.
    fn is_elsewhere(&self) -> bool {
        self.track.words.reader.room.processor() != processor()
    }

    /// Whether a message that fits the ring had better go in parts.
    fn must_part(&self, deadline: Deadline) -> bool {
        deadline == Deadline::NEVER && self.is_elsewhere()
    }

    /// Sends a long message by way of the store, which is faster, unless the reader has a lot to read already; then in
    /// parts.
    #[inline(never)]
    fn transmit_long(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        let fits = (BLOCK..=WARM * BLOCK).contains(&message.len());
        match if fits { self.allot_warm(message.len()) } else { None } {
            Some(mut extent) => {
                extent.write(0, message).expect("it was allotted for the message");
                self.hand_over(&mut extent, &[], Deadline::NEVER)
            }
            None if self.is_elsewhere() => self.stream(message, PART_ELSEWHERE),
            None => self.stream(message, PART_HERE),
        }
    }

    /// Sends a message in parts, each when there is room for it.
    fn stream(&mut self, message: &[u8], part: usize) -> Result<(), TrySendError> {
        let prefix = [message.len() as u64];
        let (processor, payload) = (processor(), &message[..part]);
        self.put(Frame { flags: Flags::FIRST, processor, prefix: &prefix, payload }, Deadline::NEVER)?;
        self.put_rest(&message[part..], part)
    }

    /// The packet goes first: a frame that names descriptors is never there without them. Room for the frame is had
    /// before the packet is sent, so that only a death comes between them.
    #[cold]
    pub(crate) fn transmit_with(
        &mut self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), TrySendError> {
        let part = if deadline == Deadline::NEVER { PART_ELSEWHERE } else { LONGEST - PREFIX };
        if message.len() > part && deadline != Deadline::NEVER {
            return self.transmit_apart(message, descriptors, deadline);
        }
        let part = message.len().min(part);
        self.wait_room(PREFIX + part, deadline)?;
        let nonce = self.send_packet(descriptors, deadline)?;
        let prefix = [nonce, message.len() as u64];
        let (flags, prefix) = if part == message.len() {
            (Flags::WHOLE.and(Flags::HANDLES), &prefix[..1])
        } else {
            (Flags::FIRST.and(Flags::HANDLES), &prefix[..])
        };
        self.put(Frame { flags, processor: processor(), prefix, payload: &message[..part] }, deadline)?;
        if part < message.len() { self.put_rest(&message[part..], part) } else { Ok(()) }
    }

    /// The parts behind the first.
    fn put_rest(&mut self, rest: &[u8], part: usize) -> Result<(), TrySendError> {
        let last = rest.len().div_ceil(part) - 1;
        for (i, payload) in rest.chunks(part).enumerate() {
            let flags = if i == last { Flags::LAST } else { Flags::NONE };
            let frame = Frame { flags, processor: processor(), prefix: &[], payload };
            self.put(frame, Deadline::NEVER)?;
        }
        Ok(())
    }

    /// Copies a message into the store and hands it over.
    fn transmit_apart(
        &mut self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), TrySendError> {
        let mut extent = self.allot(message.len(), deadline)?;
        extent.write(0, message).expect("it was allotted for the message");
        self.hand_over(&mut extent, descriptors, deadline)
    }

    /// Room for `length` bytes in the store.
    pub(crate) fn allot(&mut self, length: usize, deadline: Deadline) -> Result<Extent, TrySendError> {
        if length > LARGEST {
            return Err(SendError::TooBig { size: length, max: LARGEST }.into());
        }
        let store = self.store(self.direction()).map_err(SendError::Memory)?;
        let token = self.token();
        let warm = match deadline {
            Deadline::NOW => store.allot(length, WARM, token),
            _ => self.allot_warm(length),
        };
        if let Some(extent) = warm {
            return Ok(extent);
        }
        let (found, end) = (Cell::new(None), self.cursor.producer.position());
        let is_found = |_: &Words| {
            store.reclaim(end);
            let extent = store.allot(length, BLOCKS, token);
            let is_found = extent.is_some();
            found.set(extent);
            is_found
        };
        self.wait_for(|words| words.taken() + 1, is_found, deadline)?;
        found.take().ok_or(TrySendError::Full)
    }

    /// Room among the first blocks, whose memory is kept, if there is some within the time in which one does not sleep.
    fn allot_warm(&mut self, length: usize) -> Option<Extent> {
        let store = self.store(self.direction()).ok()?;
        let (found, token) = (Cell::new(store.allot(length, WARM, self.token())), self.token());
        let is_found = || {
            let extent = found.take().or_else(|| store.allot(length, WARM, token));
            let is_found = extent.is_some();
            found.set(extent);
            is_found
        };
        let reader = self.track.words.reader.room.processor();
        if length <= WARM * BLOCK && !is_found() && !self.cursor.patience.wait(reader, is_found, || false) {
            store.reclaim(self.cursor.producer.position()); // the dead may stand in the way
            is_found();
        }
        found.take()
    }

    /// Sends the frame that names `extent`, which is the receiver's from then on.
    pub(crate) fn hand_over(
        &mut self,
        extent: &mut Extent,
        descriptors: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<(), TrySendError> {
        self.wait_room(PREFIX, deadline)?;
        let nonce = if descriptors.is_empty() { 0 } else { self.send_packet(descriptors, deadline)? };
        let prefix = [extent.name(), extent.length() as u64, nonce];
        if !extent.pass(frame(self.direction(), self.cursor.producer.position()), self.token()) {
            return Err(SendError::Corrupt.into());
        }
        self.put(
            Frame { flags: Flags::APART, processor: processor(), prefix: &prefix, payload: &[] },
            deadline,
        )
    }

    #[inline(always)]
    fn put(&mut self, frame: Frame<'_>, deadline: Deadline) -> Result<(), TrySendError> {
        self.wait_room(size_of_val(frame.prefix) + frame.payload.len(), deadline)?;
        let Here { cursor, track, .. } = self;
        cursor.producer.put(&track.words, &track.bytes, frame);
        self.tell()
    }

    /// Wakes the reader, if it sleeps, to what was published.
    #[inline(always)]
    pub(crate) fn tell(&mut self) -> Result<(), TrySendError> {
        let Here { cursor, track, end, .. } = self;
        if track.words.writer.bell.must_ring()
            && !end.socket.ring()
            && !cursor.producer.all_taken(&track.words)
        {
            return Err(SendError::Closed.into());
        }
        Ok(()) // also for a peer that took the frame and went before we looked at its bell
    }

    /// Waits until a frame with so much payload has room.
    #[inline(always)]
    pub(crate) fn wait_room(&mut self, length: usize, deadline: Deadline) -> Result<(), TrySendError> {
        let Outlet { producer, .. } = &mut self.cursor;
        let position = producer.needs(length, &self.track.bytes);
        if producer.has_room(&self.track.words, position) {
            Ok(())
        } else {
            self.wait_head(position, deadline)
        }
    }

    /// Waits until the reader has come to `position`: for half of the ring first, which is worth a wake, then for that.
    #[cold]
    #[inline(never)]
    fn wait_head(&mut self, position: u64, deadline: Deadline) -> Result<(), TrySendError> {
        let half = self.cursor.producer.half_empty(&self.track.bytes);
        if half > position && deadline != Deadline::NOW {
            let greed = deadline.min(Deadline::after(GREED));
            match self.wait_for(|_| half, |words| words.taken() >= half, greed) {
                Err(TrySendError::Full) => {}
                done => return done,
            }
        }
        self.wait_for(|_| position, |words| words.taken() >= position, deadline)
    }

    /// Waits until `ready`, which the reader makes true when it comes to a position.
    fn wait_for(
        &self,
        position: impl Fn(&Words) -> u64,
        ready: impl Fn(&Words) -> bool,
        deadline: Deadline,
    ) -> Result<(), TrySendError> {
        let Here { cursor: Outlet { patience, .. }, track, end, .. } = self;
        let (words, room) = (&*track.words, &track.words.reader.room);
        let gone = Cell::new(deadline == Deadline::NOW && end.socket.is_gone());
        let is_over = || ready(words) || gone.get();
        let sleep = || {
            // Looked at with the bell hung: who goes later rings it.
            let look = || {
                gone.set(end.socket.is_gone());
                is_over()
            };
            room.sleep(position(words), look, deadline.min(Deadline::after(BACKSTOP)));
            !deadline.has_passed()
        };
        let over = match deadline {
            Deadline::NOW => is_over(),
            _ => patience.wait(room.processor(), is_over, sleep),
        };
        match gone.get() {
            true => Err(SendError::Closed.into()),
            false if over => Ok(()),
            false => Err(TrySendError::Full),
        }
    }

    /// Sends descriptors; answers the nonce that their frame must say. It names our thread, so that a reader who finds
    /// a packet without a frame knows whether the frame may still come.
    fn send_packet(&self, descriptors: &[BorrowedFd<'_>], deadline: Deadline) -> Result<u64, TrySendError> {
        let nonce = nonce(self.token(), self.cursor.producer.item());
        let socket = &self.end.socket;
        loop {
            let Err(error) = socket.send(nonce, descriptors) else { return Ok(nonce) };
            match error.raw_os_error() {
                Some(libc::ECONNRESET) => {}
                Some(libc::EPIPE) => return Err(SendError::Closed.into()),
                _ if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(SendError::Descriptors(error).into());
                }
                _ if deadline.has_passed() => return Err(TrySendError::Full),
                _ if socket.wait_room(deadline.min(Deadline::after(BACKSTOP))).gone => {
                    return Err(SendError::Closed.into());
                }
                _ => {}
            }
        }
    }
}

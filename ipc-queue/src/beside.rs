//! Items that are more than a frame: descriptors go ahead of it, on a socket of the queue.
//!
//! ```text
//! WHOLE | HANDLES   payload = u64 nonce, the item
//! FIRST | HANDLES   payload = u64 nonce, u64 bytes of the item, which lies in the first of the descriptors;
//!                   then room for nothing, so that few such items are in the ring at one time
//!
//! nonce             of the packet with the descriptors, see `ipc_pipe::socket`: token of the putter, number of the item
//! ```
//!
//! The packet goes first, under the producers' lock and when room for the frame is certain. A producer that dies in
//! between leaves a packet without a frame, whose number is not above that of the item after it. A getter looks at
//! the packet and at its descriptors without taking it, then claims the frame, then drops the packet, all under the
//! takers' lock. If it dies before the claim nothing has happened; behind it, a packet is left whose number is below
//! that of the next item. So whoever looks for a packet drops what stands before it.
//!
//! No room in the socket is no room: the item is put when getters have taken others.

use std::io;
use std::os::fd::BorrowedFd;

use crate::channel::{Channel, Cursor, Fault, Frame, Put, Room};
use crate::primitive::{Bundle, Deadline, Flags, HEADER, Header, Me, Ordering::*, Socket, mutant, nonce};

/// Items that lie elsewhere, as many as a ring holds at one time.
pub(crate) const BLOBS: usize = 8;

/// Bytes of the words before an item in its frame.
pub(crate) const NONCE: usize = size_of::<u64>();
const NONCE_AND_SIZE: usize = 2 * size_of::<u64>();

/// Both ends of the socket; each process of a queue has both.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) into: Socket,
    pub(crate) out: Socket,
}

impl Side {
    pub(crate) fn new() -> io::Result<Side> {
        let (into, out) = Socket::pair()?;
        Ok(Side { into, out })
    }
}

/// Where the bytes of an item are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// These.
    Bytes(&'a [u8]),
    /// So many, in the first descriptor.
    Blob(u64),
}

/// An item to be put, and what goes with it: one descriptor or more, at most [`MAX_DESCRIPTORS`].
///
/// [`MAX_DESCRIPTORS`]: ipc_pipe::socket::MAX_DESCRIPTORS
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
}

/// An item that was taken.
#[derive(Debug)]
pub(crate) struct Found {
    /// `None` = its packet is not there, which is nobody's of ours doing.
    pub(crate) bundle: Option<Bundle>,
    /// The bytes are not in the buffer: there are so many, in the first descriptor.
    pub(crate) blob: Option<u64>,
    pub(crate) processor: u32,
}

impl Channel {
    /// Under the producers' lock: sends the descriptors, then appends the frame.
    pub(crate) fn append_beside(
        &self,
        me: &Me,
        at: Cursor,
        side: &Side,
        parcel: &Parcel<'_>,
    ) -> Result<Put, Fault> {
        let nonce = nonce(if mutant() == 9 { 1 } else { me.token() }, at.next);
        let (words, payload) = match parcel.content {
            Content::Bytes(bytes) => ([nonce, 0], bytes),
            Content::Blob(size) => ([nonce, size], &[][..]),
        };
        let length = self.length_beside(parcel.content);
        let frame = match parcel.content {
            Content::Bytes(_) => {
                Frame { flags: Flags::WHOLE.and(Flags::HANDLES), prefix: &words[..1], payload, length }
            }
            Content::Blob(_) => {
                Frame { flags: Flags::FIRST.and(Flags::HANDLES), prefix: &words, payload, length }
            }
        };
        if let Some(room) = self.lacks_room(at, length)? {
            return Ok(Put::NoRoom(room));
        }
        let send = || side.into.send(nonce, parcel.descriptors);
        if mutant() != 7 {
            if let Err(error) = send() {
                return self.unsent(me, at, side, &error);
            }
        }
        self.publish(at, frame);
        if mutant() == 7 {
            let _ = send();
        }
        Ok(Put::Done)
    }

    /// Bytes of the frame's payload.
    pub(crate) fn length_beside(&self, content: Content<'_>) -> usize {
        match content {
            Content::Bytes(bytes) => NONCE + bytes.len(),
            Content::Blob(_) => {
                let share = self.ring.capacity() as usize / BLOBS;
                NONCE_AND_SIZE.max((share - HEADER as usize).min(self.longest()))
            }
        }
    }

    /// What would make room for a frame of so many bytes, as far as one can see without the lock.
    pub(crate) fn seems_full(&self, length: usize) -> Result<Option<Room>, Fault> {
        let tail = self.words.producers.tail.load(Acquire);
        self.lacks_room(Cursor { tail, next: 0 }, length)
    }

    /// A full socket, and descriptors of this user that lie unread in too many sockets, are no room. Both may pass
    /// without any getter of this queue, so that whoever waits looks again by itself.
    #[cold]
    fn unsent(&self, me: &Me, at: Cursor, side: &Side, error: &io::Error) -> Result<Put, Fault> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ETOOMANYREFS | libc::ENOMEM | libc::ENOBUFS) => {
                let head = self.head();
                if head == at.tail {
                    self.drop_orphans(me, side);
                }
                Ok(Put::NoRoom(Room::after(head)))
            }
            Some(libc::EPIPE | libc::ENOTCONN) | None => Err(Fault::Corrupt), // a stranger shut it down
            Some(other) => Err(Fault::Refused(other)),
        }
    }

    /// With the producers' lock and an empty ring: every packet was left by a dead one. The other lock is only tried, for
    /// its owner might wait for ours.
    fn drop_orphans(&self, me: &Me, side: &Side) {
        let _ = self.exclusively(me, Deadline::NOW, |_| {
            side.out.clear();
            Ok(())
        });
    }

    /// Takes the item in front if it has something beside it; `None` = there is no such item in front. Its bytes come into
    /// `buffer`, unless they lie elsewhere.
    ///
    /// What the kernel refuses, such as one descriptor too many for this process, changes nothing.
    pub(crate) fn take_beside(
        &self,
        me: &Me,
        side: &Side,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Option<Found>, Fault> {
        self.exclusively(me, deadline, |_| self.take_front_beside(side, buffer))
    }

    /// No plain get moves `head` over such a frame: what was read while `head` stood there is right.
    fn take_front_beside(&self, side: &Side, buffer: &mut Vec<u8>) -> Result<Option<Found>, Fault> {
        let head = self.head();
        let word = self.ring.header(head).load(Acquire);
        let Some(header) = Header::published(word).filter(|header| header.flags().has(Flags::HANDLES)) else {
            return Ok(None);
        };
        let [nonce, size] = [1, 2].map(|i| self.ring.header(head.wrapping_add(i * HEADER)).load(Relaxed));
        if self.moved(head).is_some() {
            return Ok(None);
        }
        let is_whole = header.flags().has(Flags::WHOLE);
        let least = if is_whole { NONCE } else { NONCE_AND_SIZE };
        if !self.is_sane(head, header) || header.length() < least {
            return Err(Fault::Corrupt);
        }
        let peeked = side.out.peek(nonce);
        let bundle = peeked.map_err(|error| Fault::Refused(error.raw_os_error().unwrap_or(libc::EIO)))?;
        if is_whole {
            buffer.clear();
            let payload = head.wrapping_add(HEADER + NONCE as u64);
            self.ring.read(payload, header.length() - NONCE, buffer);
        }
        if mutant() == 8 {
            side.out.drop_front();
        }
        if !self.claim_exclusively(head, head.wrapping_add(header.span())) {
            return Ok(None);
        }
        if bundle.is_some() && mutant() != 8 {
            side.out.drop_front();
        }
        Ok(Some(Found { bundle, blob: (!is_whole).then_some(size), processor: header.processor() }))
    }
}

impl Room {
    /// Whatever consumers take next.
    pub(crate) fn after(head: u64) -> Room {
        let next = head.wrapping_add(1);
        Room { enough: next, half: next }
    }
}

//! Messages out of frames: whole ones at once, large ones part by part.
//!
//! ```text
//! WHOLE              payload = message
//! WHOLE | HANDLES    payload = u64 nonce, message
//! FIRST (| HANDLES)  payload = (u64 nonce,) u64 length of the whole message, its first part
//! neither, LAST      payload = the next part, the last one
//! LAST | HANDLES     payload = u64 place in a store, u64 length, u64 nonce (0 = no handles): the message lies there
//! ```
//!
//! A reader that takes the side over in the middle of a message, or whose writer changed in the middle of one,
//! meets parts without a beginning or a beginning without an end. It says so once and goes on with the next message.

use crate::error::{RecvError, TryRecvError};
use crate::frame::{Flags, HEADER, Header};
use crate::half::Here;
use crate::payload::Payload;
use crate::receiver::Inlet;
use crate::segment::RING;
use crate::socket::Bundle;
use crate::store::{Extent, frame};
use ipc_sync::{BACKSTOP, Deadline, processor};
use std::sync::atomic::Ordering::Relaxed;

/// A message of which not all parts have come. It grows with what comes, not with what was announced.
#[derive(Debug)]
pub(crate) struct Partial {
    bytes: Vec<u8>,
    total: usize,
    bundle: Bundle,
}

impl Here<Inlet> {
    /// Appends the next message to `into`, which is empty, and answers what came beside it.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        into: &mut Vec<u8>,
        max: usize,
        deadline: Deadline,
    ) -> Result<Bundle, TryRecvError> {
        let in_ring = self.cursor.consumer.payload() + RING as u64;
        loop {
            let header = self.next_frame(deadline)?;
            if self.is_plain(header) && header.length() <= max {
                let Here { cursor, track, .. } = self;
                track.bytes.read(cursor.consumer.payload(), header.length(), into);
                self.advance(header);
                return Ok(Bundle::default());
            }
            if let Some(whole) = self.take_part(header, max)? {
                *into = whole.bytes;
                return Ok(whole.bundle);
            }
            // Time does not stop for a writer that goes on and on.
            if self.cursor.consumer.payload() > in_ring && deadline.has_passed() {
                return Err(TryRecvError::Empty);
            }
        }
    }

    /// Copies the next message straight into `buffer`, if it came in one frame and fits; `None` = it must go through
    /// [`receive`](Here::receive), which will not wait for its beginning any more.
    #[inline]
    pub(crate) fn receive_into(
        &mut self,
        buffer: &mut [u8],
        max: usize,
        deadline: Deadline,
    ) -> Result<Option<usize>, TryRecvError> {
        let header = self.next_frame(deadline)?;
        let length = header.length();
        if header.is_apart() {
            return self.read_apart(header, buffer, max);
        }
        if !self.is_plain(header) || length > max || length > buffer.len() {
            return Ok(None);
        }
        let Here { cursor, track, .. } = self;
        track.bytes.read_into(cursor.consumer.payload(), &mut buffer[..length]);
        self.advance(header);
        Ok(Some(length))
    }

    /// The frame in front, once it is there.
    #[inline(always)]
    fn next_frame(&mut self, deadline: Deadline) -> Result<Header, TryRecvError> {
        let header = match self.cursor.consumer.front(&self.track.bytes) {
            Some(header) => header,
            None => self.wait_frame(deadline)?,
        };
        self.cursor.processor = header.processor();
        if header.span() + HEADER > RING as u64 {
            return Err(TryRecvError::Failed(RecvError::Corrupt));
        }
        Ok(header)
    }

    #[inline(never)]
    fn wait_frame(&mut self, deadline: Deadline) -> Result<Header, TryRecvError> {
        loop {
            let soon = if self.cursor.warm { deadline.min(Deadline::after(BACKSTOP)) } else { deadline };
            match self.await_frame(soon) {
                Some(header) => return Ok(header),
                None if self.cursor.gone => return Err(TryRecvError::Failed(self.end_of_file())),
                None if deadline.has_passed() => return Err(TryRecvError::Empty),
                None if soon != deadline => self.cool(),
                None => {} // there was one, and a stranger took it away
            }
        }
    }

    fn end_of_file(&mut self) -> RecvError {
        match self.cursor.partial.take() {
            Some(Partial { bytes, total, .. }) => RecvError::EofInside { received: bytes.len(), total },
            None => RecvError::Closed,
        }
    }

    /// A message of its own, without anything beside it, and nothing before it is open.
    #[inline(always)]
    fn is_plain(&self, header: Header) -> bool {
        let flags = header.flags();
        flags.has(Flags::WHOLE) && !flags.has(Flags::HANDLES) && self.cursor.partial.is_none()
    }

    #[inline(always)]
    fn advance(&mut self, header: Header) {
        self.cursor.skipping = false;
        self.cursor.consumer.advance(&self.track.words, header, processor());
    }

    /// Takes one frame of a message that is not plain; `Some` = it was the last one.
    #[inline(never)]
    fn take_part(&mut self, header: Header, max: usize) -> Result<Option<Partial>, RecvError> {
        if header.is_apart() {
            let (extent, bundle) = self.take_apart(header, max)?;
            return Ok(Some(Partial { bytes: extent.to_vec(), total: extent.length(), bundle }));
        }
        if header.flags().has(Flags::FIRST) {
            if self.cursor.partial.take().is_some() {
                return Err(RecvError::Truncated); // the frame stays for the next receive
            }
            self.begin(header, max)?;
        } else if self.cursor.partial.is_some() {
            self.append(header, 0)?;
        } else {
            return self.skip(header);
        }
        if header.flags().has(Flags::LAST) { self.complete().map(Some) } else { Ok(None) }
    }

    /// The descriptors are taken before the frame is given back: whoever takes the side over meets both or none.
    fn begin(&mut self, header: Header, max: usize) -> Result<(), RecvError> {
        let flags = header.flags();
        let (handles, whole) = (flags.has(Flags::HANDLES), flags.has(Flags::LAST));
        let prefix = HEADER as usize * (usize::from(handles) + usize::from(!whole));
        let Some(length) = header.length().checked_sub(prefix) else { return Err(RecvError::Corrupt) };
        let bundle = if handles { self.take_bundle(self.word(0)) } else { Bundle::default() };
        let total = if whole { length as u64 } else { self.word(usize::from(handles)) };
        if total > max as u64 {
            self.refuse(header);
            return Err(RecvError::TooBig { size: total, max });
        }
        self.cursor.partial = Some(Partial { bytes: Vec::new(), total: total as usize, bundle });
        self.append(header, prefix)
    }

    /// What was sent beside the frame that says `nonce`. That it is not there at all is said like that it came in part.
    fn take_bundle(&self, nonce: u64) -> Bundle {
        let missing = Bundle { descriptors: Vec::new(), sent: 1 };
        self.end.socket.receive(nonce).unwrap_or(missing)
    }

    /// Takes what the frame in front names. It is ours before the frame is given back: whoever takes the side over in
    /// between finds the frame still there.
    #[inline(never)]
    pub(crate) fn take_apart(&mut self, header: Header, max: usize) -> Result<(Extent, Bundle), RecvError> {
        if self.cursor.partial.take().is_some() {
            return Err(RecvError::Truncated); // the frame stays for the next receive
        }
        let (place, length, nonce) = (self.word(0), self.word(1), self.word(2));
        let store = self.store((place >> 32) as u32).map_err(RecvError::Memory)?;
        let frame = frame(self.direction(), self.cursor.consumer.position());
        let (first, token) = (place as u32 as usize, self.token());
        let extent = usize::try_from(length).ok().and_then(|length| store.take(first, length, frame, token));
        let bundle = if nonce == 0 { Bundle::default() } else { self.take_bundle(nonce) };
        self.refuse(header);
        self.cursor.warm = true;
        match extent {
            Some(extent) if extent.length() <= max => Ok((extent, bundle)),
            Some(_) => Err(RecvError::TooBig { size: length, max }),
            None => Err(RecvError::Truncated),
        }
    }

    /// As [`receive_into`](Here::receive_into), for a message that was handed over.
    #[inline(never)]
    fn read_apart(
        &mut self,
        header: Header,
        buffer: &mut [u8],
        max: usize,
    ) -> Result<Option<usize>, TryRecvError> {
        if self.word(1) > buffer.len() as u64 {
            return Ok(None);
        }
        let (extent, _) = self.take_apart(header, max)?;
        let target = buffer.get_mut(..extent.length()).ok_or(RecvError::Truncated)?;
        extent.read(0, target).map_err(|_| RecvError::Truncated)?;
        Ok(Some(target.len()))
    }

    /// Nothing has come for a while: the memory of earlier payloads goes back to the kernel.
    #[cold]
    pub(crate) fn cool(&mut self) {
        if let Ok(store) = self.store(self.direction()) {
            self.cursor.warm = !store.cool(self.token());
        }
    }

    /// The next message, in place if it was handed over.
    pub(crate) fn receive_payload(
        &mut self,
        max: usize,
        deadline: Deadline,
    ) -> Result<Payload, TryRecvError> {
        let header = self.next_frame(deadline)?;
        if header.is_apart() && self.cursor.partial.is_none() {
            return Ok(Payload::of(self.take_apart(header, max)?.0));
        }
        let mut message = Vec::new();
        self.receive(&mut message, max, deadline)?;
        Ok(message.into())
    }

    /// A word that the transport put before the message.
    fn word(&self, index: usize) -> u64 {
        let at = self.cursor.consumer.payload() + HEADER * index as u64;
        self.track.bytes.header(at).load(Relaxed)
    }

    fn append(&mut self, header: Header, prefix: usize) -> Result<(), RecvError> {
        let Here { cursor, track, .. } = self;
        let length = header.length() - prefix;
        let fits = |partial: &mut Partial| partial.bytes.len() + length <= partial.total;
        let Some(mut partial) = cursor.partial.take_if(|partial| fits(partial)) else {
            cursor.partial = None;
            self.refuse(header);
            return Err(RecvError::Truncated);
        };
        track.bytes.read(cursor.consumer.payload() + prefix as u64, length, &mut partial.bytes);
        cursor.partial = Some(partial);
        self.advance(header);
        Ok(())
    }

    fn complete(&mut self) -> Result<Partial, RecvError> {
        let partial = self.cursor.partial.take().filter(|partial| partial.bytes.len() == partial.total);
        partial.ok_or(RecvError::Truncated)
    }

    /// Gives the frame back and forgets the rest of its message.
    fn refuse(&mut self, header: Header) {
        self.advance(header);
        self.cursor.skipping = !header.flags().has(Flags::LAST);
    }

    /// A part whose beginning was refused, which was said already, or went elsewhere.
    fn skip(&mut self, header: Header) -> Result<Option<Partial>, RecvError> {
        let known = self.cursor.skipping;
        self.refuse(header);
        if known { Ok(None) } else { Err(RecvError::Truncated) }
    }
}

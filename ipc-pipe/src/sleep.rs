//! How a reader waits for a frame: awake first, then in a poll of the socket.
//!
//! ```text
//! reader                              writer
//! hangs the bell up, full barrier     publishes a frame, full barrier
//! looks at the ring: empty            looks at the bell: hung
//! polls the socket                    takes it down by a swap, sends a packet
//! ```
//!
//! One of the two sees the other. Whoever takes a packet back starts again from the top before it sleeps: the packet may
//! have stood for a frame that is not there yet at the next look. One that is left behind costs a vain poll, one that is
//! taken and forgotten would cost a wake.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_sync::{BACKSTOP, Deadline};

use crate::frame::Header;
use crate::half::{End, Here, Track};
use crate::receiver::Inlet;
use crate::ring::Consumer;
use crate::socket::{Packet, sender_of};

/// Yields beside a packet whose frame is about to come; after that, naps.
const YIELDS: u32 = 16;
const NAP: Duration = Duration::from_millis(1);

/// One reader that may have to sleep.
struct Sleeper<'a> {
    consumer: &'a Consumer,
    track: &'a Track,
    end: &'a End,
    deadline: Deadline,
    gone: Cell<bool>,
    slept: Cell<bool>,
    naps: Cell<u32>,
}

impl Here<Inlet> {
    /// The frame in front, waiting for it until `deadline`. `None` = there is none, or (then `gone` is set) there will be
    /// none.
    pub(crate) fn await_frame(&mut self, deadline: Deadline) -> Option<Header> {
        let Here { cursor: Inlet { consumer, patience, processor, gone, .. }, track, end, .. } = self;
        if *gone {
            return consumer.front(&track.bytes);
        }
        let sleeper = Sleeper::new(consumer, track, end, deadline);
        if deadline == Deadline::NOW {
            sleeper.gone.set(end.socket.is_gone());
        } else {
            patience.wait(*processor, || sleeper.is_done(), || sleeper.sleep());
        }
        if sleeper.slept.get() {
            track.words.writer.bell.take_down();
        }
        *gone = sleeper.gone.get();
        // The writers' last frames were there before they were gone: look behind the news.
        consumer.front(&track.bytes)
    }

    /// Whether there is a frame or the end of file, waiting for it until `deadline`.
    pub(crate) fn poll(&mut self, deadline: Deadline) -> bool {
        let here = self.cursor.consumer.front(&self.track.bytes).is_some();
        here || self.await_frame(deadline).is_some() || self.cursor.gone
    }

    /// Has the writer send a packet for its next frame; `None` = there is something already.
    pub(crate) fn arm(&mut self) -> Option<Arc<OwnedFd>> {
        let Here { cursor: Inlet { consumer, gone, .. }, track, end, .. } = self;
        let sleeper = Sleeper::new(consumer, track, end, Deadline::NOW);
        sleeper.gone.set(*gone);
        while !sleeper.is_done() {
            track.words.writer.bell.hang();
            if sleeper.front().is_some() {
                break;
            }
            if !sleeper.take_packet() {
                return Some(end.socket.descriptor().clone());
            }
        }
        *gone = sleeper.gone.get();
        None
    }
}

impl<'a> Sleeper<'a> {
    fn new(consumer: &'a Consumer, track: &'a Track, end: &'a End, deadline: Deadline) -> Self {
        let (gone, slept, naps) = Default::default();
        Sleeper { consumer, track, end, deadline, gone, slept, naps }
    }

    #[inline(always)]
    fn front(&self) -> Option<Header> {
        self.consumer.front(&self.track.bytes)
    }

    #[inline(always)]
    fn is_done(&self) -> bool {
        self.front().is_some() || self.gone.get()
    }

    fn slice(&self, time: Duration) -> Deadline {
        self.deadline.min(Deadline::after(time))
    }

    /// Sleeps once; false = time is up.
    fn sleep(&self) -> bool {
        self.slept.set(true);
        self.track.words.writer.bell.hang();
        if self.front().is_some() {
            return true;
        }
        let seen = self.end.socket.wait_packet(self.slice(BACKSTOP));
        self.gone.set(seen.gone);
        if seen.ready && !self.take_packet() && !self.is_done() {
            self.nap();
        }
        !self.deadline.has_passed()
    }

    /// Takes the packet in front away. False = there is none, or it must stay: its frame is there, or may still come.
    fn take_packet(&self) -> bool {
        match self.end.socket.front() {
            Packet::None => return false,
            Packet::Descriptors { nonce } if self.may_come(nonce) => return false,
            Packet::Bell | Packet::Descriptors { .. } => self.end.socket.drop_front(),
            Packet::End => self.gone.set(true),
        }
        true
    }

    /// Whether the sender of descriptors may still publish their frame, or has by now: the nonce names its thread.
    /// A writer that lost the side between the two will not.
    fn may_come(&self, nonce: u64) -> bool {
        let writer = self.track.words.writer.owner.load(Acquire);
        writer == sender_of(nonce) || self.front().is_some()
    }

    /// Lets the writer come from the packet to the frame, a few instructions, if it was not stopped there.
    fn nap(&self) {
        self.naps.set(self.naps.get() + 1);
        if self.naps.get() <= YIELDS {
            std::thread::yield_now();
        } else {
            self.gone.set(self.end.socket.wait_end(self.slice(NAP)).gone);
        }
    }
}

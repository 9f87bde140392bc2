//! A bare ring of slots for each direction, and nothing else: how fast two processors can be at all.
//!
//! One writes, one reads. Who has to wait looks a while and then yields; nobody ever sleeps, and nobody is told
//! anything.
#![allow(unsafe_code)]

use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use crate::crew::shared_memory;
use crate::link::{End, Link};
use crate::processors::Side;

pub struct SpinRing([Ring; 2]);

/// ```text
///    0   cursor: slots written, stored by the writer
///  128   cursor: slots read, stored by the reader
///  256   slots of `size` bytes
/// ```
#[derive(Clone, Copy)]
struct Ring {
    memory: NonNull<u8>,
    slots: u64,
    size: usize,
}

const SLOTS_BEGIN: usize = 256;
const LOOKS: usize = 100;

// SAFETY: the memory is shared and never unmapped; the cursors tell whose a slot is.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// Each side keeps its own cursor and the last it has seen of the other.
pub struct Rings {
    output: Ring,
    written: u64,
    seen_read: u64,
    input: Ring,
    read: u64,
    seen_written: u64,
}

impl Link for SpinRing {
    const NAME: &'static str = "bare spinning ring";
    type End = Rings;

    fn wedges(_: usize) -> Option<&'static str> {
        Some("waits for the dead for ever, and burns a processor")
    }

    fn create(size: usize) -> SpinRing {
        SpinRing([0; 2].map(|_| Ring::new(size)))
    }

    fn open(&self, side: Side) -> Rings {
        let (output, input) = (self.0[side as usize], self.0[1 - side as usize]);
        Rings { output, written: 0, seen_read: 0, input, read: 0, seen_written: 0 }
    }
}

impl Ring {
    fn new(size: usize) -> Ring {
        let slots = ((256 << 10) / size).clamp(4, 4096);
        let memory = shared_memory(NonZero::new(SLOTS_BEGIN + slots * size).expect("more than none"));
        Ring { memory, slots: slots as u64, size }
    }

    fn written(&self) -> &AtomicU64 {
        // SAFETY: aligned, zero at first, never unmapped, and used as an atomic only.
        unsafe { self.memory.cast().as_ref() }
    }

    fn read(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { self.memory.add(128).cast().as_ref() }
    }

    fn slot(&self, position: u64) -> *mut u8 {
        let offset = (position % self.slots) as usize * self.size;
        self.memory.as_ptr().wrapping_add(SLOTS_BEGIN + offset)
    }
}

impl End for Rings {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        if self.written - self.seen_read == self.output.slots {
            self.seen_read = change(self.output.read(), self.seen_read);
        }
        assert_eq!(message.len(), self.output.size);
        // SAFETY: the slot is as long as the message, and the reader is past what was in it.
        unsafe { self.output.slot(self.written).copy_from_nonoverlapping(message.as_ptr(), message.len()) };
        self.written += 1;
        self.output.written().store(self.written, Release);
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        if self.read == self.seen_written {
            self.seen_written = change(self.input.written(), self.seen_written);
        }
        assert_eq!(buffer.len(), self.input.size);
        // SAFETY: the slot is as long as the buffer, and the writer is past it.
        unsafe { self.input.slot(self.read).copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
        self.read += 1;
        self.input.read().store(self.read, Release);
    }
}

/// Waits until the cursor is another than that.
#[inline(always)]
fn change(cursor: &AtomicU64, from: u64) -> u64 {
    for looks in 0.. {
        let now = cursor.load(Acquire);
        if now != from {
            return now;
        }
        if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    unreachable!("it looks for ever")
}

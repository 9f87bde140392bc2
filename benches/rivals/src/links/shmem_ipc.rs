//! `shmem-ipc`: a ring of bytes in shared memory for each direction, with eventfds to wait.
#![allow(unsafe_code)]

use std::fs::File;
use std::sync::Mutex;

use shmem_ipc::sharedring::{Receiver, Sender};

use crate::link::{End, Link};
use crate::processors::Side;

/// The left end, and copies of its files for the right one.
pub struct ShmemIpc {
    left: Mutex<Option<Rings>>,
    there: Files,
    back: Files,
    capacity: usize,
}

pub struct Rings {
    output: Sender<u8>,
    input: Receiver<u8>,
}

/// What opens the other side of a ring: its memory, and what tells that it is empty or full.
struct Files {
    memory: File,
    empty: File,
    full: File,
}

impl Link for ShmemIpc {
    const NAME: &'static str = "shmem-ipc";
    type End = Rings;

    fn wedges(_: usize) -> Option<&'static str> {
        Some("nobody tells of a death: the other side waits for ever")
    }

    fn create(size: usize) -> ShmemIpc {
        let capacity = (4 * size).next_power_of_two().max(256 << 10);
        let (output, input) = (Sender::new(capacity).unwrap(), Receiver::new(capacity).unwrap());
        let there = Files::copy(output.memfd().as_file(), output.empty_signal(), output.full_signal());
        let back = Files::copy(input.memfd().as_file(), input.empty_signal(), input.full_signal());
        ShmemIpc { left: Mutex::new(Some(Rings { output, input })), there, back, capacity }
    }

    fn open(&self, side: Side) -> Rings {
        match side {
            Side::Left => self.left.lock().unwrap().take().expect("taken once"),
            Side::Right => Rings {
                output: self.back.open(self.capacity, Sender::open),
                input: self.there.open(self.capacity, Receiver::open),
            },
        }
    }
}

impl Files {
    fn copy(memory: &File, empty: &File, full: &File) -> Files {
        let [memory, empty, full] = [memory, empty, full].map(|file| file.try_clone().unwrap());
        Files { memory, empty, full }
    }

    fn open<R, E: std::fmt::Debug>(
        &self,
        capacity: usize,
        ring: fn(usize, File, File, File) -> Result<R, E>,
    ) -> R {
        let Files { memory, empty, full } = Files::copy(&self.memory, &self.empty, &self.full);
        ring(capacity, memory, empty, full).unwrap()
    }
}

impl End for Rings {
    fn send(&mut self, mut message: &[u8]) {
        while !message.is_empty() {
            self.output.block_until_writable().unwrap();
            let fill = |room: &mut [u8]| {
                let (now, later) = message.split_at(room.len().min(message.len()));
                room[..now.len()].copy_from_slice(now);
                message = later;
                now.len()
            };
            // SAFETY: this is the only sender, and the other side has the only receiver.
            unsafe { self.output.send_trusted(fill) }.unwrap();
        }
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            self.input.block_until_readable().unwrap();
            let drain = |bytes: &[u8]| {
                let part = bytes.len().min(buffer.len() - filled);
                buffer[filled..filled + part].copy_from_slice(&bytes[..part]);
                filled += part;
                part
            };
            // SAFETY: this is the only receiver, and the other side has the only sender.
            unsafe { self.input.receive_trusted(drain) }.unwrap();
        }
    }
}

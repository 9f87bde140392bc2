//! A pipe of the kernel for each direction, as it comes.

use std::fs::File;
use std::io::{Read, Write};

use nix::unistd;

use crate::link::{End, Ends, Link};
use crate::processors::Side;

pub struct Pipe(Ends<Pair>);

pub struct Pair {
    reader: File,
    writer: File,
}

/// What a pipe takes whole or not at all, by its manual.
const PIPE_BUF: usize = 4096;

impl Link for Pipe {
    const NAME: &'static str = "raw pipe";
    type End = Pair;

    fn wedges(size: usize) -> Option<&'static str> {
        (size > PIPE_BUF)
            .then_some("a writer killed inside a message leaves it torn, and its readers out of step")
    }

    fn create(_: usize) -> Pipe {
        let (from_left, to_right) = unistd::pipe().unwrap();
        let (from_right, to_left) = unistd::pipe().unwrap();
        let left = Pair { reader: from_right.into(), writer: to_right.into() };
        Pipe(Ends::new(left, Pair { reader: from_left.into(), writer: to_left.into() }))
    }

    fn open(&self, side: Side) -> Pair {
        self.0.take(side)
    }
}

impl End for Pair {
    fn send(&mut self, message: &[u8]) {
        self.writer.write_all(message).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        self.reader.read_exact(buffer).unwrap();
    }
}

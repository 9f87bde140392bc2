//! `multiprocess::connection::Payload`: memory of the pipe is handed over, and nothing is copied.

use multiprocess::Connection;

use super::our_pipe::OurPipe;
use crate::link::{End, Link};
use crate::processors::Side;

/// Only the numbers of messages are written and read.
pub struct OurPayload {
    pipe: OurPipe,
    size: usize,
}

pub struct Hands {
    connection: Connection,
    size: usize,
}

impl Link for OurPayload {
    const NAME: &'static str = "multiprocess Payload";
    type End = Hands;

    fn create(size: usize) -> OurPayload {
        OurPayload { pipe: OurPipe::create(size), size }
    }

    fn open(&self, side: Side) -> Hands {
        Hands { connection: self.pipe.open(side), size: self.size }
    }
}

impl End for Hands {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        let mut payload = self.connection.payload(self.size).unwrap();
        payload.write_at(0, &message[..8]).unwrap();
        self.connection.send_payload(payload).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        let payload = self.connection.recv_payload().unwrap();
        payload.read_at(0, &mut buffer[..8]).unwrap();
    }
}

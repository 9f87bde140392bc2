//! `multiprocess::Connection`.

use multiprocess::{Connection, pipe};

use crate::link::{End, Ends, Link, number, set_number};
use crate::processors::Side;
use crate::record::Record;

pub struct OurPipe(Ends<Connection>);

impl Link for OurPipe {
    const NAME: &'static str = "multiprocess::Connection";
    type End = Connection;

    fn create(_: usize) -> OurPipe {
        let (left, right) = pipe().unwrap();
        OurPipe(Ends::new(left, right))
    }

    fn open(&self, side: Side) -> Connection {
        self.0.take(side)
    }
}

impl End for Connection {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.send_bytes(message).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        self.recv_bytes_into(buffer).unwrap();
    }
}

/// The same with a [`Record`] as the message.
pub struct OurPipeTyped(OurPipe);

pub struct Typed(Connection);

impl Link for OurPipeTyped {
    const NAME: &'static str = OurPipe::NAME;
    type End = Typed;

    fn create(size: usize) -> OurPipeTyped {
        OurPipeTyped(OurPipe::create(size))
    }

    fn open(&self, side: Side) -> Typed {
        Typed(self.0.open(side))
    }
}

impl End for Typed {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.0.send(&Record::new(number(message))).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, self.0.recv::<Record>().unwrap().number);
    }
}

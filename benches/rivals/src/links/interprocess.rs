//! `interprocess`: a local socket, a stream of bytes.

use std::io::{Read, Write};

use interprocess::local_socket::traits::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericNamespaced, Listener, ListenerOptions, Name, Stream, ToNsName};

use crate::link::{End, Link};
use crate::names;
use crate::processors::Side;

pub struct Interprocess(Listener);

impl Link for Interprocess {
    const NAME: &'static str = "interprocess";
    type End = Stream;

    fn create(_: usize) -> Interprocess {
        Interprocess(ListenerOptions::new().name(name()).create_sync().unwrap())
    }

    fn open(&self, side: Side) -> Stream {
        match side {
            Side::Left => self.0.accept().unwrap(),
            Side::Right => Stream::connect(name()).unwrap(),
        }
    }
}

/// In the abstract namespace: it goes with the listener.
fn name() -> Name<'static> {
    (names::prefix() + "socket").to_ns_name::<GenericNamespaced>().unwrap()
}

impl End for Stream {
    fn send(&mut self, message: &[u8]) {
        self.write_all(message).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        self.read_exact(buffer).unwrap();
    }
}

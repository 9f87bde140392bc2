//! `cloudtoid-interprocess`: a named queue for each direction.

use std::time::Duration;

use cloudtoid_interprocess::{Options, Publisher, Subscriber};

use crate::link::{End, Link};
use crate::names;
use crate::processors::Side;

pub struct Cloudtoid(usize);

pub struct Queues {
    output: Publisher,
    input: Subscriber,
}

impl Link for Cloudtoid {
    const NAME: &'static str = "cloudtoid-interprocess";
    type End = Queues;

    fn wedges(_: usize) -> Option<&'static str> {
        Some("a killed producer holds all others up for 10 s, and may take their messages along")
    }

    fn create(size: usize) -> Cloudtoid {
        Cloudtoid(size)
    }

    fn open(&self, side: Side) -> Queues {
        let [there, back] = ["there", "back"].map(|name| options(name, self.0));
        let (output, input) = if side == Side::Left { (there, back) } else { (back, there) };
        Queues { output: Publisher::open(&output).unwrap(), input: Subscriber::open(&input).unwrap() }
    }
}

fn options(name: &str, size: usize) -> Options {
    let capacity = (4 * size).next_power_of_two().max(256 << 10);
    Options::new(names::prefix() + name, capacity).with_path(names::directory())
}

impl End for Queues {
    /// It has no send that waits: this one looks a while, then yields.
    fn send(&mut self, message: &[u8]) {
        for tries in 0.. {
            match self.output.try_send(message) {
                Ok(()) => return,
                Err(error) => assert!(error.is_full(), "{error}"),
            }
            if tries < 100 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        while self.input.try_recv_into(buffer).unwrap().is_none() {
            if let Some(message) = self.input.recv_timeout(Duration::from_secs(1)).unwrap() {
                return buffer.copy_from_slice(&message);
            }
        }
    }
}

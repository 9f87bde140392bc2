//! `cloudtoid-interprocess`: a named queue for each direction.

use std::time::Duration;

use cloudtoid_interprocess::{Options, Publisher, Subscriber};

use crate::link::{EIGHT, End, Link};
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
    fn send(&mut self, message: &[u8]) {
        persist(|| unless_full(self.output.try_send(message)));
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        while self.input.try_recv_into(buffer).unwrap().is_none() {
            if let Some(message) = self.input.recv_timeout(Duration::from_secs(1)).unwrap() {
                return buffer.copy_from_slice(&message);
            }
        }
    }
}

/// The same, eight messages at once where it can: it has no receive of several.
pub struct CloudtoidBatch(Cloudtoid);

pub struct Batches(Queues);

impl Link for CloudtoidBatch {
    const NAME: &'static str = Cloudtoid::NAME;
    type End = Batches;

    fn wedges(size: usize) -> Option<&'static str> {
        Cloudtoid::wedges(size)
    }

    fn create(size: usize) -> CloudtoidBatch {
        CloudtoidBatch(Cloudtoid::create(size))
    }

    fn open(&self, side: Side) -> Batches {
        Batches(self.0.open(side))
    }
}

impl End for Batches {
    fn send(&mut self, message: &[u8]) {
        let mut sent = 0;
        persist(|| {
            let more = self.0.output.try_send_batch(&[message; EIGHT][sent..]);
            sent += unless_full(more).unwrap_or(0);
            (sent == EIGHT).then_some(())
        });
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        (0..EIGHT).for_each(|_| self.0.recv(buffer));
    }
}

/// It has no send that waits: this one looks a while, then yields.
fn persist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for tries in 0.. {
        if let Some(done) = attempt() {
            return done;
        }
        if tries < 100 { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    unreachable!("it tries for ever")
}

fn unless_full<T>(sent: cloudtoid_interprocess::Result<T>) -> Option<T> {
    match sent {
        Err(error) if error.is_full() => None,
        sent => Some(sent.unwrap()),
    }
}

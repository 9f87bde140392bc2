//! Interleavings of the ring of a pipe, with a death before each step of its writer.
//!
//! `ring.rs` itself and the room bell are compiled here a second time, over the atomics and the kernel of `world`. The
//! socket is a model of its own: a queue without timeouts.

#[path = "../../ipc-sync/src/bell.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod bell;
#[path = "../src/frame.rs"]
#[allow(dead_code, unreachable_pub)]
mod frame;
#[path = "../src/ring.rs"]
#[allow(dead_code)]
mod ring;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use std::sync::Arc;

use bytes::Bytes;
use frame::Flags;
use ring::{Consumer, Frame, Producer, Words};
use socket::Socket;
use world::{Deadline, each_death, explore, futex};

/// What the ring finds in its crate.
mod primitive {
    use std::cell::Cell;

    pub(crate) use super::bell::RoomBell;
    pub(crate) use super::world::primitive::*;

    std::thread_local! {
        /// Leaves the barriers out; loom's threads are coroutines of the test's one thread.
        pub(crate) static NO_BARRIERS: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn full_fence() {
        if !NO_BARRIERS.get() {
            super::world::primitive::full_fence();
        }
    }
}

/// A ring of eight words.
mod bytes {
    use std::sync::Arc;

    use super::primitive::{AtomicU64, Ordering::Relaxed};

    #[derive(Debug, Default, Clone)]
    pub(crate) struct Bytes(Arc<[AtomicU64; 8]>);

    impl Bytes {
        pub(crate) fn capacity(&self) -> u64 {
            64
        }

        pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
            &self.0[position as usize / 8 % 8]
        }

        pub(crate) fn prefetch_write(&self, _: u64) {}

        pub(crate) fn write(&self, position: u64, payload: &[u8]) {
            for (i, word) in payload.chunks(8).enumerate() {
                let word = u64::from_ne_bytes(word.try_into().expect("the models put whole words"));
                self.header(position + 8 * i as u64).store(word, Relaxed);
            }
        }
    }
}

/// The socket of a pipe.
mod socket {
    use loom::sync::{Condvar, Mutex};

    use super::primitive::step;

    #[derive(Debug, Default)]
    struct Queue {
        packets: u32,
        closed: bool,
    }

    /// The reader's end: packets, and the news that the writer's end is gone.
    #[derive(Debug, Default)]
    pub(crate) struct Socket {
        queue: Mutex<Queue>,
        changed: Condvar,
    }

    impl Socket {
        pub(crate) fn ring(&self) {
            step();
            self.queue.lock().unwrap().packets += 1;
            self.changed.notify_all();
        }

        pub(crate) fn close(&self) {
            self.queue.lock().unwrap().closed = true;
            self.changed.notify_all();
        }

        /// Sleeps until there is a packet; true = the other end is gone.
        pub(crate) fn poll(&self) -> bool {
            let mut queue = self.queue.lock().unwrap();
            while queue.packets == 0 && !queue.closed {
                queue = self.changed.wait(queue).unwrap();
            }
            queue.closed
        }

        pub(crate) fn take_packet(&self) {
            let mut queue = self.queue.lock().unwrap();
            queue.packets = queue.packets.saturating_sub(1);
        }
    }
}

/// One direction of a pipe.
#[derive(Clone, Default)]
struct Scene {
    words: Arc<Words>,
    bytes: Bytes,
    socket: Arc<Socket>,
}

impl Scene {
    /// Sends one frame with `value` twice, as `Sender` does.
    fn put(&self, producer: &mut Producer, value: u64) {
        let position = producer.needs(16, &self.bytes);
        while !producer.has_room(&self.words, position) {
            let ready = || self.words.taken() >= position;
            self.words.reader.room.sleep(position, ready, Deadline::NEVER);
        }
        let payload = value.to_ne_bytes();
        let frame = Frame { flags: Flags::WHOLE, processor: 0, prefix: &[value], payload: &payload };
        producer.put(&self.words, &self.bytes, frame);
        if self.words.writer.bell.must_ring() {
            self.socket.ring();
        }
    }

    fn try_get(&self, consumer: &mut Consumer) -> Option<u64> {
        let header = consumer.front(&self.bytes)?;
        assert_eq!((header.length(), header.flags().has(Flags::WHOLE)), (16, true));
        let word = |i: u64| self.bytes.header(consumer.payload() + 8 * i).load(primitive::Ordering::Relaxed);
        let value = word(0);
        assert_eq!(value, word(1), "torn");
        consumer.advance(&self.words, header, 0);
        Some(value)
    }

    /// Receives one frame, as `Sleeper` waits for it; `None` = end of file.
    fn get(&self, consumer: &mut Consumer) -> Option<u64> {
        loop {
            if let Some(value) = self.try_get(consumer) {
                return Some(value);
            }
            self.words.writer.bell.hang();
            if consumer.front(&self.bytes).is_some() {
                continue;
            }
            let gone = self.socket.poll();
            if consumer.front(&self.bytes).is_none() {
                if gone {
                    return None;
                }
                self.socket.take_packet();
            }
        }
    }

    /// Everything until end of file.
    fn drain(&self) -> Vec<u64> {
        let mut consumer = Consumer::take_over(&self.words).expect("a position of ours");
        std::iter::from_fn(|| self.get(&mut consumer)).collect()
    }

    fn writer(&self) -> Producer {
        Producer::take_over(&self.words, &self.bytes).expect("words of ours")
    }
}

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 3;

fn model(f: impl Fn(Scene) + Sync + Send + 'static) {
    explore(SWITCHES, move || f(Scene::default()));
}

#[test]
fn frames_are_whole_and_in_order() {
    model(|scene| {
        let writer = scene.clone();
        let writer = loom::thread::spawn(move || {
            let mut producer = writer.writer();
            (1..=2).for_each(|value| writer.put(&mut producer, value));
            writer.socket.close();
        });
        assert_eq!(scene.drain(), [1, 2]);
        writer.join().unwrap();
    });
}

#[test]
fn writer_that_waits_for_room_is_woken() {
    model(|scene| {
        let writer = scene.clone();
        let writer = loom::thread::spawn(move || {
            let mut producer = writer.writer();
            (1..=4).for_each(|value| writer.put(&mut producer, value));
            writer.socket.close();
        });
        assert_eq!(scene.drain(), [1, 2, 3, 4]);
        writer.join().unwrap();
    });
}

/// Sends 1 and 2 in a thread that dies before each of its steps; then the thread does `after`.
fn for_each_death(after: fn(&Scene), check: fn(&[u64])) {
    each_death(SWITCHES, move |mortal| {
        let scene = Scene::default();
        let (writer, mortal) = (scene.clone(), mortal.clone());
        let writer = loom::thread::spawn(move || {
            mortal.live(|| {
                let mut producer = writer.writer();
                (1..=2).for_each(|value| writer.put(&mut producer, value));
            });
            after(&writer);
            writer.socket.close();
        });
        check(&scene.drain());
        writer.join().unwrap();
    });
}

#[test]
fn dead_writer_leaves_whole_frames_and_end_of_file() {
    for_each_death(|_| (), |got| assert_eq!(got, &[1, 2][..got.len()]));
}

#[test]
fn next_writer_goes_on_where_a_dead_one_ended() {
    for_each_death(
        |scene| scene.put(&mut scene.writer(), 9),
        |got| assert!([&[9][..], &[1, 9], &[1, 2, 9]].contains(&got), "{got:?}"),
    );
}

#[test]
fn next_reader_goes_on_where_the_last_one_ended() {
    model(|scene| {
        let writer = scene.clone();
        let writer = loom::thread::spawn(move || {
            let mut producer = writer.writer();
            (1..=3).for_each(|value| writer.put(&mut producer, value));
            writer.socket.close();
        });
        let mut first = Consumer::take_over(&scene.words).unwrap();
        assert_eq!(scene.get(&mut first), Some(1));
        assert_eq!(scene.drain(), [2, 3]);
        writer.join().unwrap();
    });
}

/// The models see what they are there to see.
#[test]
#[should_panic(expected = "deadlock")]
fn without_barriers_a_wake_is_lost() {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            primitive::NO_BARRIERS.set(false);
        }
    }
    let _restore = Restore;
    primitive::NO_BARRIERS.set(true);
    model(|scene| {
        let writer = scene.clone();
        let writer = loom::thread::spawn(move || writer.put(&mut writer.writer(), 1));
        let mut consumer = Consumer::take_over(&scene.words).unwrap();
        assert_eq!(scene.get(&mut consumer), Some(1));
        writer.join().unwrap();
    });
}

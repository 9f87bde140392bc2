//! Interleavings of the ring of a pipe, with a death before each step of its writer.
//!
//! `ring.rs` itself and the room bell are compiled here a second time, over loom's atomics. The kernel is a model: a
//! futex and a socket are queues without timeouts, so that a wake that only the backstop would repair is a deadlock
//! here; a death is an unwinding before the step that the thread did not live to do.

#[path = "../../ipc-sync/src/bell.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod bell;
#[path = "../src/frame.rs"]
#[allow(dead_code, unreachable_pub)]
mod frame;
#[path = "../src/ring.rs"]
#[allow(dead_code)]
mod ring;

use std::sync::Arc;

use bytes::Bytes;
use frame::Flags;
use futex::Socket;
use primitive::live;
use ring::{Consumer, Frame, Producer, Words};

/// Time stands still, and nobody times out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline;

/// loom's atomics, of which a mortal thread may do only so many operations.
mod primitive {
    use std::cell::Cell;

    pub(crate) use super::bell::RoomBell;
    pub(crate) use loom::sync::atomic::Ordering;

    loom::thread_local! {
        static STEPS_LEFT: Cell<usize> = Cell::new(usize::MAX);
    }

    /// The thread is dead: unwinds to [`live`].
    struct Died;

    /// Runs `f`, which dies before its step number `steps`; true if it lived to its end.
    pub(crate) fn live(steps: usize, f: impl FnOnce()) -> bool {
        STEPS_LEFT.with(|left| left.set(steps));
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        STEPS_LEFT.with(|left| left.set(usize::MAX));
        match end {
            Ok(()) => true,
            Err(payload) if payload.is::<Died>() => false,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    pub(crate) fn step() {
        STEPS_LEFT.with(|left| match left.get() {
            usize::MAX => {}
            0 => std::panic::resume_unwind(Box::new(Died)),
            more => left.set(more - 1),
        })
    }

    std::thread_local! {
        /// Leaves the barriers out; loom's threads are coroutines of the test's one thread.
        pub(crate) static NO_BARRIERS: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn full_fence() {
        if !NO_BARRIERS.get() {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    macro_rules! atomic {
        ($name:ident, $number:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            #[allow(dead_code)] // the ring needs some of one and some of the other
            impl $name {
                pub(crate) fn load(&self, order: Ordering) -> $number {
                    step();
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $number, order: Ordering) {
                    step();
                    self.0.store(value, order)
                }

                pub(crate) fn swap(&self, value: $number, order: Ordering) -> $number {
                    step();
                    self.0.swap(value, order)
                }

                pub(crate) fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                    step();
                    self.0.fetch_or(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    old: $number,
                    new: $number,
                    ok: Ordering,
                    no: Ordering,
                ) -> Result<$number, $number> {
                    step();
                    self.0.compare_exchange(old, new, ok, no)
                }

                pub(crate) fn fetch_max(&self, value: $number, order: Ordering) -> $number {
                    step();
                    self.0.fetch_max(value, order)
                }

                /// As the kernel does it: not a step of the thread.
                pub(crate) fn by_kernel(&self) -> $number {
                    self.0.load(Ordering::SeqCst)
                }
            }
        };
    }
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
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

/// What the kernel keeps: futexes, and the socket of a pipe.
mod futex {
    use loom::sync::{Condvar, Mutex};

    use super::Deadline;
    use super::primitive::{AtomicU32, step};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Woken {
        Look,
    }

    loom::lazy_static! {
        /// One queue for all words: a wake too many is allowed, one too few is not.
        static ref SLEEPERS: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _: Deadline) -> Woken {
        step();
        let mut wakes = SLEEPERS.0.lock().unwrap();
        let before = *wakes;
        while word.by_kernel() == expected && *wakes == before {
            wakes = SLEEPERS.1.wait(wakes).unwrap();
        }
        Woken::Look
    }

    pub(crate) fn wake_all(_: &AtomicU32) -> usize {
        step();
        *SLEEPERS.0.lock().unwrap() += 1;
        SLEEPERS.1.notify_all();
        0
    }

    pub(crate) fn wake(word: &AtomicU32, _: i32) -> usize {
        wake_all(word)
    }

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
            self.words.reader.room.sleep(position, ready, Deadline);
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
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(SWITCHES);
    builder.check(move || f(Scene::default()));
}

/// More steps than sending two frames takes.
const STEPS: usize = 24;

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

#[test]
fn dead_writer_leaves_whole_frames_and_end_of_file() {
    for steps in 0..STEPS {
        model(move |scene| {
            let writer = scene.clone();
            let writer = loom::thread::spawn(move || {
                live(steps, || {
                    let mut producer = writer.writer();
                    (1..=2).for_each(|value| writer.put(&mut producer, value));
                });
                writer.socket.close();
            });
            let got = scene.drain();
            assert_eq!(got, [1, 2][..got.len()]);
            writer.join().unwrap();
        });
    }
}

#[test]
fn next_writer_goes_on_where_a_dead_one_ended() {
    let mut longest = false;
    for steps in 0..STEPS {
        let finished = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = finished.clone();
        model(move |scene| {
            let (writer, seen) = (scene.clone(), seen.clone());
            let writer = loom::thread::spawn(move || {
                let lived = live(steps, || {
                    let mut producer = writer.writer();
                    (1..=2).for_each(|value| writer.put(&mut producer, value));
                });
                seen.fetch_or(lived, std::sync::atomic::Ordering::SeqCst);
                writer.put(&mut writer.writer(), 9);
                writer.socket.close();
            });
            let got = scene.drain();
            assert!([&[9][..], &[1, 9], &[1, 2, 9]].contains(&&got[..]), "{got:?}");
            writer.join().unwrap();
        });
        longest |= finished.load(std::sync::atomic::Ordering::SeqCst);
    }
    assert!(longest, "more steps than {STEPS}: some deaths were not tried");
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

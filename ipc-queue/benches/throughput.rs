//! Messages of 64 bytes per second from processes to processes, beside a raw pipe in the same run.
//!
//! `cargo bench -p ipc-queue`. Every process is pinned: on two processors producers have one and consumers the
//! other. The rows of one shape are interleaved, five times; a figure is the median of the five, with the least and
//! the most. Ratios count, not figures: a busy neighbour on the host moves all of them.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ipc_queue::{Batch, Queue};
use serde::{Deserialize, Serialize};
use support::{Child, fork, pin, shared, shared_slice};

const MESSAGE: usize = 64;
const REPETITIONS: usize = 5;
const WARM_UP: Duration = Duration::from_millis(20);
const MEASURED: Duration = Duration::from_millis(100);
/// A count on a line of its own.
const STRIDE: usize = 16;

/// What messages go through.
trait Way {
    fn put(&mut self, message: &[u8]);
    fn get(&mut self, buffer: &mut Vec<u8>);
}

struct OurQueue(Queue<()>);

impl Way for OurQueue {
    #[inline(always)]
    fn put(&mut self, message: &[u8]) {
        self.0.put_bytes(message).unwrap();
    }

    #[inline(always)]
    fn get(&mut self, buffer: &mut Vec<u8>) {
        self.0.get_bytes_into(buffer).unwrap();
    }
}

/// 60 bytes on their way.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    key: u64,
    count: u32,
    value: f64,
    tags: [u32; 6],
    name: [u8; 16],
}

struct OurTyped(Queue<Record>);

impl Way for OurTyped {
    #[inline(always)]
    fn put(&mut self, message: &[u8]) {
        let key = message[0].into();
        self.0.put(Record { key, count: 1, value: 2.0, tags: [3; 6], name: [4; 16] }).unwrap();
    }

    #[inline(always)]
    fn get(&mut self, _: &mut Vec<u8>) {
        self.0.get().unwrap();
    }
}

/// Eight at a time.
struct OurBatches(Queue<()>, Batch, usize);

impl Way for OurBatches {
    #[inline(always)]
    fn put(&mut self, message: &[u8]) {
        self.0.put_bytes_many(&[message; 8]).unwrap();
    }

    #[inline(always)]
    fn get(&mut self, _: &mut Vec<u8>) {
        if self.2 == 0 {
            self.0.get_bytes_many(8, &mut self.1).unwrap();
            self.2 = self.1.len();
        }
        self.2 -= 1;
    }
}

/// Reading end and writing end.
struct Pipe(File, File);

impl Way for Pipe {
    fn put(&mut self, message: &[u8]) {
        self.1.write_all(message).unwrap();
    }

    fn get(&mut self, buffer: &mut Vec<u8>) {
        buffer.resize(MESSAGE, 0);
        self.0.read_exact(buffer).unwrap();
    }
}

/// So many producers and consumers, and the processor of each side.
#[derive(Clone, Copy)]
struct Shape {
    producers: usize,
    consumers: usize,
    processors: [usize; 2],
}

/// Million messages per second.
fn rate(shape: Shape, mut way: impl Way) -> f64 {
    let stop = shared::<AtomicBool>();
    let counts = shared_slice::<AtomicU64>(shape.consumers * STRIDE);
    let mut children: Vec<Child> = Vec::new();
    for i in 0..shape.consumers {
        children.push(fork(|| consume(&mut way, &counts[i * STRIDE], shape.processors[1])));
    }
    for _ in 0..shape.producers {
        children.push(fork(|| produce(&mut way, stop, shape.processors[0])));
    }
    let total = || counts.iter().map(|count| count.load(Relaxed)).sum::<u64>();
    thread::sleep(WARM_UP);
    let (start, before) = (Instant::now(), total());
    thread::sleep(MEASURED);
    let (time, messages) = (start.elapsed(), total() - before);
    stop.store(true, Relaxed);
    messages as f64 / time.as_secs_f64() / 1e6
}

fn consume(way: &mut impl Way, count: &AtomicU64, processor: usize) {
    pin(processor);
    let mut buffer = Vec::new();
    for n in 1.. {
        way.get(&mut buffer);
        count.store(n, Relaxed);
    }
}

fn produce(way: &mut impl Way, stop: &AtomicBool, processor: usize) {
    pin(processor);
    let message = [7; MESSAGE];
    while !stop.load(Relaxed) {
        way.put(&message);
    }
}

fn measure(row: usize, shape: Shape) -> f64 {
    match row {
        0 => {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            rate(shape, Pipe(reader.into(), writer.into()))
        }
        1 => rate(shape, OurQueue(Queue::bounded(2000).unwrap())),
        2 => rate(shape, OurQueue(Queue::new().unwrap())),
        3 => rate(shape, OurTyped(Queue::bounded(2000).unwrap())),
        _ => rate(shape, OurBatches(Queue::bounded(2000).unwrap(), Batch::new(), 0)),
    }
}

const ROWS: [&str; 5] =
    ["raw pipe", "queue of 2000", "unbounded queue", "queue of 2000, typed", "queue of 2000, by eight"];

fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn print(shape: &str, results: [(f64, f64, f64); ROWS.len()]) {
    for (row, (middle, least, most)) in ROWS.iter().zip(results) {
        let ratio = middle / results[0].0;
        println!("{shape:24} {row:20} {middle:6.2} [{least:.2}..{most:.2}]  x {ratio:.1}");
    }
}

fn main() {
    println!("64 bytes, million messages per second: median [min..max] of {REPETITIONS}, ratio to the pipe");
    for (name, processors) in [("two processors", [0, 1]), ("one processor", [0, 0])] {
        for (producers, consumers) in [(1, 1), (4, 1), (1, 4)] {
            let shape = Shape { producers, consumers, processors };
            let mut figures = ROWS.map(|_| Vec::new());
            for _ in 0..REPETITIONS {
                (0..ROWS.len()).for_each(|row| figures[row].push(measure(row, shape)));
            }
            print(&format!("{producers} to {consumers}, {name}"), figures.map(median));
        }
    }
}

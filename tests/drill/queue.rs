//! Rows 7 and 8: producers and consumers of one queue, and a mark for each message at each of its stations. Messages
//! are short, or of 1 KiB, or of 200 KiB, which lie in memory of their own, or have a handle in them.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use ipc_queue::Queue;
use ipc_shm::{Descriptor, sealed_file};
use ipc_sync::Registry;
use nix::sys::stat::fstat;

use crate::{Outcome, lost_wakes};
use support::chaos::{Plan, Report};
use support::leaks::census;
use support::{procfs, shared, shared_slice, until};

const PRODUCERS: usize = 4;
/// Messages of one producer, over all its lives.
const MOST: usize = 1 << 26;
const RING: usize = 256 << 10;

#[derive(Default)]
struct Account {
    next: [AtomicU32; PRODUCERS],
    gets: AtomicU64,
    torn: AtomicU64,
    out_of_order: AtomicU64,
    over_bound: AtomicU64,
    leaks: AtomicU64,
}

/// One mark a message: what its producer was told, and how often it came out.
struct Marks {
    acked: &'static [AtomicU8],
    got: &'static [AtomicU8],
}

impl Marks {
    fn at(marks: &[AtomicU8], producer: usize, number: u32) -> &AtomicU8 {
        &marks[producer * MOST + number as usize]
    }
}

/// What the messages are, and the queue they go through.
enum Messages {
    /// The name of the kind, and the length of a message by a number that looks random.
    Bytes(&'static str, Queue<()>, fn(usize) -> usize),
    /// Producer, number, and one of the descriptors that tell them apart.
    Handles(Queue<(u32, u32, Descriptor)>, Vec<Descriptor>),
}

use Messages::{Bytes, Handles};

/// Few enough to keep producers waiting, in a ring that has room for as many of any length: what waits elsewhere is
/// lost with its process.
const BOUND: usize = 64;
const BOUND_LARGE: usize = 4;

impl Messages {
    fn all() -> [Messages; 4] {
        let marks = (0..MARKS).map(|_| sealed_file(c"mark", 1).expect("a mark").into());
        [
            Bytes("", queue(BOUND), |x| if x % 61 == 0 { 300 + x % 2500 } else { 16 + (x >> 8) % 100 }),
            Bytes(" of 1 KiB", queue(BOUND), |_| 1 << 10),
            Bytes(" of 200 KiB", queue(BOUND_LARGE), |_| 200 << 10),
            Handles(queue(BOUND), marks.collect()),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Bytes(name, ..) => name,
            Handles(..) => " with handles",
        }
    }

    fn len(&self) -> usize {
        match self {
            Bytes(_, queue, _) => queue.len(),
            Handles(queue, _) => queue.len(),
        }
    }

    fn bound(&self) -> usize {
        match self {
            Bytes(_, queue, _) => queue.capacity(),
            Handles(queue, _) => queue.capacity(),
        }
        .expect("it is bounded")
    }

    fn put(&self, buffer: &mut Vec<u8>, producer: u32, number: u32) {
        match self {
            Bytes(_, queue, length) => {
                write(buffer, producer, number, *length);
                queue.put_bytes(buffer).expect("nothing but a death happens to this queue");
            }
            Handles(queue, marks) => {
                let mark = marks[mark(producer, number)].clone();
                queue.put((producer, number, mark)).expect("nothing but a death happens to this queue");
            }
        }
    }

    /// Producer and number of a message that is as it was put.
    fn get(&self, buffer: &mut Vec<u8>) -> Option<(usize, u32)> {
        match self {
            Bytes(_, queue, _) => {
                queue.get_bytes_into(buffer).expect("nothing but a death happens to this queue");
                read(buffer)
            }
            Handles(queue, marks) => {
                let (producer, number, came) = queue.get().ok()?;
                let file = |descriptor: &Descriptor| fstat(descriptor).map(|about| about.st_ino);
                let same = file(&came).is_ok() && file(&came) == file(&marks[mark(producer, number)]);
                same.then_some((producer as usize, number))
            }
        }
    }
}

fn queue<T>(bound: usize) -> Queue<T> {
    Queue::options().bound(bound).ring_bytes(RING).create().expect("a queue")
}

const MARKS: usize = 31;

fn mark(producer: u32, number: u32) -> usize {
    (producer as usize * 7 + number as usize) % MARKS
}

/// All kills for short messages, a third of them for each other kind.
pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    let shapes = [(2, 2), (4, 1), (1, 4)];
    let kinds = Messages::all().into_iter().enumerate();
    let run = |(i, messages): (usize, Messages)| {
        let kills = if i == 0 { kills } else { kills.div_ceil(3) };
        shapes.map(|(producers, consumers)| shape(&messages, producers, consumers, kills, seed))
    };
    kinds.flat_map(run).collect()
}

fn shape(messages: &Messages, producers: usize, consumers: usize, kills: u64, seed: u64) -> Outcome {
    let account = shared::<Account>();
    let marks = Marks { acked: shared_slice(PRODUCERS * MOST), got: shared_slice(PRODUCERS * MOST) };
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let work = |i| {
        if i < producers { produce(messages, account, &marks, i) } else { consume(messages, account, &marks) }
    };
    let progress = || {
        let over = messages.len() > messages.bound();
        account.over_bound.fetch_add(over.into(), Relaxed);
        account.gets.load(Relaxed)
    };
    let mut report = Plan { workers: producers + consumers, kills, seed }.run(work, progress);
    drain(&mut report, messages, producers);
    let tally = tally(account, &marks, producers);
    let consumer_kills: u64 = report.kills[producers..].iter().sum();
    let rescued = rescues() - before;
    let done = format!(
        "messages {} acked but lost {} of {consumer_kills} consumer kills, delivered though not acked {}, rescues {rescued}",
        tally.delivered, tally.lost, tally.unacked
    );
    let counts = [
        ("torn", account.torn.load(Relaxed)),
        ("duplicated", tally.duplicated),
        ("out of order", account.out_of_order.load(Relaxed)),
        ("over the bound", account.over_bound.load(Relaxed)),
        ("descriptors left behind", account.leaks.load(Relaxed)),
        ("lost beyond the dead hands", tally.lost.saturating_sub(consumer_kills)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("queue {producers}P{consumers}C{}", messages.name()), &report, done, &counts)
}

/// Ends the producers, and the consumers when they have taken everything.
fn drain(report: &mut Report, messages: &Messages, producers: usize) {
    report.workers[..producers].iter_mut().for_each(|worker| _ = worker.kill9());
    if !report.hang {
        until(|| messages.len() == 0);
        let consumers = &report.workers[producers..];
        until(|| consumers.iter().all(|worker| procfs::waits(worker.pid())));
    }
    report.workers[producers..].iter_mut().for_each(|worker| _ = worker.kill9());
}

#[derive(Default)]
struct Tally {
    delivered: u64,
    duplicated: u64,
    lost: u64,
    unacked: u64,
}

fn tally(account: &Account, marks: &Marks, producers: usize) -> Tally {
    let mut tally = Tally::default();
    for producer in 0..producers {
        for number in 0..account.next[producer].load(Relaxed) {
            let acked = Marks::at(marks.acked, producer, number).load(Relaxed) == 1;
            let got = u64::from(Marks::at(marks.got, producer, number).load(Relaxed));
            tally.delivered += got;
            tally.duplicated += u64::from(got > 1);
            tally.lost += u64::from(acked && got == 0);
            tally.unacked += u64::from(!acked && got == 1);
        }
    }
    tally
}

fn produce(messages: &Messages, account: &Account, marks: &Marks, producer: usize) {
    let mut buffer = Vec::new();
    let descriptors = Descriptors::now();
    loop {
        let number = account.next[producer].load(Relaxed);
        assert!((number as usize) < MOST, "more messages than marks");
        account.next[producer].store(number + 1, Relaxed);
        messages.put(&mut buffer, producer as u32, number);
        Marks::at(marks.acked, producer, number).store(1, Relaxed);
        descriptors.look(number, account);
    }
}

fn consume(messages: &Messages, account: &Account, marks: &Marks) {
    let mut buffer = Vec::new();
    let mut last = [None; PRODUCERS];
    let descriptors = Descriptors::now();
    for turn in 0.. {
        match messages.get(&mut buffer) {
            Some((producer, number)) if producer < PRODUCERS && (number as usize) < MOST => {
                Marks::at(marks.got, producer, number).fetch_add(1, Relaxed);
                let in_order = last[producer].is_none_or(|last| last < number);
                account.out_of_order.fetch_add((!in_order).into(), Relaxed);
                last[producer] = Some(number);
            }
            _ => _ = account.torn.fetch_add(1, Relaxed),
        }
        account.gets.fetch_add(1, Relaxed);
        descriptors.look(turn, account);
    }
}

/// What a worker has open.
struct Descriptors(usize);

/// Large messages are sent in memory that is kept, in so many pieces.
const KEPT: usize = 8;

impl Descriptors {
    fn now() -> Descriptors {
        Descriptors(census().len())
    }

    /// Looks now and then.
    fn look(&self, turn: u32, account: &Account) {
        if turn % 1024 == 1023 && census().len() > self.0 + KEPT {
            account.leaks.fetch_add(1, Relaxed);
        }
    }
}

/// Producer, number, sum over everything else, then a pattern.
pub(crate) fn write(message: &mut Vec<u8>, producer: u32, number: u32, length: fn(usize) -> usize) {
    let mixed = (u64::from(producer) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(number).wrapping_mul(0xd1b5_4a32_d192_ed03);
    message.clear();
    message.resize(length(mixed as usize), (mixed >> 20) as u8);
    message[0..4].copy_from_slice(&producer.to_ne_bytes());
    message[4..8].copy_from_slice(&number.to_ne_bytes());
    let sum = sum(message);
    message[8..16].copy_from_slice(&sum.to_ne_bytes());
}

/// Producer and number of a message that is as it was written.
pub(crate) fn read(message: &[u8]) -> Option<(usize, u32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let written = u64::from_ne_bytes(message.get(8..16)?.try_into().ok()?);
    if sum(message) == written { Some((word(0)? as usize, word(4)?)) } else { None }
}

fn sum(message: &[u8]) -> u64 {
    let others = message[..8].iter().chain(&message[16..]);
    others.fold(0xcbf2_9ce4_8422_2325 ^ message.len() as u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

//! Rows 7 and 8: producers and consumers of one queue, and a mark for each message at each of its stations.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use ipc_queue::Queue;
use ipc_sync::Registry;

use crate::support::chaos::{Plan, Report};
use crate::support::{procfs, shared, shared_slice, until};
use crate::{Outcome, lost_wakes};

const PRODUCERS: usize = 4;
/// Messages of one producer, over all its lives.
const MOST: usize = 1 << 26;
/// Few enough to keep producers waiting, in a ring that has room for as many of any length.
const BOUND: usize = 64;
const RING: usize = 256 << 10;

#[derive(Default)]
struct Account {
    next: [AtomicU32; PRODUCERS],
    gets: AtomicU64,
    torn: AtomicU64,
    out_of_order: AtomicU64,
    over_bound: AtomicU64,
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

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    [(2, 2), (4, 1), (1, 4)]
        .into_iter()
        .map(|(producers, consumers)| shape(producers, consumers, kills, seed))
        .collect()
}

fn shape(producers: usize, consumers: usize, kills: u64, seed: u64) -> Outcome {
    let queue = Queue::<()>::options().bound(BOUND).ring_bytes(RING).create().expect("a queue");
    let account = shared::<Account>();
    let marks = Marks { acked: shared_slice(PRODUCERS * MOST), got: shared_slice(PRODUCERS * MOST) };
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let work = |i| {
        if i < producers { produce(&queue, account, &marks, i) } else { consume(&queue, account, &marks) }
    };
    let progress = || {
        let over = queue.len() > BOUND;
        account.over_bound.fetch_add(over.into(), Relaxed);
        account.gets.load(Relaxed)
    };
    let mut report = Plan { workers: producers + consumers, kills, seed }.run(work, progress);
    drain(&mut report, &queue, producers);
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
        ("lost beyond the dead hands", tally.lost.saturating_sub(consumer_kills)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("queue {producers}P{consumers}C"), &report, done, &counts)
}

/// Ends the producers, and the consumers when they have taken everything.
fn drain(report: &mut Report, queue: &Queue<()>, producers: usize) {
    report.workers[..producers].iter_mut().for_each(|worker| _ = worker.kill9());
    if !report.hang {
        until(|| queue.is_empty());
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

fn produce(queue: &Queue<()>, account: &Account, marks: &Marks, producer: usize) {
    let mut message = Vec::new();
    loop {
        let number = account.next[producer].load(Relaxed);
        assert!((number as usize) < MOST, "more messages than marks");
        account.next[producer].store(number + 1, Relaxed);
        write(&mut message, producer as u32, number);
        queue.put_bytes(&message).expect("nothing but a death happens to this queue");
        Marks::at(marks.acked, producer, number).store(1, Relaxed);
    }
}

fn consume(queue: &Queue<()>, account: &Account, marks: &Marks) {
    let mut message = Vec::new();
    let mut last = [None; PRODUCERS];
    loop {
        queue.get_bytes_into(&mut message).expect("nothing but a death happens to this queue");
        match read(&message) {
            Some((producer, number)) if producer < PRODUCERS && (number as usize) < MOST => {
                Marks::at(marks.got, producer, number).fetch_add(1, Relaxed);
                let in_order = last[producer].is_none_or(|last| last < number);
                account.out_of_order.fetch_add((!in_order).into(), Relaxed);
                last[producer] = Some(number);
            }
            _ => _ = account.torn.fetch_add(1, Relaxed),
        }
        account.gets.fetch_add(1, Relaxed);
    }
}

/// Producer, number, sum over everything else, then a pattern; 16 to 115 bytes long, one in 61 up to 2.8 KB.
fn write(message: &mut Vec<u8>, producer: u32, number: u32) {
    let mixed = (u64::from(producer) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::from(number).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let length = if mixed % 61 == 0 { 300 + mixed as usize % 2500 } else { 16 + (mixed >> 8) as usize % 100 };
    message.clear();
    message.resize(length, (mixed >> 20) as u8);
    message[0..4].copy_from_slice(&producer.to_ne_bytes());
    message[4..8].copy_from_slice(&number.to_ne_bytes());
    let sum = sum(message);
    message[8..16].copy_from_slice(&sum.to_ne_bytes());
}

/// Producer and number of a message that is as it was written.
fn read(message: &[u8]) -> Option<(usize, u32)> {
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

//! Row 8 with leases: nothing that was put is lost, and what comes again says so.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use ipc_queue::Queue;
use ipc_sync::{BACKSTOP, Registry};

use crate::queue::{read, write};
use crate::{Outcome, lost_wakes};
use support::chaos::{Plan, Report};
use support::{procfs, shared, shared_slice, until};

const PRODUCERS: usize = 4;
/// Messages of one producer, over all its lives.
const MOST: usize = 1 << 26;
/// Few enough to keep producers waiting, in a ring that has room for as many of any length: what waits elsewhere is
/// lost with its process.
const BOUND: usize = 64;
const RING: usize = 256 << 10;

/// One message in so many is given back by its first holder.
const GIVEN_BACK: u32 = 13;

#[derive(Default)]
struct Account {
    next: [AtomicU32; PRODUCERS],
    gets: AtomicU64,
    again: AtomicU64,
    torn: AtomicU64,
}

/// What was told of each message: that it was put, how often it came as new, how often it was dealt with.
struct Marks {
    put: &'static [AtomicU8],
    new: &'static [AtomicU8],
    dealt_with: &'static [AtomicU8],
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
    let options = Queue::<()>::options().leased().bound(BOUND).ring_bytes(RING);
    let queue = options.create().expect("a queue");
    let account = shared::<Account>();
    let marks = || shared_slice(PRODUCERS * MOST);
    let marks = Marks { put: marks(), new: marks(), dealt_with: marks() };
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let work = |i| {
        if i < producers { produce(&queue, account, &marks, i) } else { consume(&queue, account, &marks) }
    };
    let mut report =
        Plan { workers: producers + consumers, kills, seed }.run(work, || account.gets.load(Relaxed));
    drain(&mut report, &queue, producers);
    let left = take_the_rest(&queue, &marks);
    let tally = tally(account, &marks, producers);
    let rescued = rescues() - before;
    let done = format!(
        "messages {} redelivered {} dealt with twice {} left {left}, rescues {rescued}",
        tally.dealt_with,
        account.again.load(Relaxed),
        tally.twice,
    );
    let counts = [
        ("torn", account.torn.load(Relaxed)),
        ("lost", tally.lost),
        ("new more than once", tally.unmarked),
        ("twice beyond the deaths", tally.twice.saturating_sub(report.total())),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("leases {producers}P{consumers}C"), &report, done, &counts)
}

/// Ends the producers, and the consumers when they have taken everything.
fn drain(report: &mut Report, queue: &Queue<()>, producers: usize) {
    report.workers[..producers].iter_mut().for_each(|worker| _ = worker.kill9());
    let consumers = &mut report.workers[producers..];
    if !report.hang {
        until(|| queue.is_empty());
        until(|| consumers.iter().all(|worker| procfs::waits(worker.pid())));
    }
    consumers.iter_mut().for_each(|worker| _ = worker.kill9());
}

/// What the last ones had in their hands when they were killed.
fn take_the_rest(queue: &Queue<()>, marks: &Marks) -> u64 {
    let rest = std::iter::from_fn(|| queue.get_lease_bytes_timeout(2 * BACKSTOP).ok());
    let rest = rest.map(|lease| {
        let (producer, number) = read(&lease).expect("an item as it was put");
        Marks::at(marks.dealt_with, producer, number).fetch_add(1, SeqCst);
        lease.ack().expect("a living holder keeps what it has");
    });
    rest.count() as u64
}

#[derive(Default)]
struct Tally {
    dealt_with: u64,
    lost: u64,
    unmarked: u64,
    twice: u64,
}

fn tally(account: &Account, marks: &Marks, producers: usize) -> Tally {
    let mut tally = Tally::default();
    for producer in 0..producers {
        for number in 0..account.next[producer].load(Relaxed) {
            let put = Marks::at(marks.put, producer, number).load(Relaxed) == 1;
            let dealt_with = Marks::at(marks.dealt_with, producer, number).load(Relaxed);
            tally.dealt_with += u64::from(dealt_with > 0);
            tally.lost += u64::from(put && dealt_with == 0);
            tally.twice += u64::from(dealt_with > 1);
            tally.unmarked += u64::from(Marks::at(marks.new, producer, number).load(Relaxed) > 1);
        }
    }
    tally
}

fn produce(queue: &Queue<()>, account: &Account, marks: &Marks, producer: usize) {
    let length = |mixed: usize| if mixed % 61 == 0 { 300 + mixed % 2500 } else { 16 + (mixed >> 8) % 100 };
    let mut message = Vec::new();
    loop {
        let number = account.next[producer].load(Relaxed);
        assert!((number as usize) < MOST, "more messages than marks");
        account.next[producer].store(number + 1, Relaxed);
        write(&mut message, producer as u32, number, length);
        queue.put_bytes(&message).expect("nothing but a death happens to this queue");
        Marks::at(marks.put, producer, number).store(1, Relaxed);
    }
}

fn consume(queue: &Queue<()>, account: &Account, marks: &Marks) {
    loop {
        let lease = queue.get_lease_bytes().expect("nothing but a death happens to this queue");
        account.gets.fetch_add(1, Relaxed);
        let Some((producer, number)) = read(&lease).filter(|&(producer, _)| producer < PRODUCERS) else {
            account.torn.fetch_add(1, Relaxed);
            continue;
        };
        if lease.redelivered() == 0 {
            Marks::at(marks.new, producer, number).fetch_add(1, SeqCst);
        } else {
            account.again.fetch_add(1, Relaxed);
        }
        if lease.redelivered() == 0 && number % GIVEN_BACK == 0 {
            lease.nack();
            continue;
        }
        Marks::at(marks.dealt_with, producer, number).fetch_add(1, SeqCst);
        lease.ack().expect("a living holder keeps what it has");
    }
}

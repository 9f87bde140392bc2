//! What a queue promises when processes die or stop.

mod common;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{at, memory};
use ipc_queue::{PutFault, Queue};
use ipc_sync::Me;
use support::chaos::Plan;
use support::{Rng, Status, asleep, fork, seed, shared, shared_slice, until};

/// The news of a death, with room for a busy machine.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn idle_reader_that_is_killed_wedges_nobody() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    let mut readers = [(); 3].map(|()| fork(|| drop(queue.get())));
    readers.iter().for_each(|reader| asleep(reader.pid()));
    readers.iter_mut().for_each(|reader| _ = reader.kill9());
    let mut other = fork(|| assert_eq!(queue.get().unwrap(), 5));
    asleep(other.pid());
    queue.put(5).unwrap();
    assert_eq!(other.wait(), Status::Code(0));
    queue.put(6).unwrap();
    assert_eq!(queue.try_get().unwrap(), 6);
}

#[test]
fn places_of_a_dead_producer_come_back() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().bound(20).ring_bytes(1024).create().unwrap();
    let mut producer = fork(|| {
        (0..20).for_each(|i| queue.put(vec![i; 200]).unwrap());
        thread::park();
    });
    until(|| queue.is_full());
    assert!(matches!(queue.try_put(vec![]).unwrap_err().fault, PutFault::Full));
    let mut putter = fork(|| {
        queue.put(vec![99; 10]).unwrap();
        queue.close();
        queue.join_thread().unwrap();
    });
    asleep(putter.pid());
    producer.kill9();
    let start = Instant::now();
    until(|| queue.len() < 20);
    // What was in the ring is still there, in order; the putter's item comes behind.
    let items: Vec<_> =
        std::iter::from_fn(|| Some(queue.get().unwrap())).take_while(|item| item[0] != 99).collect();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!((3..20).contains(&items.len()), "{} items in a ring of 1024", items.len());
    items.iter().enumerate().for_each(|(i, item)| assert_eq!(item, &vec![i as u8; 200]));
    assert_eq!(putter.wait(), Status::Code(0));
    assert_eq!(queue.len(), 0);
}

#[test]
fn places_come_back_again_and_again() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::options().bound(8).ring_bytes(1024).create().unwrap();
    for _ in 0..100 {
        let mut producer = fork(|| {
            (0..8).for_each(|i| queue.put(vec![i; 200]).unwrap());
            thread::park();
        });
        until(|| queue.is_full());
        producer.kill9();
        until(|| queue.try_get().is_err());
        assert_eq!(queue.len(), 0);
    }
    (0..8).for_each(|i| queue.try_put(vec![i; 200]).unwrap());
    assert!(queue.is_full());
    (0..8).for_each(|i| assert_eq!(queue.try_get().unwrap(), vec![i; 200]));
}

/// There are fewer places in the ledger than processes that die here.
#[test]
fn dead_producers_leave_their_places_in_the_ledger() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(1024).create().unwrap();
    for _ in 0..100 {
        let mut producer = fork(|| {
            (0..8).for_each(|i| queue.put(vec![i; 200]).unwrap());
            thread::park();
        });
        until(|| queue.len() == 8);
        producer.kill9();
        until(|| queue.try_get().is_err());
    }
}

/// Who has the lock cannot be stopped there at will; a process that writes itself into the word is in the same place.
#[test]
fn producer_stopped_with_the_lock_stops_producers_only() {
    let _test = support::test(30);
    let queue = Queue::<u32>::new().unwrap();
    (0..3).for_each(|i| queue.put(i).unwrap());
    let lock = memory(&queue);
    let holds = shared::<AtomicBool>();
    let mut holder = fork(|| {
        let word: &AtomicU32 = lock.cells(at::LOCK).unwrap();
        word.store(Me::get().unwrap().token(), SeqCst);
        holds.store(true, SeqCst);
        thread::park();
    });
    until(|| holds.load(SeqCst));
    holder.signal(libc::SIGSTOP);
    assert_eq!(queue.len(), 3);
    (0..3).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    let start = Instant::now();
    assert!(matches!(queue.put_timeout(9, Duration::from_millis(50)).unwrap_err().fault, PutFault::TimedOut));
    assert!(matches!(queue.try_put(9).unwrap_err().fault, PutFault::Full));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    holder.kill9();
    queue.put(9).unwrap();
    assert_eq!(queue.try_get().unwrap(), 9);
}

const PRODUCERS: usize = 4;
const ITEMS: usize = 1 << 26;

/// What happened to each item of each producer.
struct Account {
    next: &'static [AtomicU64],
    put: &'static [AtomicBool],
    got: &'static [AtomicU64],
    torn: &'static AtomicU64,
    disordered: &'static AtomicU64,
    gets: &'static AtomicU64,
}

impl Account {
    fn new() -> Account {
        Account {
            next: shared_slice(PRODUCERS),
            put: shared_slice(PRODUCERS * ITEMS),
            got: shared_slice(PRODUCERS * ITEMS / 64),
            torn: shared(),
            disordered: shared(),
            gets: shared(),
        }
    }

    /// Marks the item; true if it was there before.
    fn mark(&self, producer: usize, item: usize) -> bool {
        let bit = producer * ITEMS + item;
        let mask = 1 << (bit % 64);
        self.got[bit / 64].fetch_or(mask, Relaxed) & mask != 0
    }

    fn has(&self, producer: usize, item: usize) -> bool {
        let bit = producer * ITEMS + item;
        self.got[bit / 64].load(Relaxed) & 1 << (bit % 64) != 0
    }

    /// Items that were put and not got.
    fn lost(&self) -> u64 {
        let lost = |producer: usize| {
            let items = 0..self.next[producer].load(Relaxed) as usize;
            items.filter(|&i| self.put[producer * ITEMS + i].load(Relaxed) && !self.has(producer, i)).count()
        };
        (0..PRODUCERS).map(lost).sum::<usize>() as u64
    }
}

/// Producer, number, a pattern that follows from both, and their sum.
fn message(producer: usize, item: usize) -> Vec<u8> {
    let mut rng = Rng::new((producer * ITEMS + item) as u64);
    let length = if rng.below(61) == 0 { 300 + rng.below(2500) } else { 24 + rng.below(100) };
    let mut bytes = vec![rng.next() as u8; length as usize];
    bytes[..8].copy_from_slice(&(producer as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&(item as u64).to_le_bytes());
    bytes
}

/// Whose item it is; `None` = it is torn.
fn read(bytes: &[u8]) -> Option<(usize, usize)> {
    let word = |i: usize| Some(u64::from_le_bytes(bytes.get(i..i + 8)?.try_into().ok()?) as usize);
    let (producer, item) = (word(0)?, word(8)?);
    (producer < PRODUCERS && item < ITEMS && message(producer, item) == bytes).then_some((producer, item))
}

fn produce(queue: &Queue<()>, account: &Account, producer: usize) {
    loop {
        let item = account.next[producer].fetch_add(1, Relaxed) as usize;
        queue.put_bytes(&message(producer, item)).unwrap();
        account.put[producer * ITEMS + item].store(true, Relaxed);
    }
}

fn consume(queue: &Queue<()>, account: &Account) {
    let (mut bytes, mut last) = (Vec::new(), [-1; PRODUCERS]);
    loop {
        queue.get_bytes_into(&mut bytes).unwrap();
        match read(&bytes) {
            Some((producer, item)) => {
                let twice = account.mark(producer, item);
                let disordered = twice || item as i64 <= last[producer];
                account.disordered.fetch_add(disordered.into(), Relaxed);
                last[producer] = item as i64;
            }
            None => _ = account.torn.fetch_add(1, Relaxed),
        }
        account.gets.fetch_add(1, Relaxed);
    }
}

/// `KILLS=3000` for a longer run.
fn kills() -> u64 {
    std::env::var("KILLS").map_or(300, |kills| kills.parse().expect("a number of kills"))
}

/// Bounded, so that the ring takes everything and what was put is lost by nobody but consumers.
fn kill_at_random(producers: usize, consumers: usize, bound: usize) {
    let queue = Queue::<()>::options().bound(bound).ring_bytes(1 << 16).create().unwrap();
    let account = Account::new();
    let rescues = ipc_sync::Registry::get().unwrap().rescues();
    let work = |worker| match worker < producers {
        true => produce(&queue, &account, worker),
        false => consume(&queue, &account),
    };
    let plan = Plan { workers: producers + consumers, kills: kills(), seed: seed() };
    let mut report = plan.run(work, || account.gets.load(Relaxed));
    report.workers[..producers].iter_mut().for_each(|worker| _ = worker.kill9());
    until(|| queue.is_empty());
    until(|| report.workers[producers..].iter().all(|worker| support::procfs::waits(worker.pid())));
    let consumer_kills: u64 = report.kills[producers..].iter().sum();
    let (lost, gets) = (account.lost(), account.gets.load(Relaxed));
    support::say(&format!("{producers} to {consumers}, bound {bound}: {report}; {gets} items, {lost} lost"));
    assert!(!report.hang);
    assert_eq!(account.torn.load(Relaxed), 0, "torn");
    assert_eq!(account.disordered.load(Relaxed), 0, "twice or out of order");
    assert!(lost <= consumer_kills, "{lost} lost, {consumer_kills} consumers killed");
    assert_eq!(ipc_sync::Registry::get().unwrap().rescues(), rescues, "rescues");
}

#[test]
fn random_deaths_of_two_producers_and_two_consumers_do_no_harm() {
    let _test = support::test(60);
    kill_at_random(2, 2, 20);
}

#[test]
fn random_deaths_at_a_bound_of_one_do_no_harm() {
    let _test = support::test(60);
    kill_at_random(2, 2, 1);
}

#[test]
fn random_deaths_of_many_producers_do_no_harm() {
    let _test = support::test(60);
    kill_at_random(4, 1, 20);
}

#[test]
fn random_deaths_of_many_consumers_do_no_harm() {
    let _test = support::test(60);
    kill_at_random(1, 4, 20);
}

/// The backlog of a dead process is lost, and nothing else is.
#[test]
fn death_of_a_feeder_harms_nobody() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(4096).create().unwrap();
    for round in 0..50u8 {
        let started = shared::<AtomicBool>();
        let mut producer = fork(|| {
            for _ in 0.. {
                queue.put(vec![round; 500]).unwrap();
                started.store(true, Relaxed);
                while queue.len() > 100 {
                    thread::yield_now();
                }
            }
        });
        until(|| started.load(Relaxed));
        (0..20).for_each(|_| assert_eq!(queue.get().unwrap(), vec![round; 500]));
        producer.kill9();
        queue.put(vec![255]).unwrap();
        let rest: Vec<_> =
            std::iter::from_fn(|| Some(queue.get().unwrap())).take_while(|item| item[0] != 255).collect();
        assert!(rest.iter().all(|item| *item == vec![round; 500]));
    }
}

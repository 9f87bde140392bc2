//! A death after every single instruction of put and get, in six scripts; and nine deliberate faults, which the killers
//! must notice.
//!
//! The scripts run on `Queue` as it is: with plain items, with a handle in each, with large ones. For the faults,
//! `channel.rs` and `beside.rs` are compiled here a second time, with a `mutant()` that answers what the test asks for.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use ipc_pipe::codec::Blob;
use ipc_queue::Queue;
use ipc_shm::Descriptor;

#[path = "../src/beside.rs"]
#[allow(dead_code)]
mod beside;
#[path = "../src/channel.rs"]
#[allow(dead_code)]
mod channel;
#[path = "../src/exclusive.rs"]
#[allow(dead_code)]
mod exclusive;
#[path = "../src/state.rs"]
#[allow(dead_code, unreachable_pub)]
mod state;

mod primitive {
    //! What they rest on, as it is, but for the fault.
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    pub(crate) use ipc_pipe::socket::{Bundle, Socket, nonce};
    pub(crate) use ipc_pipe::{Bytes, Flags, HEADER, Header, MAX_PAYLOAD, span};
    pub(crate) use ipc_shm::View;
    pub(crate) use ipc_sync::{
        Acquired, Bell, Deadline, Me, RawLock, RawLockError, RoomBell, Woken, full_fence as complete_barrier,
        processor,
    };

    pub(crate) const ENTRIES: usize = 64;

    pub(crate) static MUTANT: AtomicU8 = AtomicU8::new(0);

    pub(crate) fn mutant() -> u8 {
        MUTANT.load(Relaxed)
    }
}

use support::chaos::Plan;
use support::step::{Fate, Report, Script, Stage};
use support::{Child, asleep, fork, shared, until};

/// Small, so that the scripts go round it often.
const RING: usize = 512;
const SECONDS: u64 = 240;
/// A few thousand single steps, on a busy machine.
const STEPPED: u32 = 20;

/// What the scripts need of a queue.
trait Fifo {
    fn put(&self, item: &[u8]);
    fn get(&self) -> Vec<u8>;
    fn len(&self) -> usize;
}

impl Fifo for Queue<()> {
    fn put(&self, item: &[u8]) {
        self.put_bytes(item).unwrap();
    }

    fn get(&self) -> Vec<u8> {
        self.get_bytes().unwrap()
    }

    fn len(&self) -> usize {
        Queue::len(self)
    }
}

fn create<T>(bound: usize) -> Queue<T> {
    let options = Queue::options().ring_bytes(RING);
    let options = if bound == 0 { options } else { options.bound(bound) };
    options.create().unwrap()
}

fn queue(bound: usize) -> Box<dyn Fifo> {
    Box::new(create::<()>(bound))
}

/// A queue whose items have a descriptor each: the mark of their producer.
struct Marked(Queue<(Blob, Descriptor)>);

static MARKS: LazyLock<[Descriptor; 3]> =
    LazyLock::new(|| [(); 3].map(|()| ipc_shm::sealed_file(c"mark", 1).unwrap().into()));

/// Who put the item.
fn producer(item: &[u8]) -> usize {
    u32::from_ne_bytes(item[0..4].try_into().unwrap()) as usize
}

/// The item, if that is the mark of its producer; else one that nobody put.
fn checked(item: Vec<u8>, mark: Option<impl AsFd>) -> Vec<u8> {
    let number = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).unwrap().st_ino;
    let is_right = |mark: BorrowedFd<'_>| number(mark) == number(MARKS[producer(&item)].as_fd());
    if mark.is_some_and(|mark| is_right(mark.as_fd())) { item } else { Vec::new() }
}

impl Fifo for Marked {
    fn put(&self, item: &[u8]) {
        let mark = MARKS[producer(item)].clone();
        self.0.put((Blob(item.into()), mark)).unwrap();
    }

    fn get(&self) -> Vec<u8> {
        let (item, mark) = self.0.get().unwrap();
        checked(item.0, Some(mark))
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

fn marked(bound: usize) -> Box<dyn Fifo> {
    Box::new(Marked(create(bound)))
}

/// A queue whose items do not fit the ring.
struct Large(Queue<()>);

/// More than a quarter of the ring; single steps go through a longer copy byte by byte.
const PADDING: usize = 130;

impl Fifo for Large {
    fn put(&self, item: &[u8]) {
        self.0.put_bytes(&[item, &[7; PADDING]].concat()).unwrap();
    }

    fn get(&self) -> Vec<u8> {
        let mut item = self.0.get_bytes().unwrap();
        let padding = item.split_off(item.len() - PADDING);
        if padding == [7; PADDING] { item } else { Vec::new() }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

fn large(bound: usize) -> Box<dyn Fifo> {
    Box::new(Large(create(bound)))
}

/// The ring with a fault, and waits that only sleep. What the fault damaged so that the ring notices it comes out as
/// an item that nobody put.
struct Faulty(channel::Channel);

// SAFETY: repr(C), atomic integers and transparent or repr(C) structures of them; aligned to 128.
unsafe impl ipc_shm::Cells for channel::Words {}
// SAFETY: repr(C), atomic integers only.
unsafe impl ipc_shm::Cells for channel::Entry {}

fn faulty(bound: usize) -> Box<dyn Fifo> {
    Box::new(Faulty(ring(bound)))
}

fn ring(bound: usize) -> channel::Channel {
    let mapping = ipc_shm::Mapping::anonymous(c"faulty", 4096 + RING).unwrap();
    let ring = ipc_pipe::Bytes::new(&mapping, 4096, RING).unwrap();
    let (words, ledger) = (mapping.view(0).unwrap(), mapping.view(256).unwrap());
    channel::Channel::new(words, ledger, ring, bound as u32)
}

fn backstop() -> ipc_sync::Deadline {
    ipc_sync::Deadline::after(ipc_sync::BACKSTOP)
}

impl Fifo for Faulty {
    fn put(&self, item: &[u8]) {
        let me = ipc_sync::Me::get().unwrap();
        loop {
            let position = match self.0.put(&me, item, ipc_sync::Deadline::NEVER) {
                Ok(channel::Put::Done) | Err(_) => return,
                Ok(channel::Put::Full(head)) => head + 1,
                Ok(channel::Put::NoRoom(room)) => room.enough,
            };
            self.0.sleep_for_room(position, || false, backstop());
        }
    }

    fn get(&self) -> Vec<u8> {
        let me = ipc_sync::Me::get().unwrap();
        let (mut item, mut slept) = (Vec::new(), false);
        while let Ok(channel::Taken::Empty) = self.0.take(&me, &mut item) {
            self.0.sleep_for_item(|| false, backstop());
            slept = true;
        }
        if slept {
            self.0.pass_on(&me);
        }
        item
    }

    fn len(&self) -> usize {
        self.0.len(&ipc_sync::Me::get().unwrap()).unwrap() as usize
    }
}

/// The same with a mark beside each item.
struct FaultyMarked {
    channel: channel::Channel,
    side: beside::Side,
}

fn faulty_marked(bound: usize) -> Box<dyn Fifo> {
    Box::new(FaultyMarked { channel: ring(bound), side: beside::Side::new().unwrap() })
}

impl Fifo for FaultyMarked {
    fn put(&self, item: &[u8]) {
        let me = ipc_sync::Me::get().unwrap();
        let marks = [MARKS[producer(item)].as_fd()];
        let parcel = beside::Parcel { content: beside::Content::Bytes(item), descriptors: &marks };
        let append = |at| self.channel.append_beside(&me, at, &self.side, &parcel);
        while let Ok(channel::Put::NoRoom(room)) = self
            .channel
            .locked(&me, ipc_sync::Deadline::NEVER, |at| self.channel.put_new(&me, at, || append(at)))
        {
            self.channel.sleep_for_room(room.enough, || false, backstop());
        }
    }

    fn get(&self) -> Vec<u8> {
        let me = ipc_sync::Me::get().unwrap();
        let mut item = Vec::new();
        loop {
            match self.channel.take_beside(&me, &self.side, &mut item, ipc_sync::Deadline::NEVER) {
                Ok(Some(found)) => {
                    let marks = found.bundle.map_or_else(Vec::new, |bundle| bundle.descriptors);
                    return checked(item, marks.first());
                }
                Ok(None) => _ = self.channel.sleep_for_item(|| false, backstop()),
                Err(_) => return Vec::new(),
            }
        }
    }

    fn len(&self) -> usize {
        self.channel.len(&ipc_sync::Me::get().unwrap()).unwrap() as usize
    }
}

/// Who put an item and its number, a sum, and a pattern: 16 to 63 bytes.
fn item(producer: u32, number: u32) -> Vec<u8> {
    let length = 16 + (producer as usize * 8 + number as usize) % 48;
    let mut item = vec![(producer * 31 + number) as u8; length];
    item[0..4].copy_from_slice(&producer.to_ne_bytes());
    item[4..8].copy_from_slice(&number.to_ne_bytes());
    let sum = sum(&item);
    item[8..16].copy_from_slice(&sum.to_ne_bytes());
    item
}

/// Who put it and its number; panics if it is not as it was put.
fn read(item: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_ne_bytes(item[at..at + 4].try_into().unwrap());
    assert!(item.len() >= 16 && sum(item).to_ne_bytes() == item[8..16], "torn: {item:?}");
    (word(0), word(4))
}

fn sum(item: &[u8]) -> u64 {
    let others = item[..8].iter().chain(&item[16..]);
    others.fold(item.len() as u64, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const OLD: u32 = 0;
const SURVIVOR: u32 = 1;
const VICTIM: u32 = 2;

/// A queue, and who sleeps at it.
struct Scene {
    queue: Box<dyn Fifo>,
    sleeper: RefCell<Option<Child>>,
    /// 1 + the producer of what the sleeper got, or 1 when its put is done.
    woken: &'static AtomicU32,
}

type Maker = fn(usize) -> Box<dyn Fifo>;

fn scene(make: Maker, bound: usize, old: u32, woken: &'static AtomicU32) -> Scene {
    woken.store(0, SeqCst);
    let queue = make(bound);
    (0..old).for_each(|number| queue.put(&item(OLD, number)));
    Scene { queue, sleeper: RefCell::new(None), woken }
}

/// Dies in a put.
fn putter(scene: &Scene, stage: &Stage) {
    let item = item(VICTIM, 9);
    ipc_sync::Me::get().unwrap();
    stage.begin();
    scene.queue.put(&item);
    stage.end();
}

/// Dies in a get.
fn getter(scene: &Scene, stage: &Stage) {
    ipc_sync::Me::get().unwrap();
    stage.begin();
    let _item = scene.queue.get();
    stage.end();
}

/// Everything up to and including the survivor's item `last`: how many came from each producer.
fn drain(queue: &dyn Fifo, last: u32) -> [u32; 3] {
    let mut from = [0; 3];
    loop {
        let (producer, number) = read(&queue.get());
        if (producer, number) == (SURVIVOR, last) {
            return from;
        }
        from[producer as usize] += 1;
    }
}

/// Three times round the ring, in order.
fn go_round(queue: &dyn Fifo) {
    for round in 0..40 {
        (0..3).for_each(|i| queue.put(&item(SURVIVOR, 100 + round * 3 + i)));
        (0..3).for_each(|i| assert_eq!(read(&queue.get()), (SURVIVOR, 100 + round * 3 + i)));
    }
}

fn put(make: Maker) -> Report {
    let woken = shared();
    let survivor = |scene: &Scene, fate: Fate| {
        scene.queue.put(&item(SURVIVOR, 7));
        let from = drain(&*scene.queue, 7);
        assert_eq!(from[OLD as usize], 1, "a dead put harms no other item");
        assert!(from[VICTIM as usize] <= 1 && (!fate.finished || from[VICTIM as usize] == 1), "{from:?}");
        go_round(&*scene.queue);
    };
    Script::new("put", || scene(make, 0, 1, woken), putter, survivor).seconds(STEPPED).run()
}

fn get(make: Maker) -> Report {
    let woken = shared();
    let survivor = |scene: &Scene, fate: Fate| {
        scene.queue.put(&item(SURVIVOR, 7));
        let from = drain(&*scene.queue, 7);
        assert!(from[OLD as usize] <= 1 && (!fate.finished || from[OLD as usize] == 0), "{from:?}");
        go_round(&*scene.queue);
    };
    Script::new("get", || scene(make, 0, 1, woken), getter, survivor).seconds(STEPPED).run()
}

fn put_to_sleeper(make: Maker) -> Report {
    let woken = shared();
    let survivor = |scene: &Scene, fate: Fate| {
        scene.queue.put(&item(SURVIVOR, 8)); // in case the victim did not get so far
        until(|| scene.woken.load(SeqCst) != 0);
        let sleeper_got = scene.woken.load(SeqCst) - 1;
        scene.queue.put(&item(SURVIVOR, 7));
        let mut from = drain(&*scene.queue, 7);
        from[sleeper_got as usize] += 1;
        assert_eq!(from[SURVIVOR as usize], 1);
        assert!(from[VICTIM as usize] <= 1 && (!fate.finished || from[VICTIM as usize] == 1), "{from:?}");
        go_round(&*scene.queue);
    };
    let consumer_sleeps = |scene: &Scene| {
        sleep(scene, || {
            let (producer, _) = read(&scene.queue.get());
            scene.woken.store(1 + producer, SeqCst);
        })
    };
    Script::new("put to a sleeper", || scene(make, 0, 0, woken), putter, survivor)
        .meanwhile(consumer_sleeps)
        .run()
}

fn sleep(scene: &Scene, work: impl FnOnce()) {
    let child = fork(work);
    asleep(child.pid());
    *scene.sleeper.borrow_mut() = Some(child);
}

fn get_from_full(make: Maker) -> Report {
    const BOUND: usize = 4;
    let woken = shared();
    let survivor = |scene: &Scene, fate: Fate| {
        let mut numbers = Vec::new();
        loop {
            match read(&scene.queue.get()) {
                (OLD, number) => numbers.push(number),
                (SURVIVOR, 50) => break,
                other => panic!("nobody put {other:?}"),
            }
        }
        assert!(numbers.is_sorted() && numbers.len() >= BOUND - 1, "{numbers:?}");
        assert!(!fate.finished || numbers[0] == 1, "{numbers:?}");
        until(|| scene.woken.load(SeqCst) == 1);
        go_round(&*scene.queue);
    };
    let producer_sleeps = |scene: &Scene| {
        sleep(scene, || {
            scene.queue.put(&item(SURVIVOR, 50));
            scene.woken.store(1, SeqCst);
        })
    };
    Script::new("get from a full queue", || scene(make, BOUND, BOUND as u32, woken), getter, survivor)
        .meanwhile(producer_sleeps)
        .seconds(STEPPED)
        .run()
}

/// Consumers take all that is published before the next producer comes.
fn put_taken(make: Maker) -> Report {
    let woken = shared();
    let survivor = |scene: &Scene, fate: Fate| {
        let published: Vec<_> = (0..scene.queue.len()).map(|_| read(&scene.queue.get()).0).collect();
        assert_eq!(published[0], OLD);
        assert!(published.len() <= 2 && (!fate.finished || published.len() == 2), "{published:?}");
        go_round(&*scene.queue);
    };
    Script::new("put, then taken", || scene(make, 0, 1, woken), putter, survivor).run()
}

/// Exactly three items fit, whatever the dead producer had counted.
fn put_bound(make: Maker) -> Report {
    let woken = shared();
    let survivor = |scene: &Scene, _| {
        let mut filler = fork(|| {
            loop {
                scene.queue.put(&item(SURVIVOR, 5));
            }
        });
        asleep(filler.pid());
        assert_eq!(scene.queue.len(), 3);
        filler.kill9();
        (0..3).for_each(|_| _ = read(&scene.queue.get()));
        go_round(&*scene.queue);
    };
    Script::new("put, then filled to the bound", || scene(make, 3, 1, woken), putter, survivor).run()
}

/// Opens the registry and the leak oracle's eyes, in this order: the registry stays.
fn begin() -> support::Test {
    ipc_sync::Registry::get().unwrap();
    LazyLock::force(&MARKS);
    support::test(SECONDS)
}

#[test]
fn put_dies_at_any_instruction() {
    let _test = begin();
    put(queue).assert_clean();
}

#[test]
fn get_dies_at_any_instruction() {
    let _test = begin();
    get(queue).assert_clean();
}

#[test]
fn put_to_a_sleeping_consumer_dies_at_any_instruction() {
    let _test = begin();
    put_to_sleeper(queue).assert_clean();
}

#[test]
fn get_from_a_full_queue_dies_at_any_instruction() {
    let _test = begin();
    get_from_full(queue).assert_clean();
}

#[test]
fn a_dead_put_that_is_taken_first_dies_at_any_instruction() {
    let _test = begin();
    put_taken(queue).assert_clean();
}

#[test]
fn a_dead_put_never_moves_the_bound() {
    let _test = begin();
    put_bound(queue).assert_clean();
}

#[test]
fn put_with_a_handle_dies_at_any_instruction() {
    let _test = begin();
    put(marked).assert_clean();
}

#[test]
fn get_with_a_handle_dies_at_any_instruction() {
    let _test = begin();
    get(marked).assert_clean();
}

#[test]
fn get_with_a_handle_from_a_full_queue_dies_at_any_instruction() {
    let _test = begin();
    get_from_full(marked).assert_clean();
}

#[test]
fn put_of_a_large_item_dies_at_any_instruction() {
    let _test = begin();
    put(large).assert_clean();
}

#[test]
fn get_of_a_large_item_dies_at_any_instruction() {
    let _test = begin();
    get(large).assert_clean();
}

/// Runs `test` with a fault, in a process of its own that uses no other queue.
fn with_mutant<R>(mutant: u8, test: impl FnOnce() -> R) -> R {
    primitive::MUTANT.store(mutant, SeqCst);
    let result = test();
    primitive::MUTANT.store(0, SeqCst);
    result
}

/// Without a fault the second compilation is as good as the first: what is caught below is the fault.
#[test]
fn without_a_fault_nothing_is_caught() {
    let _test = begin();
    put_bound(faulty).assert_clean();
    put_to_sleeper(faulty).assert_clean();
    put(faulty_marked).assert_clean();
    get(faulty_marked).assert_clean();
    assert_eq!(chaos_finds(0), None);
}

#[test]
fn mutant_1_header_behind_not_zeroed_is_caught() {
    let _test = begin();
    assert!(with_mutant(1, || chaos_finds(1)).is_some());
}

#[test]
fn mutant_2_nothing_recovered_is_caught() {
    let _test = begin();
    with_mutant(2, || put_taken(faulty)).assert_caught();
}

#[test]
fn mutant_3_tail_before_number_is_caught() {
    let _test = begin();
    with_mutant(3, || put_bound(faulty)).assert_caught();
}

#[test]
fn mutant_4_bell_not_named_is_caught() {
    let _test = begin();
    // The sleeper is late by what is left of its backstop, which on a busy machine may be little.
    let caught = (0..5).any(|_| !with_mutant(4, || put_to_sleeper(faulty)).is_clean());
    assert!(caught, "nobody saw the fault");
}

#[test]
fn mutant_5_header_before_payload_is_caught() {
    let _test = begin();
    with_mutant(5, || put(faulty)).assert_caught();
}

#[test]
fn mutant_6_head_stored_without_comparing_is_caught() {
    let _test = begin();
    assert!(with_mutant(6, || chaos_finds(6)).is_some());
}

#[test]
fn mutant_7_packet_behind_its_frame_is_caught() {
    let _test = begin();
    with_mutant(7, || put(faulty_marked)).assert_caught();
}

#[test]
fn mutant_8_packet_dropped_before_the_claim_is_caught() {
    let _test = begin();
    with_mutant(8, || get(faulty_marked)).assert_caught();
}

#[test]
fn mutant_9_packet_that_does_not_name_its_sender_is_caught() {
    let _test = begin();
    with_mutant(9, || put(faulty_marked)).assert_caught();
}

#[derive(Default)]
struct Account {
    next: [AtomicU32; 2],
    gets: AtomicU64,
    torn: AtomicU64,
    out_of_order: AtomicU64,
}

/// Two producers, two consumers and random deaths, until something is wrong.
fn chaos_finds(mutant: u8) -> Option<String> {
    let fifo = faulty(0);
    let account = shared::<Account>();
    let work = |i: usize| {
        let mut last = [None; 2];
        loop {
            if i < 2 {
                let number = account.next[i].fetch_add(1, SeqCst);
                fifo.put(&item(i as u32, number));
                continue;
            }
            let item = fifo.get();
            let whole = item.len() >= 16 && sum(&item).to_ne_bytes() == item[8..16];
            account.torn.fetch_add((!whole).into(), SeqCst);
            if whole {
                let (producer, number) = read(&item);
                let last = &mut last[producer as usize % 2];
                account.out_of_order.fetch_add(last.is_some_and(|last| number <= last).into(), SeqCst);
                *last = Some(number);
            }
            account.gets.fetch_add(1, SeqCst);
        }
    };
    let plan = Plan { workers: 4, kills: if mutant == 0 { 200 } else { 1000 }, seed: support::seed() };
    let wrong = || account.torn.load(SeqCst) + account.out_of_order.load(SeqCst);
    let run = || plan.run(work, || if wrong() > 0 { u64::MAX } else { account.gets.load(SeqCst) });
    let report = run();
    (report.hang || wrong() > 0).then(|| format!("hang {} wrong {}", report.hang, wrong()))
}

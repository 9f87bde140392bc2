//! What leases promise: no death loses an item, none is handed out twice without a mark, and nobody waits for the
//! dead.

mod common;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{at, memory, pack, unpack};
use ipc_queue::{CreateError, GetError, JoinableQueue, Lease, PutFault, Queue};
use ipc_sync::Registry;
use nix::unistd::gettid;
use support::chaos::Plan;
use support::step::{Script, Stage};
use support::{Child, Rng, Status, asleep, fork, seed, shared, shared_slice, until};

const MOMENT: Duration = Duration::from_millis(20);

/// The news of a death may take so long.
const NEWS: Duration = Duration::from_millis(250);

/// Items that can be lent at one time.
const PLACES: usize = 64;

fn leased<T>() -> Queue<T> {
    Queue::options().leased().create().unwrap()
}

/// The value, and how often it was handed out before.
fn seen<T: Copy>(lease: &Lease<T>) -> (T, u32) {
    (**lease, lease.redelivered())
}

#[test]
fn item_comes_back_until_it_is_acknowledged() {
    let _test = support::test(20);
    let queue = leased();
    (0..3).for_each(|i| queue.put(i).unwrap());
    assert_eq!(seen(&queue.get_lease().unwrap()), (0, 0)); // dropped
    queue.get_lease().unwrap().nack();
    let first = queue.get_lease().unwrap();
    assert_eq!(seen(&first), (0, 2));
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.get_lease().unwrap().ack().unwrap(), 1);
    drop(first);
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.get_lease().unwrap().ack().unwrap(), 0);
    assert_eq!(queue.get_lease().unwrap().ack().unwrap(), 2);
    assert!(queue.is_empty());
    assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)));
}

#[test]
fn items_that_came_back_go_first_and_in_order() {
    let _test = support::test(20);
    let queue = leased();
    (0..10).for_each(|i| queue.put(i).unwrap());
    let mut leases: Vec<_> = (0..5).map(|_| queue.get_lease().unwrap()).collect();
    leases.swap(0, 3);
    leases.swap(1, 4);
    leases.into_iter().for_each(Lease::nack);
    assert_eq!(queue.len(), 10);
    let got: Vec<_> = (0..10).map(|_| queue.get().unwrap()).collect();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

#[test]
fn every_call_has_its_own_patience() {
    let _test = support::test(20);
    let queue = leased::<u32>();
    let start = Instant::now();
    assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)));
    assert!(matches!(queue.try_get_lease_bytes(), Err(GetError::Empty)));
    assert!(matches!(queue.get_lease_deadline(start), Err(GetError::TimedOut)));
    assert!(matches!(queue.get_lease_timeout(MOMENT), Err(GetError::TimedOut)));
    assert!(matches!(queue.get_lease_bytes_timeout(MOMENT), Err(GetError::TimedOut)));
    assert!(matches!(queue.get_timeout(MOMENT), Err(GetError::TimedOut)));
    assert!(start.elapsed() >= 3 * MOMENT && start.elapsed() < 50 * MOMENT);
    queue.put_bytes(b"raw").unwrap();
    let lease = queue.get_lease_bytes().unwrap();
    assert_eq!(*lease, b"raw");
    queue.close();
    assert!(matches!(queue.get_lease(), Err(GetError::Closed)));
    lease.ack().unwrap();
}

#[test]
fn close_ends_the_calls_that_sleep_in_this_process() {
    Registry::get().unwrap();
    let _test = support::test(20);
    let (empty, lent) = (leased::<u32>(), leased::<u32>());
    (0..=PLACES as u32).for_each(|i| lent.put(i).unwrap());
    let _held: Vec<_> = (0..PLACES).map(|_| lent.get_lease().unwrap()).collect();
    thread::scope(|scope| {
        let sleepers = [&empty, &lent].map(|queue| {
            let (tell, told) = channel();
            let sleeper = scope.spawn(move || {
                tell.send(gettid().as_raw()).unwrap();
                assert!(matches!(queue.get_lease(), Err(GetError::Closed)));
            });
            asleep(told.recv().unwrap());
            sleeper
        });
        let start = Instant::now();
        empty.close();
        lent.close();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(start.elapsed() < Duration::from_secs(2));
    });
    assert_eq!(lent.len(), 1);
}

#[test]
fn sleeper_gets_what_is_put_and_what_is_given_back() {
    let _test = support::test(20);
    let queue = leased::<u32>();
    let mut child = fork(|| assert_eq!(queue.get_lease().unwrap().ack().unwrap(), 1));
    asleep(child.pid());
    queue.put(1).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    queue.put(2).unwrap();
    let lease = queue.get_lease().unwrap();
    let mut child = fork(|| assert_eq!(seen(&queue.get_lease().unwrap()), (2, 1)));
    asleep(child.pid());
    lease.nack();
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn plain_gets_take_for_good() {
    let _test = support::test(20);
    let queue = leased();
    (0..20).for_each(|i| queue.put(i).unwrap());
    assert_eq!(queue.get().unwrap(), 0);
    drop(queue.get_lease().unwrap());
    assert_eq!(queue.get_many(4).unwrap(), [1, 2, 3, 4]);
    assert_eq!(queue.try_iter().map(Result::unwrap).count(), 15);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(queue.try_get_many(2).unwrap_err().error, GetError::Empty));
}

#[test]
fn what_a_leased_queue_does_not_do_is_a_clear_error() {
    let _test = support::test(20);
    let plain = Queue::<u32>::new().unwrap();
    assert!(matches!(plain.get_lease(), Err(GetError::NotLeased)));
    assert!(matches!(plain.try_get_lease_bytes(), Err(GetError::NotLeased)));
    let both = JoinableQueue::<u32>::create(Queue::options().leased());
    assert!(matches!(both, Err(CreateError::Leased)));
    let queue = Queue::<Queue<u32>>::options().leased().ring_bytes(4096).create().unwrap();
    let error = queue.put(plain).unwrap_err();
    assert!(matches!(error.fault, PutFault::Encode(_)), "{error}");
    assert!(error.to_string().contains("name") && queue.is_empty(), "{error}");
    let error = queue.put_bytes(&[0; 1025]).unwrap_err();
    assert!(matches!(error, PutFault::TooLarge { bytes: 1025, limit: 1024 }), "{error}");
    queue.put_bytes(&[7; 1024]).unwrap();
    assert!(matches!(queue.get_lease(), Err(GetError::Decode { .. })));
    assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)), "an item that is no T is over");
}

#[test]
fn leased_queue_travels_in_a_message() {
    let _test = support::test(20);
    let queue = leased::<u32>();
    let (bytes, descriptors) = pack(&queue);
    let mut child = fork(move || {
        drop(queue);
        let queue = unpack::<u32>(&bytes, descriptors).unwrap();
        queue.put(1).unwrap();
        queue.get_lease().unwrap().nack();
        assert_eq!(seen(&queue.get_lease().unwrap()), (1, 1));
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn items_of_any_length_come_back_whole() {
    let _test = support::test(20);
    let queue = Queue::<()>::options().leased().ring_bytes(1 << 16).create().unwrap();
    for length in [0, 1, 7, 8, 9, 1000, 1 << 14] {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        queue.put_bytes(&bytes).unwrap();
        for times in 0..3 {
            let lease = queue.get_lease_bytes().unwrap();
            assert_eq!((&*lease, lease.redelivered()), (&bytes, times));
        }
        assert_eq!(queue.get_bytes().unwrap(), bytes);
    }
}

#[test]
fn full_table_makes_getters_wait() {
    let _test = support::test(20);
    let queue = leased::<usize>();
    (0..PLACES + 2).for_each(|i| queue.put(i).unwrap());
    let mut leases: Vec<_> = (0..PLACES).map(|_| queue.get_lease().unwrap()).collect();
    assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)));
    assert!(matches!(queue.get_lease_timeout(MOMENT), Err(GetError::TimedOut)));
    assert_eq!(queue.len(), 2);
    let mut child = fork(|| assert_eq!(queue.get_lease().unwrap().ack().unwrap(), PLACES));
    asleep(child.pid());
    leases.pop().unwrap().ack().unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    let mut child = fork(|| {
        let last = queue.get_lease().unwrap();
        let back = queue.get_lease().unwrap();
        assert_eq!((*last, seen(&back)), (PLACES + 1, (0, 1)));
        last.ack().unwrap();
        back.ack().unwrap();
    });
    until(|| queue.is_empty());
    asleep(child.pid());
    leases.remove(0).nack();
    assert_eq!(child.wait(), Status::Code(0));
    leases.into_iter().for_each(|lease| assert!(lease.ack().is_ok()));
}

/// A process that has an item and does nothing with it.
fn holder(queue: &Queue<u32>) -> Child {
    let has = shared::<AtomicBool>();
    let child = fork(|| {
        let _lease = queue.get_lease().unwrap();
        has.store(true, SeqCst);
        loop {
            thread::park();
        }
    });
    until(|| has.load(SeqCst));
    child
}

#[test]
fn item_of_a_dead_holder_reaches_a_sleeper_at_once() {
    let _test = support::test(30);
    let queue = leased::<u32>();
    let mut worst = Duration::ZERO;
    for round in 0..20 {
        queue.put(round).unwrap();
        let mut holder = holder(&queue);
        let mut sleeper = fork(|| {
            let lease = queue.get_lease().unwrap();
            assert_eq!(seen(&lease), (round, 1));
            lease.ack().unwrap();
        });
        asleep(sleeper.pid());
        let start = Instant::now();
        holder.kill9();
        assert_eq!(sleeper.wait(), Status::Code(0));
        worst = worst.max(start.elapsed());
    }
    support::say(&format!("news of a death took {worst:?} at most"));
    assert!(worst < NEWS, "{worst:?}");
}

/// Who slept before the holder had anything watches it too.
#[test]
fn sleeper_hears_of_a_holder_that_came_later() {
    let _test = support::test(30);
    let queue = leased::<u32>();
    let done = shared::<AtomicU32>();
    let mut worst = Duration::ZERO;
    for round in 0..20 {
        let who = shared::<AtomicU32>();
        // Both sleep; one of them has the item first, and keeps it.
        let mut sleepers = [1, 2].map(|me| {
            fork(|| {
                let lease = queue.get_lease().unwrap();
                if lease.redelivered() == 0 {
                    who.store(me, SeqCst);
                    loop {
                        thread::park();
                    }
                }
                assert_eq!(seen(&lease), (round, 1));
                lease.ack().unwrap();
                done.fetch_add(1, SeqCst);
            })
        });
        sleepers.iter().for_each(|child| asleep(child.pid()));
        queue.put(round).unwrap();
        until(|| who.load(SeqCst) != 0);
        let first = who.load(SeqCst) as usize - 1;
        asleep(sleepers[1 - first].pid());
        let start = Instant::now();
        sleepers[first].kill9();
        until(|| done.load(SeqCst) == round + 1);
        worst = worst.max(start.elapsed());
        assert_eq!(sleepers[1 - first].wait(), Status::Code(0));
    }
    support::say(&format!("news of a death took {worst:?} at most"));
    assert!(worst < NEWS, "{worst:?}");
}

#[test]
fn lease_ends_with_its_thread() {
    let _test = support::test(20);
    let queue = leased();
    queue.put(1).unwrap();
    let forget = || std::mem::forget(queue.get_lease().unwrap());
    let mut child = fork(|| {
        thread::scope(|scope| scope.spawn(forget).join().unwrap());
        assert_eq!(seen(&queue.get_lease().unwrap()), (1, 1));
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn copy_of_a_forked_child_does_nothing() {
    let _test = support::test(20);
    let queue = leased();
    (0..2).for_each(|i| queue.put(i).unwrap());
    let lease = queue.get_lease().unwrap();
    let other = RefCell::new(Some(queue.get_lease().unwrap()));
    let mut child = fork(|| {
        assert!(other.take().unwrap().ack().is_err());
        assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)));
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(lease.ack().unwrap(), 0);
    assert_eq!(other.take().unwrap().ack().unwrap(), 1);
}

#[test]
fn shutdown_waits_for_what_may_come_back() {
    let _test = support::test(20);
    let queue = leased();
    (0..2).for_each(|i| queue.put(i).unwrap());
    let (zero, one) = (queue.get_lease().unwrap(), queue.get_lease().unwrap());
    queue.shutdown();
    let mut child = fork(|| {
        assert_eq!(queue.get_lease().unwrap().ack().unwrap(), 1);
        assert!(matches!(queue.get_lease(), Err(GetError::ShutDown)));
    });
    asleep(child.pid());
    one.nack();
    until(|| queue.is_empty());
    assert_eq!(child.try_wait(), None);
    zero.ack().unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    assert!(matches!(queue.get_lease(), Err(GetError::ShutDown)));
}

#[test]
fn what_came_back_is_discarded_too() {
    let _test = support::test(20);
    let queue = leased();
    (0..5).for_each(|i| queue.put(i).unwrap());
    drop(queue.get_lease().unwrap());
    assert_eq!(queue.shutdown_now(), 5);
    assert!(matches!(queue.get_lease(), Err(GetError::ShutDown)));
}

#[test]
fn many_share_the_items() {
    let _test = support::test(60);
    const EACH: u64 = 5000;
    let queue = Queue::<u64>::options().leased().bound(20).ring_bytes(4096).create().unwrap();
    let got = shared_slice::<AtomicU64>(3 * EACH as usize);
    let consume = || {
        loop {
            let lease = queue.get_lease().unwrap();
            let (item, times) = seen(&lease);
            match item {
                u64::MAX => return assert!(lease.ack().is_ok()),
                _ if item % 7 == 0 && times == 0 => lease.nack(),
                _ => _ = got[lease.ack().unwrap() as usize].fetch_add(1, Relaxed),
            }
        }
    };
    let consumers = [(); 3].map(|()| fork(consume));
    let produce = |id| (0..EACH).for_each(|i| queue.put(id * EACH + i).unwrap());
    let producers = [0, 1, 2].map(|id| fork(|| produce(id)));
    producers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    until(|| queue.is_empty());
    until(|| got.iter().all(|count| count.load(Relaxed) == 1));
    (0..3).for_each(|_| queue.put(u64::MAX).unwrap());
    consumers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
}

/// What happened to each item.
struct Account {
    next: &'static AtomicU64,
    put: &'static [AtomicU32],
    first: &'static [AtomicU32],
    acked: &'static [AtomicU32],
    gets: &'static AtomicU64,
}

fn consume(queue: &Queue<u64>, account: &Account) {
    loop {
        let lease = queue.get_lease().unwrap();
        let item = *lease as usize;
        if lease.redelivered() == 0 {
            account.first[item].fetch_add(1, SeqCst);
        }
        account.gets.fetch_add(1, Relaxed);
        if item % 5 == 0 && lease.redelivered() == 0 {
            lease.nack();
        } else {
            account.acked[item].fetch_add(1, SeqCst);
            lease.ack().unwrap();
        }
    }
}

/// Nothing that was put is lost, and what comes twice is marked. Who dies between its mark and the `ack` marks an item
/// that comes again.
#[test]
fn random_deaths_lose_nothing() {
    let _test = support::test(60);
    const MOST: usize = 1 << 24;
    let queue = Queue::<u64>::options().leased().bound(20).ring_bytes(4096).create().unwrap();
    let account = Account {
        next: shared(),
        put: shared_slice(MOST),
        first: shared_slice(MOST),
        acked: shared_slice(MOST),
        gets: shared(),
    };
    let work = |worker| match worker {
        0 | 1 => loop {
            let item = account.next.fetch_add(1, SeqCst);
            queue.put(item).unwrap();
            account.put[item as usize].store(1, SeqCst);
        },
        _ => consume(&queue, &account),
    };
    let plan = Plan { workers: 5, kills: 300, seed: seed() };
    let mut report = plan.run(work, || account.gets.load(Relaxed));
    assert!(!report.hang);
    report.workers[..2].iter_mut().for_each(|worker| _ = worker.kill9());
    until(|| {
        queue.is_empty() && report.workers[2..].iter().all(|worker| support::procfs::waits(worker.pid()))
    });
    report.workers[2..].iter_mut().for_each(|worker| _ = worker.kill9());
    assert!(matches!(queue.try_get_lease(), Err(GetError::Empty)), "somebody slept beside an item");
    let items = 0..account.next.load(SeqCst) as usize;
    let count = |bad: &dyn Fn(usize) -> bool| items.clone().filter(|&item| bad(item)).count();
    let lost = count(&|item| account.put[item].load(SeqCst) == 1 && account.acked[item].load(SeqCst) == 0);
    let unmarked = count(&|item| account.first[item].load(SeqCst) > 1);
    let again = count(&|item| account.acked[item].load(SeqCst) > 1);
    let gets = account.gets.load(Relaxed);
    support::say(&format!("{report}; {gets} gets, lost {lost}, unmarked {unmarked}, acked twice {again}"));
    assert_eq!((lost, unmarked), (0, 0));
    assert!(again as u64 <= report.total(), "one for each death at most");
}

/// Every call comes back; what it says is not worth much.
#[test]
fn garbage_in_the_table_is_an_error_or_a_wrong_item() {
    let _test = support::test(60);
    let mut rng = Rng::new(seed());
    let mut strange = 0;
    for _ in 0..300 {
        let queue = Queue::<()>::options().leased().ring_bytes(1024).create().unwrap();
        (0..5).for_each(|i| queue.put_bytes(&[i; 30]).unwrap());
        drop(queue.get_lease_bytes().unwrap());
        let memory = memory(&queue);
        for _ in 0..=rng.below(8) {
            let offset = at::LEASES + 8 * rng.below(16) as usize;
            let word = match rng.below(3) {
                0 => rng.next() >> rng.below(64),
                1 => 1 << 30 | 1,
                _ => rng.below(200),
            };
            memory.write(offset, &word.to_ne_bytes()).unwrap();
        }
        for _ in 0..8 {
            match queue.try_get_lease_bytes() {
                Ok(lease) if rng.below(2) == 0 => {
                    strange += u32::from(*lease != [0; 30] && lease.ack().is_err())
                }
                Ok(lease) => drop(lease),
                Err(GetError::Corrupt | GetError::Empty) => strange += 1,
                Err(other) => panic!("{other:?}"),
            }
            let _ = (queue.len(), queue.try_get_bytes());
        }
    }
    assert!(strange > 100, "only {strange} noticed");
}

/// Opens the registry and the leak oracle's eyes, in this order: the registry stays.
fn begin() -> support::Test {
    ipc_sync::Registry::get().unwrap();
    support::test(240)
}

/// A queue of two items, and who sleeps at it.
struct Scene {
    queue: Queue<()>,
    sleeper: RefCell<Option<Child>>,
}

fn scene(items: u8) -> Scene {
    let queue = Queue::options().leased().ring_bytes(512).create().unwrap();
    (0..items).for_each(|i| queue.put_bytes(&[i; 40]).unwrap());
    Scene { queue, sleeper: RefCell::new(None) }
}

/// All items, with their marks; each is acknowledged.
fn drain(queue: &Queue<()>) -> Vec<(u8, u32)> {
    let leases = std::iter::from_fn(|| queue.try_get_lease_bytes().ok());
    leases
        .map(|lease| {
            let times = lease.redelivered();
            let bytes = lease.ack().unwrap();
            assert_eq!(bytes, [bytes[0]; 40], "torn");
            (bytes[0], times)
        })
        .collect()
}

/// Both items are there, in order, and the table and the ring go on.
fn check(queue: &Queue<()>, most: u32) {
    let got = drain(queue);
    assert!(matches!(got[..], [(0, times), (1, 0)] if times <= most), "{got:?}");
    for i in 0..100 {
        queue.put_bytes(&[i; 40]).unwrap();
        assert_eq!(drain(queue), [(i, 0)]);
    }
}

/// Takes a lease, on the stage.
fn lease(scene: &Scene, stage: &Stage) {
    ipc_sync::Me::get().unwrap();
    stage.begin();
    let _lease = scene.queue.get_lease_bytes().unwrap();
    stage.end();
}

#[test]
fn getter_dies_at_any_instruction() {
    let _test = begin();
    let survivor = |scene: &Scene, _| check(&scene.queue, 1);
    Script::new("get_lease", || scene(2), lease, survivor).run().assert_clean();
}

/// The second takes over the lock of the first, and what that had begun.
#[test]
fn two_getters_die_one_after_the_other() {
    let _test = begin();
    let survivor = |scene: &Scene, _| check(&scene.queue, 2);
    let script = Script::new("get_lease twice", || scene(2), lease, survivor);
    let length = script.length();
    script.run_pairs((0..=length).step_by(length as usize / 12), 197).assert_clean();
}

/// It comes back to the next, and is no more lost than before.
#[test]
fn getter_of_a_returned_item_dies_at_any_instruction() {
    let _test = begin();
    let scene = || {
        let scene = scene(2);
        drop(scene.queue.get_lease_bytes().unwrap());
        scene
    };
    let survivor = |scene: &Scene, _| check(&scene.queue, 2);
    Script::new("get_lease again", scene, lease, survivor).run().assert_clean();
}

/// Acknowledged or not, and nothing between.
#[test]
fn holder_dies_at_any_instruction_of_ack() {
    let _test = begin();
    let victim = |scene: &Scene, stage: &Stage| {
        let lease = scene.queue.get_lease_bytes().unwrap();
        stage.begin();
        lease.ack().unwrap();
        stage.end();
    };
    let survivor = |scene: &Scene, fate: support::step::Fate| {
        let got = drain(&scene.queue);
        assert!(got == [(1, 0)] || !fate.finished && got == [(0, 1), (1, 0)], "{got:?}");
    };
    Script::new("ack", || scene(2), victim, survivor).run().assert_clean();
}

/// A sleeper gets the item, whether it was given back or its holder died before.
#[test]
fn holder_dies_at_any_instruction_of_nack() {
    let _test = begin();
    let got = shared::<AtomicBool>();
    let victim = |scene: &Scene, stage: &Stage| {
        let lease = scene.queue.get_lease_bytes().unwrap();
        stage.begin();
        lease.nack();
        stage.end();
    };
    let one_sleeps = |scene: &Scene| {
        got.store(false, SeqCst);
        let child = fork(|| {
            assert_eq!(scene.queue.get_lease_bytes().unwrap().redelivered(), 1);
            got.store(true, SeqCst);
        });
        asleep(child.pid());
        *scene.sleeper.borrow_mut() = Some(child);
    };
    let survivor = |scene: &Scene, _| {
        until(|| got.load(SeqCst));
        until(|| scene.queue.len() == 1);
        assert_eq!(drain(&scene.queue), [(0, 2)]);
    };
    Script::new("nack", || scene(1), victim, survivor).meanwhile(one_sleeps).run().assert_clean();
}

#[test]
fn leased_queue_can_have_a_name() {
    let _test = support::test(20);
    let name = format!("leased-{}", std::process::id());
    let open = || Queue::<u32>::options().leased().named(&name).unwrap();
    let queue = open();
    queue.put(1).unwrap();
    let lease = queue.get_lease().unwrap();
    let mut child = fork(|| {
        let there = open();
        let lease = there.get_lease().unwrap();
        assert_eq!(seen(&lease), (1, 1));
        lease.ack().unwrap();
    });
    asleep(child.pid());
    lease.nack();
    assert_eq!(child.wait(), Status::Code(0));
    assert!(Queue::<u32>::named(&name).is_err(), "it is of another form");
}

/// What comes back is something to wait for, with other things too.
#[test]
fn leased_queue_can_be_waited_for() {
    let _test = support::test(20);
    let queue = leased::<u32>();
    queue.put(1).unwrap();
    assert_eq!(ipc_pipe::wait(&[&queue]), [0]);
    let lease = queue.get_lease().unwrap();
    assert!(ipc_pipe::wait_timeout(&[&queue], MOMENT).is_empty());
    let mut waiter = fork(|| assert_eq!(ipc_pipe::wait(&[&queue]), [0]));
    asleep(waiter.pid());
    lease.nack();
    assert_eq!(waiter.wait(), Status::Code(0));
    let mut holder = holder(&queue);
    let mut waiter = fork(|| assert_eq!(ipc_pipe::wait(&[&queue]), [0]));
    asleep(waiter.pid());
    holder.kill9();
    assert_eq!(waiter.wait(), Status::Code(0));
}

//! What `RwLock` promises, with real processes that stop and die.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{RwLock, RwLockError, TryRwLockError};

use support::chaos::Plan;
use support::step::Script;
use support::{
    Child, Status, Times, asleep, assert_exact, fork, hold, join, shared, storm_of_alarms, unique, until,
};

const LONG: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Locks for all tests, and all rounds of their scripts, made before any leak oracle looks: the arenas stay for the
/// process, and a cell that was there at a fork is not used again.
static POOL: LazyLock<Vec<RwLock>> =
    LazyLock::new(|| (0..POOL_SIZE).map(|_| RwLock::new().unwrap()).collect());

const POOL_SIZE: usize = 6000;

fn rwlock() -> RwLock {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    POOL[NEXT.fetch_add(1, SeqCst)].clone()
}

fn reader(lock: &RwLock) -> Child {
    hold(|| std::mem::forget(lock.read().unwrap()))
}

fn writer(lock: &RwLock) -> Child {
    hold(|| std::mem::forget(lock.write().unwrap()))
}

fn would_block<T>(result: &Result<T, TryRwLockError>) -> bool {
    matches!(result, Err(TryRwLockError::WouldBlock))
}

/// What a writer keeps equal and a reader finds equal.
#[derive(Default)]
struct Pair {
    left: AtomicU64,
    right: AtomicU64,
}

impl Pair {
    fn write(&self) {
        let next = self.left.load(SeqCst) + 1;
        self.left.store(next, SeqCst);
        std::hint::spin_loop();
        self.right.store(next, SeqCst);
    }

    fn is_whole(&self) -> bool {
        self.left.load(SeqCst) == self.right.load(SeqCst)
    }
}

#[test]
fn readers_share_and_writers_exclude() {
    let lock = rwlock();
    let _test = support::test(20);
    let other = reader(&lock);
    let here = lock.try_read().unwrap();
    assert!(matches!(lock.try_write(), Err(TryRwLockError::Failed(RwLockError::Deadlock))));
    drop(here);
    assert!(would_block(&lock.try_write()));
    drop(other);
    let guard = lock.write_timeout(LONG).unwrap();
    let mut other = fork(|| {
        assert!(would_block(&lock.try_read()));
        assert!(would_block(&lock.try_write()));
    });
    assert_eq!(other.wait(), Status::Code(0));
    drop(guard);
}

#[test]
fn no_reader_sees_a_write_half_done() {
    let lock = rwlock();
    let _test = support::test(60);
    let pair = shared::<Pair>();
    let work = |writes: bool| {
        for _ in 0..10_000 {
            if writes {
                let _guard = lock.write().unwrap();
                assert!(pair.is_whole());
                pair.write();
            } else {
                let _guard = lock.read().unwrap();
                assert!(pair.is_whole());
            }
        }
    };
    join((0..6).map(|i| fork(|| work(i % 3 == 0))));
    assert_eq!(pair.left.load(SeqCst), 20_000);
}

#[test]
fn dead_readers_give_way() {
    let lock = rwlock();
    let _test = support::test(20);
    let mut readers = [reader(&lock), reader(&lock), reader(&lock)];
    assert!(would_block(&lock.write_timeout(Duration::from_millis(20))));
    readers.iter_mut().for_each(|reader| _ = reader.kill9());
    let guard = lock.write_timeout(LONG).unwrap();
    assert!(!guard.owner_died(), "a reader leaves nothing half done");
}

#[test]
fn a_dead_writer_gives_way_and_leaves_poison() {
    let lock = rwlock();
    let _test = support::test(20);
    writer(&lock).kill9();
    let guard = lock.read_timeout(LONG).unwrap();
    assert!(guard.owner_died());
    drop(guard);
    let guard = lock.write().unwrap();
    assert!(guard.owner_died(), "nobody has marked it consistent yet");
    guard.mark_consistent();
    drop(guard);
    assert!(!lock.read().unwrap().owner_died());
}

#[test]
fn a_writer_that_dies_while_it_waits_leaves_no_poison() {
    let lock = rwlock();
    let _test = support::test(20);
    let _reader = reader(&lock);
    let mut waiting = fork(|| drop(lock.write()));
    asleep(waiting.pid());
    assert!(would_block(&lock.try_read()), "readers queue behind it");
    waiting.kill9();
    assert!(!lock.read_timeout(LONG).unwrap().owner_died());
}

#[test]
fn sleepers_learn_of_a_death_at_once() {
    let lock = rwlock();
    let _test = support::test(60);
    let mut times = Times::default();
    for round in 0..40 {
        let mut dying = if round % 2 == 0 { reader(&lock) } else { writer(&lock) };
        let wanted = round % 4;
        let mut waiter = fork(|| match wanted {
            1 => drop(lock.read().unwrap()),
            _ => drop(lock.write().unwrap()),
        });
        asleep(waiter.pid());
        let start = Instant::now();
        dying.kill9();
        assert_eq!(waiter.wait(), Status::Code(0));
        times.lap(start);
    }
    times.assert_soon();
}

#[test]
fn leaving_wakes_sleepers_at_once() {
    let lock = rwlock();
    let _test = support::test(60);
    let mut times = Times::default();
    for _ in 0..25 {
        let reads = lock.read().unwrap();
        let mut writer = fork(|| drop(lock.write().unwrap()));
        asleep(writer.pid());
        let start = Instant::now();
        drop(reads);
        assert_eq!(writer.wait(), Status::Code(0));
        times.lap(start);

        let writes = lock.write().unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|i| fork(|| if i == 0 { drop(lock.read().unwrap()) } else { drop(lock.write().unwrap()) }))
            .collect();
        waiters.iter().for_each(|waiter| asleep(waiter.pid()));
        let start = Instant::now();
        drop(writes);
        join(waiters);
        times.lap(start);
    }
    times.assert_soon();
}

#[test]
fn a_reader_reads_again_while_a_writer_waits() {
    let lock = rwlock();
    let _test = support::test(20);
    let first = lock.read().unwrap();
    let mut waiting = fork(|| drop(lock.write().unwrap()));
    asleep(waiting.pid());
    let mut newcomer = fork(|| assert!(would_block(&lock.try_read())));
    assert_eq!(newcomer.wait(), Status::Code(0));
    let again = [lock.read().unwrap(), lock.try_read().unwrap()];
    drop(first);
    assert!(waiting.try_wait().is_none(), "this thread reads still");
    drop(again);
    assert_eq!(waiting.wait(), Status::Code(0));
}

#[test]
fn waiting_for_oneself_is_an_error() {
    let lock = rwlock();
    let _test = support::test(20);
    let reads = lock.read().unwrap();
    assert!(matches!(lock.write(), Err(RwLockError::Deadlock)));
    drop(reads);
    let _writes = lock.write().unwrap();
    assert!(matches!(lock.write(), Err(RwLockError::Deadlock)));
    assert!(matches!(lock.read(), Err(RwLockError::Deadlock)));
    assert!(matches!(lock.try_read(), Err(TryRwLockError::Failed(RwLockError::Deadlock))));
}

#[test]
fn writers_do_not_starve_beside_spinning_readers() {
    let lock = rwlock();
    let _test = support::test(60);
    let (over, reads) = (shared::<AtomicU32>(), shared::<AtomicU64>());
    let readers: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                while over.load(SeqCst) == 0 {
                    let _guard = lock.read().unwrap();
                    reads.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    until(|| reads.load(SeqCst) > 1000);
    for _ in 0..200 {
        drop(lock.write_timeout(Duration::from_secs(2)).unwrap());
    }
    over.store(1, SeqCst);
    join(readers);
}

/// Readers that pass the gate are in nobody's way.
#[test]
fn try_read_succeeds_beside_spinning_readers() {
    let lock = rwlock();
    let _test = support::test(60);
    let over = shared::<AtomicU32>();
    let mut other = fork(|| {
        while over.load(SeqCst) == 0 {
            drop(lock.read().unwrap());
        }
    });
    let refused = (0..50_000).filter(|_| lock.try_read().is_err()).count();
    over.store(1, SeqCst);
    assert_eq!(other.wait(), Status::Code(0));
    assert!(refused < 1000, "{refused}: only where the other was preempted at the gate");
}

#[test]
fn a_timeout_covers_the_whole_call() {
    let lock = rwlock();
    let _test = support::test(20);
    let start = Instant::now();
    let timeout = Duration::from_millis(150);
    let reads = reader(&lock);
    assert_exact(timeout, |timeout| assert!(would_block(&lock.write_timeout(timeout))));
    assert!(lock.try_read().is_ok(), "the writer that gave up left the gate");
    drop(reads);
    let _writes = writer(&lock);
    assert_exact(timeout, |timeout| assert!(would_block(&lock.read_timeout(timeout))));
    assert!(would_block(&lock.write_deadline(start)));
    assert!(would_block(&lock.read_timeout(Duration::ZERO)));
}

#[test]
fn signals_do_not_end_a_wait_early() {
    let lock = rwlock();
    let _test = support::test(30);
    for writes in [false, true] {
        let _other = if writes { reader(&lock) } else { writer(&lock) };
        let mut waiter = fork(|| {
            storm_of_alarms();
            let (start, timeout) = (Instant::now(), Duration::from_millis(200));
            let refused = if writes {
                would_block(&lock.write_timeout(timeout))
            } else {
                would_block(&lock.read_timeout(timeout))
            };
            assert!(refused && start.elapsed() >= timeout);
            assert!(start.elapsed() < 2 * timeout, "{:?}", start.elapsed());
        });
        assert_eq!(waiter.wait(), Status::Code(0));
    }
}

#[test]
fn a_forked_child_holds_nothing() {
    let lock = rwlock();
    let _test = support::test(60);
    for _ in 0..100 {
        let mut reads = Some(lock.read().unwrap());
        let mut child = fork(|| {
            drop(reads.take()); // inert: the parent reads
            assert!(would_block(&lock.try_write()));
        });
        assert_eq!(child.wait(), Status::Code(0));
        drop(reads);
        let mut writes = Some(lock.write().unwrap());
        let mut child = fork(|| {
            drop(writes.take());
            assert!(would_block(&lock.try_read()));
        });
        assert_eq!(child.wait(), Status::Code(0));
        drop(writes);
    }
    assert!(!lock.write().unwrap().owner_died());
}

#[test]
fn the_stopped_are_not_dead() {
    let lock = rwlock();
    let _test = support::test(30);
    for writes in [false, true] {
        let stopped = if writes { writer(&lock) } else { reader(&lock) };
        stopped.signal(libc::SIGSTOP);
        until(|| support::procfs::state(stopped.pid()) == Some('T'));
        assert!(would_block(&lock.write_timeout(SECOND)));
        stopped.signal(libc::SIGCONT);
        assert!(would_block(&lock.try_write()));
    }
}

#[test]
fn a_panic_inside_poisons_if_it_wrote() {
    let lock = rwlock();
    let _test = support::test(20);
    let panics = |writes: bool| {
        let copy = lock.clone();
        let thread = std::thread::spawn(move || {
            let _guard =
                if writes { (Some(copy.write().unwrap()), None) } else { (None, Some(copy.read().unwrap())) };
            std::panic::resume_unwind(Box::new("expected"));
        });
        assert!(thread.join().is_err());
        lock.read().unwrap().owner_died()
    };
    assert!(!panics(false));
    assert!(panics(true));
}

#[test]
fn a_writer_in_a_panic_that_began_outside_does_not_poison() {
    struct Writes<'a>(&'a RwLock);
    impl Drop for Writes<'_> {
        fn drop(&mut self) {
            drop(self.0.write().unwrap());
        }
    }
    let lock = rwlock();
    let _test = support::test(20);
    let copy = lock.clone();
    let thread = std::thread::spawn(move || {
        let _writes = Writes(&copy);
        std::panic::resume_unwind(Box::new("expected"));
    });
    assert!(thread.join().is_err());
    assert!(!lock.read().unwrap().owner_died());
}

#[test]
fn a_thread_that_ends_inside_has_died() {
    let lock = rwlock();
    let _test = support::test(20);
    std::thread::scope(|scope| _ = scope.spawn(|| std::mem::forget(lock.read().unwrap())));
    drop(lock.write_timeout(LONG).unwrap());
    std::thread::scope(|scope| _ = scope.spawn(|| std::mem::forget(lock.write().unwrap())));
    assert!(lock.write_timeout(LONG).unwrap().owner_died());
}

#[test]
fn too_many_readers_are_an_error_and_nothing_is_lost() {
    let lock = rwlock();
    let _test = support::test(30);
    let (inside, refused, over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..65 {
            scope.spawn(|| {
                let guard = lock.read();
                match &guard {
                    Ok(_) => inside.fetch_add(1, SeqCst),
                    Err(RwLockError::TooManyReaders) => refused.fetch_add(1, SeqCst),
                    other => panic!("{other:?}"),
                };
                until(|| over.load(SeqCst) == 1);
            });
        }
        until(|| inside.load(SeqCst) + refused.load(SeqCst) == 65);
        assert_eq!((inside.load(SeqCst), refused.load(SeqCst)), (64, 1));
        assert!(would_block(&lock.try_write()));
        over.store(1, SeqCst);
    });
    drop(lock.try_write().unwrap());
}

/// The dead make room for more readers, though no writer comes.
#[test]
fn a_thousand_dead_readers_are_no_obstacle() {
    let lock = rwlock();
    let _test = support::test(60);
    for _ in 0..1000 {
        std::thread::scope(|scope| _ = scope.spawn(|| std::mem::forget(lock.read().unwrap())));
    }
    drop(lock.write_timeout(LONG).unwrap());
}

#[test]
fn a_name_leads_to_the_same_lock() {
    let name = unique("rwlock");
    let _first = rwlock();
    let _test = support::test(20);
    let lock = RwLock::named(&name).unwrap();
    let _guard = lock.write().unwrap();
    let mut other = fork(|| assert!(would_block(&RwLock::named(&name).unwrap().try_read())));
    assert_eq!(other.wait(), Status::Code(0));
    assert!(ipc_sync::Lock::named(&name).is_err());
}

/// Who has the memory may write anything there. It can block others, but nobody panics or crashes of it.
#[test]
fn garbage_in_the_words_makes_nobody_panic() {
    let name = unique("rwlock");
    let _first = rwlock();
    let _test = support::test(60);
    let seed = support::seed();
    for round in 0..20 {
        let subject = RwLock::named(&name).unwrap();
        let file = std::fs::File::options().write(true).open(format!("/dev/shm/{name}")).unwrap();
        let (length, uses) = (file.metadata().unwrap().len(), shared::<AtomicU32>());
        let mut user = fork(|| {
            loop {
                use_it(&subject);
                uses.fetch_add(1, SeqCst);
            }
        });
        until(|| uses.load(SeqCst) > 100);
        let mut rng = support::Rng::new(seed + round);
        for _ in 0..2000 {
            let at = HEADER + 4 * rng.below((length - HEADER) / 4);
            file.write_all_at(&(rng.below(1 << 32) as u32).to_ne_bytes(), at).unwrap();
            (0..100).for_each(|_| std::hint::spin_loop());
        }
        assert_eq!(user.try_wait(), None, "it ended of it");
        user.kill9();
    }
}

/// Of a segment, which is checked when it is opened.
const HEADER: u64 = 128;

fn use_it(lock: &RwLock) {
    let timeout = Duration::from_micros(100);
    let reads = [lock.try_read(), lock.read_timeout(timeout)];
    drop(reads);
    let writes = [lock.try_write(), lock.write_timeout(timeout)];
    let _ = format!("{lock:?}");
    drop(writes);
}

#[test]
fn debug_tells_the_state_without_blocking() {
    let lock = rwlock();
    let _test = support::test(20);
    let reads = reader(&lock);
    assert_eq!(format!("{lock:?}"), "RwLock { writer: None, readers: 1, waiters: false, poisoned: false }");
    drop(reads);
    let writes = writer(&lock);
    let text =
        format!("RwLock {{ writer: Some({}), readers: 0, waiters: false, poisoned: false }}", writes.pid());
    assert_eq!(format!("{lock:?}"), text);
}

#[test]
fn the_exclusion_holds_while_readers_and_writers_are_killed() {
    let lock = rwlock();
    let _test = support::test(60);
    let (pair, done) = (shared::<Pair>(), shared::<AtomicU64>());
    let plan = Plan { workers: 4, kills: 500, seed: support::seed() };
    let work = |i: usize| loop {
        if i == 0 {
            let guard = lock.write().unwrap();
            if guard.owner_died() {
                pair.right.store(pair.left.load(SeqCst), SeqCst);
                guard.mark_consistent();
            }
            assert!(pair.is_whole());
            pair.write();
        } else {
            let guard = lock.read().unwrap();
            assert!(guard.owner_died() || pair.is_whole());
        }
        done.fetch_add(1, SeqCst);
    };
    let report = plan.run(work, || done.load(SeqCst));
    assert!(!report.hang, "{report}");
    drop(report.workers);
    drop(lock.try_write().unwrap());
}

// A death after every instruction.

/// Enters the registry before the operation: that is a script of its own.
fn registered() {
    ipc_sync::Me::get().unwrap();
}

/// Everybody else is dead, so all can be had at once.
fn is_usable(lock: &RwLock) -> bool {
    drop(lock.read_timeout(SECOND).unwrap());
    let guard = lock.write_timeout(SECOND).unwrap();
    guard.owner_died()
}

#[test]
fn reading_dies_at_any_instruction() {
    let _first = rwlock();
    let _test = support::test(120);
    Script::new(
        "read and leave",
        rwlock,
        |lock, stage| {
            registered();
            stage.begin();
            let guards = (lock.read(), lock.read());
            drop(guards);
            stage.end();
        },
        |lock, _| assert!(!is_usable(lock), "a reader left poison"),
    )
    .run()
    .assert_clean();
}

#[test]
fn writing_dies_at_any_instruction() {
    let _first = rwlock();
    let _test = support::test(120);
    Script::new(
        "write",
        rwlock,
        |lock, stage| {
            registered();
            stage.begin();
            std::mem::forget(lock.write());
            stage.end();
        },
        |lock, fate| assert!(is_usable(lock) || !fate.finished, "a finished writer was inside"),
    )
    .run()
    .assert_clean();
}

#[test]
fn taking_over_from_a_dead_writer_dies_at_any_instruction() {
    let _first = rwlock();
    let _test = support::test(120);
    let script = Script::new(
        "take over from a dead writer",
        || {
            let lock = rwlock();
            fork(|| std::mem::forget(lock.write().unwrap())).wait();
            lock
        },
        |lock, stage| {
            registered();
            stage.begin();
            std::mem::forget(lock.try_read());
            stage.end();
        },
        |lock, _| assert!(is_usable(lock), "the poison was lost"),
    );
    script.run().assert_clean();
    let length = script.length();
    script.run_pairs([length / 3, length / 2, length - 30], 61).assert_clean();
}

/// A lock that somebody of the parent's waits for while the victim stands at its begin.
struct Scene {
    lock: RwLock,
    waiters: RefCell<Vec<Child>>,
    through: &'static AtomicU32,
}

impl Scene {
    fn new(through: &'static AtomicU32) -> Scene {
        through.store(0, SeqCst);
        Scene { lock: rwlock(), waiters: RefCell::default(), through }
    }

    fn let_sleep(&self, waits: impl FnOnce(&RwLock)) {
        let waiter = fork(|| {
            waits(&self.lock);
            self.through.fetch_add(1, SeqCst);
        });
        asleep(waiter.pid());
        self.waiters.borrow_mut().push(waiter);
    }

    fn all_get_through(&self) {
        let count = self.waiters.borrow().len() as u32;
        until(|| self.through.load(SeqCst) == count);
        is_usable(&self.lock);
    }
}

#[test]
fn leaving_dies_with_a_sleeping_writer() {
    let _first = rwlock();
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "leave with a sleeping writer",
        || Scene::new(through),
        |scene, stage| {
            let guard = scene.lock.read().unwrap();
            stage.begin();
            drop(guard);
            stage.end();
        },
        |scene, _| scene.all_get_through(),
    )
    .meanwhile(|scene| scene.let_sleep(|lock| drop(lock.write().unwrap())))
    .run()
    .assert_clean();
}

#[test]
fn finishing_dies_with_a_sleeping_reader_and_a_sleeping_writer() {
    let _first = rwlock();
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "finish with a sleeping reader and a sleeping writer",
        || Scene::new(through),
        |scene, stage| {
            let guard = scene.lock.write().unwrap();
            stage.begin();
            drop(guard);
            stage.end();
        },
        |scene, _| scene.all_get_through(),
    )
    .meanwhile(|scene| {
        scene.let_sleep(|lock| drop(lock.read().unwrap()));
        scene.let_sleep(|lock| drop(lock.write().unwrap()));
    })
    .run()
    .assert_clean();
}

/// The victim takes the gate, waits for a reader, and gives up.
#[test]
fn a_writer_dies_at_any_instruction_of_its_wait() {
    let _first = rwlock();
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "write with a reader inside",
        || {
            let scene = Scene::new(through);
            scene.waiters.borrow_mut().push(reader(&scene.lock));
            scene
        },
        |scene, stage| {
            registered();
            stage.begin();
            assert!(scene.lock.write_timeout(Duration::from_millis(15)).is_err());
            stage.end();
        },
        |scene, _| {
            assert!(!scene.lock.read_timeout(SECOND).unwrap().owner_died());
            scene.waiters.borrow().iter().for_each(|reader| reader.signal(libc::SIGKILL));
            assert!(!is_usable(&scene.lock));
        },
    )
    .run()
    .assert_clean();
}

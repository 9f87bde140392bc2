//! What `ReentrantLock` promises, with real processes that stop and die at any level.

use std::mem::forget;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bincode::config::standard;
use bincode::serde::{decode_from_slice, encode_to_vec};
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_sync::{Lock, LockError, ReentrantGuard, ReentrantLock, TryLockError};

use support::{Child, Rng, Status, asleep, fork, hold, shared, until};

const LONG: Duration = Duration::from_secs(10);

/// A lock, made before the leak oracle looks: its arena and the registry stay for the process.
fn lock() -> ReentrantLock {
    ReentrantLock::new().unwrap()
}

fn is_busy(result: Result<ReentrantGuard<'_>, TryLockError>) -> bool {
    matches!(result, Err(TryLockError::WouldBlock))
}

/// Whether another thread finds the lock taken.
fn is_taken(lock: &ReentrantLock) -> bool {
    std::thread::scope(|scope| scope.spawn(|| is_busy(lock.try_lock())).join().unwrap())
}

/// A child that takes `lock` at so many levels and keeps it.
fn holder(lock: &ReentrantLock, levels: u32) -> Child {
    hold(|| (0..levels).for_each(|_| forget(lock.lock().unwrap())))
}

#[test]
fn its_owner_takes_it_again_and_others_wait_for_the_last_level() {
    let lock = lock();
    let _test = support::test(20);
    let outer = lock.lock().unwrap();
    let middle = lock.try_lock().unwrap();
    let inner = lock.lock_timeout(LONG).unwrap();
    drop(outer); // guards are levels: their order does not matter
    assert!(is_taken(&lock));
    drop(inner);
    assert!(is_taken(&lock));
    drop(middle);
    assert!(!is_taken(&lock));
}

#[test]
fn only_one_process_is_inside_at_any_level() {
    let lock = lock();
    let _test = support::test(60);
    let (plain, inside) = (shared::<AtomicU64>(), shared::<AtomicU32>());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for round in 0..10_000 {
                    let _levels: Vec<_> = (0..=round % 3).map(|_| lock.lock().unwrap()).collect();
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    plain.store(plain.load(SeqCst) + 1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                }
            })
        })
        .collect();
    children.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    assert_eq!(plain.load(SeqCst), 40_000);
}

#[test]
fn a_death_at_any_depth_leaves_none_of_it() {
    let lock = lock();
    let _test = support::test(120);
    let mut rng = Rng::new(support::seed());
    for _ in 0..1000 {
        holder(&lock, 1 + rng.below(5) as u32).kill9();
        let guard = lock.lock_timeout(LONG).unwrap();
        assert!(guard.owner_died());
        assert!(format!("{lock:?}").contains("depth: 1"), "{lock:?}");
        guard.mark_consistent();
        drop(guard);
        assert!(format!("{lock:?}").contains("locked: false"), "{lock:?}");
    }
}

#[test]
fn sleeping_waiter_learns_of_the_death_at_once() {
    let lock = lock();
    let _test = support::test(20);
    let mut owner = holder(&lock, 3);
    let died = shared::<AtomicU32>();
    let mut waiter = fork(|| died.store(1 + u32::from(lock.lock().unwrap().owner_died()), SeqCst));
    asleep(waiter.pid());
    let start = Instant::now();
    owner.kill9();
    assert_eq!(waiter.wait(), Status::Code(0));
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    assert_eq!(died.load(SeqCst), 2);
}

#[test]
fn a_dead_owner_is_told_until_somebody_mends() {
    let lock = lock();
    let _test = support::test(20);
    holder(&lock, 2).kill9();
    let outer = lock.lock().unwrap();
    let inner = lock.lock().unwrap();
    assert!(outer.owner_died() && inner.owner_died());
    drop((outer, inner));
    let guard = lock.lock().unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
    drop(guard);
    assert!(!lock.lock().unwrap().owner_died());
}

#[test]
fn a_stopped_owner_is_not_dead() {
    let lock = lock();
    let _test = support::test(30);
    let mut owner = holder(&lock, 2);
    owner.signal(libc::SIGSTOP);
    until(|| support::procfs::state(owner.pid()) == Some('T'));
    let start = Instant::now();
    assert!(is_busy(lock.lock_timeout(Duration::from_secs(1))));
    let took = start.elapsed();
    assert!((1000..1250).contains(&took.as_millis()), "{took:?}");
    owner.signal(libc::SIGCONT);
    assert!(is_busy(lock.try_lock()));
    owner.kill9();
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn a_thread_that_ends_with_the_lock_has_died() {
    let lock = lock();
    let _test = support::test(20);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| forget(lock.lock().unwrap())));
    });
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn a_forked_child_holds_nothing() {
    let lock = lock();
    let _test = support::test(60);
    for _ in 0..100 {
        let (outer, mut inner) = (lock.lock().unwrap(), Some(lock.lock().unwrap()));
        let mut child = fork(|| {
            assert!(is_busy(lock.try_lock()));
            drop(inner.take()); // inert: the parent has the lock
            assert!(is_busy(lock.try_lock()));
        });
        assert_eq!(child.wait(), Status::Code(0));
        drop(outer);
        assert!(is_taken(&lock), "the copies of the child took nothing away");
        drop(inner);
        assert!(!lock.lock().unwrap().owner_died());
    }
}

#[test]
fn a_panic_inside_poisons_as_a_death_does() {
    let lock = lock();
    let _test = support::test(20);
    let panicked = std::thread::spawn({
        let lock = lock.clone();
        move || {
            let _outer = lock.lock().unwrap();
            let _inner = lock.lock().unwrap();
            std::panic::resume_unwind(Box::new("expected"));
        }
    });
    assert!(panicked.join().is_err());
    assert!(lock.try_lock().unwrap().owner_died());
}

#[test]
fn a_recursion_without_end_is_an_error() {
    let lock = lock();
    let _test = support::test(20);
    (0..1 << 20).for_each(|_| forget(lock.lock().unwrap()));
    assert!(matches!(lock.lock(), Err(LockError::TooDeep)));
    assert!(matches!(lock.try_lock(), Err(TryLockError::Failed(LockError::TooDeep))));
    assert!(format!("{lock:?}").contains("depth: 1048576"), "{lock:?}");
}

#[test]
fn a_timeout_covers_the_whole_call() {
    let lock = lock();
    let _test = support::test(20);
    let _owner = holder(&lock, 1);
    let start = Instant::now();
    assert!(is_busy(lock.lock_timeout(Duration::from_millis(150))));
    assert!((150..250).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(is_busy(lock.lock_deadline(start)));
    assert!(is_busy(lock.lock_timeout(Duration::ZERO)));
}

#[test]
fn debug_tells_owner_and_depth_without_blocking() {
    let lock = lock();
    let _test = support::test(20);
    let owner = holder(&lock, 4);
    let text = format!("{lock:?}");
    assert!(text.contains(&format!("owner: Some({})", owner.pid())), "{text}");
    assert!(text.contains("depth: 4") && text.contains("waiters: false"), "{text}");
    let _waiter = fork(|| drop(lock.lock()));
    until(|| format!("{lock:?}").contains("waiters: true"));
}

#[test]
fn a_name_leads_to_one_lock_and_to_no_other_kind() {
    let _first = lock();
    let _test = support::test(20);
    let name = support::unique("reentrant");
    let (here, there) = (ReentrantLock::named(&name).unwrap(), ReentrantLock::named(&name).unwrap());
    let _guard = here.lock().unwrap();
    assert!(is_taken(&there));
    assert!(there.try_lock().is_ok(), "this thread owns it, by whatever handle");
    assert!(Lock::named(&name).is_err());
}

#[test]
fn a_received_lock_is_the_same_lock() {
    let lock = lock();
    let _test = support::test(20);
    let table = Outgoing::open();
    let bytes = encode_to_vec(&lock, standard()).unwrap();
    let sending = table.finish();
    let descriptors: Vec<OwnedFd> =
        sending.descriptors().map(|descriptor| descriptor.try_clone_to_owned().unwrap()).collect();
    drop(sending);
    let received: ReentrantLock = {
        let _table = Incoming::open(descriptors);
        decode_from_slice(&bytes, standard()).unwrap().0
    };
    let _guard = lock.lock().unwrap();
    assert!(is_taken(&received));
}

#[test]
fn unlocking_the_last_level_wakes_a_sleeper() {
    let lock = lock();
    let _test = support::test(30);
    let start = Instant::now();
    for _ in 0..50 {
        let (outer, inner) = (lock.lock().unwrap(), lock.lock().unwrap());
        let mut waiter = fork(|| drop(lock.lock().unwrap()));
        asleep(waiter.pid());
        drop(outer);
        drop(inner);
        assert_eq!(waiter.wait(), Status::Code(0));
    }
    assert!(start.elapsed() < ipc_sync::BACKSTOP * 50 / 2, "{:?}: those were backstops", start.elapsed());
}

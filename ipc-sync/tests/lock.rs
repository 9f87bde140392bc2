//! What `Lock` promises, with real processes that stop and die.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Lock, LockError, Me, Registry, TryLockError};

use support::{Child, Status, asleep, fork, hold, shared, storm_of_alarms, until};

const LONG: Duration = Duration::from_secs(10);

/// A lock, made before the leak oracle looks: its arena and the registry stay for the process.
fn lock() -> Lock {
    Lock::new().unwrap()
}

/// A child that takes `lock` and keeps it.
fn holder(lock: &Lock) -> Child {
    hold(|| std::mem::forget(lock.lock().unwrap()))
}

fn rescues() -> u32 {
    Registry::get().unwrap().rescues()
}

#[test]
fn only_one_process_is_inside() {
    let lock = lock();
    let _test = support::test(60);
    let (plain, inside) = (shared::<AtomicU64>(), shared::<AtomicU32>());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                for _ in 0..20_000 {
                    let _guard = lock.lock().unwrap();
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    plain.store(plain.load(SeqCst) + 1, SeqCst);
                    inside.fetch_sub(1, SeqCst);
                }
            })
        })
        .collect();
    children.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    assert_eq!(plain.load(SeqCst), 80_000);
}

#[test]
fn dead_owner_hands_lock_over() {
    let lock = lock();
    let _test = support::test(20);
    holder(&lock).kill9();
    let guard = lock.lock_timeout(LONG).unwrap();
    assert!(guard.owner_died());
    drop(guard);
    let guard = lock.lock().unwrap();
    assert!(guard.owner_died(), "nobody has marked it consistent yet");
    guard.mark_consistent();
    drop(guard);
    assert!(!lock.lock().unwrap().owner_died());
}

#[test]
fn sleeping_waiter_learns_of_the_death_at_once() {
    let lock = lock();
    let _test = support::test(20);
    let before = rescues();
    let mut owner = holder(&lock);
    let died = shared::<AtomicU32>();
    let mut waiter = fork(|| died.store(1 + u32::from(lock.lock().unwrap().owner_died()), SeqCst));
    asleep(waiter.pid());
    let start = Instant::now();
    owner.kill9();
    assert_eq!(waiter.wait(), Status::Code(0));
    assert!(start.elapsed() < Duration::from_millis(90), "{:?}: that was the backstop", start.elapsed());
    assert_eq!(died.load(SeqCst), 2);
    assert_eq!(rescues(), before);
}

#[test]
fn a_chain_of_dying_owners_reaches_every_waiter() {
    let lock = lock();
    let _test = support::test(30);
    let holder_pid = shared::<AtomicU32>();
    let mut waiters: Vec<_> = (0..32)
        .map(|_| {
            fork(|| {
                std::mem::forget(lock.lock().unwrap());
                holder_pid.store(std::process::id(), SeqCst);
                loop {
                    std::thread::park();
                }
            })
        })
        .collect();
    let start = Instant::now();
    while !waiters.is_empty() {
        until(|| holder_pid.load(SeqCst) != 0);
        let pid = holder_pid.swap(0, SeqCst) as i32;
        let index = waiters.iter().position(|waiter| waiter.pid() == pid).unwrap();
        waiters.swap_remove(index).kill9();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(lock.lock().unwrap().owner_died());
}

#[test]
fn a_stopped_owner_is_not_dead() {
    let lock = lock();
    let _test = support::test(20);
    let mut owner = holder(&lock);
    owner.signal(libc::SIGSTOP);
    until(|| support::procfs::state(owner.pid()) == Some('T'));
    let start = Instant::now();
    let refused = lock.lock_timeout(Duration::from_millis(400));
    assert!(matches!(refused, Err(TryLockError::WouldBlock)), "{refused:?}");
    assert!(start.elapsed() >= Duration::from_millis(400));
    owner.signal(libc::SIGCONT);
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    owner.kill9();
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn an_owner_that_execs_has_died() {
    let lock = lock();
    let _test = support::test(20);
    let mut child = fork(|| {
        std::mem::forget(lock.lock().unwrap());
        let program = c"/bin/true".as_ptr();
        let arguments = [program, std::ptr::null()];
        // SAFETY: a program and a list of arguments that ends with null, both alive.
        unsafe { libc::execv(program, arguments.as_ptr()) };
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn a_thread_that_ends_with_the_lock_has_died() {
    let lock = lock();
    let _test = support::test(20);
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(lock.lock().unwrap()));
    });
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

#[test]
fn a_forked_child_holds_nothing() {
    let lock = lock();
    let _test = support::test(20);
    let mut guard = Some(lock.lock().unwrap());
    let mut child = fork(|| {
        drop(guard.take()); // inert: the parent has the lock
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    drop(guard);
    let mut child = fork(|| drop(lock.lock().unwrap()));
    assert_eq!(child.wait(), Status::Code(0));
    assert!(!lock.lock().unwrap().owner_died());
}

#[test]
fn locking_twice_is_an_error_and_no_deadlock() {
    let lock = lock();
    let _test = support::test(20);
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    assert!(matches!(lock.try_lock(), Err(TryLockError::Failed(LockError::Deadlock))));
    drop(guard);
    assert!(lock.try_lock().is_ok());
}

#[test]
fn a_timeout_covers_the_whole_call() {
    let lock = lock();
    let _test = support::test(20);
    let _owner = holder(&lock);
    let start = Instant::now();
    assert!(matches!(lock.lock_timeout(Duration::from_millis(150)), Err(TryLockError::WouldBlock)));
    assert!((150..400).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(matches!(lock.lock_deadline(start), Err(TryLockError::WouldBlock)));
    assert!(matches!(lock.lock_timeout(Duration::ZERO), Err(TryLockError::WouldBlock)));
}

#[test]
fn a_panic_inside_poisons_as_a_death_does() {
    let lock = lock();
    let _test = support::test(20);
    let copy = lock.clone();
    let panicked = std::thread::spawn(move || {
        let _guard = copy.lock().unwrap();
        std::panic::resume_unwind(Box::new("expected"));
    });
    assert!(panicked.join().is_err());
    assert!(lock.lock().unwrap().owner_died());
}

#[test]
fn unlocking_wakes_a_sleeper_without_the_backstop() {
    let lock = lock();
    let _test = support::test(30);
    let before = rescues();
    for _ in 0..50 {
        let guard = lock.lock().unwrap();
        let mut waiter = fork(|| drop(lock.lock().unwrap()));
        asleep(waiter.pid());
        drop(guard);
        assert_eq!(waiter.wait(), Status::Code(0));
    }
    assert_eq!(rescues(), before);
}

/// Two sleep; the first is woken but does not get a processor, and is killed before it runs again.
#[test]
fn a_woken_waiter_that_dies_passes_the_lock_on() {
    let lock = lock();
    let _test = support::test(30);
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 2) {
        return support::say("skipped: a second processor is needed");
    }
    support::pin(1); // and so are the children, unless they say otherwise
    let runs = shared::<AtomicU32>();
    for _ in 0..5 {
        let guard = lock.lock().unwrap();
        let mut first = fork(|| {
            support::pin(0);
            drop(lock.lock().unwrap());
        });
        asleep(first.pid());
        let mut second = fork(|| drop(lock.lock().unwrap()));
        asleep(second.pid());
        runs.store(0, SeqCst);
        let mut hog = fork(|| occupy_processor(0, runs));
        until(|| runs.load(SeqCst) != 0 || hog.try_wait().is_some());
        if runs.load(SeqCst) == 0 {
            return support::say("skipped: real-time priority is not for us");
        }
        let start = Instant::now();
        drop(guard);
        first.signal(libc::SIGKILL);
        assert_eq!(second.wait(), Status::Code(0));
        assert!(start.elapsed() < Duration::from_millis(60), "{:?}: that was the backstop", start.elapsed());
        hog.kill9();
        first.wait();
    }
}

/// Nobody else runs there, as long as this does.
fn occupy_processor(processor: usize, runs: &AtomicU32) {
    support::pin(processor);
    let priority = libc::sched_param { sched_priority: 10 };
    // SAFETY: a structure of ours, read during the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) } == 0 {
        loop {
            runs.store(1, SeqCst);
        }
    }
}

#[test]
fn four_thousand_locks_of_one_dead_holder_come_back() {
    let _first = lock();
    let _test = support::test(60);
    let descriptors = support::census().len();
    let locks: Vec<_> = (0..4000).map(|_| lock()).collect();
    assert!(support::census().len() < descriptors + 20);
    let held = shared::<AtomicU32>();
    let mut child = fork(|| {
        locks.iter().for_each(|lock| std::mem::forget(lock.lock().unwrap()));
        held.store(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    until(|| held.load(SeqCst) == 1);
    assert!(locks.iter().all(|lock| lock.try_lock().is_err()));
    child.kill9();
    assert!(locks.iter().all(|lock| lock.lock_timeout(LONG).unwrap().owner_died()));
}

#[test]
fn debug_tells_the_owner_without_blocking() {
    let lock = lock();
    let _test = support::test(20);
    assert!(format!("{lock:?}").contains("locked: false"));
    let owner = holder(&lock);
    let text = format!("{lock:?}");
    assert!(text.contains(&format!("owner: Some({})", owner.pid())), "{text}");
}

#[test]
fn signals_do_not_end_a_wait_early() {
    let lock = lock();
    let _test = support::test(30);
    let mut owner = holder(&lock);
    let mut waiter = fork(|| {
        storm_of_alarms();
        let start = Instant::now();
        let refused = lock.lock_timeout(Duration::from_millis(300));
        assert!(matches!(refused, Err(TryLockError::WouldBlock)));
        assert!((300..600).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    });
    assert_eq!(waiter.wait(), Status::Code(0));
    owner.kill9();
}

/// What cleans up while its thread unwinds did not panic itself.
#[test]
fn a_lock_that_is_used_while_unwinding_is_not_poisoned() {
    struct Cleanup<'a>(&'a Lock);
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap());
        }
    }
    let lock = lock();
    let _test = support::test(20);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _cleanup = Cleanup(&lock);
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(unwound.is_err() && !lock.lock().unwrap().owner_died());
    let inside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = lock.lock().unwrap();
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(inside.is_err() && lock.lock().unwrap().owner_died());
}

/// Who cannot read /proc knows nothing, least of all that somebody is dead.
#[test]
fn a_living_holder_stays_one_for_those_without_a_descriptor() {
    let lock = lock();
    let _test = support::test(20);
    let stage = shared::<AtomicU32>();
    let mut holder = fork(|| {
        let _guard = lock.lock().unwrap();
        stage.store(1, SeqCst);
        until(|| stage.load(SeqCst) == 2);
    });
    until(|| stage.load(SeqCst) == 1);
    let mut starved = fork(|| {
        Me::get().unwrap();
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a structure of ours, read during the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
        let refused = lock.lock_timeout(Duration::from_millis(350)); // several backstops
        assert!(matches!(refused, Err(TryLockError::WouldBlock)), "{refused:?}");
    });
    assert_eq!(starved.wait(), Status::Code(0));
    stage.store(2, SeqCst);
    assert_eq!(holder.wait(), Status::Code(0));
    assert!(!lock.lock().unwrap().owner_died());
}

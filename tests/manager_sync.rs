//! Locks, conditions, semaphores, events, barriers and queues of a manager, between processes that are stopped and killed.
#![allow(unsafe_code)] // kill

use std::mem::forget;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::Manager;
use multiprocess::manager::{
    BrokenBarrier, CallError, ConditionError, GetError, LockError, PutFault, Queue, ReleaseError,
    TaskDoneError, TryLockError,
};

use support::{Child, fork, hold, join, shared, shared_slice, until, until_within};

multiprocess::testing!();

const LONG: Duration = Duration::from_secs(10);
/// News of a death, or of anything else, never takes longer.
const NEWS: Duration = Duration::from_millis(250);
/// So long nobody may do what would be wrong.
const WHILE: Duration = Duration::from_millis(30);

/// Waits until so many calls wait in the server.
#[track_caller]
fn waiting(manager: &Manager, calls: u64) {
    until(|| manager.statistics().unwrap().waiting == calls);
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: two numbers; the process is one of this test's and not reaped.
    unsafe { libc::kill(pid as i32, signal) };
}

/// What `f` answers, and how long it took.
fn timed<R>(f: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    (f(), start.elapsed())
}

// Lock.

#[test]
fn dead_owner_hands_lock_over() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let mut owner = hold(|| forget(lock.lock().unwrap()));
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            let guard = lock.lock().unwrap();
            assert!(guard.owner_died());
            Instant::now()
        });
        waiting(&manager, 1);
        let death = Instant::now();
        owner.kill9();
        let time = heir.join().unwrap() - death;
        assert!(time < NEWS, "{time:?}");
    });
    let guard = lock.lock().unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent().unwrap();
    drop(guard);
    assert!(!lock.lock().unwrap().owner_died());
}

#[test]
fn a_dead_owner_keeps_nothing_though_a_copy_of_it_lives() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (lock, copy) = (manager.lock().unwrap(), shared::<AtomicI32>());
    let mut owner = hold(|| {
        forget(lock.lock().unwrap());
        // SAFETY: the copy does nothing but wait for its end.
        match unsafe { libc::fork() } {
            0 => loop {
                thread::park();
            },
            pid => copy.store(pid, SeqCst),
        }
    });
    owner.kill9();
    let (guard, time) = timed(|| lock.lock_timeout(LONG).unwrap());
    assert!(guard.owner_died() && time < NEWS, "{time:?}");
    signal(copy.load(SeqCst) as u32, libc::SIGKILL);
    until(|| is_gone(copy.load(SeqCst)));
}

#[test]
fn stopped_owner_keeps_its_lock() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let owner = hold(|| forget(lock.lock().unwrap()));
    owner.signal(libc::SIGSTOP);
    let (taken, time) = timed(|| lock.lock_timeout(WHILE).is_err());
    assert!(taken && time >= WHILE && time < WHILE + NEWS, "{taken} {time:?}");
}

#[test]
fn waiters_have_the_lock_in_turn_and_the_dead_are_passed_over() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (lock, turn) = (manager.lock().unwrap(), shared::<AtomicU32>());
    let guard = lock.lock().unwrap();
    let mut waiters: Vec<Child> = (0..5)
        .map(|i| {
            let waiter = fork(|| {
                let _guard = lock.lock().unwrap();
                assert_eq!(turn.fetch_add(1, SeqCst), if i < 2 { i } else { i - 1 });
            });
            waiting(&manager, u64::from(i) + 1);
            waiter
        })
        .collect();
    waiters.remove(2).kill9();
    waiting(&manager, 4);
    drop(guard);
    join(waiters);
    assert_eq!(turn.load(SeqCst), 4);
}

#[test]
fn a_lock_is_not_recursive_and_a_copied_guard_holds_nothing() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    let mut guard = Some(guard);
    join([fork(|| {
        drop(guard.take());
        assert!(lock.try_lock().is_err());
    })]);
    assert!(lock.is_locked().unwrap());
    drop(guard);
    assert!(!lock.is_locked().unwrap());
}

#[test]
fn a_panic_with_the_lock_counts_as_a_death() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let panicked = thread::scope(|scope| {
        scope
            .spawn(|| {
                let _guard = lock.lock().unwrap();
                panic!("with the lock");
            })
            .join()
            .is_err()
    });
    assert!(panicked && lock.try_lock().unwrap().owner_died());
}

#[test]
fn levels_of_a_reentrant_lock_belong_to_one_thread() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.reentrant_lock().unwrap();
    let outer = lock.lock().unwrap();
    let inner = lock.lock().unwrap();
    let others_wait = || {
        let thread = thread::scope(|scope| scope.spawn(|| lock.try_lock().is_err()).join().unwrap());
        let mut child = fork(|| assert!(lock.try_lock().is_err()));
        thread && child.wait() == support::Status::Code(0)
    };
    assert!(others_wait());
    drop(outer);
    assert!(others_wait());
    drop(inner);
    let mut owner = hold(|| (0..3).for_each(|_| forget(lock.lock().unwrap())));
    assert!(lock.try_lock().is_err());
    owner.kill9();
    assert!(lock.lock_timeout(NEWS).unwrap().owner_died());
}

// Condition.

#[test]
fn a_notified_waiter_that_dies_passes_it_on() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let condition = manager.condition(&lock).unwrap();
    let woken = shared::<AtomicU32>();
    let mut waiters: Vec<Child> = (0..3)
        .map(|i| {
            let waiter = fork(|| {
                let guard = condition.wait(lock.lock().unwrap()).unwrap();
                woken.fetch_add(1, SeqCst);
                drop(guard);
            });
            waiting(&manager, i + 1);
            waiter
        })
        .collect();
    let guard = lock.lock().unwrap();
    assert_eq!(condition.notify_one().unwrap(), 1);
    waiters.remove(0).kill9(); // it stands in the row of the lock
    waiting(&manager, 2);
    drop(guard);
    let news = until_within(NEWS, || woken.load(SeqCst) == 1);
    assert!(news, "nobody was woken");
    assert!(!until_within(WHILE, || woken.load(SeqCst) != 1));
    assert_eq!(condition.notify_all().unwrap(), 1);
    join(waiters);
    assert_eq!(condition.notify_all().unwrap(), 0);
}

#[test]
fn a_wait_gives_all_levels_back_and_takes_them_again() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.reentrant_lock().unwrap();
    let condition = manager.condition(&lock).unwrap();
    let outer = lock.lock().unwrap();
    let mut inner = lock.lock().unwrap();
    let mut notified;
    for _ in 0..10 {
        let mut notifier = fork(|| {
            let _guard = lock.lock().unwrap();
            condition.notify_one().unwrap();
        });
        (inner, notified) = condition.wait_timeout(inner, LONG).unwrap();
        assert!(notified);
        notifier.wait();
        (inner, notified) = condition.wait_timeout(inner, WHILE).unwrap();
        assert!(!notified);
    }
    drop(inner);
    assert!(thread::scope(|scope| scope.spawn(|| lock.try_lock().is_err()).join().unwrap()));
    drop(outer);
    join([fork(|| drop(lock.try_lock().unwrap()))]);
}

#[test]
fn a_condition_is_of_one_lock() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (lock, other) = (manager.lock().unwrap(), manager.lock().unwrap());
    let condition = manager.condition_named("changed", &lock).unwrap();
    assert!(manager.condition_named("changed", &other).is_err());
    assert_eq!(manager.condition_named("changed", &lock).unwrap(), condition);
    let refused = condition.wait(other.lock().unwrap());
    assert!(matches!(refused, Err(ConditionError::OtherLock(_))));
}

/// As a bounded buffer of one place.
#[test]
fn predicates_meet_over_a_condition() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let lock = manager.lock().unwrap();
    let condition = manager.condition(&lock).unwrap();
    let (turn, sum) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let players: Vec<Child> = (0..4)
        .map(|me| {
            fork(|| {
                for _ in 0..25 {
                    let guard = lock.lock().unwrap();
                    let guard = condition.wait_for(guard, |_| turn.load(SeqCst) % 4 == me).unwrap();
                    sum.fetch_add(1, SeqCst);
                    turn.fetch_add(1, SeqCst);
                    condition.notify_all().unwrap();
                    drop(guard);
                }
            })
        })
        .collect();
    join(players);
    assert_eq!(sum.load(SeqCst), 100);
}

// Semaphore, event, barrier.

#[test]
fn permits_of_the_dead_come_back() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let semaphore = manager.bounded_semaphore(3).unwrap();
    assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    let mut holder = hold(|| (0..3).for_each(|_| forget(semaphore.acquire().unwrap())));
    assert!(semaphore.try_acquire().is_err());
    thread::scope(|scope| {
        let heir = scope.spawn(|| {
            let _permit = semaphore.acquire().unwrap();
            Instant::now()
        });
        waiting(&manager, 1);
        let death = Instant::now();
        holder.kill9();
        assert!(heir.join().unwrap() - death < NEWS);
    });
    assert_eq!(semaphore.value().unwrap(), 3);
    semaphore.acquire().unwrap().forget().unwrap();
    assert_eq!(semaphore.value().unwrap(), 2);
    semaphore.release().unwrap();
    assert!(semaphore.release().is_err());
}

#[test]
fn sixty_four_waiters_wake_at_once() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (event, lock) = (manager.event().unwrap(), manager.lock().unwrap());
    let guard = lock.lock().unwrap();
    let crowd = || {
        thread::scope(|scope| {
            for i in 0..16 {
                let (event, lock) = (&event, &lock);
                scope.spawn(
                    move || if i % 2 == 0 { event.wait().unwrap() } else { drop(lock.lock().unwrap()) },
                );
            }
        });
    };
    let crowds: Vec<Child> = (0..4).map(|_| fork(crowd)).collect();
    waiting(&manager, 64);
    event.set().unwrap();
    waiting(&manager, 32);
    drop(guard);
    join(crowds);
    assert!(event.is_set().unwrap() && !lock.is_locked().unwrap());
    assert!(event.wait_timeout(Duration::ZERO).unwrap());
    event.clear().unwrap();
    assert!(!event.wait_timeout(WHILE).unwrap());
}

#[test]
fn each_party_of_a_round_has_another_index() {
    const PARTIES: usize = 4;
    const ROUNDS: usize = 50;
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier(PARTIES).unwrap();
    let seen = shared_slice::<AtomicU8>(ROUNDS * PARTIES);
    let party = || {
        for round in 0..ROUNDS {
            let index = barrier.wait().unwrap().index();
            seen[round * PARTIES + index].fetch_add(1, SeqCst);
        }
    };
    join((0..PARTIES).map(|_| fork(party)));
    assert!(seen.iter().all(|count| count.load(SeqCst) == 1));
}

#[test]
fn a_party_that_is_killed_breaks_the_barrier() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let barrier = manager.barrier(3).unwrap();
    let mut victim = fork(|| drop(barrier.wait()));
    waiting(&manager, 1);
    let pid = victim.pid() as u32;
    thread::scope(|scope| {
        let other = scope.spawn(|| (barrier.wait(), Instant::now()));
        waiting(&manager, 2);
        let death = Instant::now();
        victim.kill9();
        let (broken, news) = other.join().unwrap();
        assert!(matches!(broken, Err(BrokenBarrier::Died { pid: who }) if who == pid), "{broken:?}");
        assert!(news - death < NEWS);
    });
    assert!(matches!(barrier.wait(), Err(BrokenBarrier::Died { .. })));
    assert!(barrier.broken().unwrap() && barrier.repair().unwrap() && !barrier.repair().unwrap());
    let (late, time) = timed(|| barrier.wait_timeout(WHILE));
    assert!(matches!(late, Err(BrokenBarrier::TimedOut)) && time < WHILE + NEWS);
    barrier.reset().unwrap();
    barrier.abort().unwrap();
    assert!(matches!(barrier.wait(), Err(BrokenBarrier::Aborted)));
}

// Queue.

#[test]
fn what_producers_put_consumers_get_once() {
    const EACH: u32 = 250;
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let queue: Queue<Option<u32>> = manager.queue(Some(10)).unwrap();
    let seen = shared_slice::<AtomicU8>(4 * EACH as usize);
    let consumers: Vec<Child> = (0..4)
        .map(|_| {
            fork(|| {
                while let Some(item) = queue.get().unwrap() {
                    seen[item as usize].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    join((0..4).map(|i| fork(|| (i * EACH..(i + 1) * EACH).for_each(|item| queue.put(Some(item)).unwrap()))));
    (0..4).for_each(|_| queue.put(None).unwrap());
    join(consumers);
    assert!(seen.iter().all(|count| count.load(SeqCst) == 1));
    assert!(queue.is_empty().unwrap());
}

#[test]
fn an_item_that_the_dead_did_not_hear_of_comes_to_the_next() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (items, tasks) = (manager.queue(None).unwrap(), manager.joinable_queue(None).unwrap());
    for queue in [&items, &*tasks] {
        let queue: &Queue<u8> = queue;
        let mut getter = fork(|| _ = queue.get().unwrap());
        waiting(&manager, 1);
        getter.signal(libc::SIGSTOP);
        queue.put(7).unwrap();
        waiting(&manager, 0); // the answer lies before it
        assert!(queue.is_empty().unwrap());
        getter.kill9();
        assert_eq!(queue.get_timeout(LONG).unwrap(), 7);
    }
    assert_eq!((tasks.unfinished().unwrap(), tasks.abandoned().unwrap()), (1, 0));
}

#[test]
fn a_bounded_queue_waits_and_says_so() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let queue: Queue<String> = manager.queue(Some(1)).unwrap();
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(queue.get_timeout(WHILE), Err(GetError::TimedOut)));
    queue.put("one".into()).unwrap();
    let full = queue.try_put("two".into()).unwrap_err();
    assert!(matches!(full.fault, PutFault::Full) && full.value == "two");
    let (late, time) = timed(|| queue.put_timeout("two".into(), WHILE));
    assert!(matches!(late.unwrap_err().fault, PutFault::TimedOut) && time < WHILE + NEWS);
    let mut dead = fork(|| queue.put("of the dead".into()).unwrap());
    waiting(&manager, 1);
    dead.kill9();
    waiting(&manager, 0);
    assert_eq!((queue.len().unwrap(), queue.capacity().unwrap()), (1, Some(1)));
    assert_eq!(queue.get().unwrap(), "one");
    assert!(queue.is_empty().unwrap());
    queue.put("last".into()).unwrap();
    queue.shutdown().unwrap();
    assert!(matches!(queue.put("late".into()).unwrap_err().fault, PutFault::ShutDown));
    assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), ["last"]);
}

#[test]
fn many_items_go_in_one_trip() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let queue = manager.queue::<(u32, String)>(Some(3000)).unwrap();
    let item = |i: u32| (i, "x".repeat(i as usize % 500));
    let consumer = fork(|| {
        let mut next = 0;
        while let Ok(items) = queue.get_many(700) {
            for got in items {
                assert_eq!(got, item(next));
                next += 1;
            }
        }
        assert_eq!(next, 10_000);
    });
    queue.put_many((0..10_000).map(item).collect()).unwrap();
    queue.shutdown().unwrap();
    join([consumer]);
    let refused = queue.put_many(vec![item(1)]).unwrap_err();
    assert!(matches!(refused.fault, PutFault::ShutDown) && refused.rest.len() == 1);
    let small = manager.queue::<u8>(Some(2)).unwrap();
    let full = small.try_put_many(vec![1, 2, 3]).unwrap_err();
    assert!(matches!(full.fault, PutFault::Full) && (full.put, &full.rest) == (2, &vec![3]));
    assert_eq!((small.try_get_many(9).unwrap(), small.try_get_many(9).is_err()), (vec![1, 2], true));
}

#[test]
fn join_waits_for_what_the_living_took() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let queue = manager.joinable_queue::<u32>(None).unwrap();
    (0..100).for_each(|item| queue.put(item).unwrap());
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    let mut taker = hold(|| (0..3).for_each(|_| _ = queue.get().unwrap()));
    let worker = fork(|| {
        while queue.try_get().is_ok() {
            queue.task_done().unwrap();
        }
    });
    join([worker]);
    assert!(!queue.join_timeout(WHILE).unwrap());
    thread::scope(|scope| {
        let joined = scope.spawn(|| {
            queue.join().unwrap();
            Instant::now()
        });
        waiting(&manager, 1);
        let death = Instant::now();
        taker.kill9();
        assert!(joined.join().unwrap() - death < NEWS);
    });
    assert_eq!((queue.unfinished().unwrap(), queue.abandoned().unwrap()), (0, 3));
}

// The server.

#[test]
fn a_stopped_server_delays_no_time_limit_and_loses_nothing() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (lock, semaphore) = (manager.lock().unwrap(), manager.semaphore(1).unwrap());
    let (event, queue) = (manager.event().unwrap(), manager.queue::<u32>(None).unwrap());
    let barrier = manager.barrier(1).unwrap();
    queue.put(7).unwrap();
    let held = manager.lock().unwrap();
    let guard = held.lock().unwrap();
    signal(manager.pid(), libc::SIGSTOP);
    let calls: [(&str, &dyn Fn() -> bool); 6] = [
        ("lock", &|| lock.lock_timeout(WHILE).is_err()),
        ("try_lock", &|| lock.try_lock().is_err()),
        ("semaphore", &|| semaphore.acquire_timeout(WHILE).is_err()),
        ("event", &|| matches!(event.wait_timeout(WHILE), Err(CallError::TimedOut))),
        ("queue", &|| matches!(queue.get_timeout(WHILE), Err(GetError::Call(CallError::TimedOut)))),
        ("barrier", &|| barrier.wait_timeout(WHILE).is_err()),
    ];
    for (what, call) in calls {
        let (failed, time) = timed(call);
        assert!(failed && time < WHILE + NEWS, "{what}: {failed} {time:?}");
    }
    let ((), time) = timed(|| drop(guard));
    assert!(time < 2 * NEWS, "drop: {time:?}");
    signal(manager.pid(), libc::SIGCONT);
    assert_eq!(queue.get_timeout(LONG).unwrap(), 7);
    until(|| !held.is_locked().unwrap() && !lock.is_locked().unwrap());
    until(|| semaphore.value().unwrap() == 1);
    assert!(!lock.try_lock().unwrap().owner_died() && !held.try_lock().unwrap().owner_died());
    assert_eq!(manager.statistics().unwrap().clients, 1);
}

#[test]
fn a_stopped_server_hears_of_what_was_given_back_when_it_goes_on() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let semaphore = manager.bounded_semaphore_named("permits", 50).unwrap();
    let mut other = hold(|| {
        let permits: Vec<_> = (0..50).map(|_| semaphore.acquire().unwrap()).collect();
        signal(manager.pid(), libc::SIGSTOP);
        let ((), time) = timed(|| drop(permits));
        assert!(time < 4 * NEWS, "it waits a moment, and not for each: {time:?}");
        signal(manager.pid(), libc::SIGCONT);
    }); // it lives, and calls no more
    until(|| semaphore.value().unwrap() == 50);
    other.kill9();
}

#[test]
fn a_killed_server_ends_all_waiting() {
    let _test = support::test(60);
    let manager = Manager::start().unwrap();
    let (lock, semaphore) = (manager.lock().unwrap(), manager.semaphore(0).unwrap());
    let (event, queue) = (manager.event().unwrap(), manager.joinable_queue::<u32>(None).unwrap());
    let (barrier, other) = (manager.barrier(2).unwrap(), manager.lock().unwrap());
    let condition = manager.condition(&other).unwrap();
    let guard = lock.lock().unwrap();
    queue.put(1).unwrap();
    queue.get().unwrap();
    let calls: [(&str, &(dyn Fn() -> bool + Sync)); 7] = [
        ("lock", &|| matches!(lock.lock(), Err(LockError::Call(CallError::ServerDied)))),
        ("semaphore", &|| matches!(semaphore.acquire(), Err(CallError::ServerDied))),
        ("event", &|| matches!(event.wait(), Err(CallError::ServerDied))),
        ("queue", &|| matches!(queue.get(), Err(GetError::Call(CallError::ServerDied)))),
        ("join", &|| matches!(queue.join(), Err(CallError::ServerDied))),
        ("barrier", &|| matches!(barrier.wait(), Err(BrokenBarrier::Call(CallError::ServerDied)))),
        ("condition", &|| {
            let lost = condition.wait(other.lock().unwrap());
            matches!(lost, Err(ConditionError::LockLost(CallError::ServerDied)))
        }),
    ];
    thread::scope(|scope| {
        let waiters: Vec<_> =
            calls.map(|(what, call)| scope.spawn(move || (what, call(), Instant::now()))).into();
        waiting(&manager, 7);
        let death = Instant::now();
        signal(manager.pid(), libc::SIGKILL);
        for waiter in waiters {
            let (what, died, news) = waiter.join().unwrap();
            assert!(died && news - death < NEWS, "{what}: {died} {:?}", news - death);
        }
    });
    assert!(condition.wait(guard).is_err());
    assert!(lock.try_lock().is_err());
}

// Random deaths.

/// Whether nothing of a process is left but what its parent has to reap.
fn is_gone(pid: i32) -> bool {
    matches!(support::procfs::state(pid), None | Some('Z' | 'X'))
}

/// What workers of one test did.
#[derive(Default)]
struct Account {
    /// The process inside the lock.
    owner: AtomicI32,
    double: AtomicU64,
    over: AtomicU64,
    done: AtomicU64,
}

#[test]
fn random_deaths_leave_locks_and_permits_whole() {
    let _test = support::test(120);
    let manager = Manager::start().unwrap();
    let (lock, semaphore) = (manager.lock().unwrap(), manager.bounded_semaphore(2).unwrap());
    let account = shared::<Account>();
    let slots = shared_slice::<AtomicI32>(2);
    let work = |_| {
        let me = std::process::id() as i32;
        loop {
            let guard = lock.lock().unwrap();
            let before = account.owner.swap(me, SeqCst);
            let left_by_the_dead = guard.owner_died();
            if before != 0 && !left_by_the_dead {
                account.double.fetch_add(1, SeqCst);
            }
            if left_by_the_dead {
                guard.mark_consistent().unwrap();
            }
            let changed = account.owner.swap(0, SeqCst) != me;
            account.double.fetch_add(changed.into(), SeqCst);
            drop(guard);
            let permit = semaphore.acquire().unwrap();
            // A slot whose process is dead is free: with a permit there is one.
            let take = |slot: &&AtomicI32| {
                let who = slot.load(SeqCst);
                (who == 0 || is_gone(who)) && slot.compare_exchange(who, me, SeqCst, SeqCst).is_ok()
            };
            let mut slot = None;
            if !until_within(LONG, || {
                slot = slots.iter().find(take);
                slot.is_some()
            }) {
                account.over.fetch_add(1, SeqCst);
            }
            slot.iter().for_each(|slot| slot.store(0, SeqCst));
            drop(permit);
            account.done.fetch_add(1, SeqCst);
        }
    };
    let plan = support::chaos::Plan { workers: 6, kills: 300, seed: support::seed() };
    let report = plan.run(work, || account.done.load(SeqCst));
    drop(report.workers);
    assert!(!report.hang && report.stall < 4 * NEWS, "{:?}", report.stall);
    let wrong = (account.double.load(SeqCst), account.over.load(SeqCst));
    assert_eq!(wrong, (0, 0), "double owners, and permits over the limit; seed {}", report.seed);
    until(|| semaphore.value().unwrap() == 2 && !lock.is_locked().unwrap());
    until(|| manager.statistics().unwrap().clients == 1);
}

#[test]
fn random_deaths_take_along_one_item_at_most() {
    const MOST: usize = 1 << 20;
    let _test = support::test(120);
    let manager = Manager::start().unwrap();
    let queue = manager.joinable_queue::<usize>(Some(50)).unwrap();
    let (next, done) = (shared::<AtomicU64>(), shared::<AtomicU64>());
    let (put, seen) = (shared_slice::<AtomicU8>(MOST), shared_slice::<AtomicU8>(MOST));
    let work = |i: usize| {
        loop {
            if i < 2 {
                let item = next.fetch_add(1, SeqCst) as usize;
                queue.put(item).unwrap();
                put[item].store(1, SeqCst);
            } else {
                seen[queue.get().unwrap()].fetch_add(1, SeqCst);
                queue.task_done().unwrap();
            }
            done.fetch_add(1, SeqCst);
        }
    };
    let plan = support::chaos::Plan { workers: 5, kills: 300, seed: support::seed() };
    let report = plan.run(work, || done.load(SeqCst));
    assert!(!report.hang, "{report}");
    drop(report.workers);
    until(|| manager.statistics().unwrap().clients == 1);
    while let Ok(item) = queue.try_get() {
        seen[item].fetch_add(1, SeqCst);
        queue.task_done().unwrap();
    }
    let times = |times: u8| move |seen: &AtomicU8| seen.load(SeqCst) == times;
    assert!(seen.iter().all(|seen| seen.load(SeqCst) <= 1), "twice; seed {}", report.seed);
    let lost = put.iter().zip(seen).filter(|(put, seen)| times(1)(put) && times(0)(seen)).count() as u64;
    let deaths = report.kills[2..].iter().sum::<u64>() + 3;
    assert!(lost <= deaths, "{lost} items are lost after {deaths} deaths; seed {}", report.seed);
    assert_eq!(queue.unfinished().unwrap(), 0);
    assert!(queue.join_timeout(Duration::ZERO).unwrap());
}

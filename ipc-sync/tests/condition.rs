//! What `Condition` promises, with real processes that stop and die in their wait.
#![allow(unsafe_code)]

use std::mem::forget;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bincode::config::standard;
use bincode::serde::{decode_from_slice, encode_to_vec};
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_sync::{Condition, ConditionError, Lock, LockGuard, ReentrantLock, TryLockError};

use support::{Child, asleep, fork, join, shared, storm_of_alarms, until, until_within};

const LONG: Duration = Duration::from_secs(10);
/// News of a death, or of anything else, never takes longer.
const NEWS: Duration = Duration::from_millis(250);
/// So long nobody may do what would be wrong.
const WHILE: Duration = Duration::from_millis(30);

/// A lock and its condition, made before the leak oracle looks: their arenas and the registry stay for the process.
#[derive(Clone)]
struct Room {
    lock: Lock,
    condition: Condition,
}

fn room() -> Room {
    Room { lock: Lock::new().unwrap(), condition: Condition::new().unwrap() }
}

impl Room {
    /// A child that waits once and counts itself when it was notified.
    fn waiter(&self, woken: &'static AtomicU32) -> Child {
        fork(|| {
            let guard = self.condition.wait(self.lock.lock().unwrap()).unwrap();
            woken.fetch_add(1, SeqCst);
            drop(guard);
        })
    }

    /// So many waiters, all asleep, in the order in which they came.
    fn waiters(&self, count: usize, woken: &'static AtomicU32) -> Vec<Child> {
        let one = |_| {
            let waiter = self.waiter(woken);
            asleep(waiter.pid());
            waiter
        };
        (0..count).map(one).collect()
    }

    fn says(&self, text: &str) -> bool {
        format!("{:?}", self.condition).contains(text)
    }
}

#[test]
fn notify_all_wakes_all() {
    let room = room();
    let _test = support::test(60);
    for _ in 0..20 {
        let woken = shared::<AtomicU32>();
        let waiters = room.waiters(8, woken);
        assert_eq!(room.condition.notify_all().unwrap(), 8);
        join(waiters);
        assert_eq!(woken.load(SeqCst), 8);
    }
}

#[test]
fn a_number_of_the_oldest_is_notified_and_no_more() {
    let room = room();
    let _test = support::test(60);
    let woken = shared::<AtomicU32>();
    let mut waiters = room.waiters(5, woken);
    let others = waiters.split_off(2);
    assert_eq!(room.condition.notify(2).unwrap(), 2);
    join(waiters);
    assert!(!until_within(WHILE, || woken.load(SeqCst) != 2), "{woken:?}");
    assert_eq!(room.condition.notify_one().unwrap(), 1);
    until(|| woken.load(SeqCst) == 3);
    assert_eq!(room.condition.notify(9).unwrap(), 2);
    join(others);
    assert_eq!(woken.load(SeqCst), 5);
}

#[test]
fn a_notification_that_meets_nobody_is_gone() {
    let room = room();
    let _test = support::test(20);
    assert_eq!(room.condition.notify_all().unwrap(), 0);
    assert_eq!(room.condition.notify(0).unwrap(), 0);
    let (guard, notified) = room.condition.wait_timeout(room.lock.lock().unwrap(), WHILE).unwrap();
    assert!(!notified);
    assert!(matches!(room.lock.lock(), Err(ipc_sync::LockError::Deadlock)), "the lock was taken back");
    drop(guard);
}

#[test]
fn one_of_four_dies_and_the_other_three_wake() {
    let room = room();
    let _test = support::test(300);
    let woken = shared::<AtomicU32>();
    for round in 0..1000 {
        woken.store(0, SeqCst);
        let mut waiters: Vec<_> = (0..4).map(|_| room.waiter(woken)).collect();
        until(|| room.says("waiters: 4"));
        waiters.remove(round % 4).kill9();
        assert_eq!(room.condition.notify(3).unwrap(), 3);
        let all = until_within(NEWS * 4, || woken.load(SeqCst) == 3);
        assert!(all, "round {round}: {woken:?} of 3 woke");
        join(waiters);
    }
}

#[test]
fn a_notifier_never_waits_for_the_dead() {
    let room = room();
    let _test = support::test(60);
    let woken = shared::<AtomicU32>();
    for _ in 0..40 {
        room.waiters(4, woken).iter_mut().for_each(|waiter| _ = waiter.kill9());
        let start = Instant::now();
        assert_eq!(room.condition.notify_all().unwrap(), 0);
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        let (_guard, notified) =
            room.condition.wait_timeout(room.lock.lock().unwrap(), Duration::ZERO).unwrap();
        assert!(!notified, "what the dead were given is nobody's");
    }
    assert_eq!(woken.load(SeqCst), 0);
}

#[test]
fn a_notification_taken_by_the_dying_reaches_another() {
    let room = room();
    let _test = support::test(60);
    for dying in [1, 2] {
        for _ in 0..20 {
            let woken = shared::<AtomicU32>();
            let mut waiters = room.waiters(4, woken);
            let others = waiters.split_off(dying);
            for waiter in &waiters {
                waiter.signal(libc::SIGSTOP);
                until(|| support::procfs::state(waiter.pid()) == Some('T'));
            }
            assert_eq!(room.condition.notify(dying).unwrap(), dying);
            assert!(!until_within(WHILE / 10, || woken.load(SeqCst) != 0), "the stopped keep it");
            let start = Instant::now();
            waiters.iter_mut().for_each(|waiter| _ = waiter.kill9());
            until(|| woken.load(SeqCst) == dying as u32);
            assert!(start.elapsed() < NEWS, "{:?}", start.elapsed());
            assert!(!until_within(WHILE / 10, || woken.load(SeqCst) != dying as u32));
            room.condition.notify_all().unwrap();
            join(others);
        }
    }
}

/// It was notified and waits for the lock: still in its wait.
#[test]
fn a_death_in_the_queue_for_the_lock_is_a_death_in_the_wait() {
    let room = room();
    let _test = support::test(30);
    let woken = shared::<AtomicU32>();
    let mut waiters = room.waiters(2, woken);
    let guard = room.lock.lock().unwrap();
    room.condition.notify_one().unwrap();
    until(|| format!("{:?}", room.lock).contains("waiters: true"));
    waiters.remove(0).kill9();
    drop(guard);
    join(waiters);
    assert_eq!(woken.load(SeqCst), 1);
}

#[test]
fn who_came_later_does_not_inherit() {
    let room = room();
    let _test = support::test(30);
    let woken = shared::<AtomicU32>();
    let mut first = room.waiters(1, woken).remove(0);
    first.signal(libc::SIGSTOP);
    until(|| support::procfs::state(first.pid()) == Some('T'));
    assert_eq!(room.condition.notify_one().unwrap(), 1);
    let later = room.waiters(2, woken);
    first.kill9();
    assert!(!until_within(WHILE, || woken.load(SeqCst) != 0), "it was notified of what was before it came");
    assert_eq!(room.condition.notify_all().unwrap(), 2);
    join(later);
}

#[test]
fn a_stopped_waiter_keeps_its_notification() {
    let room = room();
    let _test = support::test(30);
    let woken = shared::<AtomicU32>();
    let mut waiters = room.waiters(2, woken);
    waiters[0].signal(libc::SIGSTOP);
    until(|| support::procfs::state(waiters[0].pid()) == Some('T'));
    room.condition.notify_one().unwrap();
    assert!(!until_within(Duration::from_secs(1), || woken.load(SeqCst) != 0));
    waiters[0].signal(libc::SIGCONT);
    join([waiters.remove(0)]);
    assert_eq!(woken.load(SeqCst), 1);
    room.condition.notify_one().unwrap();
    join(waiters);
}

#[test]
fn the_lock_is_free_during_the_wait_and_held_after_it() {
    let room = room();
    let _test = support::test(20);
    let (inside, woken) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                let guard = room.condition.wait(room.lock.lock().unwrap()).unwrap();
                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                std::thread::yield_now();
                inside.fetch_sub(1, SeqCst);
                woken.fetch_add(1, SeqCst);
                drop(guard);
            })
        })
        .collect();
    until(|| room.says("waiters: 4"));
    let guard = room.lock.lock().unwrap();
    assert_eq!(room.condition.notify_all().unwrap(), 4);
    assert!(!until_within(WHILE, || woken.load(SeqCst) != 0), "the lock is held");
    drop(guard);
    join(waiters);
}

#[test]
fn all_levels_are_given_back_and_taken_again() {
    let lock = ReentrantLock::new().unwrap();
    let condition = Condition::new().unwrap();
    let _test = support::test(20);
    let ready = shared::<AtomicBool>();
    let waiter = fork(|| {
        let _outer = lock.lock().unwrap();
        let _middle = lock.lock().unwrap();
        let guard = condition.wait_for(lock.lock().unwrap(), |_| ready.load(SeqCst)).unwrap();
        assert!(format!("{lock:?}").contains("depth: 3"), "{lock:?}");
        drop(guard);
    });
    asleep(waiter.pid());
    let guard = lock.lock_timeout(LONG).expect("a waiter holds no level");
    ready.store(true, SeqCst);
    condition.notify_one().unwrap();
    drop(guard);
    join([waiter]);
    assert!(!lock.try_lock().unwrap().owner_died());
}

#[test]
fn a_holder_that_dies_during_the_wait_is_told_of() {
    let room = room();
    let _test = support::test(20);
    let waiter = fork(|| {
        let guard = room.condition.wait(room.lock.lock().unwrap()).unwrap();
        assert!(guard.owner_died());
        guard.mark_consistent();
    });
    asleep(waiter.pid());
    fork(|| forget(room.lock.lock().unwrap())).wait();
    room.condition.notify_one().unwrap();
    join([waiter]);
    fork(|| forget(room.lock.lock().unwrap())).wait();
    let guard = room.lock.lock().unwrap();
    guard.mark_consistent();
    fork(|| ()).wait();
    let (guard, notified) = room.condition.wait_timeout(guard, WHILE).unwrap();
    assert!(!notified && !guard.owner_died());
}

#[test]
fn timeouts_are_exact() {
    let room = room();
    let _test = support::test(30);
    let mut guard = room.lock.lock().unwrap();
    for milliseconds in [0, 1, 50, 150, 320] {
        let (start, timeout) = (Instant::now(), Duration::from_millis(milliseconds));
        let result = room.condition.wait_timeout(guard, timeout).unwrap();
        assert!(!result.1);
        guard = result.0;
        assert!(
            (timeout..timeout + Duration::from_millis(40)).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }
    let start = Instant::now();
    guard = room.condition.wait_deadline(guard, start).unwrap().0;
    guard = room.condition.wait_deadline(guard, start + WHILE).unwrap().0;
    assert!((WHILE..WHILE * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    drop(guard);
}

/// The time is up, but the lock is not to be had: the wait goes on, and a notification counts.
#[test]
fn a_timeout_does_not_cover_taking_the_lock_again() {
    let room = room();
    let _test = support::test(20);
    let told = shared::<AtomicU32>();
    let waiter = fork(|| {
        let (guard, notified) = room.condition.wait_timeout(room.lock.lock().unwrap(), WHILE).unwrap();
        told.store(1 + u32::from(notified), SeqCst);
        drop(guard);
    });
    until(|| room.says("waiters: 1"));
    let guard = room.lock.lock().unwrap();
    until(|| format!("{:?}", room.lock).contains("waiters: true"));
    assert_eq!(told.load(SeqCst), 0);
    assert_eq!(room.condition.notify_one().unwrap(), 1);
    drop(guard);
    join([waiter]);
    assert_eq!(told.load(SeqCst), 2);
}

#[test]
fn a_predicate_is_waited_for_through_many_notifications() {
    let room = room();
    let _test = support::test(30);
    let (count, looks) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let waiter = fork(|| {
        let holds = |_: &LockGuard<'_>| {
            looks.fetch_add(1, SeqCst);
            count.load(SeqCst) == 5
        };
        let guard = room.condition.wait_for(room.lock.lock().unwrap(), holds).unwrap();
        assert_eq!(count.load(SeqCst), 5);
        let guard = room.condition.wait_for(guard, |_| true).unwrap();
        drop(guard);
    });
    for round in 1..=5 {
        until(|| looks.load(SeqCst) == round && room.says("waiters: 1"));
        let _guard = room.lock.lock().unwrap();
        count.fetch_add(1, SeqCst);
        room.condition.notify_one().unwrap();
    }
    join([waiter]);
    assert_eq!(looks.load(SeqCst), 6);
}

#[test]
fn a_predicate_has_one_deadline_in_all() {
    let room = room();
    let _test = support::test(30);
    let over = shared::<AtomicBool>();
    let nag = fork(|| {
        while !over.load(SeqCst) {
            room.condition.notify_all().unwrap();
            std::thread::yield_now();
        }
    });
    let (start, timeout) = (Instant::now(), Duration::from_millis(200));
    let guard = room.lock.lock().unwrap();
    let (guard, holds) = room.condition.wait_for_timeout(guard, timeout, |_| false).unwrap();
    assert!(!holds && (200..300).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let end = Instant::now() + WHILE;
    let (guard, holds) = room.condition.wait_for_deadline(guard, end, |_| Instant::now() > end).unwrap();
    assert!(holds, "the predicate has the last word");
    over.store(true, SeqCst);
    drop(guard);
    join([nag]);
}

#[test]
fn who_gave_up_is_not_notified_and_breaks_no_chain() {
    let room = room();
    let _test = support::test(30);
    let woken = shared::<AtomicU32>();
    let mut first = room.waiters(1, woken).remove(0);
    let second = fork(|| {
        let (_guard, notified) = room.condition.wait_timeout(room.lock.lock().unwrap(), WHILE).unwrap();
        assert!(!notified);
    });
    until(|| room.says("waiters: 2"));
    let third = room.waiters(1, woken);
    join([second]);
    first.signal(libc::SIGSTOP);
    until(|| support::procfs::state(first.pid()) == Some('T'));
    assert_eq!(room.condition.notify_one().unwrap(), 1);
    let start = Instant::now();
    first.kill9();
    join(third);
    assert!(start.elapsed() < NEWS / 3, "{:?}: the third did not watch the first", start.elapsed());
}

#[test]
fn no_timeout_is_late_beside_a_process_stopped_anywhere_inside() {
    let (room, own) = (room(), Lock::new().unwrap());
    let _test = support::test(60);
    let woken = shared::<AtomicU32>();
    let first = room.waiters(1, woken);
    let mut busy = fork(|| {
        loop {
            let _ = room.condition.notify(0); // in the table nearly all the time
        }
    });
    let mut rng = support::Rng::new(1);
    for _ in 0..100 {
        let pause = Instant::now();
        until(|| pause.elapsed() > Duration::from_micros(1000 + rng.below(300)));
        busy.signal(libc::SIGSTOP);
        until(|| support::procfs::state(busy.pid()) == Some('T'));
        let start = Instant::now();
        let (_, notified) =
            room.condition.wait_timeout(own.lock().unwrap(), Duration::from_millis(5)).unwrap();
        assert!(!notified);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        busy.signal(libc::SIGCONT);
    }
    busy.kill9();
    let others = room.waiters(3, woken);
    assert_eq!(room.condition.notify_all().unwrap(), 4, "who left without the leaf lock is not in the way");
    join(first.into_iter().chain(others));
}

/// The table cannot be entered while it is stopped: those inside leave all the same, and whoever comes next finds it
/// in order.
#[test]
fn who_leaves_beside_a_stopped_process_takes_no_notification_along() {
    let room = room();
    let _test = support::test(60);
    let woken = shared::<AtomicU32>();
    let mut busy = fork(|| {
        loop {
            let _ = room.condition.notify(0);
        }
    });
    for _ in 0..12 {
        woken.store(0, SeqCst);
        let lock = Lock::clone(&room.lock);
        let early = fork(|| {
            let timeout = Duration::from_millis(300);
            let (_guard, notified) = room.condition.wait_timeout(lock.lock().unwrap(), timeout).unwrap();
            assert!(!notified);
        });
        asleep(early.pid());
        let late = room.waiters(1, woken);
        busy.signal(libc::SIGSTOP);
        join([early]);
        busy.signal(libc::SIGCONT);
        assert_eq!(room.condition.notify_one().unwrap(), 1);
        join(late);
        assert_eq!(woken.load(SeqCst), 1);
    }
    busy.kill9();
}

#[test]
fn signals_do_not_end_a_wait() {
    let room = room();
    let _test = support::test(30);
    let woken = shared::<AtomicU32>();
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                storm_of_alarms();
                let start = Instant::now();
                let (guard, notified) = room
                    .condition
                    .wait_timeout(room.lock.lock().unwrap(), Duration::from_millis(300))
                    .unwrap();
                assert!(
                    !notified && (300..600).contains(&start.elapsed().as_millis()),
                    "{:?}",
                    start.elapsed()
                );
                woken.fetch_add(1, SeqCst);
                let guard = room.condition.wait(guard).unwrap();
                drop(guard);
            })
        })
        .collect();
    until(|| woken.load(SeqCst) == 2 && room.says("waiters: 2"));
    assert_eq!(room.condition.notify(2).unwrap(), 2);
    join(waiters);
}

#[test]
fn a_guard_that_fork_copied_cannot_wait() {
    let room = room();
    let levels = ReentrantLock::new().unwrap();
    let _test = support::test(60);
    for _ in 0..100 {
        let (mut guard, mut level) = (Some(room.lock.lock().unwrap()), Some(levels.lock().unwrap()));
        let child = fork(|| {
            let refused = room.condition.wait(guard.take().unwrap());
            assert!(matches!(refused, Err(ConditionError::NotHeld(_))));
            let refused = room.condition.wait(level.take().unwrap());
            assert!(matches!(refused, Err(ConditionError::NotHeld(_))));
            drop(refused.unwrap_err().into_guard());
            assert!(matches!(room.lock.try_lock(), Err(TryLockError::WouldBlock)));
            assert!(matches!(levels.try_lock(), Err(TryLockError::WouldBlock)));
        });
        join([child]);
        drop((guard, level));
        assert!(!room.lock.try_lock().unwrap().owner_died());
    }
}

#[test]
fn sixty_four_wait_and_one_more_gets_its_guard_back() {
    let room = room();
    let _test = support::test(60);
    let woken = shared::<AtomicU32>();
    let mut waiters: Vec<_> = (0..64).map(|_| room.waiter(woken)).collect();
    until(|| room.says("waiters: 64"));
    let refused = room.condition.wait_timeout(room.lock.lock().unwrap(), LONG).unwrap_err();
    assert!(matches!(refused, ConditionError::TooManyWaiters(_)));
    let guard = refused.into_guard().unwrap();
    assert!(matches!(room.lock.lock(), Err(ipc_sync::LockError::Deadlock)), "it is still held");
    waiters.remove(20).kill9();
    let (guard, notified) = room.condition.wait_timeout(guard, WHILE).unwrap(); // the place of the dead
    assert!(!notified);
    drop(guard);
    assert_eq!(room.condition.notify_all().unwrap(), 63);
    join(waiters);
    assert_eq!(woken.load(SeqCst), 63);
}

#[test]
fn threads_wait_as_processes_do() {
    let room = room();
    let _test = support::test(60);
    let count = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for parity in 0..2 {
            let (room, count) = (&room, &count);
            scope.spawn(move || {
                let mut guard = room.lock.lock().unwrap();
                for _ in 0..5000 {
                    guard = room.condition.wait_for(guard, |_| count.load(SeqCst) % 2 == parity).unwrap();
                    count.fetch_add(1, SeqCst);
                    room.condition.notify_one().unwrap();
                }
            });
        }
    });
    assert_eq!(count.load(SeqCst), 10_000);
}

#[test]
fn a_name_leads_to_one_condition_and_to_no_other_kind() {
    let room = room();
    let _test = support::test(20);
    let name = support::unique("condition");
    let (here, there) = (Condition::named(&name).unwrap(), Condition::named(&name).unwrap());
    let waiter = fork(|| drop(there.wait(room.lock.lock().unwrap()).unwrap()));
    until(|| format!("{here:?}").contains("waiters: 1"));
    assert_eq!(here.notify_all().unwrap(), 1);
    join([waiter]);
    assert!(Lock::named(&name).is_err());
}

#[test]
fn a_received_condition_is_the_same_condition() {
    let room = room();
    let _test = support::test(20);
    let table = Outgoing::open();
    let bytes = encode_to_vec(&room.condition, standard()).unwrap();
    let sending = table.finish();
    let descriptors: Vec<OwnedFd> =
        sending.descriptors().map(|descriptor| descriptor.try_clone_to_owned().unwrap()).collect();
    drop(sending);
    let received: Condition = {
        let _table = Incoming::open(descriptors);
        decode_from_slice(&bytes, standard()).unwrap().0
    };
    let woken = shared::<AtomicU32>();
    let waiters = room.waiters(1, woken);
    assert_eq!(received.notify_all().unwrap(), 1);
    join(waiters);
}

#[test]
fn debug_counts_the_living() {
    let room = room();
    let _test = support::test(20);
    assert!(room.says("waiters: 0"));
    let mut waiters = room.waiters(3, shared::<AtomicU32>());
    assert!(room.says("waiters: 3"));
    waiters[1].kill9();
    assert!(room.says("waiters: 2"));
    room.condition.notify_all().unwrap();
    waiters.remove(1);
    join(waiters);
}

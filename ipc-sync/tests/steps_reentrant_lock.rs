//! A death after every single instruction of taking and giving back the levels of a `ReentrantLock`.

use std::cell::RefCell;
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use ipc_sync::{Me, ReentrantLock};

use support::step::Script;
use support::{Child, asleep, fork, shared, until};

const LONG: Duration = Duration::from_secs(1);

/// Takes the lock at one level, gives it back and finds it free.
fn takes_it_whole(lock: &ReentrantLock) -> bool {
    let guard = lock.lock_timeout(LONG).unwrap();
    let died = guard.owner_died();
    assert!(format!("{lock:?}").contains("depth: 1"), "{lock:?}");
    drop(guard);
    assert!(format!("{lock:?}").contains("locked: false"), "{lock:?}");
    died
}

#[test]
fn taking_the_levels_dies_at_any_instruction() {
    let first = ReentrantLock::new().unwrap();
    let _test = support::test(120);
    Script::new(
        "reentrant lock, three levels",
        || ReentrantLock::new().unwrap(),
        |lock, stage| {
            Me::get().unwrap();
            stage.begin();
            (0..3).for_each(|_| forget(lock.lock()));
            stage.end();
        },
        |lock, fate| assert!(takes_it_whole(lock) || !fate.finished, "a finished lock was held"),
    )
    .run()
    .assert_clean();
    drop(first);
}

/// Somebody sleeps for the lock while its owner gives three levels back and dies.
#[test]
fn giving_the_levels_back_dies_with_a_sleeping_waiter() {
    let first = ReentrantLock::new().unwrap();
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "reentrant unlock with a sleeping waiter",
        || {
            through.store(0, SeqCst);
            (ReentrantLock::new().unwrap(), RefCell::new(None::<Child>))
        },
        |(lock, _), stage| {
            let guards = [(); 3].map(|()| lock.lock().unwrap());
            stage.begin();
            drop(guards);
            stage.end();
        },
        |(lock, _), _| {
            until(|| through.load(SeqCst) == 1);
            takes_it_whole(lock);
        },
    )
    .meanwhile(|(lock, waiter)| {
        let child = fork(|| {
            drop(lock.lock().unwrap());
            through.store(1, SeqCst);
        });
        asleep(child.pid());
        *waiter.borrow_mut() = Some(child);
    })
    .run()
    .assert_clean();
    drop(first);
}

/// Another one has it: the victim goes to sleep, and dies before or in it.
#[test]
fn waiting_for_the_holder_dies_at_any_instruction() {
    let first = ReentrantLock::new().unwrap();
    let _test = support::test(120);
    let script = Script::new(
        "reentrant lock held by another",
        || {
            let lock = ReentrantLock::new().unwrap();
            let held = shared::<AtomicU32>();
            let holder = fork(|| {
                let _levels = [lock.lock().unwrap(), lock.lock().unwrap()];
                held.store(1, SeqCst);
                until(|| held.load(SeqCst) == 2);
            });
            until(|| held.load(SeqCst) == 1);
            (lock, held, holder)
        },
        |(lock, ..), stage| {
            Me::get().unwrap();
            stage.begin();
            assert!(lock.lock_timeout(Duration::from_millis(1)).is_err());
            stage.end();
        },
        |(lock, held, _), _| {
            held.store(2, SeqCst);
            assert!(!takes_it_whole(lock), "the holder lived");
        },
    );
    script.run().assert_clean();
    drop(script);
    drop(first);
}

/// Whoever takes it from a dead owner of four levels dies too; and so does the next.
#[test]
fn taking_over_from_the_dead_dies_at_any_instruction() {
    let first = ReentrantLock::new().unwrap();
    let _test = support::test(120);
    let script = Script::new(
        "reentrant takeover",
        || {
            let lock = ReentrantLock::new().unwrap();
            fork(|| (0..4).for_each(|_| forget(lock.lock().unwrap()))).wait();
            lock
        },
        |lock, stage| {
            Me::get().unwrap();
            stage.begin();
            forget(lock.lock());
            stage.end();
        },
        |lock, _| assert!(takes_it_whole(lock), "nobody has mended it"),
    );
    script.run().assert_clean();
    script.run_pairs((0..=script.length()).step_by(64), 32).assert_clean();
    drop(script);
    drop(first);
}

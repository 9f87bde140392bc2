//! A death after every single instruction of lock, unlock and the claim of a slot.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use ipc_sync::{Lock, Me, Registry};

use support::step::Script;
use support::{Child, asleep, fork, shared, until};

const LONG: Duration = Duration::from_secs(1);

#[test]
fn lock_dies_at_any_instruction() {
    let first = Lock::new().unwrap();
    let _test = support::test(120);
    Script::new(
        "lock",
        || Lock::new().unwrap(),
        |lock, stage| {
            Me::get().unwrap();
            stage.begin();
            std::mem::forget(lock.lock());
            stage.end();
        },
        |lock, fate| {
            let guard = lock.lock_timeout(LONG).unwrap();
            assert!(!fate.finished || guard.owner_died(), "a finished lock was held");
        },
    )
    .run()
    .assert_clean();
    drop(first);
}

/// Somebody sleeps for the lock while its owner unlocks and dies.
#[test]
fn unlock_dies_with_a_sleeping_waiter() {
    struct Scene {
        lock: Lock,
        waiter: std::cell::RefCell<Option<Child>>,
        through: &'static AtomicU32,
    }
    let first = Lock::new().unwrap();
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    let rescues = || Registry::get().unwrap().rescues();
    let before = rescues();
    Script::new(
        "unlock with a sleeping waiter",
        || {
            through.store(0, SeqCst);
            Scene { lock: Lock::new().unwrap(), waiter: None.into(), through }
        },
        |scene, stage| {
            let guard = scene.lock.lock().unwrap();
            stage.begin();
            drop(guard);
            stage.end();
        },
        |scene, _| {
            until(|| scene.through.load(SeqCst) == 1);
            drop(scene.lock.lock_timeout(LONG).unwrap());
        },
    )
    .meanwhile(|scene| {
        let waiter = fork(|| {
            drop(scene.lock.lock().unwrap());
            scene.through.store(1, SeqCst);
        });
        asleep(waiter.pid());
        *scene.waiter.borrow_mut() = Some(waiter);
    })
    .run()
    .assert_clean();
    assert_eq!(rescues(), before);
    drop(first);
}

/// Instructions from before the first touch of a slot to the end; before them the thread reads in /proc who it is.
const CLAIM: u64 = 250;

/// Whatever slot the dead thread had claimed is known to be dead.
#[test]
fn slot_claim_dies_at_any_instruction() {
    let first = Lock::new().unwrap();
    let _test = support::test(300);
    let token = shared::<AtomicU32>();
    Script::new(
        "slot claim",
        || (),
        |(), stage| {
            stage.begin();
            let me = Me::get().unwrap();
            token.store(me.token(), SeqCst);
            stage.end();
        },
        |(), fate| {
            let registry = Registry::get().unwrap();
            if fate.finished {
                assert!(registry.is_dead(token.load(SeqCst)), "the dead holds its slot");
            }
            let lock = Lock::new().unwrap();
            drop(lock.lock_timeout(LONG).unwrap());
        },
    )
    .run_last(CLAIM)
    .assert_clean();
    drop(first);
}

/// The one that takes over from the dead dies too.
#[test]
fn takeover_dies_at_any_instruction() {
    let first = Lock::new().unwrap();
    let _test = support::test(120);
    Script::new(
        "takeover",
        || {
            let lock = Lock::new().unwrap();
            fork(|| std::mem::forget(lock.lock().unwrap())).wait();
            lock
        },
        |lock, stage| {
            Me::get().unwrap();
            stage.begin();
            std::mem::forget(lock.lock());
            stage.end();
        },
        |lock, _| assert!(lock.lock_timeout(LONG).unwrap().owner_died()),
    )
    .run()
    .assert_clean();
    drop(first);
}

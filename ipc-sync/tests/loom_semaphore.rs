//! Every interleaving of two threads and one permit, with a death before each of their atomic steps.
//!
//! `raw_semaphore.rs` and what it is made of are compiled here a second time, over the atomics and the kernel of `world`.

#[path = "../src/ledger.rs"]
#[allow(dead_code, unreachable_pub)]
mod ledger;
#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;
#[path = "../src/raw_semaphore.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_semaphore;
#[path = "../src/watch.rs"]
#[allow(dead_code, unreachable_pub)]
mod watch;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use raw_semaphore::RawSemaphore;
use world::{BACKSTOP, Deadline, Me, Registry, explore, futex, primitive, registry};

/// Places in the ledger: one for each thread at a time.
const PLACES: usize = 4;

struct Scene {
    semaphore: RawSemaphore<PLACES>,
    registry: Registry,
    inside: Inside,
}

/// What one permit guards: loom sees two threads inside at once.
struct Inside(UnsafeCell<u32>);

#[allow(unsafe_code)]
// SAFETY: loom checks each access, that is the test.
unsafe impl Sync for Inside {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Send for Inside {}

impl Scene {
    fn new(permits: u32, limit: u32) -> Arc<Scene> {
        let semaphore = RawSemaphore::default();
        semaphore.fill(permits, limit);
        Arc::new(Scene { semaphore, registry: Registry::default(), inside: Inside(UnsafeCell::new(0)) })
    }

    fn turn(&self, me: &Me) {
        self.semaphore.acquire(me, Deadline::NEVER).unwrap();
        self.inside.0.with_mut(|_| ());
        self.semaphore.give_back(me);
    }

    fn value(&self, slot: u32) -> u32 {
        self.semaphore.value(&Me::new(slot, &self.registry)).unwrap()
    }
}

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

#[test]
fn two_threads_are_never_inside_together_and_none_sleeps_for_ever() {
    explore(SWITCHES + 1, || {
        let scene = Scene::new(1, 1);
        let other = scene.clone();
        let thread = loom::thread::spawn(move || other.turn(&Me::new(1, &other.registry)));
        scene.turn(&Me::new(0, &scene.registry));
        thread.join().unwrap();
        assert_eq!(scene.value(0), 1);
    });
}

/// One dies before its k-th atomic step; the other gets the permit all the same, and none is lost.
#[test]
fn a_death_before_any_step_loses_no_permit() {
    world::each_death(SWITCHES, |mortal| {
        let scene = Scene::new(1, 1);
        let (victim, mortal) = (scene.clone(), mortal.clone());
        let thread = loom::thread::spawn(move || {
            let me = Me::new(1, &victim.registry);
            mortal.live(|| victim.turn(&me));
            victim.registry.bury(&me);
        });
        scene.turn(&Me::new(0, &scene.registry));
        thread.join().unwrap();
        assert_eq!(scene.value(2), 1);
    });
}

/// A release adds a permit and wakes, or does neither: a second one makes up for the first.
#[test]
fn a_release_dies_before_any_step_and_the_waiter_is_not_left() {
    world::each_death(SWITCHES, |mortal| {
        let scene = Scene::new(0, 1);
        let (victim, mortal) = (scene.clone(), mortal.clone());
        let thread = loom::thread::spawn(move || {
            let me = Me::new(1, &victim.registry);
            mortal.live(|| victim.semaphore.release(&me).unwrap());
            victim.registry.bury(&me);
            // Refused if the dead one did it: then it has woken the waiter too.
            let _ = victim.semaphore.release(&Me::new(2, &victim.registry));
        });
        scene.turn(&Me::new(0, &scene.registry));
        thread.join().unwrap();
        assert_eq!(scene.value(2), 1);
    });
}

/// The permit that is forgotten is nobody's, or the one that died with it comes back.
#[test]
fn a_forgetting_thread_dies_before_any_step() {
    world::each_death(SWITCHES, |mortal| {
        let scene = Scene::new(2, 2);
        let (victim, mortal) = (scene.clone(), mortal.clone());
        let thread = loom::thread::spawn(move || {
            let me = Me::new(1, &victim.registry);
            let lived = mortal.live(|| {
                victim.semaphore.acquire(&me, Deadline::NEVER).unwrap();
                victim.semaphore.forget(&me);
            });
            victim.registry.bury(&me);
            lived
        });
        let me = Me::new(0, &scene.registry);
        scene.semaphore.acquire(&me, Deadline::NEVER).unwrap();
        scene.semaphore.give_back(&me);
        let lived = thread.join().unwrap();
        let left = scene.value(2);
        assert!(left == 1 || left == 2 && !lived, "{left}");
    });
}

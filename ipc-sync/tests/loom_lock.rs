//! Every interleaving of the lock word's algorithm, with a death before each of its atomic steps.
//!
//! `raw_lock.rs` itself is compiled here a second time, over the atomics and the kernel of `world`.

#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use raw_lock::{Acquired, RawLock};
use world::{BACKSTOP, Deadline, Me, Registry, explore, futex, primitive, registry};

#[derive(Default)]
struct Scene {
    lock: RawLock,
    registry: Registry,
    inside: Inside,
}

/// What the lock guards: loom sees two threads inside at once.
struct Inside(UnsafeCell<u32>);

impl Default for Inside {
    fn default() -> Self {
        Inside(UnsafeCell::new(0))
    }
}

#[allow(unsafe_code)]
// SAFETY: loom checks each access, that is the test.
unsafe impl Sync for Inside {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Send for Inside {}

impl Scene {
    /// Takes the lock, goes inside, gives it back; how the lock was come by.
    fn turn(&self, me: &Me) -> Acquired {
        let acquired = self.lock.lock(me, Deadline::NEVER).unwrap();
        self.inside.0.with_mut(|_| ());
        self.lock.unlock();
        acquired
    }
}

/// So many switches away from a thread that could go on; the third thread makes three too many to wait for.
const SWITCHES: usize = 3;

fn model(switches: usize, f: impl Fn(Arc<Scene>) + Sync + Send + 'static) {
    explore(switches, move || f(Arc::new(Scene::default())));
}

#[test]
fn two_threads_are_never_inside_together_and_none_sleeps_for_ever() {
    model(SWITCHES, |scene| {
        let other = scene.clone();
        let thread = loom::thread::spawn(move || other.turn(&Me::new(1, &other.registry)));
        assert_eq!(scene.turn(&Me::new(0, &scene.registry)), Acquired::Free);
        assert_eq!(thread.join().unwrap(), Acquired::Free);
    });
}

/// Whoever was woken wakes the next: one wake per unlock serves them all.
#[test]
fn three_threads_pass_every_wake_on() {
    model(SWITCHES - 1, |scene| {
        let threads = [1, 2].map(|slot| {
            let other = scene.clone();
            loom::thread::spawn(move || other.turn(&Me::new(slot, &other.registry)))
        });
        let _ = scene.turn(&Me::new(0, &scene.registry));
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Acquired::Free));
    });
}

/// One dies before its k-th atomic step; the other gets the lock all the same.
#[test]
fn a_death_before_any_step_wedges_nobody() {
    world::each_death(SWITCHES, |mortal| {
        let scene = Arc::new(Scene::default());
        let (victim, mortal) = (scene.clone(), mortal.clone());
        let thread = loom::thread::spawn(move || {
            let me = Me::new(1, &victim.registry);
            mortal.live(|| _ = victim.turn(&me));
            victim.registry.bury(&me);
        });
        let _ = scene.turn(&Me::new(0, &scene.registry));
        thread.join().unwrap();
        let _ = scene.turn(&Me::new(2, &scene.registry));
    });
}

/// The kernel wakes one of those who sleep behind a dead owner; it wakes the others.
#[test]
fn a_dead_owner_wakes_all_who_wait() {
    model(SWITCHES - 1, |scene| {
        let owner = Me::new(0, &scene.registry);
        let _ = scene.lock.lock(&owner, Deadline::NEVER).unwrap();
        let threads = [1, 2].map(|slot| {
            let other = scene.clone();
            loom::thread::spawn(move || other.turn(&Me::new(slot, &other.registry)))
        });
        scene.registry.bury(&owner);
        let told = threads.map(|thread| thread.join().unwrap());
        assert_ne!(told[0], told[1], "one of them is told of the death, the other is not");
    });
}

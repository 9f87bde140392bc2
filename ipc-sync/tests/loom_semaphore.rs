//! Interleavings of a semaphore's words, with a death before each atomic step of who takes, waits and gives back.
//!
//! `raw_semaphore.rs` and what it rests on are compiled here a second time, over the atomics and the kernel of `world`.
//! Time stands still, so whoever is forgotten sleeps for ever.

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

use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};
use raw_semaphore::RawSemaphore;
use world::{BACKSTOP, Deadline, Me, Mortal, Registry, each_death, explore, futex, primitive, registry};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

struct Scene {
    semaphore: RawSemaphore<3>,
    registry: Registry,
}

impl Scene {
    fn new(permits: u32) -> Arc<Scene> {
        let scene = Scene { semaphore: RawSemaphore::default(), registry: Registry::default() };
        scene.semaphore.fill(permits, 2);
        Arc::new(scene)
    }

    fn me(&self, slot: u32) -> Me {
        Me::new(slot, &self.registry)
    }

    fn acquire(&self, me: &Me) {
        self.semaphore.acquire(me, Deadline::NEVER).unwrap();
    }

    fn turn(&self, me: &Me) {
        self.acquire(me);
        self.semaphore.give_back(me);
    }

    fn value(&self) -> u32 {
        self.semaphore.value(&self.me(3)).unwrap()
    }
}

fn thread(scene: &Arc<Scene>, slot: u32, f: impl FnOnce(&Scene, &Me) + 'static) -> JoinHandle<()> {
    let scene = scene.clone();
    spawn(move || f(&scene, &scene.me(slot)))
}

/// A thread that may die of `f`.
fn mortal_thread(
    scene: &Arc<Scene>,
    mortal: &Mortal,
    slot: u32,
    f: impl FnOnce(&Scene, &Me) + 'static,
) -> JoinHandle<()> {
    let mortal = mortal.clone();
    thread(scene, slot, move |scene, me| {
        mortal.live(|| f(scene, me));
        scene.registry.bury(me);
    })
}

#[test]
fn a_permit_goes_from_hand_to_hand() {
    explore(SWITCHES, || {
        let scene = Scene::new(1);
        let threads = [1, 2].map(|slot| thread(&scene, slot, Scene::turn));
        scene.turn(&scene.me(0));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(scene.value(), 1);
    });
}

#[test]
fn there_are_never_more_permits_than_there_are() {
    explore(SWITCHES, || {
        let scene = Scene::new(1);
        let inside = Arc::new(loom::sync::atomic::AtomicU32::new(0));
        let alone = |inside: Arc<loom::sync::atomic::AtomicU32>| {
            move |scene: &Scene, me: &Me| {
                scene.acquire(me);
                assert_eq!(inside.fetch_add(1, primitive::Ordering::SeqCst), 0);
                inside.fetch_sub(1, primitive::Ordering::SeqCst);
                scene.semaphore.give_back(me);
            }
        };
        let other = thread(&scene, 1, alone(inside.clone()));
        alone(inside)(&scene, &scene.me(0));
        other.join().unwrap();
    });
}

#[test]
fn a_release_wakes_who_waits() {
    explore(SWITCHES, || {
        let scene = Scene::new(0);
        let waiters = [1, 2].map(|slot| thread(&scene, slot, Scene::acquire));
        (0..2).for_each(|_| scene.semaphore.release(&scene.me(0)).unwrap());
        waiters.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Holding, giving back, forgetting nothing: whatever it was at, its permit comes back.
#[test]
fn a_death_before_any_step_leaves_every_permit() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::new(1);
        let victim = mortal_thread(&scene, mortal, 1, Scene::turn);
        scene.turn(&scene.me(0));
        victim.join().unwrap();
        assert_eq!(scene.value(), 1);
        scene.turn(&scene.me(2));
    });
}

/// One of two who wait dies, before or after the permit was given to it.
#[test]
fn a_death_of_one_who_waits_takes_no_permit_along() {
    each_death(1, |mortal| {
        let scene = Scene::new(1);
        let holder = scene.me(0);
        scene.acquire(&holder);
        let victim = mortal_thread(&scene, mortal, 1, Scene::turn);
        let waiter = thread(&scene, 2, Scene::turn);
        scene.semaphore.give_back(&holder);
        victim.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(scene.value(), 1);
    });
}

/// As the last, but the permit comes from a dead holder: the kernel wakes one of the two only.
#[test]
fn a_death_on_waking_behind_a_dead_holder_takes_no_permit_along() {
    each_death(1, |mortal| {
        let scene = Scene::new(1);
        let holder = scene.me(0);
        scene.acquire(&holder);
        let victim = mortal_thread(&scene, mortal, 1, Scene::turn);
        let waiter = thread(&scene, 2, Scene::turn);
        scene.registry.bury(&holder);
        victim.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(scene.value(), 1);
    });
}

#[test]
fn a_permit_is_forgotten_or_it_comes_back() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::new(2);
        let victim = mortal_thread(&scene, mortal, 1, |scene, me| {
            scene.acquire(me);
            scene.semaphore.forget(me);
        });
        scene.turn(&scene.me(0));
        victim.join().unwrap();
        assert!((1..=2).contains(&scene.value()));
    });
}

/// Somebody waits while another releases and dies.
#[test]
fn a_release_is_done_with_its_wake_or_not_at_all() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::new(0);
        let waiter = thread(&scene, 1, Scene::acquire);
        let victim = mortal_thread(&scene, mortal, 2, |scene, me| scene.semaphore.release(me).unwrap());
        victim.join().unwrap();
        if scene.value() == 0 {
            let _ = scene.semaphore.release(&scene.me(0));
        }
        waiter.join().unwrap();
    });
}

//! Interleavings of the words of a lock for readers and writers, with a death before each atomic step.
//!
//! `raw_rwlock.rs` and what it rests on are compiled here a second time, over the atomics and the kernel of `world`. Time
//! stands still, so whoever is forgotten sleeps for ever; loom sees a writer that is not alone.

#[path = "../src/ledger.rs"]
#[allow(dead_code, unreachable_pub)]
mod ledger;
#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;
#[path = "../src/raw_rwlock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_rwlock;
#[path = "../src/watch.rs"]
#[allow(dead_code, unreachable_pub)]
mod watch;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};
use raw_rwlock::RawRwLock;
use world::{BACKSTOP, Deadline, Me, Mortal, Registry, each_death, explore, futex, primitive, registry};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

#[derive(Default)]
struct Scene {
    lock: RawRwLock<3>,
    registry: Registry,
    inside: Inside,
}

/// What the lock guards: loom sees who is there with a writer.
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
    fn me(&self, slot: u32) -> Me {
        Me::new(slot, &self.registry)
    }

    fn read(&self, me: &Me) {
        let place = self.lock.read(me, Deadline::NEVER).unwrap();
        self.inside.0.with(|_| ());
        self.lock.leave(me, place);
    }

    fn write(&self, me: &Me) {
        self.lock.write(me, Deadline::NEVER).unwrap();
        self.inside.0.with_mut(|_| ());
        self.lock.finish();
    }
}

type Act = fn(&Scene, &Me);

fn thread(scene: &Arc<Scene>, slot: u32, act: Act) -> JoinHandle<()> {
    let scene = scene.clone();
    spawn(move || act(&scene, &scene.me(slot)))
}

/// A thread that may die of it.
fn mortal_thread(scene: &Arc<Scene>, mortal: &Mortal, slot: u32, act: Act) -> JoinHandle<()> {
    let (scene, mortal) = (scene.clone(), mortal.clone());
    spawn(move || {
        let me = scene.me(slot);
        mortal.live(|| act(&scene, &me));
        scene.registry.bury(&me);
    })
}

/// Two threads act beside ours.
fn three_at_once(acts: [Act; 3]) {
    explore(SWITCHES, move || {
        let scene = Arc::new(Scene::default());
        let threads = [1, 2].map(|slot| thread(&scene, slot as u32, acts[slot]));
        acts[0](&scene, &scene.me(0));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!scene.lock.is_poisoned());
    });
}

/// One acts and dies of it while another acts; then a third does.
fn one_dies(victim: Act, beside: Act, after: Act) {
    each_death(SWITCHES, move |mortal| {
        let scene = Arc::new(Scene::default());
        let thread = mortal_thread(&scene, mortal, 1, victim);
        beside(&scene, &scene.me(0));
        thread.join().unwrap();
        after(&scene, &scene.me(2));
    });
}

#[test]
fn a_writer_is_alone_between_readers() {
    three_at_once([Scene::write, Scene::read, Scene::read]);
}

#[test]
fn a_writer_is_alone_between_writers() {
    three_at_once([Scene::read, Scene::write, Scene::write]);
}

#[test]
fn a_reader_that_dies_gives_way_to_a_writer() {
    one_dies(Scene::read, Scene::write, Scene::write);
}

#[test]
fn a_writer_that_dies_gives_way_to_a_reader() {
    one_dies(Scene::write, Scene::read, Scene::write);
}

#[test]
fn a_writer_that_dies_gives_way_to_a_writer() {
    one_dies(Scene::write, Scene::write, Scene::read);
}

/// It had changed what the lock guards, so the next is told.
#[test]
fn a_writer_that_dies_inside_leaves_poison() {
    explore(SWITCHES, || {
        let scene = Arc::new(Scene::default());
        let victim = scene.me(1);
        scene.lock.write(&victim, Deadline::NEVER).unwrap();
        let reader = thread(&scene, 2, |scene, me| {
            scene.read(me);
            assert!(scene.lock.is_poisoned());
        });
        scene.registry.bury(&victim);
        reader.join().unwrap();
    });
}

/// A writer sleeps beside two readers: one dies as it leaves, the other is left in peace or leaves.
#[test]
fn a_writer_waits_for_the_living_and_not_for_the_dead() {
    each_death(1, |mortal| {
        let scene = Arc::new(Scene::default());
        let reader = scene.me(0);
        let place = scene.lock.read(&reader, Deadline::NEVER).unwrap();
        let victim = mortal_thread(&scene, mortal, 1, Scene::read);
        let writer = thread(&scene, 2, Scene::write);
        scene.inside.0.with(|_| ());
        scene.lock.leave(&reader, place);
        victim.join().unwrap();
        writer.join().unwrap();
    });
}

/// Who reads already comes in again past a writer that waits for it.
#[test]
fn a_reader_never_waits_for_a_writer_that_waits_for_it() {
    explore(SWITCHES, || {
        let scene = Arc::new(Scene::default());
        let me = scene.me(0);
        let place = scene.lock.read(&me, Deadline::NEVER).unwrap();
        let writer = thread(&scene, 1, Scene::write);
        scene.read(&me);
        scene.lock.leave(&me, place);
        writer.join().unwrap();
    });
}

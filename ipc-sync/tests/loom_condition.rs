//! Every interleaving of the table of waiters, with a death before each atomic step of who waits, notifies, inherits.
//!
//! `waiters.rs` and `raw_lock.rs` are compiled here a second time, over the atomics and the kernel of `world`. The
//! user's lock is left out: a waiter enters, sleeps and leaves. Time stands still, so whoever is forgotten sleeps for
//! ever.

#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;
#[path = "../src/waiters.rs"]
#[allow(dead_code, unreachable_pub)]
mod waiters;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};
use waiters::{Wait, Waiters};
use world::{BACKSTOP, Deadline, Me, Mortal, Registry, each_death, explore, futex, primitive, registry};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

#[derive(Default)]
struct Scene {
    waiters: Waiters<4>,
    registry: Registry,
}

impl Scene {
    fn me(&self, slot: u32) -> Me {
        Me::new(slot, &self.registry)
    }

    fn enter(&self, slot: u32) -> Wait {
        self.waiters.enter(&self.me(slot), Deadline::NEVER).unwrap().expect("there is room")
    }

    fn notify(&self, slot: u32, count: usize) -> usize {
        self.waiters.notify(&self.me(slot), count).unwrap()
    }

    fn leave(&self, slot: u32, wait: Wait) -> bool {
        self.waiters.leave(&self.me(slot), wait).unwrap()
    }

    /// Sleeps until it is notified, and leaves.
    fn wait(&self, me: &Me, mut wait: Wait) {
        self.waiters.sleep(me, &mut wait, Deadline::NEVER).unwrap();
        assert!(self.waiters.leave(me, wait).unwrap(), "woken and not notified");
    }

    fn is_taken(&self, place: usize) -> bool {
        self.waiters.taken().any(|taken| taken == place)
    }
}

/// A thread that waits in a place taken before.
fn waiter(scene: &Arc<Scene>, slot: u32, wait: Wait) -> JoinHandle<()> {
    let scene = scene.clone();
    spawn(move || scene.wait(&scene.me(slot), wait))
}

/// The same, but it may die of it; answers whether it lived.
fn mortal_waiter(scene: &Arc<Scene>, mortal: &Mortal, slot: u32, wait: Wait) -> JoinHandle<bool> {
    let (scene, mortal) = (scene.clone(), mortal.clone());
    spawn(move || {
        let me = scene.me(slot);
        let lived = mortal.live(|| scene.wait(&me, wait));
        scene.registry.bury(&me);
        lived
    })
}

#[test]
fn whoever_is_notified_wakes_and_nobody_else() {
    explore(SWITCHES + 1, || {
        let scene = Arc::new(Scene::default());
        let waits = [0, 1].map(|slot| (slot, scene.enter(slot)));
        let last = scene.enter(2);
        let threads = waits.map(|(slot, wait)| waiter(&scene, slot, wait));
        assert_eq!(scene.notify(2, 2), 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!scene.leave(2, last));
    });
}

/// The first dies at any step of its sleep or of its way out; what it was given reaches the second, once.
#[test]
fn a_dying_waiter_hands_its_notification_on() {
    each_death(SWITCHES - 1, |mortal| {
        let scene = Arc::new(Scene::default());
        let (first, second, last) = (scene.enter(0), scene.enter(1), scene.enter(2));
        let first = mortal_waiter(&scene, mortal, 0, first);
        let second = waiter(&scene, 1, second);
        assert_eq!(scene.notify(2, 1), 1);
        let lived = first.join().unwrap();
        let inherited = scene.is_taken(0);
        if !inherited {
            scene.notify(2, 1);
        }
        second.join().unwrap();
        if lived || inherited {
            assert!(!scene.leave(2, last), "one notification too many");
        }
    });
}

/// Those it had not come to are still there for the next notifier.
#[test]
fn a_dying_notifier_leaves_each_waiter_notified_or_waiting() {
    each_death(SWITCHES - 1, |mortal| {
        let scene = Arc::new(Scene::default());
        let (first, second) = (scene.enter(0), scene.enter(1));
        let first = waiter(&scene, 0, first);
        let (notifier, mortal) = (scene.clone(), mortal.clone());
        let notifier = spawn(move || {
            let me = notifier.me(2);
            mortal.live(|| _ = notifier.waiters.notify(&me, 2).unwrap());
            notifier.registry.bury(&me);
        });
        notifier.join().unwrap();
        scene.notify(3, 2);
        first.join().unwrap();
        assert!(scene.leave(1, second));
    });
}

/// The heir dies while it buries: the next one inherits, and nobody inherits twice.
#[test]
fn a_dying_heir_hands_it_on_once() {
    each_death(SWITCHES - 1, |mortal| {
        let scene = Arc::new(Scene::default());
        let (_, second, third, last) = (scene.enter(0), scene.enter(1), scene.enter(2), scene.enter(3));
        assert_eq!(scene.notify(3, 1), 1);
        scene.registry.bury(&scene.me(0));
        let second = mortal_waiter(&scene, mortal, 1, second);
        let third = waiter(&scene, 2, third);
        let lived = second.join().unwrap();
        let inherited = scene.is_taken(1);
        if !inherited {
            scene.notify(3, 1);
        }
        third.join().unwrap();
        if lived || inherited {
            assert!(!scene.leave(3, last), "one notification too many");
        }
    });
}

/// The oldest leaves without the leaf lock while it is notified: it has the notification or the next one does.
#[test]
fn who_slips_away_takes_its_notification_or_leaves_it_to_the_next() {
    each_death(SWITCHES - 1, |mortal| {
        let scene = Arc::new(Scene::default());
        let (first, second, last) = (scene.enter(0), scene.enter(1), scene.enter(2));
        let (leaver, mortal) = (scene.clone(), mortal.clone());
        let leaver = spawn(move || {
            let (me, mut first, mut notified) = (leaver.me(0), first, None);
            mortal.live(|| {
                leaver.waiters.sleep(&me, &mut first, Deadline::NOW).unwrap();
                notified = Some(leaver.waiters.slip_away(first));
            });
            leaver.registry.bury(&me);
            notified
        });
        assert_eq!(scene.notify(2, 1), 1);
        match leaver.join().unwrap() {
            Some(false) => scene.wait(&scene.me(1), second),
            Some(true) => assert!(!scene.leave(1, second), "one notification too many"),
            None => _ = scene.leave(1, second),
        }
        assert!(!scene.leave(2, last), "one notification too many");
    });
}

/// The second leaves before the first: the third must watch the first from then on.
#[test]
fn who_leaves_early_closes_the_chain_behind_it() {
    each_death(SWITCHES - 1, |mortal| {
        let scene = Arc::new(Scene::default());
        let (first, second, third) = (scene.enter(0), scene.enter(1), scene.enter(2));
        assert_eq!(scene.notify(3, 2), 2);
        let third = waiter(&scene, 2, third);
        scene.wait(&scene.me(1), second);
        mortal_waiter(&scene, mortal, 0, first).join().unwrap();
        if !scene.is_taken(0) {
            scene.notify(3, 1);
        }
        third.join().unwrap();
    });
}

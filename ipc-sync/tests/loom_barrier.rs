//! Interleavings of a barrier's words, with a death before each atomic step of who arrives, waits and leaves.
//!
//! `raw_barrier.rs` and what it rests on are compiled here a second time, over the atomics and the kernel of `world`. Time
//! stands still, so whoever is forgotten sleeps for ever.

#[path = "../src/ledger.rs"]
#[allow(dead_code, unreachable_pub)]
mod ledger;
#[path = "../src/raw_barrier.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_barrier;
#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::sync::{Arc, Mutex};
use loom::thread::{JoinHandle, spawn};
use raw_barrier::{Cause, RawBarrier, Refusal};
use world::{BACKSTOP, Deadline, Me, Mortal, Registry, each_death, explore, futex, primitive, registry};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

/// What a wait answers: an index, or why there is none.
type Outcome = Result<u32, Refusal>;

#[derive(Default)]
struct Scene {
    barrier: RawBarrier<3>,
    registry: Registry,
}

impl Scene {
    fn new(parties: u32) -> Arc<Scene> {
        let scene = Scene::default();
        scene.barrier.init(parties);
        Arc::new(scene)
    }

    /// All are members already: each has waited once, and nobody came. A stranger that dies is missed by nobody.
    fn of_members(parties: u32) -> Arc<Scene> {
        let scene = Scene::new(parties);
        for slot in 0..parties {
            let me = scene.me(slot);
            let nobody_came = scene.barrier.wait(&me, Deadline::NOW, None::<fn()>);
            assert_eq!(nobody_came, Err(Refusal::Broken(Cause::TimedOut)));
            scene.barrier.reset(&me).unwrap();
        }
        scene
    }

    fn me(&self, slot: u32) -> Me {
        Me::new(slot, &self.registry)
    }

    fn wait(&self, me: &Me) -> Outcome {
        self.barrier.wait(me, Deadline::NEVER, None::<fn()>)
    }
}

/// A thread that waits for so many rounds.
fn party(scene: &Arc<Scene>, slot: u32, rounds: usize) -> JoinHandle<Vec<Outcome>> {
    let scene = scene.clone();
    spawn(move || (0..rounds).map(|_| scene.wait(&scene.me(slot))).collect())
}

/// One that waits once and may die of it; `None` = it did.
fn mortal_party(scene: &Arc<Scene>, mortal: &Mortal, slot: u32) -> JoinHandle<Option<Outcome>> {
    let (scene, mortal) = (scene.clone(), mortal.clone());
    spawn(move || {
        let (me, outcome) = (scene.me(slot), Mutex::new(None));
        mortal.live(|| {
            let answer = scene.wait(&me);
            *outcome.lock().unwrap() = Some(answer);
        });
        scene.registry.bury(&me);
        outcome.into_inner().unwrap()
    })
}

fn died(slot: u32) -> Outcome {
    Err(Refusal::Broken(Cause::Died { pid: 1000 + slot }))
}

#[test]
fn rounds_end_for_both_and_have_one_leader_each() {
    explore(SWITCHES, || {
        let scene = Scene::new(2);
        let other = party(&scene, 1, 2);
        let ours = [(); 2].map(|()| scene.wait(&scene.me(0)).unwrap());
        let theirs = other.join().unwrap();
        ours.into_iter().zip(theirs).for_each(|(ours, theirs)| assert_eq!(ours + theirs.unwrap(), 1));
    });
}

#[test]
fn three_parties_leave_together() {
    explore(SWITCHES - 1, || {
        let scene = Scene::new(3);
        let others = [1, 2].map(|slot| party(&scene, slot, 1));
        let ours = scene.wait(&scene.me(0)).unwrap();
        let theirs = others.map(|other| other.join().unwrap()[0].unwrap());
        assert_eq!(ours + theirs[0] + theirs[1], 1 + 2, "the indices are 0, 1 and 2");
    });
}

/// Broken for both or for neither; and in the next round the dead is missed.
#[test]
fn a_party_that_dies_breaks_its_round_or_the_next() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::of_members(2);
        let victim = mortal_party(&scene, mortal, 1);
        let ours = scene.wait(&scene.me(0));
        assert!(ours.is_ok() || ours == died(1), "{ours:?}");
        if let Some(theirs) = victim.join().unwrap() {
            assert!(ours.is_ok() && theirs.is_ok(), "{theirs:?}, and ours {ours:?}");
        }
        assert_eq!(scene.wait(&scene.me(0)), died(1));
    });
}

/// What one of two who wait is told, the other is told. One sleeps from the beginning: all at once would take minutes.
#[test]
fn a_round_is_broken_for_all_or_for_none() {
    each_death(1, |mortal| {
        let scene = Scene::of_members(3);
        let other = party(&scene, 2, 1);
        while futex::sleepers() == 0 {
            loom::thread::yield_now();
        }
        let victim = mortal_party(&scene, mortal, 1);
        let ours = scene.wait(&scene.me(0));
        let theirs = other.join().unwrap()[0];
        victim.join().unwrap();
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?}, {theirs:?}");
    });
}

#[test]
fn an_abort_reaches_who_waits() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::new(3);
        let waiter = party(&scene, 1, 1);
        let (aborts, mortal) = (scene.clone(), mortal.clone());
        let victim = spawn(move || {
            let me = aborts.me(2);
            mortal.live(|| aborts.barrier.abort(&me).unwrap());
            aborts.registry.bury(&me);
        });
        victim.join().unwrap();
        scene.barrier.abort(&scene.me(0)).unwrap();
        assert_eq!(waiter.join().unwrap(), [Err(Refusal::Broken(Cause::Aborted))]);
    });
}

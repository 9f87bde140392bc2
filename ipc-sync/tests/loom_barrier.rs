//! Every interleaving of two parties and of who breaks their round, with a death before each atomic step.
//!
//! `raw_barrier.rs` itself is compiled here a second time, over the atomics and the kernel of `world`.

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

use loom::sync::Arc;
use loom::thread::{JoinHandle, spawn};
use raw_barrier::{Cause, RawBarrier, Refusal};
use world::{BACKSTOP, Deadline, Me, Registry, explore, futex, primitive, registry};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 2;

type Ended = Result<u32, Refusal>;

struct Scene {
    barrier: RawBarrier<2>,
    registry: Registry,
}

impl Scene {
    /// Two parties will meet.
    fn new() -> Arc<Scene> {
        let scene = Scene { barrier: RawBarrier::default(), registry: Registry::default() };
        scene.barrier.init(2);
        Arc::new(scene)
    }

    fn wait(&self, me: &Me) -> Ended {
        self.barrier.wait(me, Deadline::NEVER, None::<fn()>)
    }

    /// Arrives, and does not wait.
    fn hurry(&self, me: &Me) -> Ended {
        self.barrier.wait(me, Deadline::NOW, None::<fn()>)
    }
}

/// Waits in a thread with this slot.
fn party(scene: &Arc<Scene>, slot: u32) -> JoinHandle<Ended> {
    let scene = scene.clone();
    spawn(move || scene.wait(&Me::new(slot, &scene.registry)))
}

/// Lets a thread do `act`, which may die before each of its steps: whether it lived, and who it was.
fn doomed(
    scene: &Arc<Scene>,
    mortal: &world::Mortal,
    act: impl FnOnce(&Scene, &Me) + Send + 'static,
) -> (bool, u32) {
    let (there, mortal) = (scene.clone(), mortal.clone());
    let dying = spawn(move || {
        let me = Me::new(2, &there.registry);
        let lived = mortal.live(|| act(&there, &me));
        there.registry.bury(&me);
        (lived, me.token())
    });
    dying.join().unwrap()
}

fn aborted() -> Ended {
    Err(Refusal::Broken(Cause::Aborted))
}

#[test]
fn two_parties_meet_and_have_different_indices() {
    explore(SWITCHES, || {
        let scene = Scene::new();
        let other = party(&scene, 1);
        let here = scene.wait(&Me::new(0, &scene.registry)).unwrap();
        assert_eq!(here + other.join().unwrap().unwrap(), 1);
    });
}

#[test]
fn two_rounds_do_not_mix() {
    explore(SWITCHES - 1, || {
        let scene = Scene::new();
        let there = scene.clone();
        let other = spawn(move || {
            let me = Me::new(1, &there.registry);
            [there.wait(&me).unwrap(), there.wait(&me).unwrap()]
        });
        let me = Me::new(0, &scene.registry);
        let here = [scene.wait(&me).unwrap(), scene.wait(&me).unwrap()];
        let there = other.join().unwrap();
        assert_eq!([here[0] + there[0], here[1] + there[1]], [1, 1]);
    });
}

#[test]
fn nobody_leaves_before_the_action_has_run() {
    use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
    explore(SWITCHES, || {
        let (scene, acted) = (Scene::new(), Arc::new(AtomicBool::new(false)));
        let (there, acts) = (scene.clone(), acted.clone());
        let meet = |scene: &Scene, slot, acted: &AtomicBool| {
            let act = || assert!(!acted.swap(true, Relaxed));
            scene.barrier.wait(&Me::new(slot, &scene.registry), Deadline::NEVER, Some(act)).unwrap();
            assert!(acted.load(Relaxed));
        };
        let other = spawn(move || meet(&there, 1, &acts));
        meet(&scene, 0, &acted);
        other.join().unwrap();
    });
}

#[test]
fn a_round_is_broken_for_all_or_for_none() {
    explore(SWITCHES, || {
        let scene = Scene::new();
        let parties = [party(&scene, 1), party(&scene, 2)];
        scene.barrier.abort(&Me::new(0, &scene.registry)).unwrap();
        let told = parties.map(|party| party.join().unwrap());
        assert!(told.iter().all(|told| told.is_ok()) || told == [aborted(), aborted()], "{told:?}");
    });
}

/// It breaks the round without the lock, while the other arrives, sleeps or releases.
#[test]
fn one_gives_up_and_the_round_ends_alike_for_all() {
    explore(SWITCHES, || {
        let scene = Scene::new();
        let other = party(&scene, 1);
        let here = scene.hurry(&Me::new(0, &scene.registry));
        let there = other.join().unwrap();
        let late = Err(Refusal::Broken(Cause::TimedOut));
        assert!(here.is_ok() && there.is_ok() || here == late && there == late, "{here:?} {there:?}");
    });
}

/// While the last to arrive lets a sleeper go.
#[test]
fn one_gives_up_beside_a_sleeper_and_the_round_ends_alike_for_all() {
    explore(SWITCHES, || {
        let scene = Arc::new((RawBarrier::<3>::default(), Registry::default()));
        scene.0.init(3);
        let wait = |scene: &(RawBarrier<3>, Registry), slot, deadline| {
            scene.0.wait(&Me::new(slot, &scene.1), deadline, None::<fn()>)
        };
        let others = [1, 2].map(|slot| {
            let scene = scene.clone();
            spawn(move || wait(&scene, slot, Deadline::NEVER))
        });
        let here = wait(&scene, 0, Deadline::NOW);
        let there = others.map(|other| other.join().unwrap());
        let ended = [here, there[0], there[1]];
        let late = Err(Refusal::Broken(Cause::TimedOut));
        assert!(ended.iter().all(Result::is_ok) || ended == [late; 3], "{ended:?}");
    });
}

#[test]
fn one_that_dies_as_it_gives_up_leaves_nobody_waiting() {
    world::each_death(SWITCHES - 1, |mortal| {
        let scene = Scene::new();
        let survivor = party(&scene, 1);
        let (lived, token) = doomed(&scene, mortal, |there, me| _ = there.hurry(me));
        if !lived && !scene.barrier.has_member(|member| member == token) {
            scene.barrier.abort(&Me::new(0, &scene.registry)).unwrap(); // nobody knew that it should come
        }
        let told = survivor.join().unwrap();
        let died = Err(Refusal::Broken(Cause::Died { pid: 1002 }));
        let late = Err(Refusal::Broken(Cause::TimedOut));
        assert!(told.is_ok() || told == late || !lived && (told == died || told == aborted()), "{told:?}");
    });
}

/// One who slept through the reset is told what broke its round.
#[test]
fn a_reset_sends_away_who_waits() {
    explore(SWITCHES, || {
        let scene = Scene::new();
        let other = party(&scene, 1);
        let me = Me::new(0, &scene.registry);
        scene.barrier.reset(&me).unwrap();
        scene.barrier.abort(&me).unwrap();
        scene.barrier.reset(&me).unwrap();
        scene.barrier.abort(&me).unwrap(); // it may come only now
        let told = other.join().unwrap();
        assert!(told == Err(Refusal::Broken(Cause::Reset)) || told == aborted(), "{told:?}");
    });
}

/// Whoever is killed as it arrives, sleeps or releases: the other is told, or has met it.
#[test]
fn a_party_that_dies_before_any_step_leaves_nobody_waiting() {
    world::each_death(SWITCHES - 1, |mortal| {
        let scene = Scene::new();
        let survivor = party(&scene, 1);
        let (lived, token) = doomed(&scene, mortal, |there, me| _ = there.wait(me).unwrap());
        let joined = scene.barrier.has_member(|member| member == token);
        if !lived && !joined {
            scene.barrier.abort(&Me::new(0, &scene.registry)).unwrap(); // nobody knew that it should come
        }
        let told = survivor.join().unwrap();
        let died = Err(Refusal::Broken(Cause::Died { pid: 1002 }));
        assert!(told.is_ok() || !lived && (told == died || !joined && told == aborted()), "{told:?}");
    });
}

/// It has set RELEASED, and another comes before the sleeper looks.
#[test]
fn a_round_stays_released_whose_last_party_dies_of_it() {
    world::each_death(SWITCHES - 1, |mortal| {
        let scene = Scene::new();
        let survivor = party(&scene, 1);
        let (lived, _) = doomed(&scene, mortal, |there, me| _ = there.wait(me));
        let released = scene.barrier.has_released();
        scene.barrier.abort(&Me::new(0, &scene.registry)).unwrap();
        let told = survivor.join().unwrap();
        assert!(told.is_ok() || !lived && !released, "{told:?}");
    });
}

/// Who breaks a round, or resets it, dies at it: those who wait are told by it or by the next.
#[test]
fn one_that_dies_as_it_resets_leaves_nobody_waiting() {
    world::each_death(SWITCHES - 1, |mortal| {
        let scene = Scene::new();
        let survivor = party(&scene, 1);
        doomed(&scene, mortal, |there, me| there.barrier.reset(me).unwrap());
        scene.barrier.abort(&Me::new(0, &scene.registry)).unwrap();
        let told = survivor.join().unwrap();
        assert!(told == Err(Refusal::Broken(Cause::Reset)) || told == aborted(), "{told:?}");
    });
}

//! A death after every single instruction of what one does at a barrier: the others learn of it, all alike, at once.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Barrier, BarrierWait, BrokenBarrier, Me, Registry};

use support::step::{Fate, Script, Stage};
use support::trace::wait_for_begin;
use support::{Change, Child, asleep, fork, shared, until};

const LONG: Duration = Duration::from_secs(1);

const TIMED_OUT: u32 = 1001;
const ABORTED: u32 = 1002;
const RESET: u32 = 1003;
/// Plus the pid.
const DIED: u32 = 10_000_000;

fn tell(result: Result<BarrierWait, BrokenBarrier>) -> u32 {
    match result {
        Ok(wait) => 1 + wait.index() as u32,
        Err(BrokenBarrier::TimedOut) => TIMED_OUT,
        Err(BrokenBarrier::Aborted) => ABORTED,
        Err(BrokenBarrier::Reset) => RESET,
        Err(BrokenBarrier::Died { pid }) => DIED + pid,
        Err(error) => panic!("{error}"),
    }
}

/// A barrier, and somebody who sleeps there.
struct Scene {
    barrier: Barrier,
    sleeper: RefCell<Option<Child>>,
    account: &'static Account,
}

#[derive(Default)]
struct Account {
    victim: AtomicU32,
    told: AtomicU32,
    actions: AtomicU32,
}

impl Scene {
    /// All scenes have one barrier, which forgets the dead: each has its members.
    fn new(barrier: &Barrier, account: &'static Account) -> Scene {
        let Account { victim, told, actions } = account;
        [victim, told, actions].iter().for_each(|word| word.store(0, SeqCst));
        barrier.reset().unwrap();
        Scene { barrier: barrier.clone(), sleeper: None.into(), account }
    }

    /// Meets with whoever comes for some rounds, then sleeps in one more and tells how that ended.
    fn with_sleeper_after(self, rounds: u32) -> Scene {
        let sleeper = fork(|| {
            (0..rounds).for_each(|_| _ = self.barrier.wait().unwrap());
            self.account.told.store(tell(self.barrier.wait()), SeqCst);
            loop {
                std::thread::park(); // a member that lives
            }
        });
        *self.sleeper.borrow_mut() = Some(sleeper);
        self
    }

    /// Until the sleeper sleeps.
    fn settle(&self) {
        until(|| self.barrier.waiting() == 1);
        asleep(self.sleeper.borrow().as_ref().unwrap().pid());
    }

    fn begin(&self, stage: &Stage) {
        Me::get().unwrap();
        self.account.victim.store(std::process::id(), SeqCst);
        stage.begin();
    }

    /// How the sleeper's round ended.
    fn told(&self) -> u32 {
        until(|| self.account.told.load(SeqCst) != 0);
        self.account.told.load(SeqCst)
    }

    fn death(&self) -> u32 {
        DIED + self.account.victim.load(SeqCst)
    }

    /// As many as it takes meet here, after one broken round at most, which breaks for all of them alike.
    fn meets(&self) {
        let barrier = &self.barrier;
        let (parties, wait) = (barrier.parties(), || tell(barrier.wait_timeout(LONG)));
        let round = || {
            std::thread::scope(|scope| {
                let parties: Vec<_> = (0..parties).map(|_| scope.spawn(wait)).collect();
                let mut told: Vec<_> = parties.into_iter().map(|party| party.join().unwrap()).collect();
                told.sort();
                told
            })
        };
        let indices: Vec<u32> = (1..=parties as u32).collect();
        let first = round();
        if first != indices {
            assert!(first.iter().all(|told| *told == first[0]), "broken for some: {first:?}");
            assert!(barrier.repair().unwrap());
            assert_eq!(round(), indices);
        }
    }
}

fn rescues() -> u32 {
    Registry::get().unwrap().rescues()
}

/// Runs an operation whose victim meets a sleeper; `after` is what the sleeper may be told if it was finished.
fn with_sleeper(
    name: &str,
    parties: usize,
    rounds: u32,
    operation: impl Fn(&Scene),
    survivor: impl Fn(&Scene, Fate),
) {
    let (barrier, account) = (Barrier::new(parties).unwrap(), shared::<Account>());
    let _test = support::test(120);
    let before = rescues();
    Script::new(
        name,
        || Scene::new(&barrier, account).with_sleeper_after(rounds),
        |scene, stage| {
            (0..rounds).for_each(|_| _ = scene.barrier.wait().unwrap());
            scene.begin(stage);
            operation(scene);
            stage.end();
        },
        |scene, fate| {
            survivor(scene, fate);
            scene.meets();
        },
    )
    .meanwhile(Scene::settle)
    .run()
    .assert_clean();
    assert_eq!(rescues(), before);
}

/// The sleeper's round is released, or the victim broke it by its death before.
fn released_or_died(scene: &Scene, fate: Fate) {
    let expected = if fate.finished { [2, 2] } else { [2, scene.death()] };
    if !fate.finished && scene.barrier.waiting() == 1 && scene.account.told.load(SeqCst) == 0 {
        // It may have died before anybody knew of it.
        let _ = scene.barrier.wait_timeout(LONG);
    }
    assert!(expected.contains(&scene.told()), "{} of {expected:?}", scene.told());
}

#[test]
fn a_new_party_dies_as_it_arrives_last() {
    let wait = |scene: &Scene| _ = scene.barrier.wait().unwrap();
    with_sleeper("barrier: a new party arrives last", 2, 0, wait, released_or_died);
}

#[test]
fn a_member_dies_as_it_arrives_last() {
    let wait = |scene: &Scene| _ = scene.barrier.wait().unwrap();
    with_sleeper("barrier: a member arrives last", 2, 1, wait, released_or_died);
}

#[test]
fn a_member_dies_around_its_action() {
    let wait = |scene: &Scene| {
        let action = || _ = scene.account.actions.fetch_add(1, SeqCst);
        scene.barrier.wait_with(action).unwrap();
    };
    with_sleeper("barrier: a member acts", 2, 1, wait, |scene, fate| {
        released_or_died(scene, fate);
        assert!(scene.told() != 2 || scene.account.actions.load(SeqCst) == 1, "released before the action");
    });
}

#[test]
fn a_party_dies_as_it_gives_up() {
    let hurry = |scene: &Scene| _ = scene.barrier.wait_timeout(Duration::ZERO).unwrap_err();
    with_sleeper("barrier: a party times out", 3, 0, hurry, |scene, fate| {
        if !fate.finished && scene.account.told.load(SeqCst) == 0 {
            let _ = scene.barrier.wait_timeout(Duration::ZERO);
        }
        let expected = [TIMED_OUT, if fate.finished { TIMED_OUT } else { scene.death() }];
        assert!(expected.contains(&scene.told()), "{} of {expected:?}", scene.told());
    });
}

#[test]
fn one_dies_as_it_aborts() {
    let abort = |scene: &Scene| scene.barrier.abort().unwrap();
    with_sleeper("barrier: abort", 2, 0, abort, |scene, fate| {
        assert!(!fate.finished || scene.barrier.broken());
        scene.barrier.abort().unwrap();
        assert_eq!(scene.told(), ABORTED);
    });
}

#[test]
fn one_dies_as_it_resets() {
    let reset = |scene: &Scene| scene.barrier.reset().unwrap();
    with_sleeper("barrier: reset", 2, 0, reset, |scene, fate| {
        assert!(!fate.finished || !scene.barrier.broken());
        scene.barrier.reset().unwrap();
        assert_eq!(scene.told(), RESET);
    });
}

/// Nobody is there yet, and nobody comes: the victim arrives, looks a while, and gives up.
#[test]
fn the_first_party_dies_alone() {
    let (barrier, account) = (Barrier::new(2).unwrap(), shared::<Account>());
    let _test = support::test(120);
    let hurry = |scene: &Scene, stage: &Stage| {
        scene.begin(stage);
        let _ = scene.barrier.wait_timeout(Duration::ZERO);
        stage.end();
    };
    Script::new(
        "barrier: the first party",
        || Scene::new(&barrier, account),
        hurry,
        |scene, _| scene.meets(),
    )
    .run()
    .assert_clean();
}

/// A party is dead and the barrier broken; who mends it dies too.
#[test]
fn one_dies_as_it_repairs() {
    let (barrier, account) = (Barrier::new(2).unwrap(), shared::<Account>());
    let _test = support::test(120);
    let scene = || {
        let scene = Scene::new(&barrier, account);
        let dead = fork(|| _ = scene.barrier.wait());
        until(|| scene.barrier.waiting() == 1);
        drop(dead);
        scene
    };
    let repair = |scene: &Scene, stage: &Stage| {
        scene.begin(stage);
        scene.barrier.wait().unwrap_err();
        scene.barrier.repair().unwrap();
        stage.end();
    };
    let script = Script::new("barrier: find a death and repair", scene, repair, |scene, _| {
        // The death of the first is told once, and then perhaps that of the second.
        if scene.barrier.waiting() > 0 || scene.barrier.broken() {
            scene.barrier.wait().unwrap_err();
            scene.barrier.repair().unwrap();
        }
        scene.meets();
    });
    script.run().assert_clean();
}

/// Two die one after the other as they arrive.
#[test]
fn two_die_as_they_arrive() {
    let (barrier, account) = (Barrier::new(2).unwrap(), shared::<Account>());
    let _test = support::test(240);
    let wait = |scene: &Scene, stage: &Stage| {
        scene.begin(stage);
        let _ = scene.barrier.wait_timeout(Duration::ZERO);
        let _ = scene.barrier.repair();
        stage.end();
    };
    let script = Script::new(
        "barrier: two arrive",
        || Scene::new(&barrier, account),
        wait,
        |scene, _| {
            scene.barrier.reset().unwrap();
            scene.meets();
        },
    );
    let length = script.length();
    script.run_pairs((0..length).step_by(length as usize / 8), 31).assert_clean();
}

#[test]
fn one_dies_as_it_leaves() {
    let _first = Barrier::new(1).unwrap();
    let account = shared::<Account>();
    let _test = support::test(120);
    let name = support::unique("barrier");
    let keeper = Barrier::named(&name, 1).unwrap();
    let leave = |_: &(), stage: &Stage| {
        let own = Barrier::named(&name, 1).unwrap();
        own.wait().unwrap();
        account.victim.store(std::process::id(), SeqCst);
        stage.begin();
        drop(own);
        stage.end();
    };
    Script::new(
        "barrier: leave",
        || keeper.reset().unwrap(),
        leave,
        |(), fate| {
            let told = tell(keeper.wait_timeout(LONG));
            let death = DIED + account.victim.load(SeqCst);
            assert!(told == 1 || told == death && !fate.finished, "{told}");
            keeper.reset().unwrap();
            assert_eq!(tell(keeper.wait_timeout(LONG)), 1);
        },
    )
    .run()
    .assert_clean();
}

/// Runs `victim` for one instruction more; it stays stopped.
fn step(victim: &mut Child) {
    // SAFETY: the victim is our traced child and is stopped; 0 means that no signal is passed on.
    unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, victim.pid(), 0usize, 0usize) };
    assert!(matches!(victim.wait_change(), Change::Stopped(_)));
}

/// One is stopped wherever it has the barrier's lock: who waits and who comes keep their time all the same.
#[test]
fn timeouts_are_kept_while_one_is_stopped_inside() {
    const TIMELY: Duration = Duration::from_millis(500);
    let (barrier, finished) = (Barrier::new(3).unwrap(), shared::<AtomicU32>());
    let _test = support::test(60);
    let timed = |timeout| {
        let start = Instant::now();
        let ended = barrier.wait_timeout(Duration::from_millis(timeout));
        assert!(start.elapsed() < TIMELY, "{:?}", start.elapsed());
        ended
    };
    let mut late = 0;
    for steps in (0..).step_by(2) {
        finished.store(0, SeqCst);
        let mut victim = fork(|| {
            let stage = Stage::new(1, finished);
            Me::get().unwrap();
            stage.begin();
            barrier.repair().unwrap();
            stage.end()
        });
        wait_for_begin(&mut victim).unwrap();
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| timed(30));
            until(|| barrier.waiting() == 1);
            (0..steps).for_each(|_| step(&mut victim));
            waits.join().unwrap()
        });
        assert_eq!(tell(waits), TIMED_OUT);
        assert!(barrier.broken());
        match timed(1) {
            Err(BrokenBarrier::Late) => late += 1,
            other => assert_eq!(tell(other), TIMED_OUT),
        }
        victim.kill9();
        barrier.reset().unwrap();
        if finished.load(SeqCst) == 1 {
            break;
        }
    }
    assert!(late > 0, "it never stood inside");
}

//! The test kit sees the faults it is there to see: each helper is shown one.
#![allow(unsafe_code)] // it wedges, leaks and dies on purpose

use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use support::leaks::Snapshot;
use support::step::Script;
use support::{Status, asleep, chaos, fork, procfs, shared, until, until_within};

#[test]
fn child_ends_as_it_says() {
    let _test = support::test(20);
    assert_eq!(fork(|| ()).wait(), Status::Code(0));
    assert_eq!(fork(|| panic!("on purpose")).wait(), Status::Code(101));
    assert_eq!(
        fork(|| loop {
            thread::park()
        })
        .kill9(),
        Status::Signal(libc::SIGKILL)
    );
}

#[test]
fn dropped_child_is_dead_and_reaped() {
    let _test = support::test(20);
    let child = fork(|| {
        loop {
            thread::park()
        }
    });
    let pid = child.pid();
    assert!(procfs::children(std::process::id() as i32).contains(&pid));
    drop(child);
    assert_eq!(procfs::state(pid), None);
}

#[test]
fn child_dies_with_the_thread_that_forked_it() {
    let _test = support::test(20);
    let runs = shared::<AtomicU32>();
    let work = || loop {
        runs.store(1, Relaxed);
        thread::yield_now();
    };
    let fork_and_end = || {
        let child = fork(work);
        until(|| runs.load(Relaxed) == 1);
        child
    };
    let mut child = thread::scope(|scope| scope.spawn(fork_and_end).join().unwrap());
    assert_eq!(child.wait(), Status::Signal(libc::SIGKILL));
}

#[test]
fn shared_memory_is_shared() {
    let _test = support::test(20);
    let count = shared::<AtomicU64>();
    fork(|| count.store(7, Relaxed)).wait();
    assert_eq!(count.load(Relaxed), 7);
}

#[test]
fn sleeper_is_told_from_runner_and_from_mere_sleep() {
    let _test = support::test(20);
    let runner = fork(|| {
        loop {
            std::hint::spin_loop()
        }
    });
    let napper = fork(|| {
        loop {
            thread::sleep(Duration::from_secs(100))
        }
    });
    let sleeper = fork(|| {
        loop {
            thread::park()
        }
    });
    asleep(sleeper.pid());
    until(|| procfs::state(napper.pid()) == Some('S'));
    assert!(!procfs::waits(runner.pid()) && !procfs::waits(napper.pid()));
}

#[test]
fn condition_that_never_comes_is_given_up() {
    let _test = support::test(20);
    assert!(!until_within(Duration::from_millis(10), || false));
    assert!(until_within(Duration::ZERO, || true));
}

#[test]
fn watchdog_ends_a_child_that_hangs() {
    let _test = support::test(20);
    let mut child = fork(|| {
        let _dog = support::watchdog(0);
        loop {
            thread::park();
        }
    });
    assert_eq!(child.wait(), Status::Signal(libc::SIGABRT));
    let mut child = fork(|| {
        support::alarm(1);
        loop {
            thread::park();
        }
    });
    assert_eq!(child.wait(), Status::Signal(libc::SIGALRM));
}

#[test]
fn leaked_descriptor_is_seen() {
    let _test = support::test(20);
    let before = Snapshot::now();
    let file = File::open("/dev/null").unwrap();
    let left = before.left().join(", ");
    assert!(left.contains("/dev/null"), "{left}");
    drop(file);
    assert_eq!(before.check(), Ok(()));
}

#[test]
fn leaked_name_is_seen() {
    let _test = support::test(20);
    let before = Snapshot::now();
    let name = support::unique("kit");
    std::fs::write(format!("/dev/shm/{name}"), "").unwrap();
    let left = before.left().join(", ");
    std::fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    assert!(left.contains(&name), "{left}");
    assert_eq!(before.check(), Ok(()));
}

#[test]
fn leaked_thread_and_child_are_seen() {
    let _test = support::test(20);
    let before = Snapshot::now();
    let child = fork(|| {
        loop {
            thread::park()
        }
    });
    let (off, waits) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || waits.recv());
    let left = before.left().join(", ");
    assert!(left.contains("thread") && left.contains("child"), "{left}");
    drop((child, off));
    let _ = thread.join();
    assert_eq!(before.check(), Ok(()));
}

/// A spin lock that a dead owner keeps for ever, beside one that is taken over.
struct SpinLock {
    word: &'static AtomicU32,
    robust: bool,
}

impl SpinLock {
    fn lock(&self) {
        let me = std::process::id();
        loop {
            let owner = self.word.load(SeqCst);
            let free = owner == 0 || self.robust && procfs::state(owner as i32).is_none();
            if free && self.word.compare_exchange(owner, me, SeqCst, SeqCst).is_ok() {
                return;
            }
            thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.word.store(0, SeqCst);
    }

    fn script(&self) -> Script<'_, ()> {
        let scene = || self.unlock();
        let victim = |_: &(), stage: &support::step::Stage| {
            stage.begin();
            self.lock();
            self.unlock();
        };
        let survivor = |_: &(), _| {
            self.lock();
            self.unlock();
        };
        Script::new("spin lock", scene, victim, survivor).seconds(1)
    }
}

#[test]
fn single_step_killer_sees_a_wedge_and_nothing_else() {
    let _test = support::test(60);
    let broken = SpinLock { word: shared(), robust: false }.script().run();
    broken.assert_caught();
    assert!(broken.wedged > 0 && broken.wrong == 0 && broken.points > broken.wedged, "{broken}");
    SpinLock { word: shared(), robust: true }.script().run().assert_clean();
}

/// Two words that must be equal, written one after the other.
#[test]
fn single_step_killer_sees_what_is_half_written() {
    let _test = support::test(60);
    let words = support::shared_slice::<AtomicU64>(2);
    let report = Script::new(
        "two words",
        || words.iter().for_each(|word| word.store(0, SeqCst)),
        |_, stage| {
            stage.begin();
            words[0].store(1, SeqCst);
            words[1].store(1, SeqCst);
        },
        |_, fate| {
            let [a, b] = [0, 1].map(|i| words[i].load(SeqCst));
            assert!(a == b && (!fate.finished || a == 1), "half written");
        },
    )
    .run();
    assert!(report.wrong > 0 && report.wedged == 0, "{report}");
}

/// A loop, so that the same instructions are met many times.
#[test]
fn single_step_killer_finds_at_full_speed_the_points_that_it_steps_to() {
    let _test = support::test(60);
    let word = shared::<AtomicU64>();
    let seen = support::shared_slice::<AtomicU64>(10_000);
    let points = shared::<AtomicU64>();
    let script = Script::new(
        "count to 20",
        || word.store(0, SeqCst),
        |_, stage| {
            stage.begin();
            let mut text = [0u8; 64];
            for number in 1..=20u8 {
                text.fill(number);
                word.store(std::hint::black_box(&text)[63].into(), SeqCst);
            }
        },
        |_, _| seen[points.fetch_add(1, SeqCst) as usize].store(word.load(SeqCst), SeqCst),
    );
    script.run().assert_clean();
    let found = points.swap(0, SeqCst) as usize;
    let at_full_speed: Vec<_> = seen[1..found].iter().map(|word| word.load(SeqCst)).collect(); // 0: nobody died
    (0..at_full_speed.len() as u64).for_each(|n| _ = script.round(&[n]));
    let stepped: Vec<_> = seen[..at_full_speed.len()].iter().map(|word| word.load(SeqCst)).collect();
    assert_eq!(at_full_speed, stepped);
    assert_eq!((stepped.first(), stepped.last()), (Some(&0), Some(&20)));
}

#[test]
fn two_level_killer_kills_in_the_recovery_too() {
    let _test = support::test(60);
    let deaths = shared::<AtomicU64>();
    let lock = SpinLock { word: shared(), robust: true };
    let script = Script::new(
        "two levels",
        || deaths.store(0, SeqCst),
        |_, stage| {
            deaths.fetch_add(stage.level as u64, SeqCst);
            stage.begin();
            lock.lock();
            lock.unlock();
        },
        |_, _| assert_ne!(deaths.load(SeqCst), 0),
    );
    let points = script.length();
    let report = script.run_pairs((0..points).step_by(20), 500);
    assert!(report.points > points / 20, "{report}");
    report.assert_clean();
    assert_eq!(deaths.load(SeqCst), 1 + 2, "both levels were there in the last round");
}

#[test]
fn stuck_victim_is_a_wedge() {
    let _test = support::test(60);
    let stuck = |_: &(), stage: &support::step::Stage| {
        stage.begin();
        loop {
            thread::park();
        }
    };
    let round = Script::new("stuck", || (), stuck, |_, _| ()).seconds(1).round(&[u64::MAX]);
    assert_eq!(round.verdict, support::step::Verdict::Wedged);
}

#[test]
fn random_killer_sees_a_wedge() {
    let _test = support::test(120);
    let lock = SpinLock { word: shared(), robust: false };
    let count = shared::<AtomicU64>();
    let work = |_| loop {
        lock.lock();
        count.fetch_add(1, SeqCst);
        lock.unlock();
    };
    let plan = chaos::Plan { workers: 2, kills: 2000, seed: support::seed() };
    let report = plan.run(work, || count.load(SeqCst));
    println!("{report}");
    assert!(report.hang && report.total() > 0, "{report}");
}

#[test]
fn random_killer_lets_good_workers_work() {
    let _test = support::test(120);
    let count = shared::<AtomicU64>();
    let work = |_| loop {
        count.fetch_add(1, SeqCst);
    };
    let plan = chaos::Plan { workers: 3, kills: 100, seed: support::seed() };
    let report = plan.run(work, || count.load(SeqCst));
    println!("{report}");
    assert!(!report.hang && report.kills.iter().all(|kills| *kills > 0), "{report}");
}

#[test]
fn same_seed_makes_the_same_numbers() {
    let mut twins = [support::Rng::new(5), support::Rng::new(5)];
    let [a, b] = twins.each_mut().map(|rng| (0..1000).map(|_| rng.below(10)).collect::<Vec<_>>());
    assert_eq!(a, b);
    assert_eq!((0..10).filter(|n| a.contains(n)).count(), 10);
}

#[test]
fn pinned_thread_stays() {
    let _test = support::test(20);
    let status = fork(|| {
        support::pin(0);
        // SAFETY: no arguments.
        let cpu = unsafe { libc::sched_getcpu() };
        assert_eq!(cpu, 0);
    })
    .wait();
    assert_eq!(status, Status::Code(0));
}

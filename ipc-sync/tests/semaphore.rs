//! What `Semaphore` promises, with real processes that stop and die.
#![allow(unsafe_code)]

use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{NamedError, ReleaseError, Semaphore, SemaphoreError, TryAcquireError};

use support::chaos::Plan;
use support::step::Script;
use support::{
    Child, Status, Times, asleep, assert_exact, fork, hold, join, shared, storm_of_alarms, unique, until,
};

const LONG: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Semaphores for all tests, and all rounds of their scripts, made before any leak oracle looks: the arenas stay for
/// the process, and a cell that was there at a fork is not used again.
static POOL: LazyLock<Vec<Semaphore>> =
    LazyLock::new(|| (0..POOL_SIZE).map(|_| Semaphore::new(0).unwrap()).collect());

const POOL_SIZE: usize = 6000;

fn semaphore(permits: u32) -> Semaphore {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let semaphore = POOL[NEXT.fetch_add(1, SeqCst)].clone();
    (0..permits).for_each(|_| semaphore.release().unwrap());
    semaphore
}

/// A child that takes `count` permits and keeps them.
fn holder(semaphore: &Semaphore, count: u32) -> Child {
    hold(|| (0..count).for_each(|_| std::mem::forget(semaphore.acquire().unwrap())))
}

fn would_block<T>(result: &Result<T, TryAcquireError>) -> bool {
    matches!(result, Err(TryAcquireError::WouldBlock))
}

#[test]
fn permits_come_and_go() {
    let semaphore = semaphore(2);
    let _test = support::test(20);
    let (one, two) = (semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap());
    assert_eq!(semaphore.value().unwrap(), 0);
    assert!(would_block(&semaphore.try_acquire()));
    drop(one);
    assert_eq!(semaphore.value().unwrap(), 1);
    drop(two);
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn never_more_inside_than_permits() {
    let semaphore = semaphore(2);
    let _test = support::test(60);
    let (inside, done) = (shared::<AtomicI32>(), shared::<AtomicU64>());
    let work = || {
        for _ in 0..20_000 {
            let _permit = semaphore.acquire().unwrap();
            assert!(inside.fetch_add(1, SeqCst) < 2);
            done.fetch_add(1, SeqCst);
            inside.fetch_sub(1, SeqCst);
        }
    };
    join((0..4).map(|_| fork(work)));
    assert_eq!(done.load(SeqCst), 80_000);
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn threads_share_it_too() {
    let semaphore = semaphore(1);
    let _test = support::test(60);
    let inside = AtomicI32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let _permit = semaphore.acquire().unwrap();
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    inside.fetch_sub(1, SeqCst);
                }
            });
        }
    });
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[test]
fn permits_of_the_dead_come_back() {
    let semaphore = semaphore(3);
    let _test = support::test(30);
    for round in 0..60 {
        let count = 1 + round % 3;
        let mut dying = holder(&semaphore, count);
        assert_eq!(semaphore.value().unwrap(), 3 - count);
        dying.kill9();
        assert_eq!(semaphore.value().unwrap(), 3);
        let permits: Vec<_> = (0..3).map(|_| semaphore.acquire_timeout(LONG).unwrap()).collect();
        assert!(would_block(&semaphore.try_acquire()));
        drop(permits);
    }
}

#[test]
fn a_thread_that_ends_with_a_permit_has_died() {
    let semaphore = semaphore(1);
    let _test = support::test(20);
    std::thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(semaphore.acquire().unwrap()));
    });
    drop(semaphore.acquire_timeout(LONG).unwrap());
}

#[test]
fn sleeping_waiter_gets_the_permit_of_the_dead_at_once() {
    let semaphore = semaphore(1);
    let _test = support::test(30);
    let mut times = Times::default();
    for _ in 0..20 {
        let mut dying = holder(&semaphore, 1);
        let mut waiter = fork(|| drop(semaphore.acquire().unwrap()));
        asleep(waiter.pid());
        let start = Instant::now();
        dying.kill9();
        assert_eq!(waiter.wait(), Status::Code(0));
        times.lap(start);
    }
    times.assert_soon();
}

#[test]
fn three_permits_of_the_dead_wake_three_waiters() {
    let semaphore = semaphore(3);
    let _test = support::test(30);
    let through = shared::<AtomicU32>();
    let mut times = Times::default();
    for _ in 0..10 {
        through.store(0, SeqCst);
        let mut dying = holder(&semaphore, 3);
        let wait_with_others = || {
            std::mem::forget(semaphore.acquire().unwrap());
            through.fetch_add(1, SeqCst);
            until(|| through.load(SeqCst) == 3);
        };
        let waiters: Vec<_> = (0..3).map(|_| fork(wait_with_others)).collect();
        waiters.iter().for_each(|waiter| asleep(waiter.pid()));
        let start = Instant::now();
        dying.kill9();
        join(waiters);
        times.lap(start);
    }
    times.assert_soon();
}

/// The one that was woken is killed at once, or is so slow that it dies in its sleep: the next gets the permit.
#[test]
fn a_woken_waiter_that_dies_passes_the_wake_on() {
    let semaphore = semaphore(1);
    let _test = support::test(60);
    let mut times = Times::default();
    for round in 0..100 {
        let permit = semaphore.acquire().unwrap();
        let mut first = fork(|| std::mem::forget(semaphore.acquire().unwrap()));
        asleep(first.pid());
        let mut second = fork(|| std::mem::forget(semaphore.acquire().unwrap()));
        asleep(second.pid());
        if round % 2 == 0 {
            first.signal(libc::SIGSTOP); // the wake is spent on one that does not look
            until(|| support::procfs::state(first.pid()) == Some('T'));
        }
        let start = Instant::now();
        drop(permit);
        first.kill9();
        assert_eq!(second.wait(), Status::Code(0));
        times.lap(start);
    }
    times.assert_soon();
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[test]
fn giving_back_wakes_a_sleeper_at_once() {
    let semaphore = semaphore(1);
    let _test = support::test(30);
    let mut times = Times::default();
    for _ in 0..50 {
        let permit = semaphore.acquire().unwrap();
        let mut waiter = fork(|| drop(semaphore.acquire().unwrap()));
        asleep(waiter.pid());
        let start = Instant::now();
        drop(permit);
        assert_eq!(waiter.wait(), Status::Code(0));
        times.lap(start);
    }
    times.assert_soon();
}

#[test]
fn the_count_holds_while_holders_are_killed() {
    let semaphore = semaphore(2);
    let _test = support::test(60);
    let done = shared::<AtomicU64>();
    let plan = Plan { workers: 4, kills: 500, seed: support::seed() };
    let report = plan.run(
        |_| loop {
            let _permit = semaphore.acquire().unwrap();
            done.fetch_add(1, SeqCst);
        },
        || {
            assert!(semaphore.value().unwrap() <= 2);
            done.load(SeqCst)
        },
    );
    assert!(!report.hang, "{report}");
    drop(report.workers);
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn a_forgotten_permit_comes_back_by_another_process() {
    let semaphore = semaphore(1);
    let _test = support::test(20);
    semaphore.acquire().unwrap().forget();
    assert_eq!(semaphore.value().unwrap(), 0);
    let mut other = fork(|| semaphore.release().unwrap());
    drop(semaphore.acquire_timeout(LONG).unwrap());
    assert_eq!(other.wait(), Status::Code(0));
    assert_eq!(semaphore.value().unwrap(), 1);
}

#[test]
fn death_does_not_give_back_what_was_forgotten() {
    let _first = self::semaphore(1);
    let semaphore = Semaphore::bounded(3).unwrap();
    let _test = support::test(20);
    let mut child = fork(|| {
        std::mem::forget(semaphore.acquire().unwrap());
        semaphore.acquire().unwrap().forget();
        assert_eq!(semaphore.value().unwrap(), 1);
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(semaphore.value().unwrap(), 2);
    semaphore.release().unwrap();
    assert_eq!(semaphore.value().unwrap(), 3);
}

#[test]
fn release_above_the_bound_changes_nothing() {
    let _first = self::semaphore(1);
    let semaphore = Semaphore::bounded(2).unwrap();
    let _test = support::test(20);
    let permit = semaphore.acquire().unwrap();
    assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    assert_eq!(semaphore.value().unwrap(), 1);
    drop(permit);
    assert!(matches!(semaphore.release(), Err(ReleaseError::TooMany)));
    assert_eq!((semaphore.value().unwrap(), semaphore.bound()), (2, Some(2)));

    let largest = Semaphore::new(Semaphore::MAX).unwrap();
    assert!(matches!(largest.release(), Err(ReleaseError::TooMany)));
    assert_eq!((largest.value().unwrap(), largest.bound()), (Semaphore::MAX, None));
}

#[test]
fn release_adds_permits_and_wakes() {
    let semaphore = semaphore(0);
    let _test = support::test(30);
    let mut times = Times::default();
    for _ in 0..20 {
        let waiters: Vec<_> = (0..2).map(|_| fork(|| semaphore.acquire().unwrap().forget())).collect();
        waiters.iter().for_each(|waiter| asleep(waiter.pid()));
        let start = Instant::now();
        semaphore.release().unwrap();
        semaphore.release().unwrap();
        join(waiters);
        times.lap(start);
    }
    times.assert_soon();
    assert_eq!(semaphore.value().unwrap(), 0);
}

#[test]
fn a_timeout_covers_the_whole_call() {
    let semaphore = semaphore(1);
    let _test = support::test(20);
    let _holder = holder(&semaphore, 1);
    let start = Instant::now();
    assert_exact(Duration::from_millis(150), |timeout| {
        assert!(would_block(&semaphore.acquire_timeout(timeout)))
    });
    assert!(would_block(&semaphore.acquire_deadline(start)));
    assert!(would_block(&semaphore.acquire_timeout(Duration::ZERO)));
    assert!(format!("{semaphore:?}").contains("waiting: 0"), "{semaphore:?}");
}

#[test]
fn signals_do_not_end_a_wait_early() {
    let semaphore = semaphore(1);
    let _test = support::test(30);
    let _holder = holder(&semaphore, 1);
    let mut waiter = fork(|| {
        storm_of_alarms();
        let start = Instant::now();
        assert!(would_block(&semaphore.acquire_timeout(Duration::from_millis(300))));
        assert!((300..600).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    });
    assert_eq!(waiter.wait(), Status::Code(0));
}

#[test]
fn a_forked_child_holds_nothing() {
    let semaphore = semaphore(2);
    let _test = support::test(60);
    let mut permits = Some([semaphore.acquire().unwrap(), semaphore.acquire().unwrap()]);
    for _ in 0..100 {
        let mut child = fork(|| {
            let [one, two] = permits.take().unwrap();
            drop(one); // inert: they are the parent's
            two.forget();
            assert_eq!(semaphore.value().unwrap(), 0);
            assert!(would_block(&semaphore.try_acquire()));
        });
        assert_eq!(child.wait(), Status::Code(0));
    }
    assert_eq!(semaphore.value().unwrap(), 0);
    drop(permits);
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn a_stopped_holder_is_not_dead() {
    let semaphore = semaphore(1);
    let _test = support::test(20);
    let mut stopped = holder(&semaphore, 1);
    stopped.signal(libc::SIGSTOP);
    until(|| support::procfs::state(stopped.pid()) == Some('T'));
    assert!(would_block(&semaphore.acquire_timeout(SECOND)));
    assert_eq!(semaphore.value().unwrap(), 0);
    stopped.signal(libc::SIGCONT);
    assert!(would_block(&semaphore.try_acquire()));
    stopped.kill9();
    drop(semaphore.acquire_timeout(LONG).unwrap());
}

#[test]
fn a_holder_that_execs_has_died() {
    let semaphore = semaphore(1);
    let _test = support::test(30);
    for _ in 0..20 {
        let mut child = fork(|| {
            std::mem::forget(semaphore.acquire().unwrap());
            let program = c"/bin/true".as_ptr();
            let arguments = [program, std::ptr::null()];
            // SAFETY: a program and a list of arguments that ends with null, both alive.
            unsafe { libc::execv(program, arguments.as_ptr()) };
        });
        assert_eq!(child.wait(), Status::Code(0));
        drop(semaphore.acquire_timeout(LONG).unwrap());
    }
}

#[test]
fn whoever_finds_too_many_holders_waits_for_one_of_them() {
    let semaphore = semaphore(200);
    let _test = support::test(30);
    let (held, over) = (AtomicU32::new(0), AtomicU32::new(0));
    let full = |result| matches!(result, Err(TryAcquireError::Failed(SemaphoreError::TooManyHolders)));
    std::thread::scope(|scope| {
        let hold = |until_when| {
            let permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
            held.fetch_add(1, SeqCst);
            until(|| over.load(SeqCst) >= until_when);
            drop(permits);
        };
        scope.spawn(move || hold(1));
        (0..63).for_each(|_| _ = scope.spawn(move || hold(2)));
        until(|| held.load(SeqCst) == 64);
        assert!(full(semaphore.try_acquire()));
        assert!(full(semaphore.acquire_timeout(Duration::from_millis(20))));
        (0..3).for_each(|_| _ = scope.spawn(|| drop(semaphore.acquire().unwrap())));
        assert_eq!(semaphore.value().unwrap(), 200 - 128);
        over.store(1, SeqCst);
        drop(semaphore.acquire_timeout(LONG).unwrap());
        over.store(2, SeqCst);
    });
    assert_eq!(semaphore.value().unwrap(), 200);
}

#[test]
fn a_place_of_the_dead_is_free_at_once() {
    let semaphore = semaphore(200);
    let _test = support::test(60);
    let mut holders: Vec<_> = (0..64).map(|_| holder(&semaphore, 1)).collect();
    let got = shared::<AtomicU32>();
    let late = fork(|| {
        drop(semaphore.acquire().unwrap());
        got.store(1, SeqCst);
    });
    asleep(late.pid());
    let killed = Instant::now();
    holders[17].kill9();
    until(|| got.load(SeqCst) == 1);
    assert!(killed.elapsed() < Duration::from_millis(250), "{:?}", killed.elapsed());
    join(vec![late]);
}

#[test]
fn no_timeout_is_late_beside_a_process_stopped_anywhere_inside() {
    let semaphore = semaphore(1000);
    let _test = support::test(60);
    let mut busy = fork(|| {
        loop {
            drop(semaphore.acquire().unwrap());
        }
    });
    let mut rng = support::Rng::new(1);
    for _ in 0..100 {
        let pause = Instant::now();
        until(|| pause.elapsed() > Duration::from_micros(1000 + rng.below(300)));
        busy.signal(libc::SIGSTOP);
        until(|| support::procfs::state(busy.pid()) == Some('T'));
        let start = Instant::now();
        let value = semaphore.value().unwrap();
        assert!(value >= 999, "{value}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        busy.signal(libc::SIGCONT);
    }
    busy.kill9();
    assert_eq!(semaphore.value().unwrap(), 1000);
}

/// More waiters than the ledger has places for.
#[test]
fn a_crowd_of_waiters_gets_through() {
    let semaphore = semaphore(2);
    let _test = support::test(60);
    std::thread::scope(|scope| {
        let permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
        for _ in 0..150 {
            scope.spawn(|| drop(semaphore.acquire().unwrap()));
        }
        until(|| format!("{semaphore:?}").contains("waiting: 63"));
        drop(permits);
    });
    assert_eq!(semaphore.value().unwrap(), 2);
}

#[test]
fn a_name_leads_to_the_same_semaphore_and_its_first_value_counts() {
    let name = unique("semaphore");
    let _first = semaphore(1);
    let _test = support::test(20);
    let semaphore = Semaphore::named(&name, 2).unwrap();
    let same = Semaphore::named(&name, 7).unwrap();
    let mut other = fork(|| {
        let other = Semaphore::named(&name, 0).unwrap();
        other.acquire().unwrap().forget();
    });
    assert_eq!(other.wait(), Status::Code(0));
    assert_eq!((semaphore.value().unwrap(), same.value().unwrap()), (1, 1));
    assert!(matches!(Semaphore::named_bounded(&name, 2), Err(NamedError::Bound { found: None })));
    drop((semaphore, same));
    assert_eq!(
        Semaphore::named_bounded(&name, 3).unwrap().value().unwrap(),
        3,
        "the last user took the name away"
    );
}

#[test]
fn another_bound_or_type_under_the_name_is_an_error() {
    let name = unique("semaphore");
    let _first = semaphore(1);
    let _test = support::test(20);
    let semaphore = Semaphore::named_bounded(&name, 2).unwrap();
    assert!(Semaphore::named_bounded(&name, 2).is_ok());
    assert!(matches!(Semaphore::named_bounded(&name, 3), Err(NamedError::Bound { found: Some(2) })));
    assert!(matches!(Semaphore::named(&name, 2), Err(NamedError::Bound { found: Some(2) })));
    assert!(matches!(ipc_sync::Lock::named(&name), Err(NamedError::Name(_))));
    assert_eq!(semaphore.value().unwrap(), 2);
}

/// Who has the memory may write anything there. It can block others, but nobody panics or crashes of it.
#[test]
fn garbage_in_the_words_makes_nobody_panic() {
    let name = unique("semaphore");
    let _first = semaphore(1);
    let _test = support::test(60);
    let seed = support::seed();
    for round in 0..20 {
        let subject = Semaphore::named(&name, 2).unwrap();
        let file = std::fs::File::options().write(true).open(format!("/dev/shm/{name}")).unwrap();
        let (length, uses) = (file.metadata().unwrap().len(), shared::<AtomicU32>());
        let mut user = fork(|| {
            loop {
                use_it(&subject);
                uses.fetch_add(1, SeqCst);
            }
        });
        until(|| uses.load(SeqCst) > 100);
        let mut rng = support::Rng::new(seed + round);
        for _ in 0..2000 {
            let at = HEADER + 4 * rng.below((length - HEADER) / 4);
            file.write_all_at(&(rng.below(1 << 32) as u32).to_ne_bytes(), at).unwrap();
            (0..100).for_each(|_| std::hint::spin_loop());
        }
        assert_eq!(user.try_wait(), None, "it ended of it");
        user.kill9();
    }
}

/// Of a segment, which is checked when it is opened.
const HEADER: u64 = 128;

fn use_it(semaphore: &Semaphore) {
    let permits = [semaphore.try_acquire(), semaphore.acquire_timeout(Duration::from_micros(100))];
    if let [Ok(permit), _] = permits {
        permit.forget();
    }
    let _ = (semaphore.release(), semaphore.value());
    let _ = format!("{semaphore:?}");
}

#[test]
fn debug_tells_the_state_without_blocking() {
    let _first = self::semaphore(1);
    let semaphore = Semaphore::bounded(3).unwrap();
    let _test = support::test(20);
    let _holder = holder(&semaphore, 2);
    let text = format!("{semaphore:?}");
    assert_eq!(text, "Semaphore { value: 1, bound: Some(3), holders: 1, waiting: 0 }");
}

// A death after every instruction.

/// Nobody has a permit any more, so all must be there, and be had at once.
fn all_are_free(semaphore: &Semaphore, count: u32) {
    assert_eq!(semaphore.value().unwrap(), count);
    let permits: Vec<_> = (0..count).map(|_| semaphore.acquire_timeout(SECOND).unwrap()).collect();
    assert!(would_block(&semaphore.try_acquire()));
    drop(permits);
    assert_eq!(semaphore.value().unwrap(), count);
}

/// Enters the registry before the operation: that is a script of its own.
fn registered() {
    ipc_sync::Me::get().unwrap();
}

#[test]
fn acquire_dies_at_any_instruction() {
    let _first = semaphore(1);
    let _test = support::test(120);
    for permits in [1, 3] {
        Script::new(
            "acquire",
            || semaphore(permits),
            |semaphore, stage| {
                registered();
                stage.begin();
                std::mem::forget(semaphore.acquire());
                stage.end();
            },
            |semaphore, _| all_are_free(semaphore, permits),
        )
        .run()
        .assert_clean();
    }
}

#[test]
fn acquire_from_the_dead_dies_at_any_instruction() {
    let _first = semaphore(1);
    let _test = support::test(120);
    let script = Script::new(
        "acquire from the dead",
        || {
            let semaphore = semaphore(2);
            fork(|| (0..2).for_each(|_| std::mem::forget(semaphore.acquire().unwrap()))).wait();
            semaphore
        },
        |semaphore, stage| {
            registered();
            stage.begin();
            std::mem::forget(semaphore.try_acquire());
            stage.end();
        },
        |semaphore, _| all_are_free(semaphore, 2),
    );
    script.run().assert_clean();
    let length = script.length();
    script.run_pairs([length / 4, length / 2, length - 40], 97).assert_clean();
}

/// The victim spins, sleeps for a permit, and gives up.
#[test]
fn a_sleeping_acquire_dies_at_any_instruction() {
    let _first = semaphore(1);
    let _test = support::test(120);
    Script::new(
        "acquire that finds none",
        || {
            let semaphore = semaphore(1);
            semaphore.acquire().unwrap().forget();
            semaphore
        },
        |semaphore, stage| {
            registered();
            stage.begin();
            std::mem::forget(semaphore.acquire_timeout(Duration::from_millis(15)));
            stage.end();
        },
        |semaphore, _| {
            assert_eq!(semaphore.value().unwrap(), 0);
            semaphore.release().unwrap();
            all_are_free(semaphore, 1);
        },
    )
    .run()
    .assert_clean();
}

/// What the parent prepares while the victim stands at its begin: somebody who sleeps for a permit.
struct Scene {
    semaphore: Semaphore,
    waiter: std::cell::RefCell<Option<Child>>,
    through: &'static AtomicU32,
}

impl Scene {
    fn new(through: &'static AtomicU32) -> Scene {
        through.store(0, SeqCst);
        Scene { semaphore: semaphore(1), waiter: None.into(), through }
    }

    fn let_somebody_sleep(&self) {
        let waiter = fork(|| {
            drop(self.semaphore.acquire().unwrap());
            self.through.store(1, SeqCst);
        });
        asleep(waiter.pid());
        *self.waiter.borrow_mut() = Some(waiter);
    }

    fn nothing_was_released(&self) -> bool {
        let waiter = self.waiter.borrow();
        support::procfs::waits(waiter.as_ref().unwrap().pid()) && self.semaphore.value().unwrap() == 0
    }

    fn waiter_gets_through(&self) {
        until(|| self.through.load(SeqCst) == 1);
        all_are_free(&self.semaphore, 1);
    }
}

#[test]
fn giving_back_dies_with_a_sleeping_waiter() {
    let _first = semaphore(1);
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "give back with a sleeping waiter",
        || Scene::new(through),
        |scene, stage| {
            let permit = scene.semaphore.acquire().unwrap();
            stage.begin();
            drop(permit);
            stage.end();
        },
        |scene, _| scene.waiter_gets_through(),
    )
    .meanwhile(Scene::let_somebody_sleep)
    .run()
    .assert_clean();
}

#[test]
fn releasing_dies_with_a_sleeping_waiter() {
    let _first = semaphore(1);
    let through = shared::<AtomicU32>();
    let _test = support::test(120);
    Script::new(
        "release with a sleeping waiter",
        || Scene::new(through),
        |scene, stage| {
            scene.semaphore.acquire().unwrap().forget();
            stage.begin();
            scene.semaphore.release().unwrap();
            stage.end();
        },
        |scene, fate| {
            // A permit that is there and a waiter that sleeps on would be a lost wake, found by the time it takes.
            until(|| scene.through.load(SeqCst) == 1 || scene.nothing_was_released());
            if scene.through.load(SeqCst) == 0 {
                assert!(!fate.finished);
                scene.semaphore.release().unwrap();
            }
            scene.waiter_gets_through();
        },
    )
    .meanwhile(Scene::let_somebody_sleep)
    .run()
    .assert_clean();
}

#[test]
fn forget_dies_at_any_instruction() {
    let _first = semaphore(1);
    let _test = support::test(120);
    Script::new(
        "forget",
        || semaphore(2),
        |semaphore, stage| {
            let permits = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
            let [one, two] = permits;
            std::mem::forget(one);
            stage.begin();
            two.forget();
            stage.end();
        },
        |semaphore, fate| {
            let left = semaphore.value().unwrap();
            assert!(left == 1 || left == 2 && !fate.finished, "{left}");
            all_are_free(semaphore, left);
        },
    )
    .run()
    .assert_clean();
}

//! What `Barrier` promises, with real processes that stop and die.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Barrier, BarrierError, BrokenBarrier, Lock, NamedError, Registry};

use support::{Child, Rng, Status, asleep, fork, join, shared, storm_of_alarms, until};

const LONG: Duration = Duration::from_secs(10);

/// A barrier, made before the leak oracle looks: its arena and the registry stay for the process.
fn barrier(parties: usize) -> Barrier {
    Barrier::new(parties).unwrap()
}

fn rescues() -> u32 {
    Registry::get().unwrap().rescues()
}

fn milliseconds(start: Instant) -> u128 {
    start.elapsed().as_millis()
}

/// A child that waits at `barrier` and tells how that ended: 1 + the index, or 1000 + what broke it.
fn party(barrier: &Barrier, told: &AtomicU32) -> Child {
    let child = fork(|| told.store(tell(barrier.wait_timeout(LONG)), SeqCst));
    asleep(child.pid());
    child
}

const TIMED_OUT: u32 = 1001;
const ABORTED: u32 = 1002;
const RESET: u32 = 1003;
const PANICKED: u32 = 1004;
/// Plus the pid.
const DIED: u32 = 10_000_000;

fn tell(result: Result<ipc_sync::BarrierWait, BrokenBarrier>) -> u32 {
    match result {
        Ok(wait) => 1 + wait.index() as u32,
        Err(BrokenBarrier::TimedOut) => TIMED_OUT,
        Err(BrokenBarrier::Aborted) => ABORTED,
        Err(BrokenBarrier::Reset) => RESET,
        Err(BrokenBarrier::Panicked) => PANICKED,
        Err(BrokenBarrier::Died { pid }) => DIED + pid,
        Err(error) => panic!("{error}"),
    }
}

fn died(pid: i32) -> u32 {
    DIED + pid as u32
}

/// What parties of any kind find in many rounds.
#[derive(Default)]
struct Account {
    arrived: AtomicU64,
    zeros: AtomicU64,
    sum: AtomicU64,
    actions: AtomicU64,
    ahead: AtomicU64,
}

/// One party of `parties`, for so many rounds.
fn meet(barrier: &Barrier, parties: u64, rounds: u64, account: &Account) {
    for round in 1..=rounds {
        account.arrived.fetch_add(1, SeqCst);
        let action = || {
            let all = account.arrived.load(SeqCst) == round * parties;
            account.actions.fetch_add(u64::from(all), SeqCst);
        };
        let wait = barrier.wait_with(action).unwrap();
        if account.actions.load(SeqCst) < round || account.arrived.load(SeqCst) < round * parties {
            account.ahead.fetch_add(1, SeqCst);
        }
        account.zeros.fetch_add(u64::from(wait.is_leader()), SeqCst);
        account.sum.fetch_add(wait.index() as u64, SeqCst);
    }
}

fn check(account: &Account, parties: u64, rounds: u64) {
    let found = [&account.arrived, &account.zeros, &account.actions, &account.sum, &account.ahead];
    let expected = [parties * rounds, rounds, rounds, rounds * parties * (parties - 1) / 2, 0];
    assert_eq!(found.map(|count| count.load(SeqCst)), expected);
}

#[test]
fn processes_meet_in_each_round_with_one_leader_and_one_action() {
    const ROUNDS: u64 = 10_000;
    let barriers = [2, 3, 5].map(barrier);
    let _test = support::test(120);
    for barrier in &barriers {
        let (parties, account) = (barrier.parties() as u64, shared::<Account>());
        join((0..parties).map(|_| fork(|| meet(barrier, parties, ROUNDS, account))).collect::<Vec<_>>());
        check(account, parties, ROUNDS);
        assert!(!barrier.broken() && barrier.waiting() == 0);
    }
}

#[test]
fn threads_meet_in_each_round() {
    let barrier = barrier(4);
    let _test = support::test(60);
    let account = shared::<Account>();
    std::thread::scope(|scope| {
        (0..4).for_each(|_| _ = scope.spawn(|| meet(&barrier, 4, 2000, account)));
    });
    check(account, 4, 2000);
}

#[test]
fn whoever_knows_its_name_meets_there() {
    let _first = barrier(1);
    let _test = support::test(60);
    let name = support::unique("barrier");
    let keeper = Barrier::named(&name, 3).unwrap();
    let account = shared::<Account>();
    let party = || fork(|| meet(&Barrier::named(&name, 3).unwrap(), 3, 1000, account));
    join([party(), party(), party()]);
    check(account, 3, 1000);
    assert!(matches!(Barrier::named(&name, 2), Err(BarrierError::OtherParties(3))));
    assert!(matches!(Lock::named(&name), Err(NamedError::Name(_))), "it is no lock");
    drop(keeper);
    assert_eq!(Barrier::named(&name, 2).unwrap().parties(), 2, "the name went with its last user");
}

#[test]
fn a_barrier_has_1_to_64_parties() {
    let _first = barrier(1);
    let _test = support::test(60);
    assert!(matches!(Barrier::new(0), Err(BarrierError::Parties(0))));
    assert!(matches!(Barrier::new(65), Err(BarrierError::Parties(65))));
    let alone = barrier(1);
    (0..3).for_each(|_| assert!(alone.wait().unwrap().is_leader()));
    let many = barrier(64);
    let account = shared::<Account>();
    join((0..64).map(|_| fork(|| meet(&many, 64, 20, account))).collect::<Vec<_>>());
    check(account, 64, 20);
}

#[test]
fn waiting_tells_how_many_are_there() {
    let barrier = barrier(3);
    let _test = support::test(20);
    let (a, b) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    assert_eq!((barrier.parties(), barrier.waiting()), (3, 0));
    let first = party(&barrier, a);
    assert_eq!(barrier.waiting(), 1);
    let second = party(&barrier, b);
    assert_eq!(barrier.waiting(), 2);
    assert_eq!(format!("{barrier:?}"), "Barrier { parties: 3, waiting: 2, broken: false, .. }");
    assert_eq!(barrier.wait().unwrap().index(), 0);
    join([first, second]);
    assert_eq!([a, b].map(|told| told.load(SeqCst)), [3, 2]);
    assert_eq!(barrier.waiting(), 0);
}

#[test]
fn a_party_that_dies_in_its_wait_breaks_it_for_all() {
    let barrier = barrier(4);
    let _test = support::test(20);
    let before = rescues();
    let told = [(); 2].map(|()| shared::<AtomicU32>());
    let others = told.map(|told| party(&barrier, told));
    let mut victim = party(&barrier, shared::<AtomicU32>());
    let pid = victim.pid();
    let start = Instant::now();
    victim.kill9();
    join(others);
    assert!(milliseconds(start) < 90, "{:?}: that was the backstop", start.elapsed());
    assert_eq!(told.map(|told| told.load(SeqCst)), [died(pid); 2]);
    assert_eq!(tell(barrier.wait()), died(pid), "it stays broken");
    assert_eq!(rescues(), before);
    barrier.reset().unwrap();
    let told = [(); 3].map(|()| shared::<AtomicU32>());
    let others = told.map(|told| party(&barrier, told));
    assert_eq!(tell(barrier.wait()), 1);
    join(others);
}

/// A child that meets once, then stays away until it is killed.
fn stays_away(barrier: &Barrier) -> Child {
    let met = shared::<AtomicU32>();
    let child = fork(|| {
        barrier.wait_timeout(LONG).unwrap();
        met.store(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    barrier.wait_timeout(LONG).unwrap();
    until(|| met.load(SeqCst) == 1);
    child
}

#[test]
fn a_party_that_dies_between_two_rounds_breaks_the_next() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let mut victim = stays_away(&barrier);
    victim.kill9();
    assert_eq!(tell(barrier.wait()), died(victim.pid()), "it was dead when we came");
    barrier.reset().unwrap();
    let mut victim = stays_away(&barrier);
    let told = shared::<AtomicU32>();
    let other = party(&barrier, told);
    let start = Instant::now();
    victim.kill9();
    join([other]);
    assert!(milliseconds(start) < 90, "{:?}: that was the backstop", start.elapsed());
    assert_eq!(told.load(SeqCst), died(victim.pid()));
    assert!(barrier.broken());
}

#[test]
fn a_party_that_execs_is_lost() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let child = fork(|| {
        barrier.wait_timeout(LONG).unwrap();
        exec();
    });
    barrier.wait_timeout(LONG).unwrap();
    assert_eq!(tell(barrier.wait_timeout(LONG)), died(child.pid()));
}

/// Goes on as another program.
fn exec() {
    let arguments = [c"/bin/sleep".as_ptr(), c"10".as_ptr(), std::ptr::null()];
    // SAFETY: a program and a list of arguments that ends with null, all alive.
    unsafe { libc::execv(arguments[0], arguments.as_ptr()) };
}

/// What its main thread does not take part in, an exec ends as a thread ends.
#[test]
fn an_exec_ends_the_threads_of_its_process() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let child = fork(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| (0..3).for_each(|_| _ = barrier.wait_timeout(LONG)));
            until(|| barrier.broken());
            exec();
        })
    });
    barrier.wait_timeout(LONG).unwrap();
    until(|| barrier.waiting() == 1);
    barrier.abort().unwrap();
    until(|| std::fs::read_to_string(format!("/proc/{}/comm", child.pid())).unwrap() == "sleep\n");
    barrier.reset().unwrap();
    assert_eq!(tell(barrier.wait_timeout(Duration::from_millis(250))), TIMED_OUT, "it is forgotten");
    barrier.reset().unwrap();

    let child = fork(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| _ = barrier.wait_timeout(LONG));
            until(|| barrier.waiting() == 1);
            exec();
        })
    });
    until(|| std::fs::read_to_string(format!("/proc/{}/comm", child.pid())).unwrap() == "sleep\n");
    assert_eq!(tell(barrier.wait_timeout(LONG)), died(child.pid()), "it stood in the round");
}

#[test]
fn a_process_that_drops_its_barrier_has_left() {
    let _first = barrier(1);
    let _test = support::test(30);
    let name = support::unique("barrier");
    let barrier = Barrier::named(&name, 2).unwrap();
    for _ in 0..20 {
        let guest = fork(|| {
            let own = Barrier::named(&name, 2).unwrap();
            own.wait_timeout(LONG).unwrap();
        });
        assert_ne!(tell(barrier.wait_timeout(LONG)), 0);
        join([guest]);
    }
    assert_eq!(tell(barrier.wait_timeout(Duration::from_millis(20))), TIMED_OUT, "nobody is missed");
}

#[test]
fn a_process_leaves_with_its_last_handle_only() {
    let _first = barrier(1);
    let _test = support::test(30);
    let name = support::unique("barrier");
    let named = || Barrier::named(&name, 2).unwrap();
    let barrier = named();
    let guest = |own: &dyn Fn() -> Barrier| {
        let met = shared::<AtomicU32>();
        let child = fork(|| {
            let own = own();
            own.wait_timeout(LONG).unwrap();
            drop(named());
            met.store(1, SeqCst);
            loop {
                std::thread::park();
            }
        });
        barrier.wait_timeout(LONG).unwrap();
        until(|| met.load(SeqCst) == 1);
        child
    };
    for own in [&named as &dyn Fn() -> Barrier, &|| barrier.clone()] {
        let mut victim = guest(own);
        victim.kill9();
        assert_eq!(tell(barrier.wait_timeout(LONG)), died(victim.pid()));
        barrier.reset().unwrap();
    }
    let told = shared::<AtomicU32>();
    let leaves = fork(|| {
        let (first, second) = (named(), named());
        first.wait_timeout(LONG).unwrap();
        drop((first, second));
        told.store(1, SeqCst);
    });
    barrier.wait_timeout(LONG).unwrap();
    join([leaves]);
    assert_eq!(tell(barrier.wait_timeout(Duration::from_millis(20))), TIMED_OUT, "nobody is missed");
}

#[test]
fn a_process_that_drops_its_barrier_in_a_panic_has_not_left() {
    let _first = barrier(1);
    let _test = support::test(30);
    let name = support::unique("barrier");
    let barrier = Barrier::named(&name, 2).unwrap();
    let mut guest = fork(|| {
        let own = Barrier::named(&name, 2).unwrap();
        own.wait_timeout(LONG).unwrap();
        std::panic::resume_unwind(Box::new("expected"));
    });
    barrier.wait_timeout(LONG).unwrap();
    let pid = guest.pid();
    assert_eq!(guest.wait(), Status::Code(101));
    assert_eq!(tell(barrier.wait_timeout(LONG)), died(pid));
}

#[test]
fn a_thread_that_ends_between_two_rounds_is_forgotten() {
    let barrier = barrier(2);
    let _test = support::test(60);
    let meet = || barrier.wait_timeout(LONG).unwrap();
    for _ in 0..200 {
        std::thread::scope(|scope| _ = (scope.spawn(meet), meet()));
    }
    std::thread::scope(|scope| {
        let waits = scope.spawn(meet);
        let start = Instant::now();
        until(|| milliseconds(start) > 300); // it must decide meanwhile
        assert!(!barrier.broken());
        meet();
        waits.join().unwrap();
    });
}

#[test]
fn a_thread_that_dies_with_its_process_is_a_party_that_died() {
    let barrier = barrier(2);
    let _test = support::test(30);
    for _ in 0..20 {
        let mut victim = fork(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait_timeout(LONG).unwrap();
                    loop {
                        std::thread::park();
                    }
                });
            })
        });
        barrier.wait_timeout(LONG).unwrap();
        let told = shared::<AtomicU32>();
        let other = party(&barrier, told);
        let start = Instant::now();
        victim.kill9();
        join([other]);
        assert!(milliseconds(start) < 250, "{:?}", start.elapsed());
        assert_eq!(told.load(SeqCst), died(victim.pid()));
        barrier.reset().unwrap();
    }
}

#[test]
fn a_timeout_of_one_breaks_it_for_all() {
    let barrier = barrier(3);
    let _test = support::test(20);
    let told = shared::<AtomicU32>();
    let other = party(&barrier, told);
    let start = Instant::now();
    assert_eq!(tell(barrier.wait_timeout(Duration::from_millis(150))), TIMED_OUT);
    assert!((150..1500).contains(&milliseconds(start)), "{:?}", start.elapsed());
    join([other]);
    assert_eq!(told.load(SeqCst), TIMED_OUT);
    barrier.reset().unwrap();
    assert_eq!(tell(barrier.wait_deadline(start)), TIMED_OUT);
    barrier.reset().unwrap();
    let hasty = barrier.clone().with_timeout(Duration::from_millis(10));
    assert_eq!(tell(hasty.wait()), TIMED_OUT);
    assert!(barrier.broken());
}

/// It has not arrived, so it breaks nothing.
#[test]
fn whoever_comes_too_late_for_a_full_round_breaks_nothing() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let (acting, go_on) = (AtomicU32::new(0), AtomicU32::new(0));
    let action = || {
        acting.store(1, SeqCst);
        until(|| go_on.load(SeqCst) == 1);
    };
    std::thread::scope(|scope| {
        let parties = [(); 2].map(|()| scope.spawn(|| barrier.wait_with(action)));
        until(|| acting.load(SeqCst) == 1);
        let late = barrier.wait_timeout(Duration::from_millis(5));
        assert!(matches!(late, Err(BrokenBarrier::Late)), "{late:?}");
        assert!(!barrier.broken());
        go_on.store(1, SeqCst);
        parties.into_iter().for_each(|party| assert!(party.join().unwrap().is_ok()));
    });
}

#[test]
fn abort_sends_all_away_until_a_reset() {
    let barrier = barrier(3);
    let _test = support::test(20);
    let told = [(); 2].map(|()| shared::<AtomicU32>());
    let others = told.map(|told| party(&barrier, told));
    barrier.abort().unwrap();
    join(others);
    assert_eq!(told.map(|told| told.load(SeqCst)), [ABORTED; 2]);
    assert_eq!(tell(barrier.wait()), ABORTED);
    barrier.reset().unwrap();
    assert_eq!(tell(barrier.wait_timeout(Duration::from_millis(5))), TIMED_OUT);
    barrier.abort().unwrap();
    assert_eq!(tell(barrier.wait()), TIMED_OUT, "the first cause stays");
}

#[test]
fn reset_sends_those_away_who_wait_and_opens_a_new_round() {
    let barrier = barrier(2);
    let _test = support::test(60);
    for _ in 0..100 {
        let told = shared::<AtomicU32>();
        let sleeper = party(&barrier, told);
        barrier.reset().unwrap();
        assert!(!barrier.broken() && barrier.waiting() == 0);
        join([sleeper]);
        assert_eq!(told.load(SeqCst), RESET);
        barrier.reset().unwrap(); // it has ended, which is forgotten
        std::thread::scope(|scope| {
            scope.spawn(|| barrier.wait_timeout(LONG).unwrap());
            barrier.wait_timeout(LONG).unwrap();
        });
    }
}

/// Stopped while its round is broken and reset and others meet, it still learns how its own round ended.
#[test]
fn rounds_never_mix() {
    let barrier = barrier(2);
    let _test = support::test(30);
    let broken = shared::<AtomicU32>();
    let sleeper = party(&barrier, broken);
    sleeper.signal(libc::SIGSTOP);
    until(|| support::procfs::state(sleeper.pid()) == Some('T'));
    barrier.abort().unwrap();
    barrier.reset().unwrap();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            scope.spawn(|| barrier.wait_timeout(LONG).unwrap());
            barrier.wait_timeout(LONG).unwrap();
        });
    }
    assert_eq!(broken.load(SeqCst), 0);
    sleeper.signal(libc::SIGCONT);
    join([sleeper]);
    assert_eq!(broken.load(SeqCst), ABORTED);

    barrier.reset().unwrap();
    let released = shared::<AtomicU32>();
    let sleeper = party(&barrier, released);
    sleeper.signal(libc::SIGSTOP);
    until(|| support::procfs::state(sleeper.pid()) == Some('T'));
    barrier.wait_timeout(LONG).unwrap();
    barrier.abort().unwrap();
    sleeper.signal(libc::SIGCONT);
    join([sleeper]);
    assert_eq!(released.load(SeqCst), 2, "its round had been released");
}

#[test]
fn every_party_may_repair_a_broken_barrier() {
    let barrier = barrier(4);
    let _test = support::test(60);
    let repaired = shared::<AtomicU32>();
    let broken = || barrier.wait_timeout(Duration::from_millis(20));
    let party = || {
        until(|| matches!(broken(), Err(BrokenBarrier::TimedOut)));
        repaired.fetch_add(u32::from(barrier.repair().unwrap()), SeqCst);
    };
    std::thread::scope(|scope| (0..3).for_each(|_| _ = scope.spawn(party)));
    assert!(repaired.load(SeqCst) >= 1 && !barrier.broken());
    assert!(!barrier.repair().unwrap());
}

#[test]
fn a_panic_in_the_action_breaks_the_round() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let told = shared::<AtomicU32>();
    let other = party(&barrier, told);
    let shy = barrier.clone().with_action(|| std::panic::resume_unwind(Box::new("expected")));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shy.wait()));
    assert!(panicked.is_err());
    join([other]);
    assert_eq!((told.load(SeqCst), tell(barrier.wait())), (PANICKED, PANICKED));
}

#[test]
fn a_death_in_the_action_breaks_the_round() {
    let barrier = barrier(3);
    let _test = support::test(20);
    let told = [(); 2].map(|()| shared::<AtomicU32>());
    let others = told.map(|told| party(&barrier, told));
    let inside = shared::<AtomicU32>();
    let mut victim = fork(|| {
        let action = || {
            inside.store(1, SeqCst);
            loop {
                std::thread::park();
            }
        };
        barrier.wait_with(action).unwrap();
    });
    until(|| inside.load(SeqCst) == 1);
    assert_eq!(told.map(|told| told.load(SeqCst)), [0; 2], "nobody leaves before the action has run");
    let late = party(&barrier, shared::<AtomicU32>());
    victim.kill9();
    join(others);
    join([late]);
    assert_eq!(told.map(|told| told.load(SeqCst)), [died(victim.pid()); 2]);
}

#[test]
fn an_action_may_not_wait_but_may_abort() {
    let barrier = barrier(1);
    let _test = support::test(20);
    let mut nested = None;
    let wait = barrier.wait_with(|| nested = Some(barrier.wait()));
    assert!(wait.is_ok() && matches!(nested, Some(Err(BrokenBarrier::Deadlock))));
    assert_eq!(tell(barrier.wait_with(|| barrier.abort().unwrap())), ABORTED);
}

#[test]
fn more_threads_than_parties_take_turns() {
    const ROUNDS: u64 = 2000;
    let barrier = barrier(2);
    let _test = support::test(60);
    let (rounds, through) = (AtomicU64::new(0), AtomicU64::new(0));
    let party = || {
        loop {
            let action = || {
                std::thread::yield_now();
                rounds.fetch_add(1, SeqCst)
            };
            match barrier.wait_with(|| _ = action()) {
                Ok(_) => _ = through.fetch_add(1, SeqCst),
                Err(BrokenBarrier::Aborted) => break,
                Err(error) => panic!("{error}"),
            }
            if rounds.load(SeqCst) >= ROUNDS {
                barrier.abort().unwrap();
            }
        }
    };
    std::thread::scope(|scope| (0..5).for_each(|_| _ = scope.spawn(party)));
    let unreleased = 2 * rounds.load(SeqCst) - through.load(SeqCst);
    assert!(rounds.load(SeqCst) >= ROUNDS && (unreleased == 0 || unreleased == 2), "{unreleased}");
}

#[test]
fn a_stopped_party_is_not_dead() {
    let barrier = barrier(2);
    let _test = support::test(20);
    let told = shared::<AtomicU32>();
    let mut slow = stays_away(&barrier);
    slow.signal(libc::SIGSTOP);
    until(|| support::procfs::state(slow.pid()) == Some('T'));
    let other = party(&barrier, told);
    let start = Instant::now();
    until(|| milliseconds(start) > 1000);
    assert_eq!((told.load(SeqCst), barrier.waiting()), (0, 1));
    slow.signal(libc::SIGCONT);
    barrier.wait_timeout(LONG).unwrap();
    join([other]);
    slow.kill9();
}

#[test]
fn a_forked_child_is_nobody_until_it_arrives() {
    let barrier = barrier(2);
    let _test = support::test(20);
    std::thread::scope(|scope| _ = (scope.spawn(|| barrier.wait().unwrap()), barrier.wait().unwrap()));
    let copy = barrier.clone();
    join([fork(move || drop(copy)), fork(|| assert!(!barrier.broken()))]);
    let other = fork(|| assert_eq!(tell(barrier.wait_timeout(LONG)), 2));
    until(|| barrier.waiting() == 1);
    barrier.wait_timeout(LONG).unwrap();
    join([other]);
}

#[test]
fn signals_disturb_nobody() {
    const ROUNDS: u64 = 5000;
    let barrier = barrier(3);
    let _test = support::test(60);
    let account = shared::<Account>();
    let party = || {
        fork(|| {
            storm_of_alarms();
            meet(&barrier, 3, ROUNDS, account);
        })
    };
    join([party(), party(), party()]);
    check(account, 3, ROUNDS);
}

/// What parties that are killed at random tell of themselves.
#[derive(Default)]
struct Turmoil {
    /// How often the parent has set the barrier right.
    epoch: AtomicU32,
    /// Of each party: rounds in this epoch, and what broke the last.
    rounds: [AtomicU32; 8],
    told: [AtomicU32; 8],
    /// Actions that found parties in different rounds.
    mixed: AtomicU32,
}

impl Turmoil {
    fn work(&self, barrier: &Barrier, party: usize) {
        let parties = barrier.parties();
        loop {
            let epoch = self.epoch.load(SeqCst);
            let action = || {
                let first = self.rounds[0].load(SeqCst);
                let same = self.rounds[..parties].iter().all(|rounds| rounds.load(SeqCst) == first);
                self.mixed.fetch_add(u32::from(!same), SeqCst);
                (0..500).for_each(|_| std::hint::spin_loop());
            };
            match barrier.wait_with(action) {
                Ok(_) => _ = self.rounds[party].fetch_add(1, SeqCst),
                error => {
                    self.told[party].store(tell(error), SeqCst);
                    until(|| self.epoch.load(SeqCst) != epoch);
                }
            }
        }
    }

    fn all(&self, parties: usize, mut what: impl FnMut(usize) -> bool) -> bool {
        (0..parties).all(&mut what)
    }
}

#[test]
fn a_death_at_any_time_breaks_it_for_all_others_alike() {
    const KILLS: usize = 84;
    let barriers: Vec<_> = (3..=8).map(barrier).collect();
    let _test = support::test(240);
    let mut rng = Rng::new(support::seed());
    for barrier in &barriers {
        let (parties, turmoil) = (barrier.parties(), shared::<Turmoil>());
        let mut children: Vec<_> = (0..parties).map(|i| fork(|| turmoil.work(barrier, i))).collect();
        for _ in 0..KILLS {
            until(|| turmoil.all(parties, |i| turmoil.rounds[i].load(SeqCst) > 0));
            std::thread::sleep(Duration::from_micros(rng.below(1500)));
            let i = rng.below(parties as u64) as usize;
            let pid = children[i].pid();
            let start = Instant::now();
            children[i].kill9();
            let told = |j: usize| turmoil.told[j].load(SeqCst);
            until(|| turmoil.all(parties, |j| j == i || told(j) != 0));
            assert!(milliseconds(start) < 250, "{:?}", start.elapsed());
            let rounds = turmoil.rounds[(i + 1) % parties].load(SeqCst);
            for j in (0..parties).filter(|&j| j != i) {
                assert_eq!(told(j), died(pid));
                assert_eq!(turmoil.rounds[j].load(SeqCst), rounds, "one of them passed a round more");
            }
            barrier.reset().unwrap();
            (0..parties).for_each(|j| turmoil.rounds[j].store(0, SeqCst));
            (0..parties).for_each(|j| turmoil.told[j].store(0, SeqCst));
            children[i] = fork(|| turmoil.work(barrier, i));
            turmoil.epoch.fetch_add(1, SeqCst);
        }
        assert_eq!(turmoil.mixed.load(SeqCst), 0);
    }
}

//! What `Event` promises, with real processes, signals and deaths.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Event, Lock, NamedError, Registry};

use support::chaos::Plan;
use support::step::Script;
use support::{Child, alarms, asleep, fork, join, shared, storm_of_alarms, until};

const LONG: Duration = Duration::from_secs(10);

/// An event, made before the leak oracle looks: its arena and the registry stay for the process.
fn event() -> Event {
    Event::new().unwrap()
}

fn rescues() -> u32 {
    Registry::get().unwrap().rescues()
}

fn milliseconds(start: Instant) -> u128 {
    start.elapsed().as_millis()
}

/// A child that sleeps for `event`, then counts.
fn waiter(event: &Event, through: &AtomicU32) -> Child {
    let child = fork(|| {
        event.wait();
        through.fetch_add(1, SeqCst);
    });
    asleep(child.pid());
    child
}

/// One runner of each kind is given its handle and its turn.
fn a_flag_goes_up_and_down(here: &Event, there: &(impl Fn() -> Event + Sync), run: impl FnOnce(&dyn Fn())) {
    assert!(!here.is_set() && !here.wait_timeout(Duration::from_millis(1)));
    let reached = shared::<AtomicU32>();
    let other = || {
        let there = there();
        there.wait();
        reached.store(1, SeqCst);
        while there.is_set() {
            std::thread::yield_now();
        }
        reached.store(2, SeqCst);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            here.set();
            here.set();
            until(|| reached.load(SeqCst) == 1);
            assert!(here.is_set() && here.wait_timeout(Duration::ZERO));
            here.wait();
            here.clear();
            here.clear();
        });
        run(&other);
    });
    assert_eq!(reached.load(SeqCst), 2);
    assert!(!here.is_set());
}

#[test]
fn threads_share_it() {
    let event = event();
    let _test = support::test(20);
    a_flag_goes_up_and_down(&event, &|| event.clone(), |other| other());
}

#[test]
fn processes_share_it() {
    let event = event();
    let _test = support::test(20);
    let mut child = None;
    let reached = shared::<AtomicU32>();
    let other = fork(|| {
        event.wait();
        reached.store(1, SeqCst);
    });
    child.replace(other);
    asleep(child.as_ref().unwrap().pid());
    event.set();
    join(child);
    assert_eq!(reached.load(SeqCst), 1);
}

#[test]
fn whoever_knows_its_name_shares_it() {
    let _first = event();
    let _test = support::test(20);
    let name = support::unique("event");
    let here = Event::named(&name).unwrap();
    a_flag_goes_up_and_down(&here, &|| Event::named(&name).unwrap(), |other| other());
    assert!(matches!(Lock::named(&name), Err(NamedError::Name(_))), "it is no lock");
    drop(here);
    assert!(!Event::named(&name).unwrap().is_set(), "the name went with its last user");
}

#[test]
fn setting_wakes_all_who_sleep_at_once() {
    let event = event();
    let _test = support::test(30);
    let (before, through) = (rescues(), shared::<AtomicU32>());
    let waiters: Vec<_> = (0..8).map(|_| waiter(&event, through)).collect();
    let start = Instant::now();
    event.set();
    join(waiters);
    assert!(milliseconds(start) < 90, "{:?}: that was the backstop", start.elapsed());
    assert_eq!((through.load(SeqCst), rescues()), (8, before));
}

/// Sleeps become longer after three backstops; the wake does not.
#[test]
fn a_long_sleep_ends_as_fast_as_a_short_one() {
    let event = event();
    let _test = support::test(30);
    let through = shared::<AtomicU32>();
    let start = Instant::now();
    let waiter = fork(|| {
        assert!(event.wait_deadline(start + LONG));
        through.store(1, SeqCst);
    });
    until(|| milliseconds(start) > 500);
    asleep(waiter.pid());
    let set = Instant::now();
    event.set();
    join([waiter]);
    assert!(milliseconds(set) < 90, "{:?}", set.elapsed());
    assert_eq!(through.load(SeqCst), 1);
}

#[test]
fn a_pulse_wakes_a_waiter_however_short_it_is() {
    const PULSES: u64 = 10_000;
    let event = event();
    let _test = support::test(120);
    let (through, down) = (shared::<AtomicU64>(), shared::<AtomicU64>());
    let waiter = fork(|| {
        for pulse in 1..=PULSES {
            assert!(event.wait_timeout(LONG), "it was set, and we were there");
            through.store(pulse, SeqCst);
            until(|| down.load(SeqCst) == pulse);
        }
    });
    for pulse in 1..=PULSES {
        asleep(waiter.pid());
        event.set();
        event.clear();
        until(|| through.load(SeqCst) == pulse);
        down.store(pulse, SeqCst);
    }
    join([waiter]);
}

#[test]
fn a_stopped_waiter_was_there_when_the_pulse_came() {
    let event = event();
    let _test = support::test(20);
    let through = shared::<AtomicU32>();
    let waiter = waiter(&event, through);
    waiter.signal(libc::SIGSTOP);
    until(|| support::procfs::state(waiter.pid()) == Some('T'));
    let start = Instant::now();
    event.set();
    event.clear();
    assert!(milliseconds(start) < 90, "setting waits for nobody");
    assert_eq!(through.load(SeqCst), 0);
    waiter.signal(libc::SIGCONT);
    join([waiter]);
    assert_eq!(through.load(SeqCst), 1);
}

#[test]
fn killed_waiters_never_block_a_setter_nor_take_the_wake_of_the_living() {
    let event = event();
    let _test = support::test(120);
    let mut slow = 0;
    for round in 0..1000 {
        let through = shared::<AtomicU32>();
        let mut waiters: Vec<_> = (0..4)
            .map(|_| {
                fork(|| {
                    event.wait();
                    through.fetch_add(1, SeqCst);
                })
            })
            .collect();
        if round % 2 == 0 {
            waiters.iter().for_each(|waiter| asleep(waiter.pid()));
        }
        drop(waiters.swap_remove(round % 4));
        let start = Instant::now();
        event.set();
        join(waiters);
        slow += u32::from(milliseconds(start) >= 90);
        assert!(through.load(SeqCst) >= 3);
        event.clear();
    }
    assert!(slow < 50, "{slow} of 1000 wakes were the backstop's");
}

#[test]
fn nobody_left_to_wake_is_no_trouble() {
    let event = event();
    let _test = support::test(60);
    let through = shared::<AtomicU32>();
    for _ in 0..40 {
        let mut waiters = [waiter(&event, through), waiter(&event, through)];
        waiters.iter_mut().for_each(|waiter| _ = waiter.kill9());
        let start = Instant::now();
        event.set();
        assert!(milliseconds(start) < 250);
        event.clear();
    }
    assert_eq!(through.load(SeqCst), 0);
}

#[test]
fn setters_and_waiters_go_on_while_some_are_killed() {
    #[derive(Default)]
    struct Account {
        pulses: AtomicU64,
        through: AtomicU64,
        missed: AtomicU64,
    }
    let event = event();
    let _test = support::test(120);
    let account = shared::<Account>();
    let work = |worker: usize| loop {
        if worker < 2 {
            event.set();
            event.clear();
            account.pulses.fetch_add(1, SeqCst);
        } else if event.wait_timeout(LONG) {
            account.through.fetch_add(1, SeqCst);
        } else {
            account.missed.fetch_add(1, SeqCst);
        }
    };
    let plan = Plan { workers: 4, kills: 300, seed: support::seed() };
    let report = plan.run(work, || account.pulses.load(SeqCst));
    println!("{report}");
    let [through, missed] = [&account.through, &account.missed].map(|count| count.load(SeqCst));
    assert!(!report.hang && through > 0 && missed == 0, "{through} {missed}");
}

#[test]
fn a_timeout_covers_the_whole_call() {
    let event = event();
    let _test = support::test(20);
    let start = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(150)));
    assert!((150..1500).contains(&milliseconds(start)), "{:?}", start.elapsed());
    assert!(!event.wait_deadline(start));
    assert!(!event.wait_timeout(Duration::ZERO));
    event.set();
    assert!(event.wait_deadline(start) && event.wait_timeout(Duration::ZERO));
    assert!(event.wait_timeout(Duration::MAX));
}

#[test]
fn signals_do_not_end_a_wait_early() {
    let event = event();
    let _test = support::test(30);
    let waiter = fork(|| {
        storm_of_alarms();
        let start = Instant::now();
        assert!(!event.wait_timeout(Duration::from_millis(300)));
        assert!((300..2000).contains(&milliseconds(start)), "{:?}", start.elapsed());
    });
    join([waiter]);
}

/// The only one who ever sets it is the handler, in the very thread that waits, locks and makes events meanwhile.
#[test]
fn a_signal_handler_may_set_it() {
    const SIGNALS: u64 = 100_000;
    static EVENT: OnceLock<Event> = OnceLock::new();
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn set(_: i32) {
        EVENT.get().inspect(|event| event.set());
        HANDLED.fetch_add(1, SeqCst);
    }
    let lock = Lock::new().unwrap();
    EVENT.set(event()).unwrap();
    let _test = support::test(120);
    let rounds = shared::<AtomicU64>();
    let child = fork(|| {
        alarms(set, 40); // seldom enough for the thread to get on between them
        let event = EVENT.get().unwrap();
        while HANDLED.load(SeqCst) < SIGNALS || rounds.load(SeqCst) < 100 {
            event.wait();
            event.clear();
            drop(lock.lock().unwrap());
            drop(Event::new().unwrap());
            event.wait_timeout(Duration::from_micros(5)).then(|| event.clear());
            rounds.fetch_add(1, SeqCst);
        }
    });
    join([child]);
}

#[test]
fn debug_tells_the_state_without_blocking() {
    let event = event();
    let _test = support::test(20);
    assert_eq!(format!("{event:?}"), "Event { set: false, waiters: false }");
    let through = shared::<AtomicU32>();
    let waiter = waiter(&event, through);
    assert_eq!(format!("{event:?}"), "Event { set: false, waiters: true }");
    event.set();
    join([waiter]);
    assert_eq!(format!("{event:?}"), "Event { set: true, waiters: false }");
}

/// An event, and somebody who sleeps for it.
struct Scene {
    event: Event,
    waiter: std::cell::RefCell<Option<Child>>,
    through: &'static AtomicU32,
}

impl Scene {
    fn new(through: &'static AtomicU32) -> Scene {
        through.store(0, SeqCst);
        Scene { event: event(), waiter: None.into(), through }
    }

    fn sleeper(&self) {
        *self.waiter.borrow_mut() = Some(waiter(&self.event, self.through));
    }
}

#[test]
fn a_set_that_dies_at_any_instruction_wakes_all_or_sets_nothing() {
    let _first = event();
    let _test = support::test(120);
    let (before, through) = (rescues(), shared::<AtomicU32>());
    let set = |scene: &Scene, stage: &support::step::Stage| {
        stage.begin();
        scene.event.set();
        stage.end();
    };
    let survivor = |scene: &Scene, fate: support::step::Fate| {
        assert!(!fate.finished || scene.event.is_set());
        if !scene.event.is_set() {
            assert_eq!(scene.through.load(SeqCst), 0);
            scene.event.set();
        }
        scene.event.wait();
    };
    Script::new("event: set", || Scene::new(through), set, survivor).run().assert_clean();
    Script::new(
        "event: set with a sleeping waiter",
        || Scene::new(through),
        set,
        |scene, fate| {
            survivor(scene, fate);
            until(|| scene.through.load(SeqCst) == 1);
        },
    )
    .meanwhile(Scene::sleeper)
    .run()
    .assert_clean();
    assert_eq!(rescues(), before);
}

#[test]
fn a_clear_that_dies_at_any_instruction_is_done_or_not() {
    let _first = event();
    let _test = support::test(120);
    let scene = || {
        let event = event();
        event.set();
        event
    };
    let clear = |event: &Event, stage: &support::step::Stage| {
        stage.begin();
        event.clear();
        stage.end();
    };
    Script::new("event: clear", scene, clear, |event, fate| {
        assert!(!fate.finished || !event.is_set());
        event.clear();
        assert!(!event.wait_timeout(Duration::ZERO));
        event.set();
        event.wait();
    })
    .run()
    .assert_clean();
}

/// Instructions from before the last looks to the end of the sleep; before them the waiter only looks.
const SLEEP: u64 = 250;

#[test]
fn a_wait_that_dies_at_any_instruction_harms_nobody() {
    let _first = event();
    let _test = support::test(120);
    let through = shared::<AtomicU32>();
    let set = || {
        let scene = Scene::new(through);
        scene.event.set();
        scene
    };
    let wait = |scene: &Scene, stage: &support::step::Stage| {
        stage.begin();
        let _ = scene.event.wait_timeout(Duration::from_micros(200));
        stage.end();
    };
    let survivor = |scene: &Scene, _| {
        let next = waiter(&scene.event, scene.through);
        scene.event.set();
        join([next]);
    };
    Script::new("event: wait, going to sleep", || Scene::new(through), wait, survivor)
        .run_last(SLEEP)
        .assert_clean();
    Script::new(
        "event: wait beside a sleeper",
        || Scene::new(through),
        wait,
        |scene, _| {
            scene.event.set();
            until(|| scene.through.load(SeqCst) == 1);
        },
    )
    .meanwhile(Scene::sleeper)
    .run()
    .assert_clean();
    Script::new("event: wait, set already", set, wait, |scene, _| assert!(scene.event.is_set()))
        .run()
        .assert_clean();
}

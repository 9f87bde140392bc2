//! What goes wrong around the primitives, for all of them: stopped holders, other namespaces, names that are taken, no
//! descriptors left, and clocks.
#![allow(unsafe_code)]

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use multiprocess::sync::{Condition, ReentrantLock, Registry};
use multiprocess::{Array, Barrier, Event, Lock, RwLock, Semaphore, Value};

use support::{Child, Status, asleep, fork, hold, say, shared, unique, until};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// Something that one thread has at a time, or that runs out.
struct Holdable {
    name: &'static str,
    /// Takes it until the thread ends.
    hold: Box<dyn Fn()>,
    /// Takes it for a moment, waiting so long at most; whether it came, and whether it came from the dead, if it tells.
    take: Box<dyn Fn(Duration) -> Option<Option<bool>>>,
}

/// `$hold` takes it; `$take` takes it in time, and `$died` tells of the guard whether the last holder died.
macro_rules! holdable {
    ($name:literal, $made:expr, $hold:ident, $take:ident, |$guard:ident| $died:expr) => {{
        let object = std::sync::Arc::new($made.unwrap());
        let same = object.clone();
        Holdable {
            name: $name,
            hold: Box::new(move || std::mem::forget(same.$hold().unwrap())),
            take: Box::new(move |timeout| object.$take(timeout).ok().map(|$guard| $died)),
        }
    }};
}

fn holdables() -> Vec<Holdable> {
    vec![
        holdable!("lock", Lock::new(), lock, lock_timeout, |guard| Some(guard.owner_died())),
        holdable!("reentrant", ReentrantLock::new(), lock, lock_timeout, |guard| Some(guard.owner_died())),
        holdable!("writer", RwLock::new(), write, read_timeout, |guard| Some(guard.owner_died())),
        holdable!("reader", RwLock::new(), read, write_timeout, |_guard| None),
        holdable!("semaphore", Semaphore::bounded(1), acquire, acquire_timeout, |_permit| None),
        holdable!("value", Value::new(1u64), lock, lock_timeout, |guard| Some(guard.owner_died())),
        holdable!("large value", Value::new([1u64; 9]), lock, lock_timeout, |guard| Some(guard.owner_died())),
        holdable!("array", Array::<u8>::new(9), lock, lock_timeout, |guard| Some(guard.owner_died())),
    ]
}

/// The test's begin. Arenas stay for the process, so there is one of every size before any leak oracle looks.
fn test(seconds: u64) -> support::Test {
    static ARENAS: OnceLock<()> = OnceLock::new();
    ARENAS.get_or_init(|| {
        std::mem::forget(holdables());
        std::mem::forget((Condition::new().unwrap(), Event::new().unwrap(), Barrier::new(2).unwrap()));
    });
    support::test(seconds)
}

/// Holds all of it in a child.
fn holder(all: &[Holdable]) -> Child {
    hold(|| all.iter().for_each(|object| (object.hold)()))
}

fn hold_all(all: &[Holdable], held: &AtomicU32) -> ! {
    all.iter().for_each(|object| (object.hold)());
    held.store(1, SeqCst);
    loop {
        std::thread::park();
    }
}

fn assert_taken(all: &[Holdable], timeout: Duration) {
    for object in all {
        let start = Instant::now();
        assert_eq!((object.take)(timeout), None, "{} is held", object.name);
        let waited = start.elapsed();
        assert!(waited >= timeout && waited < timeout + SHORT * 3, "{}: waited {waited:?}", object.name);
    }
}

fn assert_left_by_the_dead(all: &[Holdable]) {
    for object in all {
        let died = (object.take)(LONG).unwrap_or_else(|| panic!("{} is still held", object.name));
        assert_ne!(died, Some(false), "{} does not tell of the death", object.name);
    }
}

#[test]
fn a_holder_that_is_stopped_for_five_seconds_is_not_dead() {
    let _test = test(60);
    let all = holdables();
    let mut stopped = holder(&all);
    stopped.signal(libc::SIGSTOP);
    until(|| support::procfs::state(stopped.pid()) == Some('T'));
    let start = Instant::now();
    let mut round = 0;
    while start.elapsed() < Duration::from_secs(5) {
        round += 1;
        assert_taken(&all, Duration::from_millis(200));
    }
    assert!(round > 1);
    stopped.signal(libc::SIGCONT);
    assert_taken(&all, Duration::from_millis(20));
    stopped.kill9();
    assert_left_by_the_dead(&all);
}

/// Runs `f` in a child of a child, where `namespace` (a flag of unshare(2)) is another one. None = this system does not
/// allow it.
fn in_another(namespace: i32, prepare: impl FnOnce() -> io::Result<()>, f: impl FnOnce()) -> Option<Child> {
    let went = shared::<AtomicU32>();
    let child = fork(|| {
        // SAFETY: a number; only children of this forked child are in the new namespace.
        let unshared = match unsafe { libc::unshare(namespace) } {
            0 => prepare(),
            _ => Err(io::Error::last_os_error()),
        };
        if let Err(error) = unshared {
            say(&format!("skipped: a namespace: {error}"));
            went.store(2, SeqCst);
            return;
        }
        let mut inner = fork(f);
        went.store(1, SeqCst);
        inner.wait();
    });
    until(|| went.load(SeqCst) != 0);
    (went.load(SeqCst) == 1).then_some(child)
}

/// `f` is the first process of its namespace.
fn in_another_pid_namespace(f: impl FnOnce()) -> Option<Child> {
    in_another(libc::CLONE_NEWPID, || Ok(()), f)
}

/// A process that was started there started at another time, as seen from here.
#[test]
fn a_holder_in_another_time_namespace_blocks_alive_and_hands_over_dead() {
    let _test = test(60);
    let all = holdables();
    let held = shared::<AtomicU32>();
    let later = || fs::write("/proc/self/timens_offsets", "boottime 5000 0\nmonotonic 5000 0\n");
    let Some(mut outer) = in_another(libc::CLONE_NEWTIME, later, || hold_all(&all, held)) else { return };
    until(|| held.load(SeqCst) == 1);
    assert_taken(&all, Duration::from_millis(250)); // longer than a backstop, after which /proc is asked
    outer.kill9();
    assert_left_by_the_dead(&all);
}

#[test]
fn a_holder_in_another_pid_namespace_blocks_alive_and_hands_over_dead() {
    let _test = test(60);
    let all = holdables();
    let held = shared::<AtomicU32>();
    let Some(mut outer) = in_another_pid_namespace(|| hold_all(&all, held)) else { return };
    until(|| held.load(SeqCst) == 1);
    assert_taken(&all, Duration::from_millis(250)); // longer than a backstop, after which /proc is asked
    let asleep_there = fork(|| assert_left_by_the_dead(&all[..1]));
    asleep(asleep_there.pid());
    outer.kill9(); // and with it the one in the namespace
    assert_left_by_the_dead(&all);
    let mut asleep_there = asleep_there;
    assert_eq!(asleep_there.wait(), Status::Code(0));
}

/// With TIDs in the words, the death of a waiter that has the holder's number elsewhere would free the lock.
#[test]
fn a_waiter_that_dies_in_another_pid_namespace_takes_nothing_along() {
    let _test = test(60);
    for object in holdables() {
        let all = [object];
        let _holder = holder(&all);
        let waits = shared::<AtomicU32>();
        let Some(mut outer) = in_another_pid_namespace(|| {
            waits.store(1, SeqCst);
            (all[0].take)(LONG);
        }) else {
            return;
        };
        until(|| waits.load(SeqCst) == 1);
        let inner = support::procfs::children(outer.pid());
        asleep(*inner.first().expect("the waiter lives"));
        outer.kill9();
        assert_taken(&all, Duration::from_millis(250));
    }
}

/// What is mounted at /proc there shows the numbers of the outer namespace, where they are somebody else's or nobody's.
#[test]
fn a_holder_is_not_judged_by_the_proc_of_another_pid_namespace() {
    let _test = test(60);
    let all = holdables();
    let verdict = shared::<AtomicU32>();
    let Some(mut outer) = in_another_pid_namespace(|| {
        let mut holder = holder(&all);
        assert_taken(&all, Duration::from_millis(350)); // several backstops
        holder.kill9();
        assert_left_by_the_dead(&all);
        verdict.store(1, SeqCst);
    }) else {
        return;
    };
    until(|| verdict.load(SeqCst) == 1);
    outer.wait();
}

type Made = Result<Box<dyn Any>, String>;
type Open = fn(&str) -> Made;
type Make = fn() -> Made;

fn made<T: 'static, E: ToString>(result: Result<T, E>) -> Made {
    result.map(|object| Box::new(object) as Box<dyn Any>).map_err(|error| error.to_string())
}

/// All that can have a name, each of another kind.
const NAMED: &[(&str, Open)] = &[
    ("lock", |name| made(Lock::named(name))),
    ("reentrant lock", |name| made(ReentrantLock::named(name))),
    ("semaphore", |name| made(Semaphore::named(name, 1))),
    ("condition", |name| made(Condition::named(name))),
    ("event", |name| made(Event::named(name))),
    ("rwlock", |name| made(RwLock::named(name))),
    ("barrier", |name| made(Barrier::named(name, 2))),
    ("value", |name| made(Value::named(name, 1u64))),
    ("array", |name| made(Array::<u64>::named(name, 1))),
];

fn exists(name: &str) -> bool {
    Path::new("/dev/shm").join(name).exists()
}

#[test]
fn the_last_user_takes_the_name_along() {
    let _test = test(20);
    for (kind, open) in NAMED {
        let name = unique("faults");
        let first = open(&name).unwrap();
        let second = open(&name).unwrap();
        drop(first);
        assert!(exists(&name), "{kind}");
        let mut child = fork(|| drop(open(&name).unwrap()));
        assert_eq!(child.wait(), Status::Code(0));
        assert!(exists(&name), "{kind}");
        drop(second);
        assert!(!exists(&name), "{kind}");
    }
}

#[test]
fn a_name_whose_users_were_killed_is_made_anew() {
    let _test = test(20);
    let name = unique("faults");
    for (kind, open) in NAMED {
        let opened = shared::<AtomicU32>();
        let user = || {
            fork(|| {
                std::mem::forget(open(&name).unwrap());
                opened.fetch_add(1, SeqCst);
                loop {
                    std::thread::park();
                }
            })
        };
        let users = [user(), user()];
        until(|| opened.load(SeqCst) == 2);
        users.into_iter().for_each(|mut user| assert_eq!(user.kill9(), Status::Signal(libc::SIGKILL)));
        assert!(exists(&name), "{kind}: nobody was there to remove it");
        // The next kind under this very name: what the dead left does not matter.
        let (next, open_next) =
            &NAMED[(NAMED.iter().position(|(other, _)| other == kind).unwrap() + 1) % NAMED.len()];
        drop(open_next(&name).unwrap_or_else(|error| panic!("{kind}, then {next}: {error}")));
        assert!(!exists(&name), "{kind}");
    }
    let mut holder = fork(|| {
        let (lock, value) = (Lock::named(&name).unwrap(), Value::named(&format!("{name}-v"), 1u8).unwrap());
        std::mem::forget(lock.lock().unwrap());
        value.set(9).unwrap();
        std::process::abort();
    });
    assert_eq!(holder.wait(), Status::Signal(libc::SIGABRT));
    assert!(!Lock::named(&name).unwrap().try_lock().unwrap().owner_died());
    assert_eq!(Value::named(&format!("{name}-v"), 2u8).unwrap().get(), 2);
}

#[test]
fn a_name_of_another_kind_is_an_error() {
    let _test = test(20);
    let name = unique("faults");
    for (kind, open) in NAMED {
        let _first = open(&name).unwrap();
        for (other, open_other) in NAMED.iter().filter(|(other, _)| other != kind) {
            let error = open_other(&name).map(drop).unwrap_err();
            assert!(error.contains("segment is a"), "{other} where there is a {kind}: {error}");
        }
        drop(open(&name).unwrap());
    }
}

/// This binary again, told which part to play: it has not used a registry yet.
fn fresh_process(part: &str) -> Status {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "plays_a_part", "--nocapture"]).env("FAULTS_PART", part);
    fork(|| panic!("{}", command.exec())).wait()
}

#[test]
fn plays_a_part() {
    if std::env::var("FAULTS_PART").is_ok_and(|part| part == "two registries") {
        two_registries();
    }
}

#[test]
fn a_name_of_another_registry_is_an_error() {
    let _test = test(30);
    assert_eq!(fresh_process("two registries"), Status::Code(0));
}

/// Who comes after the registry's file was deleted has another registry, and sees the same names.
fn two_registries() {
    if let Err(error) = private_shm() {
        return say(&format!("skipped: a private /dev/shm: {error}"));
    }
    let made = shared::<AtomicU32>();
    let _old = fork(|| {
        let objects: Vec<_> =
            NAMED.iter().map(|(kind, open)| open(&kind.replace(' ', "-")).unwrap()).collect();
        made.store(1, SeqCst);
        std::mem::forget(objects);
        loop {
            std::thread::park();
        }
    });
    until(|| made.load(SeqCst) == 1);
    let registries = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path());
    let registries = registries.filter(|path| path.to_string_lossy().contains("multiprocess-registry"));
    registries.for_each(|path| fs::remove_file(path).unwrap());
    let mut new = fork(|| {
        Registry::get().unwrap();
        for (kind, open) in NAMED {
            let error = open(&kind.replace(' ', "-")).map(drop).unwrap_err();
            assert!(error.contains("another registry"), "{kind}: {error}");
        }
    });
    assert_eq!(new.wait(), Status::Code(0));
}

/// `Err` = this system does not allow it.
fn private_shm() -> io::Result<()> {
    let step = |result: i32| (result == 0).then_some(()).ok_or_else(io::Error::last_os_error);
    // SAFETY: numbers and strings that end with NUL; only this process's namespace changes.
    unsafe {
        step(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        step(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        step(libc::mount(c"shm".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, none.cast()))
    }
}

const MADE: &[(&str, Make)] = &[
    ("lock", || made(Lock::new())),
    ("reentrant lock", || made(ReentrantLock::new())),
    ("semaphore", || made(Semaphore::new(1))),
    ("condition", || made(Condition::new())),
    ("event", || made(Event::new())),
    ("rwlock", || made(RwLock::new())),
    ("barrier", || made(Barrier::new(2))),
    ("value", || made(Value::new(1u64))),
    ("large value", || made(Value::new([0u64; 999]))),
    ("array", || made(Array::<u64>::new(1))),
];

/// No more than `number` descriptors from now on; -1 = as many as there may be.
fn limit_descriptors(number: Option<i32>) {
    // SAFETY: a limit of ours, read and written by the kernel.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = number.map_or(limit.rlim_max, |number| number as libc::rlim_t);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

/// A forked child allots from none of its parent's arenas, so everything it makes first needs a descriptor.
#[test]
fn no_constructor_leaks_when_descriptors_run_out() {
    let _test = test(30);
    let name = unique("faults");
    let mut child = fork(|| {
        Registry::get().unwrap();
        let first_free = File::open("/dev/null").unwrap().as_raw_fd();
        let before = support::census();
        limit_descriptors(Some(first_free));
        let refused: Vec<String> = MADE.iter().filter_map(|(_, make)| make().err()).collect();
        let unnamed = NAMED.iter().filter_map(|(_, open)| open(&name).err());
        let refused: Vec<String> =
            refused.into_iter().chain(unnamed.map(|error| error.to_string())).collect();
        limit_descriptors(None);
        assert_eq!(refused.len(), MADE.len() + NAMED.len(), "{refused:?}");
        refused.iter().for_each(|error| assert!(error.contains("Too many open files"), "{error}"));
        assert_eq!(support::census(), before, "a constructor that failed left something");
        assert!(!exists(&name));
        for spare in 1..4 {
            limit_descriptors(Some(first_free + spare));
            MADE.iter().for_each(|(_, make)| drop(make()));
            NAMED.iter().for_each(|(_, open)| drop(open(&name)));
            limit_descriptors(None);
            assert!(!exists(&name));
        }
        let arenas = support::census();
        assert!(
            arenas
                .values()
                .all(|target| before.values().any(|known| known == target) || target.contains("arena"))
        );
        MADE.iter().for_each(|(kind, make)| drop(make().unwrap_or_else(|error| panic!("{kind}: {error}"))));
        NAMED.iter().for_each(|(_, open)| drop(open(&name).unwrap()));
    });
    assert_eq!(child.wait(), Status::Code(0));
}

/// From now on a wait on the real-time clock kills this process: futex with its flag, futex_waitv with its number.
fn die_of_real_time() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let argument = |number: u32| 16 + 8 * number; // of `seccomp_data`, lower half
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD, 0, 0, 0), // the number of the call
        step(EQUAL, 0, 2, libc::SYS_futex as u32),
        step(LOAD, 0, 0, argument(1)),
        step(HAS, 4, 3, libc::FUTEX_CLOCK_REALTIME as u32),
        step(EQUAL, 0, 2, libc::SYS_futex_waitv as u32),
        step(LOAD, 0, 0, argument(4)),
        step(EQUAL, 1, 0, libc::CLOCK_REALTIME as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a filter program of ours, alive during the call; the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let result = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter);
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// Nobody can step a clock that nobody asks for.
#[test]
fn no_wait_is_on_the_real_time_clock() {
    let _test = test(60);
    let all = holdables();
    let (condition, lock, event) = (Condition::new().unwrap(), Lock::new().unwrap(), Event::new().unwrap());
    let barrier = Barrier::new(2).unwrap();
    let timed_out = shared::<AtomicU32>();
    let mut owner = holder(&all);
    let mut waiter = fork(|| {
        die_of_real_time();
        assert_taken(&all, SHORT);
        let waits_in_time = |wait: &dyn Fn()| {
            let start = Instant::now();
            wait();
            assert!((SHORT..SHORT * 4).contains(&start.elapsed()), "{:?}", start.elapsed());
        };
        waits_in_time(&|| assert!(!event.wait_timeout(SHORT)));
        waits_in_time(&|| assert!(!condition.wait_timeout(lock.lock().unwrap(), SHORT).unwrap().1));
        waits_in_time(&|| assert!(barrier.wait_timeout(SHORT).is_err()));
        timed_out.store(1, SeqCst);
        assert_left_by_the_dead(&all);
    });
    until(|| timed_out.load(SeqCst) == 1 || waiter.try_wait().is_some());
    asleep(waiter.pid());
    owner.kill9();
    assert_eq!(waiter.wait(), Status::Code(0));
}

/// The net of the test above catches what it should.
#[test]
fn a_wait_on_the_real_time_clock_would_be_caught() {
    let _test = test(20);
    let wait = |call: &dyn Fn(*const AtomicU32)| {
        let word = AtomicU32::new(0);
        fork(|| {
            die_of_real_time();
            call(&word);
        })
        .wait()
    };
    let nothing = std::ptr::null::<libc::timespec>();
    let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME;
    let futex = wait(&|word| {
        // SAFETY: the word is alive; it does not hold 1, so nothing would sleep.
        unsafe { libc::syscall(libc::SYS_futex, word, operation, 1, nothing, nothing, u32::MAX) };
    });
    let waitv = wait(&|_| {
        // SAFETY: a vector of no words.
        unsafe { libc::syscall(libc::SYS_futex_waitv, nothing, 0, 0, nothing, libc::CLOCK_REALTIME) };
    });
    assert_eq!([futex, waitv], [Status::Signal(libc::SIGSYS); 2]);
}

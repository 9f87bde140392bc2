//! Every interleaving of two processes at one name, and a death at every point of it.
//!
//! All that two processes see of each other are system calls, so one of them, the victim, is stopped after each of its
//! system calls in turn. There the other one acts from beginning to end; then the victim goes on, or is killed.
#![allow(unsafe_code)] // ptrace

#[allow(dead_code)] // it can do more
use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_shm::{Kind, Mapping, Segment, SharedMemory};
use support::trace::{self, Stage};
use support::{Change, Child, Status, alarm, fork, shared_slice, unique, until_within};

const KIND: Kind = Kind::new(*b"RACE", "races 1");

/// A segment that somebody uses.
#[derive(Debug)]
struct Used {
    mapping: Arc<Mapping>,
    _owner: Option<SharedMemory>,
}

impl Used {
    /// Whether the name leads to this segment.
    fn is_at(&self, name: &str) -> bool {
        let own = File::from(self.mapping.descriptor().try_clone().unwrap()).metadata().unwrap();
        fs::symlink_metadata(path(name)).is_ok_and(|found| found.ino() == own.ino())
    }

    /// Whether it was complete when it got its name.
    fn is_complete(&self) -> bool {
        Segment::check(self.mapping.clone(), KIND).is_ok_and(|segment| {
            let word = segment.view::<AtomicU64>(0).unwrap();
            word.load(Relaxed) == 42
        })
    }
}

fn path(name: &str) -> String {
    format!("/dev/shm/{name}")
}

/// What a process does with a name; it answers what it uses afterwards.
type Act = fn(&str) -> Option<Used>;

fn nothing(_: &str) -> Option<Used> {
    None
}

fn open_any(name: &str) -> Option<Used> {
    let segment = SharedMemory::open(name).ok()?;
    Some(Used { mapping: segment.mapping().clone(), _owner: None })
}

fn leased(name: &str) -> Option<Used> {
    let fill = |segment: &Segment| segment.view::<AtomicU64>(0).unwrap().store(42, Relaxed);
    let (segment, _) = Segment::leased(name, KIND, 64, 0, fill).ok()?;
    let used = Used { mapping: segment.mapping().clone(), _owner: None };
    assert!(used.is_complete());
    Some(used)
}

/// Nothing fills its body, so it must not be taken for one of the others.
fn named(name: &str) -> Option<Used> {
    let other = Kind::new(*b"NAME", "races 1");
    let (segment, _) = Segment::named(name, other, 64, 0).ok()?;
    Some(Used { mapping: segment.mapping().clone(), _owner: None })
}

/// The segment it makes is all zeroes, and no typed one.
fn create(name: &str) -> Option<Used> {
    let segment = SharedMemory::create(name, 4096).ok()?;
    Some(Used { mapping: segment.mapping().clone(), _owner: Some(segment) })
}

fn sweep(_: &str) -> Option<Used> {
    ipc_shm::sweep().unwrap();
    None
}

fn list(_: &str) -> Option<Used> {
    ipc_shm::list().unwrap();
    None
}

fn leave(_: &str, used: Option<Used>) -> Option<Used> {
    drop(used);
    None
}

/// What the victim does before it is stopped, and then step by step.
#[derive(Clone, Copy)]
struct Victim {
    what: &'static str,
    before: Act,
    stepped: fn(&str, Option<Used>) -> Option<Used>,
}

const OPEN: Victim = Victim { what: "open", before: nothing, stepped: |name, _| open_any(name) };
const CREATE: Victim = Victim { what: "create", before: nothing, stepped: |name, _| create(name) };
const LEASED: Victim = Victim { what: "leased", before: nothing, stepped: |name, _| leased(name) };
const LEAVE: Victim = Victim { what: "leave", before: leased, stepped: |name, used| leave(name, used) };
const LIST: Victim = Victim { what: "list", before: nothing, stepped: |name, _| list(name) };
const SWEEP: Victim = Victim { what: "sweep", before: nothing, stepped: |name, _| sweep(name) };

/// Leaves a name behind whose user is dead.
fn leave_stale(name: &str) {
    let mut child = fork(|| std::mem::forget(leased(name)));
    assert_eq!(child.wait(), Status::Code(0));
    assert!(fs::exists(path(name)).unwrap());
}

/// Starts the victim and stops it after `calls` system calls; `None` if it needs no more than that.
fn start(victim: Victim, name: &str, calls: usize) -> Option<Child> {
    let finished = &shared_slice::<AtomicU32>(1)[0];
    let mut child = fork(|| {
        alarm(20);
        let before = (victim.before)(name);
        Stage::new(1, finished).begin();
        let used = (victim.stepped)(name, before);
        finished.store(1, Relaxed);
        let used = ManuallyDrop::new(used); // dropped, an owner's name would go, and rightly
        assert!(used.as_ref().is_none_or(|used| used.is_at(name)), "{} has no name", victim.what);
    });
    trace::wait_for_begin(&mut child).unwrap();
    let stopped = (0..calls).all(|_| run_call(&mut child) && run_call(&mut child));
    (stopped && finished.load(Relaxed) == 0).then_some(child)
}

/// Lets the child run to the beginning or the end of a system call; false if it ended.
fn run_call(child: &mut Child) -> bool {
    // SAFETY: the child is traced by this thread and stopped; 0 means that no signal is passed on.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child.pid(), 0usize, 0usize) };
    match child.wait_change() {
        Change::Stopped(libc::SIGTRAP) => true,
        Change::Ended(Status::Code(0)) => false,
        other => panic!("the victim: {other:?}"),
    }
}

fn let_go(child: &Child) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, child.pid(), 0usize, 0usize) };
}

/// Runs `round` with each victim at each of its points; answers how many rounds.
fn at_each_point(victims: &[Victim], stale: bool, mut round: impl FnMut(Child, &str)) -> usize {
    let mut rounds = 0;
    for victim in victims {
        for calls in 0..MOST_CALLS {
            let name = unique(victim.what);
            if stale {
                leave_stale(&name);
            }
            let child = start(*victim, &name, calls);
            let ended = child.is_none();
            if let Some(child) = child {
                round(child, &name);
            }
            drop(create(&name).expect("a name without users is free"));
            assert!(!fs::exists(path(&name)).unwrap());
            if ended {
                break;
            }
            rounds += 1;
        }
    }
    rounds
}

/// A list or sweep makes more calls the more files there are that have nothing to do with it.
const MOST_CALLS: usize = 100;

const OTHERS: &[(&str, Act)] =
    &[("sweep", sweep), ("create", create), ("leased", leased), ("named", named), ("open", open_any)];

#[test]
fn nobody_uses_a_segment_without_a_name_whoever_comes_between() {
    let _test = support::test(120);
    let _turn = support::turn::turn();
    let mut rounds = 0;
    for ((what, act), stale) in OTHERS.iter().flat_map(|other| [(other, false), (other, true)]) {
        rounds += at_each_point(&[OPEN, CREATE, LEASED, LEAVE], stale, |mut child, name| {
            let used = act(name);
            let_go(&child);
            assert_eq!(child.wait(), Status::Code(0), "{what} came between");
            assert!(used.is_none_or(|used| used.is_at(name)), "{what} has no name");
        });
    }
    println!("{rounds} interleavings");
    assert!(rounds > 200);
}

#[test]
fn death_after_any_system_call_leaves_a_name_that_can_be_taken() {
    let _test = support::test(60);
    let _turn = support::turn::turn();
    for stale in [false, true] {
        let rounds = at_each_point(&[OPEN, CREATE, LEASED, LEAVE, LIST, SWEEP], stale, |mut child, name| {
            child.kill9();
            if let Some(used) = open_any(name) {
                assert!(used.mapping.size() == 4096 || used.is_complete(), "half made");
            }
        });
        println!("{rounds} deaths, stale name before: {stale}");
        assert!(rounds > 20);
    }
}

#[test]
fn name_persisted_in_between_stays() {
    let _test = support::test(60);
    let _turn = support::turn::turn();
    let rounds = at_each_point(&[CREATE, LEASED, SWEEP], true, |mut child, name| {
        let segment = SharedMemory::open(name).ok().filter(|segment| segment.len() != 4096);
        let persisted = segment.is_some_and(|segment| segment.persist().is_ok());
        let_go(&child);
        assert_eq!(child.wait(), Status::Code(0));
        if persisted {
            SharedMemory::open(name).expect("it is persistent").unlink().unwrap();
        }
    });
    println!("{rounds} interleavings");
    assert!(rounds > 10);
}

#[test]
fn examiner_at_work_does_not_make_a_stale_name_look_used() {
    let _test = support::test(120);
    let _turn = support::turn::turn();
    at_each_point(&[LIST, SWEEP], true, |mut child, name| {
        let mut creator = fork(|| {
            let start = Instant::now();
            let created = create(name).is_some();
            // A busy machine may keep us from letting the examiner go for longer than it is waited for.
            assert!(created || start.elapsed() > Duration::from_millis(100), "nobody uses the name");
        });
        // It has done it, or it waits for the examiner.
        until_within(Duration::from_millis(5), || creator.try_wait().is_some());
        let_go(&child);
        assert_eq!(child.wait(), Status::Code(0));
        assert_eq!(creator.wait(), Status::Code(0));
    });
}

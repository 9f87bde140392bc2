//! Who uses a name: the living keep it, the dead leave it to the next, the last one takes it along.
#![allow(unsafe_code)] // fork and kill by hand

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ipc_shm::{CreateError, Kind, OpenError, Origin, Segment, SegmentState, SharedMemory};
use support::turn::{lock, turn};
use support::{Child, chaos, fork, shared, unique, until};

const KIND: Kind = Kind::new(*b"TEST", "leases 1");

fn exists(name: &str) -> bool {
    fs::symlink_metadata(format!("/dev/shm/{name}")).is_ok()
}

fn state(name: &str) -> Option<SegmentState> {
    ipc_shm::list().unwrap().into_iter().find(|info| info.name == name).map(|info| info.state)
}

/// A child that has what `f` makes, and keeps it until it is killed.
fn holder<T>(f: impl FnOnce() -> T) -> Child {
    let ready: &AtomicU64 = shared();
    let child = fork(|| {
        let _held = f();
        ready.store(1, Relaxed);
        loop {
            thread::park();
        }
    });
    until(|| ready.load(Relaxed) == 1);
    child
}

/// A name whose only user was killed, with `content` at its start.
fn stale(name: &str, content: &[u8]) {
    let make = || {
        let segment = SharedMemory::create(name, 4096).unwrap();
        segment.write(0, content).unwrap();
        segment
    };
    holder(make).kill9();
    assert!(exists(name));
}

fn content(segment: &SharedMemory) -> [u8; 4] {
    let mut bytes = [0; 4];
    segment.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn killed_creators_name_goes_to_the_next_creator() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("next");
    stale(&name, b"dead");
    assert_eq!(state(&name), Some(SegmentState::Stale));
    let segment = SharedMemory::create(&name, 100).unwrap();
    assert_eq!((segment.len(), content(&segment)), (100, [0; 4]));
    assert_eq!(state(&name), Some(SegmentState::InUse));
}

#[test]
fn sweep_removes_what_the_dead_left_and_nothing_else() {
    let _test = support::test(20);
    let _turn = turn();
    let names = [unique("swept"), unique("swept"), unique("swept")];
    names.iter().for_each(|name| stale(name, b"dead"));
    let living = SharedMemory::create(&unique("living"), 16).unwrap();
    let mut removed = ipc_shm::sweep().unwrap();
    removed.retain(|name| names.contains(name) || Some(&**name) == living.name());
    removed.sort();
    assert_eq!(removed, names);
    assert!(names.iter().all(|name| !exists(name)));
    assert!(exists(living.name().unwrap()));
}

#[test]
fn living_user_keeps_the_name_of_a_killed_creator() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("user");
    let mut creator = holder(|| SharedMemory::create(&name, 4096).unwrap());
    let mut user = holder(|| SharedMemory::open(&name).unwrap());
    creator.kill9();
    assert_eq!(state(&name), Some(SegmentState::InUse));
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    assert!(!ipc_shm::sweep().unwrap().contains(&name));
    assert!(exists(&name));
    user.kill9();
    assert!(ipc_shm::sweep().unwrap().contains(&name));
}

#[test]
fn stopped_user_is_not_dead() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("stopped");
    let mut user = holder(|| SharedMemory::create(&name, 4096).unwrap());
    user.signal(libc::SIGSTOP);
    until(|| support::procfs::state(user.pid()) == Some('T'));
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    assert!(!ipc_shm::sweep().unwrap().contains(&name));
    user.kill9();
    SharedMemory::create(&name, 16).unwrap();
}

#[test]
fn forked_child_keeps_the_name_of_its_killed_parent() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("heir");
    let heir_pid: &AtomicU64 = shared();
    let mut parent = holder(|| {
        let segment = SharedMemory::create(&name, 4096).unwrap();
        orphan(heir_pid);
        segment
    });
    parent.kill9();
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    kill_orphan(heir_pid);
    until(|| SharedMemory::create(&name, 16).is_ok());
}

/// Forks a process that outlives its parent.
fn orphan(pid: &AtomicU64) {
    // SAFETY: the child only waits for its death.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: numbers; a test that failed leaves nobody behind.
            unsafe {
                libc::alarm(20);
                libc::pause()
            };
        },
        child => pid.store(child as u64, Relaxed),
    }
}

fn kill_orphan(pid: &AtomicU64) {
    // SAFETY: two numbers.
    unsafe { libc::kill(pid.load(Relaxed) as i32, libc::SIGKILL) };
}

#[test]
fn stale_segment_can_be_opened_and_lives_again() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("again");
    stale(&name, b"dead");
    let segment = SharedMemory::open(&name).unwrap();
    assert_eq!(&content(&segment), b"dead");
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    drop(segment);
    SharedMemory::create(&name, 16).unwrap();
}

#[test]
fn persistent_segment_outlives_everybody() {
    let _test = support::test(20);
    let _turn = turn();
    let from_the_start =
        |name: &str| SharedMemory::options().name(name).size(16).persist(true).create().unwrap();
    let later = |name: &str| {
        let segment = SharedMemory::create(name, 16).unwrap();
        segment.persist().unwrap();
        segment
    };
    let by_an_opener = |name: &str| {
        let segment = SharedMemory::create(name, 16).unwrap();
        SharedMemory::open(name).unwrap().persist().unwrap();
        segment
    };
    let makers: [&dyn Fn(&str) -> SharedMemory; 3] = [&from_the_start, &later, &by_an_opener];
    for make in makers {
        let name = unique("kept");
        drop(make(&name));
        assert_eq!(state(&name), Some(SegmentState::Unmarked));
        assert!(!ipc_shm::sweep().unwrap().contains(&name));
        assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
        SharedMemory::open(&name).unwrap().unlink().unwrap();
        assert!(!exists(&name));
    }
}

#[test]
fn examiner_is_waited_for_but_not_for_ever() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("examined");
    stale(&name, b"dead");
    let examiner = File::open(format!("/dev/shm/{name}")).unwrap();
    lock(&examiner, libc::LOCK_EX);
    let start = Instant::now();
    assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound)));
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    assert!(Segment::named(&name, KIND, 16, 0).is_err());
    assert!(Segment::leased(&name, KIND, 16, 0, |_| ()).is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
    thread::scope(|scope| {
        let opening = scope.spawn(|| {
            // As often as a stopped examiner would have to be asked.
            until(|| SharedMemory::open(&name).is_ok());
        });
        lock(&examiner, libc::LOCK_UN);
        opening.join().unwrap();
    });
    SharedMemory::create(&name, 16).unwrap();
}

#[test]
fn file_without_the_mark_is_nobodys_to_remove() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("foreign");
    let path = format!("/dev/shm/{name}");
    fs::write(&path, b"somebody's").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(state(&name), Some(SegmentState::Unmarked));
    assert!(!ipc_shm::sweep().unwrap().contains(&name));
    assert!(matches!(SharedMemory::create(&name, 16), Err(CreateError::AlreadyExists)));
    let segment = SharedMemory::open(&name).unwrap();
    segment.write(0, b"SOME").unwrap();
    drop(segment);
    assert_eq!(fs::read(&path).unwrap(), b"SOMEbody's");
    fs::remove_file(&path).unwrap();
}

#[test]
fn list_tells_name_and_size() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("listed"), 12345).unwrap();
    let all = ipc_shm::list().unwrap();
    let info = all.iter().find(|info| Some(&*info.name) == segment.name()).unwrap();
    assert_eq!((info.size, info.state), (12345, SegmentState::InUse));
}

#[test]
fn last_user_takes_a_leased_name_along() {
    let _test = support::test(20);
    let name = unique("last");
    let (first, origin) = Segment::leased(&name, KIND, 64, 7, |_| ()).unwrap();
    assert_eq!(origin, Origin::Created);
    let mut second = holder(|| {
        let (segment, origin) = Segment::leased(&name, KIND, 64, 8, |_| panic!("it exists")).unwrap();
        assert_eq!((origin, segment.registry()), (Origin::Opened, 7));
        segment
    });
    let view = first.view::<AtomicU64>(0).unwrap();
    drop(first);
    assert!(exists(&name), "a view is a user");
    drop(view);
    assert!(exists(&name), "another process is one too");
    second.kill9();
    let (third, origin) = Segment::leased(&name, KIND, 64, 9, |_| ()).unwrap();
    assert_eq!((origin, third.registry()), (Origin::Created, 9), "what the killed one left was stale");
    let again = Segment::leased(&name, KIND, 64, 9, |_| ()).unwrap();
    drop(third);
    assert!(exists(&name));
    drop(again);
    assert!(!exists(&name));
}

#[test]
fn last_user_leaves_a_name_alone_that_leads_elsewhere_by_now() {
    let _test = support::test(20);
    let name = unique("elsewhere");
    let (first, _) = Segment::leased(&name, KIND, 64, 1, |_| ()).unwrap();
    fs::remove_file(format!("/dev/shm/{name}")).unwrap();
    let (second, origin) = Segment::leased(&name, KIND, 64, 2, |_| ()).unwrap();
    assert_eq!(origin, Origin::Created);
    drop(first);
    assert!(exists(&name));
    drop(second);
    assert!(!exists(&name));
}

#[test]
fn leased_segment_appears_after_its_init() {
    let _test = support::test(20);
    let name = unique("init");
    let fill = |segment: &Segment| {
        assert!(!exists(&name));
        segment.view::<AtomicU64>(8).unwrap().store(42, Relaxed);
    };
    let (made, _) = Segment::leased(&name, KIND, 64, 0, fill).unwrap();
    let (opened, origin) = Segment::leased(&name, KIND, 64, 0, |_| ()).unwrap();
    assert_eq!(origin, Origin::Opened);
    assert_eq!(opened.view::<AtomicU64>(8).unwrap().load(Relaxed), 42);
    assert_eq!(made.size(), 64);
}

#[test]
fn failed_init_leaves_nothing() {
    let _test = support::test(20);
    let name = unique("failed");
    let fail = |_: &Segment| std::panic::resume_unwind(Box::new("on purpose"));
    assert!(std::panic::catch_unwind(|| Segment::leased(&name, KIND, 64, 0, fail)).is_err());
    assert!(!exists(&name));
}

#[test]
fn named_segment_stays_until_it_is_swept() {
    let _test = support::test(20);
    let _turn = turn();
    let name = unique("stays");
    let (segment, origin) = Segment::named(&name, KIND, 64, 1).unwrap();
    assert_eq!(origin, Origin::Created);
    segment.view::<AtomicU64>(0).unwrap().store(5, Relaxed);
    drop(segment);
    let (segment, origin) = Segment::named(&name, KIND, 64, 2).unwrap();
    assert_eq!((origin, segment.registry()), (Origin::Opened, 1));
    assert_eq!(segment.view::<AtomicU64>(0).unwrap().load(Relaxed), 5);
    assert!(!ipc_shm::sweep().unwrap().contains(&name));
    drop(segment);
    assert!(ipc_shm::sweep().unwrap().contains(&name));
}

/// What the workers of a run saw.
#[derive(Default)]
struct Account {
    operations: AtomicU64,
    half_made: AtomicU64,
    live_removed: AtomicU64,
}

impl Account {
    fn check(&self) {
        assert_eq!(self.half_made.load(Relaxed), 0, "segments met half made");
        assert_eq!(self.live_removed.load(Relaxed), 0, "names removed from living users");
    }

    /// Nobody may remove the name of a segment that this process uses.
    fn look(&self, segment: &Segment) {
        let complete = segment.view::<AtomicU64>(0).unwrap().load(Relaxed) == 42;
        let linked = || links(segment) == 1;
        self.half_made.fetch_add(u64::from(!complete), Relaxed);
        thread::yield_now();
        self.live_removed.fetch_add(u64::from(!linked()), Relaxed);
        self.operations.fetch_add(1, Relaxed);
    }
}

fn links(segment: &Segment) -> u64 {
    let file = File::from(segment.mapping().descriptor().try_clone().unwrap());
    file.metadata().unwrap().nlink()
}

#[test]
fn kills_leave_no_half_made_no_lost_and_no_immortal_name() {
    let _test = support::test(60);
    let _turn = turn();
    let account: &Account = shared();
    let name = unique("kills");
    let work = |worker| match worker {
        0 => loop {
            ipc_shm::sweep().unwrap();
        },
        _ => loop {
            let fill = |segment: &Segment| segment.view::<AtomicU64>(0).unwrap().store(42, Relaxed);
            let (segment, _) = Segment::leased(&name, KIND, 64, 0, fill).unwrap();
            account.look(&segment);
        },
    };
    let plan = chaos::Plan { workers: 5, kills: 300, seed: support::seed() };
    let report = plan.run(work, || account.operations.load(Relaxed));
    println!("{report}, operations {}", account.operations.load(Relaxed));
    assert!(!report.hang);
    drop(report);
    account.check();
    let (segment, origin) = Segment::leased(&name, KIND, 64, 0, |_| ()).unwrap();
    assert_eq!(origin, Origin::Created, "a name without living users is stale");
    drop(segment);
    assert!(!exists(&name));
}

#[test]
fn last_users_who_leave_together_leave_nothing() {
    let _test = support::test(60);
    let account: &Account = shared();
    let name = unique("together");
    for _ in 0..50 {
        let work = || {
            for _ in 0..20 {
                let fill = |segment: &Segment| segment.view::<AtomicU64>(0).unwrap().store(42, Relaxed);
                let (segment, _) = Segment::leased(&name, KIND, 64, 0, fill).unwrap();
                account.look(&segment);
            }
        };
        let mut users = [fork(work), fork(work), fork(work)];
        users.iter_mut().for_each(|user| assert_eq!(user.wait(), support::Status::Code(0)));
        assert!(!exists(&name));
    }
    account.check();
}

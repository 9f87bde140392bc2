//! The leak oracle: what a test left behind.
//!
//! Descriptors and threads belong to the whole process, so tests that use it take turns; in one test binary all tests
//! use it, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{procfs, until_within};

/// A thread or a child that was told to end needs a moment.
const MOMENT: Duration = Duration::from_secs(2);

/// The registry of processes outlives every test on purpose, and so does its descriptor.
const REGISTRY: &str = "multiprocess-registry-";

/// The descriptors of this process: number and what it is (`socket:[17]`, `/dev/null`).
pub fn census() -> BTreeMap<i32, String> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let look = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    };
    // The descriptor of this very reading is among them.
    let own = format!("/proc/{}/fd", std::process::id());
    let mut found: BTreeMap<i32, String> = entries.flatten().filter_map(look).collect();
    found.retain(|_, target| *target != own);
    found
}

/// A name that no other test uses, and that the oracle knows as this process's own.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{stem}{}{}", own_mark(), NEXT.fetch_add(1, Relaxed))
}

fn own_mark() -> String {
    format!("-p{}-", std::process::id())
}

/// What there is at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    prefix: String,
    descriptors: BTreeMap<i32, String>,
    threads: BTreeSet<i32>,
    children: BTreeSet<i32>,
    names: BTreeSet<String>,
}

impl Snapshot {
    /// Now; of the names in /dev/shm those made with [`unique`].
    pub fn now() -> Snapshot {
        Snapshot::with_names(&own_mark())
    }

    /// Now; of the names in /dev/shm those that contain `prefix`.
    pub fn with_names(prefix: &str) -> Snapshot {
        let pid = std::process::id() as i32;
        let mut descriptors = census();
        let registries = registries();
        descriptors.retain(|number, target| {
            let registry =
                target.contains(REGISTRY) || registries.iter().any(|file| target.starts_with(file));
            !registry && !is_own_pidfd(*number, target)
        });
        Snapshot {
            prefix: prefix.to_owned(),
            descriptors,
            threads: procfs::threads(pid),
            children: procfs::children(pid),
            names: names(prefix),
        }
    }

    /// `Ok` if nothing is there that was not there then, or if it goes in a moment.
    pub fn check(&self) -> Result<(), String> {
        let clean = until_within(MOMENT, || self.left().is_empty());
        if clean { Ok(()) } else { Err(self.left().join(", ")) }
    }

    /// What is there now and was not there then.
    pub fn left(&self) -> Vec<String> {
        self.difference(&Snapshot::with_names(&self.prefix))
    }

    fn difference(&self, now: &Snapshot) -> Vec<String> {
        let descriptors =
            now.descriptors.iter().filter(|(fd, target)| self.descriptors.get(fd) != Some(target));
        let turns = waiting();
        let threads = now.threads.difference(&self.threads).filter(|tid| !turns.contains(tid));
        let descriptors = descriptors.map(|(fd, target)| format!("descriptor {fd} ({target})"));
        let threads = threads.map(|tid| format!("thread {}", procfs::describe(*tid)));
        let children =
            now.children.difference(&self.children).map(|pid| format!("child {}", procfs::describe(*pid)));
        let names = now.names.difference(&self.names).map(|name| format!("name {name}"));
        descriptors.chain(threads).chain(children).chain(names).collect()
    }
}

/// What the descriptor of a registry with a name looks like in the process that made it: a file without a name got one
/// later, and goes by its inode.
fn registries() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return Vec::new() };
    let registries =
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(REGISTRY));
    registries.map(|entry| format!("/dev/shm/#{} ", entry.ino())).collect()
}

/// A process that spawned keeps a descriptor of itself for its children.
fn is_own_pidfd(number: i32, target: &str) -> bool {
    let own = format!("Pid:\t{}", std::process::id());
    target.contains("pidfd")
        && fs::read_to_string(format!("/proc/self/fdinfo/{number}"))
            .is_ok_and(|info| info.lines().any(|line| line == own))
}

fn names(prefix: &str) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return BTreeSet::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(prefix) && !name.starts_with(REGISTRY)).collect()
}

/// Held during a test; dropped, it panics if the test left something behind (and did not fail already).
#[must_use = "the oracle compares with what there is when this is dropped"]
pub struct Oracle {
    before: Snapshot,
    _turn: MutexGuard<'static, ()>,
}

/// Waits for this test's turn and looks; names are those made with [`unique`].
pub fn oracle() -> Oracle {
    oracle_with_names(&own_mark())
}

/// Waits for this test's turn and looks; names are those that contain `prefix`.
pub fn oracle_with_names(prefix: &str) -> Oracle {
    let turn = take_turn();
    Oracle { before: Snapshot::with_names(prefix), _turn: turn }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Err(left) = self.before.check() {
            panic!("left behind: {left}");
        }
    }
}

static TURN: Mutex<()> = Mutex::new(());
/// libtest starts the next tests while one runs: their threads wait here and are no leak.
static WAITING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn take_turn() -> MutexGuard<'static, ()> {
    let tid = fs::read_link("/proc/thread-self").expect("/proc is mounted");
    let tid = tid.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<i32>().ok());
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).extend(tid);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn waiting() -> BTreeSet<i32> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

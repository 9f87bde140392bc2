//! Who this process is in its family.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::builder::Builder;

/// What a child was told about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Birth {
    pub(crate) name: String,
    /// Which child of which child: `2:1` is the first child of the second child of the main process.
    pub(crate) lineage: String,
    pub(crate) daemon: bool,
    pub(crate) parent: u32,
    pub(crate) parent_name: String,
}

/// A process that was forked has the birth of the one it was copied from until it is told of its own.
static BIRTH: Mutex<Option<&'static Birth>> = Mutex::new(None);
static CHILDREN: AtomicU32 = AtomicU32::new(0);

impl Birth {
    /// That of a new child. Takes its name out of `builder`.
    pub(crate) fn of(builder: &mut Builder) -> Birth {
        let lineage = if builder.unnumbered { String::new() } else { next_lineage() };
        let name = builder.name.take().unwrap_or_else(|| format!("Process-{lineage}"));
        let parent_name = current_process().name().to_owned();
        Birth { name, lineage, daemon: builder.daemon, parent: std::process::id(), parent_name }
    }

    /// This process was born so.
    pub(crate) fn remember(self) {
        *BIRTH.lock() = Some(Box::leak(Box::new(self)));
        CHILDREN.store(0, Relaxed);
    }
}

fn next_lineage() -> String {
    let number = CHILDREN.fetch_add(1, Relaxed) + 1;
    birth().map_or(number.to_string(), |own| format!("{}:{number}", own.lineage))
}

/// What this process was told about itself; `None` = it is a main process.
pub(crate) fn birth() -> Option<&'static Birth> {
    *BIRTH.lock()
}

/// Whether this process ends with its parent.
pub(crate) fn is_daemon() -> bool {
    birth().is_some_and(|birth| birth.daemon)
}

/// This process, as its family knows it.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, current_process};
///
/// assert_eq!(current_process().name(), "MainProcess");
/// let mut child = Process::builder().name("counter").spawn(|()| current_process().name().to_owned(), ())?;
/// assert_eq!(child.join()?, "counter");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentProcess(());

/// This process: its name, its number, its parent. In a process that no [`Process`](crate::Process) stands for, the
/// main process.
pub fn current_process() -> CurrentProcess {
    CurrentProcess(())
}

impl CurrentProcess {
    /// `MainProcess`, or the name that its parent gave it.
    pub fn name(&self) -> &'static str {
        birth().map_or("MainProcess", |birth| &birth.name)
    }

    /// Its number, for humans and logs: the kernel uses numbers again.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it ends with its parent; see [`Builder::daemon`](crate::Builder::daemon).
    pub fn is_daemon(&self) -> bool {
        is_daemon()
    }

    /// The number of the process that spawned it, which may be gone; `None` in the main process.
    pub fn parent_pid(&self) -> Option<u32> {
        birth().map(|birth| birth.parent)
    }
}

/// How many processors this process may use: by its affinity and by the limits of its cgroup.
///
/// ```
/// assert!(multiprocess::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

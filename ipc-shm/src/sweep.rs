//! Who uses the names of this machine: `list`, and `sweep` of those that nobody uses.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;

use crate::lease::{self, Verdict};
use crate::name::{DIRECTORY, Name};

/// A named segment of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Whether anybody uses it.
    pub state: SegmentState,
}

/// Whether anybody uses a named segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// A living process has it open.
    InUse,
    /// All its users died or left: the next `create` takes it over, and [`sweep`] removes it.
    Stale,
    /// A persistent segment, or one this toolkit did not make. Who uses it cannot be known, so it is never
    /// removed.
    Unmarked,
}

/// All named segments of this user, in no order.
///
/// Never blocks longer than 100 ms per name, and only when a process was stopped in the middle of removing one.
///
/// # Errors
///
/// There is no /dev/shm (`Unsupported`), or the kernel refused to read it.
///
/// ```
/// let segment = ipc_shm::SharedMemory::create_random(4096)?;
/// let all = ipc_shm::list()?;
/// assert!(all.iter().any(|info| Some(&*info.name) == segment.name()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn list() -> io::Result<Vec<SegmentInfo>> {
    let mut segments = Vec::new();
    for (name, size) in own_files()? {
        let state = match lease::examine(&name)? {
            Verdict::Free => continue,
            Verdict::Stale { .. } => SegmentState::Stale,
            Verdict::InUse => SegmentState::InUse,
            Verdict::Unmarked => SegmentState::Unmarked,
        };
        segments.push(SegmentInfo { name: name.as_str().into(), size, state });
    }
    Ok(segments)
}

/// Removes the names that dead processes of this user left behind, and answers which.
///
/// A name that a living process uses is never touched, nor one this toolkit did not make. There is no need to
/// call it: who creates a segment under a stale name takes it over anyway. It is for the names that nobody asks
/// for again.
///
/// # Errors
///
/// There is no /dev/shm (`Unsupported`), or the kernel refused to read it.
///
/// ```
/// let segment = ipc_shm::SharedMemory::create_random(4096)?;
/// let removed = ipc_shm::sweep()?;
/// assert!(!removed.iter().any(|name| Some(&**name) == segment.name()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "resource_tracker")]
pub fn sweep() -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for (name, _) in own_files()? {
        if lease::remove_stale(&name)? {
            removed.push(name.as_str().into());
        }
    }
    Ok(removed)
}

/// Regular files of this user that a name can lead to, with their sizes.
fn own_files() -> io::Result<Vec<(Name, u64)>> {
    let entries = fs::read_dir(DIRECTORY).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            io::Error::new(io::ErrorKind::Unsupported, "there is no /dev/shm")
        }
        _ => error,
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(status) = entry.metadata() else { continue }; // gone meanwhile
        let name = entry.file_name().to_str().and_then(|name| Name::new(name).ok());
        match name {
            Some(name) if status.is_file() && status.uid() == geteuid().as_raw() => {
                files.push((name, status.size()));
            }
            _ => {}
        }
    }
    Ok(files)
}

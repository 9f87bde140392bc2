//! Which files there are: each of them once, whatever links lead to it, and whichever process comes first.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use multiprocess::SharedMemory;
use serde::{Deserialize, Serialize};

/// Files and folders that were met, for all processes: a hash table in shared memory whose slots are taken by
/// compare-and-swap.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen(SharedMemory);

/// Far more than there are files in most trees; memory is spent only for slots in use.
const SLOTS: u64 = 1 << 24;

impl Seen {
    /// Nothing was met yet.
    pub(crate) fn new() -> Result<Seen, Box<dyn Error>> {
        Ok(Seen(SharedMemory::anonymous(SLOTS as usize * 8)?))
    }

    /// Lets nobody walk into `folder`, if there is one.
    pub(crate) fn skip(&self, folder: &Path) {
        if let Ok(folder) = fs::metadata(folder) {
            self.is_first(&folder);
        }
    }

    /// Whether this is the first to meet it. A full table has forgotten nothing, but takes nothing more.
    fn is_first(&self, file: &Metadata) -> bool {
        let key = mix(file.dev().rotate_left(32) ^ file.ino()) | 1; // 0 is a free slot
        for slot in (0..SLOTS).map(|i| (key >> 8).wrapping_add(i) % SLOTS) {
            let word = self.0.atomic_u64(slot as usize * 8).expect("the slot is below their number");
            match word.compare_exchange(0, key, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) if other == key => return false,
                Err(_) => (),
            }
        }
        true
    }
}

/// Spreads a number over all its bits (the finalizer of MurmurHash3).
fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    n = (n ^ (n >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    n ^ (n >> 33)
}

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Met {
    /// A file to be read.
    File(PathBuf),
    /// There is no such path, or it cannot be read.
    Trouble(PathBuf, io::Error),
}

/// Walks from `root` on and tells what it meets. Links are followed, but to nothing that was met before.
pub(crate) fn walk(root: PathBuf, seen: &Seen, mut meet: impl FnMut(Met)) {
    let mut ahead = vec![root];
    while let Some(path) = ahead.pop() {
        match look(&path, seen) {
            Ok(Look::Folder) => match children(&path) {
                Ok(children) => ahead.extend(children.into_iter().rev()),
                Err(error) => meet(Met::Trouble(path, error)),
            },
            Ok(Look::File) => meet(Met::File(path)),
            Ok(Look::Again) => (),
            Err(error) => meet(Met::Trouble(path, error)),
        }
    }
}

enum Look {
    Folder,
    File,
    Again,
}

fn look(path: &Path, seen: &Seen) -> io::Result<Look> {
    let file = fs::metadata(path)?;
    match file.file_type() {
        _ if !seen.is_first(&file) => Ok(Look::Again),
        kind if kind.is_dir() => Ok(Look::Folder),
        kind if kind.is_file() => Ok(Look::File),
        // To read a pipe or a terminal would be to wait for somebody.
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file")),
    }
}

/// Where to begin, dealt out to `count` processes; the project's own sources if there is no path.
///
/// Folders are taken one level down, so that of a single one there is a share for each.
pub(crate) fn shares(paths: impl Iterator<Item = OsString>, seen: &Seen, count: usize) -> Vec<Vec<OsString>> {
    let mut roots: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    if roots.is_empty() {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        for folder in ["target", "benches/rivals/target", ".git"] {
            seen.skip(&project.join(folder));
        }
        roots.push(project);
    }
    let starts = roots.into_iter().flat_map(|root| children(&root).unwrap_or(vec![root]));
    let mut shares = vec![Vec::new(); count];
    starts.enumerate().for_each(|(i, path)| shares[i % count].push(path.into_os_string()));
    shares
}

/// What is in a folder, by name.
fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

//! A folder for the files of one test, gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use super::unique;

/// Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
}

impl Folder {
    /// A new, empty one.
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(unique("multiprocess-test"));
        fs::create_dir(&path).expect("a new folder in the folder for temporary files");
        Folder { path }
    }

    /// A file in it, and the folders on the way there.
    pub fn file(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("it lies in this folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

//! Where rivals that need names put them: all in one place, so that a killed one leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Tells a repetition the prefix of its run.
pub const VARIABLE: &str = "RIVALS_PREFIX";

const MEMORY: &str = "/dev/shm";

/// What all names of this run contain.
pub fn prefix() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| format!("rivals-{}-", std::process::id()))
}

/// A directory in memory for this repetition.
pub fn directory() -> PathBuf {
    let path = Path::new(MEMORY).join(prefix() + "directory");
    fs::create_dir_all(&path).expect("/dev/shm is writable");
    path
}

/// Removes all names of this run.
pub fn clear() {
    for entry in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(&prefix()) {
            _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

//! One of the seeds, as a program to run.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The example `name`, of the same build as this test.
///
/// # Panics
///
/// It was not built: `cargo test` does so, but `cargo test --test …` does not.
#[track_caller]
pub fn example(name: &str) -> Command {
    // This test is target/PROFILE/deps/TEST-HASH.
    let mut path: PathBuf = env::current_exe().expect("/proc is mounted");
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --examples`, for tests in release with --release",
        path.display()
    );
    Command::new(path)
}

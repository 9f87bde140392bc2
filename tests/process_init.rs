//! A program that forgot `init` cannot spawn. This file has no `testing!` on purpose.

use multiprocess::{Process, SpawnFailure, current_process};

#[test]
fn spawn_before_init_is_an_error_and_gives_the_arguments_back() {
    let _test = support::test(60);
    let error = Process::spawn(|name: String| name, "mine".to_owned()).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::NotInitialized), "{error}");
    assert_eq!(
        error.to_string(),
        "process was not started: multiprocess::init() must be the first line of main"
    );
    assert_eq!(error.into_args(), "mine");
}

#[test]
fn process_without_a_parent_is_the_main_one() {
    let _test = support::test(60);
    let this = current_process();
    assert_eq!((this.name(), this.pid(), this.parent_pid()), ("MainProcess", std::process::id(), None));
}

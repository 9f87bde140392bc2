//! What comes back from a process: its result, its panic, or how it died.
#![allow(unsafe_code)] // raise, atexit

use std::sync::mpsc;
use std::time::{Duration, Instant};

use multiprocess::{JoinError, Process, TryJoinError};

multiprocess::testing!();

fn add((a, b): (u32, u32)) -> u32 {
    a + b
}

/// Never returns.
fn sleep(_: ()) {
    loop {
        std::thread::park();
    }
}

#[test]
fn function_and_closure_return_to_join() {
    let _test = support::test(60);
    assert_eq!(Process::spawn(add, (20, 22)).unwrap().join().unwrap(), 42);
    let mut process = Process::spawn(|text: String| text.len(), "four".to_owned()).unwrap();
    assert_eq!(process.join().unwrap(), 4);
    let status = process.exit_status().unwrap();
    assert!(status.success() && status.code() == Some(0) && status.exit_code() == Some(0));
}

#[test]
fn second_join_says_so_and_status_stays() {
    let _test = support::test(60);
    let mut process = Process::spawn(add, (1, 2)).unwrap();
    assert_eq!(process.join().unwrap(), 3);
    assert!(matches!(process.join(), Err(JoinError::AlreadyJoined)));
    assert!(matches!(process.try_join(), Err(TryJoinError::Failed(JoinError::AlreadyJoined))));
    assert!(!process.is_alive());
    assert!(process.exit_status().unwrap().success());
}

#[test]
fn large_arguments_and_results_arrive() {
    let _test = support::test(60);
    let sizes = [64 << 10, (64 << 10) + 1, 1 << 20, 70_000_000];
    for size in sizes {
        let numbers: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        let echo: fn(Vec<u8>) -> Vec<u8> = |numbers| numbers;
        let mut process = Process::spawn(echo, numbers.clone()).unwrap();
        assert!(process.join().unwrap() == numbers, "{size} bytes");
    }
}

#[test]
fn panic_comes_back_with_text_and_place() {
    let _test = support::test(60);
    let mut process = Process::spawn(|n: u32| -> u32 { panic!("no room for {n}") }, 7).unwrap();
    let error = process.join().unwrap_err();
    let JoinError::Panicked { message, location } = &error else { panic!("{error}") };
    assert_eq!(message, "no room for 7");
    assert!(location.contains("tests/process_join.rs:"), "{location}");
    assert_eq!(error.to_string(), format!("process panicked at {location}: no room for 7"));
    assert_eq!(process.exit_status().unwrap().exit_code(), Some(1));
}

#[test]
fn panic_of_any_payload_comes_back() {
    let _test = support::test(60);
    let mut process: Process<()> = Process::spawn(|()| std::panic::panic_any(5u8), ()).unwrap();
    let error = process.join().unwrap_err();
    assert!(
        matches!(&error, JoinError::Panicked { message, .. } if message.contains("without a text")),
        "{error}"
    );
}

#[test]
fn panic_in_a_thread_of_the_child_is_not_its_functions() {
    let _test = support::test(60);
    let function = |()| std::thread::spawn(|| panic!("only a thread")).join().is_err();
    assert!(Process::spawn(function, ()).unwrap().join().unwrap());
}

/// Panics when it is read.
#[derive(Debug, serde::Serialize)]
struct Fragile;

impl<'de> serde::Deserialize<'de> for Fragile {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("fragile as read")
    }
}

#[test]
fn panic_while_the_arguments_are_read_comes_back() {
    let _test = support::test(60);
    let error = Process::spawn(|_: Fragile| (), Fragile).unwrap().join().unwrap_err();
    assert!(matches!(&error, JoinError::Panicked { message, .. } if message == "fragile as read"), "{error}");
}

#[test]
fn killed_process_is_died_with_the_signal() {
    let _test = support::test(60);
    let mut process = Process::spawn(sleep, ()).unwrap();
    assert!(process.is_alive());
    assert_eq!(process.exit_status(), None);
    process.kill().unwrap();
    let error = process.join().unwrap_err();
    let JoinError::Died { status } = error else { panic!("{error}") };
    assert_eq!((status.signal(), status.code(), status.exit_code()), (Some(9), None, Some(-9)));
    assert_eq!(error.to_string(), "process ended without a result, with signal 9 (SIGKILL)");
    process.kill().unwrap(); // nobody there, nothing done
    process.terminate().unwrap();
}

#[test]
fn terminated_process_is_died_with_sigterm() {
    let _test = support::test(60);
    let mut process = Process::spawn(sleep, ()).unwrap();
    process.terminate().unwrap();
    assert!(matches!(process.join(), Err(JoinError::Died { status }) if status.signal() == Some(15)));
}

#[test]
fn real_time_signal_is_a_status_too() {
    let _test = support::test(60);
    let number = libc::SIGRTMIN() + 3;
    // SAFETY: raise takes a number.
    let mut process = Process::spawn(|number| unsafe { libc::raise(number) }, number).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Died { status } if status.signal() == Some(number)), "{error}");
}

#[test]
fn exit_inside_the_function_is_died_with_the_code() {
    let _test = support::test(60);
    let mut process: Process<()> = Process::spawn(|code| std::process::exit(code), 300).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Died { status }) if status.code() == Some(44)));
}

#[test]
fn abort_is_died_with_sigabrt() {
    let _test = support::test(60);
    let mut process: Process<()> = Process::spawn(|()| std::process::abort(), ()).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Died { status }) if status.signal() == Some(6)));
}

/// What serde refuses to write or to read back.
#[derive(Debug, Clone, Copy)]
struct Stubborn {
    writes: bool,
}

impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.writes {
            true => serializer.serialize_u8(0),
            false => Err(serde::ser::Error::custom("stubborn as written")),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("stubborn as read"))
    }
}

#[test]
fn arguments_that_cannot_be_written_come_back_from_spawn() {
    let _test = support::test(60);
    let error = Process::spawn(|_: Stubborn| (), Stubborn { writes: false }).unwrap_err();
    assert!(error.to_string().contains("stubborn as written"), "{error}");
    assert!(!error.into_args().writes);
}

#[test]
fn arguments_that_cannot_be_read_are_not_started() {
    let _test = support::test(60);
    let mut process = Process::spawn(|_: Stubborn| (), Stubborn { writes: true }).unwrap();
    let error = process.join().unwrap_err();
    assert!(
        matches!(&error, JoinError::NotStarted { message } if message.contains("stubborn as read")),
        "{error}"
    );
}

#[test]
fn result_that_cannot_be_written_is_refused() {
    let _test = support::test(60);
    let mut process = Process::spawn(|writes| Stubborn { writes }, false).unwrap();
    let error = process.join().unwrap_err();
    assert!(
        matches!(&error, JoinError::ResultRefused { message } if message.contains("stubborn as written")),
        "{error}"
    );
}

#[test]
fn result_that_cannot_be_read_is_an_error_here() {
    let _test = support::test(60);
    let mut process = Process::spawn(|writes| Stubborn { writes }, true).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Result(_)), "{error}");
    assert!(error.to_string().contains("stubborn as read"), "{error}");
    assert!(process.exit_status().is_some());
}

#[test]
fn timeout_leaves_the_process_joinable() {
    let _test = support::test(60);
    let mut process = Process::spawn(sleep, ()).unwrap();
    let start = Instant::now();
    let short = Duration::from_millis(50);
    assert!(matches!(process.join_timeout(short), Err(TryJoinError::StillRunning)));
    assert!(start.elapsed() >= short);
    assert!(matches!(process.try_join(), Err(TryJoinError::StillRunning)));
    assert!(matches!(process.join_deadline(Instant::now()), Err(TryJoinError::StillRunning)));
    process.kill().unwrap();
    let joined = process.join_timeout(Duration::MAX);
    assert!(matches!(joined, Err(TryJoinError::Failed(JoinError::Died { .. }))), "{joined:?}");
}

#[test]
fn result_that_came_before_the_exit_survives_a_timeout() {
    let _test = support::test(60);
    fn returns_and_stays(_: ()) -> u32 {
        extern "C" fn stay() {
            loop {
                std::thread::park();
            }
        }
        // SAFETY: `stay` may run at any time.
        unsafe { libc::atexit(stay) };
        42
    }
    let mut process = Process::spawn(returns_and_stays, ()).unwrap();
    assert!(matches!(process.join_timeout(Duration::from_millis(300)), Err(TryJoinError::StillRunning)));
    process.kill().unwrap();
    assert_eq!(process.join().unwrap(), 42);
    assert_eq!(process.exit_status().unwrap().signal(), Some(9));
}

#[test]
fn death_in_the_middle_of_a_large_result_is_died() {
    let _test = support::test(60);
    let mut process = Process::spawn(|size: usize| vec![7u8; size], 50_000_000).unwrap();
    // Far larger than the pipe: nobody reads, so it cannot have left its send.
    support::asleep(process.pid() as i32);
    process.kill().unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Died { status } if status.signal() == Some(9)), "{error}");
}

#[test]
fn stopped_process_is_alive_and_goes_on() {
    let _test = support::test(60);
    // SAFETY: raise takes a number.
    let mut process = Process::spawn(|()| unsafe { libc::raise(libc::SIGSTOP) }, ()).unwrap();
    support::until(|| support::procfs::state(process.pid() as i32) == Some('T'));
    assert!(process.is_alive());
    assert!(matches!(process.try_join(), Err(TryJoinError::StillRunning)));
    // SAFETY: the child is ours and not reaped.
    unsafe { libc::kill(process.pid() as i32, libc::SIGCONT) };
    assert_eq!(process.join().unwrap(), 0);
}

#[test]
fn another_thread_joins_and_kills() {
    let _test = support::test(60);
    let process = Process::spawn(sleep, ()).unwrap();
    std::thread::scope(|scope| {
        let killer = &process;
        scope.spawn(move || killer.kill().unwrap());
    });
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut process = process;
        send.send(process.join().unwrap_err().to_string())
    });
    assert!(receive.recv().unwrap().contains("SIGKILL"));
}

#[test]
fn several_threads_spawn_at_once() {
    let _test = support::test(120);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            scope.spawn(move || {
                for i in 0..10 {
                    let mut process = Process::spawn(add, (thread * 100, i)).unwrap();
                    assert_eq!(process.join().unwrap(), thread * 100 + i);
                }
            });
        }
    });
}

#[test]
fn exit_handlers_run_and_output_is_flushed_before_join_returns() {
    let _test = support::test(60);
    fn leaves_a_mark((): ()) {
        extern "C" fn mark() {
            print!("and an exit handler");
        }
        // SAFETY: `mark` may run at any time.
        unsafe { libc::atexit(mark) };
        print!("no newline, ");
    }
    let (mut file, path) = scratch("flush");
    Process::builder().stdout(file.try_clone().unwrap()).spawn(leaves_a_mark, ()).unwrap().join().unwrap();
    std::fs::remove_file(path).unwrap();
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
    assert!(text.starts_with("no newline, "), "{text}");
    assert!(text.ends_with("and an exit handler"), "{text}");
}

fn scratch(stem: &str) -> (std::fs::File, std::path::PathBuf) {
    let path = std::env::temp_dir().join(support::unique(stem));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    (file, path)
}

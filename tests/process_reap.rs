//! No zombie stays, no drop blocks, no stranger is hit.
#![allow(unsafe_code)] // waitpid and SIGCHLD, as other code of the program may use them

use std::sync::Once;
use std::time::{Duration, Instant};

use multiprocess::{Event, JoinError, Process, wait, wait_timeout};
use support::procfs;

multiprocess::testing!();

fn sleep(_: ()) {
    loop {
        std::thread::park();
    }
}

/// Signals by number, as a program may do that knows only that.
fn kill(pid: u32) {
    // SAFETY: a number; the process is our child and not reaped, as the callers know.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// What every test starts with. The arena of an event stays in this process, so it is made before.
fn test(seconds: u64) -> support::Test {
    static ARENA: Once = Once::new();
    ARENA.call_once(|| drop(Event::new().unwrap()));
    support::test(seconds)
}

#[test]
fn drop_neither_waits_nor_kills() {
    let _test = test(60);
    let process = Process::spawn(sleep, ()).unwrap();
    let pid = process.pid();
    let start = Instant::now();
    drop(process);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(procfs::state(pid as i32).is_some_and(|state| state != 'Z'));
    kill(pid);
    support::until(|| procfs::state(pid as i32) == Some('Z'));
    Process::spawn(|()| (), ()).unwrap().join().unwrap();
    assert_eq!(procfs::state(pid as i32), None, "the next spawn reaped it");
}

#[test]
fn zombies_do_not_pile_up() {
    let _test = test(120);
    for _ in 0..30 {
        drop(Process::spawn(|()| (), ()).unwrap());
    }
    support::until(|| {
        Process::spawn(|()| (), ()).unwrap().join().unwrap();
        procfs::children(std::process::id() as i32).is_empty()
    });
}

#[test]
fn dropped_child_in_the_middle_of_its_result_ends() {
    let _test = test(60);
    let process = Process::spawn(|size: usize| vec![1u8; size], 50_000_000).unwrap();
    support::asleep(process.pid() as i32);
    let pid = process.pid() as i32;
    drop(process);
    support::until(|| matches!(procfs::state(pid), Some('Z') | None));
    Process::spawn(|()| (), ()).unwrap().join().unwrap();
}

#[test]
fn forked_copy_of_the_parent_may_not_join() {
    let _test = test(60);
    let mut process = Process::spawn(sleep, ()).unwrap();
    let status = support::fork(|| {
        assert!(matches!(process.join(), Err(JoinError::NotParent)));
        assert!(process.is_alive());
        assert_eq!(process.exit_status(), None);
    })
    .wait();
    assert_eq!(status, support::Status::Code(0));
    assert!(process.is_alive());
    process.kill().unwrap();
    assert!(matches!(process.join(), Err(JoinError::Died { status }) if status.signal() == Some(9)));
}

#[test]
fn child_that_something_else_reaped_has_a_result_and_no_status() {
    let _test = test(60);
    let mut process = Process::spawn(|x: u32| x + 1, 1).unwrap();
    // SAFETY: null means that nobody wants the status.
    unsafe { libc::waitpid(process.pid() as i32, std::ptr::null_mut(), 0) };
    assert!(!process.is_alive());
    process.kill().unwrap(); // reaches nobody
    assert_eq!(process.join().unwrap(), 2);
    let status = process.exit_status().unwrap();
    assert_eq!((status.code(), status.signal(), status.exit_code()), (None, None, None));
    assert!(status.to_string().starts_with("unknown status"));
}

#[test]
fn ignored_sigchld_does_not_wedge_join() {
    let _test = test(60);
    // SAFETY: SIG_IGN and SIG_DFL are no handlers.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let joined = Process::spawn(|x: u32| x + 1, 1).unwrap().join();
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    assert_eq!(joined.unwrap(), 2);
}

#[test]
fn sentinel_is_readable_when_the_process_has_ended() {
    let _test = test(60);
    use std::os::fd::AsRawFd;
    let process = Process::spawn(sleep, ()).unwrap();
    let readable = |timeout: i32| {
        let mut poll = libc::pollfd { fd: process.sentinel().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd of ours.
        unsafe { libc::poll(&mut poll, 1, timeout) == 1 }
    };
    assert!(!readable(0));
    process.kill().unwrap();
    assert!(readable(20_000));
    assert!(!process.is_alive());
    assert_eq!(process.exit_status().unwrap().signal(), Some(9));
}

#[test]
fn end_of_a_process_ends_a_wait_for_many() {
    let _test = test(60);
    let stop = Event::new().unwrap();
    let (here, _there) = multiprocess::pipe().unwrap();
    let (first, second) = (Process::spawn(sleep, ()).unwrap(), Process::spawn(sleep, ()).unwrap());
    assert!(wait_timeout(&[&first, &second, &here, &stop], Duration::from_millis(1)).is_empty());
    second.kill().unwrap();
    assert_eq!(wait(&[&first, &second, &here, &stop]), [1]);
    stop.set();
    assert_eq!(wait(&[&first, &second, &here, &stop]), [1, 3]);
    first.kill().unwrap();
    assert_eq!(wait(&[&first]), [0]);
}

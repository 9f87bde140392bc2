//! Parents, children and what becomes of either when the other ends.
#![allow(unsafe_code)] // signals by number, to processes that are not ours

use std::io::{Read, Seek};
use std::sync::Once;
use std::time::{Duration, Instant};

use multiprocess::{
    Process, Sender, SpawnFailure, active_children, cpu_count, current_process, parent_process, simplex,
};
use support::{procfs, until};

multiprocess::testing!();

fn sleep(_: ()) {
    loop {
        std::thread::park();
    }
}

/// Signals a process that is not our child, and lives as its caller knows.
fn signal(pid: u32, number: i32) {
    // SAFETY: two numbers.
    unsafe { libc::kill(pid as i32, number) };
}

fn is_gone(pid: u32) -> bool {
    matches!(procfs::state(pid as i32), Some('Z') | None)
}

/// What every test starts with. The pipe that daemons hang on stays in this process, so it is made before.
fn test(seconds: u64) -> support::Test {
    static LINE: Once = Once::new();
    LINE.call_once(|| Process::builder().daemon(true).spawn(|()| (), ()).unwrap().join().unwrap());
    support::test(seconds)
}

fn start_daemons(news: Sender) {
    for i in 0..3 {
        let (told, tell) = simplex().unwrap();
        let announce = |tell: Sender| {
            tell.send(&()).unwrap();
            sleep(());
        };
        let daemon = Process::builder().daemon(true).spawn(announce, tell).unwrap();
        told.recv::<()>().unwrap();
        if i == 2 {
            signal(daemon.pid(), libc::SIGSTOP);
            until(|| procfs::state(daemon.pid() as i32) == Some('T'));
        }
        news.send(&daemon.pid()).unwrap();
    }
    sleep(());
}

#[test]
fn daemons_die_with_a_parent_that_is_killed() {
    let _test = test(120);
    for _ in 0..20 {
        let (news, sender) = simplex().unwrap();
        let mut parent = Process::spawn(start_daemons, sender).unwrap();
        let daemons = [(); 3].map(|()| news.recv::<u32>().unwrap());
        parent.kill().unwrap();
        parent.join().unwrap_err();
        let start = Instant::now();
        until(|| daemons.iter().all(|pid| is_gone(*pid)));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

/// Killed at any moment of its start, a parent leaves no daemon behind.
#[test]
fn daemons_that_are_just_born_die_too() {
    let _test = test(120);
    fn busy(_: ()) {
        loop {
            let _ = Process::builder().daemon(true).spawn(sleep, ());
        }
    }
    let mut rng = support::Rng::new(support::seed());
    for _ in 0..30 {
        let mut parent = Process::spawn(busy, ()).unwrap();
        // Not a wait for anybody: the time of a death is random.
        std::thread::sleep(Duration::from_micros(rng.below(20_000)));
        let group = family_of(parent.pid());
        parent.kill().unwrap();
        parent.join().unwrap_err();
        until(|| group.iter().all(|pid| is_gone(*pid)));
    }
}

fn family_of(pid: u32) -> Vec<u32> {
    procfs::children(pid as i32).into_iter().map(|child| child as u32).collect()
}

#[test]
fn a_daemon_outlives_the_thread_that_started_it() {
    let _test = test(60);
    let spawn = || Process::builder().daemon(true).spawn(|_: ()| parent_process().unwrap().pid(), ());
    let mut daemon = std::thread::spawn(spawn).join().unwrap().unwrap();
    assert_eq!(daemon.join().unwrap(), std::process::id());
}

#[test]
fn a_daemon_has_no_children() {
    let _test = test(60);
    fn try_it(_: ()) -> (bool, bool) {
        let refused = Process::spawn(sleep, ()).unwrap_err();
        (matches!(refused.reason(), SpawnFailure::Daemon), current_process().is_daemon())
    }
    assert_eq!(Process::builder().daemon(true).spawn(try_it, ()).unwrap().join().unwrap(), (true, true));
    assert!(!Process::spawn(|()| current_process().is_daemon(), ()).unwrap().join().unwrap());
}

#[test]
fn the_exit_of_a_parent_ends_daemons_and_waits_for_the_others() {
    let _test = test(60);
    fn leave_both(news: Sender) {
        let daemon = Process::builder().daemon(true).spawn(sleep, ()).unwrap();
        let (go, wait) = simplex().map(|(receiver, sender)| (sender, receiver)).unwrap();
        let other = Process::spawn(
            |wait: multiprocess::Receiver| {
                let _ = wait.recv::<()>(); // the end of its parent's pipe: when that exits
            },
            wait,
        )
        .unwrap();
        news.send(&(daemon.pid(), other.pid())).unwrap();
        go.send(&()).unwrap();
    }
    let (news, sender) = simplex().unwrap();
    let mut parent = Process::spawn(leave_both, sender).unwrap();
    let (daemon, other) = news.recv::<(u32, u32)>().unwrap();
    parent.join().unwrap();
    assert!(parent.exit_status().unwrap().success());
    assert!(is_gone(other), "a parent waits for its children");
    until(|| is_gone(daemon));
}

#[test]
fn active_children_are_those_that_run() {
    let _test = test(60);
    let mut kept = Process::builder().name("kept").spawn(sleep, ()).unwrap();
    drop(Process::builder().name("dropped").spawn(sleep, ()).unwrap());
    let names = || active_children().iter().map(|child| child.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(), ["kept", "dropped"]);
    for child in active_children() {
        assert!(child.is_alive() && child.exit_status().is_none());
        child.terminate().unwrap();
        let status = child.wait_timeout(Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(status.exit_code(), Some(-libc::SIGTERM));
    }
    assert_eq!(names(), Vec::<String>::new());
    assert_eq!(kept.exit_status().unwrap().signal(), Some(libc::SIGTERM), "reaping keeps the status");
    kept.join().unwrap_err();
}

#[test]
fn a_hundred_children_at_once() {
    let _test = test(120);
    let processes: Vec<_> = (0..100).map(|_| Process::spawn(sleep, ()).unwrap()).collect();
    assert_eq!(active_children().len(), 100);
    for process in &processes {
        process.terminate().unwrap();
    }
    for mut process in processes {
        process.join().unwrap_err();
        assert_eq!(process.exit_status().unwrap().exit_code(), Some(-libc::SIGTERM));
    }
    assert!(active_children().is_empty());
}

#[test]
fn a_child_sees_its_real_parent_die() {
    let _test = test(60);
    fn middle(news: Sender) {
        let watch = |news: Sender| {
            let parent = parent_process().unwrap();
            news.send(&(parent.pid(), parent.name(), parent.is_alive())).unwrap();
            while !parent.wait_timeout(Duration::from_secs(1)).unwrap() {}
            news.send(&parent.is_alive()).unwrap();
        };
        let _child = Process::spawn(watch, news).unwrap();
        sleep(());
    }
    let (news, sender) = simplex().unwrap();
    let mut parent = Process::builder().name("middle").spawn(middle, sender).unwrap();
    let seen = news.recv::<(u32, String, bool)>().unwrap();
    assert_eq!(seen, (parent.pid(), "middle".to_owned(), true));
    parent.kill().unwrap();
    assert!(!news.recv::<bool>().unwrap());
    parent.join().unwrap_err();
}

#[test]
fn processors_are_counted_by_what_may_be_used() {
    let _test = test(60);
    let mut one = Process::spawn(
        |()| {
            support::pin(0);
            cpu_count()
        },
        (),
    )
    .unwrap();
    assert_eq!(one.join().unwrap(), 1);
    assert!(cpu_count() >= 1);
}

/// What the terminal sends for Ctrl-C goes to all of a group.
#[test]
fn an_interrupt_from_the_terminal_ends_a_family_without_a_mess() {
    fn family(news: Sender) {
        // SAFETY: two numbers: this process begins a group of its own.
        unsafe { libc::setpgid(0, 0) };
        let child = |daemon| Process::builder().daemon(daemon).spawn(sleep, ()).unwrap();
        let children = [child(false), child(true), child(true)];
        news.send(&children.each_ref().map(|child| child.pid())).unwrap();
        sleep(());
    }
    let _test = test(60);
    for _ in 0..5 {
        let (told, news) = simplex().unwrap();
        let mut said = tempfile::tempfile().unwrap();
        let builder = Process::builder().stderr(said.try_clone().unwrap());
        let mut middle = builder.spawn(family, news).unwrap();
        let children: [u32; 3] = told.recv().unwrap();
        // SAFETY: two numbers; the group is our child's.
        unsafe { libc::kill(-(middle.pid() as i32), libc::SIGINT) };
        let start = Instant::now();
        middle.join().unwrap_err();
        assert_eq!(middle.exit_status().unwrap().signal(), Some(libc::SIGINT));
        until(|| children.iter().all(|child| is_gone(*child)));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let mut text = String::new();
        said.rewind().unwrap();
        said.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
    }
}

#[test]
fn a_process_that_may_not_be_started_is_an_error_with_the_reason() {
    let _test = test(30);
    let mut poor = support::fork(|| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: numbers, and a structure that lives during the call. Root may have as many processes as it likes.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &none), 0);
            if libc::geteuid() == 0 {
                assert_eq!(libc::setuid(65534), 0);
            }
        }
        let error = Process::spawn(|x: u32| x, 7).unwrap_err();
        let SpawnFailure::Io(reason) = error.reason() else { panic!("{error:?}") };
        assert_eq!(reason.raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(error.into_args(), 7);
    });
    assert_eq!(poor.wait(), support::Status::Code(0));
}

//! The same behaviour whichever way a process comes to be: started anew, forked by a server, forked from its parent.
//!
//! Each body runs in a process of its own, which has one thread, so that it may fork.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use multiprocess::{
    JoinError, Lock, Process, Queue, SpawnFailure, StartMethod, Stdio, active_children, current_process,
    parent_process, preload, set_start_method, simplex, start_method,
};
use support::{Folder, Rng, procfs, seed, until};

multiprocess::testing!();

fn with(method: u32) -> StartMethod {
    match method {
        0 => StartMethod::Spawn,
        1 => StartMethod::ForkServer,
        // SAFETY: these bodies share nothing with their children but what they send.
        _ => unsafe { StartMethod::fork() },
    }
}

/// Runs `body` in a process whose children come to be by `method`.
fn run(method: u32, body: fn(u32)) {
    let _test = support::test(120);
    let mut process = Process::spawn(body, method).unwrap();
    process.join().unwrap();
}

macro_rules! for_each_method {
    ($($name:ident)*) => {
        mod spawn { $( #[test] fn $name() { super::run(0, super::$name); } )* }
        mod forkserver { $( #[test] fn $name() { super::run(1, super::$name); } )* }
        mod fork { $( #[test] fn $name() { super::run(2, super::$name); } )* }
    };
}
for_each_method! {
    result_panic_code_and_signal_come_back
    handles_cross
    a_killed_lock_holder_is_noticed
    a_child_knows_its_family
    grandchildren_and_names
    streams_and_environment_are_as_asked
    directory_and_streams_are_those_of_now
    a_large_environment_arrives
    a_name_with_a_nul_is_refused
    daemons_die_with_their_parent
    many_at_once_and_no_zombie
    the_default_is_set_once
}

fn sleep(_: ()) {
    loop {
        std::thread::park();
    }
}

fn result_panic_code_and_signal_come_back(method: u32) {
    let start = |f: fn(i32) -> i32, x| Process::builder().start_method(with(method)).spawn(f, x).unwrap();
    assert_eq!(start(|x| x * 2, 21).join().unwrap(), 42);
    let error = start(|x| panic!("no {x}"), 7).join().unwrap_err();
    assert!(matches!(&error, JoinError::Panicked { message, .. } if message == "no 7"), "{error:?}");
    let mut exits = start(|x| std::process::exit(x), 3);
    exits.join().unwrap_err();
    assert_eq!(exits.exit_status().unwrap().exit_code(), Some(3));
    let mut idle = Process::builder().start_method(with(method)).spawn(sleep, ()).unwrap();
    assert!(idle.is_alive());
    idle.kill().unwrap();
    idle.join().unwrap_err();
    assert_eq!(idle.exit_status().unwrap().exit_code(), Some(-9));
}

fn handles_cross(method: u32) {
    let queue = Queue::<u32>::new().unwrap();
    let produce = |queue: Queue<u32>| (0..1000).for_each(|n| queue.put(n).unwrap());
    let start = || Process::builder().start_method(with(method)).spawn(produce, queue.clone()).unwrap();
    let mut producers = [start(), start()];
    let sum: u32 = (0..2000).map(|_| queue.get().unwrap()).sum();
    assert_eq!(sum, 999_000);
    producers.iter_mut().for_each(|producer| producer.join().unwrap());
}

fn a_killed_lock_holder_is_noticed(method: u32) {
    let lock = Lock::new().unwrap();
    for _ in 0..20 {
        let (told, tell) = simplex().unwrap();
        let hold = |(lock, tell): (Lock, multiprocess::Sender)| {
            let _guard = lock.lock().unwrap();
            tell.send(&()).unwrap();
            sleep(());
        };
        let mut holder =
            Process::builder().start_method(with(method)).spawn(hold, (lock.clone(), tell)).unwrap();
        told.recv::<()>().unwrap();
        holder.kill().unwrap();
        let start = Instant::now();
        let guard = lock.lock().unwrap();
        assert!(guard.owner_died() && start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
        guard.mark_consistent();
        drop(guard);
        holder.join().unwrap_err();
    }
}

fn a_child_knows_its_family(method: u32) {
    let look = |()| {
        let parent = parent_process().unwrap();
        // SAFETY: takes nothing.
        let kernels = unsafe { libc::getppid() } as u32;
        (
            current_process().name().to_owned(),
            parent.pid(),
            parent.name().to_owned(),
            kernels,
            parent.is_alive(),
        )
    };
    let mut child = Process::builder().name("kid").start_method(with(method)).spawn(look, ()).unwrap();
    let me = std::process::id();
    let mine = current_process().name().to_owned();
    assert_eq!(child.join().unwrap(), ("kid".to_owned(), me, mine, me, true));
}

fn grandchildren_and_names(method: u32) {
    fn name(_: ()) -> String {
        current_process().name().to_owned()
    }
    fn names(method: u32) -> (String, String) {
        let mut child = Process::builder().start_method(with(method)).spawn(name, ()).unwrap();
        (name(()), child.join().unwrap())
    }
    let own = name(()).replace("Process-", "");
    let mut first = Process::builder().start_method(with(method)).spawn(names, method).unwrap();
    assert_eq!(first.join().unwrap(), (format!("Process-{own}:1"), format!("Process-{own}:1:1")));
    let mut second = Process::builder().start_method(with(method)).spawn(name, ()).unwrap();
    assert_eq!(second.join().unwrap(), format!("Process-{own}:2"));
}

fn streams_and_environment_are_as_asked(method: u32) {
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let look = |()| {
        println!("hello");
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text).unwrap();
        (read, std::env::var("ROOM").ok(), std::env::var("HOME").ok(), std::env::var("GONE").ok())
    };
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("GONE", "x") };
    let mut child = Process::builder()
        .start_method(with(method))
        .env("ROOM", "7=8")
        .env_remove("GONE")
        .stdout(std::os::fd::OwnedFd::from(writer))
        .spawn(look, ())
        .unwrap();
    let home = std::env::var("HOME").ok();
    assert_eq!(child.join().unwrap(), (0, Some("7=8".to_owned()), home, None));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
}

/// Also if a fork server has been running since they were others.
fn directory_and_streams_are_those_of_now(method: u32) {
    let start = |look: fn(()) -> (PathBuf, String)| {
        Process::builder().start_method(with(method)).stdin(Stdio::inherit()).spawn(look, ()).unwrap()
    };
    start(|()| (PathBuf::new(), String::new())).join().unwrap();
    let folder = Folder::new();
    std::env::set_current_dir(&folder.path).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    for stream in 0..3 {
        // SAFETY: two numbers; nobody in this process uses its standard streams.
        assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), stream) }, stream);
    }
    ours.write_all(b"question").unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut child = start(|()| {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        print!("out ");
        std::io::stdout().flush().unwrap();
        eprint!("err");
        (std::env::current_dir().unwrap(), text)
    });
    let (directory, text) = child.join().unwrap();
    assert_eq!((directory, text.as_str()), (folder.path.canonicalize().unwrap(), "question"));
    let mut said = [0; 7];
    ours.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"out err");
    std::env::set_current_dir("/").unwrap();
}

fn a_large_environment_arrives(method: u32) {
    let (count, text) = (20, "x".repeat(32 << 10));
    let look = |count| (0..count).map(|n| std::env::var(format!("LARGE_{n}")).unwrap().len()).sum::<usize>();
    for _ in 0..2 {
        let mut builder = Process::builder().start_method(with(method));
        for n in 0..count {
            builder = builder.env(format!("LARGE_{n}"), &text);
        }
        assert_eq!(builder.spawn(look, count).unwrap().join().unwrap(), 20 * text.len());
        let mut small = Process::builder().start_method(with(method));
        small = small.env("LARGE_0", "y");
        assert_eq!(small.spawn(look, 1).unwrap().join().unwrap(), 1);
    }
}

fn a_name_with_a_nul_is_refused(method: u32) {
    let start = |name: &str| Process::builder().name(name).start_method(with(method)).spawn(|x: u32| x, 5);
    let error = start("a\0b").unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::Io(_)), "{error:?}");
    assert!(error.to_string().contains("NUL"), "{error}");
    assert_eq!(start("ab").unwrap().join().unwrap(), 5);
}

fn daemons_die_with_their_parent(method: u32) {
    fn middle((method, news): (u32, multiprocess::Sender)) {
        let ready = |news: multiprocess::Sender| {
            news.send(&std::process::id()).unwrap();
            sleep(());
        };
        let _daemon = Process::builder().daemon(true).start_method(with(method)).spawn(ready, news).unwrap();
        sleep(());
    }
    let (news, sender) = simplex().unwrap();
    let mut parent = Process::spawn(middle, (method, sender)).unwrap();
    let daemon = news.recv::<u32>().unwrap() as i32;
    parent.kill().unwrap();
    parent.join().unwrap_err();
    until(|| matches!(procfs::state(daemon), Some('Z') | None));
}

fn many_at_once_and_no_zombie(method: u32) {
    let start = || Process::builder().start_method(with(method)).spawn(sleep, ()).unwrap();
    let mut processes: Vec<_> = (0..50).map(|_| start()).collect();
    assert_eq!(active_children().len(), 50);
    processes.iter().for_each(|process| process.terminate().unwrap());
    processes.iter_mut().for_each(|process| drop(process.join().unwrap_err()));
    assert!(active_children().is_empty());
    let zombies = procfs::children(std::process::id() as i32);
    assert!(zombies.iter().all(|child| procfs::state(*child) != Some('Z')), "{zombies:?}");
}

fn the_default_is_set_once(method: u32) {
    assert_eq!(start_method(), StartMethod::Spawn);
    set_start_method(with(method)).unwrap();
    set_start_method(with(method)).unwrap_err();
    assert_eq!(start_method(), with(method));
    assert_eq!(Process::spawn(|x: u32| x, 5).unwrap().join().unwrap(), 5);
}

#[test]
fn fork_is_refused_while_other_threads_run() {
    let _test = support::test(60);
    let refused = Process::builder().start_method(with(2)).spawn(sleep, ()).unwrap_err();
    assert!(matches!(refused.reason(), SpawnFailure::Io(_)), "{refused:?}");
    assert!(refused.to_string().contains("other threads"), "{refused}");
}

/// Its children live on, and the next one gets another server.
#[test]
fn the_death_of_a_fork_server_harms_nobody() {
    let _test = support::test(60);
    let body = |()| {
        let start = || Process::builder().start_method(with(1)).spawn(sleep, ()).unwrap();
        for _ in 0..10 {
            let mut first = start();
            let own = std::process::id() as i32;
            let servers = procfs::children(own).into_iter().filter(|child| *child != first.pid() as i32);
            for server in servers {
                // SAFETY: two numbers; our child, which nobody has reaped.
                unsafe { libc::kill(server, libc::SIGKILL) };
            }
            let mut second = start();
            assert!(first.is_alive() && second.is_alive());
            for process in [&mut first, &mut second] {
                process.terminate().unwrap();
                process.join().unwrap_err();
                assert_eq!(process.exit_status().unwrap().exit_code(), Some(-libc::SIGTERM));
            }
        }
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

/// Each server dies, by a filter of its system calls, at the one instruction where it has made a copy and not said so.
#[test]
fn a_fork_server_killed_before_it_answers_leaves_no_unknown_copy() {
    fn prepare() {
        use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW};
        let step = |code, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        // An answer is the only thing that a server writes in four bytes; the length is the third argument.
        let mut steps = [
            step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
            step(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, libc::SYS_write as u32),
            step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 32),
            step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 4),
            step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            step(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
        // SAFETY: numbers, and a program that outlives the call.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
        }
    }
    let _test = support::test(60);
    let body = |()| {
        preload(prepare);
        for n in 0..100 {
            let mut child =
                Process::builder().start_method(StartMethod::ForkServer).spawn(|n: u64| n + 1, n).unwrap();
            assert_eq!(child.join().unwrap(), n + 1);
            let left = procfs::children(std::process::id() as i32);
            assert!(left.is_empty(), "{left:?}");
        }
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

/// It is stopped before it is asked. The caller gets a child of another one.
#[test]
fn a_stopped_fork_server_is_replaced() {
    fn body(file: PathBuf) {
        have_servers_announced(&file);
        let start =
            || Process::builder().start_method(StartMethod::ForkServer).spawn(|n: u64| n + 1, 1).unwrap();
        assert_eq!(start().join().unwrap(), 2);
        let server = server_in(&file).unwrap();
        // SAFETY: two numbers; a child of ours.
        unsafe { libc::kill(server, libc::SIGSTOP) };
        until(|| procfs::state(server) == Some('T'));
        assert_eq!(start().join().unwrap(), 2);
        assert_ne!(server_in(&file), Some(server));
        assert_eq!(procfs::state(server), None, "it is reaped");
    }
    let _test = support::test(60);
    let folder = Folder::new();
    Process::spawn(body, folder.path.join("server")).unwrap().join().unwrap();
}

/// Whenever it is killed, each child is known and none stays.
#[test]
fn random_deaths_of_fork_servers_leave_no_zombie() {
    fn body(file: PathBuf) {
        have_servers_announced(&file);
        let announced = file.clone();
        let killer = std::thread::spawn(move || kill_servers(&announced, 200));
        let (mut started, mut failed) = (0, 0);
        while !killer.is_finished() {
            // The second server of one start may be killed too.
            match Process::builder().start_method(StartMethod::ForkServer).spawn(|n: u64| n + 1, started) {
                Ok(mut child) => assert_eq!(child.join().unwrap(), started + 1),
                Err(_) => failed += 1,
            }
            started += 1;
        }
        killer.join().unwrap();
        assert!(started > 200 && failed < 100, "{failed} of {started} failed");
        // The last of the killed may die about now, and is reaped by whoever looks at the children. Another may have come.
        let is_server = |child: i32| server_in(&file) == Some(child);
        let own = std::process::id() as i32;
        until(|| active_children().is_empty() && procfs::children(own).into_iter().all(is_server));
    }
    let _test = support::test(60);
    let folder = Folder::new();
    Process::spawn(body, folder.path.join("server")).unwrap().join().unwrap();
}

/// Kills so many servers, one after the other, each some time after it has begun.
fn kill_servers(file: &Path, count: u32) {
    let (mut random, mut last) = (Rng::new(seed()), None);
    for _ in 0..count {
        until(|| server_in(file).is_some_and(|server| Some(server) != last));
        last = server_in(file);
        std::thread::sleep(Duration::from_micros(random.below(5000)));
        // SAFETY: two numbers; a child that nobody else kills.
        assert_eq!(unsafe { libc::kill(last.unwrap(), libc::SIGKILL) }, 0);
    }
}

/// Copies of a server look like it from outside, so each says itself, in this file, who it is. This process has one thread.
fn have_servers_announced(file: &Path) {
    fn announce() {
        std::fs::write(std::env::var_os("SERVER").unwrap(), std::process::id().to_ne_bytes()).unwrap();
    }
    // SAFETY: nobody else reads the environment.
    unsafe { std::env::set_var("SERVER", file) };
    preload(announce);
}

/// Who announced itself last.
fn server_in(file: &Path) -> Option<i32> {
    Some(i32::from_ne_bytes(std::fs::read(file).ok()?.try_into().ok()?))
}

/// What the server has prepared is there in each copy, and was made once.
#[test]
fn a_fork_server_prepares_its_copies() {
    static PREPARED: AtomicU32 = AtomicU32::new(0);
    fn prepare() {
        PREPARED.store(std::process::id(), SeqCst);
    }
    fn look(_: ()) -> u32 {
        PREPARED.load(SeqCst)
    }
    let _test = support::test(60);
    let body = |()| {
        preload(prepare);
        let mut copies = [(); 2]
            .map(|()| Process::builder().start_method(StartMethod::ForkServer).spawn(look, ()).unwrap());
        let [first, second] = [copies[0].join().unwrap(), copies[1].join().unwrap()];
        assert!(first == second && first != 0, "{first} {second}");
        assert_ne!(first, copies[0].pid());
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

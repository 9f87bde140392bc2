//! What a process is born with, and what it is not.
#![allow(unsafe_code)] // descriptors without CLOEXEC, signals, closed standard streams

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use multiprocess::{JoinError, Process, SpawnFailure, Stdio, current_process};

multiprocess::testing!();

/// What stands behind the descriptors of the calling process.
fn descriptors((): ()) -> BTreeMap<i32, String> {
    support::census()
}

/// The parts of a census that differ from run to run left out.
fn kinds(census: BTreeMap<i32, String>) -> Vec<(i32, String)> {
    let kind = |target: &str| target.split([':', '(']).next().unwrap_or("").trim().to_owned();
    census.iter().map(|(fd, target)| (*fd, kind(target))).collect()
}

/// Runs one test of this file in another process, which sees `role`.
fn rerun(program: &Path, test: &str, role: &str) {
    let output = Command::new(program)
        .args([test, "--exact", "--nocapture"])
        .env("PROCESS_SPAWN_ROLE", role)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{text}");
}

fn role() -> Option<PathBuf> {
    std::env::var_os("PROCESS_SPAWN_ROLE").map(PathBuf::from)
}

fn folder(stem: &str) -> PathBuf {
    let path = std::env::temp_dir().join(support::unique(stem));
    fs::create_dir(&path).unwrap();
    path
}

fn double(x: u32) -> u32 {
    x * 2
}

fn assert_spawns() {
    assert_eq!(Process::spawn(double, 21).unwrap().join().unwrap(), 42);
}

#[test]
fn nothing_but_what_was_sent_crosses() {
    let _test = support::test(60);
    let quiet = Process::spawn(descriptors, ()).unwrap().join().unwrap();
    let files: Vec<File> = (0..50).map(|_| File::open("/dev/zero").unwrap()).collect();
    for file in files.iter().take(20) {
        // SAFETY: fcntl with numbers; the file is open.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    }
    let busy = Process::spawn(descriptors, ()).unwrap().join().unwrap();
    assert_eq!(kinds(busy.clone()), kinds(quiet));
    assert_eq!(busy.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(busy[&0], "/dev/null");
    assert!(busy[&3].starts_with("socket:"), "{busy:?}");
    assert!(busy[&6].contains("pidfd"), "its parent: {busy:?}");
    assert!(!busy.values().any(|target| target == "/dev/zero"), "{busy:?}");
}

#[test]
fn programs_that_a_child_runs_get_none_of_its_own() {
    let _test = support::test(60);
    let listing = |()| {
        let output = Command::new("/bin/sh").args(["-c", "ls /proc/$$/fd; env"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = Process::spawn(listing, ()).unwrap().join().unwrap();
    assert!(text.lines().all(|line| !matches!(line, "3" | "4" | "5")), "{text}");
    assert!(!text.contains("MULTIPROCESS_CHILD"), "{text}");
}

#[test]
fn names_count_along_the_family() {
    let _test = support::test(60);
    fn name(_: ()) -> String {
        current_process().name().to_owned()
    }
    fn family(_: ()) -> (String, String, String) {
        let join = |mut process: Process<String>| process.join().unwrap();
        let children = [(); 2].map(|()| join(Process::spawn(name, ()).unwrap()));
        let [first, second] = children;
        (name(()), first, second)
    }
    let mut process = Process::spawn(family, ()).unwrap();
    let own = process.name().to_owned();
    assert!(own.starts_with("Process-"), "{own}");
    assert_eq!(process.join().unwrap(), (own.clone(), format!("{own}:1"), format!("{own}:2")));
}

#[test]
fn child_knows_its_name_its_number_and_its_parent() {
    let _test = support::test(60);
    let who = |()| {
        let this = current_process();
        let line = fs::read("/proc/self/cmdline").unwrap();
        (this.name().to_owned(), this.pid(), this.parent_pid(), line)
    };
    let mut process = Process::builder().name("reader 7").spawn(who, ()).unwrap();
    let pid = process.pid();
    let (name, own, parent, line) = process.join().unwrap();
    assert_eq!((name.as_str(), own, parent), ("reader 7", pid, Some(std::process::id())));
    assert!(line.ends_with(b"\0reader 7\0"), "ps shows the name");
}

#[test]
fn name_with_a_nul_is_an_error() {
    let _test = support::test(60);
    let error = Process::builder().name("a\0b").spawn(double, 1).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::Io(_)), "{error}");
    let error = Process::builder().env("a=b", "c").spawn(double, 1).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::Io(_)), "{error}");
}

#[test]
fn environment_is_inherited_changed_and_cleared() {
    let _test = support::test(60);
    fn variables(_: ()) -> BTreeMap<String, String> {
        std::env::vars().collect()
    }
    let inherited = Process::spawn(variables, ()).unwrap().join().unwrap();
    assert_eq!(inherited, variables(()));
    let mut changed = Process::builder().env("NEW", "1").env_remove("PATH").spawn(variables, ()).unwrap();
    let changed = changed.join().unwrap();
    assert_eq!(changed["NEW"], "1");
    assert!(!changed.contains_key("PATH") && changed.len() == inherited.len());
    let mut bare =
        Process::builder().env("OLD", "1").env_clear().env("NEW", "2").spawn(variables, ()).unwrap();
    assert_eq!(bare.join().unwrap(), BTreeMap::from([("NEW".to_owned(), "2".to_owned())]));
}

#[test]
fn standard_streams_go_where_they_are_told() {
    let _test = support::test(60);
    let folder = folder("streams");
    let open = |name: &str| {
        let path = folder.join(name);
        File::options().read(true).write(true).create_new(true).open(path).unwrap()
    };
    let [mut input, mut output, mut error] = ["in", "out", "err"].map(open);
    std::io::Write::write_all(&mut input, b"from the file").unwrap();
    input.rewind().unwrap();
    let function = |()| {
        let text = std::io::read_to_string(std::io::stdin()).unwrap();
        println!("read {text}");
        eprintln!("done");
    };
    let builder = Process::builder().stdin(input).stdout(output.try_clone().unwrap());
    builder.stderr(error.try_clone().unwrap()).spawn(function, ()).unwrap().join().unwrap();
    fs::remove_dir_all(folder).unwrap();
    let read = |file: &mut File| {
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!((read(&mut output).as_str(), read(&mut error).as_str()), ("read from the file\n", "done\n"));
}

#[test]
fn standard_input_is_empty_unless_asked() {
    let _test = support::test(60);
    let target = |()| fs::read_link("/proc/self/fd/0").unwrap();
    assert_eq!(Process::spawn(target, ()).unwrap().join().unwrap(), Path::new("/dev/null"));
    let mut process =
        Process::builder().stdin(Stdio::inherit()).stdout(Stdio::null()).spawn(target, ()).unwrap();
    assert_eq!(process.join().unwrap(), fs::read_link("/proc/self/fd/0").unwrap());
}

/// Signals that are blocked or ignored in the calling process.
fn signals((): ()) -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line[name.len()..].trim(), 16).unwrap()
    };
    (field("SigBlk:"), field("SigIgn:"))
}

#[test]
fn child_starts_with_no_signal_blocked_and_only_sigpipe_ignored() {
    let _test = support::test(60);
    // SAFETY: a set of signals of ours; SIG_IGN is no handler.
    let set = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        set
    };
    let child = Process::spawn(signals, ()).unwrap().join().unwrap();
    // SAFETY: as above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGUSR1, libc::SIG_DFL);
    }
    // glibc's posix_spawn ignores its own 32 and 33.
    let (blocked, ignored) = (child.0, child.1 & !(3 << 31));
    assert_eq!((blocked, ignored), (0, 1 << (libc::SIGPIPE - 1)));
}

#[test]
fn child_starts_when_the_parent_changed_its_directory() {
    const SELF: &str = "child_starts_when_the_parent_changed_its_directory";
    let _test = support::test(60);
    if role().is_none() {
        return rerun(&std::env::current_exe().unwrap(), SELF, "changed");
    }
    std::env::set_current_dir("/").unwrap();
    let mut process = Process::spawn(|()| std::env::current_dir().unwrap(), ()).unwrap();
    assert_eq!(process.join().unwrap(), Path::new("/"));
}

#[test]
fn child_starts_when_the_executable_was_deleted_or_replaced() {
    const SELF: &str = "child_starts_when_the_executable_was_deleted_or_replaced";
    let _test = support::test(60);
    let own = std::env::current_exe().unwrap();
    let Some(role) = role() else {
        let folder = folder("executable");
        for role in ["deleted", "replaced"] {
            let copy = folder.join(role);
            fs::copy(&own, &copy).unwrap();
            rerun(&copy, SELF, role);
        }
        return fs::remove_dir_all(folder).unwrap();
    };
    fs::remove_file(&own).unwrap();
    if role == Path::new("replaced") {
        fs::copy("/bin/true", &own).unwrap();
    }
    assert_spawns();
}

#[test]
fn child_starts_when_descriptors_0_to_5_are_closed() {
    const SELF: &str = "child_starts_when_descriptors_0_to_5_are_closed";
    let test = support::test(60);
    if role().is_none() {
        return rerun(&std::env::current_exe().unwrap(), SELF, "closed");
    }
    // The results of libtest must come out later; and what the leak oracle sees here is no leak.
    drop(test);
    // SAFETY: numbers. Nothing in this process uses 3 to 5 by now, and 0 to 2 come back below.
    let saved = unsafe {
        let saved = [0, 1, 2].map(|stream| libc::fcntl(stream, libc::F_DUPFD_CLOEXEC, 20));
        libc::close_range(0, 5, 0);
        saved
    };
    let census = Process::spawn(descriptors, ()).map(|mut process| process.join());
    let holes = descriptors(()).into_keys().take_while(|number| *number < 3).count();
    // SAFETY: as above.
    let restored = (0..).zip(saved).all(|(stream, copy)| unsafe { libc::dup2(copy, stream) } == stream);
    assert!(restored);
    let census = census.unwrap().unwrap();
    assert_eq!(census.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6], "{census:?}");
    assert!((0..3).all(|stream| census[&stream] == "/dev/null"), "{census:?}");
    assert!(holes <= 3, "standard streams were closed");
}

#[test]
fn stale_variable_does_not_make_a_child() {
    let _test = support::test(60);
    for value in ["", "1", "1:3,4,5:", "2:3,4,5:1", "1:3,4,5:x"] {
        let output =
            Command::new(std::env::current_exe().unwrap()).env("MULTIPROCESS_CHILD", value).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("cannot be one"), "{text}");
    }
    // The form is right, but nobody passed descriptors.
    let output =
        Command::new(std::env::current_exe().unwrap()).env("MULTIPROCESS_CHILD", "1:3,4,5:1").output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

#[test]
fn program_with_more_rights_than_its_caller_is_no_child() {
    let _test = support::test(60);
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = folder("setuid");
    let copy = folder.join("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut command = Command::new(&copy);
    let output = command.arg("--list").env("MULTIPROCESS_CHILD", "1:3,4,5:1").uid(65534).output();
    fs::remove_dir_all(folder).unwrap();
    match output {
        Ok(output) => {
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{text}");
            // Where the file system ignores setuid bits it is a child without descriptors.
            assert!(text.contains("more rights") || text.contains("Bad file"), "{text}");
        }
        Err(error) => support::say(&format!("skipped: needs root ({error})")),
    }
}

#[test]
fn death_before_the_arguments_were_read_is_an_error_with_them() {
    let _test = support::test(60);
    // The loader prints its help and exits, before any code of ours.
    let builder = || Process::builder().env("LD_DEBUG", "help").stdout(Stdio::null());
    let error = builder().spawn(|bytes: Vec<u8>| bytes.len(), vec![7; 8 << 20]).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::Died { status } if status.success()), "{error}");
    assert_eq!(error.into_args().len(), 8 << 20);
    // What fits the pipe is sent all the same, unless the death was faster.
    match builder().spawn(double, 21) {
        Ok(mut process) => assert!(matches!(process.join(), Err(JoinError::Died { .. }))),
        Err(error) => assert!(matches!(error.reason(), SpawnFailure::Died { .. }), "{error}"),
    }
}

#[test]
fn function_of_a_shared_library_is_refused() {
    let _test = support::test(60);
    // SAFETY: it is not called, neither here nor elsewhere.
    let foreign = unsafe { std::mem::transmute::<usize, fn(u32) -> u32>(libc::getpid as *const () as usize) };
    // The address that this binary knows may be a stub of its own: only libc's is foreign.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let own = std::env::current_exe().unwrap();
    let address = foreign as usize;
    let inside = maps.lines().filter(|line| line.ends_with(own.to_str().unwrap())).any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let parse = |text| usize::from_str_radix(text, 16).unwrap();
        (parse(start)..parse(end)).contains(&address)
    });
    assert!(!inside, "getpid lies in libc");
    let error = Process::spawn(foreign, 1).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::NotInExecutable), "{error}");
}

#[test]
fn descriptors_run_out_as_an_error() {
    let _test = support::test(60);
    assert_spawns();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a rlimit of ours.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    let highest = *support::census().last_key_value().unwrap().0 as u64;
    // From "not one more" to "all but the last": each step of the way fails once.
    for more in 0..12 {
        let tight = libc::rlimit { rlim_cur: (highest + 1 + more).max(11), ..limit };
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &tight) };
        let spawned = Process::spawn(double, 21);
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        match spawned {
            Ok(mut process) => assert_eq!(process.join().unwrap(), 42),
            Err(error) => assert!(error.to_string().contains("files"), "{error}"),
        }
    }
    assert_spawns();
}

#[test]
fn child_of_a_child_is_a_process_too() {
    let _test = support::test(60);
    fn generations(left: u32) -> u32 {
        match left {
            0 => 1,
            _ => 1 + Process::spawn(generations, left - 1).unwrap().join().unwrap(),
        }
    }
    assert_eq!(Process::spawn(generations, 3).unwrap().join().unwrap(), 4);
}

#[test]
fn dead_child_is_died_though_its_forked_copy_lives() {
    let _test = support::test(60);
    let (mut file, path) = {
        let path = std::env::temp_dir().join(support::unique("copy"));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        (file, path)
    };
    fn forks_and_dies(_: ()) {
        // SAFETY: the copy only sleeps.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
        print!("{copy}");
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        // SAFETY: a number.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    let mut process = Process::builder().stdout(file.try_clone().unwrap()).spawn(forks_and_dies, ()).unwrap();
    let joined = process.join();
    file.rewind().unwrap();
    let copy: i32 = std::io::read_to_string(&file).unwrap().parse().unwrap();
    // SAFETY: a number; the copy is nobody's child but init's, and lives.
    unsafe { libc::kill(copy, libc::SIGKILL) };
    fs::remove_file(path).unwrap();
    assert!(matches!(joined, Err(JoinError::Died { status }) if status.signal() == Some(9)), "{joined:?}");
}

//! The main seed counts what `wc` counts, and goes on where something is missing.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::{Folder, example, procfs};

fn run<P: AsRef<OsStr>>(paths: impl IntoIterator<Item = P>) -> Output {
    example("producer_consumer").args(paths).output().unwrap()
}

/// Files, lines, words and bytes of a line such as "total: 2 files, 3 lines, 4 words, 5 bytes".
fn numbers(line: &str) -> [u64; 4] {
    let (_, counts) = line.split_once([':', ')']).unwrap();
    let mut numbers = counts.split_whitespace().filter_map(|word| word.parse().ok());
    [(); 4].map(|()| numbers.next().unwrap())
}

fn total(output: &Output) -> [u64; 4] {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("total: "));
    numbers(line.unwrap_or_else(|| panic!("no total: {output:?}")))
}

/// What `wc` says of a few files together.
fn wc(flags: &str, paths: &[PathBuf]) -> Vec<u64> {
    let mut sum = vec![0; flags.len() - 1];
    for path in paths {
        let output = Command::new("wc").env("LC_ALL", "C.UTF-8").arg(flags).arg(path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers = text.split_whitespace().take(sum.len()).map(|number| number.parse::<u64>().unwrap());
        sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
    }
    sum
}

#[track_caller]
fn assert_counts_as_wc(output: &Output, paths: &[PathBuf]) {
    let is_text = |path: &&PathBuf| std::str::from_utf8(&fs::read(path).unwrap()).is_ok();
    let texts: Vec<_> = paths.iter().filter(is_text).cloned().collect();
    let [lines, bytes] = wc("-lc", paths)[..] else { unreachable!() };
    let words = wc("-w", &texts)[0];
    assert_eq!(total(output), [paths.len() as u64, lines, words, bytes], "{output:?}");
}

/// The sources in a folder of the project, by the shell's own walk.
fn sources(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let output = Command::new("find").arg(folder).args(["-type", "f", "-print0"]).output().unwrap();
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
}

#[test]
fn folder_counts_as_in_wc() {
    let _test = support::test(120);
    let paths = sources("ipc-shm");
    let output = run([Path::new(env!("CARGO_MANIFEST_DIR")).join("ipc-shm")]);
    assert!(paths.len() > 10 && output.status.success(), "{output:?}");
    assert_counts_as_wc(&output, &paths);
}

#[test]
fn project_is_counted_when_no_path_is_given() {
    let _test = support::test(120);
    let output = run([""; 0]);
    let [files, lines, words, bytes] = total(&output);
    let least = sources("src").len() + sources("seeds").len();
    assert!(output.status.success() && files > least as u64 && lines < words && words < bytes, "{output:?}");
}

#[test]
fn totals_of_the_processes_make_the_grand_total() {
    let _test = support::test(120);
    let folder = Folder::new();
    let paths: Vec<_> =
        (0..500).map(|i| folder.file(format!("{}/{i}", i % 7), format!("word {i}\n"))).collect();
    let output = run([&folder.path]);
    let text = String::from_utf8_lossy(&output.stdout);
    let mut sum = [0; 4];
    for line in text.lines().filter(|line| line.starts_with("consumer-")) {
        sum.iter_mut().zip(numbers(line)).for_each(|(sum, number)| *sum += number);
    }
    assert_eq!(sum, total(&output));
    assert_counts_as_wc(&output, &paths);

    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let found = |line: &str| words(line)[4].parse::<u64>().unwrap();
    let producers = text.lines().filter(|line| line.starts_with("producer-"));
    assert_eq!(producers.clone().map(found).collect::<Vec<_>>().iter().sum::<u64>(), 500);
    let pids: BTreeSet<_> =
        text.lines().filter(|line| line.contains("(pid ")).map(|line| words(line)[2].clone()).collect();
    assert!(pids.len() >= 4 && producers.count() == 2, "{text}");
}

#[test]
fn file_that_is_no_text_is_named_and_has_no_words() {
    let _test = support::test(60);
    let folder = Folder::new();
    let paths = [folder.file("text", "two words\n"), folder.file("bytes", b"no text: \xff\n\n")];
    let output = run(&paths);
    assert_counts_as_wc(&output, &paths);
    assert!(String::from_utf8_lossy(&output.stdout).contains("bytes: not UTF-8"), "{output:?}");
    assert_eq!(total(&output), [2, 3, 2, 22]);
}

#[test]
fn missing_and_unreadable_are_named_and_the_rest_goes_on() {
    let _test = support::test(60);
    let folder = Folder::new();
    let good = folder.file("good", "one\n");
    let pipe = folder.path.join("pipe");
    make_fifo(&pipe);
    symlink("nowhere", folder.path.join("dangling")).unwrap();
    // Its metadata says that it is a file, and a read from its start is an error.
    let bad = PathBuf::from("/proc/self/mem");
    let output = run([&folder.path, &folder.path.join("missing"), &bad]);
    assert_counts_as_wc(&output, &[good]);
    let errors = String::from_utf8_lossy(&output.stderr);
    for name in ["missing", "dangling", "pipe", "/proc/self/mem"] {
        assert_eq!(errors.lines().filter(|line| line.contains(&format!("{name}: "))).count(), 1, "{errors}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[allow(unsafe_code)]
fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path ends with a NUL and lives during the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn links_are_not_followed_twice() {
    let _test = support::test(60);
    let folder = Folder::new();
    let elsewhere = Folder::new();
    let paths =
        [folder.file("a/one", "1\n"), folder.file("b/two", "2 2\n"), elsewhere.file("three", "3 3 3\n")];
    symlink("..", folder.path.join("a/up")).unwrap();
    symlink("../b", folder.path.join("a/over")).unwrap();
    symlink("one", folder.path.join("a/again")).unwrap();
    symlink("loop", folder.path.join("b/loop")).unwrap();
    symlink(&elsewhere.path, folder.path.join("out")).unwrap();
    fs::hard_link(&paths[1], folder.path.join("hard")).unwrap();
    let output = run([&folder.path, &folder.path.join("a"), &paths[0]]);
    assert_counts_as_wc(&output, &paths);
    // A link to itself leads nowhere, and is named.
    assert!(String::from_utf8_lossy(&output.stderr).contains("/loop: "), "{output:?}");
}

#[test]
fn any_name_and_any_length_is_taken() {
    let _test = support::test(60);
    let folder = Folder::new();
    let names: [&[u8]; 4] = [b"with space", b"new\nline", b"not \xff text", &[b'n'; 255]];
    let mut paths: Vec<_> = names.map(|name| folder.file(OsStr::from_bytes(name), "name\n")).into();
    paths.push(folder.file("empty", ""));
    paths.push(folder.file("long", "long line ".repeat(1 << 20)));
    let output = run([&folder.path]);
    assert!(output.status.success(), "{output:?}");
    assert_counts_as_wc(&output, &paths);
}

/// The process that has `path` open, among the children of `parent`.
fn reader_of(path: &Path, parent: u32) -> Option<i32> {
    let reads = |pid: &i32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok().into_iter().flatten().flatten();
        descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == path)
    };
    procfs::children(parent as i32).into_iter().find(reads)
}

#[test]
fn killed_consumer_is_named_and_the_rest_goes_on() {
    let _test = support::test(120);
    let folder = Folder::new();
    let others: Vec<_> = (0..300).map(|i| folder.file(format!("{i}"), "one word\n")).collect();
    let endless = folder.file("endless", "");
    fs::File::options().write(true).open(&endless).unwrap().set_len(1 << 40).unwrap();
    let mut command = example("producer_consumer");
    let seed = command.arg(&folder.path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = None;
    support::until(|| {
        reader = reader_of(&endless, seed.id());
        reader.is_some()
    });
    let kill = Command::new("kill").args(["-9", &reader.unwrap().to_string()]).status().unwrap();
    let output = seed.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(kill.success() && errors.contains("consumer-") && errors.contains("SIGKILL"), "{output:?}");
    assert_eq!(output.status.code(), Some(1));
    // What the dead one had counted before is lost with it.
    assert!(total(&output)[0] <= others.len() as u64, "{output:?}");
}

#[test]
fn empty_folder_makes_an_end_too() {
    let _test = support::test(60);
    let folder = Folder::new();
    assert_eq!(total(&run([&folder.path])), [0, 0, 0, 0]);
}

//! The small demos do what they say they do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use support::{Folder, example, until};

fn lines_of(name: &str, arguments: &[&str]) -> Vec<String> {
    let output = example(name).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name}: {} {errors}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn pipe_worker_sends_its_sum_and_closes() {
    let _test = support::test(60);
    let lines = lines_of("pipe_worker", &["1", "-3", "44"]);
    assert!(lines[0].starts_with("worker (pid ") && lines[0].ends_with(" adds 3 numbers"), "{lines:?}");
    assert_eq!(lines[1..], ["sum 42", "then: the other end of the pipe is closed"]);
    assert_eq!(lines_of("pipe_worker", &[])[1], "sum 500500");
}

#[test]
fn ten_processes_print_unmixed_under_one_lock() {
    let _test = support::test(60);
    let lines = lines_of("lock", &[]);
    let mut speakers: Vec<&str> = Vec::new();
    for block in lines.chunks(3) {
        let speaker = block[0].split_once(" says ").unwrap().0;
        let expected = [1, 2, 3].map(|line| format!("{speaker} says line {line}"));
        assert_eq!(block, expected);
        speakers.push(speaker);
    }
    speakers.sort();
    speakers.dedup();
    assert_eq!((lines.len(), speakers.len()), (30, 10));
}

#[test]
fn shared_counter_loses_no_throw() {
    let _test = support::test(60);
    let lines = lines_of("shared_counter", &[]);
    assert_eq!(lines.len(), 8);
    let counts =
        lines[..6].iter().map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
    assert_eq!((counts.sum::<u64>(), &*lines[6]), (1_000_000, "1000000 throws, none lost"));
    assert!(lines[7].ends_with(" sixes in a row"), "{lines:?}");
}

#[test]
fn owner_dies_and_the_survivor_mends() {
    let _test = support::test(60);
    let lines = lines_of("owner_dies", &[]);
    assert_eq!(lines.len(), 10);
    for round in lines.chunks(2) {
        assert!(round[0].contains("[900, 1000] and the lock in the hands of pid"), "{round:?}");
        assert!(round[1].contains("[1000, 1000] again") && round[1].ends_with("(SIGKILL)"), "{round:?}");
    }
}

#[test]
fn event_starts_all_runners_and_stops_them() {
    let _test = support::test(60);
    let lines = lines_of("event", &[]);
    let (mut ready, ran) = (lines[..4].to_vec(), &lines[4..8]);
    ready.sort();
    assert_eq!(ready, [1, 2, 3, 4].map(|i| format!("runner-{i} is ready")));
    let laps = |line: &String| line.split(' ').nth(2).and_then(|laps| laps.parse::<u32>().ok());
    assert!(ran.iter().all(|line| laps(line).is_some_and(|laps| laps > 0)), "{ran:?}");
    assert!(lines[8].starts_with("the race took ") && lines.len() == 9, "{lines:?}");
}

/// Each step of the rod depends on the one before, so a party ahead of the others would warm it otherwise.
#[test]
fn barrier_keeps_the_phases_of_a_simulation_apart() {
    let _test = support::test(60);
    let lines = lines_of("barrier", &[]);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[5], "step 3000  #####***********++++++++++++------------------::::::::::::::");
    assert_eq!(lines_of("barrier", &[]), lines);
}

#[test]
fn executor_tells_each_page_and_each_error() {
    let _test = support::test(60);
    let output = example("executor").output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let has = |end: &str| assert!(lines.lines().any(|line| line.ends_with(end)), "{end}: {lines}");
    ["/1 has 1000 bytes", "/20 has 20000 bytes", "/300 has 300000 bytes"].into_iter().for_each(has);
    ["/404 was not loaded: status 404", "1:1/ was not loaded: connection refused", "http is all I know"]
        .into_iter()
        .for_each(has);
    assert_eq!(lines.lines().count(), 6);
    assert!(String::from_utf8_lossy(&output.stderr).contains("http is all I know")); // the panic, as any
}

#[test]
fn threads_and_processes_find_the_same_primes() {
    let _test = support::test(60);
    let lines = lines_of("threads_or_processes", &["100000"]);
    let (threads, processes) = (&lines[0], &lines[1]);
    assert!(threads.contains(" threads: 9592 primes below 100000 in "), "{lines:?}");
    assert!(processes.contains(" processes: 9592 primes below 100000 in ") && lines.len() == 2, "{lines:?}");
}

#[test]
fn pool_counts_primes_and_outlives_a_worker() {
    let _test = support::test(60);
    let mut lines = lines_of("pool_map", &["10000"]);
    let callback = lines.iter().position(|line| line.starts_with("callback")).unwrap();
    assert_eq!(lines.remove(callback), "callback: 1000003 is prime: true");
    assert!(lines[0].starts_with("map: 1229 primes below 10000, [95, 73, 71,"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "apply_async: the largest is Some(9973)",
            "imap_unordered: 3 parts, as soon as they were done",
            "a worker died of its task, with signal 6 (SIGABRT)",
            "the next one does the next task: 25"
        ]
    );
}

/// The pages of `seeds/pages`, and three that cannot be had.
#[track_caller]
fn assert_pages(lines: &[String]) {
    assert_eq!(lines.len(), 15, "{lines:?}");
    let has =
        |page, cell| assert!(lines.iter().any(|line| is(line, page) && line.contains(cell)), "{lines:?}");
    has("/index.html", " 4: menu search subscribe ");
    has("/blog/archive.html", "5: /blog/frost.html /blog/mulch.html /shop.html ");
    has("/impressum.html", " 2: schließen cookies-verwalten ");
    has("/impressum.html", " 2: /datenschutz.html /über-uns.html (Latin-1)");
    has("/slow.html", " 3: export-csv export-pdf again ");
    has("/huge.html", " larger than 1048576 bytes");
    has("/missing.html", " 404 Not Found");
    has("1:1/refused.html", " connection refused");
}

/// Whether this is the line of a page.
fn is(line: &str, page: &str) -> bool {
    line.split(' ').next().is_some_and(|url| url.ends_with(page))
}

#[test]
fn crawl_tells_what_is_in_each_page() {
    let _test = support::test(60);
    let lines = lines_of("crawl", &[]);
    assert_pages(&lines[1..16]);
    assert!(is(&lines[1], "/slow.html"), "{lines:?}");
    assert!(
        lines[16].contains("consumer-") && lines[16].contains(", 15 pages in ") && lines.len() == 17,
        "{lines:?}"
    );
}

/// The slow page is the first that is asked for.
#[test]
fn crawl_executor_tells_each_page_as_it_comes() {
    let _test = support::test(60);
    let lines = lines_of("crawl_executor", &[]);
    assert_pages(&lines[1..]);
    assert!(is(&lines[15], "/slow.html"), "{lines:?}");
}

/// What the `manager` seed prints, and what it complains of; its key lies in `folder`.
fn manager(folder: &Folder, words: &[&str]) -> (String, String) {
    let output = example("manager").args(words).env("XDG_RUNTIME_DIR", &folder.path).output().unwrap();
    let [printed, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.success(), errors.is_empty(), "{printed} {errors}");
    (printed, errors)
}

#[test]
fn manager_shows_a_dict_to_processes_that_share_nothing() {
    let _test = support::test(60);
    let (printed, errors) = manager(&Folder::new(), &[]);
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with("$ manager ")).collect();
    assert_eq!(lines, ["apples: 3", "apples: 5, no longer 3", "  apples = 5", "1 on the shelf"], "{errors}");
    assert_eq!(printed.lines().count(), 7);
}

/// It serves until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it serves for ever");
    }
}

#[test]
fn terminals_share_a_dict_by_its_address() {
    let _test = support::test(60);
    let folder = Folder::new();
    let address = folder.path.join("shelf").to_str().unwrap().to_owned();
    let mut server = example("manager");
    server.args(["serve", &address]).env("XDG_RUNTIME_DIR", &folder.path).stdout(Stdio::null());
    let server = Server(server.spawn().unwrap());
    until(|| Path::new(&address).exists());

    assert_eq!(manager(&folder, &["put", &address, "pears", "2"]).0, "pears: 2\n");
    assert_eq!(manager(&folder, &["put", &address, "plums", "a few"]).0, "plums: a few\n");
    assert_eq!(manager(&folder, &["show", &address]).0, "  pears = 2\n  plums = a few\n2 on the shelf\n");
    assert!(manager(&folder, &["eat", &address]).1.contains("put ADDRESS KEY VALUE"));

    let key = folder.path.join("multiprocess-seed.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(manager(&folder, &["show", &address]).1.contains("0644"));
    fs::remove_file(&key).unwrap();
    assert!(manager(&folder, &["show", &address]).1.contains("No such file"));
    drop(server);
    assert!(!manager(&folder, &["show", &address]).1.is_empty());
}

//! What children say reaches their parent, whatever becomes of them.
#![allow(unsafe_code)] // the entry of `testing!`

use std::sync::{Arc, Mutex, Once};

use log::{Level, LevelFilter};
use multiprocess::{Builder, LogRecord, Process, StartMethod, collect_logs, collect_logs_with};
use support::until;

multiprocess::testing!();

type Heard = Arc<Mutex<Vec<LogRecord>>>;

/// A collector, and where what it hears is kept.
fn listen(most: LevelFilter) -> (multiprocess::LogCollector, Heard) {
    log::set_max_level(most);
    let heard = Heard::default();
    let keep = heard.clone();
    (collect_logs_with(move |record| keep.lock().unwrap().push(record)).unwrap(), heard)
}

fn texts(heard: &Heard) -> Vec<String> {
    heard.lock().unwrap().iter().map(|record| format!("{} {}", record.process, record.message)).collect()
}

/// The fork server stays.
fn test(seconds: u64) -> support::Test {
    static SERVER: Once = Once::new();
    SERVER.call_once(|| forked().spawn(|()| (), ()).unwrap().join().unwrap());
    support::test(seconds)
}

fn forked() -> Builder {
    Process::builder().start_method(StartMethod::ForkServer).name("copy")
}

#[test]
fn records_arrive_with_process_level_target_and_place() {
    let _test = test(30);
    let (logs, heard) = listen(LevelFilter::Info);
    let talk = |()| {
        log::warn!(target: "oven", "{} degrees", 300);
        log::debug!("nobody wants to know");
        std::process::id()
    };
    let pid = Process::builder().name("baker").spawn(talk, ()).unwrap().join().unwrap();
    drop(logs);
    let heard = heard.lock().unwrap();
    let [record] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((&*record.process, record.pid, record.level()), ("baker", pid, Level::Warn));
    assert_eq!((&*record.target, &*record.message), ("oven", "300 degrees"));
    assert!(record.place.as_ref().is_some_and(|(file, line)| file.ends_with("process_logs.rs") && *line > 1));
}

#[test]
fn panics_of_any_thread_and_words_of_grandchildren_arrive() {
    let _test = test(30);
    let (logs, heard) = listen(LevelFilter::Info);
    let middle = |()| -> () {
        let speak = |()| log::info!("hello");
        Process::builder().name("grandchild").spawn(speak, ()).unwrap().join().unwrap();
        let thread = std::thread::Builder::new().name("helper".into()).spawn(|| panic!("of a thread"));
        thread.unwrap().join().unwrap_err();
        panic!("of the function");
    };
    Process::builder().name("child").spawn(middle, ()).unwrap().join().unwrap_err();
    drop(logs);
    let texts = texts(&heard);
    assert_eq!(texts[0], "grandchild hello");
    assert_eq!(texts[1], "child thread helper panicked: of a thread");
    assert!(texts[2].ends_with("panicked: of the function"), "{texts:?}");
}

#[test]
fn a_killed_child_loses_its_last_word_at_most() {
    let _test = test(60);
    let (logs, heard) = listen(LevelFilter::Info);
    for round in 0..20 {
        let talk = |()| -> () {
            (0..u64::MAX).for_each(|i| log::info!("{i}"));
        };
        let mut child = Process::builder().name(format!("child {round}")).spawn(talk, ()).unwrap();
        let so_far =
            |heard: &Heard| heard.lock().unwrap().iter().filter(|r| r.process == child.name()).count();
        until(|| so_far(&heard) > 100);
        child.kill().unwrap();
        child.join().unwrap_err();
    }
    drop(logs);
    for round in 0..20 {
        let heard = heard.lock().unwrap();
        let of_this = heard.iter().filter(|record| record.process == format!("child {round}"));
        let numbers: Vec<u64> = of_this.map(|record| record.message.parse().unwrap()).collect();
        assert!(numbers.len() > 100 && numbers.iter().copied().eq(0..numbers.len() as u64));
    }
}

#[test]
fn children_of_a_fork_server_are_heard_and_two_collectors_are_not_had() {
    let _test = test(30);
    let (logs, heard) = listen(LevelFilter::Info);
    collect_logs().unwrap_err();
    let talk = |()| log::info!("copied");
    forked().spawn(talk, ()).unwrap().join().unwrap();
    drop(logs);
    forked().spawn(talk, ()).unwrap().join().unwrap(); // nobody listens
    assert_eq!(texts(&heard), ["copy copied"]);
    let (_logs, heard) = listen(LevelFilter::Info);
    forked().spawn(talk, ()).unwrap().join().unwrap();
    until(|| texts(&heard) == ["copy copied"]);
}

/// What a logger of the main process was given.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push(format!("{} {} {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn the_logger_of_the_parent_has_it_with_the_name_of_the_process() {
    let _test = test(30);
    log::set_logger(&Keep).unwrap();
    log::set_max_level(LevelFilter::Info);
    let logs = collect_logs().unwrap();
    let talk = |()| log::error!(target: "shop", "closed");
    Process::builder().name("clerk").spawn(talk, ()).unwrap().join().unwrap();
    drop(logs);
    assert_eq!(*LOGGED.lock().unwrap(), ["ERROR shop clerk: closed"]);
}

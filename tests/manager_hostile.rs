//! A server among strangers, liars and the greedy: nobody else notices.
#![allow(unsafe_code)] // other users and limits

use std::fs;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::connection::{ConnectError, Link, connect};
use multiprocess::manager::{CallError, Dict, ManagerError};
use multiprocess::{Address, Descriptor, Key, Lock, Manager};
use support::{Child, Rng, Status, fork, hold, say, seed, until};

multiprocess::testing!();

/// A user that is nobody of ours.
const STRANGER: u32 = 65534;

/// The arena of the first lock stays for the process, so it is there before the leak oracle looks.
fn test(seconds: u64) -> support::Test {
    static ARENA: OnceLock<Lock> = OnceLock::new();
    ARENA.get_or_init(|| Lock::new().unwrap());
    support::test(seconds)
}

/// A server that others find, by a name of no file.
fn manager() -> Manager {
    let address = Address::Abstract(support::unique("manager").into_bytes());
    Manager::builder().address(address).start().unwrap()
}

fn link(manager: &Manager) -> Link {
    connect(manager.address(), manager.key()).unwrap()
}

/// A socket that nobody has said anything over yet.
fn knock(address: &Address) -> Option<UnixStream> {
    let Address::Abstract(name) = address else { panic!("{address} is a file") };
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).ok()
}

fn descriptors_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn limit_descriptors(pid: u32, count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: 4096.max(count) };
    // SAFETY: the limit lives during the call, and no old one is asked for.
    assert_eq!(unsafe { libc::prlimit(pid as i32, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) }, 0);
}

/// How long a new link takes to be served, from nothing to an answer: what it says is no request, and it is closed.
fn visit(manager: &Manager) -> Duration {
    let start = Instant::now();
    let visitor = link(manager);
    visitor.send_bytes(b"no request").unwrap();
    assert!(visitor.recv_bytes().is_err());
    start.elapsed()
}

#[test]
fn wrong_key_is_refused() {
    let _test = test(20);
    let manager = manager();
    let refused = Manager::connect(manager.address(), &Key::random().unwrap());
    let wrong = |error: &CallError| matches!(error, CallError::Unreachable(ConnectError::WrongKey));
    assert!(matches!(refused, Err(ManagerError::Connect(error)) if wrong(&error)));
    visit(&manager);
}

#[test]
fn another_user_is_turned_away_though_he_has_the_key() {
    let _test = test(20);
    let manager = manager();
    let (address, key) = (manager.address().clone(), manager.key().clone());
    let mut child = fork(|| {
        // SAFETY: a number. All threads of the process change, and a test child has one.
        if unsafe { libc::setresuid(STRANGER, STRANGER, STRANGER) } != 0 {
            return say("skipped: another user: this one is not root");
        }
        assert!(matches!(connect(&address, &key), Err(ConnectError::TurnedAway)));
    });
    assert_eq!(child.wait(), Status::Code(0));
    visit(&manager);
}

/// A child with 1000 connections that say nothing, and 1000 that say a byte a second.
fn crowd(address: &Address) -> Child {
    let address = address.clone();
    hold(move || {
        limit_descriptors(std::process::id(), 2500);
        let mut all: Vec<_> = (0..2000).map(|_| knock(&address)).collect();
        thread::spawn(move || {
            loop {
                for stream in &mut all[1000..] {
                    if stream.as_mut().is_none_or(|stream| stream.write(&[0]).is_err()) {
                        *stream = knock(&address);
                    }
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
    })
}

#[test]
fn silent_and_slow_ones_hold_up_nobody() {
    let _test = test(60);
    let manager = manager();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    let crowd = crowd(manager.address());
    let (start, mut calls, mut visits) = (Instant::now(), Vec::new(), Vec::new());
    while start.elapsed() < Duration::from_secs(3) {
        let begun = Instant::now();
        dict.set(&1, &1).unwrap();
        calls.push(begun.elapsed());
        visits.push(visit(&manager));
        thread::sleep(Duration::from_millis(5));
    }
    for (what, times) in [("calls", &mut calls), ("visits", &mut visits)] {
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        say(&format!(
            "{} {what} beside 2000: half in {:?}, 90 % in {:?}, all in {:?}",
            times.len(),
            at(50),
            at(90),
            at(100)
        ));
        assert!(at(90) < Duration::from_millis(50));
    }
    drop(crowd);
}

#[test]
fn garbage_of_a_friend_costs_his_own_link() {
    let _test = test(30);
    let manager = manager();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    let before = manager.statistics().unwrap();
    let mut rng = Rng::new(seed());
    for _ in 0..200 {
        let liar = link(&manager);
        let mut message: Vec<u8> = (0..rng.below(100)).map(|_| rng.next() as u8).collect();
        message.insert(0, 255); // no request
        liar.send_bytes(&message).unwrap();
        assert!(liar.recv_bytes().is_err());
        dict.set(&1, &1).unwrap();
    }
    until(|| manager.statistics().unwrap().links == before.links);
    assert_eq!(manager.statistics().unwrap().refused, before.refused + 200);
}

#[test]
fn descriptors_that_come_along_are_closed() {
    let _test = test(30);
    let manager = manager();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    dict.set(&1, &1).unwrap();
    let before = descriptors_of(manager.pid());
    for _ in 0..20 {
        let liar = link(&manager);
        let null = fs::File::open("/dev/null").unwrap();
        let many: Vec<_> = (0..200).map(|_| Descriptor::from(null.try_clone().unwrap())).collect();
        liar.send(&many).unwrap();
        assert!(liar.recv_bytes().is_err());
        dict.set(&1, &1).unwrap();
    }
    until(|| descriptors_of(manager.pid()) == before);
}

#[test]
fn server_without_descriptors_serves_whom_it_has() {
    let _test = test(30);
    let manager = manager();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    dict.set(&1, &1).unwrap();
    let pid = manager.pid();
    let free = (0..).find(|number| fs::read_link(format!("/proc/{pid}/fd/{number}")).is_err()).unwrap();
    limit_descriptors(pid, free);
    for n in 0..50 {
        assert!(connect(manager.address(), manager.key()).is_err());
        dict.set(&1, &n).unwrap();
    }
    limit_descriptors(pid, free + 100);
    visit(&manager);
    assert_eq!(dict.get(&1).unwrap(), Some(49));
}

#[test]
fn greedy_ones_are_told_so() {
    let _test = test(30);
    let address = Address::Abstract(support::unique("manager").into_bytes());
    let builder = Manager::builder().address(address).client_bytes(100_000).client_objects(50);
    let manager = builder.max_message(1 << 20).start().unwrap();
    let dict: Dict<u32, Vec<u8>> = manager.dict_named("dict").unwrap();
    let filled = (0..1000).take_while(|n| dict.set(n, &vec![0u8; 1000]).is_ok()).count();
    assert!((50..100).contains(&filled), "{filled}");
    assert!(matches!(dict.set(&2000, &vec![0u8; 1000]), Err(CallError::Exhausted(_))));
    assert!(matches!(dict.set(&1, &vec![0u8; 2 << 20]), Err(CallError::TooBig { .. })));
    let made: Vec<Dict<u32, u32>> = (0..200).map_while(|_| manager.dict().ok()).collect();
    assert!((40..50).contains(&made.len()), "{}", made.len());
    // What one client has used up another has not.
    let (address, key) = (manager.address().clone(), manager.key().clone());
    let mut other = fork(|| {
        let manager = Manager::connect(&address, &key).unwrap();
        let dict: Dict<u32, Vec<u8>> = manager.dict_named("dict").unwrap();
        dict.set(&2000, &vec![0u8; 1000]).unwrap();
    });
    assert_eq!(other.wait(), Status::Code(0));
    drop(made);
    dict.clear().unwrap();
    dict.set(&1, &vec![0u8; 1000]).unwrap();
    manager.dict::<u32, u32>().unwrap();
}

#[test]
fn too_many_requests_for_one_batch_are_told_so() {
    let _test = test(30);
    let address = Address::Abstract(support::unique("manager").into_bytes());
    let manager = Manager::builder().address(address).max_message(64 << 10).start().unwrap();
    let dict: Dict<u32, Vec<u8>> = manager.dict().unwrap();
    dict.set(&1, &vec![1; 30]).unwrap();
    assert_eq!(dict.get_many(&[1; 1000]).unwrap().len(), 1000);
    assert!(matches!(dict.get_many(&[1; 2000]), Err(CallError::Failed(_))), "no room for the answers");
    assert_eq!(dict.get(&1).unwrap(), Some(vec![1; 30]));
    let manager = crate::manager();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    let keys: Vec<u32> = (0..65_537).collect();
    assert_eq!(dict.get_many(&keys[1..]).unwrap().len(), 65_536);
    assert!(matches!(dict.get_many(&keys), Err(CallError::Failed(_))));
    assert_eq!(dict.get(&1).unwrap(), None);
}

#[test]
fn many_snapshots_at_once_take_the_memory_of_one() {
    let _test = test(60);
    let folder = support::Folder::new();
    let manager = manager();
    let dict: Dict<u32, Vec<u8>> = manager.dict_named("dict").unwrap();
    dict.set(&1, &vec![1; 32 << 20]).unwrap();
    let paths: Vec<_> = (0..16).map(|n| folder.file(format!("{n}"), b"")).collect();
    thread::scope(|scope| {
        for path in &paths {
            let manager = &manager;
            scope.spawn(move || manager.save(path).unwrap());
        }
    });
    let status = fs::read_to_string(format!("/proc/{}/status", manager.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 256 << 10, "{kilobytes} kB");
    assert!(paths.iter().all(|path| fs::metadata(path).unwrap().len() > 32 << 20));
}

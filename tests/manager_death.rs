//! What becomes of proxies and their servers when one of them dies, is stopped, or has no descriptors left.
#![allow(unsafe_code)] // kill and setrlimit

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use multiprocess::manager::{CallError, Dict, GetError, List, TryLockError};
use multiprocess::{
    Address, Key, Lock, Manager, ParentProcess, Process, Sender, StartMethod, parent_process, simplex,
};
use support::procfs::time_in_line;
use support::{fork, until};

multiprocess::testing!();

/// The news of a death.
const NEWS: Duration = Duration::from_millis(250);

/// The arena of the first lock and the fork server stay for the process, so they are there before the leak oracle looks.
fn test() -> support::Test {
    static ARENA: OnceLock<Lock> = OnceLock::new();
    ARENA.get_or_init(|| {
        let copy = Process::builder().start_method(StartMethod::ForkServer);
        copy.spawn(|()| (), ()).unwrap().join().unwrap();
        Lock::new().unwrap()
    });
    support::test(60)
}

/// Time that this thread was not kept waiting for a processor.
struct Watch(Instant, Duration);

impl Watch {
    fn new() -> Watch {
        Watch(Instant::now(), time_in_line())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed().saturating_sub(time_in_line() - self.1)
    }
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes numbers; the process is a child of ours that is not reaped.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

fn kill(manager: &Manager) {
    signal(manager.pid(), libc::SIGKILL);
    assert!(manager.join_timeout(Duration::from_secs(10)).unwrap());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// An address that the test's own servers have, one after the other.
fn place(name: &str) -> (Address, Key) {
    let address = Address::Abstract(format!("manager-{name}-{}", std::process::id()).into());
    (address, Key::random().unwrap())
}

fn start(place: &(Address, Key)) -> Manager {
    Manager::builder().address(place.0.clone()).auth(place.1.clone()).start().unwrap()
}

fn is_over<T>(result: Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::ServerDied))
}

#[test]
fn every_proxy_hears_of_a_killed_server() {
    let _test = test();
    let before = descriptors();
    let manager = Manager::start().unwrap();
    let dicts: Vec<Dict<u32, u32>> = (0..10).map(|_| manager.dict().unwrap()).collect();
    let named: List<u32> = manager.list_named("named").unwrap();
    let (queue, event, lock) =
        (manager.queue::<u32>(None).unwrap(), manager.event().unwrap(), manager.lock().unwrap());
    let held = lock.lock().unwrap();
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| matches!(queue.get(), Err(GetError::Call(CallError::ServerDied)))),
            scope.spawn(|| is_over(event.wait())),
            scope.spawn(|| lock.lock().is_err()),
        ];
        until(|| manager.statistics().unwrap().waiting == 3);
        signal(manager.pid(), libc::SIGKILL);
        let dead = Watch::new();
        waiting.into_iter().for_each(|waiter| assert!(waiter.join().unwrap()));
        for dict in &dicts {
            assert!(is_over(dict.get(&1)));
            assert!(is_over(dict.set(&1, &1)));
        }
        assert!(is_over(named.push(&1)) && is_over(manager.statistics()));
        assert!(dead.elapsed() < NEWS, "{:?}", dead.elapsed());
    });
    drop(held);
    manager.shutdown().unwrap();
    drop((dicts, named, queue, event, lock, manager));
    assert_eq!(descriptors(), before);
}

#[test]
fn named_proxies_find_the_server_that_comes_back() {
    let _test = test();
    let place = place("back");
    let first = start(&place);
    let (named, unnamed): (Dict<u32, u32>, Dict<u32, u32>) =
        (first.dict_named("results").unwrap(), first.dict().unwrap());
    let gone: Dict<u32, u32> = first.dict_named("nobody made it again").unwrap();
    named.set(&1, &1).unwrap();
    kill(&first);
    assert!(is_over(named.get(&1)) && is_over(named.get(&1)));
    let second = start(&place); // the address can be used at once
    let again: Dict<u32, u32> = second.dict_named("results").unwrap();
    again.set(&2, &2).unwrap();
    assert_eq!(named.get(&2).unwrap(), Some(2));
    assert_eq!(named.get(&1).unwrap(), None, "nobody saved it");
    assert_eq!(named, again);
    assert!(matches!(unnamed.get(&1), Err(CallError::Unnamed)));
    assert!(matches!(gone.get(&1), Err(CallError::NoSuchName { name }) if &*name == "nobody made it again"));
    drop(second);
    assert!(is_over(named.get(&1)));

    let other = Manager::builder().address(place.0.clone()).auth(Key::random().unwrap()).start().unwrap();
    let error = named.get(&1).unwrap_err();
    assert!(matches!(error, CallError::Unreachable(_)) && error.to_string().contains("key"), "{error}");
    drop(other);
    let fourth = start(&place);
    let list: List<u8> = fourth.list_named("results").unwrap();
    assert!(matches!(named.get(&1), Err(CallError::OtherKind { found: "list" })));
    drop(list);
}

#[test]
fn what_was_saved_survives_a_kill() {
    let _test = test();
    let folder = tempfile::tempdir().unwrap();
    let (file, place) = (folder.path().join("saved"), place("saved"));
    let first = start(&place);
    let dict: Dict<String, List<u32>> = first.dict_named("lists").unwrap();
    for n in 0..100 {
        let list = first.list().unwrap();
        list.extend(0..n).unwrap();
        dict.set(&n.to_string(), &list).unwrap();
    }
    first.save(&file).unwrap();
    dict.clear().unwrap(); // and this was not
    kill(&first);
    let second = start(&place);
    second.load(&file).unwrap();
    assert!(matches!(dict.len(), Ok(100) | Err(CallError::ServerDied)), "the first hears of the death");
    assert_eq!(dict.len().unwrap(), 100);
    for (key, list) in dict.items().unwrap() {
        assert_eq!(list.to_vec().unwrap(), (0..key.parse().unwrap()).collect::<Vec<u32>>());
    }
}

#[test]
fn what_a_killed_client_held_comes_back() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let lists: List<List<u32>> = manager.list().unwrap();
    let lock = manager.lock().unwrap();
    let (receiver, sender) = simplex().unwrap();
    type Given = (List<List<u32>>, multiprocess::manager::Lock, Address, Vec<u8>, Sender);
    let hold = |(lists, lock, address, key, ready): Given| {
        let manager = Manager::connect(&address, &Key::new(key).unwrap()).unwrap();
        let mine: Vec<List<u32>> = (0..50).map(|_| manager.list().unwrap()).collect();
        lists.push(&mine[0]).unwrap();
        let _held = lock.lock().unwrap();
        ready.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    };
    let given =
        (lists.clone(), lock.clone(), manager.address().clone(), manager.key().expose().to_vec(), sender);
    let child: Process<()> = Process::spawn(hold, given).unwrap();
    receiver.recv::<()>().unwrap();
    assert_eq!(manager.statistics().unwrap().objects, 52);
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    child.kill().unwrap();
    let dead = Watch::new();
    assert!(lock.lock().unwrap().owner_died());
    assert!(dead.elapsed() < NEWS, "{:?}", dead.elapsed());
    until(|| manager.statistics().unwrap().objects == 3);
    assert_eq!(lists.get(0).unwrap().unwrap().len().unwrap(), 0, "the dict has the one that it holds");
    assert_eq!(manager.statistics().unwrap().clients, 1);
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    let _test = test();
    type Report = (Address, Vec<u8>, u32);
    let begin = |(report, leaves): (Sender, bool)| {
        let manager = Manager::start().unwrap();
        let report_of = (manager.address().clone(), manager.key().expose().to_vec(), manager.pid());
        report.send::<Report>(&report_of).unwrap();
        drop(report);
        match leaves {
            true => std::process::exit(0), // nothing is dropped
            false => loop {
                std::thread::park();
            },
        }
    };
    for leaves in [false, true] {
        let (receiver, sender) = simplex().unwrap();
        let mut parent: Process<()> = Process::spawn(begin, (sender, leaves)).unwrap();
        let (address, key, pid) = receiver.recv::<Report>().unwrap();
        let key = Key::new(key).unwrap();
        if !leaves {
            Manager::connect(&address, &key).unwrap();
            parent.kill().unwrap();
        }
        let _ = parent.join();
        let ended = Watch::new();
        until(|| Manager::connect(&address, &key).is_err());
        let Address::Unix(socket) = address else { panic!("{address:?}") };
        until(|| !socket.parent().unwrap().exists());
        until(|| matches!(support::procfs::state(pid as i32), None | Some('Z')));
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    }
}

#[test]
fn a_dropped_manager_leaves_nothing_even_if_its_server_was_killed_or_is_stopped() {
    let _test = test();
    for how in [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM, libc::SIGINT] {
        let manager = Manager::start().unwrap();
        let Address::Unix(socket) = manager.address().clone() else { panic!() };
        assert!(socket.exists());
        signal(manager.pid(), how);
        drop(manager);
        assert!(!socket.parent().unwrap().exists());
    }
}

#[test]
fn a_stopped_server_keeps_nobody_beyond_the_time() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let (event, lock) = (manager.event().unwrap(), manager.lock().unwrap());
    let dict: Dict<u8, u8> = manager.dict().unwrap();
    signal(manager.pid(), libc::SIGSTOP);
    for time in [0, 300].map(Duration::from_millis) {
        let (begun, watch) = (Instant::now(), Watch::new());
        assert!(matches!(event.wait_timeout(time), Err(CallError::TimedOut) | Ok(false)));
        assert!(lock.lock_timeout(time).is_err());
        assert!(begun.elapsed() >= 2 * time);
        assert!(watch.elapsed() < 2 * (time + NEWS), "{:?} of {:?}", watch.elapsed(), begun.elapsed());
    }
    signal(manager.pid(), libc::SIGCONT);
    dict.set(&1, &1).unwrap();
    drop(lock.lock().unwrap()); // what was granted too late has come back
    until(|| manager.statistics().unwrap().waiting == 0);
}

#[test]
fn a_forked_child_is_a_client_of_its_own() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u32> = manager.dict().unwrap();
    dict.set("a", &1).unwrap();
    let child = fork(|| {
        assert_eq!(dict.get("a").unwrap(), Some(1));
        dict.set("child", &2).unwrap();
        let list: List<u32> = manager.list().unwrap();
        list.push(&1).unwrap();
        assert_eq!(manager.statistics().unwrap().clients, 2);
        drop((list, dict.clone()));
    });
    support::join([child]);
    assert_eq!(dict.get("child").unwrap(), Some(2), "the parent's link is its own");
    until(|| manager.statistics().unwrap().clients == 1);
    assert_eq!(manager.statistics().unwrap().objects, 1);
    let mut killed = fork(|| {
        dict.set("again", &3).unwrap();
        loop {
            dict.fetch_add("again", 1).unwrap();
        }
    });
    until(|| dict.get("again").unwrap().is_some_and(|n| n > 100));
    killed.kill9();
    until(|| manager.statistics().unwrap().clients == 1);
    drop(dict);
    until(|| manager.statistics().unwrap().objects == 0);
}

/// As many descriptors as this process may have from now on; answers what it could before.
fn limit_descriptors(most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls have a structure of ours.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: most, ..limit });
    }
    limit.rlim_cur
}

#[test]
fn no_descriptor_is_an_error_and_not_an_end() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let (dict, event): (Dict<u8, u8>, _) = (manager.dict().unwrap(), manager.event().unwrap());
    let starve = |(dict, event): (Dict<u8, u8>, multiprocess::manager::Event)| {
        dict.set(&1, &1).unwrap();
        let usual = limit_descriptors(0);
        assert_eq!(dict.get(&1).unwrap(), Some(1), "the connection that is there is enough");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                loop {
                    match event.wait_timeout(Duration::from_secs(30)) {
                        Err(CallError::Link(_)) => {} // the other thread had the only one
                        answer => return answer,
                    }
                }
            });
            until(|| matches!(dict.get(&1), Err(CallError::Link(_))));
            limit_descriptors(usual);
            event.set().unwrap();
            assert!(waiter.join().unwrap().unwrap());
        });
        dict.set(&2, &2).unwrap();
    };
    Process::spawn(starve, (dict.clone(), event)).unwrap().join().unwrap();
    assert_eq!(dict.len().unwrap(), 2);
}

#[test]
fn a_proxy_on_its_way_is_kept_and_its_server_may_be_gone() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let list: List<u32> = manager.list().unwrap();
    list.push(&7).unwrap();
    let queue = multiprocess::Queue::new().unwrap();
    queue.put(list).unwrap(); // the sender keeps nothing
    let list: List<u32> = queue.get().unwrap();
    assert_eq!(list.get(0).unwrap(), Some(7));
    queue.put(list).unwrap();
    kill(&manager);
    let list: List<u32> = queue.get().unwrap(); // arrives all the same
    assert!(list.len().is_err());
}

#[test]
fn processes_of_every_start_method_use_a_proxy() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    let parents = |dict: Dict<u32, u32>| {
        let parent = parent_process().as_ref().map(ParentProcess::pid);
        dict.set(&std::process::id(), &parent.unwrap()).unwrap();
    };
    let mut children = [
        Process::spawn(parents, dict.clone()).unwrap(),
        Process::builder().start_method(StartMethod::ForkServer).spawn(parents, dict.clone()).unwrap(),
    ];
    children.iter_mut().for_each(|child| child.join().unwrap());
    assert_eq!(dict.len().unwrap(), 2);
    until(|| manager.statistics().unwrap().clients == 1);
}

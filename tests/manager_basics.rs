//! What the dicts, lists and other data of a server do, for one process and for several at once.

use std::collections::HashMap;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use multiprocess::manager::{Array, CallError, Dict, List, ManagerError, Namespace, Value};
use multiprocess::{Address, Key, Lock, Manager, Process, Queue, pipe};
use serde::{Deserialize, Serialize};

multiprocess::testing!();

/// The arena of the first lock stays for the process, so it is there before the leak oracle looks.
fn test() -> support::Test {
    static ARENA: OnceLock<Lock> = OnceLock::new();
    ARENA.get_or_init(|| Lock::new().unwrap());
    support::test(60)
}

/// As many objects as there are when a test has dropped all it made.
fn settles_at(manager: &Manager, objects: u64) {
    support::until(|| manager.statistics().unwrap().objects == objects);
}

#[test]
fn dict_does_what_a_map_does() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u64> = manager.dict().unwrap();
    assert!(dict.is_empty().unwrap());
    assert_eq!(dict.get("a").unwrap(), None);
    dict.set("a", &1).unwrap();
    assert_eq!(dict.insert("a", &2).unwrap(), Some(1));
    assert_eq!(dict.insert("b", &3).unwrap(), None);
    assert_eq!(dict.insert_if_absent("b", &9).unwrap(), Some(3));
    assert_eq!(dict.insert_if_absent("c", &4).unwrap(), None);
    assert_eq!(dict.get_or_insert("c", 5).unwrap(), 4);
    assert_eq!(dict.get_or_insert("d", 5).unwrap(), 5);
    assert!(dict.contains_key("d").unwrap() && !dict.contains_key("e").unwrap());
    assert_eq!(dict.keys().unwrap(), ["a", "b", "c", "d"]);
    assert_eq!(dict.values().unwrap(), [2, 3, 4, 5]);
    assert_eq!(dict.remove("b").unwrap(), Some(3));
    assert_eq!(dict.remove("b").unwrap(), None);
    assert_eq!(dict.pop_last().unwrap(), Some(("d".into(), 5)));
    let expected = HashMap::from([("a".to_owned(), 2), ("c".to_owned(), 4)]);
    assert_eq!(dict.copy().unwrap(), expected);
    dict.clear().unwrap();
    assert_eq!((dict.len().unwrap(), dict.pop_last().unwrap()), (0, None));
}

#[test]
fn many_entries_go_in_one_trip() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u32, String> = manager.dict().unwrap();
    let before = manager.statistics().unwrap().calls;
    dict.extend((0..1000).map(|n| (n, n.to_string()))).unwrap();
    assert_eq!(manager.statistics().unwrap().calls - before, 2, "the one and the question");
    let keys = [5, 5000, 7];
    let found = dict.get_many(&keys).unwrap();
    assert_eq!(found, [Some("5".into()), None, Some("7".into())]);
    assert_eq!(dict.remove_many(&keys).unwrap(), 2);
    assert_eq!(dict.len().unwrap(), 998);
}

#[test]
fn an_iteration_meets_each_entry_that_stays_once() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u32, Vec<u8>> = manager.dict().unwrap();
    dict.extend((0..20_000).map(|n| (n, vec![0; 64]))).unwrap();
    let mut seen = Vec::new();
    for (step, entry) in dict.iter().enumerate() {
        let (key, value) = entry.unwrap();
        if key < 20_000 {
            assert_eq!(value.len(), 64);
            seen.push(key);
        }
        if step % 1000 == 0 {
            dict.set(&(30_000 + step as u32), &vec![1]).unwrap(); // others come meanwhile
            dict.remove(&(30_000 + step as u32 / 2)).unwrap();
        }
    }
    assert_eq!(seen, (0..20_000).collect::<Vec<_>>());
    assert!(dict.items().unwrap().len() >= 20_000);
}

#[test]
fn a_dict_that_was_large_gives_memory_back() {
    const COUNT: u32 = 400_000;
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u32, u8> = manager.dict().unwrap();
    (0..COUNT).step_by(10_000).for_each(|n| dict.extend((n..n + 10_000).map(|n| (n, 0))).unwrap());
    let full = memory_of(manager.pid());
    (1..COUNT).step_by(50_000).for_each(|n| {
        let keys: Vec<u32> = (n..COUNT.min(n + 50_000)).collect();
        assert_eq!(dict.remove_many(&keys).unwrap(), keys.len());
    });
    let left = memory_of(manager.pid());
    assert!(left + (24 << 10) < full, "{full} kB, then {left} kB");
    assert_eq!(dict.items().unwrap(), [(0, 0)]);
}

/// Kilobytes of memory that a process has.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn update_sees_what_others_did() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, Vec<u32>> = manager.dict().unwrap();
    let mut calls = 0;
    let updated = dict
        .update("a", |value| {
            calls += 1;
            if calls == 1 {
                dict.set("a", &vec![1]).unwrap(); // somebody comes between
            }
            let mut value = value.unwrap_or_default();
            value.push(2);
            Some(value)
        })
        .unwrap();
    assert_eq!((updated.value, updated.retries), (Some(vec![1, 2]), 1));
    assert!(dict.modify("a", |value| value.push(3)).unwrap());
    assert!(!dict.modify("b", |value| value.push(3)).unwrap());
    assert_eq!(dict.update("a", |_| None).unwrap().value, None);
    assert!(!dict.contains_key("a").unwrap());
}

#[test]
fn compare_exchange_tells_what_is_there() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u8, u8> = manager.dict().unwrap();
    assert_eq!(dict.compare_exchange(&1, None, Some(&5)).unwrap(), Ok(()));
    assert_eq!(dict.compare_exchange(&1, None, Some(&6)).unwrap(), Err(Some(5)));
    assert_eq!(dict.compare_exchange(&2, Some(&1), None).unwrap(), Err(None));
    assert_eq!(dict.compare_exchange(&1, Some(&5), None).unwrap(), Ok(()));
    assert!(dict.is_empty().unwrap());
}

#[test]
fn numbers_are_added_at_the_server() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, i16> = manager.dict().unwrap();
    assert_eq!(dict.fetch_add("a", 3).unwrap(), 0, "what is not there counts as 0");
    assert_eq!(dict.fetch_add("a", -5).unwrap(), 3);
    assert_eq!(dict.get("a").unwrap(), Some(-2));
    dict.set("a", &i16::MAX).unwrap();
    dict.fetch_add("a", 1).unwrap();
    assert_eq!(dict.get("a").unwrap(), Some(i16::MIN));
    let values = manager.namespace().unwrap();
    values.set("text", "not a number").unwrap();
    assert!(matches!(values.fetch_add("text", 1u32), Err(CallError::NotThatInteger)));
    let wide = manager.value(u128::MAX).unwrap();
    assert_eq!(wide.fetch_add(2).unwrap(), u128::MAX);
    assert_eq!(wide.get().unwrap(), 1);
}

#[test]
fn a_batch_answers_in_order_and_in_one_trip() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u64> = manager.dict().unwrap();
    let mut batch = dict.batch();
    let first = batch.get("a");
    batch.set("a", &1);
    let second = batch.get("a");
    let absent = batch.insert_if_absent("a", &7);
    let sum = batch.fetch_add("a", 4);
    let none = batch.fetch_add("z", 4);
    let four = batch.remove("z");
    let there = batch.contains_key("a");
    let removed = batch.remove("a");
    let _unread = batch.insert("b", &1);
    assert_eq!(batch.len(), 10);
    let mut answers = batch.run().unwrap();
    assert_eq!(answers.take(removed).unwrap(), Some(5));
    assert_eq!(answers.take(first).unwrap(), None);
    assert_eq!(answers.take(second).unwrap(), Some(1));
    assert_eq!(answers.take(absent).unwrap(), Some(1));
    assert_eq!(answers.take(sum).unwrap(), 1);
    assert_eq!((answers.take(none).unwrap(), answers.take(four).unwrap()), (0, Some(4)));
    assert!(answers.take(there).unwrap());
    assert_eq!(dict.keys().unwrap(), ["b"]);
    assert_eq!(dict.batch().run().unwrap().len(), 0);
}

#[test]
fn a_name_that_is_too_long_is_an_error_and_costs_no_object() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u32, u32> = manager.dict().unwrap();
    let name = "n".repeat(1024);
    assert!(matches!(manager.lock_named(&format!("{name}n")), Err(CallError::Failed(_))));
    assert!(!manager.lock_named(&name).unwrap().is_locked().unwrap());
    assert_eq!(dict.len().unwrap(), 0, "still there: the session was not lost");
}

#[test]
fn list_does_what_a_list_does() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let list: List<String> = manager.list().unwrap();
    let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    list.push("c").unwrap();
    list.insert(0, "a").unwrap();
    list.insert(-1, "b").unwrap();
    list.insert(99, "d").unwrap();
    assert_eq!(list.to_vec().unwrap(), ["a", "b", "c", "d"]);
    list.extend(text(&["e", "a"])).unwrap();
    assert_eq!(list.len().unwrap(), 6);
    assert_eq!((list.index_of("a").unwrap(), list.count("a").unwrap()), (Some(0), 2));
    assert!(list.contains("e").unwrap() && !list.contains("x").unwrap());
    assert!(list.remove("a").unwrap() && !list.remove("x").unwrap());
    assert_eq!(list.pop().unwrap().as_deref(), Some("a"));
    assert_eq!(list.pop_at(0).unwrap().as_deref(), Some("b"));
    assert_eq!(list.pop_at(10).unwrap(), None);
    assert_eq!((list.get(-1).unwrap().as_deref(), list.get(3).unwrap()), (Some("e"), None));
    list.set(-1, "z").unwrap();
    assert!(matches!(list.set(9, "z"), Err(CallError::OutOfRange)));
    list.reverse().unwrap();
    assert_eq!(list.to_vec().unwrap(), ["z", "d", "c"]);
    list.sort().unwrap();
    assert_eq!(list.to_vec().unwrap(), ["c", "d", "z"]);
    list.sort_by(|a, b| b.cmp(a)).unwrap();
    assert_eq!(list.slice(..2).unwrap(), ["z", "d"]);
    assert_eq!(list.slice(-2..).unwrap(), ["d", "c"]);
    assert_eq!(list.slice(-2..=-1).unwrap(), ["d", "c"]);
    list.splice(1..2, text(&["m", "n"])).unwrap();
    assert_eq!(list.to_vec().unwrap(), ["z", "m", "n", "c"]);
    assert_eq!(list.drain(1..3).unwrap(), ["m", "n"]);
    list.remove_range(..1).unwrap();
    assert_eq!(list.to_vec().unwrap(), ["c"]);
    list.clear().unwrap();
    assert_eq!((list.pop().unwrap(), list.is_empty().unwrap()), (None, true));
}

#[test]
fn list_of_many_pages_is_of_one_moment() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let list: List<u64> = manager.list().unwrap();
    list.extend((0..20_000).rev()).unwrap();
    assert_eq!(list.iter().map(Result::unwrap).collect::<Vec<_>>(), (0..20_000).rev().collect::<Vec<_>>());
    list.sort().unwrap();
    assert_eq!(list.to_vec().unwrap(), (0..20_000).collect::<Vec<_>>());
    assert_eq!(list.slice(-10_000..-1).unwrap(), (10_000..19_999).collect::<Vec<_>>());
    assert_eq!(list.drain(10..).unwrap().len(), 19_990);
    assert_eq!(list.update(3, |n| n * 10).unwrap().value, 30);
    assert_eq!(list.fetch_add(3, 2).unwrap(), 30);
    assert_eq!(list.compare_exchange(3, &30, &0).unwrap(), Err(32));
    assert!(matches!(list.fetch_add(50, 1), Err(CallError::OutOfRange)));
}

#[test]
fn namespace_value_and_array_hold_what_was_put() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let values: Namespace = manager.namespace().unwrap();
    values.set("depth", &3u32).unwrap();
    values.set("name", "crawl").unwrap();
    assert_eq!(values.get::<u32>("depth").unwrap(), Some(3));
    assert_eq!(values.get::<String>("name").unwrap().as_deref(), Some("crawl"));
    assert!(matches!(values.get::<String>("depth"), Err(CallError::Decode(_))));
    assert_eq!(values.names().unwrap(), ["depth", "name"]);
    assert!(values.remove("name").unwrap() && !values.remove("name").unwrap());
    assert_eq!(values.fetch_add("depth", 2u32).unwrap(), 3);
    assert_eq!(values.update("depth", |depth: Option<u32>| depth.map(|n| n * 2)).unwrap().value, Some(10));

    let value: Value<Option<char>> = manager.value(None).unwrap();
    value.set(&Some('x')).unwrap();
    assert_eq!(value.compare_exchange(&None, &None).unwrap(), Err(Some('x')));
    assert_eq!(value.update(|c| c.filter(|c| *c == 'y')).unwrap().value, None);

    let array: Array<u8> = manager.array([1, 2, 3]).unwrap();
    array.set(-1, &9).unwrap();
    assert_eq!(array.fetch_add(0, 255).unwrap(), 1);
    assert_eq!((array.to_vec().unwrap(), array.len().unwrap()), (vec![0, 2, 9], 3));
    assert_eq!((array.get(3).unwrap(), array.slice(1..).unwrap()), (None, vec![2, 9]));
    assert!(matches!(array.set(3, &0), Err(CallError::OutOfRange)));
}

#[test]
fn keys_and_values_are_of_any_type() {
    let _test = test();
    #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    enum Page {
        Found { ids: Vec<String>, size: u64 },
        Failed(String),
    }
    let manager = Manager::start().unwrap();
    let dict: Dict<(u32, String), Page> = manager.dict().unwrap();
    let found = Page::Found { ids: vec!["a".into()], size: 7 };
    dict.set(&(1, "x".into()), &found).unwrap();
    dict.set(&(2, "y".into()), &Page::Failed("404".into())).unwrap();
    assert_eq!(dict.get(&(1, "x".into())).unwrap(), Some(found));
    assert_eq!(dict.keys().unwrap()[1], (2, "y".to_owned()));
    let large: List<Vec<u8>> = manager.list().unwrap();
    large.push(&vec![7; 20 << 20]).unwrap();
    assert_eq!(large.get(0).unwrap().unwrap().len(), 20 << 20);
}

#[test]
fn a_list_in_a_dict_is_live_both_ways() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, List<u32>> = manager.dict().unwrap();
    {
        let list = manager.list().unwrap();
        list.push(&1).unwrap();
        dict.set("a", &list).unwrap();
        assert_eq!(dict.get("a").unwrap().unwrap(), list, "the same object, not a copy");
    }
    let fetched = dict.get("a").unwrap().unwrap(); // its maker is gone
    fetched.push(&2).unwrap();
    let add = |dict: Dict<String, List<u32>>| dict.get("a").unwrap().unwrap().push(&3).unwrap();
    Process::spawn(add, dict.clone()).unwrap().join().unwrap();
    assert_eq!(fetched.to_vec().unwrap(), [1, 2, 3]);
    drop(fetched);
    assert_eq!(manager.statistics().unwrap().objects, 2);
    dict.clear().unwrap();
    settles_at(&manager, 1);
    drop(dict);
    settles_at(&manager, 0);
}

#[test]
fn proxies_inside_any_shape_of_value_are_counted() {
    let _test = test();
    let manager = Manager::start().unwrap();
    type Rows = Vec<(u32, Option<List<u32>>)>;
    let dict: Dict<u32, Rows> = manager.dict().unwrap();
    let list: List<u32> = manager.list().unwrap();
    dict.set(&1, &vec![(1, Some(list.clone())), (2, None), (3, Some(list.clone()))]).unwrap();
    drop(list);
    let rows = dict.get(&1).unwrap().unwrap();
    assert_eq!(rows[0].1, rows[2].1);
    rows[0].1.as_ref().unwrap().push(&5).unwrap();
    dict.update(&1, |rows| {
        let mut rows = rows?;
        rows.truncate(1);
        Some(rows)
    })
    .unwrap();
    drop(rows);
    assert_eq!(dict.remove(&1).unwrap().unwrap()[0].1.as_ref().unwrap().to_vec().unwrap(), [5]);
    settles_at(&manager, 1);
}

#[test]
fn proxies_travel_as_arguments_and_in_messages() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u32> = manager.dict().unwrap();
    let queue = Queue::new().unwrap();
    let (here, there) = pipe().unwrap();
    let mut child = Process::spawn(
        |(queue, pipe): (Queue<Dict<String, u32>>, multiprocess::Connection)| {
            let dict = queue.get().unwrap();
            dict.set("queue", &1).unwrap();
            let again: Dict<String, u32> = pipe.recv().unwrap();
            assert_eq!(dict, again);
            again.set("pipe", &2).unwrap();
            again
        },
        (queue.clone(), there),
    )
    .unwrap();
    queue.put(dict.clone()).unwrap();
    here.send(&dict).unwrap();
    let back = child.join().unwrap();
    assert_eq!(back, dict);
    assert_eq!(back.keys().unwrap(), ["queue", "pipe"]);
    drop((back, dict));
    settles_at(&manager, 0);
}

#[test]
fn a_proxy_is_no_file_format_and_keys_are_no_place_for_one() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let list: List<u32> = manager.list().unwrap();
    let mut bytes = Vec::new();
    assert!(multiprocess::connection::codec::encode(&list, &mut bytes).is_err());
    let dict: Dict<List<u32>, u32> = manager.dict().unwrap();
    assert!(matches!(dict.set(&list, &1), Err(CallError::Encode(_))));
    let other = Manager::start().unwrap();
    let lists: List<List<u32>> = other.list().unwrap();
    let error = lists.push(&list).unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    assert_eq!(list.len().unwrap(), 0, "the proxy is none the worse for it");
}

#[test]
fn names_lead_everybody_to_the_same_object() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u32> = manager.dict_named("results").unwrap();
    dict.set("a", &1).unwrap();
    drop(dict);
    let again: Dict<String, u32> = manager.dict_named("results").unwrap();
    assert_eq!((again.get("a").unwrap(), again.name()), (Some(1), Some("results")));
    let wrong = manager.list_named::<u32>("results");
    assert!(matches!(wrong, Err(CallError::OtherKind { found: "dict" })), "{wrong:?}");
    assert!(manager.dict_named::<u8, u8>("").is_err());
    let value = manager.value_named("v", 1).unwrap();
    assert_eq!(manager.value_named("v", 2).unwrap().get().unwrap(), 1);
    let names: Vec<_> = manager.names().unwrap().into_iter().map(|named| (named.name, named.kind)).collect();
    assert!(names.contains(&("results".into(), "dict")) && names.contains(&("v".into(), "value")));
    assert!(manager.remove("v").unwrap() && !manager.remove("v").unwrap());
    assert_eq!(value.get().unwrap(), 1, "who has it goes on with it");
    assert_eq!(manager.value_named("v", 2).unwrap().get().unwrap(), 2);
}

#[test]
fn eight_processes_lose_no_increment() {
    let _test = test();
    const TIMES: u64 = 300;
    let manager = Manager::start().unwrap();
    let dict: Dict<String, u64> = manager.dict().unwrap();
    let count = |dict: Dict<String, u64>| {
        for _ in 0..TIMES {
            dict.update("updated", |n| Some(n.unwrap_or(0) + 1)).unwrap();
            dict.fetch_add("added", 1).unwrap();
        }
    };
    let mut children = [(); 8].map(|()| Process::spawn(count, dict.clone()).unwrap());
    children.iter_mut().for_each(|child| child.join().unwrap());
    assert_eq!(dict.get("updated").unwrap(), Some(8 * TIMES));
    assert_eq!(dict.get("added").unwrap(), Some(8 * TIMES));
    support::until(|| manager.statistics().unwrap().clients == 1);
}

#[test]
fn processes_change_one_list_at_once() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let list: List<u64> = manager.list().unwrap();
    let work = |(list, me): (List<u64>, u64)| {
        for n in 0..100 {
            list.push(&(me * 1000 + n)).unwrap();
            if n % 25 == 0 {
                list.sort().unwrap();
            }
        }
    };
    let mut children = [0, 1, 2, 3].map(|me| Process::spawn(work, (list.clone(), me)).unwrap());
    children.iter_mut().for_each(|child| child.join().unwrap());
    list.sort().unwrap();
    let expected: Vec<u64> = (0..4).flat_map(|me| (0..100).map(move |n| me * 1000 + n)).collect();
    assert_eq!(list.to_vec().unwrap(), expected);
}

#[test]
fn threads_call_at_once_while_one_waits() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u64, u64> = manager.dict().unwrap();
    let event = manager.event().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| event.wait_timeout(Duration::from_secs(30)).unwrap());
        support::until(|| manager.statistics().unwrap().waiting == 1);
        let workers = [1, 2, 3].map(|me| {
            let dict = &dict;
            scope.spawn(move || (0..200).for_each(|n| dict.set(&(me * 1000 + n), &n).unwrap()))
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(dict.len().unwrap(), 600);
        event.set().unwrap();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn unrelated_programs_meet_at_an_address() {
    let _test = test();
    let address = Address::Abstract(format!("manager-basics-{}", std::process::id()).into());
    let key = Key::random().unwrap();
    let manager = Manager::builder().address(address.clone()).auth(key.clone()).start().unwrap();
    assert_eq!(manager.address(), &address);
    let taken = Manager::builder().address(address.clone()).auth(key.clone()).start();
    assert!(
        matches!(&taken, Err(ManagerError::Listen(error)) if error.kind() == io::ErrorKind::AddrInUse),
        "{taken:?}"
    );
    let count = |(address, key): (Address, Vec<u8>)| {
        let manager = Manager::connect(&address, &Key::new(key).unwrap()).unwrap();
        let dict: Dict<String, u32> = manager.dict_named("shared").unwrap();
        dict.set("child", &std::process::id()).unwrap();
        manager.pid()
    };
    let mut child = Process::spawn(count, (address.clone(), key.expose().to_vec())).unwrap();
    assert_eq!(child.join().unwrap(), manager.pid());
    let dict: Dict<String, u32> = manager.dict_named("shared").unwrap();
    assert_eq!(dict.get("child").unwrap(), Some(child.pid()));
    let wrong = Manager::connect(&address, &Key::random().unwrap());
    assert!(wrong.unwrap_err().to_string().contains("key"));
}

#[test]
fn a_network_address_works_as_any() {
    let _test = test();
    let manager = Manager::builder().address(Address::Tcp("127.0.0.1:0".into())).start().unwrap();
    assert!(!manager.address().to_string().ends_with(":0"), "{}", manager.address());
    let dict: Dict<u32, List<Vec<u8>>> = manager.dict().unwrap();
    dict.set(&1, &manager.list().unwrap()).unwrap();
    let fill = |dict: Dict<u32, List<Vec<u8>>>| {
        let list = dict.get(&1).unwrap().unwrap();
        (0..20).for_each(|n| list.push(&vec![n; 100_000]).unwrap());
    };
    Process::spawn(fill, dict.clone()).unwrap().join().unwrap();
    let list = dict.get(&1).unwrap().unwrap();
    assert_eq!(list.iter().map(|page| page.unwrap().len()).sum::<usize>(), 2_000_000);
    drop((list, dict));
    settles_at(&manager, 0);
}

#[test]
fn waiting_threads_beyond_the_connections_are_told_and_leave_some_to_others() {
    let _test = test();
    let manager = Manager::builder().client_links(4).start().unwrap();
    let (event, lock) = (manager.event().unwrap(), manager.lock().unwrap());
    let guard = lock.lock().unwrap();
    std::thread::scope(|scope| {
        let waiters = [(); 2].map(|()| scope.spawn(|| event.wait_timeout(Duration::from_secs(30))));
        let locker = scope.spawn(|| lock.lock().map(drop));
        support::until(|| manager.statistics().unwrap().waiting == 3);
        assert!(matches!(event.wait_timeout(Duration::from_secs(30)), Err(CallError::Exhausted(_))));
        drop(guard); // gets through, and so does what sets the event
        locker.join().unwrap().unwrap();
        event.set().unwrap();
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap().unwrap()));
    });
    assert!(manager.statistics().is_ok());
}

#[test]
fn short_calls_beyond_the_connections_wait_for_each_other() {
    let _test = test();
    let manager = Manager::builder().client_links(3).start().unwrap();
    let dict: Dict<u8, u64> = manager.dict().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| (0..50).for_each(|_| _ = dict.fetch_add(&0, 1).unwrap()));
        }
    });
    assert_eq!(dict.get(&0).unwrap(), Some(24 * 50));
}

#[test]
fn a_server_of_this_process_serves_until_it_is_shut_down() {
    let _test = test();
    let key = Key::random().unwrap();
    let address = Address::fresh();
    let builder = Manager::builder().address(address.clone()).auth(key.clone());
    let server = std::thread::spawn(move || builder.serve());
    support::until(|| matches!(&address, Address::Unix(path) if path.exists()));
    let manager = Manager::connect(&address, &key).unwrap();
    let list: List<u32> = manager.list().unwrap();
    list.push(&1).unwrap();
    assert_eq!(manager.pid(), std::process::id());
    let sentinel = manager.sentinel().unwrap();
    assert!(!manager.join_timeout(Duration::from_millis(1)).unwrap());
    manager.shutdown().unwrap();
    server.join().unwrap().unwrap();
    assert!(manager.join_timeout(Duration::from_secs(5)).unwrap());
    multiprocess::wait(&[&sentinel]);
    assert!(matches!(list.len(), Err(CallError::ServerDied)));
}

#[test]
fn what_is_too_big_or_too_much_is_refused_and_harms_nothing() {
    let _test = test();
    let manager =
        Manager::builder().max_message(100_000).client_bytes(300_000).client_objects(4).start().unwrap();
    let dict: Dict<u32, Vec<u8>> = manager.dict().unwrap();
    assert!(matches!(dict.set(&0, &vec![0; 100_001]), Err(CallError::TooBig { max: 100_000, .. })));
    let full = (0..9).map(|n| dict.set(&n, &vec![0; 50_000])).find_map(Result::err).unwrap();
    assert!(matches!(full, CallError::Exhausted(_)), "{full}");
    dict.remove(&0).unwrap();
    dict.set(&0, &vec![1; 50_000]).unwrap();
    let mut lists = Vec::new();
    let full = loop {
        match manager.list::<u32>() {
            Ok(list) => lists.push(list),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, CallError::Exhausted(_)), "{full}");
    assert_eq!(lists.len(), 3);
    drop(lists.pop());
    manager.list::<u32>().unwrap();
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let _test = test();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved");
    {
        let manager = Manager::start().unwrap();
        let dict: Dict<String, List<u32>> = manager.dict_named("lists").unwrap();
        let list = manager.list().unwrap();
        list.extend([1, 2, 3]).unwrap();
        dict.set("a", &list).unwrap();
        manager.value_named("n", 7u64).unwrap().fetch_add(1).unwrap();
        manager.save(&file).unwrap();
        dict.clear().unwrap();
    }
    let manager = Manager::start().unwrap();
    assert_eq!(manager.load(&file).unwrap(), 2);
    let dict: Dict<String, List<u32>> = manager.dict_named("lists").unwrap();
    let list = dict.get("a").unwrap().unwrap();
    assert_eq!(list.to_vec().unwrap(), [1, 2, 3]);
    assert_eq!(manager.value_named("n", 0u64).unwrap().get().unwrap(), 8);
    assert!(matches!(manager.load(folder.path().join("none")), Err(CallError::Failed(_))));
}

#[test]
fn debug_shows_no_key_and_asks_nobody() {
    let _test = test();
    let manager = Manager::start().unwrap();
    let dict: Dict<u8, u8> = manager.dict_named("shown").unwrap();
    manager.shutdown().unwrap();
    let shown = format!("{manager:?} {dict:?}");
    assert!(shown.contains("shown") && shown.contains("socket"), "{shown}");
    assert!(!shown.to_lowercase().contains("key"), "{shown}");
}

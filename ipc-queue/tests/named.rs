//! Queues with names: processes that share nothing else, what travels, and what their ends leave.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipc_queue::{GetError, NamedError, PutFault, Queue, SimpleQueue};
use ipc_shm::{NameError, OpenError, SharedMemory};
use ipc_sync::{Lock, Value};
use serde::{Deserialize, Serialize};
use support::{Status, fork, unique, until};

/// The name of the queue, for a program that this one has started.
const NAME: &str = "NAMED_QUEUE_OF_THE_TEST";

/// Opens the registry before the leak oracle's eyes: it stays.
fn begin(seconds: u64) -> support::Test {
    ipc_sync::Registry::get().unwrap();
    support::test(seconds)
}

fn path(name: &str) -> String {
    format!("/dev/shm/{name}")
}

/// Runs the test `part` of this binary in a program of its own, which has the name and nothing else of this one.
fn program(part: &str, name: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", part, "--nocapture"]).env(NAME, name).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Whether this is a program that was started for `part`.
fn name() -> Option<String> {
    env::var(NAME).ok()
}

fn line_with(program: &mut Child, what: &str) {
    let lines = BufReader::new(program.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(what)), "it ended without {what:?}");
}

#[test]
fn programs_that_share_nothing_else_meet_by_a_name() {
    if let Some(name) = name() {
        let there = Queue::<(u32, String)>::options().bound(7).schema("words/1").named(&name).unwrap();
        let back = Queue::<u32>::named(&format!("{name}-back")).unwrap();
        assert_eq!(there.capacity(), Some(50), "it is as its maker made it");
        there.iter().for_each(|item| back.put(item.unwrap().0).unwrap());
        back.shutdown();
        back.close();
        return back.join_thread().unwrap();
    }
    let _test = begin(30);
    let name = unique("queue");
    let there = Queue::<(u32, String)>::options().bound(50).schema("words/1").named(&name).unwrap();
    let back = Queue::<u32>::named(&format!("{name}-back")).unwrap();
    assert_eq!((there.name(), back.capacity()), (Some(&*name), None));
    let mut other = program("programs_that_share_nothing_else_meet_by_a_name", &name);
    for number in 0..5000 {
        there.put((number, format!("{number}"))).unwrap();
    }
    there.shutdown();
    assert!(back.iter().map(Result::unwrap).eq(0..5000));
    assert!(other.wait().unwrap().success());
    drop((there, back));
    assert!(!fs::exists(path(&name)).unwrap(), "the name goes with its last user");
}

#[test]
fn name_of_users_that_were_all_killed_leads_to_a_new_queue() {
    if let Some(name) = name() {
        let queue = Queue::<u32>::options().schema("old").named(&name).unwrap();
        queue.put_many(vec![1, 2, 3]).unwrap();
        println!("three are in it");
        std::thread::sleep(Duration::from_secs(60)); // it is killed before that
        return;
    }
    let _test = begin(30);
    let name = unique("killed");
    let mut users =
        [(); 2].map(|()| program("name_of_users_that_were_all_killed_leads_to_a_new_queue", &name));
    users.iter_mut().for_each(|user| line_with(user, "three are in it"));
    assert_eq!(Queue::<u32>::named(&name).unwrap().len(), 6);
    for mut user in users {
        user.kill().unwrap();
        user.wait().unwrap();
        user.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
    assert!(fs::exists(path(&name)).unwrap());
    let queue = Queue::<u32>::options().schema("new").named(&name).unwrap();
    assert!(queue.is_empty());
    queue.put(4).unwrap();
    let mut child = fork(|| assert_eq!(Queue::<u32>::named(&name).unwrap().get().unwrap(), 4));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn other_schema_kind_or_form_is_a_clear_error() {
    let _test = begin(10);
    let lock_name = unique("lock");
    let lock = Lock::named(&lock_name).unwrap();
    let name = unique("schema");
    let queue = Queue::<u32>::options().schema("jobs/1").named(&name).unwrap();
    assert!(Queue::<u32>::options().schema("jobs/1").named(&name).is_ok());
    assert!(Queue::<u32>::named(&name).is_ok(), "who asks for none is not asked");
    let error = Queue::<u64>::options().schema("jobs/2").named(&name).unwrap_err();
    assert!(matches!(error, NamedError::Schema) && error.to_string().contains("another schema"));
    let plain = Queue::<u32>::named(&unique("plain")).unwrap();
    let asked = Queue::<u32>::options().schema("jobs/1").named(plain.name().unwrap());
    assert!(matches!(asked, Err(NamedError::Schema)));

    let error = Queue::<u32>::named(&lock_name).unwrap_err().to_string();
    assert!(error.contains("LOCK"), "{error}");
    assert!(Lock::named(&name).unwrap_err().to_string().contains("QUEU"));
    let refused = Queue::<u32>::options().bound(0).named(&unique("none"));
    assert!(matches!(refused, Err(NamedError::Create(_))));
    for name in ["", "a/b", "."] {
        assert!(matches!(Queue::<u32>::named(name), Err(NamedError::Name(_))));
    }
    queue.put(1).unwrap();
    drop((queue, plain));
    assert!(!fs::exists(path(&name)).unwrap());
    drop(lock);
}

#[test]
fn garbage_under_the_name_is_an_error_and_is_not_touched() {
    let _test = begin(10);
    let name = unique("garbage");
    for content in [&b"text"[..], &[7; 5000], &[0; 300_000]] {
        fs::write(path(&name), content).unwrap();
        let error = Queue::<u32>::named(&name).unwrap_err();
        assert!(matches!(error, NamedError::Name(_)), "{error:?}");
        assert_eq!(fs::read(path(&name)).unwrap(), content);
        fs::remove_file(path(&name)).unwrap();
    }
    fs::write(path(&name), b"").unwrap();
    let error = Queue::<u32>::named(&name).unwrap_err();
    assert!(
        matches!(&error, NamedError::Name(error) if matches!(**error, NameError::Open(OpenError::Empty)))
    );
    fs::remove_file(path(&name)).unwrap();
    std::os::unix::fs::symlink("/dev/null", path(&name)).unwrap();
    assert!(Queue::<u32>::named(&name).is_err());
    fs::remove_file(path(&name)).unwrap();
}

#[test]
fn damaged_settings_are_an_error() {
    let _test = begin(10);
    let name = unique("damaged");
    let queue = Queue::<u32>::named(&name).unwrap();
    let memory = SharedMemory::open(&name).unwrap();
    memory.write(128 + 768, &[0xff; 12]).unwrap(); // bound, bytes, form
    assert!(matches!(Queue::<u32>::named(&name).unwrap_err(), NamedError::Corrupt));
    drop((queue, memory));
}

#[derive(Serialize, Deserialize)]
enum Thing {
    Memory(SharedMemory),
    Lock(Lock),
    Number(Value<u64>),
    Queue(Queue<Thing>),
}

#[test]
fn handles_travel_by_name() {
    let _test = begin(20);
    let name = unique("handles");
    let queue = Queue::<Thing>::named(&name).unwrap();
    let memory = SharedMemory::create(&unique("memory"), 64).unwrap();
    let lock = Lock::named(&unique("lock")).unwrap();
    let number = Value::named(&unique("value"), 5u64).unwrap();
    memory.write(0, b"here").unwrap();
    let things = vec![Thing::Lock(lock.clone()), Thing::Number(number.clone()), Thing::Queue(queue.clone())];
    queue.put(Thing::Memory(memory.clone())).unwrap();
    queue.put_many(things).unwrap();
    let guard = lock.lock().unwrap();
    let mut child = fork(|| {
        let queue = Queue::<Thing>::named(&name).unwrap();
        let mut content = [0; 4];
        let Thing::Memory(memory) = queue.get().unwrap() else { panic!("memory") };
        memory.read(0, &mut content).unwrap();
        assert_eq!(&content, b"here");
        let Thing::Lock(lock) = queue.get().unwrap() else { panic!("lock") };
        assert!(lock.try_lock().is_err());
        let Thing::Number(number) = queue.get().unwrap() else { panic!("number") };
        let Thing::Queue(same) = queue.get().unwrap() else { panic!("queue") };
        same.put(Thing::Number(number)).unwrap();
    });
    assert_eq!(child.wait(), Status::Code(0));
    drop(guard);
    assert!(matches!(queue.try_get(), Ok(Thing::Number(_))));
}

#[test]
fn handle_without_a_name_stays_here() {
    let _test = begin(10);
    let queue = Queue::<Thing>::named(&unique("anonymous")).unwrap();
    let error = queue.put(Thing::Queue(Queue::new().unwrap())).unwrap_err();
    assert!(matches!(error.fault, PutFault::Encode(_)) && error.to_string().contains("without a name"));
    let error = queue.put(Thing::Memory(SharedMemory::anonymous(8).unwrap())).unwrap_err();
    assert!(error.to_string().contains("without a name"), "{error}");
    let memory = SharedMemory::create(&unique("gone"), 8).unwrap();
    queue.put(Thing::Memory(memory)).unwrap(); // and nobody keeps it
    assert!(matches!(queue.get(), Err(GetError::Decode { .. })));
}

#[test]
fn what_does_not_fit_waits_in_its_process_also_here() {
    let _test = begin(20);
    let name = unique("backlog");
    let queue = Queue::<Vec<u8>>::options().ring_bytes(1024).named(&name).unwrap();
    let mut child = fork(|| {
        let queue = Queue::<Vec<u8>>::named(&name).unwrap();
        (0..50).for_each(|i| queue.put(vec![i; 100]).unwrap());
        queue.close();
        queue.join_thread().unwrap();
    });
    (0..50).for_each(|i| assert_eq!(queue.get().unwrap(), [i; 100]));
    assert_eq!(child.wait(), Status::Code(0));
    until(|| queue.is_empty());
    assert!(queue.put(vec![0; 1000]).is_err(), "a quarter of the ring");
}

#[test]
fn simple_queue_is_no_queue_of_that_name() {
    let _test = begin(10);
    let name = unique("form");
    let simple = SimpleQueue::<u8>::named(&name).unwrap();
    assert!(matches!(Queue::<u8>::named(&name).unwrap_err(), NamedError::Form));
    simple.put(3).unwrap();
    assert_eq!(SimpleQueue::<u8>::named(&name).unwrap().get().unwrap(), 3);
}

#[test]
fn many_makers_make_one_queue() {
    let _test = begin(30);
    for _ in 0..30 {
        let name = unique("race");
        let makers = [(); 4].map(|()| {
            fork(|| {
                let queue = Queue::<u32>::named(&name).unwrap();
                queue.put(1).unwrap();
                let _taken = queue.get().unwrap();
            })
        });
        support::join(makers);
        assert!(!fs::exists(path(&name)).unwrap());
    }
}

//! Handles cross with the arguments and come back with the result; nothing else of this process does.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;

use multiprocess::{
    Connection, Descriptor, JoinError, Lock, Process, Queue, Receiver, SendError, Sender, SharedMemory,
    SpawnFailure, pipe, simplex,
};

multiprocess::testing!();

/// The arena of the first lock stays for the process, so it is there before the leak oracle looks.
fn test() -> support::Test {
    static ARENA: OnceLock<Lock> = OnceLock::new();
    ARENA.get_or_init(|| Lock::new().unwrap());
    support::test(60)
}

#[test]
fn lock_and_memory_are_shared_with_children() {
    let _test = test();
    let lock = Lock::new().unwrap();
    fn count((lock, memory, times): (Lock, SharedMemory, u32)) {
        for _ in 0..times {
            let _guard = lock.lock().unwrap();
            let word = memory.atomic_u64(8).unwrap();
            let seen = word.load(SeqCst);
            std::hint::spin_loop();
            word.store(seen + 1, SeqCst);
        }
    }
    let memory = SharedMemory::anonymous(4096).unwrap();
    let spawn = || Process::spawn(count, (lock.clone(), memory.clone(), 1000)).unwrap();
    let mut processes = [(); 4].map(|()| spawn());
    for process in &mut processes {
        process.join().unwrap();
    }
    assert_eq!(memory.atomic_u64(8).unwrap().load(SeqCst), 4000);
}

#[test]
fn lock_of_a_killed_child_comes_to_the_parent() {
    let _test = test();
    let lock = Lock::new().unwrap();
    fn hold((lock, ready): (Lock, Sender)) {
        let _guard = lock.lock().unwrap();
        ready.send(&()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let (receiver, sender) = simplex().unwrap();
    let mut process = Process::spawn(hold, (lock.clone(), sender)).unwrap();
    receiver.recv::<()>().unwrap();
    process.kill().unwrap();
    assert!(lock.lock().unwrap().owner_died());
    assert!(matches!(process.join(), Err(JoinError::Died { .. })));
}

#[test]
fn pipe_end_moves_to_the_child_and_ends_with_it() {
    let _test = test();
    fn echo(connection: Connection) -> u32 {
        let mut count = 0;
        while let Ok(text) = connection.recv::<String>() {
            connection.send(&text).unwrap();
            count += 1;
            if text == "enough" {
                break;
            }
        }
        count
    }
    let (here, there) = pipe().unwrap();
    let mut process = Process::spawn(echo, there).unwrap();
    for text in ["one", "two", "enough"] {
        here.send(text).unwrap();
        assert_eq!(here.recv::<String>().unwrap(), text);
    }
    assert!(here.recv::<String>().is_err(), "the child's end was the only one");
    assert_eq!(process.join().unwrap(), 3);
}

#[test]
fn queue_carries_items_of_children_and_is_flushed_before_they_end() {
    let _test = test();
    fn produce((queue, producer): (Queue<(u32, u32)>, u32)) {
        for i in 0..5000 {
            queue.put((producer, i)).unwrap();
        }
    }
    let queue = Queue::<(u32, u32)>::new().unwrap();
    let mut processes = [0, 1].map(|number| Process::spawn(produce, (queue.clone(), number)).unwrap());
    let mut next = [0; 2];
    for _ in 0..10_000 {
        let (producer, i) = queue.get().unwrap();
        assert_eq!(i, next[producer as usize], "order of producer {producer}");
        next[producer as usize] += 1;
    }
    for process in &mut processes {
        process.join().unwrap();
    }
    assert!(queue.is_empty());
}

/// What may lie in an item, with a queue for the answer; and a value that is too large for the ring.
type Item = (Queue<u64>, Connection, Lock, SharedMemory, Descriptor, Vec<u64>);

#[test]
fn queue_carries_handles_of_every_kind_between_children() {
    let _test = test();
    fn put((items, item): (Queue<Item>, Item)) {
        items.put(item).unwrap();
    }
    fn get(items: Queue<Item>) {
        let (answers, connection, lock, memory, file, numbers) = items.get().unwrap();
        let locked = lock.try_lock().is_err();
        let word = memory.atomic_u64(0).unwrap().load(SeqCst);
        file.try_into_file().unwrap().write_all(b"written").unwrap();
        connection.send("hello").unwrap();
        answers.put(u64::from(locked) + word + numbers.iter().sum::<u64>()).unwrap();
    }
    let (items, answers) = (Queue::new().unwrap(), Queue::new().unwrap());
    let (mine, yours) = pipe().unwrap();
    let (lock, memory) = (Lock::new().unwrap(), SharedMemory::anonymous(64).unwrap());
    memory.atomic_u64(0).unwrap().store(10, SeqCst);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let file = Descriptor::from(std::os::fd::OwnedFd::from(writer));
    let item = (answers.clone(), yours, lock.clone(), memory, file, vec![1; 100_000]);
    let _guard = lock.lock().unwrap();
    Process::spawn(put, (items.clone(), item)).unwrap().join().unwrap();
    Process::spawn(get, items).unwrap().join().unwrap();
    assert_eq!(answers.get().unwrap(), 100_011);
    assert_eq!(mine.recv::<String>().unwrap(), "hello");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "written");
}

#[test]
fn descriptor_crosses_in_both_directions() {
    let _test = test();
    fn copy(from: Descriptor) -> Descriptor {
        let mut text = String::new();
        from.try_into_file().unwrap().read_to_string(&mut text).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        write!(writer, "{text} and back").unwrap();
        Descriptor::from(std::os::fd::OwnedFd::from(reader))
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    write!(writer, "there").unwrap();
    drop(writer);
    let sent = Descriptor::from(std::os::fd::OwnedFd::from(reader));
    let mut process = Process::spawn(copy, sent).unwrap();
    let mut text = String::new();
    process.join().unwrap().try_into_file().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "there and back");
}

#[test]
fn memory_and_pipe_ends_come_back_as_results() {
    let _test = test();
    let make = |()| -> (SharedMemory, Receiver) {
        let memory = SharedMemory::anonymous(64).unwrap();
        memory.write(0, b"made by the child").unwrap();
        let (receiver, sender) = simplex().unwrap();
        sender.send("sent by the child").unwrap();
        (memory, receiver)
    };
    let (memory, receiver) = Process::spawn(make, ()).unwrap().join().unwrap();
    let mut bytes = [0; 17];
    memory.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"made by the child");
    assert_eq!(receiver.recv::<String>().unwrap(), "sent by the child");
    assert!(receiver.recv::<String>().is_err());
}

#[test]
fn too_many_descriptors_come_back_from_spawn() {
    let _test = test();
    let file = || Descriptor::from(File::open("/dev/null").unwrap());
    let many: Vec<Descriptor> = (0..300).map(|_| file()).collect();
    let error = Process::spawn(|many: Vec<Descriptor>| many.len(), many).unwrap_err();
    assert!(
        matches!(error.reason(), SpawnFailure::Arguments(SendError::TooManyHandles { count: 300, .. })),
        "{error}"
    );
    let mut some = error.into_args();
    some.truncate(200);
    assert_eq!(Process::spawn(|some: Vec<Descriptor>| some.len(), some).unwrap().join().unwrap(), 200);
}

/// Refuses to be serialized.
#[derive(serde::Deserialize)]
struct Stubborn;

impl serde::Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("stubborn"))
    }
}

#[test]
fn pipe_end_in_arguments_that_were_not_sent_stays() {
    let _test = test();
    let (here, there) = pipe().unwrap();
    let error = Process::spawn(|(end, _): (Connection, Stubborn)| drop(end), (there, Stubborn)).unwrap_err();
    assert!(matches!(error.reason(), SpawnFailure::Arguments(SendError::Encode(_))), "{error}");
    let (there, _) = error.into_args();
    here.send(&1u8).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 1);
}

#[test]
fn handle_outside_of_a_message_is_refused() {
    let _test = test();
    let lock = Lock::new().unwrap();
    let mut bytes = Vec::new();
    assert!(multiprocess::connection::codec::encode(&lock, &mut bytes).is_err());
}

//! A queue as a handle, and what a stranger's memory can do.

mod common;
use std::time::{Duration, Instant};

use common::{at, memory, pack, unpack, unpack_as};
use ipc_queue::{GetError, PutFault, Queue, SimpleQueue};
use ipc_shm::Mapping;
use support::{Rng, Status, fork, seed};

#[test]
fn queue_travels_in_a_message() {
    let _test = support::test(20);
    let queue = Queue::<u32>::bounded(5).unwrap();
    let theirs = pack(&queue);
    queue.put(1).unwrap();
    let mut child = fork(move || {
        drop(queue); // the child has it by the message only
        let queue = unpack::<u32>(&theirs.0, theirs.1).unwrap();
        assert_eq!(queue.capacity(), Some(5));
        assert_eq!(queue.get().unwrap(), 1);
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn queue_that_arrives_twice_is_one() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(512).create().unwrap();
    let theirs = pack(&queue);
    let again = unpack::<Vec<u8>>(&theirs.0, theirs.1).unwrap();
    for i in (0..100).step_by(2) {
        queue.put(vec![i; 50]).unwrap();
        again.put(vec![i + 1; 50]).unwrap();
    }
    (0..100).for_each(|i| assert_eq!(queue.get().unwrap(), vec![i; 50]));
    again.close();
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn queue_does_not_serialize_outside_a_message() {
    let queue = Queue::<u32>::new().unwrap();
    let error = ipc_pipe::codec::encode(&queue, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("handle"), "{error}");
}

#[test]
fn strange_memory_is_no_queue() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    let (bytes, _) = pack(&queue);
    let plain = Mapping::anonymous(c"plain", 8192).unwrap();
    let foreign = plain.descriptor().try_clone().unwrap();
    assert!(unpack::<u32>(&bytes, vec![foreign]).is_err());
    let file = tempfile::tempfile().unwrap();
    assert!(unpack::<u32>(&bytes, vec![file.into()]).is_err());
    assert!(unpack::<u32>(&bytes, vec![]).is_err());
}

#[test]
fn damaged_settings_are_refused() {
    let _test = support::test(20);
    for (word, value) in [(0, u32::MAX), (4, 0), (4, 1000), (4, 1 << 31), (4, 1 << 17), (4, 1 << 19)] {
        let queue = Queue::<u32>::new().unwrap();
        let (theirs, memory) = (pack(&queue), memory(&queue));
        drop(queue); // else it would be the one that is there
        memory.write(at::SETTINGS + word, &value.to_ne_bytes()).unwrap();
        assert!(unpack::<u32>(&theirs.0, theirs.1).is_err(), "{value} at {word}");
    }
}

/// Every call comes back; what it says is not worth much.
fn use_it(queue: &Queue<u32>) -> Vec<&'static str> {
    let mut bytes = Vec::new();
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(match queue.try_put_bytes(&[1; 40]) {
            Ok(()) => "put",
            Err(PutFault::Corrupt) => "corrupt",
            Err(PutFault::Full) => "full",
            Err(other) => panic!("{other:?}"),
        });
        said.push(match queue.try_get_bytes_into(&mut bytes) {
            Ok(()) => "got",
            Err(GetError::Corrupt | GetError::Lost) => "corrupt",
            Err(GetError::Empty) => "empty",
            Err(other) => panic!("{other:?}"),
        });
        let _ = (queue.len(), queue.is_full());
    }
    said
}

#[test]
fn garbage_in_the_memory_is_an_error_or_a_wrong_item() {
    let _test = support::test(60);
    let mut rng = Rng::new(seed());
    let mut corrupt = 0;
    for round in 0..400 {
        let queue =
            if round % 2 == 0 { Queue::bounded(3) } else { Queue::options().ring_bytes(1024).create() };
        let (queue, mut bytes) = (queue.unwrap(), [0; 8]);
        (0..rng.below(4)).for_each(|_| drop(queue.try_put_bytes(&[7; 30])));
        let memory = memory(&queue);
        for _ in 0..=rng.below(3) {
            let random = rng.next() >> rng.below(64);
            bytes.copy_from_slice(&random.to_ne_bytes());
            let offset = match rng.below(3) {
                0 => at::RING + 8 * rng.below(32) as usize,
                1 => at::HEAD + 8 * rng.below(3) as usize,
                // The lock has tests of its own, and bears with garbage for a second.
                _ => at::LOCK + 8 + 8 * rng.below(4) as usize,
            };
            memory.write(offset, &bytes).unwrap();
        }
        corrupt += usize::from(use_it(&queue).contains(&"corrupt"));
        queue.close();
        queue.cancel_join_thread();
    }
    assert!(corrupt > 40, "only {corrupt} of 400 noticed");
}

#[test]
fn garbage_in_the_lock_is_an_error() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    memory(&queue).write(at::LOCK, &0x1234u32.to_ne_bytes()).unwrap();
    assert!(matches!(queue.put(1).unwrap_err().fault, PutFault::Corrupt));
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn item_longer_than_the_ring_is_never_read() {
    let _test = support::test(20);
    let queue = Queue::<u32>::options().ring_bytes(512).create().unwrap();
    queue.put(1).unwrap();
    memory(&queue).write(at::RING, &(u64::MAX >> 1).to_ne_bytes()).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Corrupt)));
    memory(&queue).write(at::TAIL, &(1u64 << 40).to_ne_bytes()).unwrap();
    assert!(matches!(queue.put(1).unwrap_err().fault, PutFault::Corrupt));
}

/// Somebody writes to every word all the time.
#[test]
fn raging_neighbour_neither_hangs_nor_breaks_us() {
    let _test = support::test(60);
    let queue = Queue::<u32>::options().ring_bytes(1024).create().unwrap();
    let memory = memory(&queue);
    let mut neighbour = fork(|| {
        let mut rng = Rng::new(1);
        loop {
            let offset = if rng.below(2) == 0 { at::HEAD } else { at::RING + 8 * rng.below(128) as usize };
            memory.write(offset, &(rng.next() >> rng.below(64)).to_ne_bytes()).unwrap();
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        use_it(&queue);
    }
    queue.cancel_join_thread();
    queue.close();
    neighbour.kill9();
}

#[test]
fn simple_queue_travels_and_stays_one() {
    let _test = support::test(20);
    let queue = SimpleQueue::<u32>::new().unwrap();
    let (bytes, descriptors) = pack(&queue);
    let copy = descriptors.iter().map(|fd| fd.try_clone().unwrap()).collect();
    assert!(unpack::<u32>(&bytes, copy).unwrap_err().to_string().contains("simple"));
    let again: SimpleQueue<u32> = unpack_as(&bytes, descriptors).unwrap();
    again.put(1).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    let (bytes, descriptors) = pack(&Queue::<u32>::new().unwrap());
    assert!(unpack_as::<SimpleQueue<u32>>(&bytes, descriptors).unwrap_err().to_string().contains("plain"));
}

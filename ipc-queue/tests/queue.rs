//! What a queue promises when nobody dies.

#[path = "../../tests/support/mod.rs"]
mod support;

use ipc_queue::{GetError, PutFault, Queue};
use std::time::Duration;
use support::{Status, fork};

#[test]
fn item_is_there_when_put_returns() {
    let _test = support::test(20);
    let queue = Queue::new().unwrap();
    for i in 0..10_000u32 {
        queue.put(i).unwrap();
        assert_eq!(queue.try_get().unwrap(), i);
    }
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn bounded_queue_takes_so_many_and_no_more() {
    let _test = support::test(20);
    let queue = Queue::bounded(3).unwrap();
    (0..3).for_each(|i| queue.put(i).unwrap());
    assert!(matches!(queue.try_put(3).unwrap_err().fault, PutFault::Full));
    let error = queue.put_timeout(3, Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error.fault, PutFault::TimedOut));
    assert_eq!(error.into_value(), 3);
    assert_eq!(queue.len().unwrap(), 3);
    assert_eq!(queue.get().unwrap(), 0);
    queue.put(3).unwrap();
}

#[test]
fn items_go_from_process_to_process_in_order() {
    let _test = support::test(60);
    let queue = Queue::<u64>::new().unwrap();
    let mut child = fork(|| {
        (0..300_000).for_each(|i| queue.put(i).unwrap());
        queue.close();
        queue.join_thread().unwrap();
    });
    for i in 0..300_000 {
        assert_eq!(queue.get().unwrap(), i);
    }
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn put_never_waits_for_room_in_the_ring() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let mut child = fork(|| {
        (0..1000u32).for_each(|i| queue.put(vec![i as u8; 10_000]).unwrap());
        queue.close();
        queue.join_thread().unwrap();
    });
    support::until(|| queue.len().unwrap() == 1000);
    for i in 0..1000u32 {
        assert_eq!(queue.get().unwrap(), vec![i as u8; 10_000]);
    }
    assert_eq!(child.wait(), Status::Code(0));
}
#[test]
fn exit_waits_until_everything_is_in_the_ring() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let mut child = fork(|| {
        (0..1000u32).for_each(|i| queue.put(vec![i as u8; 10_000]).unwrap());
        std::process::exit(7);
    });
    support::until(|| queue.len().unwrap() == 1000);
    for i in 0..1000u32 {
        assert_eq!(queue.get().unwrap(), vec![i as u8; 10_000]);
    }
    assert_eq!(child.wait(), Status::Code(7));
}

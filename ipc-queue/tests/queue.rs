//! What a queue promises while nobody dies.

mod common;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::flush;
use ipc_queue::{CreateError, GetError, JoinError, PutFault, Queue, SimpleQueue};
use ipc_sync::Registry;
use nix::unistd::gettid;
use serde::{Serialize, Serializer, ser};
use support::{Status, asleep, fork, procfs, shared, shared_slice, until};

const MOMENT: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_secs(2);

#[test]
fn item_is_there_when_put_returns() {
    let _test = support::test(20);
    let queue = Queue::new().unwrap();
    for i in 0..10_000u32 {
        queue.put(i).unwrap();
        assert!(!queue.is_empty());
        assert_eq!(queue.try_get().unwrap(), i);
    }
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn items_go_from_process_to_process_in_order() {
    let _test = support::test(60);
    let queue = Queue::<u64>::new().unwrap();
    let mut child = fork(|| {
        (0..300_000).for_each(|i| queue.put(i).unwrap());
        flush(&queue);
    });
    (0..300_000).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn values_of_any_kind_arrive_as_they_were() {
    let _test = support::test(20);
    let queue = Queue::<(String, Vec<f64>, Option<Box<str>>)>::new().unwrap();
    let value = ("grün".to_owned(), vec![0.5; 100], Some("x".into()));
    let mut child = fork(|| assert_eq!(queue.get().unwrap(), value));
    queue.put(value.clone()).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    let empty = Queue::<()>::new().unwrap();
    empty.put(()).unwrap();
    empty.get().unwrap();
}

#[test]
fn bytes_arrive_as_they_were() {
    let _test = support::test(20);
    let queue = Queue::<()>::new().unwrap();
    let mut buffer = vec![9; 3];
    for length in (0..600).chain([4096, 16_000, 65_536]) {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        queue.put_bytes(&bytes).unwrap();
        queue.try_put_bytes(&bytes).unwrap();
        assert_eq!(queue.get_bytes().unwrap(), bytes);
        queue.get_bytes_into(&mut buffer).unwrap();
        assert_eq!(buffer, bytes);
    }
    assert!(matches!(queue.try_get_bytes(), Err(GetError::Empty)));
}

#[test]
fn bounded_queue_takes_so_many_and_no_more() {
    let _test = support::test(20);
    let queue = Queue::bounded(3).unwrap();
    assert_eq!(queue.capacity(), Some(3));
    for i in 0..3 {
        assert!(!queue.is_full());
        assert_eq!(queue.len(), i);
        queue.put(i).unwrap();
    }
    assert!(queue.is_full());
    assert!(matches!(queue.try_put(3).unwrap_err().fault, PutFault::Full));
    let error = queue.put_timeout(3, MOMENT).unwrap_err();
    assert!(matches!(error.fault, PutFault::TimedOut));
    assert_eq!(error.into_value(), 3);
    assert_eq!(queue.get().unwrap(), 0);
    queue.put(3).unwrap();
    (1..4).for_each(|i| assert_eq!(queue.get().unwrap(), i));
}

#[test]
fn bound_counts_what_the_ring_cannot_take() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().bound(10).ring_bytes(1024).create().unwrap();
    for i in 0..10 {
        assert_eq!(queue.len(), i);
        queue.put(vec![i as u8; 200]).unwrap();
    }
    assert!(matches!(queue.try_put(vec![]).unwrap_err().fault, PutFault::Full));
    for i in 0..10 {
        assert_eq!(queue.len(), 10 - i);
        assert_eq!(queue.try_get().unwrap(), vec![i as u8; 200]);
    }
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn full_queue_wakes_its_putter() {
    let _test = support::test(20);
    let queue = Queue::bounded(1).unwrap();
    queue.put(0u32).unwrap();
    let mut child = fork(|| (1..100).for_each(|i| queue.put(i).unwrap()));
    asleep(child.pid());
    (0..100).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn empty_queue_wakes_its_getter() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    let mut child = fork(|| assert_eq!(queue.get().unwrap(), 7));
    asleep(child.pid());
    queue.put(7).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn put_never_waits_for_room_in_the_ring() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let mut child = fork(|| {
        (0..1000u32).for_each(|i| queue.put(vec![i as u8; 10_000]).unwrap());
        flush(&queue);
    });
    until(|| queue.len() == 1000);
    (0..1000u32).for_each(|i| assert_eq!(queue.get().unwrap(), vec![i as u8; 10_000]));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn try_get_finds_its_own_backlog() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(512).create().unwrap();
    (0..500u32).for_each(|i| queue.put(vec![i as u8; 50]).unwrap());
    (0..500u32).for_each(|i| assert_eq!(queue.try_get().unwrap(), vec![i as u8; 50]));
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn threads_of_a_process_keep_one_order() {
    let _test = support::test(30);
    let queue = Queue::<u32>::options().ring_bytes(512).create().unwrap();
    // Each thread starts when the one before it has put: their items have one order, backlog or not.
    let mut child = fork(|| {
        (0..200).for_each(|i| thread::scope(|scope| drop(scope.spawn(|| queue.put(i).unwrap()).join())));
        flush(&queue);
    });
    (0..200).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn many_producers_and_consumers_share_the_items() {
    let _test = support::test(60);
    const EACH: u64 = 20_000;
    for (bound, ring) in [(None, 4096), (Some(10), 4096), (None, 1 << 18), (Some(1), 512)] {
        let mut options = Queue::<(usize, u64)>::options().ring_bytes(ring);
        if let Some(bound) = bound {
            options = options.bound(bound);
        }
        let (queue, got) = (options.create().unwrap(), shared_slice::<AtomicU64>(4 * EACH as usize));
        let consumers = [(); 4].map(|()| fork(|| consume(&queue, got)));
        let producers = [0, 1, 2, 3].map(|id| {
            fork(|| {
                (0..EACH).for_each(|i| queue.put((id, i)).unwrap());
                flush(&queue);
            })
        });
        producers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
        (0..4).for_each(|_| queue.put((usize::MAX, 0)).unwrap());
        consumers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
        assert!(got.iter().all(|count| count.load(Relaxed) == 1));
        assert_eq!(queue.len(), 0);
    }
}

/// Counts each item; each producer's items must come in order.
fn consume(queue: &Queue<(usize, u64)>, got: &[AtomicU64]) {
    let mut next = [0; 4];
    loop {
        let (id, i) = queue.get().unwrap();
        if id == usize::MAX {
            return;
        }
        assert!(i >= next[id], "item {i} of producer {id} after {}", next[id]);
        next[id] = i + 1;
        got[id * got.len() / 4 + i as usize].fetch_add(1, Relaxed);
    }
}

#[test]
fn threads_share_one_handle() {
    let _test = support::test(30);
    let queue = Queue::<u64>::bounded(16).unwrap();
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5000).for_each(|_| _ = sum.fetch_add(queue.get().unwrap(), Relaxed)));
            scope.spawn(|| (0..5000).for_each(|i| queue.put(i).unwrap()));
        }
    });
    assert_eq!(sum.into_inner(), 4 * 4999 * 5000 / 2);
}

#[test]
fn timeout_covers_the_whole_call() {
    let _test = support::test(20);
    let queue = Queue::<u32>::bounded(1).unwrap();
    let start = Instant::now();
    assert!(matches!(queue.get_timeout(MOMENT), Err(GetError::TimedOut)));
    assert!(matches!(queue.get_deadline(start), Err(GetError::TimedOut)));
    queue.put(1).unwrap();
    assert!(matches!(queue.put_timeout(1, MOMENT).unwrap_err().fault, PutFault::TimedOut));
    assert!(matches!(queue.put_deadline(1, start).unwrap_err().fault, PutFault::TimedOut));
    let time = start.elapsed();
    assert!(time >= 2 * MOMENT && time < 25 * MOMENT, "{time:?}");
}

#[test]
fn timeout_without_end_waits() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    let mut child = fork(|| assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 3));
    asleep(child.pid());
    queue.put_timeout(3, Duration::MAX).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

/// A value that says no.
#[derive(Debug)]
struct Stubborn(u32);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("I stay"))
    }
}

#[test]
fn put_gives_back_what_cannot_be_serialized() {
    let _test = support::test(20);
    let queue = Queue::bounded(1).unwrap();
    let error = queue.put(Stubborn(5)).unwrap_err();
    assert!(error.to_string().contains("I stay"), "{error}");
    assert!(matches!(error.fault, PutFault::Encode(_)));
    assert_eq!(error.into_value().0, 5);
    assert_eq!(queue.len(), 0);
}

#[test]
fn item_of_another_type_comes_as_its_bytes() {
    let _test = support::test(20);
    let queue = Queue::<String>::new().unwrap();
    queue.put_bytes(&[1, 2, 3]).unwrap();
    queue.put("whole".into()).unwrap();
    match queue.get() {
        Err(GetError::Decode { bytes, .. }) => assert_eq!(bytes, [1, 2, 3]),
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.get().unwrap(), "whole");
}

#[test]
fn closed_queue_is_closed_in_this_process_only() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    assert_eq!(queue.join_thread(), Err(JoinError::NotClosed));
    queue.put(1).unwrap();
    queue.clone().close();
    queue.close();
    assert!(matches!(queue.put(2).unwrap_err().fault, PutFault::Closed));
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    queue.join_thread().unwrap();
    let mut child = fork(|| {
        queue.put(2).unwrap();
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (1, 2));
    });
    assert_eq!(child.wait(), Status::Code(0));
}

/// Runs `call` in a thread of this process; answers when it sleeps.
fn sleeping<'scope, R: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    call: impl FnOnce() -> R + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, R> {
    let (tell, told) = std::sync::mpsc::channel();
    let sleeper = scope.spawn(move || {
        tell.send(gettid().as_raw()).unwrap();
        call()
    });
    asleep(told.recv().unwrap());
    sleeper
}

#[test]
fn close_ends_the_calls_that_sleep_in_this_process() {
    Registry::get().unwrap();
    let _test = support::test(20);
    let (empty, full) = (Queue::<u32>::new().unwrap(), Queue::<u32>::bounded(1).unwrap());
    let simple = SimpleQueue::<u32>::with_ring_bytes(512).unwrap();
    full.put(0).unwrap();
    while simple.try_put(0).is_ok() {}
    let mut elsewhere = fork(|| assert_eq!(empty.get().unwrap(), 1));
    asleep(elsewhere.pid());
    thread::scope(|scope| {
        let get = sleeping(scope, || empty.get());
        let get_timeout = sleeping(scope, || empty.get_timeout(20 * SOON));
        let get_many = sleeping(scope, || empty.get_many(5));
        let next = sleeping(scope, || empty.iter().next());
        let put = sleeping(scope, || full.put(1));
        let put_timeout = sleeping(scope, || full.put_timeout(1, 20 * SOON));
        let put_many = sleeping(scope, || full.put_many(vec![1, 2]));
        let put_simple = sleeping(scope, || simple.put(1));
        let start = Instant::now();
        [&empty, &full, &simple].into_iter().for_each(Queue::close);
        assert!(matches!(get.join().unwrap(), Err(GetError::Closed)));
        assert!(matches!(get_timeout.join().unwrap(), Err(GetError::Closed)));
        assert!(matches!(get_many.join().unwrap().unwrap_err().error, GetError::Closed));
        assert!(next.join().unwrap().is_none());
        assert!(matches!(put.join().unwrap().unwrap_err().fault, PutFault::Closed));
        assert!(matches!(put_timeout.join().unwrap().unwrap_err().fault, PutFault::Closed));
        let error = put_many.join().unwrap().unwrap_err();
        assert!(matches!(error.fault, PutFault::Closed) && error.put == 0);
        assert!(matches!(put_simple.join().unwrap().unwrap_err().fault, PutFault::Closed));
        assert!(start.elapsed() < SOON);
    });
    let mut other = fork(|| {
        empty.put(1).unwrap();
        assert_eq!(full.get().unwrap(), 0);
        assert!(full.is_empty());
    });
    assert_eq!((other.wait(), elsewhere.wait()), (Status::Code(0), Status::Code(0)));
}

#[test]
fn dropped_queue_takes_its_idle_feeder_along() {
    Registry::get().unwrap();
    let _test = support::test(60);
    let count = || support::census().len() + procfs::threads(std::process::id() as i32).len();
    let (before, start) = (count(), Instant::now());
    for _ in 0..100 {
        let reply = Queue::<Vec<u8>>::options().ring_bytes(512).create().unwrap();
        let other = reply.clone();
        (0..50).for_each(|_| reply.put(vec![1; 60]).unwrap());
        (0..50).for_each(|_| _ = other.get().unwrap());
        drop((reply, other));
        until(|| count() < before + 20);
    }
    assert!(start.elapsed() < 5 * SOON, "each three of them were waited for");
}

#[test]
fn join_waits_for_the_backlog() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(1024).create().unwrap();
    let joined = shared::<AtomicU64>();
    let mut child = fork(|| {
        (0..10).for_each(|i| queue.put(vec![i; 200]).unwrap());
        queue.close();
        assert_eq!(queue.join_thread_timeout(MOMENT), Err(JoinError::TimedOut));
        joined.store(1, Relaxed);
        queue.join_thread().unwrap();
    });
    until(|| joined.load(Relaxed) == 1);
    assert_eq!(child.try_wait(), None);
    (0..10).for_each(|i| assert_eq!(queue.get().unwrap(), vec![i; 200]));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn iteration_ends_where_the_user_says() {
    let _test = support::test(20);
    let queue = Queue::<Option<u32>>::new().unwrap();
    let mut child = fork(|| {
        let sum: u32 = queue.iter().map_while(Result::unwrap).sum();
        assert_eq!(sum, 6);
    });
    [Some(1), Some(2), Some(3), None, Some(4)].into_iter().for_each(|item| queue.put(item).unwrap());
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(queue.try_iter().map(Result::unwrap).collect::<Vec<_>>(), [Some(4)]);
    queue.close();
    assert!(queue.iter().next().is_none());
}

#[test]
fn senseless_sizes_are_refused() {
    assert!(matches!(Queue::<()>::bounded(0), Err(CreateError::Bound(0))));
    assert!(matches!(Queue::<()>::bounded(1 << 31), Err(CreateError::Bound(_))));
    for bytes in [0, 256, 1000, 1 << 31, usize::MAX] {
        let queue = Queue::<()>::options().ring_bytes(bytes).create();
        assert!(matches!(queue, Err(CreateError::RingBytes(_))));
    }
}

#[test]
fn no_wake_was_lost() {
    let _test = support::test(30);
    let before = ipc_sync::Registry::get().unwrap().rescues();
    let (there, back) = (Queue::<u32>::new().unwrap(), Queue::<u32>::bounded(1).unwrap());
    let mut child = fork(|| (0..20_000).for_each(|_| back.put(there.get().unwrap()).unwrap()));
    for i in 0..20_000 {
        there.put(i).unwrap();
        assert_eq!(back.get().unwrap(), i);
    }
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(ipc_sync::Registry::get().unwrap().rescues(), before);
}

#[test]
fn simple_queue_keeps_nothing_beside_the_ring() {
    let _test = support::test(20);
    let queue = SimpleQueue::<u32>::with_ring_bytes(512).unwrap();
    assert!(queue.is_empty());
    let taken = (0..).take_while(|&i| queue.try_put(i).is_ok()).count();
    assert!((20..32).contains(&taken), "{taken}");
    let start = Instant::now();
    assert!(matches!(queue.try_put(9).unwrap_err().fault, PutFault::Full));
    assert!(matches!(queue.put_timeout(9, MOMENT).unwrap_err().fault, PutFault::TimedOut));
    assert!(matches!(queue.put_bytes_deadline(b"9", start).unwrap_err(), PutFault::TimedOut));
    assert!(start.elapsed() >= MOMENT);
    assert_eq!(queue.len(), taken);
    (0..taken as u32).for_each(|i| assert_eq!(queue.try_get().unwrap(), i));
    assert!(matches!(queue.get_timeout(MOMENT), Err(GetError::TimedOut)));
    assert!(queue.is_empty() && queue.capacity().is_none());
}

#[test]
fn full_simple_queue_wakes_its_putter() {
    let _test = support::test(30);
    let queue = SimpleQueue::<Vec<u8>>::with_ring_bytes(1024).unwrap();
    let mut child = fork(|| (0..1000u32).for_each(|i| queue.put(vec![i as u8; 100]).unwrap()));
    asleep(child.pid());
    (0..1000u32).for_each(|i| assert_eq!(queue.get().unwrap(), vec![i as u8; 100]));
    assert_eq!(child.wait(), Status::Code(0));
    assert!(queue.is_empty());
}

#[test]
fn simple_queue_loses_nothing_with_its_producer() {
    let _test = support::test(30);
    let queue = SimpleQueue::<u64>::with_ring_bytes(512).unwrap();
    let put = shared::<AtomicU64>();
    let mut producer = fork(|| {
        for i in 0.. {
            queue.put(i).unwrap();
            put.store(i + 1, Relaxed);
        }
    });
    asleep(producer.pid());
    producer.kill9();
    let got = queue.try_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(got, (0..put.load(Relaxed)).collect::<Vec<_>>());
    assert!(queue.is_empty());
}

//! The end of a queue for all its processes.

mod common;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use ipc_queue::{GetError, PutFault, Queue, SimpleQueue};
use ipc_sync::{Me, Registry};
use support::step::{Fate, Script, Stage};
use support::{Status, asleep, fork, join, shared, until};

const SOON: Duration = Duration::from_secs(2);

fn is_shut<T: std::fmt::Debug>(got: Result<T, GetError>) -> bool {
    matches!(got, Err(GetError::ShutDown))
}

#[test]
fn what_was_put_is_got_and_then_comes_the_end() {
    let _test = support::test(10);
    let queue = Queue::<u32>::new().unwrap();
    queue.put_many(vec![1, 2, 3]).unwrap();
    queue.shutdown();
    queue.shutdown();
    assert!(queue.is_shut_down());
    let error = queue.put(4).unwrap_err();
    assert!(matches!(error.fault, PutFault::ShutDown) && error.value == 4);
    assert!(matches!(queue.try_put(4).unwrap_err().fault, PutFault::ShutDown));
    assert!(matches!(queue.put_many(vec![4]).unwrap_err().fault, PutFault::ShutDown));
    assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(is_shut(queue.get()) && is_shut(queue.try_get()) && is_shut(queue.get_timeout(SOON)));
    assert!(matches!(queue.get_many(4).unwrap_err().error, GetError::ShutDown));
}

#[test]
fn all_sleepers_are_woken() {
    Registry::get().unwrap();
    let _test = support::test(20);
    let empty = Queue::<u32>::new().unwrap();
    let full = Queue::<u32>::bounded(1).unwrap();
    let simple = SimpleQueue::<Vec<u8>>::with_ring_bytes(512).unwrap();
    full.put(0).unwrap();
    while simple.try_put(vec![0; 60]).is_ok() {}
    let getters = [(); 3].map(|()| fork(|| assert!(is_shut(empty.get()))));
    let putters =
        [(); 3].map(|()| fork(|| assert!(matches!(full.put(1).unwrap_err().fault, PutFault::ShutDown))));
    let simple_putter =
        fork(|| assert!(matches!(simple.put(vec![0; 60]).unwrap_err().fault, PutFault::ShutDown)));
    let sleepers: Vec<_> = getters.into_iter().chain(putters).chain([simple_putter]).collect();
    sleepers.iter().for_each(|sleeper| asleep(sleeper.pid()));
    let start = Instant::now();
    empty.shutdown();
    full.shutdown();
    simple.shutdown();
    join(sleepers);
    assert!(start.elapsed() < SOON);
}

#[test]
fn what_other_processes_keep_back_is_got_first() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(512).create().unwrap();
    let ready = shared::<AtomicU32>();
    let producers = [1, 2].map(|who| {
        let queue = &queue;
        fork(move || {
            (0..50).for_each(|_| queue.put(vec![who; 60]).unwrap());
            ready.fetch_add(1, SeqCst);
            common::flush(queue);
        })
    });
    until(|| ready.load(SeqCst) == 2);
    queue.shutdown();
    let getters = [(); 2].map(|()| {
        fork(|| {
            queue.iter().for_each(|item| {
                assert_eq!(item.unwrap().len(), 60);
                ready.fetch_add(1, SeqCst);
            });
            assert!(queue.is_empty(), "told of the end before it came");
        })
    });
    join(getters);
    join(producers);
    assert_eq!(ready.load(SeqCst), 102);
}

#[test]
fn end_comes_though_one_died_with_what_it_kept_back() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().bound(100).ring_bytes(512).create().unwrap();
    let mut producer = fork(|| {
        (0..50).for_each(|_| queue.put(vec![1; 60]).unwrap());
        thread::park();
    });
    until(|| queue.len() == 50);
    queue.shutdown();
    let killed = shared::<AtomicU32>();
    let mut getter = fork(|| {
        (0..3).for_each(|_| _ = queue.get().unwrap());
        until(|| killed.load(SeqCst) == 1);
        assert!((1..47).contains(&queue.iter().count()), "the ring has room for a few");
    });
    until(|| queue.len() < 48);
    producer.kill9();
    killed.store(1, SeqCst);
    assert_eq!(getter.wait(), Status::Code(0));
}

#[test]
fn shutdown_now_discards_and_counts() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(512).create().unwrap();
    (0..20).for_each(|_| queue.put(vec![0; 60]).unwrap());
    let ready = shared::<AtomicU32>();
    let mut producer = fork(|| {
        (0..30).for_each(|_| queue.put(vec![1; 60]).unwrap());
        ready.store(1, SeqCst);
        queue.close();
        let start = Instant::now();
        queue.join_thread().unwrap();
        assert!(start.elapsed() < SOON);
    });
    until(|| ready.load(SeqCst) == 1);
    assert_eq!(queue.shutdown_now(), 50);
    assert_eq!(queue.shutdown_now(), 0);
    assert!(is_shut(queue.get()));
    assert_eq!(producer.wait(), Status::Code(0));
    assert!(queue.is_empty());
}

#[test]
fn shutdown_amid_traffic_loses_no_item_that_was_taken_in() {
    let _test = support::test(60);
    for round in 0..40 {
        let bound = [None, Some(5), Some(100)][round % 3];
        let options = Queue::<Vec<u8>>::options().ring_bytes(1024);
        let queue = bound.into_iter().fold(options, |options, bound| options.bound(bound)).create().unwrap();
        let (put, got) = (shared::<AtomicU32>(), shared::<AtomicU32>());
        let producers = [(); 2].map(|()| {
            fork(|| {
                while queue.put(vec![7; 30]).is_ok() {
                    put.fetch_add(1, SeqCst);
                }
                common::flush(&queue);
            })
        });
        let consumers = [(); 2]
            .map(|()| fork(|| queue.iter().for_each(|item| drop((item.unwrap(), got.fetch_add(1, SeqCst))))));
        until(|| got.load(SeqCst) > 50 * (round as u32 % 7));
        queue.shutdown();
        join(producers);
        join(consumers);
        assert_eq!(put.load(SeqCst), got.load(SeqCst), "round {round}");
    }
}

fn script(now: bool) {
    Registry::get().unwrap();
    let _test = support::test(240);
    let scene = || {
        let queue = Queue::<u32>::options().ring_bytes(512).create().unwrap();
        queue.put_many(vec![1, 2, 3]).unwrap();
        queue
    };
    let victim = |queue: &Queue<u32>, stage: &Stage| {
        Me::get().unwrap();
        stage.begin();
        if now {
            queue.shutdown_now();
        } else {
            queue.shutdown();
        }
        stage.end();
    };
    let survivor = |queue: &Queue<u32>, fate: Fate| {
        let was_shut = queue.is_shut_down();
        assert_eq!(queue.put(4).is_err(), was_shut);
        assert!(was_shut || !fate.finished);
        queue.shutdown();
        let items: Vec<_> = queue.iter().map(Result::unwrap).collect();
        let expected = if was_shut { &[1, 2, 3][..] } else { &[1, 2, 3, 4] };
        assert!(items == expected || (now && was_shut && expected.ends_with(&items)), "{items:?}");
        assert!(!now || !fate.finished || items.is_empty());
    };
    Script::new("shutdown", scene, victim, survivor).run().assert_clean();
}

#[test]
fn death_at_any_instruction_of_shutdown_has_done_it_or_not() {
    script(false);
}

#[test]
fn death_at_any_instruction_of_shutdown_now_leaves_the_others_to_be_got() {
    script(true);
}

//! Batches: their order, their waits, and what a death in the middle of one leaves.

mod common;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{at, memory};
use ipc_queue::{Batch, GetError, PutFault, Queue};
use ipc_sync::Me;
use support::step::{Fate, Script, Stage};
use support::{Status, asleep, assert_exact, fork, join, shared, shared_slice, until};

const SOON: Duration = Duration::from_secs(2);

#[test]
fn batches_keep_the_order_of_their_producer() {
    let _test = support::test(60);
    const COUNT: u32 = 20_000;
    let queue = Queue::<(u32, u32)>::options().bound(100).ring_bytes(4096).create().unwrap();
    let seen = shared_slice::<AtomicU32>(2 * COUNT as usize);
    let producers = [0, 1].map(|producer| {
        let queue = &queue;
        fork(move || {
            let mut number = 0;
            while number < COUNT {
                let some = (number + 1 + number % 13).min(COUNT);
                queue.put_many((number..some).map(|number| (producer, number)).collect()).unwrap();
                number = some;
            }
            common::flush(queue);
        })
    });
    let total = shared::<AtomicU32>();
    let consumers = [3, 50].map(|max| {
        let (queue, total) = (&queue, &total);
        fork(move || {
            let mut last = [None; 2];
            while let Ok(items) = queue.get_many_timeout(max, SOON) {
                assert!((1..=max).contains(&items.len()));
                for &(producer, number) in &items {
                    assert!(last[producer as usize] < Some(number));
                    last[producer as usize] = Some(number);
                    seen[(producer * COUNT + number) as usize].fetch_add(1, SeqCst);
                }
                if total.fetch_add(items.len() as u32, SeqCst) + items.len() as u32 == 2 * COUNT {
                    return;
                }
            }
        })
    });
    join(producers);
    until(|| total.load(SeqCst) == 2 * COUNT);
    join(consumers);
    assert!(seen.iter().all(|count| count.load(SeqCst) == 1));
}

#[test]
fn batch_waits_for_the_bound_item_by_item() {
    let _test = support::test(20);
    let queue = Queue::<u32>::bounded(3).unwrap();
    let mut putter = fork(|| queue.put_many((0..10).collect()).unwrap());
    for number in 0..10 {
        assert_eq!(queue.get().unwrap(), number);
    }
    assert_eq!(putter.wait(), Status::Code(0));
    let error = queue.put_many_timeout((0..5).collect(), Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error.fault, PutFault::TimedOut), "{error:?}");
    assert_eq!((error.put, &error.rest), (3, &vec![3, 4]));
    let error = queue.try_put_bytes_many(&[b"no"]).unwrap_err();
    assert!(error.put == 0 && matches!(error.fault, PutFault::Full), "{error}");
    assert_exact(Duration::from_millis(30), |time| drop(queue.put_many_timeout(vec![1], time)));
}

#[test]
fn batch_that_the_ring_cannot_take_waits_in_its_process() {
    let _test = support::test(20);
    let queue = Queue::<Vec<u8>>::options().ring_bytes(1024).create().unwrap();
    queue.put_many((0..100).map(|i| vec![i; 100]).collect()).unwrap();
    assert_eq!(queue.len(), 100);
    let mut next = 0;
    while next < 100 {
        for item in queue.get_many(7).unwrap() {
            assert_eq!(item, [next; 100]);
            next += 1;
        }
    }
    common::flush(&queue);
}

#[test]
fn get_many_waits_for_the_first_and_for_no_other() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    assert!(queue.get_many(0).unwrap().is_empty());
    assert!(matches!(queue.try_get_many(5).unwrap_err().error, GetError::Empty));
    assert_exact(Duration::from_millis(30), |time| drop(queue.get_many_timeout(5, time)));
    let mut getter = fork(|| assert_eq!(queue.get_many(5).unwrap(), [7]));
    asleep(getter.pid());
    queue.put(7).unwrap();
    assert_eq!(getter.wait(), Status::Code(0));
}

#[test]
fn one_batch_wakes_all_it_can_feed() {
    let _test = support::test(20);
    let queue = Queue::<u32>::new().unwrap();
    let getters = [(); 4].map(|()| fork(|| _ = queue.get().unwrap()));
    getters.iter().for_each(|getter| asleep(getter.pid()));
    let start = Instant::now();
    queue.put_many(vec![0; 4]).unwrap();
    join(getters);
    assert!(start.elapsed() < SOON);
}

#[test]
fn item_of_another_type_costs_itself_only() {
    let _test = support::test(10);
    let queue = Queue::<u64>::new().unwrap();
    queue.put(1).unwrap();
    queue.put_bytes_many(&[b"odd", b"odder"]).unwrap();
    queue.put(2).unwrap();
    let error = queue.get_many(10).unwrap_err();
    assert_eq!(error.items, [1, 2]);
    assert!(matches!(&error.error, GetError::Decode { bytes, .. } if bytes == b"odd"), "{error:?}");
    assert!(matches!(&error.others[..], [GetError::Decode { bytes, .. }] if bytes == b"odder"));
}

#[test]
fn value_that_cannot_be_serialized_stops_the_batch_before_it() {
    let _test = support::test(10);
    struct Odd(bool);
    impl serde::Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 { Err(serde::ser::Error::custom("no")) } else { serializer.serialize_u8(1) }
        }
    }
    let queue = Queue::<Odd>::new().unwrap();
    let error = queue.put_many(vec![Odd(false), Odd(false), Odd(true), Odd(false)]).unwrap_err();
    assert!(matches!(error.fault, PutFault::Encode(_)));
    assert_eq!((error.put, error.rest.len(), queue.len()), (2, 2, 2));
    queue.close();
    let error = queue.put_many(vec![Odd(false)]).unwrap_err();
    assert!(matches!(error.fault, PutFault::Closed) && error.rest.len() == 1);
}

#[test]
fn garbage_in_the_ring_is_an_error_or_a_wrong_item() {
    let _test = support::test(20);
    let mut random = support::Rng::new(support::seed());
    for _ in 0..300 {
        let queue = Queue::<()>::options().ring_bytes(512).create().unwrap();
        queue.put_bytes_many(&[&[1; 10], &[2; 20], &[3; 30]]).unwrap();
        let memory = memory(&queue);
        for _ in 0..1 + random.below(8) {
            let place = at::RING + 8 * random.below(512 / 8) as usize;
            memory.write(place, &random.next().to_ne_bytes()).unwrap();
        }
        let mut batch = Batch::new();
        let got = queue.try_get_bytes_many(usize::MAX, &mut batch);
        assert!(matches!(got, Ok(()) | Err(GetError::Empty | GetError::Corrupt)), "{got:?}");
    }
}

const RING: usize = 512;

fn small() -> Queue<u64> {
    Queue::options().ring_bytes(RING).create().unwrap()
}

/// What is in the queue, and that it goes on as if nothing had happened.
fn rest(queue: &Queue<u64>) -> Vec<u64> {
    queue.put(77).unwrap();
    let mut items = Vec::new();
    while items.last() != Some(&77) {
        items.extend(queue.get_many(2).unwrap());
    }
    for round in 0..30 {
        queue.put_many(vec![round; 3]).unwrap();
        (0..3).for_each(|_| assert_eq!(queue.get().unwrap(), round));
    }
    items.pop();
    items
}

#[test]
fn death_at_any_instruction_of_put_many_leaves_the_first_of_them() {
    ipc_sync::Registry::get().unwrap();
    let _test = support::test(240);
    let victim = |queue: &Queue<u64>, stage: &Stage| {
        Me::get().unwrap();
        let items = [1u64, 2, 3].map(u64::to_ne_bytes);
        stage.begin();
        queue.put_bytes_many(&[&items[0], &items[1], &items[2]]).unwrap();
        stage.end();
    };
    let survivor = |queue: &Queue<u64>, fate: Fate| {
        let items = rest(queue);
        assert!([1, 2, 3].starts_with(&items), "{items:?}");
        assert!(!fate.finished || items.len() == 3);
    };
    Script::new("put many", small, victim, survivor).run().assert_clean();
}

#[test]
fn death_at_any_instruction_of_get_many_takes_all_of_the_batch_or_nothing() {
    ipc_sync::Registry::get().unwrap();
    let _test = support::test(240);
    let scene = || {
        let queue = small();
        queue.put_many(vec![1, 2, 3]).unwrap();
        queue
    };
    let victim = |queue: &Queue<u64>, stage: &Stage| {
        Me::get().unwrap();
        let mut batch = Batch::new();
        stage.begin();
        queue.get_bytes_many(2, &mut batch).unwrap();
        stage.end();
    };
    let survivor = |queue: &Queue<u64>, fate: Fate| {
        let items = rest(queue);
        assert!(items == [3] || (!fate.finished && items == [1, 2, 3]), "{items:?}");
    };
    Script::new("get many", scene, victim, survivor).run().assert_clean();
}

#[test]
fn killed_batches_are_whole_and_in_order() {
    let _test = support::test(60);
    let queue = Queue::<u64>::options().ring_bytes(4096).create().unwrap();
    let sent = shared::<AtomicU64>();
    for round in 0..60u64 {
        let mut producer = fork(|| {
            for batch in 0.. {
                let items = (0..5).map(|i| round << 32 | (batch * 5 + i)).collect();
                queue.put_many(items).unwrap();
                sent.fetch_add(1, SeqCst);
                if batch % 16 == 0 {
                    thread::yield_now();
                }
            }
        });
        let before = sent.load(SeqCst);
        let mut next = 0;
        until(|| {
            if let Ok(items) = queue.try_get_many(64) {
                items.iter().for_each(|&item| {
                    assert_eq!(item, round << 32 | next);
                    next += 1;
                });
            }
            sent.load(SeqCst) > before + 20 + round
        });
        producer.kill9();
        while let Ok(items) = queue.try_get_many(64) {
            items.iter().for_each(|&item| {
                assert_eq!(item, round << 32 | next);
                next += 1;
            });
        }
    }
}

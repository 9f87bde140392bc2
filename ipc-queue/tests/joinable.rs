//! What a joinable queue promises: nothing unfinished slips by `join`, and nobody dead holds it up.

mod common;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::{flush, pack, unpack_as};
use ipc_queue::{JoinTasksError, JoinableQueue, Queue, TaskDoneError};
use support::chaos::Plan;
use support::step::{Script, Stage};
use support::{Status, asleep, fork, seed, shared, until};

const MOMENT: Duration = Duration::from_millis(20);

/// The news of a death may take so long.
const NEWS: Duration = Duration::from_millis(250);

/// Takes items and finishes them until it is told to end.
fn work(queue: &JoinableQueue<Option<u32>>) {
    for item in queue.iter() {
        let more = item.unwrap().is_some();
        queue.task_done().unwrap();
        if !more {
            return;
        }
    }
}

#[test]
fn join_waits_until_what_was_taken_is_done() {
    let _test = support::test(20);
    let queue = JoinableQueue::new().unwrap();
    queue.join().unwrap();
    queue.put('a').unwrap();
    assert!(matches!(queue.join_timeout(MOMENT), Err(JoinTasksError::TimedOut)));
    assert_eq!(queue.get().unwrap(), 'a');
    assert_eq!((queue.len(), queue.unfinished()), (0, 1));
    assert!(matches!(queue.join_deadline(Instant::now()), Err(JoinTasksError::TimedOut)));
    let mut joiner = fork(|| queue.join().unwrap());
    asleep(joiner.pid());
    queue.task_done().unwrap();
    assert_eq!(joiner.wait(), Status::Code(0));
    queue.join().unwrap();
}

#[test]
fn task_done_without_a_task_is_an_error() {
    let _test = support::test(20);
    let queue = JoinableQueue::new().unwrap();
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    queue.get().unwrap();
    let mut child = fork(|| {
        let error = queue.task_done().unwrap_err(); // its parent took it
        assert!(error.to_string().contains("this process"), "{error}");
        queue.get().unwrap();
        queue.task_done().unwrap();
        assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(queue.unfinished(), 1);
    queue.task_done().unwrap();
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    assert!(queue.try_get().is_err());
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
}

#[test]
fn items_of_a_batch_are_as_many_tasks() {
    let _test = support::test(20);
    let queue = JoinableQueue::new().unwrap();
    queue.put_many((0..10).collect()).unwrap();
    assert_eq!(queue.get_many(4).unwrap(), [0, 1, 2, 3]);
    assert_eq!(queue.get_many(usize::MAX).unwrap(), [4, 5, 6, 7, 8, 9]);
    assert!(queue.try_get_many(3).is_err());
    (0..10).for_each(|_| queue.task_done().unwrap());
    assert!(queue.task_done().is_err());
    queue.join().unwrap();
}

#[test]
fn what_is_discarded_is_not_joined() {
    let _test = support::test(20);
    let queue = JoinableQueue::new().unwrap();
    queue.put_many((0..10).collect()).unwrap();
    let mut joiner = fork(|| queue.join().unwrap());
    asleep(joiner.pid());
    queue.get().unwrap();
    assert_eq!(queue.shutdown_now(), 9);
    assert_eq!(joiner.try_wait(), None);
    queue.task_done().unwrap();
    assert_eq!(joiner.wait(), Status::Code(0));
}

#[test]
fn join_waits_for_what_the_ring_cannot_take() {
    let _test = support::test(20);
    let queue = JoinableQueue::<Vec<u8>>::create(Queue::options().ring_bytes(512)).unwrap();
    let mut producer = fork(|| {
        (0..20).for_each(|i| queue.put(vec![i; 100]).unwrap());
        flush(&queue);
    });
    until(|| queue.len() == 20);
    let mut joiner = fork(|| queue.join().unwrap());
    for i in 0..20 {
        assert_eq!(joiner.try_wait(), None);
        assert_eq!(queue.get().unwrap(), vec![i; 100]);
        queue.task_done().unwrap();
    }
    assert_eq!((joiner.wait(), producer.wait()), (Status::Code(0), Status::Code(0)));
}

#[test]
fn backlog_of_a_dead_producer_holds_up_no_join() {
    let _test = support::test(20);
    let queue = JoinableQueue::<Vec<u8>>::create(Queue::options().ring_bytes(512)).unwrap();
    let mut producer = fork(|| {
        (0..20).for_each(|i| queue.put(vec![i; 100]).unwrap());
        thread::park();
    });
    until(|| queue.len() == 20);
    producer.kill9();
    while queue.try_get().is_ok() {
        queue.task_done().unwrap();
    }
    queue.join().unwrap();
}

#[test]
fn consumer_that_died_holds_up_no_join() {
    let _test = support::test(30);
    let queue = JoinableQueue::new().unwrap();
    for round in 0..20 {
        let taken = shared::<AtomicBool>();
        (0..3).for_each(|i| queue.put(i).unwrap());
        let mut consumer = fork(|| {
            (0..3).for_each(|_| _ = queue.get().unwrap());
            taken.store(true, Relaxed);
            thread::park();
        });
        until(|| taken.load(Relaxed));
        let mut joiner = fork(|| queue.join().unwrap());
        asleep(joiner.pid());
        let start = Instant::now();
        consumer.kill9();
        assert_eq!(joiner.wait(), Status::Code(0));
        assert!(start.elapsed() < NEWS, "{:?}", start.elapsed());
        assert_eq!(queue.abandoned(), 3 * (round + 1));
    }
    assert_eq!(queue.unfinished(), 0);
}

/// Also for the threads that come after it, and for another handle.
#[test]
fn items_of_a_thread_that_ended_are_its_process_s() {
    let _test = support::test(20);
    let queue = JoinableQueue::new().unwrap();
    (0..3).for_each(|i| queue.put(i).unwrap());
    let take = || _ = queue.get().unwrap();
    (0..2).for_each(|_| thread::scope(|scope| scope.spawn(take).join().unwrap()));
    assert_eq!(queue.unfinished(), 3);
    take();
    let mut joiner = fork(|| queue.join().unwrap());
    asleep(joiner.pid());
    let (bytes, descriptors) = pack(&queue);
    drop(queue);
    assert_eq!(joiner.try_wait(), None);
    let queue: JoinableQueue<u32> = unpack_as(&bytes, descriptors).unwrap();
    (0..3).for_each(|_| queue.task_done().unwrap());
    assert!(queue.task_done().is_err());
    assert_eq!(joiner.wait(), Status::Code(0));
}

#[test]
fn places_are_for_those_who_have_something_to_do() {
    let _test = support::test(60);
    let queue = JoinableQueue::new().unwrap();
    let done = shared::<AtomicU64>();
    // More than there are places, all alive at one time.
    let mut consumers: Vec<_> = (0..80u64)
        .map(|i| {
            queue.put(i).unwrap();
            let child = fork(|| {
                queue.get().unwrap();
                queue.task_done().unwrap();
                done.fetch_add(1, Relaxed);
                thread::park();
            });
            until(|| done.load(Relaxed) == i + 1);
            child
        })
        .collect();
    queue.join().unwrap();
    assert_eq!(queue.abandoned(), 0);
    consumers.iter_mut().for_each(|child| _ = child.kill9());
}

#[test]
fn many_take_part() {
    let _test = support::test(60);
    let queue = JoinableQueue::<Option<u32>>::bounded(10).unwrap();
    let consumers = [(); 4].map(|()| fork(|| work(&queue)));
    let producers = [(); 3].map(|()| fork(|| (0..5000).for_each(|i| queue.put(Some(i)).unwrap())));
    producers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    let joiners = [(); 3].map(|()| fork(|| queue.join().unwrap()));
    joiners.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    assert_eq!((queue.unfinished(), queue.abandoned()), (0, 0));
    (0..4).for_each(|_| queue.put(None).unwrap());
    consumers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
    queue.join().unwrap();
}

/// Each item but the last puts the next one before it is done: something is unfinished at every instant.
#[test]
fn chain_of_tasks_is_joined_at_its_end() {
    let _test = support::test(60);
    const LINKS: u32 = 20_000;
    let queue = JoinableQueue::<Option<u32>>::new().unwrap();
    let links = shared::<AtomicU64>();
    let link = || {
        while let Some(number) = queue.get().unwrap() {
            links.fetch_add(1, Relaxed);
            if number < LINKS {
                queue.put(Some(number + 1)).unwrap();
            }
            queue.task_done().unwrap();
        }
    };
    let consumers = [(); 3].map(|()| fork(link));
    queue.put(Some(1)).unwrap();
    while queue.join_timeout(Duration::from_micros(50)).is_err() {}
    assert_eq!(links.load(Relaxed), u64::from(LINKS));
    (0..3).for_each(|_| queue.put(None).unwrap());
    consumers.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
}

#[test]
fn random_deaths_hold_up_no_join() {
    let _test = support::test(60);
    let queue = JoinableQueue::<u64>::bounded(20).unwrap();
    let done = shared::<AtomicU64>();
    let work = |worker| match worker {
        0 => loop {
            queue.put(7).unwrap();
        },
        _ => loop {
            queue.get().unwrap();
            queue.task_done().unwrap();
            done.fetch_add(1, Relaxed);
        },
    };
    for round in 0..4 {
        let plan = Plan { workers: 4, kills: 80, seed: seed() + round };
        let mut report = plan.run(work, || done.load(Relaxed));
        assert!(!report.hang);
        report.workers[0].kill9();
        let mut joiner = fork(|| queue.join().unwrap());
        until(|| queue.is_empty());
        let start = Instant::now();
        report.workers[1..].iter_mut().for_each(|worker| _ = worker.kill9());
        assert_eq!(joiner.wait(), Status::Code(0));
        assert!(start.elapsed() < NEWS, "{:?}", start.elapsed());
        assert_eq!(queue.unfinished(), 0);
    }
}

/// A consumer dies after each instruction of `get` and `task_done`, while somebody sleeps in `join`.
#[test]
fn consumer_dies_at_any_instruction() {
    ipc_sync::Registry::get().unwrap();
    let _test = support::test(240);
    let joined = shared::<AtomicBool>();
    let scene = || {
        joined.store(false, Relaxed);
        let queue = JoinableQueue::<()>::create(Queue::options().ring_bytes(512)).unwrap();
        queue.put_bytes(b"an item").unwrap();
        (queue, std::cell::RefCell::new(None))
    };
    let victim = |(queue, _): &(JoinableQueue<()>, _), stage: &Stage| {
        ipc_sync::Me::get().unwrap();
        stage.begin();
        let mut buffer = Vec::new();
        queue.get_bytes_into(&mut buffer).unwrap();
        queue.task_done().unwrap();
        stage.end();
    };
    let joiner_sleeps = |(queue, joiner): &(JoinableQueue<()>, std::cell::RefCell<_>)| {
        let child = fork(|| {
            queue.join().unwrap();
            joined.store(true, Relaxed);
        });
        asleep(child.pid());
        *joiner.borrow_mut() = Some(child);
    };
    let survivor = |(queue, _): &(JoinableQueue<()>, _), _| {
        while queue.try_get_bytes().is_ok() {
            queue.task_done().unwrap();
        }
        until(|| joined.load(Relaxed));
        queue.join().unwrap();
        assert_eq!(queue.unfinished(), 0);
    };
    let report = Script::new("get and task_done", scene, victim, survivor).meanwhile(joiner_sleeps).run();
    support::say(&report.to_string());
    assert_eq!(report.wedged + report.wrong, 0, "{:?}", report.failures);
    // While it claims, a getter has the kernel tell the producers of its death, and not who watches it.
    assert!(report.slow < report.points / 20 && report.worst < NEWS, "{:?}", report.failures);
}

#[test]
fn joinable_queue_can_have_a_name() {
    let _test = support::test(20);
    let name = format!("joinable-{}", std::process::id());
    let queue = JoinableQueue::<u32>::named(&name).unwrap();
    queue.put(1).unwrap();
    let mut child = fork(|| {
        let there = JoinableQueue::<u32>::named(&name).unwrap();
        there.get().unwrap();
        there.task_done().unwrap();
    });
    queue.join().unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    assert!(Queue::<u32>::named(&name).is_err(), "it is of another form");
}

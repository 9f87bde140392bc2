//! What a pool is for: tasks, results in order, errors that are values.

mod support;

use std::sync::mpsc::channel;
use std::time::Duration;

use multiprocess::{Pool, Process, TaskError};

multiprocess::testing!();

/// The line that daemons hang on outlives every test.
fn begin(seconds: u64) -> support::Test {
    Process::builder().daemon(true).spawn(|()| (), ()).unwrap().join().unwrap();
    support::test(seconds)
}

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn apply_answers_the_result() {
    let _test = begin(60);
    let pool = Pool::new(2).unwrap();
    for n in 0..100 {
        assert_eq!(pool.apply(square, n).unwrap(), n * n);
    }
}

#[test]
fn map_answers_in_the_order_of_the_arguments() {
    let _test = begin(60);
    let pool = Pool::new(4).unwrap();
    for (count, chunk) in [(0, 1), (1, 1), (1000, 1), (1000, 7), (100_000, 5000)] {
        let expected: Vec<u64> = (0..count).map(square).collect();
        assert!(
            pool.tasks().chunk_size(chunk).map(square, 0..count).unwrap() == expected,
            "{count} by {chunk}"
        );
        assert!(pool.tasks().chunk_size(chunk).map_async(square, 0..count).get().unwrap() == expected);
    }
    assert!(pool.map(square, 0..1_000_000).unwrap().into_iter().eq((0..1_000_000).map(square)));
}

#[test]
fn callbacks_get_results_and_errors_once() {
    let _test = begin(60);
    let pool = Pool::new(2).unwrap();
    let (send, receive) = channel();
    for n in 0..1000 {
        let (good, bad) = (send.clone(), send.clone());
        let task = |n: u32| if n % 10 == 3 { panic!("no {n}") } else { n };
        pool.apply_async_with(
            task,
            n,
            move |n| good.send((n, true)).unwrap(),
            move |error| {
                let TaskError::Panicked { message, .. } = error else { panic!("{error}") };
                bad.send((message[3..].parse().unwrap(), false)).unwrap();
            },
        );
    }
    drop(send);
    let mut all: Vec<(u32, bool)> = receive.iter().collect();
    all.sort();
    assert!(all.into_iter().eq((0..1000).map(|n| (n, n % 10 != 3))));
}

#[test]
fn killed_worker_fails_its_task_and_is_replaced() {
    let _test = begin(60);
    let pool = Pool::new(2).unwrap();
    let idle = pool.pids();
    assert_eq!(idle.len(), 2);
    let task = pool.apply_async(|()| -> u32 { std::process::exit(7) }, ());
    let TaskError::WorkerDied { pid, status } = task.get().unwrap_err() else { panic!() };
    assert!(idle.contains(&pid) && status.code() == Some(7));
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

#[test]
fn closed_pool_does_what_it_has_and_ends() {
    let _test = begin(60);
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..100).map(|n| pool.apply_async(square, n)).collect();
    pool.close();
    assert_eq!(pool.apply(square, 1).unwrap_err(), TaskError::Closed);
    pool.join().unwrap();
    assert!(tasks.iter().zip(0..).all(|(task, n)| task.try_get() == Ok(n * n)));
    assert!(pool.pids().is_empty());
}

#[test]
fn terminate_fails_what_is_not_done_at_once() {
    let _test = begin(60);
    let pool = Pool::new(2).unwrap();
    let sleep = |()| std::thread::sleep(Duration::from_secs(1000));
    let tasks: Vec<_> = (0..10_000).map(|_| pool.apply_async(sleep, ())).collect();
    let start = std::time::Instant::now();
    pool.terminate();
    assert!(tasks.iter().all(|task| task.get() == Err(TaskError::Terminated)));
    pool.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

//! What a pool is for: tasks, results in order, errors that are values, and an orderly end.
#![allow(unsafe_code)] // a signal by number, to a worker

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use multiprocess::{
    Event, Lock, Pool, PoolError, PoolJoinError, Process, Queue, SpawnFailure, StartMethod, TaskError, Value,
    active_children, current_process, simplex, worker_state,
};
use serde::{Deserialize, Serialize};
use support::{Times, procfs, until};

multiprocess::testing!();

/// What every test starts with. The pipe that daemons hang on and the memory of primitives stay in this process, so they
/// are made before.
fn test(seconds: u64) -> support::Test {
    static LASTING: Once = Once::new();
    LASTING.call_once(|| {
        std::mem::forget((Event::new().unwrap(), Lock::new().unwrap()));
        Process::builder().daemon(true).spawn(|()| (), ()).unwrap().join().unwrap();
    });
    support::test(seconds)
}

fn square(n: u64) -> u64 {
    n * n
}

fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits in a worker until somebody opens the gate; tells that it has begun.
fn wait_at((gate, begun): (Event, Value<u32>)) -> u32 {
    begun.fetch_add(1);
    gate.wait();
    std::process::id()
}

#[test]
fn apply_answers_the_result() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    for n in 0..1000 {
        assert_eq!(pool.apply(square, n).unwrap(), n * n);
    }
    let failed: Result<u8, String> =
        pool.apply(|text: String| text.parse::<u8>().map_err(|e| e.to_string()), "x".into()).unwrap();
    assert_eq!(failed.unwrap_err(), "invalid digit found in string");
}

#[test]
fn map_answers_in_the_order_of_the_arguments() {
    let _test = test(60);
    let pool = Pool::new(4).unwrap();
    for (count, chunk) in [(0, 1), (1, 1), (1000, 1), (1000, 7), (100_000, 5000)] {
        let expected: Vec<u64> = (0..count).map(square).collect();
        assert!(
            pool.tasks().chunk_size(chunk).map(square, 0..count).unwrap() == expected,
            "{count} by {chunk}"
        );
        assert!(pool.tasks().chunk_size(chunk).map_async(square, 0..count).get().unwrap() == expected);
        let lazy = pool.tasks().chunk_size(chunk).imap(square, (0..count).filter(|_| true));
        assert!(lazy.map(Result::unwrap).eq(expected.iter().copied()));
        let mut unordered: Vec<u64> =
            pool.tasks().chunk_size(chunk).imap_unordered(square, 0..count).map(Result::unwrap).collect();
        unordered.sort();
        assert!(unordered == expected);
    }
    assert!(pool.map(square, 0..1_000_000).unwrap().into_iter().eq((0..1_000_000).map(square)));
}

#[test]
fn a_panic_is_its_own_tasks_error_and_the_others_go_on() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let picky = |n: u32| if n == 13 { panic!("no {n}") } else { n };
    for chunk in [1, 5, 100] {
        let results: Vec<_> = pool.tasks().chunk_size(chunk).imap(picky, 0..50).collect();
        assert_eq!(results.len(), 50);
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(result) => assert!(result == n && n != 13),
                Err(TaskError::Panicked { message, location }) => {
                    assert!(n == 13 && message == "no 13" && location.contains("pool_basics.rs"));
                }
                Err(error) => panic!("{error}"),
            }
        }
        let first = pool.tasks().chunk_size(chunk).map(picky, 0..50).unwrap_err();
        assert!(matches!(first, TaskError::Panicked { .. }));
    }
}

/// Refuses to be serialized, or to be read, as it is told.
#[derive(Debug, Clone, PartialEq)]
struct Stubborn(u8);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1 => Err(serde::ser::Error::custom("I stay")),
            kind => serializer.serialize_u8(kind),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            2 => Err(serde::de::Error::custom("I cannot be read")),
            3 => panic!("I panic when read"),
            kind => Ok(Stubborn(kind)),
        }
    }
}

#[test]
fn what_cannot_travel_is_its_own_tasks_error() {
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    let send = |kind| pool.apply(|kind: Stubborn| kind.0, Stubborn(kind));
    let give = |kind| pool.apply(Stubborn, kind);
    assert!(matches!(send(1), Err(TaskError::Arguments { message }) if message.contains("I stay")));
    assert!(matches!(send(2), Err(TaskError::Arguments { message }) if message.contains("I cannot be read")));
    assert!(matches!(send(3), Err(TaskError::Panicked { message, .. }) if message == "I panic when read"));
    assert!(matches!(give(1), Err(TaskError::Result { message }) if message.contains("I stay")));
    assert!(matches!(give(2), Err(TaskError::Result { message }) if message.contains("I cannot be read")));
    assert!(matches!(give(3), Err(TaskError::Result { message }) if message.contains("I panic when read")));
    assert_eq!((send(0), give(7)), (Ok(0), Ok(Stubborn(7))));
    let kinds = [0, 1, 4, 1, 5];
    let each: Vec<_> =
        pool.tasks().chunk_size(5).imap(Stubborn, kinds).map(|result| result.is_ok()).collect();
    assert_eq!(each, [true, false, true, false, true]);
    let each = pool.tasks().chunk_size(5).imap(|kind: Stubborn| kind.0, kinds.map(Stubborn));
    assert_eq!(each.map(|result| result.ok()).collect::<Vec<_>>(), [Some(0), None, Some(4), None, Some(5)]);
    assert!(matches!(
        pool.map_async(|kind: Stubborn| kind.0, kinds.map(Stubborn)).get(),
        Err(TaskError::Arguments { .. })
    ));
}

#[test]
fn large_values_and_handles_cross() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    for size in [12 << 10, (12 << 10) + 1, 64 << 10, 30 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        assert!(pool.apply(|bytes: Vec<u8>| bytes, bytes.clone()).unwrap() == bytes, "{size}");
    }
    let large: Vec<Vec<u8>> = (0..40).map(|i| vec![i; 40_000]).collect();
    assert_eq!(pool.map(|bytes: Vec<u8>| bytes, large.clone()).unwrap(), large);
    let (lock, queue) = (Lock::new().unwrap(), Queue::<u32>::new().unwrap());
    let put = |(lock, queue, n): (Lock, Queue<u32>, u32)| {
        let _guard = lock.lock().unwrap();
        queue.put(n).unwrap();
    };
    pool.map(put, (0..200).map(|n| (lock.clone(), queue.clone(), n))).unwrap();
    assert_eq!((0..200).map(|_| queue.get().unwrap()).sum::<u32>(), 199 * 100);
    let (told, tell) = simplex().unwrap();
    let back = pool
        .apply(
            |tell: multiprocess::Sender| {
                tell.send(&1u8).unwrap();
                tell
            },
            tell,
        )
        .unwrap();
    back.send(&2u8).unwrap();
    assert_eq!((told.recv::<u8>().unwrap(), told.recv::<u8>().unwrap()), (1, 2));
}

#[test]
fn callbacks_get_results_and_errors_once() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let (send, receive) = channel();
    for n in 0..1000 {
        let (good, bad) = (send.clone(), send.clone());
        let task = |n: u32| if n % 100 == 3 { panic!("no {n}") } else { n };
        let on_error = move |error| {
            let TaskError::Panicked { message, .. } = error else { panic!("{error}") };
            bad.send((message[3..].parse().unwrap(), false)).unwrap();
        };
        pool.apply_async_with(task, n, move |n| good.send((n, true)).unwrap(), on_error);
    }
    drop(send);
    let mut all: Vec<(u32, bool)> = receive.iter().collect(); // nobody waits for the pool but its own thread
    all.sort();
    assert!(all.into_iter().eq((0..1000).map(|n| (n, n % 100 != 3))));
}

#[test]
fn a_callback_may_use_the_pool() {
    let _test = test(60);
    let pool = Arc::new(Pool::new(1).unwrap());
    let (send, receive) = channel();
    for n in 0..20 {
        let (again, send) = (Arc::clone(&pool), send.clone());
        let callback = move |n| send.send(again.apply(square, n).unwrap()).unwrap();
        pool.apply_async_with(square, n, callback, |error| panic!("{error}"));
        if n % 2 == 0 {
            pool.apply(square, n).unwrap(); // then it may be this thread that calls back
        }
    }
    let mut all: Vec<u64> = (0..20).map(|_| receive.recv().unwrap()).collect();
    all.sort();
    assert!(all.into_iter().eq((0..20).map(|n| n * n * n * n)));
    drop(receive);
    pool.close();
    pool.join().unwrap();
    drop(Arc::into_inner(pool).expect("all callbacks are done with it"));
}

#[test]
fn many_threads_may_wait_at_once() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..300 {
                    assert_eq!(pool.apply(square, thread * n), Ok(thread * thread * n * n));
                }
                assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
            });
        }
    });
}

#[test]
fn cancel_is_exact() {
    let _test = test(60);
    let (gate, begun) = (Event::new().unwrap(), Value::new(0u32).unwrap());
    {
        let pool = Pool::new(1).unwrap();
        let tasks: Vec<_> =
            (0..200).map(|_| pool.apply_async(wait_at, (gate.clone(), begun.clone()))).collect();
        until(|| begun.get() == 1);
        assert!(!tasks[0].cancel() && !tasks[0].ready());
        assert!(tasks[1..].iter().skip(1).step_by(2).all(|task| task.cancel() && task.ready())); // the next one may be with the worker
        gate.set();
        let done = tasks.iter().filter(|task| task.get().is_ok()).count();
        let cancelled = tasks.iter().filter(|task| task.successful() == Ok(false)).count();
        assert_eq!((done as u32, done + cancelled), (begun.get(), 200));
        assert!(cancelled == 99);
    }
    begun.set(0).unwrap();
    let pool = Pool::new(2).unwrap();
    for round in 0..200 {
        let task = pool.apply_async(wait_at, (gate.clone(), begun.clone()));
        (0..round % 7 * 30).for_each(|_| std::hint::spin_loop());
        let before = if task.cancel() { Err(TaskError::Cancelled) } else { Ok(()) };
        assert_eq!(task.get().map(|_| ()), before);
        let ran = before.is_ok();
        pool.apply(square, 1).unwrap();
        pool.apply(square, 1).unwrap();
        assert_eq!(begun.get(), u32::from(ran));
        begun.set(0).unwrap();
    }
    let all = pool.map_async(sleep, vec![2; 1000]);
    assert!(!all.ready() && all.successful().is_err());
    until(|| !all.cancel() || all.ready()); // none has begun, or it goes on
}

#[test]
fn tasks_behind_a_long_one_go_to_others() {
    let _test = test(60);
    let (gate, begun) = (Event::new().unwrap(), Value::new(0u32).unwrap());
    let pool = Pool::new(2).unwrap();
    pool.tasks().chunk_size(1).map(square, 0..10_000).unwrap(); // now tasks are known to be short
    let long = pool.apply_async(wait_at, (gate.clone(), begun.clone()));
    let short: Vec<_> = (0..100).map(|n| pool.apply_async(square, n)).collect();
    assert!(short.iter().zip(0..).all(|(task, n)| task.get() == Ok(n * n)));
    assert!(!long.ready());
    gate.set();
    long.get().unwrap();
}

#[test]
fn imap_takes_no_more_input_than_it_needs() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let drawn = Cell::new(0);
    let input = (0..1_000_000u64).inspect(|_| drawn.set(drawn.get() + 1));
    let mut squares = pool.imap(square, input);
    assert_eq!(drawn.get(), 0);
    for n in 0..1000 {
        assert_eq!(squares.next(), Some(Ok(n * n)));
        assert!(drawn.get() <= n + 200, "{} at {n}", drawn.get());
    }
    drop(squares);
    let gate = Event::new().unwrap();
    let begun = Value::new(0u32).unwrap();
    let long = vec![(gate.clone(), begun.clone()); 100];
    let mut tasks = pool.imap_unordered(wait_at, long.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| begun.get() >= 2);
            gate.set();
        });
        tasks.next().unwrap().unwrap();
    });
    gate.clear();
    drop(tasks);
    gate.set();
    assert_eq!(pool.apply(square, 2), Ok(4));
}

#[test]
fn initializer_makes_the_state_of_each_worker() {
    let _test = test(60);
    let pool = Pool::builder().workers(2).initializer(|n: u64| Cell::new(n), 1000).unwrap().start().unwrap();
    let count = |_: u32| {
        let state = worker_state::<Cell<u64>>().unwrap();
        state.set(state.get() + 1);
        (std::process::id(), state.get(), worker_state::<u8>().is_none())
    };
    let mut counts = std::collections::BTreeMap::<u32, Vec<u64>>::new();
    for result in pool.imap(count, 0..1000) {
        let (pid, n, strange) = result.unwrap();
        counts.entry(pid).or_default().push(n);
        assert!(strange);
    }
    assert_eq!(counts.values().map(Vec::len).sum::<usize>(), 1000);
    for counts in counts.values_mut() {
        counts.sort();
        assert!(counts.iter().copied().eq(1001..=1000 + counts.len() as u64));
    }
    assert!(worker_state::<Cell<u64>>().is_none());
}

#[test]
fn failing_initializer_is_an_error_and_no_loop() {
    let _test = test(60);
    let starts = Value::new(0u32).unwrap();
    let fail = |starts: Value<u32>| -> () {
        starts.fetch_add(1);
        panic!("no such model");
    };
    let pool = Pool::builder().workers(2).initializer(fail, starts.clone()).unwrap().start().unwrap();
    let error = pool.apply(square, 1).unwrap_err();
    assert!(
        matches!(&error, TaskError::Initializer { message } if message.contains("no such model")),
        "{error}"
    );
    assert!(matches!(pool.map(square, 0..10), Err(TaskError::Initializer { .. })));
    until(|| pool.pids().is_empty());
    assert!(starts.get() <= 2);
    pool.close();
    pool.join().unwrap();

    let die = |()| std::process::exit(3);
    let pool = Pool::builder().workers(2).initializer(die, ()).unwrap().start().unwrap();
    let error = pool.apply(square, 1).unwrap_err();
    assert!(matches!(&error, TaskError::NoWorker { message } if message.contains("exit code 3")), "{error}");
}

#[test]
fn a_pool_that_cannot_be_says_why() {
    let _test = test(60);
    assert!(matches!(Pool::new(0), Err(PoolError::NoWorkers)));
    // SAFETY: it is refused.
    let fork = unsafe { StartMethod::fork() };
    assert!(matches!(Pool::builder().start_method(fork).start(), Err(PoolError::Fork)));
    let in_daemon = |()| matches!(Pool::new(1), Err(PoolError::Start(SpawnFailure::Daemon)));
    assert!(Process::builder().daemon(true).spawn(in_daemon, ()).unwrap().join().unwrap());
    let short_of_descriptors = |()| {
        let limit = libc::rlimit { rlim_cur: 40, rlim_max: 40 };
        // SAFETY: a structure of this frame.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        Pool::new(30).unwrap_err().to_string()
    };
    let error = Process::spawn(short_of_descriptors, ()).unwrap().join().unwrap();
    assert!(error.contains("Too many open files"), "{error}");
}

#[test]
fn worker_is_replaced_after_so_many_tasks() {
    let _test = test(60);
    let pool = Pool::builder().workers(2).max_tasks_per_worker(10).start().unwrap();
    let mut tasks = std::collections::BTreeMap::<u32, u32>::new();
    for result in pool.imap(|_: u32| std::process::id(), 0..100) {
        *tasks.entry(result.unwrap()).or_default() += 1;
    }
    assert!(tasks.len() >= 10 && tasks.values().all(|count| *count <= 10), "{tasks:?}");
}

/// It ends when somebody reads what it put; that is no reason for the next task to wait.
#[test]
fn worker_that_has_to_flush_is_replaced_at_once() {
    let _test = test(60);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let pool = Pool::builder().workers(1).max_tasks_per_worker(1).start().unwrap();
    let fill = |queue: Queue<Vec<u8>>| {
        (0..100).for_each(|n| queue.put(vec![n; 32 << 10]).unwrap());
        std::process::id()
    };
    let first = pool.apply(fill, queue.clone()).unwrap();
    let second = pool.apply(|()| std::process::id(), ()).unwrap();
    assert_ne!(first, second);
    assert!(procfs::state(first as i32).is_some_and(|state| state != 'Z'));
    assert!((0..100).all(|n| queue.get().unwrap() == vec![n; 32 << 10]));
    pool.close();
    pool.join().unwrap();
    assert!(matches!(procfs::state(first as i32), Some('Z') | None));
}

#[test]
fn time_limit_ends_its_own_task() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let limited = pool.tasks().time_limit(limit).retries(3);
    let (long, short) = (limited.apply_async(sleep, 100_000), limited.apply_async(sleep, 1));
    assert_eq!(long.get(), Err(TaskError::TimeLimit { limit }));
    assert!(start.elapsed() > limit && start.elapsed() < Duration::from_secs(5));
    assert_eq!(short.get(), Ok(()));
    assert_eq!(pool.apply(square, 3), Ok(9));
    // Nobody waits.
    let (send, receive) = channel();
    limited.apply_async_with(sleep, 100_000, |()| (), move |error| send.send(error).unwrap());
    assert_eq!(receive.recv_timeout(Duration::from_secs(5)), Ok(TaskError::TimeLimit { limit }));
}

#[test]
fn retries_run_the_task_of_a_dead_worker_again() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let count = Value::new(0u32).unwrap();
    let third_time = |count: Value<u32>| match count.fetch_add(1) {
        0 | 1 => std::process::abort(),
        n => n,
    };
    assert_eq!(pool.tasks().retries(2).apply(third_time, count.clone()), Ok(2));
    count.set(0).unwrap();
    let error = pool.tasks().retries(1).apply(third_time, count.clone()).unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { status, .. } if status.signal() == Some(6)));
    assert_eq!(count.get(), 2);
}

#[test]
fn get_waits_for_so_long_at_most() {
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    let task = pool.apply_async(sleep, 100_000);
    let start = Instant::now();
    assert!(
        task.get_timeout(Duration::from_millis(50)).is_err() && !task.wait_timeout(Duration::from_millis(1))
    );
    assert!(start.elapsed() >= Duration::from_millis(50) && start.elapsed() < Duration::from_secs(5));
    assert!(task.try_get().is_err() && task.successful().is_err());
}

#[test]
fn closed_pool_does_what_it_has_and_ends() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.join(), Err(PoolJoinError::Open));
    let done = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let done = Arc::clone(&done);
        pool.apply_async_with(square, n, move |_| _ = done.fetch_add(1, SeqCst), |error| panic!("{error}"));
    }
    let long = pool.apply_async(sleep, 200);
    pool.close();
    assert_eq!(pool.join_timeout(Duration::from_millis(20)), Err(PoolJoinError::StillRunning));
    assert_eq!(pool.apply(square, 1), Err(TaskError::Closed));
    pool.join().unwrap();
    assert_eq!((done.load(SeqCst), long.try_get()), (100, Ok(())));
    assert!(pool.pids().is_empty());
    pool.join().unwrap();
}

#[test]
fn terminate_fails_what_is_not_done_at_once() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let tasks: Vec<_> = (0..10_000).map(|_| pool.apply_async(sleep, 1_000_000)).collect();
    let start = Instant::now();
    pool.terminate();
    assert!(tasks.iter().all(|task| task.get() == Err(TaskError::Terminated)));
    pool.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let pool = Pool::new(2).unwrap();
    let task = pool.apply_async(sleep, 1_000_000);
    let waiter = std::thread::spawn(move || task.get());
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(waiter.join().unwrap(), Err(TaskError::Terminated));
}

#[test]
fn workers_are_named_daemons_that_ignore_ctrl_c() {
    let _test = test(60);
    let pool = Pool::builder().workers(2).name("cook").start().unwrap();
    let names: std::collections::BTreeSet<_> =
        (0..200).map(|_| pool.apply(|()| current_process().name().to_owned(), ()).unwrap()).collect();
    assert!(names.iter().all(|name| name == "cook-1" || name == "cook-2"), "{names:?}");
    assert!(active_children().iter().all(|child| child.is_daemon() && child.name().starts_with("cook-")));
    let pids = pool.pids();
    for pid in &pids {
        // SAFETY: two numbers, and the number of a living child.
        unsafe { libc::kill(*pid as i32, libc::SIGINT) };
    }
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    assert_eq!(pool.pids(), pids);
    let core = |()| {
        let mut limit = libc::rlimit { rlim_cur: 7, rlim_max: 7 };
        // SAFETY: a structure of this frame.
        unsafe { libc::getrlimit(libc::RLIMIT_CORE, &mut limit) };
        limit.rlim_cur <= 1
    };
    assert!(pool.apply(core, ()).unwrap());
    drop(pool);
    assert!(pids.iter().all(|pid| matches!(procfs::state(*pid as i32), None | Some('Z'))));
}

#[test]
fn the_end_of_a_pool_does_not_wait_for_a_backstop() {
    let _test = test(60);
    let mut times = Times::default();
    for _ in 0..20 {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(|x: u32| x + 1, 0..4).unwrap(), [1, 2, 3, 4]);
        let start = Instant::now();
        drop(pool);
        times.lap(start);
    }
    times.assert_soon();
}

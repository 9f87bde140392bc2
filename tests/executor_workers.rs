//! What only one kind of worker does: processes die, are killed, refuse what cannot be serialized; threads do not.
#![allow(unsafe_code)]

#[macro_use]
mod kinds;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kinds::{Stage, double, stay};
use multiprocess::{
    Executor, Pool, PoolError, Progress, ReturnWhen, ShutdownMode, TaskError, TerminateError, Value,
    as_completed, wait_futures, worker_state,
};
use support::until;

multiprocess::testing!();

fn for_ever(_: ()) {
    loop {
        thread::park();
    }
}

fn kill_me(signal: i32) -> u32 {
    // SAFETY: a number.
    unsafe { libc::raise(signal) };
    std::process::id()
}

for_each_process! {
    a_dead_worker_fails_exactly_its_future
    a_kill_from_outside_fails_exactly_its_future
    a_dead_worker_fails_its_chunk_and_the_map_goes_on
    terminate_kills_now_and_fails_what_is_pending
    terminate_ends_ten_thousand_tasks
    what_cannot_be_serialized_is_its_own_error
    callbacks_and_progress_of_deaths
    drop_while_a_panic_passes_by_kills
}

fn a_dead_worker_fails_exactly_its_future(stage: Stage) {
    let executor = (stage.start)(2);
    for signal in [libc::SIGKILL, libc::SIGSEGV, libc::SIGABRT] {
        let before: Vec<_> = (0..50).map(|n| (n, executor.submit(double, n))).collect();
        let dies = executor.submit(kill_me, signal);
        let after: Vec<_> = (50..100).map(|n| (n, executor.submit(double, n))).collect();
        match dies.result() {
            Err(TaskError::WorkerDied { status, .. }) => assert_eq!(status.signal(), Some(signal)),
            other => panic!("{other:?}"),
        }
        for (n, future) in before.into_iter().chain(after) {
            assert_eq!(future.result(), Ok(n * 2));
        }
    }
}

fn a_kill_from_outside_fails_exactly_its_future(stage: Stage) {
    let executor = (stage.start)(1);
    let pid = executor.submit(|()| std::process::id(), ()).result().unwrap();
    let victim = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 0));
    stage.inside.wait();
    until(|| victim.running());
    let pending: Vec<_> = (0..100).map(|n| executor.submit(double, n)).collect();
    // SAFETY: two numbers; our worker, which is alive, for its task is.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    let waited = wait_futures([victim], ReturnWhen::FirstException);
    match waited.done[0].exception() {
        Some(TaskError::WorkerDied { pid: dead, status }) => {
            assert_eq!((dead, status.signal()), (pid, Some(9)))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(as_completed(pending).filter(|future| future.exception().is_none()).count(), 100);
    assert_ne!(executor.submit(|()| std::process::id(), ()).result(), Ok(pid));
}

fn a_dead_worker_fails_its_chunk_and_the_map_goes_on(stage: Stage) {
    let executor = (stage.start)(2);
    let task = |n: u32| if n == 42 { kill_me(libc::SIGKILL) } else { n };
    let results: Vec<_> = executor.map(task, 0..100).chunk_size(10).collect();
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => assert!(value == n as u32 && n / 10 != 4),
            Err(TaskError::WorkerDied { .. }) => assert_eq!(n / 10, 4),
            Err(error) => panic!("{n}: {error}"),
        }
    }
}

fn terminate_kills_now_and_fails_what_is_pending(stage: Stage) {
    let executor = (stage.start)(2);
    let done = executor.submit(double, 1);
    assert_eq!(done.exception(), None);
    let running = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 0));
    stage.inside.wait();
    let pending: Vec<_> = (0..100).map(|_| executor.submit(for_ever, ())).collect();
    executor.terminate_workers().unwrap();
    executor.terminate_workers().unwrap();
    assert_eq!(running.result(), Err(TaskError::Terminated));
    assert!(pending.iter().all(|future| future.result() == Err(TaskError::Terminated)));
    assert_eq!(done.result(), Ok(2));
    assert_eq!(executor.submit(double, 1).result(), Err(TaskError::Closed));
    executor.shutdown(ShutdownMode::Wait);
}

fn terminate_ends_ten_thousand_tasks(stage: Stage) {
    let executor = (stage.start)(2);
    let futures: Vec<_> = (0..10_000).map(|_| executor.submit(for_ever, ())).collect();
    until(|| futures.iter().filter(|future| future.running()).count() == 2);
    let begin = Instant::now();
    executor.terminate_workers().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(futures.iter().all(|future| future.exception() == Some(TaskError::Terminated)));
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Picky {
    #[serde(serialize_with = "refuse_odd", deserialize_with = "refuse_four")]
    n: u32,
}

fn refuse_odd<S: serde::Serializer>(n: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    match n % 2 {
        1 => Err(serde::ser::Error::custom("odd numbers do not travel")),
        _ => serializer.serialize_u32(*n),
    }
}

fn refuse_four<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match serde::Deserialize::deserialize(deserializer)? {
        4 => Err(serde::de::Error::custom("four does not arrive")),
        n => Ok(n),
    }
}

fn what_cannot_be_serialized_is_its_own_error(stage: Stage) {
    let executor = (stage.start)(2);
    let take = |picky: Picky| picky.n;
    let give = |n: u32| Picky { n };
    let takes = [0, 1, 2, 4].map(|n| executor.submit(take, Picky { n }));
    let gives = [0, 1, 2, 4].map(|n| executor.submit(give, n));
    let said = |error: Option<TaskError>, what: &str| match error {
        Some(TaskError::Arguments { message } | TaskError::Result { message }) => {
            assert!(message.contains(what))
        }
        other => panic!("{other:?}"),
    };
    for futures in [takes.map(|future| future.exception()), gives.map(|future| future.exception())] {
        let [zero, one, two, four] = futures;
        assert_eq!((zero, two), (None, None));
        said(one, "odd numbers do not travel");
        said(four, "four does not arrive");
    }
    // One odd result is its own error, though it travels with others.
    let results: Vec<_> =
        executor.map(give, [0, 1, 2, 3, 6]).chunk_size(5).map(|result| result.is_ok()).collect();
    assert_eq!(results, [true, false, true, false, true]);
}

fn callbacks_and_progress_of_deaths(stage: Stage) {
    let executor = (stage.start)(2);
    let last = Arc::new(Mutex::new(Progress::default()));
    let told = Arc::clone(&last);
    executor.on_progress(move |progress| *told.lock().unwrap() = progress);
    let calls = Arc::new(AtomicUsize::new(0));
    for n in 0..200u32 {
        let task = |n: u32| if n % 20 == 7 { kill_me(libc::SIGKILL) } else { n };
        let calls = Arc::clone(&calls);
        executor.submit(task, n).add_done_callback(move |future| {
            assert_eq!(future.result().is_err(), n % 20 == 7);
            calls.fetch_add(1, SeqCst);
        });
    }
    executor.shutdown(ShutdownMode::Wait);
    assert_eq!(calls.load(SeqCst), 200);
    let last = *last.lock().unwrap();
    assert_eq!((last.submitted, last.done, last.failed, last.cancelled), (200, 190, 10, 0));
}

fn drop_while_a_panic_passes_by_kills(stage: Stage) {
    let running = Arc::new(Mutex::new(None));
    let place = Arc::clone(&running);
    let fails = thread::spawn(move || {
        let (_executor, busy) = stage.busy();
        *place.lock().unwrap() = Some(busy);
        panic!("on purpose");
    });
    fails.join().unwrap_err();
    assert_eq!(running.lock().unwrap().take().unwrap().result(), Err(TaskError::Terminated));
}

/// All that a pool's builder says is there in the executor that is made from it.
#[test]
fn an_executor_from_a_pool_keeps_its_terms() {
    let count = Value::new(0u32).unwrap();
    let start = |workers| {
        let pool = Pool::builder().workers(workers).initializer(|n: u32| n + 1, 41).unwrap();
        Executor::from(pool.retries(3).start().unwrap())
    };
    kinds::run(start, |stage| {
        let executor = (stage.start)(1);
        assert_eq!(executor.submit(|()| *worker_state::<u32>().unwrap(), ()).result(), Ok(42));
        let third_time = |count: Value<u32>| match count.fetch_add(1) + 1 {
            3 => 3,
            _ => kill_me(libc::SIGKILL),
        };
        assert_eq!(executor.submit(third_time, count).result(), Ok(3));
    });
}

#[test]
fn threads_cannot_be_terminated() {
    kinds::run(kinds::threads, |stage| {
        let executor = (stage.start)(1);
        assert_eq!(executor.terminate_workers(), Err(TerminateError::Unsupported));
        assert_eq!(executor.submit(double, 1).result(), Ok(2)); // and nothing has changed
    });
}

#[test]
fn threads_move_values_without_serializing_them() {
    kinds::run(kinds::threads, |stage| {
        #[derive(serde::Deserialize)]
        struct Opaque(u32);
        impl serde::Serialize for Opaque {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("nobody serializes in threads")
            }
        }
        let executor = (stage.start)(1);
        let moved = executor.submit(|value: Opaque| Opaque(value.0 + 1), Opaque(6));
        assert_eq!(moved.result().unwrap().0, 7);
        let total: u32 = executor.map(|value: Opaque| value.0, (0..10).map(Opaque)).map(Result::unwrap).sum();
        assert_eq!(total, 45);
    });
}

#[test]
fn no_workers_are_refused() {
    kinds::run(kinds::threads, |_| {
        assert!(matches!(Executor::threads(0), Err(PoolError::NoWorkers)));
        assert!(matches!(Executor::processes(0), Err(PoolError::NoWorkers)));
    });
}

#[test]
fn drop_because_of_a_panic_waits_for_nothing() {
    kinds::run(kinds::threads, |stage| {
        let futures = Arc::new(Mutex::new(Vec::new()));
        let (place, start, gate) = (Arc::clone(&futures), stage.start, stage.gate.clone());
        let fails = thread::spawn(move || {
            let executor = start(1);
            let (inside, gate) = (stage.inside, stage.gate);
            let task = || executor.submit(stay, (inside.clone(), gate.clone(), 7));
            place.lock().unwrap().extend([task(), task()]);
            inside.wait();
            panic!("on purpose");
        });
        fails.join().unwrap_err();
        let futures = futures.lock().unwrap();
        assert!(futures[0].running() && futures[1].cancelled());
        gate.set();
        assert_eq!(futures[0].result(), Ok(7));
    });
}

//! Tasks have the same life whoever runs them: every test runs once for each kind of worker.

#[macro_use]
mod kinds;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kinds::{Stage, double, stay};
use multiprocess::{
    Future, Progress, ReturnWhen, ShutdownMode, TaskError, TryResultError, as_completed, wait_futures,
    wait_futures_timeout,
};
use support::until;

multiprocess::testing!();

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(20);

fn odd_only(n: u32) -> u32 {
    assert!(n % 2 == 1, "{n} is even");
    n
}

for_each_kind! {
    any_mix_of_functions
    a_panic_is_its_own_futures_error
    a_task_is_cancelled_until_it_starts
    states_are_told
    result_is_taken_once_and_an_error_stays
    time_limits_of_a_wait
    callbacks_run_in_order_each_once
    completion_order
    three_ways_to_wait
    map_keeps_order_and_goes_on_after_errors
    map_takes_no_more_items_than_asked
    map_in_chunks
    a_map_that_is_dropped_cancels_the_rest
    map_with_a_time_limit
    shutdown_waits_for_all
    shutdown_without_waiting
    shutdown_cancels_what_is_pending
    no_task_after_a_shutdown
    drop_waits_for_running_and_pending_tasks
    ten_thousand_futures
    cancels_race_with_starts
    waits_for_what_is_done_already
    progress_ends_complete
    futures_dropped_before_their_tasks_end
}

fn any_mix_of_functions(stage: Stage) {
    let executor = (stage.start)(2);
    let number = executor.submit(double, 21);
    let text = executor.submit(|(a, b): (String, char)| format!("{a}{b}"), ("ab".to_owned(), 'c'));
    let nothing = executor.submit(|()| (), ());
    let failure =
        executor.submit(|text: String| text.parse::<u8>().map_err(|error| error.to_string()), "x".to_owned());
    assert_eq!(number.result().unwrap(), 42);
    assert_eq!(text.result().unwrap(), "abc");
    nothing.result().unwrap();
    assert_eq!(failure.result().unwrap().unwrap_err(), "invalid digit found in string");
    assert_eq!(executor.workers(), 2);
}

fn a_panic_is_its_own_futures_error(stage: Stage) {
    let executor = (stage.start)(1);
    let futures: Vec<_> = (0..4).map(|n| executor.submit(odd_only, n)).collect();
    for (n, future) in futures.iter().enumerate() {
        match (n % 2, future.exception()) {
            (1, None) => assert_eq!(future.result().unwrap(), n as u32),
            (0, Some(TaskError::Panicked { message, location })) => {
                assert_eq!(message, format!("{n} is even"));
                assert!(location.contains("executor_tasks.rs:"), "{location}");
            }
            (_, other) => panic!("{n}: {other:?}"),
        }
    }
}

fn a_task_is_cancelled_until_it_starts(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending: Vec<_> = (0..100).map(|n| executor.submit(double, n)).collect();
    assert!(!busy.cancel());
    let (kept, rest) = pending.split_last().unwrap();
    for future in rest {
        assert!(future.cancel() && future.cancel() && future.cancelled() && future.done());
        assert_eq!(future.exception(), Some(TaskError::Cancelled));
        assert_eq!(future.result(), Err(TaskError::Cancelled));
    }
    stage.gate.set();
    assert_eq!(kept.result().unwrap(), 198);
    assert_eq!(busy.result().unwrap(), 0);
    assert!(!busy.cancel() && !busy.cancelled());
}

fn states_are_told(stage: Stage) {
    let (executor, busy) = stage.busy();
    until(|| busy.running());
    let pending = executor.submit(double, 1);
    assert!(busy.running() && !busy.done() && !busy.cancelled());
    assert!(!pending.running() && !pending.done());
    assert_eq!(format!("{busy:?} {pending:?}"), "Future(running) Future(pending)");
    stage.gate.set();
    pending.exception();
    assert!(busy.done() && !busy.running() && pending.done());
    pending.cancel();
    assert_eq!(format!("{pending:?}"), "Future(finished)");
}

fn result_is_taken_once_and_an_error_stays(stage: Stage) {
    let executor = (stage.start)(1);
    let good = executor.submit(double, 4);
    assert_eq!(good.exception(), None);
    assert_eq!(good.result(), Ok(8));
    assert_eq!(good.result(), Err(TaskError::Taken));
    assert_eq!(good.try_result(), Err(TryResultError::Failed(TaskError::Taken)));
    let bad = executor.submit(odd_only, 4);
    let error = bad.result().unwrap_err();
    assert_eq!(bad.try_result(), Err(TryResultError::Failed(error.clone())));
    assert_eq!(bad.try_exception(), Ok(Some(error)));
}

fn time_limits_of_a_wait(stage: Stage) {
    let (executor, busy) = stage.busy();
    let start = Instant::now();
    assert_eq!(busy.result_timeout(SOON), Err(TryResultError::NotDone));
    assert_eq!(busy.result_deadline(start + 2 * SOON), Err(TryResultError::NotDone));
    assert!(busy.exception_timeout(SOON).is_err());
    assert!(busy.exception_deadline(start + 4 * SOON).is_err());
    assert!(start.elapsed() >= 4 * SOON && start.elapsed() < LATE);
    assert_eq!((busy.try_result(), busy.try_exception().is_err()), (Err(TryResultError::NotDone), true));
    let futures = [busy, executor.submit(double, 1)];
    let waited = wait_futures_timeout(&futures, ReturnWhen::FirstCompleted, SOON);
    assert_eq!((waited.done.len(), waited.not_done.len()), (0, 2));
    let mut completed = as_completed(&futures);
    assert!(completed.next_timeout(SOON).is_err() && completed.try_next().is_err());
    stage.gate.set();
    assert_eq!(completed.next_timeout(LATE).unwrap().unwrap().result(), Ok(0));
    assert_eq!(completed.next_deadline(Instant::now() + LATE).unwrap().unwrap().result_timeout(LATE), Ok(2));
    assert!(completed.next_timeout(SOON).unwrap().is_none());
}

fn callbacks_run_in_order_each_once(stage: Stage) {
    let (_executor, busy) = stage.busy();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 0..10 {
        let order = Arc::clone(&order);
        busy.add_done_callback(move |future| {
            assert!(future.done());
            order.lock().unwrap().push(n);
            assert!(n != 5, "the callback that panics");
        });
    }
    stage.gate.set();
    until(|| order.lock().unwrap().len() == 10);
    assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..10));
    let late = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&late);
    busy.add_done_callback(move |future| seen.store(future.result().unwrap() as usize + 7, SeqCst));
    until(|| late.load(SeqCst) == 7);
}

fn completion_order(stage: Stage) {
    let executor = (stage.start)(2);
    let slow = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 1));
    let quick: Vec<_> = (10..15).map(|n| executor.submit(double, n)).collect();
    let all = std::iter::once(("slow", slow)).chain(quick.into_iter().map(|future| ("quick", future)));
    let mut completed = as_completed(all);
    assert_eq!((completed.left(), completed.len()), (6, 6));
    let mut quick = Vec::new();
    for (key, future) in completed.by_ref().take(5) {
        assert_eq!(key, "quick");
        quick.push(future.result().unwrap());
    }
    quick.sort(); // two workers
    assert_eq!(quick, Vec::from_iter((10..15).map(double)));
    stage.gate.set();
    let (key, future) = completed.next().unwrap();
    assert_eq!((key, future.result().unwrap()), ("slow", 1));
    assert!(completed.next().is_none());
}

fn three_ways_to_wait(stage: Stage) {
    let executor = (stage.start)(2);
    let slow = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 1));
    let first = [slow, executor.submit(double, 5)];
    let waited = wait_futures(&first, ReturnWhen::FirstCompleted);
    assert_eq!((waited.done[0].result(), waited.not_done.len()), (Ok(10), 1));

    // A cancelled one is no failure, a panic is.
    stage.inside.wait();
    let second = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 2));
    until(|| second.running());
    let cancelled = executor.submit(double, 1);
    assert!(cancelled.cancel());
    let waited = wait_futures_timeout([&second, &cancelled], ReturnWhen::FirstException, SOON);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    let bad = executor.submit(odd_only, 2);
    let slow = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 3));
    stage.gate.set();
    let all = [second, cancelled, bad, slow];
    assert!(
        wait_futures(&all, ReturnWhen::FirstException).done.iter().any(|done| done.exception().is_some())
    );

    let waited = wait_futures(all, ReturnWhen::AllCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (4, 0));
    assert!(wait_futures(Vec::<Future<u8>>::new(), ReturnWhen::FirstCompleted).done.is_empty());
}

fn map_keeps_order_and_goes_on_after_errors(stage: Stage) {
    let executor = (stage.start)(2);
    for (n, result) in executor.map(odd_only, 0..200).enumerate() {
        match result {
            Ok(value) => assert_eq!((value, n % 2), (n as u32, 1)),
            Err(TaskError::Panicked { message, .. }) => assert_eq!(message, format!("{n} is even")),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert!(executor.map(double, []).next().is_none());
}

fn map_takes_no_more_items_than_asked(stage: Stage) {
    let executor = (stage.start)(2);
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let items = (0..).inspect(move |_| _ = counter.fetch_add(1, SeqCst));
    let mut map = executor.map(double, items).ahead(3).chunk_size(5);
    assert_eq!(taken.load(SeqCst), 0);
    assert_eq!(map.next(), Some(Ok(0)));
    assert_eq!(taken.load(SeqCst), 20); // one chunk is here, three are ahead
    assert_eq!(map.by_ref().take(4).last(), Some(Ok(8)));
    assert_eq!(taken.load(SeqCst), 20);
    assert_eq!(map.next(), Some(Ok(10)));
    assert_eq!(taken.load(SeqCst), 25);
}

fn map_in_chunks(stage: Stage) {
    let executor = (stage.start)(2);
    for size in [1, 7, 99, 100, 101] {
        let results: Result<Vec<u32>, _> = executor.map(double, 0..100).chunk_size(size).collect();
        assert_eq!(results.unwrap(), Vec::from_iter((0..100).map(double)));
    }
    let failures = executor.map(odd_only, 0..100).chunk_size(9).filter(Result::is_err).count();
    assert_eq!(failures, 50);
}

fn a_map_that_is_dropped_cancels_the_rest(stage: Stage) {
    let (executor, _busy) = stage.busy();
    let last = Arc::new(Mutex::new(Progress::default()));
    let told = Arc::clone(&last);
    executor.on_progress(move |progress| *told.lock().unwrap() = progress);
    let mut map = executor.map(double, 0..1000).ahead(10);
    assert_eq!(map.next_timeout(SOON), Some(Err(TryResultError::NotDone)));
    drop(map);
    stage.gate.set();
    until(|| last.lock().unwrap().finished() == 10);
    let progress = *last.lock().unwrap();
    assert_eq!((progress.submitted, progress.cancelled), (10, 10));
}

fn map_with_a_time_limit(stage: Stage) {
    let executor = (stage.start)(1);
    let items = (0..3).map(|n| (stage.inside.clone(), stage.gate.clone(), n));
    let mut map = executor.map(stay, items);
    let deadline = Instant::now() + SOON;
    assert_eq!(map.next_deadline(deadline), Some(Err(TryResultError::NotDone)));
    assert_eq!(map.next_deadline(deadline), Some(Err(TryResultError::NotDone)));
    stage.gate.set();
    assert_eq!(map.next_timeout(LATE), Some(Ok(0))); // it kept its turn
    assert_eq!(map.collect::<Vec<_>>(), [Ok(1), Ok(2)]);
}

fn shutdown_waits_for_all(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending: Vec<_> = (0..10).map(|n| executor.submit(double, n)).collect();
    let gate = stage.gate.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        gate.set();
    });
    executor.shutdown(ShutdownMode::Wait);
    assert!(busy.done() && pending.iter().all(Future::done));
    executor.shutdown(ShutdownMode::Wait);
    executor.shutdown(ShutdownMode::CancelPending);
    assert_eq!(pending[9].result(), Ok(18));
    opener.join().unwrap();
}

fn shutdown_without_waiting(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending = executor.submit(double, 3);
    executor.shutdown(ShutdownMode::NoWait);
    drop(executor);
    assert!(!busy.done() && !pending.done());
    stage.gate.set();
    assert_eq!((busy.result(), pending.result()), (Ok(0), Ok(6)));
}

fn shutdown_cancels_what_is_pending(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending: Vec<_> = (0..1000).map(|n| executor.submit(double, n)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| executor.shutdown(ShutdownMode::CancelPending));
        until(|| pending[999].cancelled());
        assert!(!busy.done());
        stage.gate.set();
    });
    assert_eq!(busy.result(), Ok(0));
    assert!(pending.iter().all(Future::cancelled));
}

fn no_task_after_a_shutdown(stage: Stage) {
    let executor = (stage.start)(1);
    executor.shutdown(ShutdownMode::Wait);
    let late = executor.submit(double, 1);
    assert_eq!((late.done(), late.result()), (true, Err(TaskError::Closed)));
    assert_eq!(executor.map(double, 0..2).collect::<Vec<_>>(), vec![Err(TaskError::Closed); 2]);
}

fn drop_waits_for_running_and_pending_tasks(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending = executor.submit(double, 8);
    let gate = stage.gate.clone();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(SOON);
        gate.set();
    });
    drop(executor);
    assert_eq!((busy.try_result(), pending.try_result()), (Ok(0), Ok(16)));
    opener.join().unwrap();
}

fn ten_thousand_futures(stage: Stage) {
    let executor = (stage.start)(2);
    let futures: Vec<_> = (0..10_000).map(|n| (n, executor.submit(double, n))).collect();
    let mut seen = vec![false; 10_000];
    for (n, future) in as_completed(futures) {
        assert_eq!(future.result(), Ok(n * 2));
        assert!(!std::mem::replace(&mut seen[n as usize], true));
    }
    assert!(seen.iter().all(|seen| *seen));
}

/// Whatever a cancel answers is what happened.
fn cancels_race_with_starts(stage: Stage) {
    let executor = (stage.start)(2);
    for _ in 0..20 {
        let futures: Vec<_> = (0..200).map(|n| executor.submit(double, n)).collect();
        let answers: Vec<bool> = futures.iter().rev().map(Future::cancel).collect();
        for (n, (future, cancelled)) in futures.iter().zip(answers.into_iter().rev()).enumerate() {
            let expected = if cancelled { Err(TaskError::Cancelled) } else { Ok(2 * n as u32) };
            assert_eq!(future.result(), expected);
        }
    }
}

fn waits_for_what_is_done_already(stage: Stage) {
    let executor = (stage.start)(1);
    let futures = [executor.submit(double, 1), executor.submit(odd_only, 2), executor.submit(double, 3)];
    executor.shutdown(ShutdownMode::Wait);
    for when in [ReturnWhen::FirstCompleted, ReturnWhen::FirstException, ReturnWhen::AllCompleted] {
        assert_eq!(wait_futures_timeout(&futures, when, Duration::ZERO).done.len(), 3);
    }
    let mut completed = as_completed(futures.iter().enumerate());
    for n in 0..3 {
        assert_eq!(completed.try_next().unwrap().unwrap().0, n);
    }
    assert!(completed.try_next().unwrap().is_none());
}

fn progress_ends_complete(stage: Stage) {
    let executor = (stage.start)(2);
    let told = Arc::new(Mutex::new(Vec::<Progress>::new()));
    let telling = Arc::clone(&told);
    executor.on_progress(move |progress| telling.lock().unwrap().push(progress));
    let futures: Vec<_> = (0..100).map(|n| executor.submit(odd_only, n)).collect();
    assert_eq!(executor.map(double, 0..40).chunk_size(3).filter(Result::is_ok).count(), 40);
    wait_futures(&futures, ReturnWhen::AllCompleted);
    let last = || *told.lock().unwrap().last().unwrap();
    until(|| last().finished() == 140);
    assert_eq!((last().submitted, last().done, last().failed, last().cancelled), (140, 90, 50, 0));
    let told = told.lock().unwrap();
    let grows = |pair: &[Progress]| {
        pair[0].submitted <= pair[1].submitted && pair[0].finished() <= pair[1].finished()
    };
    assert!(told.windows(2).all(grows));
}

fn futures_dropped_before_their_tasks_end(stage: Stage) {
    let (executor, busy) = stage.busy();
    drop(busy);
    let called = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let called = Arc::clone(&called);
        executor.submit(double, n).add_done_callback(move |future| {
            assert_eq!(future.result(), Ok(n * 2));
            called.fetch_add(1, SeqCst);
        });
    }
    stage.gate.set();
    executor.shutdown(ShutdownMode::Wait);
    until(|| called.load(SeqCst) == 100);
}

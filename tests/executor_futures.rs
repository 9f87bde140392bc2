//! Whoever waits for a future: async programs, many threads at once, callbacks; for each kind of worker.

#[macro_use]
mod kinds;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use kinds::{Stage, double, stay};
use multiprocess::{
    Future, ReturnWhen, ShutdownMode, TaskError, TryResultError, as_completed, wait_futures_timeout,
};
use support::until;

multiprocess::testing!();

const SOON: Duration = Duration::from_millis(20);

/// A runtime in a page: one thread, which sleeps until it is woken.
struct Unpark {
    thread: Thread,
    wakes: AtomicUsize,
}

impl Unpark {
    fn new() -> Arc<Unpark> {
        Arc::new(Unpark { thread: thread::current(), wakes: AtomicUsize::new(0) })
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

fn block_on<T>(task: impl std::future::Future<Output = T>) -> (T, usize) {
    let unpark = Unpark::new();
    let waker = Waker::from(Arc::clone(&unpark));
    let mut task = pin!(task);
    loop {
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return (value, unpark.wakes.load(SeqCst)),
            Poll::Pending => thread::park(),
        }
    }
}

for_each_kind! {
    any_runtime_awaits_a_future
    a_cancel_wakes_whoever_awaits
    a_cancel_wakes_whoever_waits
    a_result_goes_to_one_of_many_who_wait
    many_threads_wait_at_once
    threads_that_give_up_harm_no_others
    callbacks_may_add_callbacks_and_tasks
    callbacks_may_wait_for_other_tasks
    shutdown_and_drop_inside_a_callback
    many_waits_for_the_same_futures
    a_progress_hook_that_panics_is_not_called_again
    a_forked_copy_of_the_process_is_told_at_once
}

fn any_runtime_awaits_a_future(stage: Stage) {
    let executor = (stage.start)(2);
    let program = async {
        let mut sum = 0;
        for n in 0..100 {
            sum += executor.submit(double, n).await?;
        }
        let (inside, gate) = (stage.inside.clone(), stage.gate.clone());
        Ok::<u32, TaskError>(sum + executor.submit(stay, (inside, gate, 100)).await?)
    };
    let (sum, wakes) = thread::scope(|scope| {
        scope.spawn(|| {
            stage.inside.wait();
            stage.gate.set();
        });
        block_on(program)
    });
    assert_eq!(sum, Ok(10_000));
    assert!(wakes <= 101, "{wakes} wakes");
}

fn a_cancel_wakes_whoever_awaits(stage: Stage) {
    let (executor, _busy) = stage.busy();
    let mut pending = executor.submit(double, 1);
    let wakers = [Unpark::new(), Unpark::new()];
    for unpark in &wakers {
        for _ in 0..2 {
            let waker = Waker::from(Arc::clone(unpark));
            assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    assert!(pending.cancel());
    assert_eq!(wakers.map(|waker| waker.wakes.load(SeqCst)), [0, 1]); // the last one counts
    assert_eq!(block_on(pending).0, Err(TaskError::Cancelled));
    stage.gate.set();
}

fn a_cancel_wakes_whoever_waits(stage: Stage) {
    let (executor, _busy) = stage.busy();
    let pending = executor.submit(double, 1);
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| pending.result().err()),
            scope.spawn(|| pending.exception()),
            scope.spawn(|| as_completed([&pending]).next().and_then(Future::exception)),
        ];
        thread::sleep(SOON); // most of them sleep by now; it must go well if they do not, too
        assert!(pending.cancel());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(TaskError::Cancelled));
        }
    });
    stage.gate.set();
}

fn a_result_goes_to_one_of_many_who_wait(stage: Stage) {
    let executor = (stage.start)(1);
    for _ in 0..50 {
        stage.gate.clear();
        let future = executor.submit(stay, (stage.inside.clone(), stage.gate.clone(), 7));
        let taken = thread::scope(|scope| {
            let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| future.result())).collect();
            stage.gate.set();
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(taken.iter().filter(|result| **result == Ok(7)).count(), 1);
        assert_eq!(taken.iter().filter(|result| **result == Err(TaskError::Taken)).count(), 3);
    }
}

fn many_threads_wait_at_once(stage: Stage) {
    let executor = (stage.start)(2);
    thread::scope(|scope| {
        for thread in 0..8 {
            let executor = &executor;
            scope.spawn(move || match thread % 4 {
                0 => (0..300).for_each(|n| assert_eq!(executor.submit(double, n).result(), Ok(n * 2))),
                1 => assert_eq!(
                    executor.map(double, 0..1000).chunk_size(7).filter(Result::is_ok).count(),
                    1000
                ),
                2 => {
                    let futures: Vec<_> = (0..1000).map(|n| executor.submit(double, n)).collect();
                    assert_eq!(as_completed(futures).filter(|future| future.result().is_ok()).count(), 1000);
                }
                _ => (0..300).for_each(|n| assert_eq!(block_on(executor.submit(double, n)).0, Ok(n * 2))),
            });
        }
    });
}

/// One that waits may be the one that collects the results of all.
fn threads_that_give_up_harm_no_others(stage: Stage) {
    let (executor, busy) = stage.busy();
    let pending = executor.submit(double, 21);
    let give_up = || {
        for n in 0..20 {
            let waited = busy.result_timeout(Duration::from_millis(n % 3));
            assert_eq!(waited, Err(TryResultError::NotDone));
        }
    };
    thread::scope(|scope| {
        let patient = scope.spawn(|| pending.result());
        let impatient = [(); 4].map(|()| scope.spawn(give_up));
        impatient.into_iter().for_each(|thread| thread.join().unwrap());
        stage.gate.set();
        assert_eq!(patient.join().unwrap(), Ok(42));
    });
    assert_eq!(busy.result(), Ok(0));
}

fn callbacks_may_add_callbacks_and_tasks(stage: Stage) {
    let executor = Arc::new((stage.start)(1));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mine, list) = (Arc::clone(&executor), Arc::clone(&seen));
    executor.submit(double, 1).add_done_callback(move |first| {
        let (second, third) = (Arc::clone(&list), Arc::clone(&list));
        first.add_done_callback(move |_| second.lock().unwrap().push(2));
        list.lock().unwrap().push(1);
        mine.submit(double, 2)
            .add_done_callback(move |future| third.lock().unwrap().push(future.result().unwrap()));
    });
    until(|| seen.lock().unwrap().len() == 3);
    assert_eq!(*seen.lock().unwrap(), [1, 2, 4]);
    until(|| Arc::strong_count(&executor) == 1); // the callback that has the other one was dropped
}

/// With a worker that is free, that is.
fn callbacks_may_wait_for_other_tasks(stage: Stage) {
    let executor = Arc::new((stage.start)(2));
    let sum = Arc::new(AtomicUsize::new(0));
    for n in 0..20 {
        let (mine, sum) = (Arc::clone(&executor), Arc::clone(&sum));
        let future = executor.submit(double, n);
        future.add_done_callback(move |future| {
            let twice = future.result().unwrap();
            let after = mine.submit(double, twice);
            drop(mine);
            sum.fetch_add(after.result().unwrap() as usize, SeqCst);
        });
        future.exception();
        until(|| Arc::strong_count(&executor) == 1);
    }
    until(|| sum.load(SeqCst) == 4 * 190);
}

fn shutdown_and_drop_inside_a_callback(stage: Stage) {
    let executor = Arc::new((stage.start)(2));
    let gone = Arc::downgrade(&executor);
    let mine = Arc::clone(&executor);
    let pending = Arc::new(Mutex::new(Vec::new()));
    let place = Arc::clone(&pending);
    executor.submit(double, 1).add_done_callback(move |_| {
        place.lock().unwrap().extend((0..50).map(|n| mine.submit(double, n)));
        mine.shutdown(ShutdownMode::Wait);
        drop(mine);
    });
    drop(executor);
    until(|| gone.strong_count() == 0);
    // Those that were there are done, though nobody has the executor any more.
    for (n, future) in pending.lock().unwrap().iter().enumerate() {
        assert_eq!(future.result(), Ok(n as u32 * 2));
    }
}

/// Each wait takes back what it left with the futures it waited for.
fn many_waits_for_the_same_futures(stage: Stage) {
    let executor = (stage.start)(1);
    let task = || (stage.inside.clone(), stage.gate.clone(), 1);
    let futures: Vec<_> = (0..200).map(|_| executor.submit(stay, task())).collect();
    for _ in 0..200 {
        let waited = wait_futures_timeout(&futures, ReturnWhen::FirstCompleted, Duration::ZERO);
        assert_eq!(waited.not_done.len(), 200);
    }
    stage.gate.set();
    assert_eq!(as_completed(futures).filter(|future| future.exception().is_none()).count(), 200);
}

fn a_progress_hook_that_panics_is_not_called_again(stage: Stage) {
    let executor = (stage.start)(1);
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    executor.on_progress(move |_| {
        called.fetch_add(1, SeqCst);
        panic!("the hook that panics");
    });
    for n in 0..10 {
        assert_eq!(executor.submit(double, n).result(), Ok(n * 2));
    }
    drop(executor);
    assert_eq!(calls.load(SeqCst), 1);
}

/// It has none of the workers.
fn a_forked_copy_of_the_process_is_told_at_once(stage: Stage) {
    let (executor, busy) = stage.busy();
    let waiting = executor.submit(double, 1);
    let status = support::fork(|| {
        let is_told = |outcome| matches!(outcome, Err(TaskError::NoWorker { .. }));
        assert!(is_told(busy.result()) && is_told(waiting.result()) && !waiting.cancel());
        assert!(is_told(block_on(executor.submit(double, 2)).0));
        assert_eq!(as_completed([&busy, &waiting]).count(), 2);
        executor.shutdown(ShutdownMode::Wait);
    })
    .wait();
    assert_eq!(status, support::Status::Code(0));
    stage.gate.set();
    assert_eq!((busy.result(), waiting.result()), (Ok(0), Ok(2)));
}

//! What only one kind of worker has, and what a future is to an async program.

mod support;

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use multiprocess::{
    Event, Executor, Future, PoolError, ReturnWhen, ShutdownMode, TaskError, TerminateError, as_completed,
    wait_futures_timeout,
};
use support::until;

multiprocess::testing!();

const SOON: Duration = Duration::from_millis(20);

fn double(n: u32) -> u32 {
    n * 2
}

fn pass(gate: Event) {
    gate.wait();
}

/// A runtime in a page: one thread, which sleeps until it is woken.
struct Unpark {
    thread: Thread,
    wakes: AtomicUsize,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

fn block_on<T>(task: impl std::future::Future<Output = T>) -> (T, usize) {
    let unpark = Arc::new(Unpark { thread: thread::current(), wakes: AtomicUsize::new(0) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut task = pin!(task);
    loop {
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return (value, unpark.wakes.load(SeqCst)),
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn any_runtime_awaits_a_future() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let executor = Executor::threads(2).unwrap();
    let program = async {
        let mut sum = 0;
        for n in 0..100 {
            sum += executor.submit(double, n).await?;
        }
        executor.submit(pass, gate.clone()).await?;
        Ok::<u32, TaskError>(sum)
    };
    let opener = thread::spawn({
        let gate = gate.clone();
        move || {
            thread::sleep(SOON);
            gate.set();
        }
    });
    let (sum, wakes) = block_on(program);
    assert_eq!(sum, Ok(9900));
    assert!((1..=101).contains(&wakes), "{wakes} wakes");
    opener.join().unwrap();
}

#[test]
fn a_cancel_wakes_whoever_awaits() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    let busy = executor.submit(pass, gate.clone());
    let mut pending = executor.submit(double, 1);
    until(|| busy.running());
    let wakers = [0, 1].map(|_| Arc::new(Unpark { thread: thread::current(), wakes: AtomicUsize::new(0) }));
    for waker in &wakers {
        for _ in 0..2 {
            let waker = Waker::from(Arc::clone(waker));
            assert!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    assert!(pending.cancel());
    assert_eq!(wakers.map(|waker| waker.wakes.load(SeqCst)), [0, 1]); // the last one counts
    assert_eq!(block_on(pending).0, Err(TaskError::Cancelled));
    gate.set();
}

#[test]
fn a_cancel_wakes_whoever_waits() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    let _busy = executor.submit(pass, gate.clone());
    let pending = executor.submit(double, 1);
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| pending.result().err()),
            scope.spawn(|| pending.exception()),
            scope.spawn(|| as_completed([&pending]).next().and_then(Future::exception)),
        ];
        thread::sleep(SOON);
        assert!(pending.cancel());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(TaskError::Cancelled));
        }
    });
    gate.set();
}

#[test]
fn a_result_goes_to_one_of_many_who_wait() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    for _ in 0..50 {
        gate.clear();
        let future = executor.submit(pass, gate.clone());
        let taken = thread::scope(|scope| {
            let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| future.result())).collect();
            gate.set();
            waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(taken.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(taken.iter().filter(|result| **result == Err(TaskError::Taken)).count(), 3);
    }
}

#[test]
fn callbacks_may_add_callbacks_and_tasks() {
    static EXECUTOR: OnceLock<Mutex<Option<Executor>>> = OnceLock::new();
    let _test = support::test(60);
    let slot = EXECUTOR.get_or_init(|| Mutex::new(Executor::threads(1).ok()));
    let submit = |n| slot.lock().unwrap().as_ref().unwrap().submit(double, n);
    static SEEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    let first = submit(1);
    first.add_done_callback(move |first| {
        first.add_done_callback(|_| SEEN.lock().unwrap().push(2));
        SEEN.lock().unwrap().push(1);
        submit(2).add_done_callback(|future| SEEN.lock().unwrap().push(future.result().unwrap()));
    });
    until(|| SEEN.lock().unwrap().len() == 3);
    assert_eq!(*SEEN.lock().unwrap(), [1, 2, 4]);
    let executor = slot.lock().unwrap().take();
    drop(executor);
}

#[test]
fn an_executor_may_be_shut_down_and_dropped_by_its_own_callback() {
    let _test = support::test(60);
    let executor = Arc::new(Executor::threads(2).unwrap());
    let gone = Arc::downgrade(&executor);
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let (mine, wait) = (Arc::clone(&executor), Arc::clone(&gate));
    executor.submit(double, 1).add_done_callback(move |_| {
        drop(wait.lock());
        mine.shutdown(ShutdownMode::Wait);
        drop(mine);
    });
    drop(executor);
    drop(held);
    until(|| gone.strong_count() == 0);
}

#[test]
fn threads_cannot_be_terminated() {
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    assert_eq!(executor.terminate_workers(), Err(TerminateError::Unsupported));
    assert_eq!(executor.submit(double, 1).result(), Ok(2)); // and nothing has changed
}

#[test]
fn threads_move_values_without_serializing_them() {
    #[derive(serde::Deserialize)]
    struct Opaque(u32);
    impl serde::Serialize for Opaque {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("nobody serializes in threads")
        }
    }
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    let moved = executor.submit(|value: Opaque| Opaque(value.0 + 1), Opaque(6));
    assert_eq!(moved.result().unwrap().0, 7);
    let total: u32 = executor.map(|value: Opaque| value.0, (0..10).map(Opaque)).map(Result::unwrap).sum();
    assert_eq!(total, 45);
}

#[test]
fn no_workers_are_refused() {
    let _test = support::test(60);
    assert!(matches!(Executor::threads(0), Err(PoolError::NoWorkers)));
    assert!(matches!(Executor::processes(0), Err(PoolError::NoWorkers)));
}

#[test]
fn drop_while_a_panic_passes_by_does_not_wait_for_what_is_pending() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let pending = Arc::new(Mutex::new(None));
    let (place, opener) = (Arc::clone(&pending), gate.clone());
    let fails = thread::spawn(move || {
        let executor = Executor::threads(1).unwrap();
        let busy = executor.submit(pass, opener.clone());
        until(|| busy.running());
        *place.lock().unwrap() = Some(executor.submit(double, 1));
        let _executor = executor;
        panic!("on purpose");
    });
    until(|| pending.lock().unwrap().as_ref().is_some_and(Future::cancelled));
    gate.set();
    fails.join().unwrap_err();
}

/// Each wait takes back what it left with the futures it waited for.
#[test]
fn many_waits_for_the_same_futures() {
    let gate = Event::new().unwrap();
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
    let futures: Vec<_> = (0..200).map(|_| executor.submit(pass, gate.clone())).collect();
    for _ in 0..200 {
        let waited = wait_futures_timeout(&futures, ReturnWhen::FirstCompleted, Duration::ZERO);
        assert_eq!(waited.not_done.len(), 200);
    }
    gate.set();
    assert_eq!(as_completed(futures).filter(|future| future.exception().is_none()).count(), 200);
}

#[test]
fn a_progress_hook_that_panics_is_not_called_again() {
    let _test = support::test(60);
    let executor = Executor::threads(1).unwrap();
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

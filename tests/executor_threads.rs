//! What only threads do.

mod support;

use std::sync::{Arc, Mutex};
use std::thread;

use multiprocess::{Event, Executor, PoolError, TerminateError};

multiprocess::testing!();

fn double(n: u32) -> u32 {
    n * 2
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
fn drop_because_of_a_panic_waits_for_nothing() {
    let [inside, gate] = [Event::new().unwrap(), Event::new().unwrap()];
    let _test = support::test(60);
    let futures = Arc::new(Mutex::new(Vec::new()));
    let (place, events) = (Arc::clone(&futures), (inside.clone(), gate.clone()));
    let fails = thread::spawn(move || {
        let executor = Executor::threads(1).unwrap();
        let task = |(inside, gate): (Event, Event)| {
            inside.set();
            gate.wait();
        };
        place.lock().unwrap().extend([executor.submit(task, events.clone()), executor.submit(task, events)]);
        inside.wait();
        panic!("on purpose");
    });
    fails.join().unwrap_err();
    let futures = futures.lock().unwrap();
    assert!(futures[0].running() && futures[1].cancelled());
    gate.set();
    assert_eq!(futures[0].result(), Ok(()));
}

//! The kinds of workers that an executor may have, and what each test of all of them gets.
#![allow(dead_code, unused_macros, unreachable_pub)] // each test binary uses its part

use multiprocess::{Event, Executor, Future, Pool, Process, StartMethod};

/// What each test gets: who works, and events that hold tasks back and tell of them.
pub struct Stage {
    pub start: fn(usize) -> Executor,
    pub gate: Event,
    pub inside: Event,
}

impl Stage {
    /// An executor whose only worker is inside a task that ends when the gate opens.
    pub fn busy(&self) -> (Executor, Future<u32>) {
        let executor = (self.start)(1);
        let busy = executor.submit(stay, (self.inside.clone(), self.gate.clone(), 0));
        self.inside.wait();
        (executor, busy)
    }
}

/// A task that ends when the gate opens.
pub fn stay((inside, gate, result): (Event, Event, u32)) -> u32 {
    inside.set();
    gate.wait();
    result
}

pub fn double(n: u32) -> u32 {
    n * 2
}

/// Runs a test with one kind of workers.
pub fn run(start: fn(usize) -> Executor, body: impl FnOnce(Stage)) {
    let (gate, inside) = (Event::new().unwrap(), Event::new().unwrap());
    // The line that daemons hang on and the server of forks outlive every test.
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        Process::builder().daemon(true).start_method(method).spawn(|()| (), ()).unwrap().join().unwrap();
    }
    let _test = support::test(60);
    body(Stage { start, gate, inside });
}

pub fn threads(workers: usize) -> Executor {
    Executor::threads(workers).unwrap()
}

pub fn spawned(workers: usize) -> Executor {
    Executor::processes(workers).unwrap()
}

pub fn forked(workers: usize) -> Executor {
    let pool = Pool::builder().workers(workers).start_method(StartMethod::ForkServer).start();
    Executor::from(pool.unwrap())
}

/// A test of each name for worker processes that come to be in each way.
macro_rules! for_each_process {
    ($($name:ident)*) => {
        mod spawn { $( #[test] fn $name() { crate::kinds::run(crate::kinds::spawned, super::$name); } )* }
        mod forkserver { $( #[test] fn $name() { crate::kinds::run(crate::kinds::forked, super::$name); } )* }
    };
}

/// The same, and one with threads.
macro_rules! for_each_kind {
    ($($name:ident)*) => {
        mod threads { $( #[test] fn $name() { crate::kinds::run(crate::kinds::threads, super::$name); } )* }
        for_each_process! { $($name)* }
    };
}

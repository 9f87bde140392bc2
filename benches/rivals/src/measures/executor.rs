//! A [`multiprocess::Executor`] of four workers, processes or threads, with trivial tasks.

use std::hint::black_box;

use multiprocess::Executor;

use super::pool::{WORKERS, next, procspawn_many, procspawn_one, rayon, rayon_one};
use crate::calls;
use crate::cell::{Cell, Contender, Unit};
use crate::links::python;
use crate::processors::Placement;

/// Tasks under way at the same time.
const MANY: u32 = 1_000;

pub fn cells() -> Vec<Cell> {
    Placement::BOTH.into_iter().flat_map(of_placement).collect()
}

fn of_placement(placement: Placement) -> [Cell; 4] {
    let cell = |what, unit, contenders| Cell::new(what, 0, placement, unit, contenders);
    [
        cell("executor of processes, submit and result", Unit::Microseconds, processes()),
        cell("executor of processes, many submits", Unit::Millions, many_processes()),
        cell("executor of threads, submit and result", Unit::Microseconds, threads()),
        cell("executor of threads, many submits", Unit::Millions, many_threads()),
    ]
}

fn processes() -> Vec<Contender> {
    let python = python::contender("Python ProcessPoolExecutor", "executor_of_processes", None);
    vec![one("multiprocess::Executor::processes", of_processes), procspawn_one(), python]
}

fn many_processes() -> Vec<Contender> {
    let python = python::contender("Python ProcessPoolExecutor", "executor_of_processes_many", None);
    vec![many("multiprocess::Executor::processes", of_processes), procspawn_many(MANY), python]
}

fn threads() -> Vec<Contender> {
    let python = python::contender("Python ThreadPoolExecutor", "executor_of_threads", None);
    vec![one("multiprocess::Executor::threads", of_threads), rayon_one(), python]
}

fn many_threads() -> Vec<Contender> {
    let rayon = calls::contender("rayon", MANY, |_| {
        let pool = rayon();
        move || pool.scope(|scope| (0..MANY).for_each(|x| scope.spawn(move |_| _ = black_box(next(x)))))
    });
    let python = python::contender("Python ThreadPoolExecutor", "executor_of_threads_many", None);
    vec![many("multiprocess::Executor::threads", of_threads), rayon, python]
}

fn of_processes() -> Executor {
    Executor::processes(WORKERS).unwrap()
}

fn of_threads() -> Executor {
    Executor::threads(WORKERS).unwrap()
}

fn one(name: &'static str, executor: fn() -> Executor) -> Contender {
    calls::contender(name, 1, move |_| {
        let executor = executor();
        move || assert_eq!(executor.submit(next, 41).result().unwrap(), 42)
    })
}

fn many(name: &'static str, executor: fn() -> Executor) -> Contender {
    calls::contender(name, MANY, move |_| {
        let executor = executor();
        move || {
            let futures: Vec<_> = (0..MANY).map(|x| executor.submit(next, x)).collect();
            futures.into_iter().for_each(|future| _ = future.result().unwrap());
        }
    })
}

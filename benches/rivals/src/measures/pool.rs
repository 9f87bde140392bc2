//! A [`multiprocess::Pool`] of four workers with trivial tasks, and with some that compute.

use std::hint::black_box;
use std::time::Instant;

use multiprocess::Pool;
use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::calls;
use crate::cell::{Cell, Contender, Task, Unit};
use crate::links::python;
use crate::processors::Placement;

pub const WORKERS: usize = 4;
const OURS: &str = "multiprocess::Pool";
const THREADS: &str = "threads of one process: they die together";

/// Tasks of a map, one by one and in chunks.
const FEW: u32 = 2_000;
const MANY: u32 = 100_000;

/// Tasks that compute, for all workers together.
const BURNS: u64 = 8;

pub fn cells() -> Vec<Cell> {
    let mut cells: Vec<Cell> = Placement::BOTH.into_iter().flat_map(of_placement).collect();
    cells.push(cell(Placement::Two, "pool speed-up", Unit::Times, speed_up()));
    cells
}

fn of_placement(placement: Placement) -> [Cell; 3] {
    [
        cell(placement, "pool map, one by one", Unit::Millions, map_one_by_one()),
        cell(placement, "pool map, chunks", Unit::Millions, map_chunks()),
        cell(placement, "pool apply", Unit::Microseconds, apply()),
    ]
}

fn cell(placement: Placement, what: &'static str, unit: Unit, contenders: Vec<Contender>) -> Cell {
    Cell::new(what, 0, placement, unit, contenders)
}

pub fn next(x: u32) -> u32 {
    x + 1
}

fn ours() -> Pool {
    Pool::new(WORKERS).unwrap()
}

fn procspawn() -> procspawn::Pool {
    procspawn::Pool::new(WORKERS).unwrap()
}

/// One task after the other.
pub fn procspawn_one() -> Contender {
    calls::contender("procspawn", 1, |_| {
        let pool = procspawn();
        move || assert_eq!(pool.spawn(41, next).join().unwrap(), 42)
    })
}

/// So many tasks under way at the same time.
pub fn procspawn_many(count: u32) -> Contender {
    calls::contender("procspawn", count, move |_| {
        let pool = procspawn();
        move || {
            let handles: Vec<_> = (0..count).map(|x| pool.spawn(x, next)).collect();
            handles.into_iter().for_each(|handle| _ = handle.join().unwrap());
        }
    })
}

pub fn rayon() -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap()
}

pub fn rayon_one() -> Contender {
    calls::contender("rayon", 1, |_| {
        let pool = rayon();
        move || assert_eq!(pool.install(|| next(black_box(41))), 42)
    })
}

fn python(work: &'static str) -> Contender {
    python::contender(
        "Python Pool",
        work,
        Some("the task of a killed worker never ends: its map waits for ever"),
    )
}

fn map_one_by_one() -> Vec<Contender> {
    let ours = calls::contender(OURS, FEW, |_| {
        let pool = ours();
        move || assert_eq!(pool.tasks().chunk_size(1).map(next, 0..FEW).unwrap().last(), Some(&FEW))
    });
    vec![ours, procspawn_many(FEW), python("pool_map_one_by_one"), rayon_map(FEW, 1)]
}

/// Without procspawn, which has no map.
fn map_chunks() -> Vec<Contender> {
    let ours = calls::contender(OURS, MANY, |_| {
        let pool = ours();
        move || assert_eq!(pool.map(next, 0..MANY).unwrap().last(), Some(&MANY))
    });
    vec![ours, python("pool_map_chunks"), rayon_map(MANY, MANY as usize)]
}

fn rayon_map(count: u32, chunk: usize) -> Contender {
    calls::contender("rayon", count, move |_| {
        let pool = rayon();
        let map = move || (0..count).into_par_iter().with_max_len(chunk).map(next).collect::<Vec<u32>>();
        move || assert_eq!(pool.install(map).last(), Some(&count))
    })
    .wedging(THREADS)
}

fn apply() -> Vec<Contender> {
    let ours = calls::contender(OURS, 1, |_| {
        let pool = ours();
        move || assert_eq!(pool.apply(next, 41).unwrap(), 42)
    });
    vec![ours, procspawn_one(), python("pool_apply"), rayon_one().wedging(THREADS)]
}

fn speed_up() -> Vec<Contender> {
    let ours = quicker(OURS, || {
        let pool = ours();
        move || _ = pool.tasks().chunk_size(1).map(burn, 0..BURNS).unwrap()
    });
    let rayon = quicker("rayon", || {
        let pool = rayon();
        move || pool.install(|| (0..BURNS).into_par_iter().for_each(|seed| _ = burn(seed)))
    });
    vec![ours, python("pool_speed_up"), rayon.wedging(THREADS)]
}

/// How much sooner all is done than by one alone.
fn quicker<C: FnMut()>(name: &'static str, prepare: impl Fn() -> C + 'static) -> Contender {
    let run = move |task: Task| {
        task.placement.confine();
        let mut together = prepare();
        together();
        let alone = seconds(|| (0..BURNS).for_each(|seed| _ = burn(seed)));
        Ok(alone / seconds(together))
    };
    Contender { name, wedges: None, run: Box::new(run) }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Some milliseconds of multiplications, each of which waits for the one before.
fn burn(seed: u64) -> u64 {
    let step = |x: u64, n: u64| (x ^ n).wrapping_mul(6_364_136_223_846_793_005);
    black_box((0..10_000_000).fold(black_box(seed), step))
}

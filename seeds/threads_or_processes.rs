//! The same program with threads and with processes, timed: how many primes there are.
//!
//! `cargo run --release --example threads_or_processes -- [LIMIT]` counts those below LIMIT, and below three million if nobody
//! says so. What tells the two runs apart is one word.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use multiprocess::{Executor, PoolError, Progress};

type Failure = Box<dyn std::error::Error>;

/// Numbers that make one task.
const SHARE: u64 = 20_000;

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|divisor| divisor * divisor <= n).all(|divisor| n % divisor != 0)
}

fn primes_between((from, to): (u64, u64)) -> usize {
    (from..to).filter(|n| is_prime(*n)).count()
}

fn count(executor: &Executor, limit: u64) -> Result<usize, Failure> {
    let bar = bar(limit.div_ceil(SHARE));
    let shown = bar.clone();
    executor.on_progress(move |progress: Progress| shown.set_position(progress.finished() as u64));
    let shares = (0..limit).step_by(SHARE as usize).map(|from| (from, limit.min(from + SHARE)));
    let mut primes = 0;
    for found in executor.map(primes_between, shares) {
        primes += found?;
    }
    bar.finish_and_clear();
    Ok(primes)
}

/// On a terminal only; elsewhere it shows nothing.
fn bar(tasks: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks, {eta} left");
    ProgressBar::new(tasks).with_style(style.expect("a template of ours"))
}

fn time(name: &str, executor: Result<Executor, PoolError>, limit: u64) -> Result<(), Failure> {
    let executor = executor?;
    count(&executor, SHARE)?; // all workers are there
    let start = Instant::now();
    let primes = count(&executor, limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let speed = limit as f64 / seconds / 1e6;
    println!(
        "{} {name}: {primes} primes below {limit} in {seconds:.2} s, {speed:.1} million numbers a second",
        executor.workers()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    multiprocess::init();
    let limit = std::env::args().nth(1).map_or(Ok(3_000_000), |limit| limit.parse())?;
    let workers = multiprocess::cpu_count();
    time("threads", Executor::threads(workers), limit)?;
    time("processes", Executor::processes(workers), limit)
}

//! Four workers look for primes: one task with a callback, a map, results as they come, and a task that dies.
//!
//! `cargo run --release --example pool_map -- [LIMIT]`

use std::error::Error;
use std::ops::Range;

use multiprocess::{Pool, TaskError};

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}

fn count(range: Range<u64>) -> usize {
    range.filter(|n| is_prime(*n)).count()
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let limit = std::env::args().nth(1).map_or(Ok(200_000), |limit| limit.parse::<u64>())?;
    let pool = Pool::new(4)?;

    pool.apply_async_with(
        is_prime,
        1_000_003,
        |prime| println!("callback: 1000003 is prime: {prime}"),
        |error| println!("callback: {error}"),
    );
    let largest = pool.apply_async(|limit| (0..limit).rev().find(|n| is_prime(*n)), limit);

    let step = limit.div_ceil(20).max(1);
    let ranges = (0..limit).step_by(step as usize).map(|start| start..limit.min(start + step));
    let counts: Vec<usize> = pool.map(count, ranges.clone())?;
    println!("map: {} primes below {limit}, {:?} in its parts", counts.iter().sum::<usize>(), counts);
    println!("apply_async: the largest is {:?}", largest.get()?);

    let firsts = pool.imap_unordered(count, ranges).take(3).collect::<Result<Vec<_>, _>>()?;
    println!("imap_unordered: {} parts, as soon as they were done", firsts.len());

    match pool.apply(|()| std::process::abort(), ()) {
        Ok(()) => println!("nobody aborts and goes on"),
        Err(TaskError::WorkerDied { status, .. }) => println!("a worker died of its task, with {status}"),
        Err(error) => return Err(error.into()),
    }
    println!("the next one does the next task: {}", pool.apply(count, 0..100)?);
    pool.close();
    pool.join()?;
    Ok(())
}

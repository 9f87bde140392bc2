//! A worker gets numbers, sends its sum back through a pipe, and closes its end.
//!
//! `cargo run --release --example pipe_worker -- [NUMBER…]`

use std::error::Error;

use multiprocess::{Process, Sender, current_process, simplex};

fn work((numbers, answer): (Vec<i64>, Sender)) {
    let sum: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
    println!("{} (pid {}) adds {} numbers", current_process().name(), current_process().pid(), numbers.len());
    answer.send(&sum).expect("the main process listens");
    answer.close();
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let mut numbers = std::env::args().skip(1).map(|n| n.parse()).collect::<Result<Vec<i64>, _>>()?;
    if numbers.is_empty() {
        numbers = (1..=1000).collect();
    }

    let (receiver, sender) = simplex()?;
    let mut worker = Process::builder().name("worker").spawn(work, (numbers, sender))?;
    println!("sum {}", receiver.recv::<i128>()?);
    // The sender went to the worker, and nobody else holds it: when it is closed there, this is the end of the pipe.
    if let Err(end) = receiver.recv::<i128>() {
        println!("then: {end}");
    }
    worker.join()?;
    Ok(())
}

//! Producers walk folders, consumers count lines, words and bytes, and a queue is between them.
//!
//! `cargo run --release --example producer_consumer -- [PATH…]` counts what `wc` counts. Without a path it counts this
//! project, all but `target` and `.git`. Each file is counted once, however many links lead to it. What is missing or
//! cannot be read is named, and makes the exit code 1, as that of `wc`; the rest goes on.

mod report;
mod walk;
mod words;

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use multiprocess::{Process, Queue, Receiver, Sender, simplex};
use report::Done;
use walk::{Met, Seen};

type Failure = Box<dyn Error>;

/// A path, or the end of all: one for each consumer.
type Job = Option<OsString>;

const PRODUCERS: usize = 2;
const BOUND: usize = 256;

fn produce((roots, seen, queue): (Vec<OsString>, Seen, Queue<Job>)) -> Done {
    let mut done = Done::default();
    for root in roots {
        walk::walk(root.into(), &seen, |met| match met {
            Met::File(path) => {
                queue.put(Some(path.into())).expect("a path is small enough for the queue");
                done.files += 1;
            }
            Met::Trouble(path, error) => done.trouble(path.display(), error),
        });
    }
    done
}

fn consume((queue, totals): (Queue<Job>, Sender)) {
    let mut done = Done::default();
    while let Some(path) = queue.get().expect("the queue lives as long as one of us") {
        let path = Path::new(&path);
        match File::open(path).and_then(|mut file| words::count(&mut file)) {
            Ok((counts, is_text)) => done.file(path, counts, is_text),
            Err(error) => done.trouble(path.display(), error),
        }
    }
    totals.set_max_message(usize::MAX); // it may name many files
    totals.send(&done).expect("the main process listens");
}

fn main() -> Result<ExitCode, Failure> {
    multiprocess::init();
    let start = Instant::now();
    let queue = Queue::bounded(BOUND)?;
    let producers = start_producers(&queue)?;
    let consumers = start_consumers(&queue)?;

    let mut all = Done::default();
    for mut process in producers {
        match process.join() {
            Ok(done) => {
                println!("{} (pid {}) found {} files", process.name(), process.pid(), done.files);
                all.name_all(done);
            }
            Err(error) => all.trouble(process.name(), error),
        }
    }
    for _ in &consumers {
        queue.put(None)?;
    }
    for (mut process, totals) in consumers {
        let done = totals.recv::<Done>();
        match process.join() {
            Ok(()) => {
                let done = done?;
                println!("{} (pid {}) counted {done}", process.name(), process.pid());
                all.add(done);
            }
            Err(error) => all.trouble(process.name(), error),
        }
    }
    Ok(all.report(start.elapsed()))
}

fn start_producers(queue: &Queue<Job>) -> Result<Vec<Process<Done>>, Failure> {
    let seen = Seen::new()?;
    let shares = walk::shares(std::env::args_os().skip(1), &seen, PRODUCERS);
    let spawn = |(i, share)| {
        let name = format!("producer-{}", i + 1);
        Ok(Process::builder().name(name).spawn(produce, (share, seen.clone(), queue.clone()))?)
    };
    shares.into_iter().enumerate().map(spawn).collect()
}

fn start_consumers(queue: &Queue<Job>) -> Result<Vec<(Process<()>, Receiver)>, Failure> {
    let consumers = available_parallelism()?.get().clamp(2, 8);
    let spawn = |i| {
        let (totals, sender) = simplex()?;
        totals.set_max_message(usize::MAX);
        let name = format!("consumer-{i}");
        Ok((Process::builder().name(name).spawn(consume, (queue.clone(), sender))?, totals))
    };
    (1..=consumers).map(spawn).collect()
}

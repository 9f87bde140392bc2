//! Producers walk folders, consumers count lines, words and bytes, and a queue is between them.
//!
//! `cargo run --release --example producer_consumer -- [PATH…]` counts what `wc` counts. Without a path it counts this
//! project, all but `target` and `.git`. Each file is counted once, however many links lead to it. What is missing or
//! cannot be read is named, and makes the exit code 1, as that of `wc`; the rest goes on.

mod walk;
mod words;

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use multiprocess::{Process, Queue, Receiver, Sender, simplex};
use serde::{Deserialize, Serialize};
use walk::{Met, Seen};
use words::Counts;

type Failure = Box<dyn Error>;

/// A path, or the end of all: one for each consumer.
type Job = Option<OsString>;

const PRODUCERS: usize = 2;
const BOUND: usize = 256;

/// What a process did, or all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Done {
    files: u64,
    counts: Counts,
    /// Files that are no text.
    notes: Vec<String>,
    /// What is missing or cannot be read.
    troubles: Vec<String>,
}

fn produce((roots, seen, queue): (Vec<OsString>, Seen, Queue<Job>)) -> Done {
    let mut done = Done::default();
    for root in roots {
        walk::walk(root.into(), &seen, |met| match met {
            Met::File(path) => {
                queue.put(Some(path.into())).expect("a path is small enough for the queue");
                done.files += 1;
            }
            Met::Trouble(path, error) => done.troubles.push(format!("{}: {error}", path.display())),
        });
    }
    done
}

fn consume((queue, totals): (Queue<Job>, Sender)) {
    let mut done = Done::default();
    while let Some(path) = queue.get().expect("the queue lives as long as one of us") {
        let path = Path::new(&path);
        match File::open(path).and_then(|mut file| words::count(&mut file)) {
            Ok((counts, is_text)) => {
                done.files += 1;
                done.counts += counts;
                done.notes.extend((!is_text).then(|| format!("{}: not UTF-8, no words", path.display())));
            }
            Err(error) => done.troubles.push(format!("{}: {error}", path.display())),
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
        let done = process.join()?;
        println!("{} (pid {}) found {} files", process.name(), process.pid(), done.files);
        all.troubles.extend(done.troubles);
    }
    for _ in &consumers {
        queue.put(None)?;
    }
    for (mut process, totals) in consumers {
        let done: Done = totals.recv()?;
        process.join()?;
        println!("{} (pid {}) counted {}", process.name(), process.pid(), describe(&done));
        all.files += done.files;
        all.counts += done.counts;
        all.notes.extend(done.notes);
        all.troubles.extend(done.troubles);
    }
    Ok(report(all, start))
}

fn start_producers(queue: &Queue<Job>) -> Result<Vec<Process<Done>>, Failure> {
    let seen = Seen::new()?;
    let mut roots: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if roots.is_empty() {
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        for folder in ["target", "benches/rivals/target", ".git"] {
            seen.skip(&project.join(folder));
        }
        roots.push(project);
    }
    // One level down, so that there is a share of a single folder for each producer.
    let paths = roots.into_iter().flat_map(|root| walk::children(&root).unwrap_or(vec![root]));
    let mut shares = vec![Vec::new(); PRODUCERS];
    paths.enumerate().for_each(|(i, path)| shares[i % PRODUCERS].push(path.into_os_string()));
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

fn describe(done: &Done) -> String {
    let Counts { lines, words, bytes } = done.counts;
    format!("{} files, {lines} lines, {words} words, {bytes} bytes", done.files)
}

fn report(all: Done, start: Instant) -> ExitCode {
    all.notes.iter().for_each(|note| println!("{note}"));
    all.troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
    let seconds = start.elapsed().as_secs_f64();
    let rates = (all.files as f64 / seconds, all.counts.bytes as f64 / 1e6 / seconds);
    println!("total: {}", describe(&all));
    println!("rate: {:.0} files/s, {:.1} MB/s in {seconds:.3} s", rates.0, rates.1);
    ExitCode::from(u8::from(!all.troubles.is_empty()))
}

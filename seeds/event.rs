//! A start gun and a stop flag: four runners wait for one, and run until the other.
//!
//! `cargo run --release --example event`

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use multiprocess::{Event, Process, Queue, current_process};

const RUNNERS: u32 = 4;

/// What a runner needs: something to say that it is ready, the gun, the flag.
type Track = (Queue<String>, Event, Event);

fn run((ready, start, stop): Track) -> u64 {
    ready.put(current_process().name().to_owned()).expect("somebody counts us");
    start.wait();
    let mut laps = 0;
    while !stop.is_set() {
        laps += 1;
        sleep(Duration::from_millis(1));
    }
    laps
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let (ready, start, stop): Track = (Queue::new()?, Event::new()?, Event::new()?);
    let line_up = |i| {
        let track = (ready.clone(), start.clone(), stop.clone());
        Process::builder().name(format!("runner-{i}")).spawn(run, track)
    };
    let runners = (1..=RUNNERS).map(line_up).collect::<Result<Vec<_>, _>>()?;
    for _ in &runners {
        println!("{} is ready", ready.get()?);
    }

    let gun = Instant::now();
    start.set(); // all of them at once
    sleep(Duration::from_millis(100));
    stop.set();

    for (i, mut runner) in (1..).zip(runners) {
        println!("runner-{i} ran {} laps", runner.join()?);
    }
    println!("the race took {:.1} s", gun.elapsed().as_secs_f64());
    Ok(())
}

//! Ten processes print under one lock: their lines do not mix.
//!
//! `cargo run --release --example lock`

use std::error::Error;
use std::io::{self, Write};

use multiprocess::{Lock, Process, current_process};

const PROCESSES: u32 = 10;
const LINES: u32 = 3;

fn speak(lock: Lock) {
    let me = current_process();
    let mut out = io::stdout();
    let _guard = lock.lock().expect("a lock that only the living hold");
    for line in 1..=LINES {
        // In small pieces, each a write of its own: without the lock they would mix.
        for piece in [me.name(), " with pid ", &me.pid().to_string(), " says line ", &line.to_string(), "\n"]
        {
            if out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_err() {
                return; // nobody reads us any more
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let lock = Lock::new()?;
    let start = |i| Process::builder().name(format!("speaker-{i}")).spawn(speak, lock.clone());
    let speakers = (1..=PROCESSES).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut speaker in speakers {
        speaker.join()?;
    }
    Ok(())
}

//! Four processes throw dice and count in shared memory: every throw once, and no two processes ever wait for a reader.
//!
//! `cargo run --release --example shared_counter`

use std::error::Error;

use multiprocess::{Array, Process, Value};

const PROCESSES: u64 = 4;
const THROWS: u64 = 250_000;

/// The longest row of sixes: who threw it, and how long it was. Both change in one step.
type Record = [u64; 2];

fn throw_dice((player, faces, record): (u64, Array<u64>, Value<Record>)) {
    let mut random = player + 1;
    let mut row = 0;
    for _ in 0..THROWS {
        random ^= random << 13; // xorshift64, by Marsaglia
        random ^= random >> 7;
        random ^= random << 17;
        let face = (random >> 32) % 6;
        faces.fetch_add(face as usize, 1).expect("a die has six faces");
        row = if face == 5 { row + 1 } else { 0 };
        if row > record.get()[1] {
            // Somebody may have been faster since: only the lock knows.
            let improve = |best: &mut Record| *best = if row > best[1] { [player, row] } else { *best };
            record.update(improve).expect("a value that only the living hold");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let faces = Array::<u64>::new(6)?;
    let record = Value::new(Record::default())?;
    let start = |player| Process::spawn(throw_dice, (player, faces.clone(), record.clone()));
    let players = (0..PROCESSES).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut player in players {
        player.join()?;
    }
    for (count, face) in faces.iter().zip(1..) {
        println!("{face}: {count:6} {}", "#".repeat((count * 240).div_ceil(PROCESSES * THROWS) as usize));
    }
    println!("{} throws, none lost", faces.iter().sum::<u64>());
    let [player, row] = record.get();
    println!("player {player} threw {row} sixes in a row");
    Ok(())
}

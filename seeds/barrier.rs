//! A small simulation in phases: four processes warm a rod, each its part of it. Nobody takes a step before all have
//! done the last one.
//!
//! `cargo run --release --example barrier`

use std::error::Error;

use multiprocess::{Array, Barrier, Process};

const PARTS: usize = 4;
const CELLS: usize = 60;
const STEPS: usize = 3000;
const WARM: f64 = 100.0;

/// The rod now and after the next step.
type Rod = (Barrier, Array<f64>, Array<f64>);

/// Steps one part of the rod; its first cell is kept warm.
fn simulate((part, (barrier, mut now, mut next)): (usize, Rod)) {
    let cells = CELLS / PARTS;
    let ours = part * cells..(part + 1) * cells;
    for step in 1..=STEPS {
        for i in ours.clone() {
            let at = |i: usize| now.get(i.min(CELLS - 1)).expect("a cell");
            let warmth = if i == 0 { WARM } else { at(i) + (at(i - 1) - 2.0 * at(i) + at(i + 1)) / 4.0 };
            next.set(i, warmth).expect("a cell");
        }
        (now, next) = (next, now);
        let picture = || {
            if step % (STEPS / 6) == 0 {
                draw(step, &now);
            }
        };
        // The last to arrive draws, before anyone goes on.
        barrier.wait_with(picture).expect("all parts live");
    }
}

fn draw(step: usize, rod: &Array<f64>) {
    const SHADES: [char; 6] = ['.', ':', '-', '+', '*', '#'];
    let shade = |warmth: f64| SHADES[(warmth / WARM * 5.0).round() as usize % SHADES.len()];
    let picture: String = (0..CELLS).map(|i| shade(rod.get(i).expect("a cell"))).collect();
    println!("step {step:4}  {picture}");
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let rod: Rod = (Barrier::new(PARTS)?, Array::new(CELLS)?, Array::new(CELLS)?);
    let mut parts = Vec::new();
    for part in 0..PARTS {
        parts.push(Process::spawn(simulate, (part, rod.clone()))?);
    }
    for mut part in parts {
        part.join()?;
    }
    Ok(())
}

//! Contenders take turns, and a figure is the median of their repetitions.

use std::fmt;

use crate::cell::Cell;
use crate::processors::{Placement, are_two};
use crate::repetition;

const REPETITIONS: usize = 5;

/// The median of some repetitions, and between what they lay.
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// One figure for each contender of the cell, or why there is none.
pub fn take(number: usize, cell: &Cell) -> Vec<Result<Figure, String>> {
    if cell.task.placement == Placement::Two && !are_two() {
        return cell.contenders.iter().map(|_| Err("there is one processor only".into())).collect();
    }
    let mut runs: Vec<Result<Vec<f64>, String>> = cell.contenders.iter().map(|_| Ok(vec![])).collect();
    for _ in 0..REPETITIONS {
        for (contender, runs) in runs.iter_mut().enumerate() {
            repeat(number, contender, runs);
        }
    }
    runs.into_iter().map(|runs| Ok(Figure::of(runs?, cell))).collect()
}

/// One more run; who has failed once is not asked again.
fn repeat(cell: usize, contender: usize, runs: &mut Result<Vec<f64>, String>) {
    if let Ok(rates) = runs {
        match repetition::run(cell, contender) {
            Ok(rate) => rates.push(rate),
            Err(reason) => *runs = Err(reason),
        }
    }
}

impl Figure {
    fn of(rates: Vec<f64>, cell: &Cell) -> Figure {
        let mut figures: Vec<f64> =
            rates.into_iter().map(|rate| cell.unit.figure(rate, cell.task.size)).collect();
        figures.sort_by(f64::total_cmp);
        Figure { median: figures[figures.len() / 2], least: figures[0], most: figures[figures.len() - 1] }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median {
            ..1.0 => 3,
            ..100.0 => 2,
            _ => 0,
        };
        f.pad(&format!("{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.least, self.most))
    }
}

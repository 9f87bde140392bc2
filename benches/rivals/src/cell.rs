//! A cell is one work of one size in one placement, and all who do it.

use std::fmt;

use crate::processors::Placement;

pub struct Cell {
    pub what: &'static str,
    pub task: Task,
    pub unit: Unit,
    /// Ours is the first.
    pub contenders: Vec<Contender>,
}

/// What a contender is to do.
#[derive(Clone, Copy)]
pub struct Task {
    pub size: Size,
    pub placement: Placement,
}

pub struct Contender {
    pub name: &'static str,
    /// How a dying process harms the others; None if it does not.
    pub wedges: Option<&'static str>,
    /// Does the work for a while: so many operations per second, or why not.
    pub run: Box<dyn Fn(Task) -> Result<f64, String>>,
}

impl Cell {
    /// A cell for work on `size` bytes; 0 where that means nothing.
    pub fn new(
        what: &'static str,
        size: usize,
        placement: Placement,
        unit: Unit,
        contenders: Vec<Contender>,
    ) -> Cell {
        Cell { what, task: Task { size: Size(size), placement }, unit, contenders }
    }

    /// `connection round trip, 64 B, two`
    pub fn name(&self) -> String {
        let Task { size, placement } = self.task;
        match size.0 {
            0 => format!("{}, {placement}", self.what),
            _ => format!("{}, {size}, {placement}", self.what),
        }
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.name().contains(name)
    }
}

impl Contender {
    pub fn wedging(self, reason: &'static str) -> Contender {
        Contender { wedges: Some(reason), ..self }
    }
}

/// Bytes; 0 if the work has no size.
#[derive(Clone, Copy)]
pub struct Size(pub usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("-"),
            bytes if bytes >= 1 << 30 => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

#[derive(Clone, Copy)]
pub enum Unit {
    /// Time of one operation.
    Microseconds,
    Milliseconds,
    /// Operations in a second.
    Millions,
    /// Bytes in a second.
    Gigabytes,
    /// No operations, but how much sooner than by one alone.
    Times,
    /// No operations, but what share of a processor is used.
    Percent,
}

impl Unit {
    /// The figure for so many operations per second.
    pub fn figure(self, rate: f64, size: Size) -> f64 {
        match self {
            Unit::Microseconds => 1e6 / rate,
            Unit::Milliseconds => 1e3 / rate,
            Unit::Millions => rate / 1e6,
            Unit::Gigabytes => rate * size.0 as f64 / 1e9,
            Unit::Times | Unit::Percent => rate,
        }
    }

    /// Above 1 if ours is the better one.
    pub fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Unit::Microseconds | Unit::Milliseconds | Unit::Percent => theirs / ours,
            Unit::Millions | Unit::Gigabytes | Unit::Times => ours / theirs,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Microseconds => "us",
            Unit::Milliseconds => "ms",
            Unit::Millions => "M/s",
            Unit::Gigabytes => "GB/s",
            Unit::Times => "x",
            Unit::Percent => "%",
        })
    }
}

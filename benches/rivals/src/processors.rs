//! Who runs where: nothing moves a figure of two processes more than that.

use std::fmt;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// On how many processors the two sides of a work run.
#[derive(Clone, Copy, PartialEq)]
pub enum Placement {
    One,
    Two,
}

/// The one who asks or produces, or the one who answers or consumes.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    Left,
    Right,
}

impl Placement {
    pub const BOTH: [Placement; 2] = [Placement::One, Placement::Two];

    /// Ties the calling thread, and all it will start, to the processor of one side.
    pub fn pin(self, side: Side) {
        match (self, side) {
            (Placement::Two, Side::Right) => tie(&[second()]),
            _ => tie(&[first()]),
        }
    }

    /// Ties the calling thread, and all it will start, to the processors of both sides.
    pub fn confine(self) {
        match self {
            Placement::One => tie(&[first()]),
            Placement::Two => tie(&[first(), second()]),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Placement::One { "one" } else { "two" })
    }
}

fn first() -> usize {
    allowed(0).expect("this process runs somewhere")
}

fn second() -> usize {
    allowed(1).expect("two processors are asked for only where there are two")
}

/// Whether this process may use two processors.
pub fn are_two() -> bool {
    allowed(1).is_some()
}

fn allowed(which: usize) -> Option<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("the kernel tells one's own processors");
    (0..CpuSet::count()).filter(|&processor| set.is_set(processor) == Ok(true)).nth(which)
}

fn tie(processors: &[usize]) {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&processor| set.set(processor).expect("it came from such a set"));
    sched_setaffinity(Pid::from_raw(0), &set).expect("these processors are allowed");
}

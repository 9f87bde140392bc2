//! Two processes and a [`multiprocess::Connection`] between them.

use crate::cell::{Cell, Contender, Unit};
use crate::links::*;
use crate::measures::contenders;
use crate::processors::Placement;
use crate::record::Record;

const PYTHON: &str = "Python Connection";

pub fn cells() -> Vec<Cell> {
    Placement::BOTH.into_iter().flat_map(of_placement).collect()
}

fn of_placement(placement: Placement) -> Vec<Cell> {
    let cell = |what, size, unit, contenders| Cell::new(what, size, placement, unit, contenders);
    let round_trip = |size| cell("connection round trip", size, Unit::Microseconds, round_trips(size));
    let handed_over = |size| {
        cell("connection round trip handed over", size, Unit::Microseconds, handed_over_and_back(size))
    };
    let one_way = |size, unit| cell("connection one way", size, unit, one_ways(size));
    vec![
        round_trip(64),
        round_trip(64 << 10),
        round_trip(1 << 20),
        cell("connection round trip of a struct", Record::SIZE, Unit::Microseconds, typed_round_trips()),
        one_way(64, Unit::Millions),
        one_way(1 << 20, Unit::Gigabytes),
        cell("connection round trip in place", 64, Unit::Microseconds, loans()),
        handed_over(64),
        handed_over(1 << 20),
        cell("connection one way handed over", 1 << 20, Unit::Millions, handed_over_one_way(1 << 20)),
    ]
}

fn round_trips(size: usize) -> Vec<Contender> {
    let mut contenders = contenders![size, round_trip;
        OurPipe, IpcChannel, Iceoryx, Interprocess, Cloudtoid, ShmemIpc, Pipe, Socketpair, Crossbeam,
        SpinRing];
    contenders.push(python::contender(PYTHON, "pipe_round_trip", None));
    contenders
}

fn typed_round_trips() -> Vec<Contender> {
    let mut contenders = contenders![Record::SIZE, round_trip; OurPipeTyped, IpcChannelTyped, CrossbeamTyped];
    contenders.push(python::contender(PYTHON, "pipe_typed", None));
    contenders
}

fn one_ways(size: usize) -> Vec<Contender> {
    let mut contenders = contenders![size, one_way;
        OurPipe, IpcChannel, Iceoryx, Interprocess, Cloudtoid, ShmemIpc, Pipe, Socketpair, Crossbeam,
        SpinRing];
    contenders.push(python::contender(PYTHON, "pipe_one_way", None));
    contenders
}

/// Written and read all, where they lie.
fn loans() -> Vec<Contender> {
    contenders![64, round_trip; OurLoan, Iceoryx]
}

fn handed_over_and_back(size: usize) -> Vec<Contender> {
    contenders![size, round_trip; OurPayload, IceoryxLoan, IpcChannelMemory]
}

fn handed_over_one_way(size: usize) -> Vec<Contender> {
    contenders![size, one_way; OurPayload, IceoryxLoan, IpcChannelMemory]
}

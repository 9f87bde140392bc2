//! Many processes and a [`multiprocess::Queue`] between them.

use crate::cell::{Cell, Contender, Unit};
use crate::links::*;
use crate::measures::contenders;
use crate::processors::Placement;
use crate::record::Record;

const SIZE: usize = 64;
const LARGE: usize = 1 << 20;

pub fn cells() -> Vec<Cell> {
    Placement::BOTH.into_iter().flat_map(of_placement).collect()
}

fn of_placement(placement: Placement) -> Vec<Cell> {
    let cell = |what, size, unit, contenders| Cell::new(what, size, placement, unit, contenders);
    vec![
        cell("queue 1 to 1", SIZE, Unit::Millions, one_to_one(SIZE)),
        cell("queue 1 to 1", LARGE, Unit::Gigabytes, one_to_one(LARGE)),
        cell("queue 4 to 1", SIZE, Unit::Millions, four_to_one()),
        cell("queue 1 to 4", SIZE, Unit::Millions, one_to_four()),
        cell("queue by eights", SIZE, Unit::Millions, by_eights()),
        cell("queue of structs", Record::SIZE, Unit::Millions, structs()),
        cell("queue round trip", SIZE, Unit::Microseconds, round_trips()),
    ]
}

fn one_to_one(size: usize) -> Vec<Contender> {
    let mut contenders = contenders![size, one_way;
        OurQueue, IpcChannel, Cloudtoid, ShmemIpc, Pipe, Socketpair, Crossbeam, SpinRing];
    contenders.push(python("queue_1_to_1"));
    contenders
}

fn four_to_one() -> Vec<Contender> {
    let mut contenders =
        contenders![SIZE, four_to_one; OurQueue, IpcChannel, Cloudtoid, Pipe, Socketpair, Crossbeam];
    contenders.push(python("queue_4_to_1"));
    contenders
}

/// Without those that have one consumer only.
fn one_to_four() -> Vec<Contender> {
    let mut contenders = contenders![SIZE, one_to_four; OurQueue, Cloudtoid, Pipe, Socketpair, Crossbeam];
    contenders.push(python("queue_1_to_4"));
    contenders
}

/// Beside those that can do so, and those that have no need to.
fn by_eights() -> Vec<Contender> {
    let mut contenders = contenders![SIZE, by_eights; OurBatch, CloudtoidBatch];
    contenders.extend(contenders![SIZE, one_way; ShmemIpc, Crossbeam, SpinRing]);
    contenders
}

fn structs() -> Vec<Contender> {
    let mut contenders = contenders![Record::SIZE, one_way; OurQueueTyped, IpcChannelTyped, CrossbeamTyped];
    contenders.push(python("queue_typed"));
    contenders
}

fn round_trips() -> Vec<Contender> {
    let mut contenders = contenders![SIZE, round_trip;
        OurQueue, IpcChannel, Cloudtoid, ShmemIpc, Pipe, Socketpair, Crossbeam, SpinRing];
    contenders.push(python("queue_round_trip"));
    contenders
}

fn python(work: &'static str) -> Contender {
    let wedges = "a process killed in get or put keeps its lock, and all others wait for ever";
    python::contender("Python Queue", work, Some(wedges))
}

//! A pair of acquire and release, of two permits.

use ipc_sync::Semaphore;

use crate::table::{Better, Table, way};
use crate::{pthread, race};

const PERMITS: u32 = 2;

pub(crate) fn run() {
    let table = Table::new("Semaphore(2): ns per pair", Better::Less);
    let ours = Semaphore::new(PERMITS).unwrap();
    let theirs = pthread::Semaphore::new(PERMITS);
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || drop(ours.acquire().unwrap()));
        table.row(what, ours, &[way("sem_t", || race::processes(count, || theirs.pair()))]);
    }
}

//! A pair of lock and unlock of a lock that its owner may take again; and a pair inside another.

use ipc_sync::ReentrantLock;

use crate::pthread::Mutex;
use crate::race;
use crate::table::{Better, Table, way};

pub(crate) fn run() {
    let table = Table::new("ReentrantLock: ns per pair", Better::Less);
    let ours = ReentrantLock::new().unwrap();
    let theirs = Mutex::recursive();
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || drop(ours.lock().unwrap()));
        let theirs = || race::processes(count, || theirs.with(|| ()));
        table.row(what, ours, &[way("pthread recursive robust", theirs)]);
    }
    let ours = || race::processes(1, || drop((ours.lock().unwrap(), ours.lock().unwrap())));
    let theirs = || race::processes(1, || theirs.with(|| theirs.with(|| ())));
    table.row("1 process, taken twice", ours, &[way("pthread recursive robust", theirs)]);
}

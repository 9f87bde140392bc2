//! A pair of read, or write, and unlock.

use ipc_sync::RwLock;

use crate::table::{Better, Table, way};
use crate::{pthread, race};

pub(crate) fn run() {
    let ours = RwLock::new().unwrap();
    let theirs = pthread::RwLock::new();
    let table = Table::new("RwLock, read: ns per pair", Better::Less);
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || drop(ours.read().unwrap()));
        table.row(what, ours, &[way("pthread_rwlock", || race::processes(count, || theirs.read()))]);
    }
    let table = Table::new("RwLock, write: ns per pair", Better::Less);
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || drop(ours.write().unwrap()));
        table.row(what, ours, &[way("pthread_rwlock", || race::processes(count, || theirs.write()))]);
    }
}

//! A pair of lock and unlock.

use ipc_sync::Lock;

use crate::pthread::Mutex;
use crate::race;
use crate::rivals::RawSync;
use crate::table::{Better, Table, way};

pub(crate) fn run() {
    let table = Table::new("Lock: ns per pair", Better::Less);
    let ours = Lock::new().unwrap();
    let (robust, plain) = (Mutex::robust(), Mutex::plain());
    let raw_sync = RawSync::new();
    let parking_lot = parking_lot::Mutex::new(());
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || drop(ours.lock().unwrap()));
        table.row(
            what,
            ours,
            &[
                way("pthread robust", || race::processes(count, || robust.with(|| ()))),
                way("pthread plain", || race::processes(count, || plain.with(|| ()))),
                way("raw_sync Mutex", || race::processes(count, || raw_sync.pair())),
                // Threads of one process: it knows no other.
                way("parking_lot, threads", || race::threads(count, || drop(parking_lot.lock()))),
            ],
        );
    }
}

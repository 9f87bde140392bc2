//! One added to a shared number.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use ipc_sync::Value;

use crate::pthread::Mutex;
use crate::race;
use crate::table::{Better, Table, way};
use support::shared;

pub(crate) fn run() {
    let bare = shared::<AtomicU64>();
    let value = Value::new(0u64).unwrap();
    let robust = Mutex::robust();
    let table = Table::new("Value, update: ns", Better::Less);
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || value.update(|number| *number += 1).unwrap());
        let add = || bare.store(bare.load(Relaxed) + 1, Relaxed);
        let theirs = || race::processes(count, || robust.with(add));
        table.row(what, ours, &[way("word under pthread robust", theirs)]);
    }
    let table = Table::new("Value, fetch_add: ns", Better::Less);
    for (what, count) in race::WIDTHS {
        let ours = || race::processes(count, || _ = value.fetch_add(1));
        let theirs = || race::processes(count, || _ = bare.fetch_add(1, SeqCst));
        table.row(what, ours, &[way("bare AtomicU64", theirs)]);
    }
}

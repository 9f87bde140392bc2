//! Rounds of a barrier of two.

use ipc_sync::Barrier;

use crate::rally::{PLACES, rally};
use crate::table::{Better, Table, way};
use crate::{bare, pthread};

const PARTIES: u32 = 2;

/// Thousands of rounds per second.
fn rounds(processors: [usize; 2], wait: impl Fn()) -> f64 {
    1e6 / rally(processors, &wait, &wait)
}

pub(crate) fn run() {
    let table = Table::new("Barrier of 2: k rounds/s", Better::More);
    for (place, processors) in PLACES {
        let ours = || {
            let barrier = Barrier::new(PARTIES as usize).unwrap();
            rounds(processors, || _ = barrier.wait().unwrap())
        };
        let bare = || {
            let barrier = bare::Barrier::new();
            rounds(processors, || barrier.wait(PARTIES))
        };
        let pthread = || {
            let barrier = pthread::Barrier::new(PARTIES);
            rounds(processors, || barrier.wait())
        };
        table.row(place, ours, &[way("bare futex", bare), way("pthread_barrier", pthread)]);
    }
}

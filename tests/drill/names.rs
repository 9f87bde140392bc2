//! Rows 14 and 15: processes that make, open and sweep one name, and die at it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use ipc_shm::{HEADER_SIZE, Kind, Mapping, Origin, Segment, list, sweep};

use crate::Outcome;
use support::chaos::{Plan, Report};
use support::turn::turn;
use support::{Rng, shared, unique};

const KIND: Kind = Kind::new(*b"DRIL", "drill 1");
const BODY: usize = 8192;
const PATTERN: [u8; 64] = [0xa5; 64];

/// Of six workers the last two sweep.
const WORKERS: usize = 6;
const SWEEPERS_FROM: usize = 4;

#[derive(Default)]
struct Account {
    created: AtomicU64,
    opened: AtomicU64,
    swept: AtomicU64,
    half_made: AtomicU64,
    live_unlinked: AtomicU64,
    operations: AtomicU64,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    let _turn = turn(); // others must not meet our sweeps
    let name = unique("drill");
    let account = shared::<Account>();
    let work = |i| {
        let mut rng = Rng::new(seed ^ u64::from(std::process::id()));
        loop {
            if i < SWEEPERS_FROM {
                live(&name, account, &mut rng)
            } else {
                clean(&name, account)
            }
            account.operations.fetch_add(1, SeqCst);
        }
    };
    let mut report = Plan { workers: WORKERS, kills, seed }.run(work, || account.operations.load(SeqCst));
    report.workers.iter_mut().for_each(|worker| _ = worker.kill9());
    vec![outcome(&name, &report, account)]
}

fn outcome(name: &str, report: &Report, account: &Account) -> Outcome {
    let swept_at_last = sweep().is_ok();
    let left =
        list().map_or(1, |segments| segments.iter().filter(|segment| segment.name == name).count() as u64);
    let count = |count: &AtomicU64| count.load(SeqCst);
    let done = format!(
        "created {} opened {} stale names swept {}",
        count(&account.created),
        count(&account.opened),
        count(&account.swept)
    );
    let counts = [
        ("half made", count(&account.half_made)),
        ("live names unlinked", count(&account.live_unlinked)),
        ("left behind", left + u64::from(!swept_at_last)),
    ];
    Outcome::new("names", report, done, &counts)
}

/// Uses the segment for a moment.
fn live(name: &str, account: &Account, rng: &mut Rng) {
    let fill = |segment: &Segment| segment.mapping().write(HEADER_SIZE, &PATTERN).expect("the body holds it");
    let (segment, origin) =
        Segment::leased(name, KIND, BODY, 0, fill).expect("nothing but a death happens to this name");
    match origin {
        Origin::Created => &account.created,
        Origin::Opened => &account.opened,
    }
    .fetch_add(1, SeqCst);
    let mut bytes = [0; PATTERN.len()];
    let whole =
        segment.mapping().read(HEADER_SIZE, &mut bytes).is_ok() && bytes == PATTERN && segment.size() == BODY;
    account.half_made.fetch_add((!whole).into(), SeqCst);
    std::thread::sleep(Duration::from_micros(rng.below(300)));
    account.live_unlinked.fetch_add(u64::from(!has_name(segment.mapping())), SeqCst);
    drop(segment);
    std::thread::sleep(Duration::from_micros(rng.below(300)));
}

/// Whether the file that we hold a lease on still has its name.
fn has_name(mapping: &Mapping) -> bool {
    let file = File::from(mapping.descriptor().try_clone().expect("one more descriptor"));
    file.metadata().expect("fstat").nlink() > 0
}

fn clean(name: &str, account: &Account) {
    let swept = sweep().expect("/dev/shm can be read");
    account.swept.fetch_add(swept.iter().filter(|swept| *swept == name).count() as u64, SeqCst);
}

//! Nanoseconds for a pair of lock and unlock, beside a robust pthread mutex in the same run.
//!
//! `cargo bench -p ipc-sync`. Each figure is the median of five repetitions, taken in turns with the peer's; the
//! processes are pinned, alone or one on each of two processors.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::Lock;

#[path = "../../tests/support/mod.rs"]
mod support;

use support::{fork, pin, shared, until};

const REPETITIONS: usize = 5;
const TIME: Duration = Duration::from_millis(300);

fn main() {
    let ours = Lock::new().unwrap();
    let theirs = PthreadMutex::robust();
    println!("{:<22} {:>22} {:>22} {:>8}", "ns per pair", "Lock", "pthread robust", "ratio");
    for processes in [1, 2, 4] {
        let mut figures = [vec![], vec![]];
        for _ in 0..REPETITIONS {
            figures[0].push(measure(processes, || drop(ours.lock().unwrap())));
            figures[1].push(measure(processes, || theirs.pair()));
        }
        let [ours, theirs] = figures.map(Figure::of);
        let ratio = theirs.median / ours.median;
        println!("{:<22} {ours:>22} {theirs:>22} {ratio:>8.2}", format!("{processes} process(es)"));
    }
}

/// The median of some runs, and between what they lay.
struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    fn of(mut runs: Vec<f64>) -> Figure {
        runs.sort_by(f64::total_cmp);
        Figure { median: runs[runs.len() / 2], least: runs[0], most: runs[runs.len() - 1] }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.1} [{:.1}..{:.1}]", self.median, self.least, self.most))
    }
}

#[derive(Default)]
struct Race {
    ready: AtomicU32,
    go: AtomicU32,
    pairs: AtomicU64,
}

/// Wall time by pairs, all processes together, each pinned to its processor.
fn measure(processes: usize, pair: impl Fn()) -> f64 {
    let race = shared::<Race>();
    let children: Vec<_> = (0..processes)
        .map(|i| {
            fork(|| {
                pin(i % 2);
                (0..1000).for_each(|_| pair());
                race.ready.fetch_add(1, SeqCst);
                until(|| race.go.load(SeqCst) == 1);
                let mut pairs = 0;
                while race.go.load(SeqCst) == 1 {
                    (0..1000).for_each(|_| pair());
                    pairs += 1000;
                }
                race.pairs.fetch_add(pairs, SeqCst);
            })
        })
        .collect();
    until(|| race.ready.load(SeqCst) as usize == processes);
    let start = Instant::now();
    race.go.store(1, SeqCst);
    std::thread::sleep(TIME);
    race.go.store(2, SeqCst);
    let time = start.elapsed();
    children.into_iter().for_each(|mut child| _ = child.wait());
    time.as_nanos() as f64 / race.pairs.load(SeqCst) as f64
}

/// What C programs use: `PTHREAD_PROCESS_SHARED`, `PTHREAD_MUTEX_ROBUST`.
struct PthreadMutex(*mut libc::pthread_mutex_t);

impl PthreadMutex {
    fn robust() -> PthreadMutex {
        let room = support::shared_slice::<AtomicU64>(size_of::<libc::pthread_mutex_t>().div_ceil(8));
        let mutex = room.as_ptr().cast_mut().cast::<libc::pthread_mutex_t>();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized first; the mutex lies in shared memory of its size, aligned to a page,
        // that is never unmapped.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
        }
        PthreadMutex(mutex)
    }

    fn pair(&self) {
        // SAFETY: initialized in `robust`, and unlocked by the thread that locked it.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(self.0), 0);
            libc::pthread_mutex_unlock(self.0);
        }
    }
}

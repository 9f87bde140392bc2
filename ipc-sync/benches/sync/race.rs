//! Some processes, or threads, do the same thing as often as they can: wall time by all their doings together.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use support::{fork, pin, shared, until};

const TIME: Duration = Duration::from_millis(150);
/// How many take part.
pub(crate) const WIDTHS: [(&str, usize); 3] = [("1 process", 1), ("2 processes", 2), ("4 processes", 4)];

const WARM_UP: usize = 1000;
/// Between two looks at the flag: a look must cost nothing beside them.
const BATCH: u64 = 1000;

#[derive(Default)]
struct Race {
    ready: AtomicU32,
    stop: AtomicU32,
    go: AtomicU32,
    done: AtomicU64,
}

/// Nanoseconds, with so many processes on two processors.
pub(crate) fn processes(count: usize, act: impl Fn()) -> f64 {
    let race = shared::<Race>();
    let children: Vec<_> = (0..count).map(|i| fork(|| race.take_part(i % 2, &act))).collect();
    let time = race.time(count);
    children.into_iter().for_each(|mut child| _ = child.wait());
    race.nanoseconds(time)
}

/// The same with threads of this process.
pub(crate) fn threads(count: usize, act: impl Fn() + Sync) -> f64 {
    let race = Race::default();
    let time = std::thread::scope(|scope| {
        let (race, act) = (&race, &act);
        (0..count).for_each(|i| _ = scope.spawn(move || race.take_part(i % 2, act)));
        race.time(count)
    });
    race.nanoseconds(time)
}

impl Race {
    fn take_part(&self, processor: usize, act: &impl Fn()) {
        pin(processor);
        (0..WARM_UP).for_each(|_| act());
        self.ready.fetch_add(1, SeqCst);
        until(|| self.go.load(SeqCst) == 1);
        let mut done = 0;
        while self.stop.load(SeqCst) == 0 {
            (0..BATCH).for_each(|_| act());
            done += BATCH;
        }
        self.done.fetch_add(done, SeqCst);
    }

    fn time(&self, count: usize) -> Duration {
        until(|| self.ready.load(SeqCst) as usize == count);
        let start = Instant::now();
        self.go.store(1, SeqCst);
        std::thread::sleep(TIME);
        self.stop.store(1, SeqCst);
        start.elapsed()
    }

    fn nanoseconds(&self, time: Duration) -> f64 {
        time.as_nanos() as f64 / self.done.load(SeqCst) as f64
    }
}

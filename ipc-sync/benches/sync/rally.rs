//! Two processes that need each other for every round: nanoseconds for a round.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use support::{fork, pin, shared, until};

const TIME: Duration = Duration::from_millis(300);
const WARM_UP: u32 = 200;
/// Between two looks at the clock.
const BATCH: u32 = 16;

/// The processors of the two.
pub(crate) const PLACES: [(&str, [usize; 2]); 2] = [("two cores", [0, 1]), ("one core", [0, 0])];

#[derive(Default)]
struct Rally {
    ready: AtomicU32,
    /// The round after which the second goes home; it may be one round ahead of the first, and never two.
    last: AtomicU32,
    nanoseconds: AtomicU64,
}

/// Each does its own part of a round, and cannot end it before the other has done its own.
pub(crate) fn rally([first, second]: [usize; 2], serve: impl Fn(), answer: impl Fn()) -> f64 {
    let rally = shared::<Rally>();
    let players = [
        fork(|| {
            rally.enter(first);
            rally.lead(serve);
        }),
        fork(|| {
            rally.enter(second);
            rally.follow(answer);
        }),
    ];
    players.into_iter().for_each(|mut player| _ = player.wait());
    f64::from_bits(rally.nanoseconds.load(SeqCst))
}

impl Rally {
    fn enter(&self, processor: usize) {
        pin(processor);
        self.ready.fetch_add(1, SeqCst);
        until(|| self.ready.load(SeqCst) == 2);
    }

    fn lead(&self, serve: impl Fn()) {
        (0..WARM_UP).for_each(|_| serve());
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            (0..BATCH).for_each(|_| serve());
            rounds += BATCH;
        }
        let each = start.elapsed().as_nanos() as f64 / f64::from(rounds);
        self.nanoseconds.store(each.to_bits(), SeqCst);
        self.last.store(WARM_UP + rounds + 2, SeqCst);
        (0..2).for_each(|_| serve());
    }

    fn follow(&self, answer: impl Fn()) {
        let mut rounds = 0;
        while rounds == 0 || rounds != self.last.load(SeqCst) {
            answer();
            rounds += 1;
        }
    }
}

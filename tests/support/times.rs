//! How long operations took, judged so that a busy machine is not their fault.

use std::time::{Duration, Instant};

/// What an operation took in each of many rounds.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// It began at `start` and is over.
    pub fn lap(&mut self, start: Instant) {
        self.0.push(start.elapsed());
    }

    /// Below a backstop in nine of ten rounds: a lost wake costs one each time, a busy machine now and then.
    #[track_caller]
    pub fn assert_soon(mut self) {
        self.0.sort();
        let most = self.0[self.0.len() * 9 / 10];
        assert!(most < Duration::from_millis(90), "{most:?} of {:?}", self.0);
    }
}

/// The best of a few tries is exact to 20 ms, and none is too short.
#[track_caller]
pub fn assert_exact(timeout: Duration, wait: impl Fn(Duration)) {
    let took = (0..5).map(|_| {
        let start = Instant::now();
        wait(timeout);
        let took = start.elapsed();
        assert!(took >= timeout, "{took:?}");
        took
    });
    let best = took.min().unwrap();
    assert!(best < timeout + Duration::from_millis(20), "{best:?}");
}

//! The random killer: workers at work, one of them killed every moment, a new one in its place.
//!
//! It is the weaker killer for windows of a few instructions, and the stronger one for what several processes do to
//! each other. What was lost or torn is for the account of the test, which its workers keep in shared memory.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::{Child, Rng, fork, procfs, say, until_within};

/// The longest moment between two kills.
const MOMENT_MICROSECONDS: u64 = 1500;

/// Without progress for so long, the survivors hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of it, and the seed that makes the same choices again.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Workers, all forked from one function.
    pub workers: usize,
    /// Kills in all.
    pub kills: u64,
    /// See [`super::seed`].
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// As planned.
    pub seed: u64,
    /// Kills of each worker.
    pub kills: Vec<u64>,
    /// Whether the survivors stopped making progress: the run ended there.
    pub hang: bool,
    /// The longest time without progress after a kill.
    pub stall: Duration,
    /// The whole run.
    pub time: Duration,
    /// The workers, still at work; dropped, they are killed.
    pub workers: Vec<Child>,
}

impl Plan {
    /// Runs it. `work` gets the worker's number and should never return; `progress` is a count of operations done by
    /// anybody.
    ///
    /// # Panics
    ///
    /// A worker ended by itself.
    #[track_caller]
    pub fn run(&self, work: impl Fn(usize), progress: impl Fn() -> u64) -> Report {
        let start = Instant::now();
        let mut rng = Rng::new(self.seed);
        let mut report = Report::new(self.seed, (0..self.workers).map(|i| fork(|| work(i))).collect());
        while report.total() < self.kills && !report.hang {
            // Not a wait for anybody: the time of a death is random.
            thread::sleep(Duration::from_micros(rng.below(MOMENT_MICROSECONDS)));
            let i = rng.below(self.workers as u64) as usize;
            report.replace(i, || fork(|| work(i)));
            report.wait_for_progress(&progress);
        }
        report.time = start.elapsed();
        report
    }
}

impl Report {
    fn new(seed: u64, workers: Vec<Child>) -> Report {
        let kills = vec![0; workers.len()];
        Report { seed, kills, hang: false, stall: Duration::ZERO, time: Duration::ZERO, workers }
    }

    /// Kills in all.
    pub fn total(&self) -> u64 {
        self.kills.iter().sum()
    }

    #[track_caller]
    fn replace(&mut self, i: usize, next: impl FnOnce() -> Child) {
        let ended = self.workers[i].try_wait();
        assert_eq!(ended, None, "worker {i} ended by itself");
        self.workers[i].kill9();
        self.kills[i] += 1;
        self.workers[i] = next();
    }

    fn wait_for_progress(&mut self, progress: &impl Fn() -> u64) {
        let (start, before) = (Instant::now(), progress());
        self.hang = !until_within(PATIENCE, || progress() != before);
        self.stall = self.stall.max(start.elapsed());
        if self.hang {
            say(&format!("no progress after kill {}:", self.total()));
            self.workers.iter().for_each(|child| say(&procfs::describe(child.pid())));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, hang, stall, time, .. } = self;
        let (total, hangs) = (self.total(), u8::from(*hang));
        write!(f, "kills {total} hangs {hangs} longest stall {stall:.1?} in {time:.1?} (seed {seed})")
    }
}

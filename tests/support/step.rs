//! The single-step killer: an operation dies after every one of its instructions, and a survivor must go on.
//!
//! It is exhaustive for the program order of one path; it says nothing of weak memory, which is loom's part.
//!
//! A round: the *scene* is built anew in the parent; the *victim*, a forked child, prepares, calls `stage.begin()`,
//! does the operation, and calls `stage.end()`; *meanwhile*, while it stands at its begin, the parent may bring others
//! to sleep on what it holds; it is killed after N instructions; then the *survivor*, another forked child, must finish
//! its script in time and panics if what it finds is wrong. N runs from 0 to the end of the operation.
//!
//! The first victim is stepped to its end, which tells the way of all. The others run to their point on it at full
//! speed; one that took another way, and was not met there, is replaced by one that is stepped.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::path::Path;
pub use super::trace::Stage;
use super::trace::{self, End};
use super::{Status, alarm, fork, procfs, shared, shared_slice};

/// A survivor that took longer was saved by the 100 ms backstop, not woken.
const SLOW: Duration = Duration::from_millis(50);

/// A longer way is not tried at each of its points in one run: the suite must end some day.
const LONG: u64 = 600;

/// A wedged survivor costs its whole time limit: after so many failures the point is made.
const ENOUGH: u64 = 4;

/// Whether the operation of each victim had come to its end when it was killed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fate {
    /// The first victim's.
    pub finished: bool,
    /// The second's, in a two-level run.
    pub second_finished: bool,
}

/// After how many instructions a victim dies.
#[derive(Debug, Clone, Copy)]
struct Death<'p> {
    after: u64,
    /// Its way, if that is known: it need not be stepped.
    path: Option<&'p Path>,
}

impl<'p> Death<'p> {
    fn stepped(after: u64) -> Death<'p> {
        Death { after, path: None }
    }

    fn on(path: &'p Path, after: u64) -> Death<'p> {
        Death { after, path: Some(path) }
    }
}

type Victim<'a, S> = Box<dyn Fn(&S, &Stage) + 'a>;
type Survivor<'a, S> = Box<dyn Fn(&S, Fate) + 'a>;

/// An operation, and what must be true after a death in it.
pub struct Script<'a, S> {
    name: &'a str,
    scene: Box<dyn Fn() -> S + 'a>,
    victim: Victim<'a, S>,
    meanwhile: Box<dyn Fn(&S) + 'a>,
    survivor: Survivor<'a, S>,
    seconds: u32,
    flags: &'static [AtomicU32],
    /// Microseconds that the survivor needed.
    needed: &'static AtomicU32,
}

impl<'a, S> Script<'a, S> {
    /// The script; a survivor or a victim may take 2 seconds.
    pub fn new(
        name: &'a str,
        scene: impl Fn() -> S + 'a,
        victim: impl Fn(&S, &Stage) + 'a,
        survivor: impl Fn(&S, Fate) + 'a,
    ) -> Self {
        Script {
            name,
            scene: Box::new(scene),
            victim: Box::new(victim),
            meanwhile: Box::new(|_| ()),
            survivor: Box::new(survivor),
            seconds: 2,
            flags: shared_slice(2),
            needed: shared(),
        }
    }

    /// What the parent does while the first victim stands at its begin.
    pub fn meanwhile(mut self, f: impl Fn(&S) + 'a) -> Self {
        self.meanwhile = Box::new(f);
        self
    }

    /// Another time limit for survivor and victim.
    pub fn seconds(mut self, seconds: u32) -> Self {
        self.seconds = seconds;
        self
    }

    /// Instructions of the operation when nobody kills it.
    ///
    /// # Panics
    ///
    /// The script fails without any kill.
    #[track_caller]
    pub fn length(&self) -> u64 {
        self.path().steps()
    }

    #[track_caller]
    fn path(&self) -> Path {
        let round = self.round(&[u64::MAX]);
        assert_eq!(round.verdict, Verdict::Right, "{}: fails without a kill: {}", self.name, round.reason);
        round.path
    }

    /// A death after every instruction; on a long way after every second or third, others in each run, unless
    /// `EVERY_STEP` is set.
    #[track_caller]
    pub fn run(&self) -> Report {
        self.run_last(u64::MAX)
    }

    /// A death after each of the last `points` instructions: for operations that begin with a long preparation.
    #[track_caller]
    pub fn run_last(&self, points: u64) -> Report {
        let path = self.path();
        let length = path.steps();
        let mut report = Report::new(self.name);
        let first = length.saturating_sub(points);
        let stride = stride(length - first);
        let chance = u64::from(std::process::id()) % stride;
        for n in (first + chance..=length).step_by(stride as usize) {
            if report.failures() >= ENOUGH {
                break;
            }
            report.count(&[n], self.round_without_luck(&[Death::on(&path, n)]));
        }
        report
    }

    /// Two deaths: one after each of the `first` instructions, then, in the next victim, one after every `stride`th.
    pub fn run_pairs(&self, first: impl IntoIterator<Item = u64>, stride: usize) -> Report {
        let mut report = Report::new(self.name);
        let path = self.path();
        for n in first {
            let first = Death::on(&path, n);
            let second = self.play(&[first, Death::stepped(u64::MAX)]).path;
            for m in (0..=second.steps()).step_by(stride) {
                if report.failures() >= ENOUGH {
                    return report;
                }
                report.count(&[n, m], self.round_without_luck(&[first, Death::on(&second, m)]));
            }
        }
        report
    }

    /// One round; each number is a death after so many instructions.
    pub fn round(&self, deaths: &[u64]) -> Round {
        self.play(&deaths.iter().copied().map(Death::stepped).collect::<Vec<_>>())
    }

    fn play(&self, deaths: &[Death<'_>]) -> Round {
        let missed = || self.round(&deaths.iter().map(|death| death.after).collect::<Vec<_>>());
        self.try_play(deaths).unwrap_or_else(missed)
    }

    /// One round, unless a victim was missed.
    fn try_play(&self, deaths: &[Death<'_>]) -> Option<Round> {
        self.flags.iter().for_each(|flag| flag.store(0, SeqCst));
        let scene = (self.scene)();
        let mut path = Path::default();
        for (level, death) in deaths.iter().enumerate() {
            match self.kill(&scene, level, *death) {
                End::Killed(way) => path = way,
                End::Missed => return None,
                End::Stuck(_) => {
                    return Some(Round::failed(Verdict::Wedged, format!("victim {} is stuck", level + 1)));
                }
                End::Failed(status) => {
                    return Some(Round::failed(Verdict::Wrong, format!("victim {}: {status:?}", level + 1)));
                }
            }
        }
        Some(self.survive(&scene, path))
    }

    fn kill(&self, scene: &S, level: usize, death: Death<'_>) -> End {
        let finished = &self.flags[level];
        let mut victim = fork(|| {
            alarm(self.seconds);
            let stage = Stage::new(level + 1, finished);
            (self.victim)(scene, &stage);
            stage.end()
        });
        if let Err(end) = trace::wait_for_begin(&mut victim) {
            return end;
        }
        if level == 0 {
            (self.meanwhile)(scene);
        }
        match death.path.and_then(|path| path.waypoint(death.after)) {
            Some(waypoint) => trace::run_and_kill(victim, waypoint, finished),
            None => trace::step_and_kill(victim, death.after, finished),
        }
    }

    fn survive(&self, scene: &S, path: Path) -> Round {
        let finished = |level: usize| self.flags[level].load(SeqCst) == 1;
        let fate = Fate { finished: finished(0), second_finished: finished(1) };
        let start = Instant::now();
        let status = fork(|| {
            alarm(self.seconds);
            let needed = own_time(|| (self.survivor)(scene, fate));
            self.needed.store(needed.as_micros() as u32, SeqCst);
        })
        .wait();
        let verdict = match status {
            Status::Code(0) => Verdict::Right,
            Status::Signal(libc::SIGALRM) => Verdict::Wedged,
            _ => Verdict::Wrong,
        };
        let time = match verdict {
            Verdict::Right => Duration::from_micros(self.needed.load(SeqCst).into()),
            _ => start.elapsed(),
        };
        Round { verdict, path, time, reason: format!("survivor: {status:?}") }
    }

    /// A busy machine makes a survivor slow now and then; a lost wake makes it slow every time.
    fn round_without_luck(&self, deaths: &[Death<'_>]) -> Round {
        let mut best = self.play(deaths);
        for _ in 0..8 {
            if best.verdict == Verdict::Right && best.time > SLOW {
                let again = self.play(deaths);
                if again.verdict != Verdict::Right || again.time < best.time {
                    best = again;
                }
            }
        }
        best
    }
}

/// Between two deaths on a way of so many instructions.
fn stride(points: u64) -> u64 {
    if std::env::var_os("EVERY_STEP").is_some() { 1 } else { 1 + points / LONG }
}

/// How long `f` takes, without what this thread stood in line for a processor: that is the load of the machine.
fn own_time(f: impl FnOnce()) -> Duration {
    let (start, in_line) = (Instant::now(), procfs::time_in_line());
    f();
    start.elapsed().saturating_sub(procfs::time_in_line().saturating_sub(in_line))
}

/// How a round went.
#[derive(Debug, Clone)]
pub struct Round {
    /// What the survivor found.
    pub verdict: Verdict,
    /// The way of the last victim, if it was stepped.
    pub path: Path,
    /// What the survivor needed.
    pub time: Duration,
    /// Who failed, and how.
    pub reason: String,
}

impl Round {
    fn failed(verdict: Verdict, reason: String) -> Round {
        Round { verdict, path: Path::default(), time: Duration::ZERO, reason }
    }
}

/// What came of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The survivor finished.
    Right,
    /// Somebody waited for ever.
    Wedged,
    /// Somebody found what must not be.
    Wrong,
}

/// What came of all rounds.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The script's name.
    pub name: String,
    /// Points, or pairs of points, at which somebody was killed.
    pub points: u64,
    /// After so many of them somebody waited for ever.
    pub wedged: u64,
    /// After so many of them something was wrong.
    pub wrong: u64,
    /// After so many of them the survivor needed a backstop.
    pub slow: u64,
    /// The longest a survivor needed.
    pub worst: Duration,
    /// The points of the failures, and who failed.
    pub failures: Vec<String>,
}

impl Report {
    fn new(name: &str) -> Report {
        Report { name: name.to_owned(), ..Report::default() }
    }

    fn failures(&self) -> u64 {
        self.wedged + self.wrong
    }

    fn count(&mut self, deaths: &[u64], round: Round) {
        let slow = round.time > SLOW;
        self.points += 1;
        self.wedged += u64::from(round.verdict == Verdict::Wedged);
        self.wrong += u64::from(round.verdict == Verdict::Wrong);
        self.slow += u64::from(slow);
        self.worst = self.worst.max(round.time);
        if slow || round.verdict != Verdict::Right {
            let Round { verdict, time, reason, .. } = round;
            self.failures.push(format!("after {deaths:?} {verdict:?} in {time:?}, {reason}"));
        }
    }

    /// Whether every survivor finished, and none needed a backstop.
    pub fn is_clean(&self) -> bool {
        self.points > 0 && self.failures() + self.slow == 0
    }

    /// Prints the report and fails unless it is clean.
    #[track_caller]
    pub fn assert_clean(&self) {
        println!("{self}");
        assert!(self.is_clean(), "{self}\n{}", self.failures.join("\n"));
    }

    /// Prints the report and fails unless some survivor did not finish, was wrong, or needed a backstop: for mutants.
    #[track_caller]
    pub fn assert_caught(&self) {
        println!("{self}");
        assert!(self.failures() + self.slow > 0, "nobody saw the fault: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { name, points, wedged, wrong, slow, worst, .. } = self;
        write!(
            f,
            "{name}: killed at {points} points: wedged {wedged} wrong {wrong} slow {slow} worst {worst:?}"
        )
    }
}

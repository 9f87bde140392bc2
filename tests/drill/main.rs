//! The drill: processes at work on one primitive, killed at random, and an account of what came of it.
//!
//! ```text
//! cargo test --release --test drill -- [--only lock|reentrant|condition|rwlock|semaphore|…] [--kills N] [--seed S]
//! ```
//!
//! Each line gives the kills, what the survivors did, and the counts that must be 0; it exits with 1 when one is
//! not. Without arguments it is short enough for every run of the tests.

use std::process::ExitCode;
use std::time::Duration;

mod barrier;
mod baton;
mod condition;
mod event;
mod leases;
mod lock;
mod manager;
mod names;
mod pool;
mod queue;
mod reentrant;
mod rwlock;
mod semaphore;
mod servers;
mod value;

/// Kills per shape when nobody says otherwise.
const KILLS: u64 = 300;

/// A lost wake costs its sleeper one backstop of 100 ms. Where nobody at all went on for longer than this, the machine
/// stood still, and a wake that came late looks like one that was lost.
const STANDSTILL: Duration = Duration::from_millis(250);

/// Sleepers that only their backstop woke, as far as the machine is not to blame.
fn lost_wakes(report: &support::chaos::Report, rescues: u64) -> u64 {
    if report.stall > STANDSTILL { 0 } else { rescues }
}

/// What one shape did and what was wrong with it.
struct Outcome {
    line: String,
    faults: Vec<String>,
}

impl Outcome {
    /// `counts` must all be 0; a hang is one of them.
    fn new(shape: &str, report: &support::chaos::Report, done: String, counts: &[(&str, u64)]) -> Outcome {
        let faults = counts.iter().filter(|(_, count)| *count != 0);
        let mut faults: Vec<_> = faults.map(|(what, count)| format!("{what} {count}")).collect();
        if report.hang {
            faults.push("hang".to_owned());
        }
        let counts: String = counts.iter().map(|(what, count)| format!(" {what} {count}")).collect();
        Outcome { line: format!("{shape}: {report}: {done};{counts}"), faults }
    }

    fn print(&self) -> bool {
        let verdict = if self.faults.is_empty() {
            "ok".to_owned()
        } else {
            format!("WRONG: {}", self.faults.join(", "))
        };
        println!("drill {} ... {verdict}", self.line);
        self.faults.is_empty()
    }
}

#[derive(Debug)]
struct Arguments {
    only: Option<String>,
    kills: u64,
    seed: u64,
    /// What a test runner asks of every test binary: names of tests to run, or their list.
    filters: Vec<String>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut parsed = Arguments { only: None, kills: KILLS, seed: support::seed(), filters: Vec::new() };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
            let number = |text: String| text.parse().map_err(|_| format!("not a number: {text}"));
            match name.as_str() {
                "--only" => parsed.only = Some(value()?),
                "--kills" => parsed.kills = number(value()?)?,
                "--seed" => parsed.seed = number(value()?)?,
                "--list" => parsed.filters.push(name),
                _ if name.starts_with('-') => {} // how libtest should print, which is not our affair
                _ => parsed.filters.push(name),
            }
        }
        match &parsed.only {
            Some(only) if !SECTIONS.iter().any(|(section, _)| section == only) => {
                Err(format!("no such section: {only}"))
            }
            _ => Ok(parsed),
        }
    }

    fn wants(&self, section: &str) -> bool {
        self.filters.iter().all(|filter| "drill".contains(filter.as_str()))
            && self.only.as_deref().is_none_or(|only| only == section)
    }
}

/// Runs all shapes of one section: so many kills each, with this seed.
type Section = fn(u64, u64) -> Vec<Outcome>;

const SECTIONS: &[(&str, Section)] = &[
    ("lock", lock::drill),
    ("reentrant", reentrant::drill),
    ("condition", condition::drill),
    ("rwlock", rwlock::drill),
    ("semaphore", semaphore::drill),
    ("event", event::drill),
    ("barrier", barrier::drill),
    ("queue", queue::drill),
    ("leases", leases::drill),
    ("names", names::drill),
    ("value", value::drill),
    ("pool", pool::drill),
    ("manager", manager::drill),
];

fn main() -> ExitCode {
    multiprocess::init();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("drill: {error}");
            return ExitCode::from(2);
        }
    };
    let chosen = SECTIONS.iter().filter(|(section, _)| arguments.wants(section));
    let outcomes = chosen.flat_map(|(_, drill)| drill(arguments.kills, arguments.seed));
    let wrong = outcomes.filter(|outcome| !outcome.print()).count();
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

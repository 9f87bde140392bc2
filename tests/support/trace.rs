//! One instruction at a time: ptrace, as far as the single-step killer needs it.
//!
//! The tracer is the thread that forked; only it may step its children and wait for their stops.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::cpu::Together;
use super::path::{Path, Waypoint, set_breakpoint};
use super::{Change, Child, Status};

/// The victim's side: tells the killer where the operation begins and ends.
#[derive(Debug)]
pub struct Stage {
    /// 1 for the first victim of a round, 2 for the second.
    pub level: usize,
    finished: &'static AtomicU32,
}

impl Stage {
    /// The stage of the victim that will raise `finished`.
    pub fn new(level: usize, finished: &'static AtomicU32) -> Stage {
        Stage { level, finished }
    }

    /// What came before was preparation; what comes next is stepped.
    pub fn begin(&self) {
        // SAFETY: no pointers that the kernel follows; the stop is what the killer waits for.
        let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) };
        assert_eq!(traced, 0, "ptrace: {}", std::io::Error::last_os_error());
        stop();
    }

    /// The operation is over. The victim dies here: what it holds is not dropped.
    pub fn end(&self) -> ! {
        self.finished.store(1, SeqCst);
        loop {
            stop();
        }
    }
}

fn stop() {
    // SAFETY: `raise` takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// What became of a victim. It is dead and reaped in any case.
#[derive(Debug, Clone)]
pub enum End {
    /// Killed at its point, or at its end; its way there, if it was stepped.
    Killed(Path),
    /// It took another way than the one it was sent on.
    Missed,
    /// It ran into its time limit after so many instructions: it waited for something that never came.
    Stuck(u64),
    /// A signal or an exit of its own was faster.
    Failed(Status),
}

/// Waits until `victim` stands at its `begin`. An error if it never came there.
pub fn wait_for_begin(victim: &mut Child) -> Result<(), End> {
    match victim.wait_change() {
        Change::Stopped(libc::SIGSTOP) => Ok(()),
        Change::Stopped(signal) => Err(End::Failed(Status::Signal(signal))),
        Change::Ended(Status::Signal(libc::SIGALRM)) => Err(End::Stuck(0)),
        Change::Ended(status) => Err(End::Failed(status)),
    }
}

/// Steps `victim` for `limit` instructions, or up to its `end`, and kills it.
pub fn step_and_kill(mut victim: Child, limit: u64, finished: &AtomicU32) -> End {
    let _together = Together::with(victim.pid());
    let mut path = Path::default();
    path.note(victim.pid());
    let end = step(&mut victim, limit, finished, &mut path);
    victim.kill9();
    end.map_or_else(|end| end, |()| End::Killed(path))
}

/// Lets `victim` run to `waypoint` at full speed and kills it there.
pub fn run_and_kill(mut victim: Child, waypoint: Waypoint, finished: &AtomicU32) -> End {
    let _together = Together::with(victim.pid());
    let end = run(&mut victim, waypoint, finished);
    victim.kill9();
    end.map_or_else(|end| end, |()| End::Killed(Path::default()))
}

fn step(victim: &mut Child, limit: u64, finished: &AtomicU32, path: &mut Path) -> Result<(), End> {
    while path.steps() < limit && finished.load(SeqCst) == 0 {
        go_on(victim, libc::PTRACE_SINGLESTEP, path.steps())?;
        path.note(victim.pid());
    }
    Ok(())
}

fn run(victim: &mut Child, waypoint: Waypoint, finished: &AtomicU32) -> Result<(), End> {
    let Waypoint { address, passes, rest } = waypoint;
    set_breakpoint(victim.pid(), address).map_err(|_| End::Missed)?;
    let moves = (0..passes).map(|_| libc::PTRACE_CONT).chain((0..rest).map(|_| libc::PTRACE_SINGLESTEP));
    for (done, how) in moves.enumerate() {
        match go_on(victim, how, done as u64) {
            Err(End::Failed(Status::Signal(libc::SIGSTOP))) if finished.load(SeqCst) == 1 => {
                return Err(End::Missed);
            }
            result => result?,
        }
    }
    Ok(())
}

/// Lets the victim go on until it stops by itself, having stopped so many times before.
fn go_on(victim: &mut Child, how: libc::c_uint, stops: u64) -> Result<(), End> {
    // SAFETY: the victim is our traced child and is stopped; 0 means that no signal is passed on.
    unsafe { libc::ptrace(how, victim.pid(), 0usize, 0usize) };
    match victim.wait_change() {
        Change::Stopped(libc::SIGTRAP) => Ok(()),
        Change::Stopped(libc::SIGALRM) => Err(End::Stuck(stops)),
        Change::Stopped(signal) => Err(End::Failed(Status::Signal(signal))),
        Change::Ended(status) => Err(End::Failed(status)),
    }
}

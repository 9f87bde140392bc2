//! One instruction at a time: ptrace, as far as the single-step killer needs it.
//!
//! The tracer is the thread that forked; only it may step its children and wait for their stops.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Killed after so many instructions, or at its end.
    Killed(u64),
    /// It ran into its time limit after so many: it waited for something that never came.
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

/// Lets `victim` run `limit` instructions, or up to its `end`, and kills it.
pub fn step_and_kill(mut victim: Child, limit: u64, finished: &AtomicU32) -> End {
    let end = step(&mut victim, limit, finished);
    victim.kill9();
    end
}

fn step(victim: &mut Child, limit: u64, finished: &AtomicU32) -> End {
    let mut steps = 0;
    while steps < limit && finished.load(SeqCst) == 0 {
        // SAFETY: the victim is our traced child and is stopped; 0 means that no signal is passed on.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, victim.pid(), 0usize, 0usize) };
        match victim.wait_change() {
            Change::Stopped(libc::SIGTRAP) => steps += 1,
            Change::Stopped(libc::SIGALRM) => return End::Stuck(steps),
            Change::Stopped(signal) => return End::Failed(Status::Signal(signal)),
            Change::Ended(status) => return End::Failed(status),
        }
    }
    End::Killed(steps)
}

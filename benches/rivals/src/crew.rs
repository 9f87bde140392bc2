//! Some processes or threads that work together, each pinned, and how fast they are.
#![allow(unsafe_code)]

use std::mem::size_of;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::processors::{Placement, Side};

pub const WARM_UP: Duration = Duration::from_millis(20);
pub const WINDOW: Duration = Duration::from_millis(80);

/// Works may be given to processes or to threads.
#[derive(Clone, Copy)]
pub enum Crew {
    Processes,
    Threads,
}

/// What one of a crew does, for ever.
pub struct Job {
    /// None if the processors of both sides are open to it.
    pub side: Option<Side>,
    pub work: Box<dyn FnOnce(Desk) + Send>,
}

/// What one of a crew has in common with the others.
#[derive(Clone, Copy)]
pub struct Desk {
    board: &'static Board,
    number: usize,
}

const MOST: usize = 8;

/// In shared memory; all zero at first.
#[repr(C)]
struct Board {
    arrived: AtomicUsize,
    done: [Count; MOST],
}

/// A count on lines of its own, so that nobody slows another down by counting.
#[repr(align(128))]
struct Count(AtomicU64);

impl Desk {
    /// One that is not counted at.
    pub fn new() -> Desk {
        Desk { board: Board::shared(), number: 0 }
    }

    /// Waits until all have come so far.
    pub fn meet(&self, parties: usize) {
        self.arrive();
        self.wait_for(parties);
    }

    /// Tells that one more has come so far.
    pub fn arrive(&self) {
        self.board.arrived.fetch_add(1, SeqCst);
    }

    pub fn wait_for(&self, parties: usize) {
        while self.board.arrived.load(SeqCst) < parties {
            thread::yield_now();
        }
    }

    /// Tells that so much is done.
    #[inline(always)]
    pub fn done(&self, count: u64) {
        self.board.done[self.number].0.store(count, Relaxed);
    }
}

impl Crew {
    /// How much all do together in a second, once they have begun and warmed up. They are still at it afterwards.
    pub fn rate(self, placement: Placement, jobs: Vec<Job>) -> Result<f64, String> {
        let board = Board::shared();
        for (number, job) in jobs.into_iter().enumerate() {
            self.start(Desk { board, number }, placement, job);
        }
        board.pass(0)?;
        thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), board.total());
        thread::sleep(WINDOW);
        board.pass(before)?;
        let (time, done) = (start.elapsed(), board.total() - before);
        nobody_has_ended()?;
        Ok(done as f64 / time.as_secs_f64())
    }

    fn start(self, desk: Desk, placement: Placement, job: Job) {
        let work = move || {
            job.side.map_or_else(|| placement.confine(), |side| placement.pin(side));
            (job.work)(desk);
        };
        match self {
            Crew::Threads => _ = thread::spawn(work),
            Crew::Processes => _ = process(work),
        }
    }
}

/// Starts a process that does this work, which does not end before the repetition, and ends with its parent.
pub fn process(work: impl FnOnce()) -> Pid {
    // SAFETY: a process is started by the only thread of a fresh process, which holds no locks.
    match unsafe { fork() }.expect("one process more") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal");
            work();
            std::process::exit(1);
        }
    }
}

fn nobody_has_ended() -> Result<(), String> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(()),
        other => Err(format!("a side has ended: {other:?}")),
    }
}

impl Board {
    fn shared() -> &'static Board {
        let length = NonZero::new(size_of::<Board>()).expect("it has a size");
        // SAFETY: fresh memory, aligned to a page, zero, and never unmapped; a Board of zeros is a Board.
        unsafe { shared_memory(length).cast::<Board>().as_ref() }
    }

    /// Waits until more than so much is done.
    fn pass(&self, count: u64) -> Result<(), String> {
        while self.total() == count {
            nobody_has_ended()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.done.iter().map(|count| count.0.load(Relaxed)).sum()
    }
}

/// Memory that forked children share, all zero; it is never unmapped.
pub fn shared_memory(length: NonZero<usize>) -> std::ptr::NonNull<u8> {
    let (access, kind) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: an anonymous mapping at a place that the kernel chooses disturbs nobody.
    unsafe { mmap_anonymous(None, length, access, kind) }.expect("there is memory").cast()
}

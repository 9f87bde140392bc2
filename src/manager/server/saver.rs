//! The thread that writes snapshots to the disk, which may take long, while the server serves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::file;
use crate::manager::hosted::Ticket;
use crate::process::servant;

/// What is to be written, where, and for whom.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// How it went; `Err` says why not.
pub(super) type Outcome = (Ticket, Result<(), String>);

/// One after the other, in order: of two snapshots at the same place the later one stays. Dropped, it waits for the last.
#[derive(Debug)]
pub(super) struct Saver {
    thread: Option<(Sender<Job>, JoinHandle<()>)>,
    done: (Sender<Outcome>, Receiver<Outcome>),
    /// Jobs whose outcomes were not told.
    open: usize,
    bell: Arc<EventFd>,
}

impl Saver {
    pub(super) fn new() -> io::Result<Saver> {
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Saver { thread: None, done: channel(), open: 0, bell: Arc::new(bell) })
    }

    /// Begins to write. The thread starts with the first job.
    pub(super) fn begin(&mut self, job: Job) -> io::Result<()> {
        if self.thread.is_none() {
            self.thread = Some(self.start()?);
        }
        let sent = self.thread.as_ref().map(|(jobs, _)| jobs.send(job));
        sent.and_then(Result::ok).ok_or(io::ErrorKind::BrokenPipe)?;
        self.open += 1;
        Ok(())
    }

    /// Whether a job is not done.
    pub(super) fn is_busy(&self) -> bool {
        self.open > 0
    }

    fn start(&self) -> io::Result<(Sender<Job>, JoinHandle<()>)> {
        let (sender, jobs) = channel::<Job>();
        let (done, bell) = (self.done.0.clone(), self.bell.clone());
        let write = move || {
            for Job { ticket, path, bytes } in jobs {
                let saved = file::replace(&path, &bytes);
                let outcome = saved.map_err(|why| format!("{}: {why}", path.display()));
                let _ = done.send((ticket, outcome)); // the server is over
                let _ = bell.write(1); // full = it is readable
            }
        };
        let thread = thread::Builder::new().name("manager-saver".into());
        let thread = servant::without_signals(|| thread.spawn(write))?;
        Ok((sender, thread))
    }

    /// What was written since this was asked last.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        let _ = self.bell.read(); // nothing there = it is not readable
        let outcomes: Vec<Outcome> = self.done.1.try_iter().collect();
        self.open -= outcomes.len();
        outcomes
    }
}

/// Readable when there are outcomes.
impl AsFd for Saver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some((jobs, thread)) = self.thread.take() {
            drop(jobs);
            let _ = thread.join();
        }
    }
}

//! The descriptors that the server sleeps on.

use std::io;
use std::os::fd::AsFd;

use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What the kernel tells at once.
const EVENTS: usize = 64;

/// Numbers of what is ready.
#[derive(Debug)]
pub(super) struct Events {
    events: [EpollEvent; EVENTS],
    count: usize,
}

impl Default for Events {
    fn default() -> Events {
        Events { events: [EpollEvent::empty(); EVENTS], count: 0 }
    }
}

impl Events {
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.events[..self.count].iter().map(EpollEvent::data)
    }

    pub(super) fn are_there(&self) -> bool {
        self.count > 0
    }
}

#[derive(Debug)]
pub(super) struct Poller(Epoll);

/// Told each time that something comes: by rings, whose bells are left where they are as long as the ring is looked at.
pub(super) const EACH_TIME: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET);
/// Told as long as there is something to read.
pub(super) const READABLE: EpollFlags = EpollFlags::EPOLLIN;
/// Told as long as there is room.
pub(super) const WRITABLE: EpollFlags = EpollFlags::EPOLLOUT;

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        Ok(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// A descriptor goes by itself when it is closed.
    pub(super) fn add(&self, descriptor: impl AsFd, number: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.add(descriptor, EpollEvent::new(flags, number))?)
    }

    pub(super) fn change(&self, descriptor: impl AsFd, number: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.0.modify(descriptor, &mut EpollEvent::new(flags, number))?)
    }

    /// Waits until something is ready, or `deadline`.
    pub(super) fn wait(&self, events: &mut Events, deadline: Deadline) -> io::Result<()> {
        events.count = match self.0.wait(&mut events.events, timeout(deadline)) {
            Err(Errno::EINTR) => 0,
            answer => answer?,
        };
        Ok(())
    }
}

/// Whole milliseconds, not less than what is left.
fn timeout(deadline: Deadline) -> EpollTimeout {
    match deadline.remaining() {
        None => EpollTimeout::NONE,
        Some(time) => {
            let milliseconds = time.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(milliseconds.min(3_600_000) as u32).unwrap_or(EpollTimeout::MAX)
        }
    }
}

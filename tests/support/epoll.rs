//! An event loop of somebody who knows nothing of us.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// An epoll, level-triggered.
pub struct Loop(OwnedFd);

impl Loop {
    /// A new one, without descriptors.
    pub fn new() -> Loop {
        // SAFETY: epoll_create1 answers a new descriptor, which nobody else owns.
        Loop(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    /// From now on it waits for `descriptor` too; one that it has already stays as it is.
    pub fn add(&self, descriptor: impl AsFd) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let fd = descriptor.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open, and the event lives in this frame.
        let added = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        assert!(added == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EEXIST));
    }

    /// Sleeps until one of them is readable; without a time limit, so what is missed hangs the test.
    pub fn turn(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: the kernel writes 8 events at most.
        unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, -1) };
    }
}

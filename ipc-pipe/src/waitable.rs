//! `Waitable`: what `wait` waits for, and what each kind tells of itself.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_shm::Descriptor;
use ipc_sync::{Event, WakeWord};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pipe::Connection;
use crate::receiver::{Readiness, Receiver};

/// What [`wait`](crate::wait()) can wait for.
///
/// Connections, links and receivers are ready when a receive would not wait: for a message, for end of file, or with an error. A
/// [`Listener`](crate::Listener) is ready when somebody is at the door, or goes on with a handshake.
/// An [`Event`] is ready when it is set, or was while the wait lasted. A process is ready when it has ended. A descriptor is
/// ready when it is readable, at its end or in error; [`Writable`] waits for room.
///
/// Whoever implements it for a type of its own promises that what [`watch`](Waitable::watch) lends tells of each
/// change from not ready to ready after the call. It may tell in vain.
pub trait Waitable {
    /// Whether it is ready now. Does not block.
    fn is_ready(&self) -> bool;

    /// What tells of its readiness from now on. Does not block.
    fn watch(&self) -> Watch<'_>;
}

/// What tells of the readiness of a [`Waitable`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Watch<'a> {
    /// It is ready.
    Ready,
    /// This becomes readable.
    Readable(BorrowedFd<'a>),
    /// This becomes writable.
    Writable(BorrowedFd<'a>),
    /// This becomes readable, and was prepared for it; see [`Receiver::readiness`].
    Armed(Readiness),
    /// This word of shared memory is woken.
    Word(Arc<dyn WakeWord>),
    /// Nothing does at the moment: another thread is using it. Look again soon.
    Busy,
}

impl Waitable for Receiver {
    fn is_ready(&self) -> bool {
        self.look()
    }

    fn watch(&self) -> Watch<'_> {
        self.watch_frames()
    }
}

impl Waitable for Connection {
    fn is_ready(&self) -> bool {
        self.receiver().is_ready()
    }

    fn watch(&self) -> Watch<'_> {
        self.receiver().watch()
    }
}

impl Waitable for Event {
    fn is_ready(&self) -> bool {
        self.is_set()
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Word(self.wake_word())
    }
}

/// Anything with a descriptor, as something that is waited for until it is readable.
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let (mut here, there) = UnixStream::pair()?;
/// here.write_all(b"!")?;
/// assert_eq!(ipc_pipe::wait(&[&ipc_pipe::Readable(&there)]), [0]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[doc(alias = "fileno")]
pub struct Readable<F>(pub F);

/// Anything with a descriptor, as something that is waited for until it is writable.
#[derive(Debug, Clone, Copy)]
#[doc(alias = "POLLOUT")]
pub struct Writable<F>(pub F);

impl<F: AsFd> Waitable for Readable<F> {
    fn is_ready(&self) -> bool {
        answers(self.0.as_fd(), PollFlags::POLLIN)
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Readable(self.0.as_fd())
    }
}

impl<F: AsFd> Waitable for Writable<F> {
    fn is_ready(&self) -> bool {
        answers(self.0.as_fd(), PollFlags::POLLOUT)
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Writable(self.0.as_fd())
    }
}

macro_rules! readable {
    ($($descriptor:ty),*) => {$(
        impl Waitable for $descriptor {
            fn is_ready(&self) -> bool {
                answers(self.as_fd(), PollFlags::POLLIN)
            }

            fn watch(&self) -> Watch<'_> {
                Watch::Readable(self.as_fd())
            }
        }
    )*};
}

readable!(BorrowedFd<'_>, OwnedFd, File, Descriptor);

/// Whether a descriptor does not keep a reader, or writer, waiting.
fn answers(descriptor: BorrowedFd<'_>, events: PollFlags) -> bool {
    let mut entry = [PollFd::new(descriptor, events)];
    poll(&mut entry, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

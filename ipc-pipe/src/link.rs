//! `Link`: what `accept` and `connect` give.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc_shm::handle::Outgoing;
use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{RecvError, SendError, TryRecvError, TrySendError};
use crate::greeting::Peer;
use crate::pipe::Connection;
use crate::receiver::{Readiness, decode};
use crate::socket::Bundle;
use crate::stream::Stream;
use crate::waitable::{Waitable, Watch};
use crate::{codec, scratch};

/// A connection between processes that found each other by an [`Address`](crate::Address).
///
/// Between processes of one user on one machine it is a [`Connection`], with all that is said there. Otherwise it is a stream over
/// a socket: the same messages, without handles, and each costs system calls. What a stream receives is checked like
/// anything that comes from outside; what it carries is not encrypted.
///
/// When the process at the other end dies, however it dies, what it sent before is still received, then comes
/// [`RecvError::Closed`], at once; where it is a machine on the network that died, half a minute later.
///
/// A link may be shared between threads: messages go one after the other and whole. It belongs to one process: a forked child leaves
/// its copy of a stream alone.
///
/// # For event loops
///
/// [`readiness`](Link::readiness) tells what to wait for, `try_…` never block. Over a stream [`try_send_bytes`](Link::try_send_bytes)
/// takes a message whole as soon as the kernel takes some of it; the rest stays in the link
/// ([`has_unsent`](Link::has_unsent)) until [`flush`](Link::flush), which is to be called when [`outlet`](Link::outlet) is
/// writable. [`is_mid_message`](Link::is_mid_message) tells of a peer that began a message and does not end it.
///
/// ```
/// use ipc_pipe::{Address, Key, Listener, connect};
///
/// let key = Key::random()?;
/// let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".into()), key.clone())?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || connect(&address, &key).unwrap().send(&(1, "one")).unwrap());
/// let link = listener.accept()?;
/// assert!(!link.is_local(), "TCP stays a stream");
/// assert_eq!(link.recv::<(i32, String)>()?, (1, "one".to_owned()));
/// # client.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Link {
    way: Way,
    peer: Option<Peer>,
}

#[derive(Debug)]
enum Way {
    Rings(Connection),
    Stream(Box<Stream>),
}

use Way::{Rings, Stream as Bytes};

impl Link {
    pub(crate) fn rings(connection: Connection, peer: Option<Peer>) -> Link {
        Link { way: Rings(connection), peer }
    }

    pub(crate) fn stream(socket: OwnedFd, peer: Option<Peer>) -> Link {
        Link { way: Bytes(Box::new(Stream::new(socket))), peer }
    }

    /// Sends a value; waits for room. See [`Sender::send`](crate::Sender::send).
    ///
    /// # Errors
    ///
    /// See [`SendError`]. Handles inside the value do not go over a stream: [`SendError::TooManyHandles`], of which 0 are allowed.
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        match &self.way {
            Rings(connection) => connection.send(value),
            Bytes(stream) => send(stream, value, Deadline::NEVER).map_err(TrySendError::endless),
        }
    }

    /// Sends a value if there is room. Does not block. See [`try_send_bytes`](Link::try_send_bytes).
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    #[inline]
    pub fn try_send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.try_send(value),
            Bytes(stream) => send(stream, value, Deadline::NOW),
        }
    }

    /// Sends a value; waits for room for `timeout` at most. See [`send_bytes_timeout`](Link::send_bytes_timeout).
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_timeout<T: Serialize + ?Sized>(
        &self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.send_timeout(value, timeout),
            Bytes(stream) => send(stream, value, Deadline::after(timeout)),
        }
    }

    /// Sends a value; waits for room until `deadline` at most. See [`send_bytes_timeout`](Link::send_bytes_timeout).
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_deadline<T: Serialize + ?Sized>(
        &self,
        value: &T,
        deadline: Instant,
    ) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.send_deadline(value, deadline),
            Bytes(stream) => send(stream, value, Deadline::at(deadline)),
        }
    }

    /// Sends bytes as they are; waits for room.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        match &self.way {
            Rings(connection) => connection.send_bytes(message),
            Bytes(stream) => stream.transmit(message, Deadline::NEVER).map_err(TrySendError::endless),
        }
    }

    /// Sends bytes if there is room, all or none. Does not block.
    ///
    /// A stream takes the message as soon as the kernel takes some of it and nothing of an earlier one is left; what the kernel does
    /// not take stays in the link, for [`flush`](Link::flush).
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room; else as [`send_bytes`](Link::send_bytes).
    #[inline]
    pub fn try_send_bytes(&self, message: &[u8]) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.try_send_bytes(message),
            Bytes(stream) => stream.transmit(message, Deadline::NOW),
        }
    }

    /// Sends bytes, all or none; waits for room for `timeout` at most. What the kernel did not take by then of a message that it has
    /// begun to take stays in the link, and goes on with the next call that sends or waits.
    ///
    /// # Errors
    ///
    /// As [`try_send_bytes`](Link::try_send_bytes).
    pub fn send_bytes_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.send_bytes_timeout(message, timeout),
            Bytes(stream) => stream.transmit(message, Deadline::after(timeout)),
        }
    }

    /// As [`send_bytes_timeout`](Link::send_bytes_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_send_bytes`](Link::try_send_bytes).
    pub fn send_bytes_deadline(&self, message: &[u8], deadline: Instant) -> Result<(), TrySendError> {
        match &self.way {
            Rings(connection) => connection.send_bytes_deadline(message, deadline),
            Bytes(stream) => stream.transmit(message, Deadline::at(deadline)),
        }
    }

    /// Receives a value; waits until a message is there. See [`Receiver::recv`](crate::Receiver::recv).
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        match &self.way {
            Rings(connection) => connection.recv(),
            Bytes(stream) => recv(stream, Deadline::NEVER).map_err(TryRecvError::endless),
        }
    }

    /// Receives a value that is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if there is none; else as [`recv`](Link::recv).
    #[inline]
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.try_recv(),
            Bytes(stream) => recv(stream, Deadline::NOW),
        }
    }

    /// Receives a value; waits `timeout` at most. What came of a message until then is kept.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv).
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.recv_timeout(timeout),
            Bytes(stream) => recv(stream, Deadline::after(timeout)),
        }
    }

    /// As [`recv_timeout`](Link::recv_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv).
    pub fn recv_deadline<T: DeserializeOwned>(&self, deadline: Instant) -> Result<T, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.recv_deadline(deadline),
            Bytes(stream) => recv(stream, Deadline::at(deadline)),
        }
    }

    /// Receives a message as bytes; waits until one is there.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        match &self.way {
            Rings(connection) => connection.recv_bytes(),
            Bytes(stream) => bytes(stream, Deadline::NEVER).map_err(TryRecvError::endless),
        }
    }

    /// Receives a message as bytes, if one is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv).
    #[inline]
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.try_recv_bytes(),
            Bytes(stream) => bytes(stream, Deadline::NOW),
        }
    }

    /// Receives a message as bytes; waits `timeout` at most, as [`recv_timeout`](Link::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv).
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.recv_bytes_timeout(timeout),
            Bytes(stream) => bytes(stream, Deadline::after(timeout)),
        }
    }

    /// As [`recv_bytes_timeout`](Link::recv_bytes_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv).
    pub fn recv_bytes_deadline(&self, deadline: Instant) -> Result<Vec<u8>, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.recv_bytes_deadline(deadline),
            Bytes(stream) => bytes(stream, Deadline::at(deadline)),
        }
    }

    /// Receives a message and lends its bytes to `f`; waits until one is there. Nothing is allocated for one of up to 256 KiB.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]; then `f` is not called.
    #[inline]
    pub fn recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        match &self.way {
            Rings(connection) => connection.recv_with(f),
            Bytes(stream) => lend(stream, f, Deadline::NEVER).map_err(TryRecvError::endless),
        }
    }

    /// As [`recv_with`](Link::recv_with), if a message is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv); then `f` is not called.
    #[inline]
    pub fn try_recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.receiver().try_recv_with(f),
            Bytes(stream) => lend(stream, f, Deadline::NOW),
        }
    }

    /// As [`recv_with`](Link::recv_with); waits `timeout` at most, as [`recv_timeout`](Link::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Link::try_recv); then `f` is not called.
    pub fn recv_with_timeout<R>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, TryRecvError> {
        match &self.way {
            Rings(connection) => connection.receiver().recv_with_timeout(timeout, f),
            Bytes(stream) => lend(stream, f, Deadline::after(timeout)),
        }
    }

    /// Whether a receive would find something: (a part of) a message, or end of file. Waits `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Receiver::poll`](crate::Receiver::poll); a stream has none.
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let deadline = || if timeout.is_zero() { Deadline::NOW } else { Deadline::after(timeout) };
        match &self.way {
            Rings(connection) => connection.poll(timeout),
            Bytes(stream) => Ok(stream.poll(deadline())),
        }
    }

    /// What to wait for in a `poll`, `epoll` or `select` of your own; `None` = there is something to receive now.
    ///
    /// As [`Receiver::readiness`](crate::Receiver::readiness): call it before each wait, try to receive after it until there is
    /// nothing, and neither read nor write the descriptor.
    ///
    /// # Errors
    ///
    /// As [`poll`](Link::poll).
    #[doc(alias = "fileno")]
    pub fn readiness(&self) -> Result<Option<Readiness>, RecvError> {
        match &self.way {
            Rings(connection) => connection.readiness(),
            Bytes(stream) => Ok(announce(stream)),
        }
    }

    /// Whether a message, or a part of one, lies in shared memory. It asks the kernel nothing, and so says nothing of a stream or
    /// the end of file.
    #[doc(hidden)] // for loops over many links
    #[inline]
    pub fn glance(&self) -> bool {
        match &self.way {
            Rings(connection) => connection.receiver().glance(),
            Bytes(_) => false,
        }
    }

    /// Whether the other side has taken all that was sent, as memory tells. It says so of a stream always, of which nobody can
    /// tell.
    #[doc(hidden)] // as `glance`
    pub fn all_taken(&self) -> bool {
        match &self.way {
            Rings(connection) => connection.sender().all_taken(),
            Bytes(_) => true,
        }
    }

    /// The processor on which the other side was last seen, if that is known.
    #[doc(hidden)] // as `glance`
    pub fn peer_processor(&self) -> Option<u32> {
        match &self.way {
            Rings(connection) => Some(connection.receiver().writer_processor()),
            Bytes(_) => None,
        }
    }

    /// Whether a message has begun to come and is not whole, as the last receive left it.
    pub fn is_mid_message(&self) -> bool {
        match &self.way {
            Rings(connection) => connection.receiver().is_mid_message(),
            Bytes(stream) => stream.is_mid_message(),
        }
    }

    /// Whether a part of a message that was taken is still here, for [`flush`](Link::flush). Never so over rings.
    pub fn has_unsent(&self) -> bool {
        match &self.way {
            Rings(_) => false,
            Bytes(stream) => stream.has_unsent(),
        }
    }

    /// Sends what is still here as far as the kernel takes it; true = nothing is left. Does not block.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn flush(&self) -> Result<bool, SendError> {
        match &self.way {
            Rings(_) => Ok(true),
            Bytes(stream) => stream.flush(Deadline::NOW),
        }
    }

    /// The descriptor that becomes writable when there is room for more; `None` = rings, which have none.
    pub fn outlet(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Rings(_) => None,
            Bytes(stream) => Some(stream.descriptor().as_fd()),
        }
    }

    /// Sends and takes no message larger than so many bytes; 64 MiB unless set.
    pub fn set_max_message(&self, bytes: usize) {
        match &self.way {
            Rings(connection) => connection.set_max_message(bytes),
            Bytes(stream) => stream.set_max_message(bytes),
        }
    }

    /// Who is at the other end; `None` = it is on a network.
    #[doc(alias = "SO_PEERCRED")]
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Whether it goes over shared memory, and so carries handles.
    pub fn is_local(&self) -> bool {
        matches!(self.way, Rings(_))
    }

    /// The connection over shared memory; a stream comes back as it is.
    ///
    /// # Errors
    ///
    /// It is a stream.
    pub fn into_connection(self) -> Result<Connection, Link> {
        match self.way {
            Rings(connection) => Ok(connection),
            way => Err(Link { way, ..self }),
        }
    }

    /// Closes this end. What was sent can still be received; dropping it does the same.
    pub fn close(self) {}
}

fn send<T: Serialize + ?Sized>(stream: &Stream, value: &T, deadline: Deadline) -> Result<(), TrySendError> {
    scratch::with(|buffer| {
        let table = Outgoing::open();
        codec::encode(value, buffer).map_err(SendError::Encode)?;
        let sending = table.finish();
        if !sending.is_empty() {
            return Err(SendError::TooManyHandles { count: sending.descriptors().len(), max: 0 }.into());
        }
        stream.transmit(buffer, deadline)
    })
}

fn recv<T: DeserializeOwned>(stream: &Stream, deadline: Deadline) -> Result<T, TryRecvError> {
    scratch::with(|buffer| {
        stream.receive(buffer, deadline)?;
        decode(buffer, Bundle::default()).map_err(TryRecvError::Failed)
    })
}

fn bytes(stream: &Stream, deadline: Deadline) -> Result<Vec<u8>, TryRecvError> {
    let mut message = Vec::new();
    stream.receive(&mut message, deadline)?;
    Ok(message)
}

fn lend<R>(stream: &Stream, f: impl FnOnce(&[u8]) -> R, deadline: Deadline) -> Result<R, TryRecvError> {
    scratch::with(|buffer| {
        stream.receive(buffer, deadline)?;
        Ok(f(buffer))
    })
}

/// What tells of the next bytes, if none are here.
fn announce(stream: &Stream) -> Option<Readiness> {
    (!stream.has_news()).then(|| Readiness::of(stream.descriptor().clone()))
}

impl Waitable for Link {
    fn is_ready(&self) -> bool {
        match &self.way {
            Rings(connection) => connection.is_ready(),
            Bytes(stream) => stream.poll(Deadline::NOW),
        }
    }

    fn watch(&self) -> Watch<'_> {
        match &self.way {
            Rings(connection) => connection.watch(),
            Bytes(stream) => announce(stream).map_or(Watch::Ready, Watch::Armed),
        }
    }
}

//! `pipe` and `simplex`, and the end that both reads and writes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{
    OpenError, PayloadError, PipeError, RecvError, RecvIntoError, SendError, TryRecvError, TrySendError,
};
use crate::half::{End, LendError, Ticket};
use crate::loan::Loan;
use crate::payload::Payload;
use crate::receiver::{Readiness, Receiver};
use crate::segment;
use crate::sender::Sender;
use crate::socket::Socket;

/// A new pipe in which both ends send and receive.
///
/// It takes three descriptors and 132 KiB of address space, backed as far as it is used; see the
/// [crate](crate#what-it-costs).
///
/// ```
/// let (here, there) = ipc_pipe::pipe()?;
/// here.send("ping")?;
/// assert_eq!(there.recv::<String>()?, "ping");
/// there.send("pong")?;
/// assert_eq!(here.recv::<String>()?, "pong");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// No memory, no descriptor, or no registry for this process.
#[doc(alias = "Pipe")]
#[doc(alias = "socketpair")]
pub fn pipe() -> Result<(Connection, Connection), PipeError> {
    let (one, other) = ends()?;
    Ok((Connection::new(one), Connection::new(other)))
}

/// A new pipe in which one end sends and the other receives.
///
/// ```
/// let (receiver, sender) = ipc_pipe::simplex()?;
/// sender.send_bytes(b"")?;
/// drop(sender);
/// assert_eq!(receiver.recv_bytes()?, b""); // an empty message is a message
/// assert!(matches!(receiver.recv_bytes(), Err(ipc_pipe::RecvError::Closed)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`pipe`].
#[doc(alias = "Pipe(duplex=False)")]
pub fn simplex() -> Result<(Receiver, Sender), PipeError> {
    let (one, other) = ends()?;
    Ok((Receiver::new(one), Sender::new(other)))
}

fn ends() -> Result<(End, End), PipeError> {
    let segment = segment::create()?;
    let (one, other) = Socket::pair().map_err(PipeError::Io)?;
    Ok((End::new(one, segment.clone(), 0), End::new(other, segment, 1)))
}

/// One end of a [`pipe`]: a [`Sender`] and a [`Receiver`] in one, and all that is said there holds here.
///
/// When the process at the other end dies, however it dies, what it sent before is still received, then comes
/// [`RecvError::Closed`], at once.
///
/// It is a handle: sent inside a message, it moves to the receiver of that message together with what was not received
/// yet, and answers `Moved` here.
///
/// ```
/// use ipc_pipe::{Connection, pipe};
///
/// let (here, there) = pipe()?;
/// let (mine, yours) = pipe()?;
/// here.send(&yours)?;
/// mine.send("unread, and moved with its end")?;
/// let yours: Connection = there.recv()?;
/// assert_eq!(yours.recv::<String>()?, "unread, and moved with its end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[doc(alias = "multiprocessing.connection.Connection")]
pub struct Connection {
    // In this order: the last half to go wakes the other end when the socket is closed, and it is a writer that may sleep
    // for the room that only a receiver makes.
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    fn new(end: End) -> Connection {
        Connection { sender: Sender::new(end.again()), receiver: Receiver::new(end) }
    }

    /// Its sending half, for all that a [`Sender`] can do.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Its receiving half, for all that a [`Receiver`] can do.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Its two halves, for two threads or two owners. Limits that were set stay.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Sends a value; see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.sender.send(value)
    }

    /// Sends bytes as they are; see [`Sender::send_bytes`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send_bytes(message)
    }

    /// Sends a value if there is room for all of it; see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    #[inline]
    pub fn try_send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), TrySendError> {
        self.sender.try_send(value)
    }

    /// Sends a value, whole or not at all; waits for room for `timeout` at most. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_timeout<T: Serialize + ?Sized>(
        &self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), TrySendError> {
        self.sender.send_timeout(value, timeout)
    }

    /// Sends a value, whole or not at all; waits for room until `deadline` at most. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_deadline<T: Serialize + ?Sized>(
        &self,
        value: &T,
        deadline: Instant,
    ) -> Result<(), TrySendError> {
        self.sender.send_deadline(value, deadline)
    }

    /// Sends bytes if there is room for all of them; see [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    #[inline]
    pub fn try_send_bytes(&self, message: &[u8]) -> Result<(), TrySendError> {
        self.sender.try_send_bytes(message)
    }

    /// Sends bytes, all or none; waits for room for `timeout` at most. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_bytes_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), TrySendError> {
        self.sender.send_bytes_timeout(message, timeout)
    }

    /// Sends bytes, all or none; waits for room until `deadline` at most. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn send_bytes_deadline(&self, message: &[u8], deadline: Instant) -> Result<(), TrySendError> {
        self.sender.send_bytes_deadline(message, deadline)
    }

    /// Borrows the place of a message of `length` bytes; see [`Sender::loan`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn loan(&self, length: usize) -> Result<Loan<'_>, SendError> {
        self.sender.loan(length)
    }

    /// Memory for a message that is handed over and not copied; see [`Sender::payload`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn payload(&self, length: usize) -> Result<Payload, SendError> {
        self.sender.payload(length)
    }

    /// Hands a payload over; see [`Sender::send_payload`].
    ///
    /// # Errors
    ///
    /// See [`PayloadError`].
    pub fn send_payload(&self, payload: Payload) -> Result<(), PayloadError> {
        self.sender.send_payload(payload)
    }

    /// Receives a message in place, if it was handed over; see [`Receiver::recv_payload`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv_payload(&self) -> Result<Payload, RecvError> {
        self.receiver.recv_payload()
    }

    /// Receives a message and lends its bytes to `f`; see [`Receiver::recv_with`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        self.receiver.recv_with(f)
    }

    /// As [`recv_with`](Connection::recv_with), if a message is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv_with`].
    #[inline]
    pub fn try_recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, TryRecvError> {
        self.receiver.try_recv_with(f)
    }

    /// As [`recv_with`](Connection::recv_with); waits `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_with_timeout`].
    pub fn recv_with_timeout<R>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, TryRecvError> {
        self.receiver.recv_with_timeout(timeout, f)
    }

    /// Receives a value; waits until a message is there. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// Receives a value that is there already; see [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    #[inline]
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives a value; waits `timeout` at most. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, TryRecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Receives a value; waits until `deadline` at most. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn recv_deadline<T: DeserializeOwned>(&self, deadline: Instant) -> Result<T, TryRecvError> {
        self.receiver.recv_deadline(deadline)
    }

    /// Receives a message as bytes; waits until one is there. See [`Receiver::recv_bytes`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// Receives a message as bytes, if one is there already; see [`Receiver::try_recv_bytes`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    #[inline]
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, TryRecvError> {
        self.receiver.try_recv_bytes()
    }

    /// Receives a message as bytes; waits `timeout` at most. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, TryRecvError> {
        self.receiver.recv_bytes_timeout(timeout)
    }

    /// Receives a message as bytes; waits until `deadline` at most. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn recv_bytes_deadline(&self, deadline: Instant) -> Result<Vec<u8>, TryRecvError> {
        self.receiver.recv_bytes_deadline(deadline)
    }

    /// Receives a message into `buffer` and answers its length; see [`Receiver::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// See [`RecvIntoError`]: a message that is too large for `buffer` comes back inside.
    #[inline]
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// Whether a receive would find a message or end of file; waits `timeout` at most. See [`Receiver::poll`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::poll`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout)
    }

    /// What to wait for in a `poll` of your own; see [`Receiver::readiness`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::poll`].
    pub fn readiness(&self) -> Result<Option<Readiness>, RecvError> {
        self.receiver.readiness()
    }

    /// Sends and takes no message larger than so many bytes; 64 MiB unless set.
    pub fn set_max_message(&self, bytes: usize) {
        self.sender.set_max_message(bytes);
        self.receiver.set_max_message(bytes);
    }

    /// Closes this end here. What was sent can still be received. Dropping it does the same.
    pub fn close(self) {}

    /// What a new process must be given to have this end; for starting processes. The end is nobody's meanwhile.
    ///
    /// # Errors
    ///
    /// The end was sent away or is in use, or the limit of open descriptors is reached.
    pub fn into_parts(self) -> io::Result<Parts> {
        let Connection { sender, receiver } = self;
        let unusable = |why: LendError| io::Error::other(why.to_string());
        drop(receiver.into_half().into_end().map_err(unusable)?);
        sender.into_half().into_end().map_err(unusable)?.into_parts()
    }

    /// The end that [`into_parts`](Connection::into_parts) gave; for starting processes.
    ///
    /// # Errors
    ///
    /// The descriptors are not those of a pipe, or this process uses another registry.
    pub fn from_parts(parts: Parts) -> Result<Connection, OpenError> {
        let Parts { socket, segment, side } = parts;
        End::open(Arc::new(socket), Arc::new(segment), side).map(Connection::new)
    }
}

/// A [`Connection`] taken apart; for starting processes.
#[derive(Debug)]
pub struct Parts {
    /// Its socket.
    pub socket: OwnedFd,
    /// Its shared memory.
    pub segment: OwnedFd,
    /// Which of the two ends it is.
    pub side: u32,
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ticket = self.sender.half().lend().map_err(ser::Error::custom)?;
        self.receiver.half().lend().map_err(ser::Error::custom)?;
        ticket.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ticket::deserialize(deserializer)?.redeem().map(Connection::new).map_err(de::Error::custom)
    }
}

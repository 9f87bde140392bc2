//! The side that reads.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use ipc_shm::handle::Incoming;
use ipc_sync::{Deadline, Patience};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{RecvError, RecvIntoError, TryRecvError};
use crate::half::{Cursor, End, Half, Ticket, Track, Unusable};
use crate::message::Partial;
use crate::payload::Payload;
use crate::ring::{Consumer, Words};
use crate::socket::Bundle;
use crate::waitable::Watch;
use crate::{codec, scratch};

/// What the reading side knows of itself.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    pub(crate) consumer: Consumer,
    pub(crate) patience: Patience,
    /// Payloads came, and their memory may still be kept.
    pub(crate) warm: bool,
    /// Where the writer was last seen.
    pub(crate) processor: u32,
    /// The other end is gone, for good.
    pub(crate) gone: bool,
    /// The message under way.
    pub(crate) partial: Option<Partial>,
    /// The rest of a message that was refused is still to come.
    pub(crate) skipping: bool,
}

impl Cursor for Inlet {
    const WRITES: bool = false;

    #[inline(always)]
    fn owner(words: &Words) -> &AtomicU32 {
        &words.reader.owner
    }

    fn take_over(track: &Track) -> Option<Inlet> {
        Some(Inlet { consumer: Consumer::take_over(&track.words)?, ..Inlet::default() })
    }

    fn may_move(&self) -> bool {
        self.partial.is_none() && !self.skipping
    }
}

/// The reading half of a [`Connection`](crate::Connection), or one end of a [`simplex`](crate::simplex) pipe.
///
/// Each receive waits until a message is there, or the other end is gone in all processes that had it (closed, exited,
/// killed): what was sent before is still received, then comes [`RecvError::Closed`]. An empty message is not end of
/// file. A process that holds both ends never sees it: close the copies you do not use.
///
/// A receiver may be shared between threads; each message goes to one of them, and a receive waits for those that came
/// before, within its own time. In another process (a forked child has a copy) it is [`RecvError::InUse`] as long as the
/// thread that used it last lives. It is a handle: sent inside a message, it moves to the receiver with what was not
/// received yet, and answers [`RecvError::Moved`] here.
///
/// ```
/// use ipc_pipe::{TryRecvError, simplex};
///
/// let (receiver, sender) = simplex()?;
/// assert!(matches!(receiver.try_recv::<u32>(), Err(TryRecvError::Empty)));
/// sender.send(&7u32)?;
/// assert_eq!(receiver.recv::<u32>()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "PipeConnection")]
pub struct Receiver {
    half: Arc<Half<Inlet>>,
}

impl Receiver {
    pub(crate) fn new(end: End) -> Receiver {
        Receiver { half: Arc::new(Half::new(end)) }
    }

    pub(crate) fn half(&self) -> &Arc<Half<Inlet>> {
        &self.half
    }

    pub(crate) fn into_half(self) -> Arc<Half<Inlet>> {
        self.half
    }

    /// Receives a value; waits until a message is there.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]. A message that is not a `T` comes back as bytes, and the stream goes on behind it.
    #[inline]
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER).map_err(TryRecvError::endless)
    }

    /// Receives a value that is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if there is none; else as [`recv`](Receiver::recv).
    #[inline]
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::NOW)
    }

    /// Receives a value; waits `timeout` at most. The parts of a large message that came until then are kept, and the
    /// next receive goes on with them.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives a value; waits until `deadline` at most, as [`recv_timeout`](Receiver::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn recv_deadline<T: DeserializeOwned>(&self, deadline: Instant) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::at(deadline))
    }

    /// Receives a message as bytes; waits until one is there. Handles that came with it are closed.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    #[inline]
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Deadline::NEVER).map_err(TryRecvError::endless)
    }

    /// Receives a message as bytes, if one is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    #[inline]
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, TryRecvError> {
        self.recv_bytes_until(Deadline::NOW)
    }

    /// Receives a message as bytes; waits `timeout` at most, as [`recv_timeout`](Receiver::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, TryRecvError> {
        self.recv_bytes_until(Deadline::after(timeout))
    }

    /// Receives a message as bytes; waits until `deadline` at most, as [`recv_timeout`](Receiver::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn recv_bytes_deadline(&self, deadline: Instant) -> Result<Vec<u8>, TryRecvError> {
        self.recv_bytes_until(Deadline::at(deadline))
    }

    /// Receives a message into `buffer`; waits until one is there. Answers its length. A message that came in one piece
    /// (up to 16 KiB always does) is copied once and nothing is allocated.
    ///
    /// ```
    /// let (receiver, sender) = ipc_pipe::simplex()?;
    /// sender.send_bytes(b"four")?;
    /// let mut buffer = [0; 16];
    /// let length = receiver.recv_bytes_into(&mut buffer)?;
    /// assert_eq!(&buffer[..length], b"four");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvIntoError::TooSmall`] with the whole message if `buffer` is too small; else as
    /// [`recv_bytes`](Receiver::recv_bytes).
    #[inline]
    #[doc(alias = "BufferTooShort")]
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvIntoError> {
        let failed = |error: TryRecvError| RecvIntoError::Failed(error.endless());
        let mut here = self.half.enter(Deadline::NEVER).map_err(|why| failed(why.into()))?;
        let max = self.half.max_message();
        if let Some(length) = here.receive_into(buffer, max, Deadline::NEVER).map_err(failed)? {
            return Ok(length);
        }
        let mut message = Vec::new();
        here.receive(&mut message, max, Deadline::NEVER).map_err(failed)?;
        drop(here);
        match buffer.get_mut(..message.len()) {
            Some(buffer) => {
                buffer.copy_from_slice(&message);
                Ok(message.len())
            }
            None => Err(RecvIntoError::TooSmall(message)),
        }
    }

    /// Receives a message and lends its bytes to `f`; waits until one is there. Nothing is allocated for one of up to 256
    /// KiB: the bytes lie in a buffer that this thread keeps, where nobody else can change them. Handles that came with it are
    /// closed.
    ///
    /// ```
    /// let (receiver, sender) = ipc_pipe::simplex()?;
    /// sender.send_bytes(b"1 2 3")?;
    /// let words = receiver.recv_with(|bytes| bytes.split(|byte| *byte == b' ').count())?;
    /// assert_eq!(words, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`RecvError`]; then `f` is not called.
    #[inline]
    pub fn recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        self.recv_with_until(f, Deadline::NEVER).map_err(TryRecvError::endless)
    }

    /// As [`recv_with`](Receiver::recv_with), if a message is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv); then `f` is not called.
    #[inline]
    pub fn try_recv_with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, TryRecvError> {
        self.recv_with_until(f, Deadline::NOW)
    }

    /// As [`recv_with`](Receiver::recv_with); waits `timeout` at most, as [`recv_timeout`](Receiver::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv); then `f` is not called.
    pub fn recv_with_timeout<R>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, TryRecvError> {
        self.recv_with_until(f, Deadline::after(timeout))
    }

    /// Receives a message in place, if it was handed over, else a copy; waits until one is there. See
    /// [`Payload`]. Handles that came with it are closed.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv_payload(&self) -> Result<Payload, RecvError> {
        self.recv_payload_until(Deadline::NEVER).map_err(TryRecvError::endless)
    }

    /// As [`recv_payload`](Receiver::recv_payload), if a message is there already, whole. Does not block.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn try_recv_payload(&self) -> Result<Payload, TryRecvError> {
        self.recv_payload_until(Deadline::NOW)
    }

    /// As [`recv_payload`](Receiver::recv_payload); waits `timeout` at most, as [`recv_timeout`](Receiver::recv_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn recv_payload_timeout(&self, timeout: Duration) -> Result<Payload, TryRecvError> {
        self.recv_payload_until(Deadline::after(timeout))
    }

    /// Whether a receive would find something: (a part of) a message, or end of file. Waits `timeout` at most, also for
    /// another thread that is receiving.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`], [`RecvError::InUse`] and the like; never [`RecvError::Closed`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let deadline = if timeout.is_zero() { Deadline::NOW } else { Deadline::after(timeout) };
        match self.half.enter(deadline).map_err(TryRecvError::from) {
            Ok(mut here) => Ok(here.poll(deadline)),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Failed(error)) => Err(error),
        }
    }

    /// What to wait for in a `poll`, `epoll` or `select` of your own; `None` = there is something to receive now.
    ///
    /// The descriptor becomes readable when there is something to receive. It stays so until this is called again
    /// and finds nothing, so it may be readable in vain, but it never misses a message that comes after
    /// the call. Call this before each wait, try to receive after it, and neither read nor write the descriptor. Waits
    /// for a thread of this process that is receiving.
    ///
    /// # Errors
    ///
    /// As [`poll`](Receiver::poll).
    #[doc(alias = "fileno")]
    pub fn readiness(&self) -> Result<Option<Readiness>, RecvError> {
        let mut here = self.half.enter(Deadline::NEVER).map_err(|why| TryRecvError::from(why).endless())?;
        Ok(here.arm().map(Readiness))
    }

    /// Whether a message, or a part of one, lies in the ring. It asks the kernel nothing and says nothing of the end of file: for
    /// loops over many links.
    #[inline]
    pub(crate) fn glance(&self) -> bool {
        match self.half.enter(Deadline::NOW) {
            Ok(here) => here.cursor.consumer.front(&here.track.bytes).is_some(),
            Err(_) => false,
        }
    }

    /// The processor on which the writer was last seen.
    pub(crate) fn writer_processor(&self) -> u32 {
        self.half.enter(Deadline::NOW).map_or(u32::MAX, |here| here.cursor.processor)
    }

    /// Whether a receive would not wait; one that answers with an error does not. Does not block.
    pub(crate) fn look(&self) -> bool {
        match self.half.enter(Deadline::NOW) {
            Ok(mut here) => here.poll(Deadline::NOW),
            Err(why) => !matches!(why, Unusable::Busy),
        }
    }

    /// Whether a message has begun to come and is not whole, as the last receive left it.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.half.enter(Deadline::NOW).is_ok_and(|here| !here.cursor.may_move())
    }

    /// As [`readiness`](Receiver::readiness), for the wait for several things.
    pub(crate) fn watch_frames(&self) -> Watch<'static> {
        match self.half.enter(Deadline::NOW) {
            Ok(mut here) => here.arm().map_or(Watch::Ready, |socket| Watch::Armed(Readiness(socket))),
            Err(Unusable::Busy) => Watch::Busy,
            Err(_) => Watch::Ready,
        }
    }

    /// Takes no message larger than so many bytes; 64 MiB unless set. It is looked at before memory is taken for one.
    pub fn set_max_message(&self, bytes: usize) {
        self.half.set_max_message(bytes);
    }

    /// Closes this half here.
    pub fn close(self) {}

    #[inline]
    fn recv_until<T: DeserializeOwned>(&self, deadline: Deadline) -> Result<T, TryRecvError> {
        scratch::with(|buffer| {
            let max = self.half.max_message();
            let bundle = self.half.enter(deadline)?.receive(buffer, max, deadline)?;
            decode(buffer, bundle).map_err(TryRecvError::Failed)
        })
    }

    #[inline]
    fn recv_with_until<R>(&self, f: impl FnOnce(&[u8]) -> R, deadline: Deadline) -> Result<R, TryRecvError> {
        scratch::with(|buffer| {
            self.half.enter(deadline)?.receive(buffer, self.half.max_message(), deadline)?;
            Ok(f(buffer))
        })
    }

    fn recv_payload_until(&self, deadline: Deadline) -> Result<Payload, TryRecvError> {
        self.half.enter(deadline)?.receive_payload(self.half.max_message(), deadline)
    }

    #[inline]
    fn recv_bytes_until(&self, deadline: Deadline) -> Result<Vec<u8>, TryRecvError> {
        let mut message = Vec::new();
        self.half.enter(deadline)?.receive(&mut message, self.half.max_message(), deadline)?;
        Ok(message)
    }
}

#[inline]
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], bundle: Bundle) -> Result<T, RecvError> {
    let Bundle { mut descriptors, sent } = bundle;
    if descriptors.len() < sent {
        return Err(RecvError::HandlesLost { sent, received: descriptors.len() });
    }
    descriptors.truncate(sent);
    let _table = Incoming::open(descriptors);
    codec::decode(bytes).map_err(|error| RecvError::Decode { error, bytes: bytes.to_vec() })
}

/// A descriptor that becomes readable when there is something to receive; see [`Receiver::readiness`].
#[derive(Debug)]
pub struct Readiness(Arc<OwnedFd>);

impl Readiness {
    pub(crate) fn of(descriptor: Arc<OwnedFd>) -> Readiness {
        Readiness(descriptor)
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.half).finish()
    }
}

impl Serialize for Receiver {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.half.lend().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Receiver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ticket::deserialize(deserializer)?.redeem().map(Receiver::new).map_err(de::Error::custom)
    }
}

//! The side that writes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_shm::handle::{Outgoing, Sending};
use ipc_sync::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::ancillary::MAX_DESCRIPTORS;
use crate::error::{PayloadError, SendError, TrySendError};
use crate::half::{End, Half, Ticket};
use crate::loan::Loan;
use crate::outlet::Outlet;
use crate::payload::Payload;
use crate::{codec, scratch};

/// The writing half of a [`Connection`](crate::Connection), or one end of a [`simplex`](crate::simplex) pipe.
///
/// Sending waits only for room: what fits the ring (64 KiB) is sent without waiting for the receiver, and so are up to 4 MiB of
/// messages of 64 KiB and more. When the other end
/// is gone in all processes that had it, a send that needs room, or that finds the receiver asleep, answers
/// [`SendError::Closed`]; one that meets neither may still write into a ring that nobody will read. SIGPIPE is never
/// raised.
///
/// A sender may be shared between threads: messages go one after the other and whole. In another process (a forked
/// child has a copy) it is [`SendError::InUse`] as long as the thread that used it last lives. It is a handle: sent
/// inside a message, it moves to the receiver, and answers [`SendError::Moved`] here.
///
/// The two halves of one connection share a socket: the other end sees end of file when both are gone.
///
/// ```
/// let (receiver, sender) = ipc_pipe::simplex()?;
/// sender.send(&("a", 1))?;
/// assert_eq!(receiver.recv::<(String, i32)>()?, ("a".to_owned(), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "PipeConnection")]
pub struct Sender {
    half: Arc<Half<Outlet>>,
}

impl Sender {
    pub(crate) fn new(end: End) -> Sender {
        Sender { half: Arc::new(Half::new(end)) }
    }

    pub(crate) fn half(&self) -> &Arc<Half<Outlet>> {
        &self.half
    }

    pub(crate) fn into_half(self) -> Arc<Half<Outlet>> {
        self.half
    }

    /// Sends a value. Waits as long as there is no room for it; a message of more than 4 MiB waits for the receiver to take
    /// it in parts.
    ///
    /// Handles inside the value travel with it, in the message, whatever the depth. An end of a pipe that is sent stays
    /// open while the message is unread: a pipe whose one end lies unread in a pipe that nobody reads is never at its
    /// end of file.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the value is unharmed, and handles in it are still here.
    #[inline]
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.send_until(value, Deadline::NEVER).map_err(TrySendError::endless)
    }

    /// Sends a value if there is room for all of it. Does not block.
    ///
    /// What is sent with a time limit goes in one piece: the receiver meets it whole or not at all, and nothing is ever begun
    /// that the time does not suffice for. A message that is larger than the ring is copied into memory of its own, up to
    /// 64 MiB in all that is unread; the receiver copies it from there.
    ///
    /// ```
    /// use ipc_pipe::{TrySendError, simplex};
    ///
    /// let (receiver, sender) = simplex()?;
    /// let mut sent = 0;
    /// while sender.try_send_bytes(&[1; 1000]).is_ok() {
    ///     sent += 1;
    /// }
    /// assert!(matches!(sender.try_send(&1), Ok(()) | Err(TrySendError::Full)));
    /// (0..sent).for_each(|_| assert_eq!(receiver.recv_bytes().unwrap(), [1; 1000]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room; else as [`send`](Sender::send). A message larger than 64 MiB is too big.
    #[inline]
    pub fn try_send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), TrySendError> {
        self.send_until(value, Deadline::NOW)
    }

    /// Sends a value, whole or not at all; waits for room for `timeout` at most. See [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send).
    pub fn send_timeout<T: Serialize + ?Sized>(
        &self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), TrySendError> {
        self.send_until(value, Deadline::after(timeout))
    }

    /// Sends a value, whole or not at all; waits for room until `deadline` at most. See [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send).
    pub fn send_deadline<T: Serialize + ?Sized>(
        &self,
        value: &T,
        deadline: Instant,
    ) -> Result<(), TrySendError> {
        self.send_until(value, Deadline::at(deadline))
    }

    /// Sends bytes as they are. Waits as [`send`](Sender::send) does. An empty message is a message.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.send_bytes_until(message, Deadline::NEVER).map_err(TrySendError::endless)
    }

    /// Sends bytes if there is room for all of them. Does not block. See [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send).
    #[inline]
    pub fn try_send_bytes(&self, message: &[u8]) -> Result<(), TrySendError> {
        self.send_bytes_until(message, Deadline::NOW)
    }

    /// Sends bytes, all or none; waits for room for `timeout` at most. See [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send).
    pub fn send_bytes_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), TrySendError> {
        self.send_bytes_until(message, Deadline::after(timeout))
    }

    /// Sends bytes, all or none; waits for room until `deadline` at most. See [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send).
    pub fn send_bytes_deadline(&self, message: &[u8], deadline: Instant) -> Result<(), TrySendError> {
        self.send_bytes_until(message, Deadline::at(deadline))
    }

    /// Borrows the place of a message of `length` bytes, to be written where the receiver will read it. Waits for room, and
    /// for other threads of this process that are sending. See [`Loan`].
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (receiver, sender) = ipc_pipe::simplex()?;
    /// let mut loan = sender.loan(9)?;
    /// write!(loan, "{}", 12345)?;
    /// loan.write_at(5, b"6789")?;
    /// loan.send()?;
    /// assert_eq!(receiver.recv_bytes()?, b"123456789");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SendError`]. One thread can have one loan of an end: [`SendError::OnLoan`].
    #[doc(alias = "reserve")]
    pub fn loan(&self, length: usize) -> Result<Loan<'_>, SendError> {
        self.loan_until(length, Deadline::NEVER).map_err(TrySendError::endless)
    }

    /// As [`loan`](Sender::loan), if there is room now. Does not block.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is none; else as [`loan`](Sender::loan).
    pub fn try_loan(&self, length: usize) -> Result<Loan<'_>, TrySendError> {
        self.loan_until(length, Deadline::NOW)
    }

    /// As [`loan`](Sender::loan); waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Sender::try_loan).
    pub fn loan_timeout(&self, length: usize, timeout: Duration) -> Result<Loan<'_>, TrySendError> {
        self.loan_until(length, Deadline::after(timeout))
    }

    /// As [`loan`](Sender::loan); waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`try_loan`](Sender::try_loan).
    pub fn loan_deadline(&self, length: usize, deadline: Instant) -> Result<Loan<'_>, TrySendError> {
        self.loan_until(length, Deadline::at(deadline))
    }

    /// Memory for a message of `length` bytes that is handed over and not copied; see [`Payload`]. Waits until the pipe
    /// has so much free: 64 MiB in this direction, unread and held ones together.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[doc(alias = "allocate")]
    pub fn payload(&self, length: usize) -> Result<Payload, SendError> {
        self.payload_until(length, Deadline::NEVER).map_err(TrySendError::endless)
    }

    /// As [`payload`](Sender::payload), if there is room now. Does not block.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is none; else as [`payload`](Sender::payload).
    pub fn try_payload(&self, length: usize) -> Result<Payload, TrySendError> {
        self.payload_until(length, Deadline::NOW)
    }

    /// As [`payload`](Sender::payload); waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_payload`](Sender::try_payload).
    pub fn payload_timeout(&self, length: usize, timeout: Duration) -> Result<Payload, TrySendError> {
        self.payload_until(length, Deadline::after(timeout))
    }

    /// Hands a payload over: a few instructions, whatever its size. One of another pipe, or that was copied when it was
    /// received, is copied. Waits for room in the ring, as a short message does.
    ///
    /// # Errors
    ///
    /// See [`PayloadError`], which has the payload.
    pub fn send_payload(&self, payload: Payload) -> Result<(), PayloadError> {
        self.send_payload_until(payload, Deadline::NEVER)
    }

    /// As [`send_payload`](Sender::send_payload), if there is room now. Does not block.
    ///
    /// # Errors
    ///
    /// As [`send_payload`](Sender::send_payload).
    pub fn try_send_payload(&self, payload: Payload) -> Result<(), PayloadError> {
        self.send_payload_until(payload, Deadline::NOW)
    }

    /// As [`send_payload`](Sender::send_payload); waits for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`send_payload`](Sender::send_payload).
    pub fn send_payload_timeout(&self, payload: Payload, timeout: Duration) -> Result<(), PayloadError> {
        self.send_payload_until(payload, Deadline::after(timeout))
    }

    /// Sends no message larger than so many bytes; 64 MiB unless set. The receiver has a limit of its own.
    pub fn set_max_message(&self, bytes: usize) {
        self.half.set_max_message(bytes);
    }

    /// Closes this half here. What was sent can still be received.
    pub fn close(self) {}

    #[inline]
    fn send_until<T: Serialize + ?Sized>(&self, value: &T, deadline: Deadline) -> Result<(), TrySendError> {
        scratch::with(|buffer| {
            let table = Outgoing::open();
            codec::encode(value, buffer).map_err(SendError::Encode)?;
            let sending = table.finish();
            self.transmit(buffer, &sending, deadline)?;
            sending.sent();
            Ok(())
        })
    }

    #[inline]
    fn send_bytes_until(&self, message: &[u8], deadline: Deadline) -> Result<(), TrySendError> {
        self.check_size(message.len())?;
        self.half.enter(deadline)?.transmit(message, deadline)
    }

    #[inline]
    fn transmit(&self, message: &[u8], sending: &Sending, deadline: Deadline) -> Result<(), TrySendError> {
        self.check_size(message.len())?;
        if sending.is_empty() {
            return self.half.enter(deadline)?.transmit(message, deadline);
        }
        let count = sending.descriptors().len();
        if count > MAX_DESCRIPTORS {
            return Err(SendError::TooManyHandles { count, max: MAX_DESCRIPTORS }.into());
        }
        let descriptors: Vec<_> = sending.descriptors().collect();
        self.half.enter(deadline)?.transmit_with(message, &descriptors, deadline)
    }

    /// Whether the other side has taken everything. It asks the kernel nothing.
    pub(crate) fn all_taken(&self) -> bool {
        match self.half.enter(Deadline::NOW) {
            Ok(here) => here.cursor.producer.all_taken(&here.track.words),
            Err(_) => false,
        }
    }

    fn loan_until(&self, length: usize, deadline: Deadline) -> Result<Loan<'_>, TrySendError> {
        self.check_size(length)?;
        Loan::new(&self.half, length, deadline)
    }

    fn payload_until(&self, length: usize, deadline: Deadline) -> Result<Payload, TrySendError> {
        self.check_size(length)?;
        Ok(Payload::of(self.half.enter(deadline)?.allot(length, deadline)?))
    }

    fn send_payload_until(&self, payload: Payload, deadline: Deadline) -> Result<(), PayloadError> {
        let mut payload = payload;
        match self.try_hand_over(&mut payload, deadline) {
            Ok(()) => Ok(()),
            Err(error) => Err(PayloadError { payload, error }),
        }
    }

    fn try_hand_over(&self, payload: &mut Payload, deadline: Deadline) -> Result<(), TrySendError> {
        self.check_size(payload.len())?;
        let mut here = self.half.enter(deadline)?;
        match payload.extent() {
            Some(extent) if here.has(extent.store()) => here.hand_over(extent, &[], deadline),
            Some(extent) => {
                let mut copy = here.allot(extent.length(), deadline)?;
                copy.copy_from(extent);
                here.hand_over(&mut copy, &[], deadline)
            }
            None => here.transmit(payload.private(), deadline),
        }
    }

    #[inline]
    fn check_size(&self, size: usize) -> Result<(), SendError> {
        let max = self.half.max_message();
        if size > max { Err(SendError::TooBig { size, max }) } else { Ok(()) }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.half).finish()
    }
}

impl Serialize for Sender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.half.lend().map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ticket::deserialize(deserializer)?.redeem().map(Sender::new).map_err(de::Error::custom)
    }
}

//! One link in use: a request, and its answer.

use std::time::Duration;

use ipc_pipe::{Link, RecvError, SendError, TryRecvError, TrySendError, scratch};
use ipc_sync::Deadline;

use super::pool::{self, Epoch, Pool, Session, Stay};
use super::thread;
use crate::manager::error::CallError;
use crate::manager::message::{Answer, HEADER, Header, ObjectId, Op, Reader};

/// How much longer than its time a call waits for the server to say that the time is up.
const GRACE: Duration = Duration::from_millis(150);

/// A link that this thread has to itself. Dropped, it goes back to the others, if it is between two calls.
pub(in crate::manager) struct Seat<'p> {
    pool: &'p Pool,
    /// There until the seat is dropped.
    link: Option<Link>,
    epoch: Epoch,
    instance: u128,
    /// When what it is used for must be over.
    until: Option<Deadline>,
    state: State,
    most_stays: usize,
    /// There if the call may wait for others. Dropped after the link is back.
    _stay: Option<Stay<'p>>,
}

/// What the link is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing.
    Between,
    /// An answer is to come that nobody will read; or the link cannot be used any more.
    Spoiled,
    /// The server was told that nobody waits any more.
    Abandoned,
}

impl<'p> Seat<'p> {
    #[inline]
    pub(super) fn new(pool: &'p Pool, link: Link, session: &Session) -> Seat<'p> {
        let (epoch, instance) = (session.epoch, session.instance);
        let (link, most_stays) = (Some(link), session.most_stays());
        Seat { pool, link, epoch, instance, until: None, state: State::Between, most_stays, _stay: None }
    }

    /// For a call that may wait for others.
    #[inline]
    pub(super) fn keep(mut self, stay: Stay<'p>) -> Seat<'p> {
        self._stay = Some(stay);
        self
    }

    /// See [`Session::most_stays`].
    #[inline]
    pub(super) fn most_stays(&self) -> usize {
        self.most_stays
    }

    #[inline]
    pub(super) fn until(mut self, deadline: Option<Deadline>) -> Seat<'p> {
        self.until = deadline;
        self
    }

    /// The link, which does not go back to the others.
    pub(super) fn into_link(mut self) -> Option<Link> {
        self.link.take()
    }

    /// The session it belongs to.
    #[inline]
    pub(in crate::manager) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The life of the server it leads to.
    #[inline]
    pub(in crate::manager) fn instance(&self) -> u128 {
        self.instance
    }

    /// One request without values, and its answer.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(in crate::manager) fn ask<R>(
        &mut self,
        op: Op,
        object: ObjectId,
        write: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(Answer, Reader<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let header = Header { op, thread: thread(), object };
        let write = |message: &mut Vec<u8>| {
            write(message);
            Ok(())
        };
        self.exchange(header, self.until, write, read)
    }

    /// One request and its answer. With a deadline it waits a little longer than that for the answer, and then no more.
    #[inline]
    pub(super) fn exchange<R>(
        &mut self,
        header: Header,
        deadline: Option<Deadline>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        scratch::with(|message| {
            message.reserve(HEADER);
            header.write(message);
            write(message)?;
            self.send(message, deadline)
        })?;
        let read = |message: &[u8]| {
            let mut rest = Reader::new(message);
            match rest.u8().ok().and_then(Answer::of) {
                Some(answer) => read(answer, rest),
                None => Err(CallError::Protocol),
            }
        };
        let received = match (&self.link, patience(deadline)) {
            (None, _) => return Err(CallError::ServerDied),
            (Some(link), None) => link.recv_with(read).map_err(TryRecvError::Failed),
            (Some(link), Some(time)) => link.recv_with_timeout(time, read),
        };
        match received {
            Ok(result) => {
                self.state = State::Between;
                result
            }
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// From here on an answer is to come.
    #[inline]
    fn send(&mut self, message: &[u8], deadline: Option<Deadline>) -> Result<(), CallError> {
        let Some(link) = &self.link else { return Err(CallError::ServerDied) };
        let sent = match patience(deadline) {
            None => link.send_bytes(message),
            Some(time) => match link.send_bytes_timeout(message, time) {
                Ok(()) => Ok(()),
                Err(TrySendError::Failed(error)) => Err(error),
                Err(_) => return Err(CallError::TimedOut),
            },
        };
        match sent {
            Ok(()) => {
                self.state = State::Spoiled;
                Ok(())
            }
            Err(error) => Err(self.unsent(error)),
        }
    }

    #[cold]
    fn unsent(&mut self, error: SendError) -> CallError {
        match error {
            SendError::Closed => self.pool.forget(self.epoch),
            SendError::TooBig { .. } => return not_sent(error),
            _ => {}
        }
        self.state = State::Spoiled;
        not_sent(error)
    }

    #[cold]
    fn unanswered(&mut self, error: TryRecvError) -> CallError {
        match &error {
            TryRecvError::Failed(RecvError::Closed | RecvError::EofInside { .. }) => {
                self.pool.forget(self.epoch);
            }
            TryRecvError::Failed(RecvError::TooBig { .. }) => self.state = State::Between, // it is skipped
            TryRecvError::Failed(_) => {}
            _ => self.abandon(),
        }
        not_received(error)
    }

    /// The server is stopped, or has too much to do: should it grant what was asked for after all, it takes that back.
    fn abandon(&mut self) {
        let message = pool::plain(Op::Abandon, 0);
        if self.link.as_ref().is_some_and(|link| link.try_send_bytes(&message).is_ok()) {
            self.state = State::Abandoned;
        }
    }
}

impl Drop for Seat<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        match self.state {
            State::Between => self.pool.put_back(link, self.epoch),
            State::Abandoned => self.pool.put_aside(link, self.epoch),
            State::Spoiled => drop(link),
        }
    }
}

/// How long to wait for the server; `None` = as long as it takes.
#[inline]
pub(super) fn patience(deadline: Option<Deadline>) -> Option<Duration> {
    deadline.and_then(Deadline::remaining).map(|time| time.saturating_add(GRACE))
}

/// What a failed send means.
#[cold]
pub(super) fn not_sent(error: SendError) -> CallError {
    match error {
        SendError::Closed => CallError::ServerDied,
        SendError::TooBig { size, max } => CallError::TooBig { size, max },
        other => CallError::Link(Box::new(other)),
    }
}

/// What a failed receive means.
#[cold]
pub(super) fn not_received(error: TryRecvError) -> CallError {
    match error {
        TryRecvError::Failed(RecvError::Closed | RecvError::EofInside { .. }) => CallError::ServerDied,
        TryRecvError::Failed(RecvError::TooBig { size, max }) => {
            CallError::TooBig { size: usize::try_from(size).unwrap_or(usize::MAX), max }
        }
        TryRecvError::Failed(other) => CallError::Link(Box::new(other)),
        _ => CallError::TimedOut,
    }
}

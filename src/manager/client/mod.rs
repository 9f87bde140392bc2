//! This process as a client of one server.
//!
//! 1. `endpoint`: where the server is, and how a link to it is made.
//! 2. `pool`: the session, and its links that nobody uses at the moment. Each process has its own, a forked child too.
//! 3. `seat`: one link in use: a request, its answer.
//! 4. `carry`: proxies inside values.
//! 5. `table`: the clients of this process, one for each server.

mod carry;
mod endpoint;
mod pool;
mod seat;
mod table;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use ipc_pipe::Link;
use ipc_shm::PerProcess;
use ipc_sync::Deadline;

pub(super) use carry::{Loading, Storing, store, take};
pub(super) use endpoint::Endpoint;
pub(super) use pool::Epoch;
pub(super) use seat::Seat;

use self::pool::Pool;
use super::error::CallError;
use super::message::{Answer, Header, ObjectId, Op, Reader};
use super::proxy::done;

/// How long whoever gives something back waits for the server.
const A_MOMENT: Duration = Duration::from_millis(50);

/// One server as this process knows it.
pub(super) struct Client {
    endpoint: Endpoint,
    pool: PerProcess<Pool>,
}

impl Client {
    /// The client of that server in this process. Nothing is connected yet.
    pub(super) fn of(endpoint: &Endpoint) -> Arc<Client> {
        table::client(endpoint)
    }

    fn new(endpoint: Endpoint) -> Client {
        Client { endpoint, pool: PerProcess::new() }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A link for one call.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or this process has no place for another link.
    #[inline]
    pub(super) fn seat(&self) -> Result<Seat<'_>, CallError> {
        self.seat_until(None)
    }

    /// As [`seat`](Client::seat), for a call with that time limit.
    ///
    /// # Errors
    ///
    /// As [`seat`](Client::seat); [`CallError::TimedOut`].
    #[inline]
    pub(super) fn seat_until(&self, until: Option<Deadline>) -> Result<Seat<'_>, CallError> {
        self.pool.get().seat(&self.endpoint, until)
    }

    /// As [`seat_until`](Client::seat_until), for a call that may wait for others until then.
    ///
    /// # Errors
    ///
    /// As [`seat_until`](Client::seat_until); [`CallError::Exhausted`] if too many do.
    #[inline]
    pub(super) fn seat_to_wait(&self, until: Deadline) -> Result<Seat<'_>, CallError> {
        self.pool.get().seat_to_wait(&self.endpoint, until)
    }

    /// A link of the session `epoch`.
    ///
    /// # Errors
    ///
    /// [`CallError::ServerDied`]: the session is over; else as [`seat`](Client::seat).
    pub(super) fn seat_in(&self, epoch: Epoch) -> Result<Seat<'_>, CallError> {
        let pool = self.pool.get();
        let seat = if pool.is(epoch) {
            pool.seat(&self.endpoint, None)?
        } else {
            return Err(CallError::ServerDied);
        };
        if seat.epoch() == epoch { Ok(seat) } else { Err(CallError::ServerDied) }
    }

    /// Whether that is its session now.
    pub(super) fn is_in(&self, epoch: Epoch) -> bool {
        self.pool.get().is(epoch)
    }

    /// One reference of the session `epoch` less. Neither blocks nor connects: it may go with the next call.
    pub(super) fn release(&self, epoch: Epoch, object: ObjectId) {
        self.pool.get().release(epoch, object);
    }

    /// Gives back what the session `epoch` has of `object`, and waits for that a moment, so that whoever is told next finds
    /// it done. If the server is slower, or no link can be had, it is done later. Nothing is told of a session that is over.
    pub(super) fn give_back(&self, epoch: Epoch, op: Op, object: ObjectId, argument: &[u8]) {
        let pool = self.pool.get();
        if !pool.is(epoch) {
            return; // it may be a forked child's copy
        }
        let header = Header { op, thread: thread(), object };
        let moment = Some(Deadline::after(A_MOMENT));
        let seat = if pool.is_unheard_of() {
            None // who gives back much would wait for a stopped server each time
        } else {
            pool.idle_in(epoch).or_else(|| pool.seat(&self.endpoint, moment).ok())
        };
        let Some(mut seat) = seat.filter(|seat| seat.epoch() == epoch) else {
            let mut request = Vec::new();
            header.write(&mut request);
            request.extend_from_slice(argument);
            return pool.owe(epoch, request);
        };
        let write = |message: &mut Vec<u8>| {
            message.extend_from_slice(argument);
            Ok(())
        };
        let _ = seat.exchange(header, moment, write, |_, _| Ok(()));
    }

    /// One request about no object, and its answer.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(super) fn ask<R>(
        self: &Arc<Client>,
        op: Op,
        write: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(Answer, Reader<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.seat()?.ask(op, 0, write, read)
    }

    /// One request about no object without anything more, within `deadline` and a little longer.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(super) fn ask_until(&self, deadline: Deadline, op: Op) -> Result<(), CallError> {
        self.seat_until(Some(deadline))?.ask(op, 0, |_| (), done)
    }

    /// A link of the session that is used for nothing: it ends with the server.
    ///
    /// # Errors
    ///
    /// As [`seat`](Client::seat).
    pub(super) fn link(&self) -> Result<Link, CallError> {
        self.seat()?.into_link().ok_or(CallError::ServerDied)
    }

    /// One request about `object`, which `seat` knows by that number, and its answer.
    #[inline]
    pub(super) fn exchange<R>(
        self: &Arc<Client>,
        mut seat: Seat<'_>,
        op: Op,
        object: ObjectId,
        deadline: Option<Deadline>,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let storing = Storing::new(seat.instance());
        let loading = Loading::new(self, seat.epoch(), seat.instance());
        let header = Header { op, thread: thread(), object };
        seat.exchange(
            header,
            deadline,
            |message| write(message, &storing),
            |answer, rest| read(answer, rest, &loading),
        )
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.endpoint).finish()
    }
}

/// The number of this thread, as servers know it.
#[inline]
pub(super) fn thread() -> u32 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    static LAST: AtomicU32 = AtomicU32::new(0);
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LAST.fetch_add(1, Relaxed) + 1);
        }
        number.get()
    })
}

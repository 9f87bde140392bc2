//! The session of this process with a server, and its links that nobody uses at the moment.
//!
//! A call takes a link and puts it back, so that a thread that waits holds up no other. The link that was used last is used
//! next: its memory is warm, and the server looks at it most. A session lives as long as one of its links. A link that the
//! server closed is the end of its session here: nobody asks whether the server died or let go.
//!
//! A server gives a process so many links and no more. Calls that may wait for others get most of them and not all: whoever is
//! to end that waiting needs one too. So a short call waits at most until another short one is over.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ipc_pipe::{Link, TryRecvError};
use ipc_sync::Deadline;
use parking_lot::{Condvar, Mutex};

use super::endpoint::{Endpoint, Unreached};
use super::seat::{self, Seat};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Budget, Header, ObjectId, Op, Reader, VERSION, Write};

/// Links that are kept when nobody uses them.
const KEEP: usize = 8;

/// How long a call tries to get a new link, unless it has less time itself.
const GREETING: Duration = Duration::from_secs(10);

/// One of so many links is not for calls that wait for others.
const RESERVE: usize = 8;

/// After so long without a free link it is tried again to get a new one.
const ROUND: Duration = Duration::from_millis(100);

/// How often a session is looked for that goes away at the same moment.
const TRIES: usize = 3;

/// A session of this process, named by a random number; 0 = none.
pub(in crate::manager) type Epoch = u64;

/// What a server told this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) epoch: Epoch,
    /// The life of the server.
    pub(super) instance: u128,
    number: u64,
    secret: [u8; 16],
    /// Bytes of the largest message.
    pub(super) max_message: usize,
    /// Links at most.
    links: usize,
}

impl Session {
    /// So many calls may wait for others at the same time; one always may.
    #[inline]
    pub(super) fn most_stays(&self) -> usize {
        (self.links - self.links.div_ceil(RESERVE).min(self.links)).max(1)
    }
}

/// The links of one process to one server.
#[derive(Default)]
pub(super) struct Pool {
    links: Mutex<Links>,
    /// A link is idle, or there is no session any more.
    freed: Condvar,
    /// Calls under way that may wait for others.
    stays: AtomicUsize,
    /// Held by who begins a session.
    opening: Mutex<()>,
}

#[derive(Default)]
struct Links {
    session: Option<Session>,
    idle: Vec<Link>,
    abandoned: Vec<Abandoned>,
    /// References to be given back, when there is a link for it.
    releases: Vec<ObjectId>,
    /// Requests by which something else is given back, when there is a link for it. Nobody waits for their answers.
    owed: Vec<Vec<u8>>,
    /// There was a session.
    has_met: bool,
}

/// A link whose last call was abandoned; the server says when it has heard of that.
struct Abandoned {
    link: Link,
    /// So often it has to say so.
    due: usize,
}

/// A call that may wait for others, one of those for which there are links.
pub(super) struct Stay<'p>(&'p Pool);

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.0.stays.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// A link as from [`seat`](Pool::seat), for a call that may wait for others until then.
    ///
    /// # Errors
    ///
    /// As [`seat`](Pool::seat); [`CallError::Exhausted`] if so many wait that hardly a link is left.
    #[inline]
    pub(super) fn seat_to_wait(&self, endpoint: &Endpoint, until: Deadline) -> Result<Seat<'_>, CallError> {
        let before = self.stays.fetch_add(1, Relaxed);
        let stay = Stay(self);
        let seat = self.seat(endpoint, Some(until))?;
        if before >= seat.most_stays() {
            return Err(CallError::Exhausted(Budget::Links));
        }
        Ok(seat.keep(stay))
    }

    /// A link that nobody else uses: an idle one, or a new one. For a call with a time limit that is the limit here too.
    ///
    /// # Errors
    ///
    /// As [`Client::seat`](super::Client::seat).
    #[inline]
    pub(super) fn seat(&self, endpoint: &Endpoint, until: Option<Deadline>) -> Result<Seat<'_>, CallError> {
        let seat = match self.idle() {
            Some(seat) => seat,
            None => self.open(endpoint, until)?,
        };
        Ok(seat.until(until))
    }

    #[inline]
    fn idle(&self) -> Option<Seat<'_>> {
        let mut links = self.links.lock();
        if links.has_debts() {
            links.settle();
        }
        let link = links.idle.pop()?;
        links.session.as_ref().map(|session| Seat::new(self, link, session))
    }

    /// A link of that session, if nobody uses it.
    pub(super) fn idle_in(&self, epoch: Epoch) -> Option<Seat<'_>> {
        self.idle().filter(|seat| seat.epoch() == epoch)
    }

    #[cold]
    fn open(&self, endpoint: &Endpoint, until: Option<Deadline>) -> Result<Seat<'_>, CallError> {
        let until = Deadline::after(seat::patience(until).unwrap_or(GREETING).min(GREETING));
        let mut tries = 0;
        while tries < TRIES {
            let session = self.links.lock().session;
            let opened = match session {
                Some(session) => self.join(endpoint, session, until),
                None => self.begin(endpoint, until),
            };
            let opened = match opened {
                Err(CallError::Exhausted(Budget::Links)) if !until.has_passed() => self.next_free(until),
                opened => {
                    tries += 1;
                    opened?
                }
            };
            if let Some(seat) = opened {
                return Ok(seat);
            }
        }
        Err(CallError::ServerDied)
    }

    /// The next link that another call is done with; `None` = for a while there is none.
    fn next_free(&self, until: Deadline) -> Option<Seat<'_>> {
        let mut links = self.links.lock();
        let round = Deadline::after(until.remaining().unwrap_or(ROUND).min(ROUND));
        loop {
            let session = links.session?;
            if let Some(link) = links.idle.pop() {
                return Some(Seat::new(self, link, &session));
            }
            let rest = round.remaining().unwrap_or(ROUND);
            if rest.is_zero() {
                return None;
            }
            self.freed.wait_for(&mut links, rest);
        }
    }

    /// One more link of the session; `None` = it is over.
    fn join(
        &self,
        endpoint: &Endpoint,
        session: Session,
        until: Deadline,
    ) -> Result<Option<Seat<'_>>, CallError> {
        let link = self.dial(endpoint, until)?;
        match greet(&link, session.number, session.secret, until)? {
            Some(_) => {
                link.set_max_message(session.max_message);
                Ok(Some(Seat::new(self, link, &session)))
            }
            None => {
                self.forget(session.epoch);
                Ok(None)
            }
        }
    }

    /// The first link of a session; `None` = somebody else began one meanwhile.
    fn begin(&self, endpoint: &Endpoint, until: Deadline) -> Result<Option<Seat<'_>>, CallError> {
        let patience = until.remaining().unwrap_or(GREETING);
        let _opening = self.opening.try_lock_for(patience).ok_or(CallError::TimedOut)?;
        if self.links.lock().session.is_some() {
            return Ok(self.idle());
        }
        let link = self.dial(endpoint, until)?;
        let session = greet(&link, 0, [0; 16], until)?.ok_or(CallError::Protocol)?;
        link.set_max_message(session.max_message);
        let mut links = self.links.lock();
        links.session = Some(session);
        links.has_met = true;
        Ok(Some(Seat::new(self, link, &session)))
    }

    /// A server that was there and is not any more has died.
    fn dial(&self, endpoint: &Endpoint, until: Deadline) -> Result<Link, CallError> {
        endpoint.dial(until).map_err(|why| match why {
            Unreached::Absent(_) if self.links.lock().has_met => CallError::ServerDied,
            other => other.into(),
        })
    }

    /// Whether that is the session.
    pub(super) fn is(&self, epoch: Epoch) -> bool {
        self.links.lock().is(epoch)
    }

    /// The link is idle again.
    #[inline]
    pub(super) fn put_back(&self, link: Link, epoch: Epoch) {
        let mut links = self.links.lock();
        if links.is(epoch) && links.idle.len() < KEEP {
            links.idle.push(link);
            self.freed.notify_one();
        } else {
            drop(links); // before the link: to close it takes system calls
        }
    }

    /// The server will say [`Answer::Abandoned`] on this link.
    pub(super) fn put_aside(&self, link: Link, epoch: Epoch) {
        let mut links = self.links.lock();
        if links.is(epoch) {
            links.abandoned.push(Abandoned { link, due: 1 });
        }
    }

    /// The server was not heard of when it should have been, and has not been since.
    pub(super) fn is_unheard_of(&self) -> bool {
        let mut links = self.links.lock();
        if links.has_debts() {
            links.settle();
        }
        !links.abandoned.is_empty()
    }

    /// The session is over.
    pub(super) fn forget(&self, epoch: Epoch) {
        let mut links = self.links.lock();
        if links.is(epoch) {
            let over = std::mem::replace(&mut *links, Links { has_met: true, ..Links::default() });
            self.freed.notify_all();
            drop(links);
            drop(over);
        }
    }

    /// As [`Client::release`](super::Client::release).
    pub(super) fn release(&self, epoch: Epoch, object: ObjectId) {
        let mut links = self.links.lock();
        if links.is(epoch) {
            links.releases.push(object);
            links.settle();
        }
    }

    /// The request goes as soon as there is a link for it, and nobody hears its answer. Does not block.
    #[cold]
    pub(super) fn owe(&self, epoch: Epoch, request: Vec<u8>) {
        let mut links = self.links.lock();
        if links.is(epoch) {
            links.owed.push(request);
            links.settle();
        }
    }
}

impl Links {
    #[inline]
    fn is(&self, epoch: Epoch) -> bool {
        self.session.as_ref().is_some_and(|session| session.epoch == epoch)
    }

    #[inline]
    fn has_debts(&self) -> bool {
        !(self.abandoned.is_empty() && self.releases.is_empty() && self.owed.is_empty())
    }

    /// Takes abandoned links back, and gives back references and the rest. Does not block.
    #[cold]
    fn settle(&mut self) {
        let Links { idle, abandoned, releases, owed, .. } = self;
        let mut still = Vec::new();
        for Abandoned { link, due } in abandoned.drain(..) {
            match hear(&link, due) {
                Some(0) => idle.push(link),
                Some(due) => still.push(Abandoned { link, due }),
                None => {}
            }
        }
        *abandoned = still;
        if !owed.is_empty() {
            // A stopped server finds there what it is owed when it goes on, though nobody calls any more.
            let link = idle.pop().map(|link| Abandoned { link, due: 0 }).or_else(|| abandoned.pop());
            if let Some(mut link) = link {
                if link.give(owed) {
                    abandoned.push(link);
                }
            }
        }
        if let Some(link) = idle.last() {
            while let Some(object) = releases.pop() {
                if link.try_send_bytes(&plain(Op::Release, object)).is_err() {
                    releases.push(object);
                    break;
                }
            }
        }
    }
}

impl Abandoned {
    /// Sends requests for whose answers nobody waits, as far as there is room. False = the link cannot be used any more.
    fn give(&mut self, owed: &mut Vec<Vec<u8>>) -> bool {
        while let Some(request) = owed.last() {
            if self.link.try_send_bytes(request).is_err() {
                return self.due > 0;
            }
            owed.pop();
            if self.link.try_send_bytes(&plain(Op::Abandon, 0)).is_err() {
                return false;
            }
            self.due += 1;
        }
        true
    }
}

/// Skips answers that came too late. How often the server still has to say that it heard; `None` = the link is closed.
fn hear(link: &Link, mut due: usize) -> Option<usize> {
    while due > 0 {
        match link.try_recv_with(|answer| answer.first() == Some(&(Answer::Abandoned as u8))) {
            Ok(heard) => due -= usize::from(heard),
            Err(TryRecvError::Failed(_)) => return None,
            Err(_) => break,
        }
    }
    Some(due)
}

/// A whole request without arguments.
pub(super) fn plain(op: Op, object: ObjectId) -> Vec<u8> {
    let mut message = Vec::with_capacity(crate::manager::message::HEADER);
    Header { op, thread: 0, object }.write(&mut message);
    message
}

/// Says Hello. Session 0 = a new one. `None` = there is no such session.
fn greet(link: &Link, session: u64, secret: [u8; 16], until: Deadline) -> Result<Option<Session>, CallError> {
    let mut message = Vec::new();
    Header { op: Op::Hello, thread: 0, object: 0 }.write(&mut message);
    message.put_number(VERSION.into());
    message.put_number(session);
    message.put(&secret);
    link.send_bytes(&message).map_err(seat::not_sent)?;
    let answer = link.recv_with_timeout(until.remaining().unwrap_or(GREETING), welcome);
    answer.map_err(seat::not_received)?
}

fn welcome(message: &[u8]) -> Result<Option<Session>, CallError> {
    let mut rest = Reader::new(message);
    match rest.u8().ok().and_then(Answer::of) {
        Some(Answer::Done) => {}
        Some(Answer::Nothing) => return Ok(None),
        Some(other) => return Err(CallError::unexpected(other, rest)),
        None => return Err(CallError::Protocol),
    }
    let (instance, number, secret) = (rest.array()?, rest.number()?, rest.array()?);
    let max_message = usize::try_from(rest.number()?).unwrap_or(usize::MAX);
    let links = usize::try_from(rest.number()?).unwrap_or(usize::MAX);
    let epoch = ipc_shm::random_id().map_err(|error| CallError::Link(error.into()))? as u64 | 1;
    let instance = u128::from_le_bytes(instance);
    Ok(Some(Session { epoch, instance, number, secret, max_message, links }))
}

//! What each proxy is: an object of a server, and one reference of this process to it.
//!
//! A reference belongs to a session. When the session is another one (this process was forked, or the server came back), the
//! first call gets a reference anew: by the number of the object if it is the same server, else by its name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use ipc_sync::Deadline;
use parking_lot::Mutex;

use crate::manager::client::{Client, Epoch, Loading, Seat, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Kind, MAX_NAME, ObjectId, Op, Reader, Write};

/// An object of a server. Clones share one reference, which goes with the last of them.
#[derive(Clone)]
pub(in crate::manager) struct Handle(Arc<Reference>);

struct Reference {
    client: Arc<Client>,
    kind: Kind,
    name: Option<Box<str>>,
    /// The session and the number in `whereabouts`, for who looks without its lock. The number is stored first: who sees an
    /// epoch sees the number that it has there, or one of a later session, whose server is not the one that it asks.
    epoch: AtomicU64,
    object: AtomicU64,
    whereabouts: Mutex<Whereabouts>,
}

/// Where the object is known.
#[derive(Debug, Clone, Copy)]
struct Whereabouts {
    /// The session that has the reference; 0 = none has.
    epoch: Epoch,
    /// The life of the server.
    instance: u128,
    object: ObjectId,
}

impl Handle {
    /// A new object; with a name, the one that has it already, if there is one. `arguments` as its kind says.
    ///
    /// # Errors
    ///
    /// The name is that of an object of another kind; else see [`CallError`].
    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        kind: Kind,
        name: Option<&str>,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Handle, CallError> {
        let write = |message: &mut Vec<u8>, _: &Storing| {
            arguments(message);
            Ok(())
        };
        Handle::create_with(client, kind, name, write)
    }

    /// As [`create`](Handle::create), with values among the arguments.
    pub(in crate::manager) fn create_with(
        client: &Arc<Client>,
        kind: Kind,
        name: Option<&str>,
        arguments: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
    ) -> Result<Handle, CallError> {
        name.map_or(Ok(()), check_name)?;
        let seat = client.seat()?;
        let (epoch, instance) = (seat.epoch(), seat.instance());
        let write = |message: &mut Vec<u8>, storing: &Storing| {
            message.put_u8(kind as u8);
            message.put_bytes(name.unwrap_or_default().as_bytes());
            arguments(message, storing)
        };
        let object =
            client.exchange(seat, Op::Create, 0, None, write, |answer, rest, _| number(answer, rest))?;
        Ok(Handle::new(client.clone(), kind, name, epoch, instance, object))
    }

    /// An object to which the session has a reference that is nobody's yet; or none, if `epoch` is 0.
    pub(super) fn new(
        client: Arc<Client>,
        kind: Kind,
        name: Option<&str>,
        epoch: Epoch,
        instance: u128,
        object: ObjectId,
    ) -> Handle {
        Handle(Arc::new(Reference {
            client,
            kind,
            name: name.map(Box::from),
            epoch: AtomicU64::new(epoch),
            object: AtomicU64::new(object),
            whereabouts: Mutex::new(Whereabouts { epoch, instance, object }),
        }))
    }

    /// One request and its answer. `write` appends the arguments; `read` gets the answer and what follows it.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[inline]
    pub(in crate::manager) fn call<R>(
        &self,
        op: Op,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.exchange(op, None, write, read)
    }

    /// The same for a call that may wait until `deadline`; `write` puts the time where the op wants it. If the server does
    /// not answer in time, it is [`CallError::TimedOut`], and what it may give later is given back.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[inline]
    pub(in crate::manager) fn wait<R>(
        &self,
        op: Op,
        deadline: Deadline,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        self.exchange(op, Some(deadline), write, read)
    }

    /// The same for a call that gives the session something to hold, and which session that is.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub(super) fn hold<R>(
        &self,
        op: Op,
        deadline: Deadline,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<(Epoch, R), CallError> {
        let mut seat = self.0.client.seat_to_wait(deadline)?;
        let object = self.0.object(&mut seat)?;
        let epoch = seat.epoch();
        let held = self.0.client.exchange(seat, op, object, Some(deadline), write, read)?;
        Ok((epoch, held))
    }

    /// One request about what the session `epoch` holds. It takes as long as it takes.
    ///
    /// # Errors
    ///
    /// [`CallError::ServerDied`]: the session is over, and what it held with it. Else see [`CallError`].
    pub(super) fn call_in<R>(
        &self,
        epoch: Epoch,
        op: Op,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let seat = self.0.client.seat_in(epoch)?;
        self.0.client.exchange(seat, op, self.0.object.load(Relaxed), None, write, read)
    }

    /// As [`call_in`](Handle::call_in), without arguments and result.
    ///
    /// # Errors
    ///
    /// As [`call_in`](Handle::call_in); [`CallError::ServerDied`] too if the session holds nothing of the kind.
    pub(super) fn change_in(&self, epoch: Epoch, op: Op) -> Result<(), CallError> {
        self.call_in(
            epoch,
            op,
            |_, _| Ok(()),
            |answer, rest, _| match answer {
                Answer::NotHeld => Err(CallError::ServerDied),
                other => done(other, rest),
            },
        )
    }

    /// What the session `epoch` has of the object goes back: `op` with that argument. Does not fail, and waits for a moment
    /// at most.
    pub(super) fn give_back(&self, epoch: Epoch, op: Op, argument: &[u8]) {
        self.0.client.give_back(epoch, op, self.0.object.load(Relaxed), argument);
    }

    #[inline]
    fn exchange<R>(
        &self,
        op: Op,
        deadline: Option<Deadline>,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: impl FnOnce(Answer, Reader<'_>, &Loading<'_>) -> Result<R, CallError>,
    ) -> Result<R, CallError> {
        let mut seat = match deadline {
            Some(deadline) => self.0.client.seat_to_wait(deadline)?,
            None => self.0.client.seat()?,
        };
        let object = self.0.object(&mut seat)?;
        self.0.client.exchange(seat, op, object, deadline, write, read)
    }

    /// The name it was made or opened with.
    pub(in crate::manager) fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(in crate::manager) fn client(&self) -> &Arc<Client> {
        &self.0.client
    }

    pub(super) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its number at the server as it is now.
    ///
    /// # Errors
    ///
    /// It is not known there, or the server cannot be reached.
    pub(in crate::manager) fn object(&self) -> Result<ObjectId, CallError> {
        self.0.object(&mut self.0.client.seat()?)
    }

    /// Its number at the server whose life that is.
    ///
    /// # Errors
    ///
    /// It is an object of another server.
    pub(in crate::manager) fn object_in(&self, instance: u128) -> Result<ObjectId, CallError> {
        let at = *self.0.whereabouts.lock();
        if at.instance == instance && self.0.client.is_in(at.epoch) {
            return Ok(at.object);
        }
        let object = self.object()?;
        let elsewhere = || CallError::Failed("a proxy of another server cannot be stored in this one".into());
        (self.0.whereabouts.lock().instance == instance).then_some(object).ok_or_else(elsewhere)
    }

    /// The server's life and its number there, as they are known here.
    pub(super) fn identity(&self) -> (u128, ObjectId) {
        let at = *self.0.whereabouts.lock();
        (at.instance, at.object)
    }

    /// For `Debug`: what is known here.
    pub(in crate::manager) fn describe(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(what);
        if let Some(name) = self.name() {
            shown.field("name", &name);
        }
        shown.field("object", &self.0.object.load(Relaxed)).field("server", self.0.client.endpoint()).finish()
    }
}

impl Reference {
    /// Its number for the server of this seat, whose session has a reference to it from then on.
    #[inline]
    fn object(&self, seat: &mut Seat<'_>) -> Result<ObjectId, CallError> {
        if self.epoch.load(Acquire) == seat.epoch() {
            return Ok(self.object.load(Relaxed));
        }
        self.renew(seat)
    }

    #[cold]
    fn renew(&self, seat: &mut Seat<'_>) -> Result<ObjectId, CallError> {
        let at = *self.whereabouts.lock();
        let object = match (at.instance == seat.instance(), &self.name) {
            (true, _) => {
                seat.ask(Op::Retain, at.object, |_| (), done)?;
                at.object
            }
            (false, Some(name)) => self.open(name, seat)?,
            (false, None) => return Err(CallError::Unnamed),
        };
        if !self.settle(Whereabouts { epoch: seat.epoch(), instance: seat.instance(), object }) {
            self.client.release(seat.epoch(), object); // another thread was faster
        }
        Ok(object)
    }

    fn open(&self, name: &str, seat: &mut Seat<'_>) -> Result<ObjectId, CallError> {
        let write = |message: &mut Vec<u8>| {
            message.put_u8(self.kind as u8);
            message.put_bytes(name.as_bytes());
        };
        seat.ask(Op::Open, 0, write, number).map_err(|error| match error {
            CallError::NoSuchName { .. } => CallError::NoSuchName { name: name.into() },
            other => other,
        })
    }

    /// The reference is that one now; false = it was already.
    fn settle(&self, found: Whereabouts) -> bool {
        let mut at = self.whereabouts.lock();
        if at.epoch == found.epoch {
            return false;
        }
        *at = found;
        self.object.store(found.object, Relaxed);
        self.epoch.store(found.epoch, Release);
        true
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let Whereabouts { epoch, object, .. } = *self.whereabouts.get_mut();
        if epoch != 0 {
            self.client.release(epoch, object);
        }
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.identity() == other.identity()
    }
}

impl Eq for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe("Handle", f)
    }
}

/// The server closes the link of who sends it another one.
fn check_name(name: &str) -> Result<(), CallError> {
    match name.len() {
        0 => Err(CallError::Failed("a name must not be empty".into())),
        1..=MAX_NAME => Ok(()),
        _ => Err(CallError::Failed(format!("a name has {MAX_NAME} bytes at most").into())),
    }
}

/// Done, and nothing more.
pub(in crate::manager) fn done(answer: Answer, rest: Reader<'_>) -> Result<(), CallError> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(CallError::unexpected(other, rest)),
    }
}

/// Done, and a number.
pub(in crate::manager) fn number(answer: Answer, mut rest: Reader<'_>) -> Result<u64, CallError> {
    match answer {
        Answer::Done => Ok(rest.number()?),
        other => Err(CallError::unexpected(other, rest)),
    }
}

//! Many requests in one trip.

use std::fmt;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Handle;
use super::talk::put_bytes_of;
use crate::manager::client::{Client, Epoch, Loading, Storing};
use crate::manager::error::CallError;
use crate::manager::message::{Answer, HEADER, Header, MAX_BATCH, ObjectId, Op, Reader, Write};

/// How an answer is read.
pub(super) type Read<T> = fn(Answer, Reader<'_>, &Loading<'_>) -> Result<T, CallError>;

/// Reads an answer that nobody wants, for the references in it.
type Forget = fn(Answer, Reader<'_>, &Loading<'_>);

/// Requests to one object, as they will be sent.
pub(super) struct Requests {
    handle: Handle,
    /// For which life of the server, and by which number.
    instance: u128,
    object: ObjectId,
    number: u64,
    message: Vec<u8>,
    forget: Vec<Forget>,
    storing: Storing,
    /// What went wrong first.
    failure: Option<CallError>,
}

impl Requests {
    pub(super) fn new(handle: &Handle) -> Requests {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (instance, object) = handle.identity();
        Requests {
            handle: handle.clone(),
            instance,
            object,
            number: LAST.fetch_add(1, Relaxed),
            message: Vec::new(),
            forget: Vec::new(),
            storing: Storing::new(instance),
            failure: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.forget.len()
    }

    /// One request more.
    #[inline]
    pub(super) fn push<T>(
        &mut self,
        op: Op,
        write: impl FnOnce(&mut Vec<u8>, &Storing) -> Result<(), CallError>,
        read: Read<T>,
        forget: Forget,
    ) -> Pending<T> {
        let Requests { message, storing, object, .. } = self;
        let before = message.len();
        let pushed = put_bytes_of(message, |message| {
            Header { op, thread: crate::manager::client::thread(), object: *object }.write(message);
            write(message, storing)
        });
        if let Err(error) = pushed {
            self.message.truncate(before);
            self.failure.get_or_insert(error);
        }
        self.forget.push(forget);
        Pending { batch: self.number, index: self.forget.len() - 1, read }
    }

    /// Sends all.
    pub(super) fn run(mut self) -> Result<Answers, CallError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if self.len() > MAX_BATCH as usize {
            return Err(CallError::Failed(format!("a batch has {MAX_BATCH} requests at most").into()));
        }
        self.address()?;
        let Requests { handle, number, message, forget, .. } = self;
        let write = |whole: &mut Vec<u8>, _: &Storing| {
            whole.put_u32(forget.len() as u32);
            whole.put(&message);
            Ok(())
        };
        let client = handle.client().clone();
        handle.call(Op::Batch, write, |answer, rest, loading| match answer {
            Answer::Done => {
                let (places, bytes) = places(rest, forget.len())?;
                let (epoch, instance) = loading.session();
                Ok(Answers { number, client, epoch, instance, bytes, places, forget: forget.clone() })
            }
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    /// The number of the object, in each request. It is another one if the server is.
    fn address(&mut self) -> Result<(), CallError> {
        let object = self.handle.object()?;
        if self.handle.identity().0 != self.instance && self.storing.has_references() {
            return Err(CallError::ServerDied); // what the values refer to went with it
        }
        if object != self.object {
            let mut at = 0;
            while at + 4 + HEADER <= self.message.len() {
                let length = Reader::new(&self.message[at..]).u32()? as usize;
                self.message[at + 12..at + 20].copy_from_slice(&object.to_le_bytes());
                at += 4 + length;
            }
        }
        Ok(())
    }
}

/// The place of one answer among the [`Answers`] of a batch.
pub struct Pending<T> {
    batch: u64,
    index: usize,
    read: Read<T>,
}

impl<T> Clone for Pending<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pending<T> {}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.index)
    }
}

/// What the server answered to a batch: each [`Pending`] has its answer here.
pub struct Answers {
    number: u64,
    client: Arc<Client>,
    epoch: Epoch,
    instance: u128,
    bytes: Vec<u8>,
    /// Where each answer lies; empty = it was taken.
    places: Vec<Range<usize>>,
    forget: Vec<Forget>,
}

/// Where each of so many answers lies, and all of them.
fn places(mut rest: Reader<'_>, count: usize) -> Result<(Vec<Range<usize>>, Vec<u8>), CallError> {
    if rest.u32()? as usize != count {
        return Err(CallError::Protocol);
    }
    let whole = rest.rest();
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let answer = rest.bytes()?.len();
        let end = whole.len() - rest.rest().len();
        places.push(end - answer..end);
    }
    Ok((places, whole.to_vec()))
}

impl Answers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// One answer. Does not call the server.
    ///
    /// # Errors
    ///
    /// As of the same call made alone.
    ///
    /// # Panics
    ///
    /// The answer was taken already, or is one of another batch.
    pub fn take<T>(&mut self, pending: Pending<T>) -> Result<T, CallError> {
        assert!(pending.batch == self.number, "an answer of another batch");
        let place = std::mem::take(&mut self.places[pending.index]);
        assert!(!place.is_empty(), "an answer that was taken already");
        let mut rest = Reader::new(&self.bytes[place]);
        let answer = rest.u8().ok().and_then(Answer::of).ok_or(CallError::Protocol)?;
        (pending.read)(answer, rest, &Loading::new(&self.client, self.epoch, self.instance))
    }
}

impl Drop for Answers {
    /// References in answers that nobody took are given back.
    fn drop(&mut self) {
        let loading = Loading::new(&self.client, self.epoch, self.instance);
        for (place, forget) in self.places.iter().zip(&self.forget) {
            let mut rest = Reader::new(&self.bytes[place.clone()]);
            if let Some(answer) = rest.u8().ok().and_then(Answer::of) {
                forget(answer, rest, &loading);
            }
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("len", &self.len()).finish()
    }
}

/// The answer may be a value.
pub(super) fn forget_value(answer: Answer, mut rest: Reader<'_>, loading: &Loading<'_>) {
    if answer == Answer::Done {
        if let Ok(value) = rest.value() {
            loading.discard(value);
        }
    }
}

/// There is nothing to forget.
pub(super) fn forget_nothing(_: Answer, _: Reader<'_>, _: &Loading<'_>) {}

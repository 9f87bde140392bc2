//! `map_async`: one result for many tasks.

use std::ops::RangeInclusive;
use std::sync::Arc;

use ipc_sync::Deadline;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::{Engine, Work};
use super::job::{Completion, Terms};
use super::payload::Payload;
use super::piece::Piece;
use super::task::Outcome;
use crate::executor::{Future, Helper, Promise, Seat, TaskError, helped_promise, promise};
use crate::process::Call;

/// Submits `args` in chunks; the result is there when all are done.
pub(super) fn gather<A, R>(
    engine: &Arc<Engine>,
    call: Result<Call, TaskError>,
    args: &[A],
    terms: Terms,
    chunk: usize,
) -> Future<Vec<R>>
where
    A: Serialize,
    R: DeserializeOwned + Send + 'static,
{
    let call = match call {
        Ok(call) if !args.is_empty() => call,
        other => return finished(other.map(|_| Vec::new())),
    };
    let payload = |args: &[A]| Ok((Payload::waiting(args)?, args.len()));
    let chunks: Result<Vec<_>, _> = args.chunks(chunk.max(1)).map(payload).collect();
    let chunks = match chunks {
        Ok(chunks) => chunks,
        Err(message) => return finished(Err(TaskError::Arguments { message })),
    };
    engine.submit(|intake| {
        let first = intake.next_ticket();
        let helper =
            Arc::new(Chunks { engine: Arc::clone(engine), tickets: first..=first + chunks.len() as u64 - 1 });
        let (promise, future) = helped_promise(helper, first);
        let gathered = Arc::new(Gathered::new(promise, chunks.len()));
        for (index, (payload, length)) in chunks.into_iter().enumerate() {
            let ticket = if index == 0 { first } else { intake.next_ticket() };
            let done = Box::new(Chunk { gathered: Arc::clone(&gathered), index, length });
            intake.add(ticket, Work { call, payload, terms }, done);
        }
        future
    })
}

/// A result that is there already.
pub(super) fn finished<R>(outcome: Result<R, TaskError>) -> Future<R> {
    let (promise, future) = promise();
    promise.finish(outcome);
    future
}

/// Tasks with one result.
struct Chunks {
    engine: Arc<Engine>,
    tickets: RangeInclusive<u64>,
}

impl Helper for Chunks {
    fn help(&self, seat: &dyn Seat, until: Deadline) {
        self.engine.attend(seat, until);
    }

    fn recall(&self, _first: u64) -> bool {
        self.engine.recall(self.tickets.clone())
    }
}

/// The chunks that have come.
struct Gathered<R>(Mutex<Inner<R>>);

struct Inner<R> {
    promise: Option<Promise<Vec<R>>>,
    pieces: Vec<Option<Piece<R>>>,
    left: usize,
}

impl<R> Gathered<R> {
    fn new(promise: Promise<Vec<R>>, count: usize) -> Gathered<R> {
        let pieces = (0..count).map(|_| None).collect();
        Gathered(Mutex::new(Inner { promise: Some(promise), pieces, left: count }))
    }

    /// A chunk has come; the last of them makes the result.
    fn put(&self, index: usize, piece: Piece<R>) {
        let mut inner = self.0.lock();
        inner.pieces[index] = Some(piece);
        inner.left -= 1;
        if inner.left > 0 {
            return;
        }
        let (promise, pieces) = (inner.promise.take(), std::mem::take(&mut inner.pieces));
        drop(inner);
        if let Some(promise) = promise {
            promise.finish(join(pieces.into_iter().flatten()));
        }
    }
}

/// All results in order, or the first error among them.
pub(super) fn join<R>(pieces: impl Iterator<Item = Piece<R>>) -> Result<Vec<R>, TaskError> {
    let (mut all, mut first) = (Vec::new(), None);
    for piece in pieces {
        let error = piece.append_to(&mut all);
        first = first.or(error);
    }
    first.map_or(Ok(all), Err)
}

/// The completion of one of the tasks.
struct Chunk<R> {
    gathered: Arc<Gathered<R>>,
    index: usize,
    length: usize,
}

impl<R: DeserializeOwned + Send> Completion for Chunk<R> {
    fn complete(self: Box<Self>, outcome: Result<Outcome, TaskError>) {
        self.gathered.put(self.index, Piece::of(outcome, self.length));
    }
}

//! `imap`: results one by one, of arguments that are taken as there is room for them.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use ipc_sync::Deadline;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::{Engine, Work};
use super::job::{Completion, Terms};
use super::payload::Payload;
use super::piece::Piece;
use super::task::Outcome;
use crate::executor::{Seat, TaskError, sleep_once};
use crate::process::Call;

/// Chunks under way at one time: enough to keep all workers busy while one thread gives and takes.
const WINDOW_EACH: usize = 32;
const WINDOW: usize = 32;

/// The results of [`Pool::imap`](crate::Pool::imap) and [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// Each is a result or the error of its own task; an error does not end the others. Dropped early, it takes back what
/// no worker has begun.
#[must_use = "nothing is taken from the input before results are asked for"]
pub struct Imap<I: Iterator, R> {
    input: Fuse<I>,
    /// What runs a chunk; `Err` = nothing can.
    call: Result<Call, TaskError>,
    terms: Terms,
    engine: Arc<Engine>,
    basket: Arc<Basket<R>>,
    chunk: usize,
    window: usize,
    current: Option<Piece<R>>,
    /// Chunks that were submitted, and taken out of the basket.
    submitted: usize,
    taken: usize,
}

impl<I, R> Imap<I, R>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned + Send + 'static,
{
    pub(super) fn new(
        engine: &Arc<Engine>,
        call: Result<Call, TaskError>,
        input: I,
        terms: Terms,
        chunk: usize,
        ordered: bool,
    ) -> Imap<I, R> {
        Imap {
            input: input.fuse(),
            call,
            terms,
            engine: Arc::clone(engine),
            basket: Arc::new(Basket::new(ordered)),
            chunk: chunk.max(1),
            window: WINDOW + WINDOW_EACH * engine.workers(),
            current: None,
            submitted: 0,
            taken: 0,
        }
    }

    /// The results of the next chunk; `None` = there are no more.
    pub(super) fn next_piece(&mut self) -> Option<Piece<R>> {
        if self.taken < self.submitted && self.engine.is_copy() {
            self.taken = self.submitted;
            return Some(Piece::None(TaskError::in_a_copy(), 1));
        }
        self.feed();
        if self.taken == self.submitted {
            return None;
        }
        self.taken += 1;
        loop {
            if let Some(piece) = self.basket.take() {
                return Some(piece);
            }
            self.engine.attend(&*self.basket, Deadline::NEVER);
        }
    }

    /// Takes arguments until the window is full. It is filled again when half of it is empty, many chunks at a time.
    fn feed(&mut self) {
        if self.submitted - self.taken > self.window / 2 {
            return;
        }
        while self.submitted - self.taken < self.window {
            let args: Vec<I::Item> = self.input.by_ref().take(self.chunk).collect();
            if args.is_empty() {
                return;
            }
            self.submit(&args);
        }
    }

    fn submit(&mut self, args: &[I::Item]) {
        let index = self.submitted;
        match self.call.clone().map(|call| (call, Payload::waiting(args))) {
            Ok((call, Ok(payload))) => {
                self.submitted += 1;
                self.basket.expect(index);
                let done = Box::new(Chunk { basket: Arc::clone(&self.basket), index, length: args.len() });
                let work = Work { call, payload, terms: self.terms };
                self.engine.submit(|intake| {
                    let ticket = intake.next_ticket();
                    intake.add(ticket, work, done);
                });
            }
            Ok((_, Err(_))) if args.len() > 1 => args.chunks(1).for_each(|args| self.submit(args)),
            Ok((_, Err(message))) => self.refuse(TaskError::Arguments { message }, args.len()),
            Err(error) => self.refuse(error, args.len()),
        }
    }

    #[cold]
    fn refuse(&mut self, error: TaskError, length: usize) {
        self.basket.expect(self.submitted);
        self.basket.put(self.submitted, Piece::None(error, length));
        self.submitted += 1;
    }
}

impl<I, R> Iterator for Imap<I, R>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned + Send + 'static,
{
    type Item = Result<R, TaskError>;

    /// Waits for the next result. While it waits, this thread does the pool's work.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.current.as_mut().and_then(Piece::next) {
                return Some(item);
            }
            self.current = Some(self.next_piece()?);
        }
    }
}

impl<I: Iterator, R> Drop for Imap<I, R> {
    fn drop(&mut self) {
        if self.taken < self.submitted {
            self.basket.wanted.store(false, Release);
            self.engine.recall_unwanted();
        }
    }
}

impl<I: Iterator, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Imap");
        form.field("submitted", &self.submitted).field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// Where finished chunks lie until somebody takes them.
struct Basket<R> {
    pieces: Mutex<Pieces<R>>,
    /// There is one that may be taken.
    full: AtomicBool,
    changed: Condvar,
    wanted: AtomicBool,
    ordered: bool,
}

struct Pieces<R> {
    /// In order: a place for each chunk that was submitted and not taken. Else: those that are here.
    places: VecDeque<Option<Piece<R>>>,
    /// The chunk that the first place is for.
    first: usize,
}

impl<R> Basket<R> {
    fn new(ordered: bool) -> Basket<R> {
        Basket {
            pieces: Mutex::new(Pieces { places: VecDeque::new(), first: 0 }),
            full: AtomicBool::new(false),
            changed: Condvar::new(),
            wanted: AtomicBool::new(true),
            ordered,
        }
    }

    /// A chunk is on its way.
    fn expect(&self, index: usize) {
        if self.ordered {
            let mut pieces = self.pieces.lock();
            debug_assert_eq!(index, pieces.first + pieces.places.len());
            pieces.places.push_back(None);
        }
    }

    fn put(&self, index: usize, piece: Piece<R>) {
        let mut pieces = self.pieces.lock();
        if self.ordered {
            let at = index - pieces.first;
            pieces.places[at] = Some(piece);
        } else {
            pieces.places.push_back(Some(piece));
        }
        self.note(&pieces);
    }

    fn note(&self, pieces: &Pieces<R>) {
        let full = matches!(pieces.places.front(), Some(Some(_)));
        if self.full.swap(full, AcqRel) != full && full {
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Option<Piece<R>> {
        if !self.full.load(Acquire) {
            return None;
        }
        let mut pieces = self.pieces.lock();
        let piece = pieces.places.pop_front()?;
        pieces.first += 1;
        self.note(&pieces);
        piece
    }
}

impl<R: Send> Seat for Basket<R> {
    fn is_done(&self) -> bool {
        self.full.load(Acquire)
    }

    fn sleep(&self, until: Deadline) {
        let mut pieces = self.pieces.lock();
        if !self.is_done() {
            sleep_once(&self.changed, &mut pieces, until);
        }
    }
}

/// The completion of a chunk.
struct Chunk<R> {
    basket: Arc<Basket<R>>,
    index: usize,
    length: usize,
}

impl<R: DeserializeOwned + Send> Completion for Chunk<R> {
    fn complete(self: Box<Self>, outcome: Result<Outcome, TaskError>) {
        if self.is_wanted() {
            self.basket.put(self.index, Piece::of(outcome, self.length));
        }
    }

    fn is_wanted(&self) -> bool {
        self.basket.wanted.load(Acquire)
    }
}

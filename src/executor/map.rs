//! `Map`: a function over many items, with the results in their order.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec;

use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{TaskError, TryResultError};
use super::front::Executor;
use super::future::Future;
use super::progress::Tally;

/// Chunks under way for each worker, if nobody says how many.
const AHEAD: usize = 32;

/// The results of [`Executor::map`], in the order of the items.
#[must_use = "iterators are lazy: nothing is submitted before a result is asked for"]
pub struct Map<'a, I: Iterator, R: Send + 'static> {
    executor: &'a Executor,
    tally: Option<Arc<Tally>>,
    f: fn(I::Item) -> R,
    items: Fuse<I>,
    chunk_size: usize,
    ahead: usize,
    under_way: VecDeque<Chunk<R>>,
    ready: vec::IntoIter<Result<R, TaskError>>,
}

struct Chunk<R> {
    size: usize,
    future: Future<Vec<Result<R, TaskError>>>,
}

impl<'a, I, R> Map<'a, I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(executor: &'a Executor, f: fn(I::Item) -> R, items: I) -> Map<'a, I, R> {
        let ahead = AHEAD * executor.workers();
        let (under_way, ready) = (VecDeque::new(), Vec::new().into_iter());
        let (tally, items) = (executor.tally(), items.fuse());
        Map { executor, tally, f, items, chunk_size: 1, ahead, under_way, ready }
    }

    /// So many items make one task: fewer and larger ones cost less. 1 if not said.
    ///
    /// The items of a chunk run one after the other in one worker. A panic is that of its item only; a worker that
    /// dies fails its whole chunk.
    ///
    /// # Panics
    ///
    /// If `items` is 0.
    #[doc(alias = "chunksize")]
    #[track_caller]
    pub fn chunk_size(mut self, items: usize) -> Self {
        assert!(items > 0, "a chunk must hold something");
        self.chunk_size = items;
        self
    }

    /// So many chunks are under way or done and not asked for, at most. 32 for each worker if not said.
    ///
    /// # Panics
    ///
    /// If `chunks` is 0.
    #[doc(alias = "buffersize")]
    #[track_caller]
    pub fn ahead(mut self, chunks: usize) -> Self {
        assert!(chunks > 0, "nothing would ever run");
        self.ahead = chunks;
        self
    }

    /// The next result, or `None` at the end; waits so long at most.
    ///
    /// # Errors
    ///
    /// Inside: [`TryResultError::NotDone`] if the time was up (the item keeps its turn, so it can be asked for again), or what
    /// became of the item instead of a result.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, TryResultError>> {
        self.next_until(Deadline::after(timeout))
    }

    /// The same, and waits until then at most. The same instant for all items limits the whole map.
    pub fn next_deadline(&mut self, deadline: Instant) -> Option<Result<R, TryResultError>> {
        self.next_until(Deadline::at(deadline))
    }

    fn next_until(&mut self, until: Deadline) -> Option<Result<R, TryResultError>> {
        if let Some(result) = self.ready.next() {
            return Some(result.map_err(TryResultError::from));
        }
        self.fill();
        let chunk = self.under_way.front()?;
        if !chunk.future.wait_until(until) {
            return Some(Err(TryResultError::NotDone));
        }
        let outcome = chunk.future.result();
        self.ready = account(&self.tally, chunk.size, outcome).into_iter();
        self.under_way.pop_front();
        self.fill();
        self.ready.next().map(|result| result.map_err(TryResultError::from))
    }

    fn fill(&mut self) {
        while self.under_way.len() < self.ahead {
            let items: Vec<I::Item> = self.items.by_ref().take(self.chunk_size).collect();
            if items.is_empty() {
                return;
            }
            let size = items.len();
            if let Some(tally) = &self.tally {
                tally.count(|progress| progress.submitted += size);
            }
            let future = self.executor.start_many(self.f, items);
            self.under_way.push_back(Chunk { size, future });
        }
    }
}

/// What became of each item of a chunk that is done.
fn account<R>(
    tally: &Option<Arc<Tally>>,
    size: usize,
    outcome: Result<Vec<Result<R, TaskError>>, TaskError>,
) -> Vec<Result<R, TaskError>> {
    let results = outcome.unwrap_or_else(|error| (0..size).map(|_| Err(error.clone())).collect());
    if let Some(tally) = tally {
        tally.count(|progress| results.iter().for_each(|result| progress.add(result.as_ref().err())));
    }
    results
}

impl<I, R> Iterator for Map<'_, I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_until(Deadline::NEVER)? {
            Ok(result) => Some(Ok(result)),
            Err(TryResultError::Failed(error)) => Some(Err(error)),
            Err(TryResultError::NotDone) => unreachable!("the deadline is never"),
        }
    }
}

impl<I: Iterator, R: Send + 'static> Drop for Map<'_, I, R> {
    fn drop(&mut self) {
        for Chunk { size, future } in self.under_way.drain(..) {
            future.cancel();
            let tally = self.tally.clone();
            future.add_done_callback(move |future| drop(account(&tally, size, future.result())));
        }
    }
}

impl<I: Iterator, R: Send + 'static> fmt::Debug for Map<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

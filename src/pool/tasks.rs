//! How tasks are given to a pool.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::{Engine, Work};
use super::gather::{finished, gather, join};
use super::imap::Imap;
use super::job::{Completion, Terms};
use super::payload::Payload;
use super::result::{AsyncResult, Each, One};
use super::task;
use crate::executor::{Future, Promise, TaskError, helped_promise};
use crate::process::Call;

/// The ways to give tasks to a [`Pool`](crate::Pool), with more to say about them; from
/// [`Pool::tasks`](crate::Pool::tasks).
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::Pool;
/// use std::time::Duration;
///
/// let pool = Pool::new(2)?;
/// let tasks = pool.tasks().retries(2).time_limit(Duration::from_secs(5)).chunk_size(10);
/// assert_eq!(tasks.map(|n: i64| -n, 0..100)?.iter().sum::<i64>(), -4950);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "it only says how tasks are to be given"]
pub struct Tasks<'a> {
    engine: &'a Arc<Engine>,
    terms: Terms,
    chunk: Option<usize>,
}

/// Chunks for each worker when nobody says otherwise: the last ones end at about the same time.
const CHUNKS_EACH: usize = 4;

impl<'a> Tasks<'a> {
    pub(super) fn new(engine: &'a Arc<Engine>, terms: Terms) -> Tasks<'a> {
        Tasks { engine, terms, chunk: None }
    }

    /// How often a task is run again whose worker died while it ran, before the task fails. Only for functions that may
    /// run twice: what the dead one did is not undone.
    pub fn retries(mut self, retries: u32) -> Tasks<'a> {
        self.terms.retries = retries;
        self
    }

    /// How long a task may run, from when a worker begins it. Then the worker is killed and replaced, and the task has
    /// [`TaskError::TimeLimit`]; it is not run again. A chunk is one task. A task that is done in time, or that the worker
    /// has meanwhile begun, is never hit.
    pub fn time_limit(mut self, limit: Duration) -> Tasks<'a> {
        self.terms.time_limit = Some(limit);
        self
    }

    /// How many arguments of a `map` or `imap` go to a worker at once, as one task: if that dies, it is the error of all
    /// of them. Otherwise `imap` sends them one by one, and `map` as many as make four chunks for each worker.
    ///
    /// # Panics
    ///
    /// If `size` is 0.
    #[doc(alias = "chunksize")]
    #[track_caller]
    pub fn chunk_size(mut self, size: usize) -> Tasks<'a> {
        assert!(size > 0, "a chunk must hold something");
        self.chunk = Some(size);
        self
    }

    /// As [`Pool::apply`](crate::Pool::apply).
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn apply<A, R>(&self, f: fn(A) -> R, args: A) -> Result<R, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.apply_async(f, args).get()
    }

    /// As [`Pool::apply_async`](crate::Pool::apply_async).
    pub fn apply_async<A, R>(&self, f: fn(A) -> R, args: A) -> AsyncResult<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        AsyncResult::new(submit(self.engine, f, args, self.terms))
    }

    /// As [`Pool::apply_async_with`](crate::Pool::apply_async_with).
    pub fn apply_async_with<A, R>(
        &self,
        f: fn(A) -> R,
        args: A,
        callback: impl FnOnce(R) + Send + 'static,
        error_callback: impl FnOnce(TaskError) + Send + 'static,
    ) where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        submit(self.engine, f, args, self.terms).add_done_callback(|future| match future.result() {
            Ok(result) => callback(result),
            Err(error) => error_callback(error),
        });
    }

    /// As [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    ///
    /// The first error in the order of the arguments. All others have run.
    pub fn map<A, R>(&self, f: fn(A) -> R, args: impl IntoIterator<Item = A>) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let args = args.into_iter();
        match args.size_hint() {
            (least, Some(most)) if least == most => self.map_counted(f, args, most),
            _ => {
                let args: Vec<A> = args.collect();
                let count = args.len();
                self.map_counted(f, args.into_iter(), count)
            }
        }
    }

    fn map_counted<A, R>(
        &self,
        f: fn(A) -> R,
        args: impl Iterator<Item = A>,
        count: usize,
    ) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let mut results = self.iter(f, args, self.chunk_for(count), true);
        join(std::iter::from_fn(|| results.next_piece()))
    }

    /// As [`Pool::map_async`](crate::Pool::map_async).
    pub fn map_async<A, R>(&self, f: fn(A) -> R, args: impl IntoIterator<Item = A>) -> AsyncResult<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let args: Vec<A> = args.into_iter().collect();
        AsyncResult::new(gather(self.engine, task::chunk(f), &args, self.terms, self.chunk_for(args.len())))
    }

    /// As [`Pool::imap`](crate::Pool::imap).
    pub fn imap<I, R>(&self, f: fn(I::Item) -> R, args: I) -> Imap<I::IntoIter, R>
    where
        I: IntoIterator<Item: Serialize + DeserializeOwned>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.iter(f, args.into_iter(), self.chunk.unwrap_or(1), true)
    }

    /// As [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    pub fn imap_unordered<I, R>(&self, f: fn(I::Item) -> R, args: I) -> Imap<I::IntoIter, R>
    where
        I: IntoIterator<Item: Serialize + DeserializeOwned>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.iter(f, args.into_iter(), self.chunk.unwrap_or(1), false)
    }

    fn iter<I, R>(&self, f: fn(I::Item) -> R, args: I, chunk: usize, ordered: bool) -> Imap<I, R>
    where
        I: Iterator<Item: Serialize + DeserializeOwned>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Imap::new(self.engine, task::chunk(f), args, self.terms, chunk, ordered)
    }

    fn chunk_for(&self, count: usize) -> usize {
        self.chunk.unwrap_or_else(|| count.div_ceil(CHUNKS_EACH * self.engine.workers()).max(1))
    }
}

/// Gives one task to a pool that is a call of `f` for each of many arguments.
pub(super) fn submit_many<A, R>(
    engine: &Arc<Engine>,
    f: fn(A) -> R,
    args: &[A],
    terms: Terms,
) -> Future<Vec<Result<R, TaskError>>>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let done = |promise| Box::new(Each(promise, args.len())) as Box<dyn Completion>;
    submit_as(engine, task::chunk(f), args, terms, done)
}

/// Gives one task to a pool.
pub(crate) fn submit<A, R>(engine: &Arc<Engine>, f: fn(A) -> R, args: A, terms: Terms) -> Future<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    submit_as(engine, task::single(f), &args, terms, |promise| Box::new(One(promise)))
}

fn submit_as<A, R>(
    engine: &Arc<Engine>,
    call: Result<Call, TaskError>,
    args: &A,
    terms: Terms,
    done: impl FnOnce(Promise<R>) -> Box<dyn Completion>,
) -> Future<R>
where
    A: Serialize + ?Sized,
    R: Send + 'static,
{
    let payload = || Payload::waiting(args).map_err(|message| TaskError::Arguments { message });
    let work = call.and_then(|call| Ok(Work { call, payload: payload()?, terms }));
    match work {
        Ok(work) => engine.submit(|intake| {
            let ticket = intake.next_ticket();
            let (promise, future) = helped_promise(Arc::clone(engine) as _, ticket);
            intake.add(ticket, work, done(promise));
            future
        }),
        Err(error) => finished(Err(error)),
    }
}

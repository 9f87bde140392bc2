//! `Pool`: the public type.

use std::fmt;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::PoolBuilder;
use super::engine::Crew;
use super::error::{PoolError, PoolJoinError};
use super::imap::Imap;
use super::job::Terms;
use super::result::AsyncResult;
use super::tasks::{Tasks, submit_many};
use crate::executor::{Future, TaskError};

/// Worker processes that run functions of this program, and give their results back.
///
/// A function is a `fn(A) -> R`: an item, or a closure that captures nothing. What it would capture goes into the
/// arguments, which are one value, usually a tuple; handles may be among them. Results come in the order of the
/// arguments. If something in a function can fail, `R` is a [`Result`].
///
/// # What blocks
///
/// [`apply`](Pool::apply), [`map`](Pool::map), [`AsyncResult::get`] and the iterators of [`imap`](Pool::imap) wait for
/// results. A thread that waits does the pool's work meanwhile: it takes the results of all workers and gives out new
/// tasks. When nobody waits, a thread of the pool does that. Nothing else here waits, however many tasks there are.
///
/// # What happens when a worker dies
///
/// Exactly the task that it had begun has [`TaskError::WorkerDied`], with the process and how it ended. Those that
/// it was given and had not begun go to others, and it is replaced. With [`retries`](Tasks::retries) the task is run again
/// instead. A panic ends nothing: it is the error of its task, [`TaskError::Panicked`].
///
/// Workers die with this process, however it dies. Ctrl-C in the terminal does not reach them: what becomes of the
/// tasks is for this process to say. They leave no core dumps, and as [daemons](crate::Builder::daemon) they have no
/// children.
///
/// Dropping a pool terminates it, and waits a second at most for the ends of its workers; use [`close`](Pool::close) and
/// [`join`](Pool::join) for tasks whose results nobody waits for.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::Pool;
///
/// let pool = Pool::new(4)?;
/// assert_eq!(pool.apply(|(a, b): (u64, u64)| a * b, (6, 7))?, 42);
/// assert_eq!(pool.map(|n: u64| n * n, 0..5)?, [0, 1, 4, 9, 16]);
///
/// let bad = pool.apply_async(|text: String| text.parse::<u8>().unwrap(), "many".to_owned());
/// assert!(bad.get().unwrap_err().to_string().contains("InvalidDigit"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Pool")]
#[doc(alias = "multiprocessing.pool.Pool")]
pub struct Pool {
    crew: Crew,
    terms: Terms,
}

impl Pool {
    /// A pool of so many workers, which are on their way when this returns.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        Pool::builder().workers(workers).start()
    }

    /// A pool to be started with more to say about it: names, an initializer, limits.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    pub(super) fn new_with(crew: Crew, terms: Terms) -> Pool {
        Pool { crew, terms }
    }

    /// The ways to give tasks to it, with more to say about them: chunk size, retries, time limit.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks::new(&self.crew.engine, self.terms)
    }

    /// One task for many arguments, each of which has a result of its own.
    pub(crate) fn submit_many<A, R>(&self, f: fn(A) -> R, args: &[A]) -> Future<Vec<Result<R, TaskError>>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        submit_many(&self.crew.engine, f, args, self.terms)
    }

    /// Cancels what has not begun.
    pub(crate) fn cancel_pending(&self) {
        self.crew.engine.cancel_all();
    }

    /// Takes no more tasks; those that are there are done, whether this is dropped or not.
    pub(crate) fn leave_alone(&self) {
        self.crew.leave_alone();
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.crew.engine.workers()
    }

    /// The processes that its workers are now. For humans and logs: the kernel uses numbers again.
    pub fn pids(&self) -> Vec<u32> {
        self.crew.engine.pids()
    }

    /// Has a worker run `f(args)`, and waits for the result.
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn apply<A, R>(&self, f: fn(A) -> R, args: A) -> Result<R, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().apply(f, args)
    }

    /// Has a worker run `f(args)`, and does not wait. Whatever goes wrong is in the result.
    pub fn apply_async<A, R>(&self, f: fn(A) -> R, args: A) -> AsyncResult<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().apply_async(f, args)
    }

    /// Has a worker run `f(args)`; one of the two callbacks gets what comes of it, once.
    ///
    /// It is called by whoever collects results at that moment: a thread that waits for another task, or the pool's own.
    /// One that blocks keeps back other results. A panic in it is reported on standard error and stops nothing.
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::Pool;
    /// use std::sync::mpsc::channel;
    ///
    /// let pool = Pool::new(1)?;
    /// let (send, receive) = channel();
    /// let error = send.clone();
    /// pool.apply_async_with(
    ///     |text: String| text.len(),
    ///     "callback".to_owned(),
    ///     move |length| send.send(Ok(length)).unwrap(),
    ///     move |why| error.send(Err(why)).unwrap(),
    /// );
    /// assert_eq!(receive.recv()?, Ok(8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        self.tasks().apply_async_with(f, args, callback, error_callback);
    }

    /// Has workers run `f` for each of the arguments, and waits for all results, which come in the order of the arguments.
    ///
    /// Arguments travel in chunks, of which each is one task; see [`chunk_size`](Tasks::chunk_size).
    ///
    /// # Errors
    ///
    /// The first error in the order of the arguments. All others have run; [`imap`](Pool::imap) hands out the error of
    /// each.
    #[doc(alias = "starmap")]
    pub fn map<A, R>(&self, f: fn(A) -> R, args: impl IntoIterator<Item = A>) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().map(f, args)
    }

    /// As [`map`](Pool::map), but does not wait. All arguments are taken at once.
    pub fn map_async<A, R>(&self, f: fn(A) -> R, args: impl IntoIterator<Item = A>) -> AsyncResult<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().map_async(f, args)
    }

    /// Has workers run `f` for each of the arguments. The results come one by one, in the order of the arguments, each a
    /// result or the error of its own.
    ///
    /// Arguments are taken as results are asked for, a few dozen for each worker ahead of them: an iterator without end is
    /// fine, and a slow consumer fills no memory.
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::Pool;
    ///
    /// let pool = Pool::new(2)?;
    /// let mut squares = pool.imap(|n: u64| n * n, 0..); // without end
    /// assert_eq!(squares.nth(1000).unwrap()?, 1_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn imap<I, R>(&self, f: fn(I::Item) -> R, args: I) -> Imap<I::IntoIter, R>
    where
        I: IntoIterator<Item: Serialize + DeserializeOwned>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().imap(f, args)
    }

    /// As [`imap`](Pool::imap), but each result comes as soon as it is there.
    pub fn imap_unordered<I, R>(&self, f: fn(I::Item) -> R, args: I) -> Imap<I::IntoIter, R>
    where
        I: IntoIterator<Item: Serialize + DeserializeOwned>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.tasks().imap_unordered(f, args)
    }

    /// Takes no more tasks: those that come now have [`TaskError::Closed`]. When those that are there are done, the workers
    /// end. Does not wait.
    pub fn close(&self) {
        self.crew.engine.close();
    }

    /// Kills all workers. Tasks that are not done have [`TaskError::Terminated`], whether they were begun or not. Does
    /// not wait for the ends of the workers.
    pub fn terminate(&self) {
        self.crew.engine.terminate();
    }

    /// Waits until all tasks are done, callbacks have returned, and the workers have ended.
    ///
    /// # Errors
    ///
    /// [`PoolJoinError::Open`] for a pool that was neither closed nor terminated.
    pub fn join(&self) -> Result<(), PoolJoinError> {
        self.join_until(Deadline::NEVER)
    }

    /// As [`join`](Pool::join), but waits so long at most.
    ///
    /// # Errors
    ///
    /// [`PoolJoinError::StillRunning`] if the time was up, or as [`join`](Pool::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolJoinError> {
        self.join_until(Deadline::after(timeout))
    }

    /// As [`join`](Pool::join), but waits until then at most.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Pool::join_timeout).
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), PoolJoinError> {
        self.join_until(Deadline::at(deadline))
    }

    fn join_until(&self, until: Deadline) -> Result<(), PoolJoinError> {
        match &self.crew.engine {
            engine if engine.is_open() => Err(PoolJoinError::Open),
            engine if engine.join(until) => Ok(()),
            _ => Err(PoolJoinError::StillRunning),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Pool");
        form.field("workers", &self.workers()).field("terms", &self.terms).finish_non_exhaustive()
    }
}

//! `Executor`: one way to run tasks, whoever runs them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cell::is_calling_back;
use super::crew::Crew;
use super::error::TaskError;
use super::future::Future;
use super::map::Map;
use super::progress::{Progress, Tally};
use crate::pool::{Pool, PoolError};

/// Runs tasks in threads or in processes, and gives back a [`Future`] for each.
///
/// ```
/// use multiprocess::Executor;
///
/// multiprocess::testing!(); // stands for init() in this example
///
/// let executor = Executor::threads(2)?;
/// let sum = executor.submit(|(a, b)| a + b, (40, 2));
/// let text = executor.submit(|n: u32| "ab".repeat(n as usize), 3);
/// let bad = executor.submit(|text: String| text.parse::<u8>().unwrap(), "many".to_owned());
///
/// assert_eq!(sum.result()?, 42);
/// assert_eq!(text.result()?, "ababab");
/// assert!(bad.exception().is_some()); // and nobody else is harmed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A program moves between threads and processes by this one word. That is why tasks are functions or closures without
/// captures, and arguments and results are types that serde knows: processes need it. Threads move the values as they
/// are and serialize nothing.
///
/// A task that waits for another one of the same executor keeps a worker from running it: give it enough workers.
///
/// Dropped, it waits for its tasks as [`ShutdownMode::Wait`] does. Dropped because of a panic, it waits for none: those that
/// did not start are cancelled, and processes are killed.
#[doc(alias = "ThreadPoolExecutor")]
#[doc(alias = "ProcessPoolExecutor")]
#[doc(alias = "concurrent.futures")]
pub struct Executor {
    workers: Workers,
    tally: Mutex<Option<Arc<Tally>>>,
    left_alone: AtomicBool,
}

enum Workers {
    Threads(Crew),
    Processes(Pool),
}

/// What becomes of the tasks that are still there at [`Executor::shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// They all run, and the call waits for them.
    Wait,
    /// They all run, and nobody waits: neither the call nor the drop. The end of this process ends them.
    NoWait,
    /// Those that were not started are cancelled, and the call waits for the others.
    #[doc(alias = "cancel_futures")]
    CancelPending,
}

/// Why workers were not terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminateError {
    /// They are threads, which nobody can end but themselves.
    Unsupported,
}

impl fmt::Display for TerminateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("threads cannot be terminated")
    }
}

impl std::error::Error for TerminateError {}

impl Executor {
    /// An executor of so many threads. [`cpu_count`](crate::cpu_count) knows how many run at a time.
    ///
    /// The threads start at once and end with the executor. They are named `executor-1` and so on.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoWorkers`], or [`PoolError::Io`]: the kernel refused a thread.
    pub fn threads(workers: usize) -> Result<Executor, PoolError> {
        match workers {
            0 => Err(PoolError::NoWorkers),
            _ => Ok(Executor::new(Workers::Threads(Crew::new(workers).map_err(PoolError::Io)?))),
        }
    }

    /// An executor of so many processes. They are on their way when this returns, and end with the executor.
    ///
    /// A process that dies fails exactly the task that it had begun, and is replaced. To say more about them, make one
    /// [from](Executor::from) a [`Pool`].
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::{Executor, TaskError};
    ///
    /// let executor = Executor::processes(2)?;
    /// let good = executor.submit(|n: u32| n * 2, 21);
    /// let bad = executor.submit(|code| -> u32 { std::process::exit(code) }, 3);
    /// assert_eq!(good.result()?, 42);
    /// assert!(matches!(bad.result(), Err(TaskError::WorkerDied { status, .. }) if status.code() == Some(3)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn processes(workers: usize) -> Result<Executor, PoolError> {
        Ok(Executor::from(Pool::new(workers)?))
    }

    fn new(workers: Workers) -> Executor {
        Executor { workers, tally: Mutex::new(None), left_alone: AtomicBool::new(false) }
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        match &self.workers {
            Workers::Threads(crew) => crew.size(),
            Workers::Processes(pool) => pool.workers(),
        }
    }

    /// Has a worker call `f(args)`.
    ///
    /// Does not wait: tasks queue up without a bound; see [`map`](Executor::map) for a bounded way. What goes wrong, with the task or
    /// because of a shutdown before, is told by the future. Tasks begin in the order they were submitted, or nearly so: worker
    /// processes are given a few ahead.
    pub fn submit<A, R>(&self, f: fn(A) -> R, args: A) -> Future<R>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let tally = self.tally();
        if let Some(tally) = &tally {
            tally.count(|progress| progress.submitted += 1);
        }
        let future = self.start(f, args);
        if let Some(tally) = tally {
            future.add_done_callback(move |future| {
                tally.count(|progress| progress.add(future.exception().as_ref()))
            });
        }
        future
    }

    /// As `submit`, without the accounts.
    fn start<A, R>(&self, f: fn(A) -> R, args: A) -> Future<R>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        match &self.workers {
            Workers::Threads(crew) => crew.submit(move || f(args)),
            Workers::Processes(pool) => pool.apply_async(f, args).into_future(),
        }
    }

    /// Many calls as one task, without the accounts; each has its own error.
    pub(crate) fn start_many<A, R>(&self, f: fn(A) -> R, args: Vec<A>) -> Future<Vec<Result<R, TaskError>>>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        match &self.workers {
            Workers::Threads(crew) => crew.submit_many(f, args),
            Workers::Processes(pool) => pool.submit_many(f, &args),
        }
    }

    /// Calls `f` with each item; the results come in the order of the items.
    ///
    /// The iterator is lazy: items are taken and submitted as results are asked for, and only a few tasks are under way at
    /// once ([`ahead`](Map::ahead)), so `items` may be endless. It goes on after an error, which takes the place of its
    /// item's result. Dropped, it cancels what did not start.
    ///
    /// ```
    /// use multiprocess::Executor;
    ///
    /// multiprocess::testing!();
    /// let executor = Executor::threads(2)?;
    /// let squares = executor.map(|n: u64| n * n, 1..).chunk_size(10).take(4);
    /// assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [1, 4, 9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<I, R>(&self, f: fn(I::Item) -> R, items: I) -> Map<'_, I::IntoIter, R>
    where
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Map::new(self, f, items.into_iter())
    }

    /// Has `hook` told how far the tasks have come that are submitted from now on. It takes the place of an earlier one,
    /// which goes on to be told of earlier tasks.
    ///
    /// It is called by whichever thread has news, by one at a time, and never with older figures after newer ones. What happens
    /// during a call is told together by the next, so a slow hook does not keep the tasks back, and the last state is always
    /// told. Items of a [`map`](Executor::map) are over when the map hands them out. A hook that panics is not called again.
    pub fn on_progress(&self, hook: impl FnMut(Progress) + Send + 'static) {
        *self.tally.lock() = Some(Tally::new(Box::new(hook)));
    }

    pub(crate) fn tally(&self) -> Option<Arc<Tally>> {
        self.tally.lock().clone()
    }

    /// Takes no more tasks: a future of one that is submitted later has [`TaskError::Closed`](crate::TaskError::Closed).
    ///
    /// Blocks as `mode` says, until callbacks have returned, too. Called by a callback (of any executor) or by a task, it does not
    /// wait: that might be for itself. It can be called again, in another mode.
    pub fn shutdown(&self, mode: ShutdownMode) {
        self.close();
        if mode == ShutdownMode::CancelPending {
            self.cancel_pending();
        }
        match mode {
            ShutdownMode::NoWait => self.leave_alone(),
            ShutdownMode::Wait | ShutdownMode::CancelPending if is_calling_back() => {}
            ShutdownMode::Wait | ShutdownMode::CancelPending => self.join(),
        }
    }

    fn close(&self) {
        match &self.workers {
            Workers::Threads(crew) => crew.close(),
            Workers::Processes(pool) => pool.close(),
        }
    }

    fn cancel_pending(&self) {
        match &self.workers {
            Workers::Threads(crew) => crew.cancel_pending(),
            Workers::Processes(pool) => pool.cancel_pending(),
        }
    }

    /// Not even the drop waits from now on.
    fn leave_alone(&self) {
        self.left_alone.store(true, Relaxed);
        if let Workers::Processes(pool) = &self.workers {
            pool.leave_alone();
        }
    }

    fn join(&self) {
        match &self.workers {
            Workers::Threads(crew) => crew.join(),
            Workers::Processes(pool) => {
                let _ = pool.join(); // it is closed
            }
        }
    }

    /// Kills the workers now. Tasks that are not done fail with [`TaskError::Terminated`](crate::TaskError::Terminated), and no more are taken.
    ///
    /// # Errors
    ///
    /// [`TerminateError::Unsupported`]: its workers are threads. Nothing has changed.
    #[doc(alias = "kill_workers")]
    pub fn terminate_workers(&self) -> Result<(), TerminateError> {
        match &self.workers {
            Workers::Threads(_) => Err(TerminateError::Unsupported),
            Workers::Processes(pool) => {
                pool.terminate();
                Ok(())
            }
        }
    }
}

impl From<Pool> for Executor {
    /// An executor of the processes of `pool`, with all that was said to its [builder](Pool::builder): start method, initializer,
    /// retries, time limits. Unlike the pool, the executor waits for its tasks when it is dropped.
    fn from(pool: Pool) -> Executor {
        Executor::new(Workers::Processes(pool))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.close();
        if std::thread::panicking() {
            self.cancel_pending();
        } else if is_calling_back() {
            self.leave_alone();
        } else if !*self.left_alone.get_mut() {
            self.join();
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.workers {
            Workers::Threads(_) => "threads",
            Workers::Processes(_) => "processes",
        };
        f.debug_struct("Executor").field(kind, &self.workers()).finish_non_exhaustive()
    }
}

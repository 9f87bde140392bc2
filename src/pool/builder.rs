//! What a pool is made to be, before any worker is started.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::Crew;
use super::error::PoolError;
use super::front::Pool;
use super::job::Terms;
use super::payload::Payload;
use super::setup::Setup;
use super::task;
use crate::process::StartMethod;

/// A [`Pool`] to be started with more to say about it.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Pool, StartMethod};
/// use std::time::Duration;
///
/// let pool = Pool::builder()
///     .workers(2)
///     .name("squarer")
///     .start_method(StartMethod::ForkServer)
///     .max_tasks_per_worker(1000)
///     .time_limit(Duration::from_secs(10))
///     .start()?;
/// assert_eq!(pool.map(|n: u64| n * n, 1..=4)?, [1, 4, 9, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct PoolBuilder {
    setup: Setup,
    terms: Terms,
}

impl PoolBuilder {
    /// How many workers; as many as [`cpu_count`](crate::cpu_count) says otherwise.
    #[doc(alias = "processes")]
    pub fn workers(mut self, workers: usize) -> PoolBuilder {
        self.setup.workers = workers;
        self
    }

    /// What the names of its processes begin with: `NAME-1`, `NAME-2`, …; a worker that replaces another has a number of
    /// its own. `PoolWorker` otherwise.
    pub fn name(mut self, name: impl Into<String>) -> PoolBuilder {
        self.setup.name = name.into();
        self
    }

    /// How its workers come to be; as [`set_start_method`](crate::set_start_method) said otherwise. They cannot be
    /// forked from this process.
    pub fn start_method(mut self, method: StartMethod) -> PoolBuilder {
        self.setup.method = Some(method);
        self
    }

    /// Has each worker call `f(args)` before its first task. What `f` returns is there for its tasks, by
    /// [`worker_state`](crate::worker_state).
    ///
    /// A panic in it is the error of every task of the pool, [`TaskError::Initializer`](crate::TaskError::Initializer):
    /// no other worker is tried.
    ///
    /// # Errors
    ///
    /// `f` lies in a shared library, or the arguments cannot be serialized.
    pub fn initializer<A, T>(mut self, f: fn(A) -> T, args: A) -> Result<PoolBuilder, PoolError>
    where
        A: Serialize + DeserializeOwned,
        T: 'static,
    {
        let call = task::preparation(f).map_err(|_| PoolError::NotInExecutable)?;
        let payload = Payload::of(&args).map_err(|message| PoolError::Arguments { message })?;
        self.setup.initializer = Some((call, payload));
        Ok(self)
    }

    /// Replaces a worker after so many tasks, for tasks that leave something behind. A chunk is one task. The next worker
    /// comes at once, though the old one may first have to flush what it put on a queue.
    ///
    /// # Panics
    ///
    /// If `tasks` is 0.
    #[doc(alias = "maxtasksperchild")]
    #[track_caller]
    pub fn max_tasks_per_worker(mut self, tasks: u32) -> PoolBuilder {
        assert!(tasks > 0, "a worker that may do no task is of no use");
        self.setup.max_tasks = Some(tasks);
        self
    }

    /// How often a task is run again whose worker died; 0 otherwise. See [`Tasks::retries`](crate::Tasks::retries).
    pub fn retries(mut self, retries: u32) -> PoolBuilder {
        self.terms.retries = retries;
        self
    }

    /// How long a task may run; without end otherwise. See [`Tasks::time_limit`](crate::Tasks::time_limit).
    pub fn time_limit(mut self, limit: Duration) -> PoolBuilder {
        self.terms.time_limit = Some(limit);
        self
    }

    /// Starts the workers. Does not wait until they are ready: tasks wait for them.
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub fn start(self) -> Result<Pool, PoolError> {
        Ok(Pool::new_with(Crew::start(self.setup)?, self.terms))
    }
}

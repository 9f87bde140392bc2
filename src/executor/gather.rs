//! Waiting for many results at once.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::cell::{CANCELLED, Helper};
use super::error::NotDone;
use super::future::Future;
use super::gathering::Gathering;

/// What has a future in it: the future itself, a reference to one, or a pair of something to know it by and the future.
pub trait AsFuture {
    /// What its task returns.
    type Output: Send + 'static;

    /// The future.
    fn as_future(&self) -> &Future<Self::Output>;
}

impl<R: Send + 'static> AsFuture for Future<R> {
    type Output = R;

    fn as_future(&self) -> &Future<R> {
        self
    }
}

impl<F: AsFuture> AsFuture for &F {
    type Output = F::Output;

    fn as_future(&self) -> &Future<F::Output> {
        F::as_future(self)
    }
}

impl<K, F: AsFuture> AsFuture for (K, F) {
    type Output = F::Output;

    fn as_future(&self) -> &Future<F::Output> {
        self.1.as_future()
    }
}

/// The futures in the order in which they are done, each once.
///
/// Takes futures, references to them, or pairs `(key, future)`, and hands out the same: with a key one knows whose result
/// it is. They may be of several executors. What is cancelled is done, too.
///
/// `next` blocks until one more is done; see [`next_timeout`](AsCompleted::next_timeout).
///
/// ```
/// use multiprocess::{Executor, as_completed};
///
/// multiprocess::testing!();
/// let executor = Executor::threads(2)?;
/// let length = |text: String| text.len();
/// let tasks = ["one", "three", "fourteen"].map(|text| (text, executor.submit(length, text.to_owned())));
///
/// for (text, future) in as_completed(tasks) {
///     println!("{text} has {} letters", future.result()?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<F: AsFuture>(futures: impl IntoIterator<Item = F>) -> AsCompleted<F> {
    let gathering = Arc::new(Gathering::default());
    let futures: Vec<Option<F>> = futures.into_iter().map(Some).collect();
    let helper = common_helper(futures.iter().flatten());
    for (index, future) in futures.iter().flatten().enumerate() {
        future.as_future().cell().watch(&gathering, index);
    }
    AsCompleted { left: futures.len(), futures, gathering, helper }
}

/// Futures in the order in which they are done: see [`as_completed`].
pub struct AsCompleted<F: AsFuture> {
    futures: Vec<Option<F>>,
    left: usize,
    gathering: Arc<Gathering>,
    helper: Option<Arc<dyn Helper>>,
}

impl<F: AsFuture> AsCompleted<F> {
    /// How many are still to come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next one, if one is done now.
    ///
    /// # Errors
    ///
    /// [`NotDone`]: there are more, and none of them is done.
    pub fn try_next(&mut self) -> Result<Option<F>, NotDone> {
        self.next_until(Deadline::NOW)
    }

    /// The next one; waits so long at most. `None`: there are no more.
    ///
    /// # Errors
    ///
    /// [`NotDone`] if the time was up. It can be called again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<F>, NotDone> {
        self.next_until(Deadline::after(timeout))
    }

    /// The same, and waits until then at most. The same instant for each limits the whole wait.
    ///
    /// # Errors
    ///
    /// As [`next_timeout`](AsCompleted::next_timeout).
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<F>, NotDone> {
        self.next_until(Deadline::at(deadline))
    }

    fn next_until(&mut self, until: Deadline) -> Result<Option<F>, NotDone> {
        if self.left == 0 {
            return Ok(None);
        }
        let index = self.gathering.next(self.helper.as_ref(), until).ok_or(NotDone)?;
        self.left -= 1;
        Ok(self.futures[index].take())
    }
}

impl<F: AsFuture> Iterator for AsCompleted<F> {
    type Item = F;

    fn next(&mut self) -> Option<F> {
        self.next_until(Deadline::NEVER).ok().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<F: AsFuture> ExactSizeIterator for AsCompleted<F> {}

impl<F: AsFuture> Drop for AsCompleted<F> {
    fn drop(&mut self) {
        // a loop around `wait_futures` would leave one watcher for each round otherwise.
        for future in self.futures.iter().flatten() {
            future.as_future().cell().unwatch(&self.gathering);
        }
    }
}

impl<F: AsFuture> fmt::Debug for AsCompleted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Until when [`wait_futures`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnWhen {
    /// One is done or cancelled.
    FirstCompleted,
    /// One has failed (a cancelled one has not), or all are done.
    FirstException,
    /// All are done or cancelled.
    AllCompleted,
}

/// The futures that [`wait_futures`] was given, each in its order.
#[derive(Debug)]
pub struct Waited<F> {
    /// Those that are done or cancelled.
    pub done: Vec<F>,
    /// The others.
    pub not_done: Vec<F>,
}

/// Waits for many futures until `when`, and sorts them. Takes what [`as_completed`] takes.
///
/// ```
/// use multiprocess::{Executor, ReturnWhen, wait_futures};
///
/// multiprocess::testing!();
/// let executor = Executor::threads(2)?;
/// let futures: Vec<_> = (0..10u32).map(|n| executor.submit(|n| n * n, n)).collect();
/// let waited = wait_futures(&futures, ReturnWhen::AllCompleted);
/// assert_eq!((waited.done.len(), waited.not_done.len()), (10, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "wait")]
pub fn wait_futures<F: AsFuture>(futures: impl IntoIterator<Item = F>, when: ReturnWhen) -> Waited<F> {
    wait_until(futures, when, Deadline::NEVER)
}

/// The same, and waits so long at most.
pub fn wait_futures_timeout<F: AsFuture>(
    futures: impl IntoIterator<Item = F>,
    when: ReturnWhen,
    timeout: Duration,
) -> Waited<F> {
    wait_until(futures, when, Deadline::after(timeout))
}

/// The same, and waits until then at most.
pub fn wait_futures_deadline<F: AsFuture>(
    futures: impl IntoIterator<Item = F>,
    when: ReturnWhen,
    deadline: Instant,
) -> Waited<F> {
    wait_until(futures, when, Deadline::at(deadline))
}

fn wait_until<F: AsFuture>(
    futures: impl IntoIterator<Item = F>,
    when: ReturnWhen,
    until: Deadline,
) -> Waited<F> {
    let futures: Vec<F> = futures.into_iter().collect();
    {
        let mut completed = as_completed(&futures);
        while let Ok(Some(future)) = completed.next_until(until) {
            if is_enough(future, when) {
                break;
            }
        }
    }
    let (done, not_done) = futures.into_iter().partition(|future| future.as_future().done());
    Waited { done, not_done }
}

fn is_enough<F: AsFuture>(future: &F, when: ReturnWhen) -> bool {
    let future = future.as_future();
    match when {
        ReturnWhen::FirstCompleted => true,
        ReturnWhen::FirstException => future.cell().state() != CANCELLED && future.exception().is_some(),
        ReturnWhen::AllCompleted => false,
    }
}

/// Those who help wait for results of their own workers, so only one who runs all tasks can help here.
fn common_helper<'a, F: AsFuture + 'a>(mut futures: impl Iterator<Item = &'a F>) -> Option<Arc<dyn Helper>> {
    let helper = |future: &'a F| future.as_future().cell().helper();
    let first = helper(futures.next()?)?;
    futures
        .all(|future| helper(future).is_some_and(|other| Arc::ptr_eq(first, other)))
        .then(|| Arc::clone(first))
}

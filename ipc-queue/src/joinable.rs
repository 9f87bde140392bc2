//! `JoinableQueue`: a queue that tells when everything that was put is also done.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use ipc_sync::{BACKSTOP, Deadline, Me, Woken};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Queue;
use crate::batch::Batch;
use crate::channel::{Fault, Taken};
use crate::error::{CreateError, JoinTasksError, NamedError, TaskDoneError};
use crate::form::Form;
use crate::options::Options;
use crate::raw::RawQueue;
use crate::tasks::{Tasks, Unfinished};

/// A queue whose items are unfinished until whoever took them says [`task_done`](JoinableQueue::task_done);
/// [`join`](JoinableQueue::join) waits for that. Everything else is as with [`Queue`], to which it derefs.
///
/// Unfinished is what waits in living processes, what is in the ring, and what living processes have taken without
/// saying `task_done`. So a consumer that dies, at whatever instruction, holds up no `join`: what it had taken counts
/// no longer. [`abandoned`](JoinableQueue::abandoned) tells how much that was.
///
/// Taken is counted for each process, all its threads together. `task_done` for an item that another process took is
/// an error here, which it is not in Python: say it where the item was taken. At most 64 processes can have
/// unfinished items at one time; a getter beyond waits until one of them has none.
///
/// ```
/// use ipc_queue::JoinableQueue;
///
/// let queue = JoinableQueue::new()?;
/// let worker = queue.clone(); // in this process or another
/// std::thread::spawn(move || {
///     for job in worker.iter() {
///         let _: u32 = job.unwrap();
///         worker.task_done().unwrap();
///     }
/// });
/// (0..100).try_for_each(|job| queue.put(job))?;
/// queue.join()?;
/// assert_eq!(queue.unfinished(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.JoinableQueue")]
pub struct JoinableQueue<T>(Queue<T>);

impl<T> JoinableQueue<T> {
    /// A new queue without a bound; see [`Queue::new`].
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> Result<JoinableQueue<T>, CreateError> {
        JoinableQueue::create(Options::default())
    }

    /// A new queue of `bound` items at most; see [`Queue::bounded`]. Items that were taken do not count, done or not.
    ///
    /// # Errors
    ///
    /// As [`Queue::bounded`].
    #[doc(alias = "maxsize")]
    pub fn bounded(bound: usize) -> Result<JoinableQueue<T>, CreateError> {
        JoinableQueue::create(Options::default().bound(bound))
    }

    /// A new queue with more to say about it.
    ///
    /// # Errors
    ///
    /// The options say [`leased`](Options::leased); else as [`Options::create`].
    ///
    /// ```
    /// use ipc_queue::{JoinableQueue, Queue};
    /// let queue = JoinableQueue::<u32>::create(Queue::options().bound(10).ring_bytes(4096))?;
    /// assert_eq!(queue.capacity(), Some(10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(options: Options<T>) -> Result<JoinableQueue<T>, CreateError> {
        if options.is_leased() {
            return Err(CreateError::Leased);
        }
        options.form(Form::Joinable).create().map(JoinableQueue)
    }

    /// The queue of this name, without a bound; made, if there is none. As [`Queue::named`].
    ///
    /// # Errors
    ///
    /// As [`Queue::named`].
    pub fn named(name: &str) -> Result<JoinableQueue<T>, NamedError> {
        Options::default().form(Form::Joinable).named(name).map(JoinableQueue)
    }

    /// Says that one item which this process took is done. Does not wait.
    ///
    /// An item that came as [`GetError::Decode`](crate::GetError::Decode) was taken too.
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`]: this process has taken no item that is not done. Or this thread has no slot in the
    /// registry.
    ///
    /// ```
    /// let queue = ipc_queue::JoinableQueue::new()?;
    /// queue.put('a')?;
    /// assert!(queue.task_done().is_err()); // nobody took it
    /// queue.get()?;
    /// queue.task_done()?;
    /// assert!(queue.task_done().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        self.raw.task_done()
    }

    /// Sleeps until nothing is unfinished: at one instant of this call everything that was put until then was done.
    ///
    /// It waits for consumers, and for nobody who is dead: what a dead producer had kept back and what a dead
    /// consumer had taken count no longer. What is in the ring waits for the next consumer, and so does this.
    ///
    /// # Errors
    ///
    /// The queue's memory is damaged, or this thread has no slot in the registry.
    ///
    /// ```
    /// let queue = ipc_queue::JoinableQueue::<u32>::new()?;
    /// queue.join()?; // nothing was put
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinTasksError> {
        self.raw.join_tasks(Deadline::NEVER)
    }

    /// As [`join`](JoinableQueue::join), waiting `timeout` at most.
    ///
    /// # Errors
    ///
    /// Also [`JoinTasksError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinTasksError> {
        self.raw.join_tasks(Deadline::after(timeout))
    }

    /// As [`join`](JoinableQueue::join), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// Also [`JoinTasksError::TimedOut`].
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinTasksError> {
        self.raw.join_tasks(Deadline::at(deadline))
    }

    /// Items that were put and are not done, as far as one can see while others go on. Does not wait. Damaged memory
    /// counts as finished; a join will say what it is.
    pub fn unfinished(&self) -> usize {
        self.raw.unfinished()
    }

    /// Items that consumers had taken and not done when they died. Who died in the middle of a `get` counts as having
    /// taken what it asked for.
    pub fn abandoned(&self) -> usize {
        self.raw.abandoned()
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        JoinableQueue(self.0.clone())
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::of_form(deserializer, &[Form::Joinable]).map(JoinableQueue)
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, unfinished) = (self.len(), self.unfinished());
        f.debug_struct("JoinableQueue")
            .field("len", &len)
            .field("unfinished", &unfinished)
            .finish_non_exhaustive()
    }
}

/// Most items that one get takes.
const MOST_TASKS: usize = 1 << 16;

impl RawQueue {
    /// Counts an item before it takes it. Nothing also while there is no place to count it.
    pub(crate) fn take_as_task(&self, me: &Me, tasks: &Tasks, buffer: &mut Vec<u8>) -> Result<Taken, Fault> {
        let is_item = |taken: &Taken| matches!(taken, Taken::Item(_));
        let taken = self.as_task(
            me,
            tasks,
            || self.channel.take(me, buffer).map(Some),
            |taken| taken.as_ref().is_some_and(is_item),
        )?;
        Ok(taken.unwrap_or(Taken::Empty))
    }

    /// Counts an item, then runs `take`; the count is taken back unless that `took` one.
    pub(crate) fn as_task<R>(
        &self,
        me: &Me,
        tasks: &Tasks,
        take: impl FnOnce() -> Result<Option<R>, Fault>,
        took: impl FnOnce(&Option<R>) -> bool,
    ) -> Result<Option<R>, Fault> {
        if !self.channel.has_item() || !tasks.count(me, 1) {
            return Ok(None);
        }
        let taken = take();
        if !taken.as_ref().is_ok_and(took) {
            self.finish_tasks(me, tasks, 1);
        }
        taken
    }

    /// The same with several.
    pub(crate) fn take_many_as_tasks(
        &self,
        me: &Me,
        tasks: &Tasks,
        batch: &mut Batch,
        max: usize,
    ) -> Result<Taken, Fault> {
        let max = max.min(MOST_TASKS);
        if !self.channel.has_item() || !tasks.count(me, max as u32) {
            return Ok(Taken::Empty);
        }
        let taken = self.channel.take_many(me, batch, max);
        let got = if matches!(taken, Ok(Taken::Item(_))) { batch.len() } else { 0 };
        self.finish_tasks(me, tasks, max.saturating_sub(got) as u32);
        taken
    }

    /// So many items less in the hands of this process. Who waits is told when there are none; if there are items in
    /// the ring, these were not the last. Dying before it tells is telling: all with an entry are watched.
    pub(crate) fn finish_tasks(&self, me: &Me, tasks: &Tasks, items: u32) -> bool {
        let left = tasks.uncount(me, items);
        if left == Some(0) && !self.channel.has_item() {
            tasks.tell(me);
        }
        left.is_some()
    }

    fn task_done(&self) -> Result<(), TaskDoneError> {
        let me = Me::get().map_err(TaskDoneError::Registry)?;
        match self.tasks.as_ref().is_some_and(|tasks| self.finish_tasks(&me, tasks, 1)) {
            true => Ok(()),
            false => Err(TaskDoneError::TooMany),
        }
    }

    fn join_tasks(&self, deadline: Deadline) -> Result<(), JoinTasksError> {
        let me = Me::get().map_err(JoinTasksError::Registry)?;
        let Some(tasks) = &self.tasks else { return Ok(()) };
        let (mut slept, mut ask) = (false, false);
        while self.look_at_tasks(&me, tasks, ask)?.is_some() {
            if deadline.has_passed() {
                return Err(JoinTasksError::TimedOut);
            }
            let round = deadline.min(Deadline::after(BACKSTOP));
            let watch = || self.look_at_tasks(&me, tasks, false).ok()?;
            ask = tasks.sleep(me.registry(), watch, round) == Woken::TimedOut;
            slept = true;
        }
        if slept {
            tasks.tell(&me); // the wake may have been for one of us only
        }
        Ok(())
    }

    /// Whose end would be news for those who wait until nothing is unfinished; `None` = nothing is.
    ///
    /// Items are looked for where they come from and then where they go to, so that none slips by. One that was put
    /// meanwhile, by somebody whose own is done by now, shows at the second look at the beginning.
    fn look_at_tasks(&self, me: &Me, tasks: &Tasks, ask: bool) -> Result<Option<Vec<u32>>, Fault> {
        let kept_back = self.channel.kept_back(me, ask);
        let end = self.channel.end_at_rest()?;
        let ring_is_empty = end == Some(self.channel.head());
        let Unfinished { items, mut tokens } = tasks.unfinished(me.registry(), ask);
        let done = kept_back == 0 && ring_is_empty && items == 0;
        if done && self.channel.kept_back(me, false) == 0 && self.channel.end_at_rest()? == end {
            return Ok(None);
        }
        tokens.extend(self.channel.keepers(me));
        Ok(Some(tokens))
    }

    fn unfinished(&self) -> usize {
        let count = |tasks: &Tasks| {
            let taken = tasks.unfinished(Me::get().ok()?.registry(), false).items;
            Some(self.len().saturating_add(taken))
        };
        self.tasks.as_ref().and_then(count).unwrap_or(0)
    }

    fn abandoned(&self) -> usize {
        let count = |tasks: &Tasks| Some(tasks.abandoned(Me::get().ok()?.registry()));
        self.tasks.as_ref().and_then(count).unwrap_or(0)
    }
}

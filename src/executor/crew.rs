//! Threads that run tasks, first come, first served.
//!
//! A task lies in the queue with its promise: a task that is dropped there is cancelled, and one that is cancelled is
//! skipped when its turn comes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use ipc_shm::fork;
use ipc_sync::{Patience, forks};
use parking_lot::{Condvar, Mutex};

use super::error::TaskError;
use super::future::Future;
use super::promise::promise;
use crate::process::{Panic, catch, listen};

type Task = Box<dyn FnOnce() + Send>;

pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    size: usize,
    /// A copy of this process by fork has none of the threads.
    forks: u32,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// How many tasks lie in the queue: what an idle thread looks at before it sleeps.
    waiting: AtomicUsize,
    filled: Condvar,
    patience: Patience,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    closed: bool,
}

impl Crew {
    pub(crate) fn new(size: usize) -> io::Result<Crew> {
        listen();
        fork::watch();
        let crew = Crew { shared: Arc::default(), threads: Mutex::default(), size, forks: forks() };
        for number in 1..=size {
            let shared = Arc::clone(&crew.shared);
            let thread = thread::Builder::new().name(format!("executor-{number}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => crew.threads.lock().push(thread),
                Err(error) => {
                    crew.close();
                    crew.join();
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn submit<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> Future<R> {
        let (promise, future) = promise();
        if self.is_copy() {
            future.refuse(TaskError::in_a_copy());
            return future;
        }
        let task = move || {
            if promise.start() {
                promise.finish(run(work));
            }
        };
        if let Err(task) = self.shared.push(Box::new(task)) {
            future.refuse(TaskError::Closed);
            drop(task);
        }
        future
    }

    fn is_copy(&self) -> bool {
        self.forks != forks()
    }

    /// Many calls as one task; a panic is the error of its own call.
    pub(crate) fn submit_many<A, R>(&self, f: fn(A) -> R, args: Vec<A>) -> Future<Vec<Result<R, TaskError>>>
    where
        A: Send + 'static,
        R: Send + 'static,
    {
        self.submit(move || args.into_iter().map(|args| run(|| f(args))).collect())
    }

    /// No task is taken from now on; those that are here will run.
    pub(crate) fn close(&self) {
        if self.is_copy() {
            return;
        }
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
    }

    /// Cancels what was not started.
    pub(crate) fn cancel_pending(&self) {
        if self.is_copy() {
            return;
        }
        let tasks = {
            let mut queue = self.shared.queue.lock();
            self.shared.waiting.store(0, Relaxed);
            std::mem::take(&mut queue.tasks)
        };
        drop(tasks); // and their callbacks run, without the lock
    }

    /// Waits until the threads of a closed crew have ended; one of them does not wait for itself and the others.
    pub(crate) fn join(&self) {
        if OF.get() == Arc::as_ptr(&self.shared).addr() || self.is_copy() {
            return;
        }
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

thread_local! {
    /// Which crew this thread is of: the address of what it shares.
    static OF: Cell<usize> = const { Cell::new(0) };
}

fn run<R>(work: impl FnOnce() -> R) -> Result<R, TaskError> {
    catch(work).map_err(|Panic { message, location }| TaskError::Panicked { message, location })
}

impl Shared {
    fn push(&self, task: Task) -> Result<(), Task> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(task);
        }
        queue.tasks.push_back(task);
        self.waiting.store(queue.tasks.len(), Relaxed);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    fn work(&self) {
        OF.set(std::ptr::from_ref(self).addr());
        while let Some(task) = self.next() {
            // What a task throws beside its own panic (when its result is dropped) must not end the thread.
            let _ = catch_unwind(AssertUnwindSafe(task));
        }
    }

    fn next(&self) -> Option<Task> {
        let mut found = None;
        let ready = || self.waiting.load(Relaxed) > 0 && self.take(&mut found);
        self.patience.wait(u32::MAX, ready, || self.sleep());
        found
    }

    fn take(&self, found: &mut Option<Task>) -> bool {
        let mut queue = self.queue.lock();
        *found = queue.tasks.pop_front();
        self.waiting.store(queue.tasks.len(), Relaxed);
        found.is_some()
    }

    /// Sleeps until there is a task; false = there will be none.
    fn sleep(&self) -> bool {
        let mut queue = self.queue.lock();
        while queue.tasks.is_empty() && !queue.closed {
            self.filled.wait(&mut queue);
        }
        !queue.tasks.is_empty()
    }
}

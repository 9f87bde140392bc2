//! Processes of one program, and what they share: queues, pipes, memory, locks. What Python's `multiprocessing` gives
//! to Python programs, and never wedged by a `kill -9`.
//!
//! | subject   | names                                                                                            |
//! |-----------|--------------------------------------------------------------------------------------------------|
//! | processes | [`init`], [`Process`], [`Builder`], [`Stdio`], [`ExitStatus`], [`current_process`]               |
//! | tasks     | [`Executor`]: in threads or processes; [`Future`], [`as_completed`], [`wait_futures`]            |
//! | pools     | [`Pool`]: tasks for worker processes; [`AsyncResult`], [`Imap`], [`Tasks`], [`worker_state`]    |
//! | queues    | [`Queue`]: messages for many; more in [`queue`]                                                  |
//! | pipes     | [`pipe()`], [`simplex`], [`Connection`], [`Sender`], [`Receiver`]; more in [`connection`]        |
//! | waiting   | [`wait()`] for several of them at once, [`Waitable`]; `Doorbell` in [`connection`] for outside loops |
//! | locks     | [`Lock`], [`ReentrantLock`], [`RwLock`], [`Semaphore`]; more in [`sync`]                         |
//! | signals   | [`Event`], [`Condition`], [`Barrier`]                                                            |
//! | values    | [`Value`], [`Array`]: typed, each with a lock, of any [`Shareable`] type                         |
//! | memory    | [`SharedMemory`], and any open file as [`Descriptor`]; more in [`shm`]                           |
//! | servers   | [`Manager`]: [`Dict`], [`List`] and more in a server process, or on another machine; more in [`manager`] |
//! | meeting   | [`Listener`], [`connect`]: processes that share nothing yet, by an [`Address`] and a [`Key`]     |
//! | words     | [`collect_logs`]: what children log, and their panics, reach this process                        |
//! | tests     | [`testing!`]                                                                                     |
//!
//! Each subject is a crate of its own (`ipc-queue`, `ipc-pipe`, `ipc-sync`, `ipc-shm`) and can be linked alone; this
//! one adds the processes.
//!
//! # A first program
//!
//! ```
//! use multiprocess::{Process, Queue};
//!
//! fn square((jobs, results): (Queue<Option<u64>>, Queue<u64>)) -> u32 {
//!     let mut count = 0;
//!     while let Some(n) = jobs.get().unwrap() {
//!         results.put(n * n).unwrap();
//!         count += 1;
//!     }
//!     count
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     multiprocess::init();
//!
//!     let (jobs, results) = (Queue::bounded(100)?, Queue::new()?);
//!     let mut worker = Process::spawn(square, (jobs.clone(), results.clone()))?;
//!     for job in [Some(3), Some(4), None] {
//!         jobs.put(job)?; // None ends the worker
//!     }
//!     assert_eq!(results.get()? + results.get()?, 25);
//!     assert_eq!(worker.join()?, 2);
//!     Ok(())
//! }
//! ```
//!
//! # Why `init` comes first
//!
//! A new process is the same executable, started anew: nothing is forked, so threads, held locks and open files of the
//! parent are no danger. It too begins with `main`. There [`init`] finds out that it is a child, runs the one
//! function it was started for, sends the result to its parent and exits. Nothing below `init` happens in a child; what
//! stands above it happens in each. A program that forgets `init` gets an error from its first `spawn`.
//!
//! A function is named by its place in the executable. It may be a function or a closure without captures, with any
//! types that are [`Serialize`](serde::Serialize) and [`DeserializeOwned`](serde::de::DeserializeOwned); what a closure
//! would capture goes into the arguments instead.
//!
//! # What crosses
//!
//! What is sent, and nothing else: the arguments, the result, messages on pipes and queues. Values travel through serde.
//! Handles ([`Queue`], [`Lock`] and its family, [`SharedMemory`], ends of pipes, [`Descriptor`]) are fields like others, at
//! any depth: in arguments, in results, in messages of pipes and queues they lead to the same thing on the other side.
//!
//! Guards, threads and a [`Process`] itself do not travel. Neither do globals: a child has those of a fresh program.
//! The environment and the directory are those of the parent, standard input is empty; see [`Builder`].
//!
//! # When a child dies
//!
//! ```
//! use multiprocess::{JoinError, Lock, Process, simplex};
//!
//! multiprocess::testing!(); // stands for init() in this example
//!
//! let lock = Lock::new()?;
//! let (receiver, sender) = simplex()?;
//! let mut child: Process<()> = Process::spawn(
//!     |(lock, sender): (Lock, multiprocess::Sender)| {
//!         let _guard = lock.lock().unwrap();
//!         sender.send("I have it").unwrap();
//!         loop {
//!             std::thread::park();
//!         }
//!     },
//!     (lock.clone(), sender),
//! )?;
//! assert_eq!(receiver.recv::<String>()?, "I have it");
//! child.kill()?;
//!
//! assert!(lock.lock()?.owner_died()); // the lock comes here, and says how
//! assert!(receiver.recv::<String>().is_err()); // the pipe is at its end
//! let error = child.join().unwrap_err();
//! assert_eq!(error.to_string(), "process ended without a result, with signal 9 (SIGKILL)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A panic is [`JoinError::Panicked`] with its text and place (the child prints it, too); anything else that ends a child
//! without a result is [`JoinError::Died`]. Nobody else is harmed: a lock comes to the next one, a queue loses at most
//! the item in dead hands, a pipe ends.
//!
//! A child whose parent dies goes on, until it reads from or writes to a pipe that only the parent had. A
//! [daemon](Builder::daemon) dies with its parent at once, by whatever that is killed.
//!
//! # Tests and examples
//!
//! `main` belongs to libtest there. [`testing!`] at the top of the file stands for `init`.
//!
//! # What it does not do
//!
//! Linux only. Processes of one program only: another program shares memory by name ([`SharedMemory::open`]) and comes to a
//! [`Listener`], but does not share functions. A function in a shared library cannot be a process. No isolation: all of a family trust each other.

mod executor;
pub mod manager;
mod pool;
mod process;
mod testing;

#[doc(no_inline)]
pub use ipc_pipe as connection;
#[doc(no_inline)]
pub use ipc_queue as queue;
#[doc(no_inline)]
pub use ipc_shm as shm;
#[doc(no_inline)]
pub use ipc_sync as sync;

pub use executor::{
    AsCompleted, AsFuture, Executor, Future, Map, NotDone, Progress, ReturnWhen, ShutdownMode, TaskError,
    TerminateError, TryResultError, Waited, as_completed, wait_futures, wait_futures_deadline,
    wait_futures_timeout,
};
pub use ipc_pipe::{
    Address, AddressError, ConnectError, Connection, Doorbell, Key, KeyError, Link, Listener,
    ListenerOptions, Loan, Payload, PayloadError, Peer, PipeError, Readable, Receiver, RecvError,
    RecvIntoError, Refusals, SendError, Sender, TryRecvError, TrySendError, Waitable, Writable, connect,
    connect_deadline, connect_python, connect_timeout, pipe, simplex, wait, wait_deadline, wait_timeout,
};
pub use ipc_queue::{
    Batch, GetError, GetManyError, JoinTasksError, JoinableQueue, Lease, NotHeld, PutError, PutFault,
    PutManyError, Queue, SimpleQueue, TaskDoneError,
};
pub use ipc_shm::{Descriptor, Shareable, SharedMemory};
pub use ipc_sync::{
    Array, ArrayError, ArrayGuard, Barrier, BarrierError, BarrierWait, BrokenBarrier, Condition,
    ConditionError, Event, Lock, LockError, LockGuard, NotifyError, OutOfRange, Permit, ReadGuard,
    ReentrantGuard, ReentrantLock, ReleaseError, RwLock, RwLockError, Semaphore, SemaphoreError,
    TryAcquireError, TryLockError, TryRwLockError, Value, ValueGuard, WriteGuard,
};
pub use manager::{Dict, List, Manager, ManagerBuilder};
pub use pool::{AsyncResult, Imap, Pool, PoolBuilder, PoolError, PoolJoinError, Tasks, worker_state};
pub use process::{
    Builder, Child, CurrentProcess, ExitStatus, JoinError, LogCollector, LogRecord, ParentProcess, Process,
    SpawnError, SpawnFailure, StartMethod, StartMethodError, Stdio, TryJoinError, active_children,
    collect_logs, collect_logs_with, cpu_count, current_process, init, parent_process, preload,
    set_start_method, start_method,
};

#[doc(hidden)]
pub use process::test_entry;

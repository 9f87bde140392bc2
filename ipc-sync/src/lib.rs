//! Words in shared memory that one can wait on: locks, semaphores, conditions, events, barriers and values that survive
//! the death of whoever uses them.
//!
//! | type              | what it is                              | who dies with it                                     |
//! |-------------------|-----------------------------------------|------------------------------------------------------|
//! | [`Lock`]          | one thread inside                       | the next owner is told by `owner_died()`             |
//! | [`ReentrantLock`] | the same, with levels                   | the same, and begins at the first level              |
//! | [`RwLock`]        | many readers or one writer              | gives way; a writer's death is told                  |
//! | [`Semaphore`]     | so many threads inside                  | its permits come back                                |
//! | [`Condition`]     | waiting for what changes under a lock   | a notification that it had taken reaches another     |
//! | [`Event`]         | a flag to wait for                      | nothing: the flag is set or not                      |
//! | [`Barrier`]       | a number of parties meet, again and again | the others are told its pid                        |
//! | [`Value`], [`Array`] | typed memory with a lock and atomics | each element is old or new; the next guard is told   |
//!
//! Each is a handle: cloning shares it, it can be sent inside any message, inherited by `fork`, and used between
//! threads too. `new` makes it without a name, `named` opens it by its name or makes it: processes that share nothing else meet so,
//! and the name goes with its last user.
//!
//! # A lock for two processes
//!
//! [`Lock`] excludes the threads of any number of processes from each other. It is made without a name and travels
//! inside messages, or is inherited by `fork`:
//!
//! ```
//! use ipc_sync::Lock;
//!
//! let lock = Lock::new()?;
//! let guard = lock.lock()?;
//! if guard.owner_died() {
//!     // Look through what the lock guards, mend it, and say so.
//!     guard.mark_consistent();
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens when a process dies
//!
//! Nothing that dies holding a lock, or waiting for one, keeps anybody else waiting. The kernel marks a word in shared
//! memory when a thread ends, for whatever reason and at whatever instruction, after its last write; whoever
//! waits for that thread's lock sleeps on that word too. The next holder is told by
//! [`LockGuard::owner_died`]. A stopped process is not dead, and nothing is taken from it.
//!
//! Every sleeper also looks again after 100 ms ([`BACKSTOP`]). No promise rests on that: [`Registry::rescues`] counts
//! how often it was needed, and the tests want 0.
//!
//! # Who is who
//!
//! An owner is written down as a token: a slot of the [`Registry`] and how often it was used. PIDs and TIDs are
//! used again and mean something else in each PID namespace; tokens are and do not. One registry serves all processes
//! of a user that see the same `/dev/shm`; where there is none, a family of processes shares one all the same, because
//! children are given it. A primitive of another registry is refused when it arrives, never guessed at.
//!
//! # Building primitives
//!
//! [`RawLock`], [`Bell`], [`RoomBell`] and [`Patience`] are the parts that the queue and the pipe are made of: structures of
//! atomics for shared memory of your own. A [`WakeWord`] is what others wait for beside other things. A [`Place`] puts any [`Primitive`] where handles lead to it.
//!
//! # What this does not do
//!
//! No fairness: whoever comes at the right moment passes those who sleep. No priority inheritance. No protection
//! from a process that writes garbage over the words: it can block others or break the exclusion of its own lock,
//! though a word that makes no sense is an error and never an owner. Linux only.

mod arena;
mod array;
mod barrier;
mod bell;
mod condition;
mod deadline;
mod element;
mod event;
mod futex;
mod held;
mod integer;
mod ledger;
mod lock;
mod me;
mod place;
mod primitive;
mod process;
mod raw_barrier;
mod raw_event;
mod raw_lock;
mod raw_rwlock;
mod raw_semaphore;
mod reentrant_lock;
mod registry;
mod robust;
mod rwlock;
mod semaphore;
mod slot;
mod unwinding;
mod value;
mod wait;
mod waiters;
mod wake_word;
mod watch;

use std::time::Duration;

pub use arena::CreateError;
pub use array::{Array, ArrayError, ArrayGuard, OutOfRange};
pub use barrier::{Barrier, BarrierError, BarrierWait, BrokenBarrier};
pub use bell::{Bell, RoomBell};
pub use condition::{Condition, ConditionError, NotifyError};
pub use deadline::Deadline;
pub use event::Event;
pub use futex::Woken;
pub use held::ConditionGuard;
pub use integer::Integer;
pub use ipc_shm::fork::forks;
pub use lock::{Lock, LockError, LockGuard, TryLockError};
pub use me::Me;
pub use place::{NamedError, Place, Primitive};
pub use primitive::{full_fence, processor};
pub use process::{Birth, Copies};
pub use raw_lock::{Acquired, RawLock, RawLockError};
pub use reentrant_lock::{ReentrantGuard, ReentrantLock};
pub use registry::{Registry, RegistryError};
pub use rwlock::{ReadGuard, RwLock, RwLockError, TryRwLockError, WriteGuard};
pub use semaphore::{Permit, ReleaseError, Semaphore, SemaphoreError, TryAcquireError};
pub use value::{Value, ValueGuard};
pub use wait::Patience;
pub use wake_word::WakeWord;
#[doc(hidden)]
pub use wake_word::{sleep_on, wake_sleepers};

/// How long anybody sleeps before looking again, though every wake should come by itself.
pub const BACKSTOP: Duration = Duration::from_millis(100);

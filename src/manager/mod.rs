//! Objects in a server process, for processes that share no memory: dicts, lists, locks and the rest.
//!
//! What Python has in `multiprocessing.Manager`. A [`Manager`] starts a server, or connects to one; it makes objects there, and
//! what it gives are their proxies, which go anywhere: into other processes, messages, and other objects of the same server.
//!
//! | kind    | proxies                                                                                            |
//! |---------|----------------------------------------------------------------------------------------------------|
//! | data    | [`Dict`], [`List`], [`Namespace`], [`Value`], [`Array`]: can be [saved](Manager::save)             |
//! | queues  | [`Queue`], [`JoinableQueue`]                                                                       |
//! | locks   | [`Lock`], [`ReentrantLock`], [`Semaphore`]                                                         |
//! | signals | [`Event`], [`Condition`], [`Barrier`]                                                              |
//!
//! ```
//! # multiprocess::testing!();
//! use multiprocess::{Dict, Manager, Process};
//!
//! let manager = Manager::start()?;
//! let results: Dict<String, usize> = manager.dict()?;
//! let count = |(results, page): (Dict<String, usize>, String)| results.set(&page, &page.len()).unwrap();
//! let mut workers = Vec::new();
//! for page in ["index", "about"] {
//!     workers.push(Process::spawn(count, (results.clone(), page.to_owned()))?);
//! }
//! for mut worker in workers {
//!     worker.join()?;
//! }
//! let mut found = results.items()?;
//! found.sort();
//! assert_eq!(found, [("about".to_owned(), 5), ("index".to_owned(), 5)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A server or shared memory
//!
//! The types of the same names at the root of the crate lie in shared memory: a lock there costs nanoseconds, a lock here some
//! microseconds. A server is for what has no fixed size (a dict, a list, lists in a dict), for programs that are to meet by an
//! address, for other machines, and for data that is to outlive a crash.
//!
//! # What one call is
//!
//! Each call is done whole or not at all, and no other client comes in the middle of it; the server is one thread. Two calls are
//! two: `set(&key, &(get(&key)? + 1))` loses what others did between. [`Dict::update`], [`Dict::fetch_add`] and
//! [`Dict::compare_exchange`] do not.
//!
//! # References
//!
//! An object without a name lives as long as it has proxies, or is in another object. A process that is killed has no proxies any
//! more, at once. A proxy in a message is kept for a minute; if it is not received until then, its sender must have it still.
//! Objects that hold each other in a circle keep each other until one of them is cleared.
//!
//! # Processes, threads, forks
//!
//! All threads of a process may use one proxy at the same time: a call that waits holds up no other. A process is one client,
//! with one connection for each thread in a call ([256](ManagerBuilder::client_links) at most). A child made by `fork` is a client of its own from its first call
//! on; until then it keeps its parent's connections open, so that a parent that dies first is missed only when the child
//! ends.
//!
//! # What is not done
//!
//! - No functions in the server: it keeps bytes, and does what is listed here.
//! - No two servers for one object: a server that dies takes along what was not saved.
//! - A circle of objects is not found.
//! - TCP is authenticated and not encrypted; where there are strangers on the way, it wants a tunnel.

// 1. `message`: what clients and the server say to each other, byte by byte.
// 2. `server`: one thread that serves all; `hosted`: the objects in it, each kind in a file.
// 3. `client`: this process as a client of one server; `proxy`: the objects as clients have them, each kind in a file.
// 4. `front`: `Manager`; `objects`: what it makes; `builder`: what it is to be; `start`: the process of a server.
// 5. `error`: why a call failed. `statistics`: what a server says of itself.

mod builder;
mod client;
mod error;
mod front;
mod hosted;
mod message;
mod objects;
mod proxy;
mod server;
mod start;
mod statistics;

pub use builder::ManagerBuilder;
pub use error::{CallError, ManagerError};
pub use front::{Manager, Named, Sentinel};
pub use message::Budget;
pub use proxy::{
    Answers, Array, Barrier, BarrierWait, Batch, BrokenBarrier, Condition, ConditionError, ConditionGuard,
    ConditionLock, Dict, Elements, Entries, Event, GetError, GetManyError, Integer, Iter, JoinableQueue,
    List, Lock, LockError, LockGuard, Namespace, Pending, Permit, PutError, PutFault, PutManyError, Queue,
    ReentrantGuard, ReentrantLock, ReleaseError, Semaphore, TaskDoneError, TryAcquireError, TryLockError,
    Updated, Value,
};
pub use statistics::Statistics;

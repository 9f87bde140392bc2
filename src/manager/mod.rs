//! A server process with shared dicts and the rest, and the proxies by which any process uses them.
//!
//! 1. `message`: what clients and the server say to each other, byte by byte.
//! 2. `server`: one thread that serves all; `hosted`: the objects in it, each kind in a file.
//! 3. `client`: this process as a client of one server; `proxy`: the objects as clients have them, each kind in a file.
//! 4. `front`: `Manager`; `objects`: what it makes; `builder`: what it is to be; `start`: the process of a server.
//! 5. `error`: why a call failed. `statistics`: what a server says of itself.

mod builder;
mod client;
mod error;
mod front;
mod hosted;
mod link;
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
    ConditionLock, Dict, Elements, Entries, Event, GetError, Integer, Iter, JoinableQueue, List, Lock,
    LockError, LockGuard, Namespace, Pending, Permit, PutError, PutFault, Queue, ReentrantGuard,
    ReentrantLock, ReleaseError, Semaphore, TaskDoneError, TryAcquireError, TryLockError, Updated, Value,
};
pub use statistics::Statistics;

//! Workers that run what they are given, and the engine behind them.
//!
//! 1. `front`: the public type; `builder`: what it is made to be; `tasks`: how tasks are given to it.
//! 2. `result`: what comes of one task; `imap`: of many, one by one; `gather`: of many, at once; `piece`: of one chunk.
//! 3. `engine`: who looks after the pool. `state`: what there is to do, under one lock. `hand`: a worker as the pool
//!    sees it; `job`: a task as the pool sees it; `setup`: how workers come to be.
//! 4. `worker`: the life of a worker; `local`: what its initializer left to its tasks.
//! 5. `task`: what the two tell each other; `payload`: values on their way; `table`: the words that both see.
//! 6. `error`: what can go wrong with a pool; that of a task is the executor's.

mod builder;
mod engine;
mod error;
mod front;
mod gather;
mod hand;
mod imap;
mod job;
mod local;
mod payload;
mod piece;
mod result;
mod setup;
mod state;
mod table;
mod task;
mod tasks;
mod worker;

pub use builder::PoolBuilder;
pub use error::{PoolError, PoolJoinError};
pub use front::Pool;
pub use imap::Imap;
pub use local::worker_state;
pub use result::AsyncResult;
pub use tasks::Tasks;

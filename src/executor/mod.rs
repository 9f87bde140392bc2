//! Tasks whose results come later.
//!
//! 1. `cell`: one result, from the promise of it to its taking. `promise`: the side that makes it; `future`: the side
//!    that waits for it; `gather`: waiting for many, in a `gathering`.
//! 2. `front`: the executor, whoever runs the tasks. `map`: a function over many items. `progress`: how far it is.
//! 3. `crew`: threads that run tasks.
//! 4. `error`: why there is no result.

mod cell;
mod crew;
mod error;
mod front;
mod future;
mod gather;
mod gathering;
mod map;
mod progress;
mod promise;

pub(crate) use cell::{Helper, Seat, sleep_once};
pub use error::{NotDone, TaskError, TryResultError};
pub use front::{Executor, ShutdownMode, TerminateError};
pub use future::Future;
pub use gather::{
    AsCompleted, AsFuture, ReturnWhen, Waited, as_completed, wait_futures, wait_futures_deadline,
    wait_futures_timeout,
};
pub use map::Map;
pub use progress::Progress;
pub(crate) use promise::{Promise, helped_promise, promise};

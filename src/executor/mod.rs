//! Tasks whose results come later.
//!
//! 1. `cell`: one result, from the promise of it to its taking. `promise`: the side that makes it; `future`: the side
//!    that waits for it.
//! 2. `error`: why there is none.

mod cell;
mod error;
mod future;
mod promise;

pub(crate) use cell::{Helper, Seat};
pub use error::{NotDone, TaskError, TryResultError};
pub use future::Future;
pub(crate) use promise::{Promise, helped_promise, promise};

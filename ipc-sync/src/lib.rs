//! Words in shared memory that one can wait on, and locks that survive the death of their holder.

mod arena;
mod bell;
mod deadline;
mod futex;
mod lock;
mod primitive;
mod process;
mod raw_lock;
mod registry;
mod robust;
mod wait;

use std::time::Duration;

pub use arena::{CreateError, Place, Primitive};
pub use bell::{Bell, RoomBell};
pub use deadline::Deadline;
pub use futex::Woken;
pub use lock::{Lock, LockError, LockGuard, TryLockError};
pub use primitive::{full_fence, processor};
pub use process::forks;
pub use raw_lock::{Acquired, RawLock, RawLockError};
pub use registry::{Me, Registry, RegistryError};
pub use wait::Patience;

/// How long anybody sleeps before looking again, though every wake should come by itself.
pub const BACKSTOP: Duration = Duration::from_millis(100);

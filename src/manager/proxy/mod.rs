//! The objects of a server as its clients have them.
//!
//! `handle`: what each proxy is: an object, and one reference to it. `form`: how a proxy travels. `held`: what the guards of
//! locks are. Else each kind in a file.

mod barrier;
mod condition;
mod event;
mod form;
mod handle;
mod held;
mod joinable_queue;
mod lock;
mod queue;
mod reentrant_lock;
mod semaphore;

pub use barrier::{Barrier, BarrierWait, BrokenBarrier};
pub use condition::{Condition, ConditionError, ConditionGuard, ConditionLock};
pub use event::Event;
pub(super) use handle::Handle;
pub use joinable_queue::{JoinableQueue, TaskDoneError};
pub use lock::{Lock, LockError, LockGuard, TryLockError};
pub use queue::{GetError, Iter, PutError, PutFault, Queue};
pub use reentrant_lock::{ReentrantGuard, ReentrantLock};
pub use semaphore::{Permit, ReleaseError, Semaphore, TryAcquireError};

/// What all proxies can do: `proxy!(Lock, Kind::Lock)`, `proxy!(Dict<K, V>, Kind::Dict)`. The type has a function
/// `of(handle)` and a field `handle`.
macro_rules! proxy {
    ($name:ident $(<$($type:ident),+>)?, $kind:expr) => {
        impl$(<$($type),+>)? Clone for $name$(<$($type),+>)? {
            /// Another handle of the same object.
            fn clone(&self) -> Self {
                Self::of(self.handle.clone())
            }
        }

        impl$(<$($type),+>)? PartialEq for $name$(<$($type),+>)? {
            /// Whether it is the same object.
            fn eq(&self, other: &Self) -> bool {
                self.handle == other.handle
            }
        }

        impl$(<$($type),+>)? Eq for $name$(<$($type),+>)? {}

        impl$(<$($type),+>)? std::fmt::Debug for $name$(<$($type),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.handle.describe(stringify!($name), f)
            }
        }

        impl$(<$($type),+>)? serde::Serialize for $name$(<$($type),+>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.handle.serialize(serializer)
            }
        }

        impl<'de, $($($type),+)?> serde::Deserialize<'de> for $name$(<$($type),+>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::manager::proxy::Handle::deserialize($kind, deserializer).map(Self::of)
            }
        }
    };
}
pub(super) use proxy;

//! The objects of a server as its clients have them.
//!
//! 1. `handle`: what each proxy is: an object, and one reference to it. `form`: how a proxy travels.
//! 2. `talk`: what several of them say and hear. `integer`: what a server can add to. `batch`: many requests in one trip.
//! 3. `map`: what `dict` and `namespace` are made of. `row`: what `list`, `array` and `value` are made of. `held`: what the
//!    guards of locks are. Else each kind in a file.

mod array;
mod barrier;
mod batch;
mod condition;
mod dict;
mod event;
mod form;
mod handle;
mod held;
mod integer;
mod joinable_queue;
mod list;
mod lock;
mod map;
mod namespace;
mod queue;
mod queue_many;
mod reentrant_lock;
mod row;
mod semaphore;
mod talk;
mod value;

pub use array::Array;
pub use barrier::{Barrier, BarrierWait, BrokenBarrier};
pub use batch::{Answers, Pending};
pub use condition::{Condition, ConditionError, ConditionGuard, ConditionLock};
pub use dict::{Batch, Dict, Entries};
pub use event::Event;
pub(super) use handle::{Handle, done, number};
pub use integer::Integer;
pub use joinable_queue::{JoinableQueue, TaskDoneError};
pub use list::List;
pub use lock::{Lock, LockError, LockGuard, TryLockError};
pub use namespace::Namespace;
pub use queue::{GetError, Iter, PutError, PutFault, Queue};
pub use queue_many::{GetManyError, PutManyError};
pub use reentrant_lock::{ReentrantGuard, ReentrantLock};
pub use row::Elements;
pub use semaphore::{Permit, ReleaseError, Semaphore, TryAcquireError};
pub(super) use talk::put_values;
pub use value::Value;

/// What an update by compare-and-exchange made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated<T> {
    /// What is there now.
    pub value: T,
    /// How often somebody else changed it meanwhile, so that it was done again.
    pub retries: u32,
}

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

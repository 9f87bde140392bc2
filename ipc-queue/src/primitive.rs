//! The seam between the ring and what it rests on: atomics, barriers, lock, bells, bytes.
//!
//! `channel.rs` takes everything from here, so that the model in `tests/loom_channel.rs` compiles that file a
//! second time, with parts of its own under the same names.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use ipc_pipe::{Bytes, Flags, HEADER, Header, MAX_PAYLOAD, span};
pub(crate) use ipc_shm::View;
pub(crate) use ipc_sync::{Acquired, Bell, Deadline, Me, RawLock, RawLockError, RoomBell, Woken, processor};

/// Entries of the ledger: processes that may have a backlog at one time.
pub(crate) const ENTRIES: usize = 64;

/// Behind a locked instruction: makes it a full barrier where it is not one by itself.
#[inline(always)]
pub(crate) fn complete_barrier() {
    #[cfg(not(target_arch = "x86_64"))]
    ipc_sync::full_fence();
}

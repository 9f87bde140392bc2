//! The seam between the ring and what it rests on: atomics, barriers, lock, bells, bytes.
//!
//! `channel.rs` takes everything from here, so that the model in `tests/loom_channel.rs` compiles that file a
//! second time, with parts of its own under the same names.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) use ipc_pipe::socket::{Bundle, Socket, nonce};
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

/// A deliberate fault, to see that the killers notice it; none here. `tests/steps.rs` compiles `channel.rs`
/// and `beside.rs` with this function answering 1 to 9:
///
/// 1 the header behind a frame is not zeroed, 2 nothing is recovered from a dead producer, 3 `tail` is stored before
/// `next`, 4 the consumers' bell is not named to the kernel, 5 the header is published before the payload, 6 a
/// consumer stores `head` without comparing, 7 a packet is sent after its frame, 8 a packet is dropped before its
/// frame is claimed, 9 a packet does not name its sender.
#[inline(always)]
pub(crate) const fn mutant() -> u8 {
    0
}

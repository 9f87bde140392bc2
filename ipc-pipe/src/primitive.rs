//! The seam between the ring and the machine.
//!
//! `ring.rs` takes its atomics from here and nowhere else, so that the models in `tests/` can compile it a second
//! time with loom's under the same names.

pub(crate) use ipc_sync::{RoomBell, full_fence};
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

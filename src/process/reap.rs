//! Children that nobody waits for: reaped in passing, so that none stays a zombie and no drop blocks.
//!
//! The idea is tokio's orphan queue. There is no thread and no signal handler: whoever spawns, joins or drops a
//! process looks through the list.

use std::sync::Arc;

use parking_lot::Mutex;

use super::pidfd::Pidfd;

static ORPHANS: Mutex<Vec<Arc<Pidfd>>> = Mutex::new(Vec::new());

/// Takes over a child that may still run.
pub(crate) fn adopt(child: Arc<Pidfd>) {
    ORPHANS.lock().push(child);
}

/// Reaps those that have ended. Somebody else who does it at the moment does it for us; in a forked child that
/// somebody may be gone, so nobody waits for the list here.
pub(crate) fn sweep() {
    if let Some(mut orphans) = ORPHANS.try_lock() {
        orphans.retain(|child| child.reap().is_none());
    }
}

//! The server: one thread that serves all clients.
//!
//! 1. `state`, `calls`, `sessions`, `references`, `snapshot`: what requests do; without links, and nothing blocks.
//!    `saver`, `file`: what a snapshot does on the disk.
//! 2. `turns`, `peer`, `poller`, `slice`: the loop over the links.
//! 3. `table`, `session`, `slab`: what is kept.

mod calls;
mod file;
mod peer;
mod poller;
mod references;
mod saver;
mod session;
mod sessions;
mod slab;
mod slice;
mod snapshot;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod turns;

use std::io;

use ipc_pipe::Listener;

use crate::process::servant;

pub(super) use session::Limits;
use state::State;
use turns::Turns;

/// What a process does that is to be a server and nothing else.
pub(super) fn settle_in() {
    servant::leave_terminal_to_parent();
    servant::leave_no_core();
    servant::open_many_descriptors();
}

/// Serves clients that come to `listener` until one of them asks for the end.
///
/// # Errors
///
/// What the kernel answers when the server begins, or cannot wait any more.
pub(super) fn serve(listener: Listener, limits: Limits) -> io::Result<()> {
    Turns::new(State::new(limits)?, Some(listener))?.run()
}

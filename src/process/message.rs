//! What parent and child tell each other over the connection that the child is born with.
//!
//! ```text
//! parent                         child
//!   Bootstrap  ───────────────▶  who it is, what to run
//!   A          ───────────────▶  the arguments, handles among them
//!              ◀───────────────  Outcome<R>
//! ```
//!
//! The end of the connection instead of a message means that the other side is gone.

use ipc_shm::Descriptor;
use serde::{Deserialize, Serialize};

use super::current::Birth;
use super::image::Identity;
use super::logs::Ear;

/// Who the child is and what it runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    pub(crate) birth: Birth,
    /// The file that `call` is about.
    pub(crate) program: Identity,
    pub(crate) call: Call,
    /// The parent's pidfd.
    pub(crate) parent: Descriptor,
    /// What a daemon dies with.
    pub(crate) lifeline: Option<Descriptor>,
    /// Where it logs to, if its parent listens.
    pub(crate) ear: Option<Ear>,
}

/// Two functions by their offsets: the one to run, and the one that knows its types.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) trampoline: u64,
    pub(crate) function: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome<R> {
    Returned(R),
    Panicked {
        message: String,
        /// File, line and column; empty if nobody knows.
        location: String,
    },
    /// The function was not called.
    NotStarted(String),
    /// The function returned, and its result refused to be serialized.
    ResultRefused(String),
}

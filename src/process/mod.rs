//! Processes of this program that run one function each and give its result back.
//!
//! 1. `builder`: what to run and how, without a system call.
//! 2. `exec`: the executable, started anew with three descriptors and nothing else.
//! 3. `image`: functions by their place in the executable.
//! 4. `message`: what parent and child tell each other.
//! 5. `entry`: where a child leaves the way of `main`; `panics`: what it says when its function panics.
//! 6. `child`: the parent's handle. `pidfd`: what it holds the child by. `reap`: children nobody waits for.
//! 7. `current`: who this process is. `error`: what can go wrong.

mod builder;
mod child;
mod current;
mod entry;
mod error;
mod exec;
mod image;
mod message;
mod panics;
mod pidfd;
mod reap;
mod status;

pub use builder::{Builder, Stdio};
pub use child::Process;
pub use current::{CurrentProcess, current_process};
pub use entry::{init, test_entry};
pub use error::{JoinError, SpawnError, SpawnFailure, TryJoinError};
pub use status::ExitStatus;

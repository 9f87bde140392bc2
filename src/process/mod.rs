//! Processes of this program that run one function each and give its result back.
//!
//! 1. `builder`: what to run and how, without a system call.
//! 2. `start`: how a process comes to be. `exec`: the executable, started anew with three descriptors and nothing else;
//!    `fork`: a copy; `forkserver`: who makes copies.
//! 3. `image`: functions by their place in the executable.
//! 4. `message`: what parent and child tell each other.
//! 5. `entry`: where a child leaves the way of `main`; `panics`: what it says when its function panics.
//! 6. `child`: the parent's handle. `family`: all children of this process. `pidfd`: what it holds them by.
//! 7. `current`: who this process is. `parent`: who started it. `lifeline`: how a daemon dies with it.
//! 8. `logs`: what children say reaches their parent.
//! 9. `error`: what can go wrong. `status`: how a process ended.

mod builder;
mod child;
mod current;
mod entry;
mod error;
mod exec;
mod family;
mod fork;
mod forkserver;
mod image;
mod lifeline;
mod logs;
mod message;
mod panics;
mod parent;
mod pidfd;
pub(crate) mod servant;
mod start;
mod status;

pub use builder::{Builder, Stdio};
pub use child::Process;
pub use current::{CurrentProcess, cpu_count, current_process};
pub use entry::{init, test_entry};
pub use error::{JoinError, SpawnError, SpawnFailure, TryJoinError};
pub(crate) use family::is_leaving;
pub use family::{Child, active_children};
pub use forkserver::preload;
pub(crate) use image::Image;
pub use logs::{LogCollector, LogRecord, collect_logs, collect_logs_with};
pub(crate) use message::Call;
pub(crate) use panics::{Panic, catch, listen};
pub use parent::{ParentProcess, parent_process};
pub(crate) use pidfd::Pidfd;
pub use start::{StartMethod, StartMethodError, set_start_method, start_method};
pub use status::ExitStatus;

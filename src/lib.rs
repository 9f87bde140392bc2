//! Facade.

mod process;

pub use ipc_pipe::{Connection, Receiver, Sender, pipe, simplex};
pub use ipc_queue::Queue;
pub use ipc_shm::{Descriptor, SharedMemory};
pub use ipc_sync::{Lock, LockGuard};
pub use process::{
    Builder, CurrentProcess, ExitStatus, JoinError, Process, SpawnError, SpawnFailure, Stdio, TryJoinError,
    current_process, init,
};

#[doc(hidden)]
pub use process::test_entry;

/// Lets the processes that a test or a doctest spawns be processes.
#[macro_export]
macro_rules! testing {
    () => {
        const _: () = {
            #[used]
            #[allow(unsafe_code)]
            #[unsafe(link_section = ".init_array")]
            static ENTRY: extern "C" fn() = $crate::test_entry;
        };
    };
}

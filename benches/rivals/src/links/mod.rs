//! Ours and theirs, behind one face.

mod cloudtoid;
mod crossbeam;
mod iceoryx;
mod interprocess;
mod ipc_channel;
mod our_batch;
mod our_loan;
mod our_manager;
mod our_payload;
mod our_pipe;
mod our_queue;
mod pipe;
pub mod python;
mod redis;
mod shmem_ipc;
mod socketpair;
mod spin_ring;
mod tarpc;

pub use cloudtoid::{Cloudtoid, CloudtoidBatch};
pub use crossbeam::{Crossbeam, CrossbeamTyped};
pub use iceoryx::{Iceoryx, IceoryxLoan};
pub use interprocess::Interprocess;
pub use ipc_channel::{IpcChannel, IpcChannelMemory, IpcChannelTyped};
pub use our_batch::OurBatch;
pub use our_loan::OurLoan;
pub use our_manager::OurManager;
pub use our_payload::OurPayload;
pub use our_pipe::{OurPipe, OurPipeTyped};
pub use our_queue::{OurQueue, OurQueueTyped};
pub use pipe::Pipe;
pub use redis::{Redis, RedisMget};
pub use shmem_ipc::ShmemIpc;
pub use socketpair::Socketpair;
pub use spin_ring::SpinRing;
pub use tarpc::Tarpc;

//! What the tests of the queue share.
#![allow(dead_code)] // each test binary uses its part

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc_pipe::codec;
use ipc_queue::Queue;
use ipc_shm::Mapping;
use ipc_shm::handle::{Incoming, Outgoing};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The queue as a message: its bytes and its descriptors.
pub(crate) fn pack<T>(queue: &Queue<T>) -> (Vec<u8>, Vec<OwnedFd>) {
    let table = Outgoing::open();
    let mut bytes = Vec::new();
    codec::encode(queue, &mut bytes).unwrap();
    let sending = table.finish();
    let descriptors = sending.descriptors().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    sending.sent();
    (bytes, descriptors)
}

/// The queue that came in a message.
pub(crate) fn unpack<T>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Queue<T>, codec::DecodeError> {
    unpack_as(bytes, descriptors)
}

/// The same, of another type.
pub(crate) fn unpack_as<Q: DeserializeOwned>(
    bytes: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<Q, codec::DecodeError> {
    let _table = Incoming::open(descriptors);
    codec::decode(bytes)
}

/// All bytes of the queue.
pub(crate) fn memory<T>(queue: &Queue<T>) -> Arc<Mapping> {
    let descriptor = pack(queue).1.remove(0);
    Mapping::of(Arc::new(descriptor)).unwrap()
}

/// Everything this process has put is in the ring when it returns: `fork` ends its child without exit handlers.
pub(crate) fn flush<T: Serialize + DeserializeOwned>(queue: &Queue<T>) {
    queue.close();
    queue.join_thread().unwrap();
}

/// Where the words of the ring lie in the memory; see `channel.rs`.
pub(crate) mod at {
    pub(crate) const LOCK: usize = 128;
    pub(crate) const TAIL: usize = LOCK + 16;
    pub(crate) const HEAD: usize = LOCK + 128;
    pub(crate) const SETTINGS: usize = LOCK + 768;
    pub(crate) const LEASES: usize = LOCK + 1312;
    pub(crate) const RING: usize = 4096;
}

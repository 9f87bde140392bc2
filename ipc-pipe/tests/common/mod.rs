//! What the tests of this crate share.
#![allow(dead_code)] // each test binary uses its part

#[path = "../../../tests/support/mod.rs"]
pub(crate) mod support;

use ipc_pipe::{Connection, pipe};
use support::{Child, fork};

/// A forked child that has one end of a new pipe, and the other end.
pub(crate) fn peer(f: impl FnOnce(Connection)) -> (Connection, Child) {
    let (here, there) = pipe().unwrap();
    let (mut here, mut there) = (Some(here), Some(there));
    let child = fork(|| {
        drop(here.take());
        f(there.take().unwrap());
    });
    drop(there);
    (here.unwrap(), child)
}

/// A peer that sends every message back until the pipe is closed.
pub(crate) fn echo() -> (Connection, Child) {
    peer(|end| {
        while let Ok(message) = end.recv_bytes() {
            end.send_bytes(&message).unwrap();
        }
    })
}

/// Bytes that differ from place to place, and from one `seed` to the other.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = support::Rng::new(seed);
    (0..length).map(|_| rng.next() as u8).collect()
}

/// The socket of an end, which nobody but a stranger or a test would use by itself.
pub(crate) fn socket(end: &Connection) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    let readiness = end.readiness().unwrap().expect("an empty pipe");
    readiness.as_fd().try_clone_to_owned().unwrap()
}

//! What the tests of this crate share.
#![allow(dead_code)] // each test binary uses its part
#![allow(unsafe_code)] // limits, and packets by hand

pub(crate) mod meeting;

use std::os::fd::{AsRawFd, OwnedFd};

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
pub(crate) fn socket(end: &Connection) -> OwnedFd {
    use std::os::fd::AsFd;
    let readiness = end.readiness().unwrap().expect("an empty pipe");
    readiness.as_fd().try_clone_to_owned().unwrap()
}

/// Lets this process have no descriptor number of `count` or above.
pub(crate) fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: 1024.max(count) };
    // SAFETY: the limit lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// A packet that no end would send, 200 descriptors at most; false = no room for it.
pub(crate) fn send_packet(socket: &OwnedFd, bytes: &[u8], descriptors: &[i32]) -> bool {
    let rights = size_of_val(descriptors);
    let mut control = [0u64; 128];
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr may be zero; the control buffer is aligned and has room for 200 numbers and a header.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &mut slice;
        header.msg_iovlen = 1;
        if rights > 0 {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(rights as u32) as usize;
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(rights as u32) as usize;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(message),
                rights,
            );
        }
        libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) >= 0
    }
}

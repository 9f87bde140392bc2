//! A pair of sockets that keeps messages apart (`SOCK_SEQPACKET`).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt::SndBufForce,
};

use crate::link::{End, Ends, Link};
use crate::processors::Side;

pub struct Socketpair(Ends<Socket>);

pub struct Socket(OwnedFd);

/// What a socket takes in one message without being told to.
const PLAIN: usize = 100_000;

impl Link for Socketpair {
    const NAME: &'static str = "raw socketpair";
    type End = Socket;

    fn create(size: usize) -> Socketpair {
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        if size > PLAIN {
            for end in [&left, &right] {
                setsockopt(end, SndBufForce, &(8 << 20)).expect("only root may");
            }
        }
        Socketpair(Ends::new(Socket(left), Socket(right)))
    }

    fn open(&self, side: Side) -> Socket {
        self.0.take(side)
    }
}

impl End for Socket {
    fn send(&mut self, message: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), message, MsgFlags::empty()), Ok(message.len()));
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        assert_eq!(recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()), Ok(buffer.len()));
    }
}

//! The short messages of a handshake, byte by byte as they come: CPython's frame, and never a byte beyond it.
//!
//! ```text
//! length   i32, big-endian, 0 to 256
//! payload  that many bytes
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::ancillary::{self, Then};
use crate::auth::LONGEST;

const PREFIX: usize = 4;

/// Why no message comes or goes.
#[derive(Debug)]
pub(crate) enum Torn {
    /// The other side is gone.
    Closed,
    /// It announces more than a handshake has.
    TooLong,
    /// The kernel refuses.
    Io(io::Error),
}

impl From<Errno> for Torn {
    fn from(error: Errno) -> Torn {
        match error {
            Errno::EPIPE | Errno::ECONNRESET => Torn::Closed,
            error => Torn::Io(error.into()),
        }
    }
}

impl From<io::Error> for Torn {
    fn from(error: io::Error) -> Torn {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).into(),
            None => Torn::Io(error),
        }
    }
}

/// A message on its way in.
#[derive(Debug)]
pub(crate) struct Letter {
    bytes: [u8; PREFIX + LONGEST],
    have: usize,
    /// What came beside it, where that is allowed.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Letter {
    pub(crate) fn new() -> Letter {
        Letter { bytes: [0; PREFIX + LONGEST], have: 0, descriptors: Vec::new() }
    }

    /// Reads on; the message, if it is whole now. Does not block.
    ///
    /// Where descriptors are not allowed they are never installed: the kernel closes them.
    pub(crate) fn read(&mut self, socket: impl AsFd, with_descriptors: bool) -> Result<Option<&[u8]>, Torn> {
        loop {
            let end = self.end()?;
            if self.have >= PREFIX && self.have == end {
                self.have = 0; // the next one
                return Ok(Some(&self.bytes[PREFIX..end]));
            }
            match self.receive(&socket, end, with_descriptors) {
                Ok(0) => return Err(Torn::Closed),
                Ok(count) => self.have += count,
                Err(Torn::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the message ends, as far as it is known.
    fn end(&self) -> Result<usize, Torn> {
        let Some(prefix) = self.bytes[..self.have].first_chunk::<PREFIX>() else { return Ok(PREFIX) };
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            Ok(length) if length <= LONGEST => Ok(PREFIX + length),
            _ => Err(Torn::TooLong),
        }
    }

    fn receive(&mut self, socket: impl AsFd, end: usize, with_descriptors: bool) -> Result<usize, Torn> {
        let room = &mut self.bytes[self.have..end];
        if with_descriptors {
            let received = ancillary::receive(socket.as_fd(), room, Then::Gone)?;
            self.descriptors.extend(received.descriptors);
            return Ok(received.length);
        }
        loop {
            match recv(socket.as_fd().as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => {}
                answer => return Ok(answer?),
            }
        }
    }
}

/// A message with its length before it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

/// Sends a message. Each side waits for the other's after each of its own, so there is room for it in any socket; where there is
/// none the other side is no party to a handshake. Does not block.
pub(crate) fn write(socket: impl AsFd, message: &[u8]) -> Result<(), Torn> {
    let bytes = framed(message);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match send(socket.as_fd().as_raw_fd(), &bytes, flags) {
            Err(Errno::EINTR) => {}
            Ok(count) if count < bytes.len() => return Err(Torn::Io(io::ErrorKind::WriteZero.into())),
            answer => return Ok(answer.map(drop)?),
        }
    }
}

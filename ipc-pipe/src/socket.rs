//! The socket of a pipe: it wakes a sleeper, carries descriptors, and tells when the other end is gone.
//!
//! ```text
//! packet of 1 byte      bell: look at the ring
//! packet of 16 bytes    u32 magic "mpfd", u32 count, u64 nonce; and `count` descriptors beside it
//! anything else         not ours: dropped
//!
//! nonce    bits 0..32 number of the message, 32..64 token of the thread that sends it
//! ```
//!
//! It is SEQPACKET, so a packet is there or not, and never blocks: where there is no room for a bell, others lie there
//! already. Each process has its own copies of an end, and when the last of them is closed, however that process
//! ended, the kernel says so to the other side at once. That is why nobody here watches the life of the other
//! side's threads: while another copy lives, the pipe does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, getsockname, getsockopt, recv, send, socketpair, sockopt,
};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use nix::sys::time::TimeSpec;

use crate::ancillary::{self, Received, Then};

pub use crate::ancillary::MAX_DESCRIPTORS;

const MAGIC: u32 = u32::from_be_bytes(*b"mpfd");
const ANNOUNCEMENT: usize = 16;

/// More packets than a socket holds.
const MANY: usize = 10_000;

/// This process's copy of one end. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Socket(Arc<OwnedFd>);

/// What stands in front of the queue of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// Nothing.
    None,
    /// A bell, or what is not ours.
    Bell,
    /// Descriptors of the message whose frame says the same nonce.
    Descriptors { nonce: u64 },
    /// The other end is gone, and so is everything it sent.
    End,
}

/// What a wait saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// There is a packet, or room for one.
    pub(crate) ready: bool,
    /// All copies of the other end are closed.
    pub(crate) gone: bool,
}

/// The descriptors of one message, as far as they came.
#[derive(Debug, Default)]
pub struct Bundle {
    /// In the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
    /// How many were sent.
    pub sent: usize,
}

impl Socket {
    /// Both ends of a new one.
    ///
    /// # Errors
    ///
    /// No descriptor, no memory.
    pub fn pair() -> io::Result<(Socket, Socket)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Socket(Arc::new(one)), Socket(Arc::new(other))))
    }

    /// One end that came from elsewhere; `None` = it is not a socket of this kind.
    pub fn of(descriptor: Arc<OwnedFd>) -> Option<Socket> {
        let kind = getsockopt(&descriptor, sockopt::SockType).ok()?;
        let name = getsockname::<SockaddrStorage>(descriptor.as_raw_fd()).ok()?;
        let ours = kind == SockType::SeqPacket && name.family() == Some(AddressFamily::Unix);
        ours.then_some(Socket(descriptor))
    }

    /// The descriptor, shared.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.0
    }

    /// The descriptor itself if nobody else in this process uses it, else a duplicate.
    pub(crate) fn into_owned(self) -> io::Result<OwnedFd> {
        Arc::try_unwrap(self.0).or_else(|shared| shared.try_clone())
    }

    /// Wakes the other side. False = it is gone.
    #[cold]
    pub(crate) fn ring(&self) -> bool {
        loop {
            match send(self.0.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                // The other end was closed with packets unread: said once, then EPIPE.
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                Err(Errno::EPIPE) => return false,
                // No room: there are packets enough to wake it. No memory: it looks by itself before long.
                _ => return true,
            }
        }
    }

    /// Waits for a packet.
    pub(crate) fn wait_packet(&self, until: Deadline) -> Seen {
        self.poll(PollFlags::POLLIN, until)
    }

    /// Waits for room for a packet.
    pub(crate) fn wait_room(&self, until: Deadline) -> Seen {
        self.poll(PollFlags::POLLOUT, until)
    }

    /// Sleeps until the other end is gone, whatever packets come.
    pub(crate) fn wait_end(&self, until: Deadline) -> Seen {
        self.poll(PollFlags::empty(), until)
    }

    /// Whether the other end is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.wait_end(Deadline::NOW).gone
    }

    /// A signal ends it early: every caller looks again anyway.
    fn poll(&self, events: PollFlags, until: Deadline) -> Seen {
        let mut entry = [PollFd::new(self.0.as_fd(), events)];
        let timeout = until.remaining().map(TimeSpec::from_duration);
        match ppoll(&mut entry, timeout, None) {
            Ok(1..) => {
                let seen = entry[0].revents().unwrap_or(PollFlags::empty());
                Seen { ready: seen.intersects(events), gone: seen.contains(PollFlags::POLLHUP) }
            }
            Ok(_) | Err(Errno::EINTR) => Seen::default(),
            Err(_) => {
                // No memory for a poll: sleep as well as one can without.
                std::thread::sleep(Duration::from_millis(1));
                Seen::default()
            }
        }
    }

    /// Looks at the packet in front, and leaves it there.
    pub(crate) fn front(&self) -> Packet {
        let mut bytes = [0; ANNOUNCEMENT + 1];
        loop {
            match recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK) {
                Ok(0) => return Packet::End,
                Ok(length) => {
                    return parse(&bytes[..length])
                        .map_or(Packet::Bell, |(nonce, _)| Packet::Descriptors { nonce });
                }
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                Err(_) => return Packet::None,
            }
        }
    }

    /// Drops what is there, but not what comes meanwhile without end.
    pub fn clear(&self) {
        for _ in 0..MANY {
            match self.front() {
                Packet::None | Packet::End => return,
                Packet::Bell | Packet::Descriptors { .. } => self.drop_front(),
            }
        }
    }

    /// Takes the packet in front away; descriptors that came with it are closed.
    pub fn drop_front(&self) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        while let Err(Errno::EINTR | Errno::ECONNRESET) = recv(self.0.as_raw_fd(), &mut [0; 1], flags) {}
    }

    /// Sends descriptors ahead of the frame that says the same nonce. Does not block.
    ///
    /// # Errors
    ///
    /// What sendmsg answers.
    pub fn send(&self, nonce: u64, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = [0; ANNOUNCEMENT];
        bytes[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(descriptors.len() as u32).to_ne_bytes());
        bytes[8..16].copy_from_slice(&nonce.to_ne_bytes());
        ancillary::send(self.0.as_fd(), &bytes, descriptors)
    }

    /// Takes the descriptors of `nonce`, which were sent before their frame was. Bells before them go, and so do
    /// descriptors whose sender died before the frame. `None` = they are not there: a reader died with them.
    pub(crate) fn receive(&self, nonce: u64) -> Option<Bundle> {
        if !self.seek(nonce) {
            return None;
        }
        let (_, bundle) = self.bundle(Then::Gone).ok()?;
        bundle
    }

    /// Duplicates of the descriptors of `nonce`, whose packet stays in front; else as `receive`. Whoever may yet die
    /// before it is done takes them like this, and [`drop_front`](Socket::drop_front)s the packet then.
    ///
    /// # Errors
    ///
    /// This process cannot have so many descriptors more; nothing is changed.
    pub fn peek(&self, nonce: u64) -> io::Result<Option<Bundle>> {
        if !self.seek(nonce) {
            return Ok(None);
        }
        match self.bundle(Then::Stays)? {
            (true, _) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            (false, bundle) => Ok(bundle),
        }
    }

    /// Drops what stands before the packet of `nonce`; false = it is not there.
    fn seek(&self, nonce: u64) -> bool {
        loop {
            match self.front() {
                Packet::Descriptors { nonce: found } if found == nonce => return true,
                Packet::Descriptors { nonce: found } if is_later(found, nonce) => return false,
                Packet::None | Packet::End => return false,
                Packet::Bell | Packet::Descriptors { .. } => self.drop_front(),
            }
        }
    }

    /// The descriptors in front, and whether there were more than this process may have.
    fn bundle(&self, then: Then) -> io::Result<(bool, Option<Bundle>)> {
        let mut bytes = [0; ANNOUNCEMENT];
        loop {
            match ancillary::receive(self.0.as_fd(), &mut bytes, then) {
                Ok(Received { length, descriptors, truncated }) => {
                    let bundle = parse(&bytes[..length]).map(|(_, sent)| Bundle { descriptors, sent });
                    return Ok((truncated, bundle));
                }
                Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => continue,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Makes a nonce of the sender's token and the number of its message.
pub fn nonce(token: u32, item: u32) -> u64 {
    u64::from(token) << 32 | u64::from(item)
}

/// The token of the thread that sent it.
pub(crate) fn sender_of(nonce: u64) -> u32 {
    (nonce >> 32) as u32
}

/// Whether `found` belongs to a later message than `nonce`. The numbers wrap; a new writer goes on with the number of the
/// message that its dead predecessor did not send.
fn is_later(found: u64, nonce: u64) -> bool {
    (found as u32).wrapping_sub(nonce as u32) as i32 > 0
}

/// Nonce and count of an announcement of descriptors.
fn parse(bytes: &[u8]) -> Option<(u64, usize)> {
    let bytes: &[u8; ANNOUNCEMENT] = bytes.try_into().ok()?;
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (count, nonce) = rest.split_first_chunk::<4>()?;
    let nonce = u64::from_ne_bytes(nonce.try_into().ok()?);
    (u32::from_ne_bytes(*magic) == MAGIC).then_some((nonce, u32::from_ne_bytes(*count) as usize))
}

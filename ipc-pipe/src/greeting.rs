//! One handshake over one socket, driven by whoever has the time: it never blocks.
//!
//! Where both sides are processes of one user on one machine, and the client asks for it, the server makes a pipe and
//! sends one end over; the socket has done its work then.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::ancillary;
use crate::auth::{Denial, Handshake, Role, Step, refusal};
use crate::key::Key;
use crate::letter::{Letter, Torn, framed, write};
use crate::link::Link;
use crate::pipe::{Connection, Parts, pipe};

/// The side of the pipe that the client gets.
const THEIRS: u32 = 1;

/// Who is at the other end of a connection on this machine, as the kernel says.
///
/// It is the process that connected, or the one that listens, with the user that it had then. It may have ended since, or have given
/// the connection to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(alias = "SO_PEERCRED")]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its process.
    pub pid: u32,
}

impl Peer {
    /// The other end of a Unix socket.
    pub(crate) fn of(socket: impl AsFd) -> Option<Peer> {
        let found = getsockopt(&socket, sockopt::PeerCredentials).ok()?;
        Some(Peer { uid: found.uid(), pid: u32::try_from(found.pid()).ok()? })
    }

    /// Whether it may share memory with us.
    pub(crate) fn is_us(&self) -> bool {
        self.uid == geteuid().as_raw()
    }
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    Denied(Denial),
    Torn(Torn),
}

impl From<Torn> for Fault {
    fn from(torn: Torn) -> Fault {
        match torn {
            Torn::TooLong => Fault::Denied(Denial::Protocol),
            torn => Fault::Torn(torn),
        }
    }
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct Greeting {
    socket: OwnedFd,
    peer: Option<Peer>,
    handshake: Handshake,
    letter: Letter,
    /// Our end of the pipe that was offered.
    end: Option<Connection>,
}

impl Greeting {
    /// Greets a client. `peer` is who that is, if the kernel knows.
    pub(crate) fn serve(socket: OwnedFd, peer: Option<Peer>, key: Key) -> Result<Greeting, Fault> {
        ancillary::refuse(socket.as_fd());
        let greeting = Greeting::call(socket, peer, key, Role::Server)?;
        write(&greeting.socket, &greeting.handshake.challenge())?;
        Ok(greeting)
    }

    /// Greets a server, which speaks first.
    pub(crate) fn call(socket: OwnedFd, peer: Option<Peer>, key: Key, role: Role) -> Result<Greeting, Fault> {
        let handshake = Handshake::new(key, role).map_err(Torn::Io)?;
        Ok(Greeting { socket, peer, handshake, letter: Letter::new(), end: None })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(crate) fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Whether the other side has proved that it knows the key.
    pub(crate) fn is_authentic(&self) -> bool {
        self.handshake.is_authentic()
    }

    /// Goes on as far as it can; true = it is over, and a link.
    pub(crate) fn turn(&mut self) -> Result<bool, Fault> {
        loop {
            let Some(message) = self.letter.read(&self.socket, self.handshake.awaits_descriptors())? else {
                return Ok(false);
            };
            let step = self.handshake.hear(message);
            if self.take(step)? {
                return Ok(true);
            }
        }
    }

    /// What it came to.
    pub(crate) fn into_link(self) -> Link {
        match self.end {
            Some(end) => Link::rings(end, self.peer),
            None => {
                ancillary::refuse(self.socket.as_fd());
                Link::stream(self.socket, self.peer)
            }
        }
    }

    fn take(&mut self, step: Result<Step, Denial>) -> Result<bool, Fault> {
        match step {
            Ok(Step::Say(message)) => self.say(&message, false),
            Ok(Step::Stream(last)) => {
                self.end = None;
                last.map_or(Ok(true), |last| self.say(&last, true))
            }
            Ok(Step::Wanted) => self.offer(),
            Ok(Step::Offered) => self.answer(),
            Ok(Step::Rings) => Ok(true),
            Err(denial) => {
                if denial == Denial::NotAuthentic {
                    let _ = write(&self.socket, &refusal());
                }
                Err(Fault::Denied(denial))
            }
        }
    }

    fn say(&self, message: &[u8], last: bool) -> Result<bool, Fault> {
        write(&self.socket, message)?;
        Ok(last)
    }

    /// A pipe for a client of ours; if there can be none, the stream will do.
    fn offer(&mut self) -> Result<bool, Fault> {
        let may = self.peer.is_some_and(|peer| peer.is_us());
        let ends = if may { pipe().ok() } else { None };
        self.end = ends.and_then(|(ours, theirs)| self.send_end(theirs).then_some(ours));
        if self.end.is_some() {
            return Ok(false);
        }
        let message = self.handshake.offer(false);
        self.say(&message, true)
    }

    fn send_end(&mut self, theirs: Connection) -> bool {
        let Ok(parts) = theirs.into_parts() else { return false };
        let message = framed(&self.handshake.offer(true));
        let descriptors = [parts.socket.as_fd(), parts.segment.as_fd()];
        ancillary::send(self.socket.as_fd(), &message, &descriptors).is_ok()
    }

    /// Takes the end of a pipe that the server sent, if it is one of our registry; else the stream will do.
    fn answer(&mut self) -> Result<bool, Fault> {
        let sent = std::mem::take(&mut self.letter.descriptors).try_into();
        let open = |[socket, segment]: [OwnedFd; 2]| {
            Connection::from_parts(Parts { socket, segment, side: THEIRS }).ok()
        };
        self.end = sent.ok().and_then(open);
        let message = self.handshake.answer(self.end.is_some());
        self.say(&message, true)
    }
}

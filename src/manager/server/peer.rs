//! One link, as the loop has it.

use std::cell::Cell;

use ipc_pipe::{Link, Readiness, TryRecvError, TrySendError};
use ipc_sync::Deadline;
use nix::unistd::{Pid, geteuid};

use super::calls::Reply;
use super::poller::{EACH_TIME, Poller, READABLE, WRITABLE};
use super::slice::Slice;
use super::state::{Line, LinkId, State};
use crate::process::Pidfd;

/// Messages of one link in one turn.
const BURST: usize = 16;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) link: Link,
    pub(super) line: Line,
    /// An answer that had no room yet. Nothing is read meanwhile.
    pub(super) owed: Option<Vec<u8>>,
    /// There may be something that memory does not tell of: bytes of a stream, or the end of file.
    pub(super) look: Cell<bool>,
    pub(super) is_hot: bool,
    /// It used up a slice when it was served last.
    pub(super) is_greedy: bool,
    /// It stands in the list of hot links, from which it is taken after the turn.
    pub(super) is_listed: bool,
    /// The turn in which it was served last.
    pub(super) served: u64,
    /// Until then the message that has begun must be whole.
    pub(super) whole_until: Option<Deadline>,
    is_known: Cell<bool>,
    /// The poller has no room for it: nobody would hear what comes.
    is_deaf: Cell<bool>,
    /// The process at the other end. Copies that it made of itself have the link too, so that no end of file may come with its
    /// death.
    process: Option<Pidfd>,
}

/// What became of a turn of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It had something.
    Busy,
    Idle,
    /// Its answer has no room.
    Blocked,
    /// It is closed, or broke the grammar.
    Over {
        refused: bool,
    },
}

impl Peer {
    pub(super) fn new(link: Link) -> Peer {
        let pid = link.peer().map_or(0, |peer| peer.pid);
        let process = i32::try_from(pid).ok().filter(|pid| *pid > 0);
        let is_own = link.peer().is_some_and(|peer| peer.uid == geteuid().as_raw());
        Peer {
            link,
            line: Line { pid, is_own, ..Line::default() },
            owed: None,
            look: Cell::new(true),
            is_hot: true,
            is_greedy: false,
            is_listed: true,
            served: 0,
            whole_until: None,
            is_known: Cell::new(false),
            is_deaf: Cell::new(false),
            process: process.and_then(|pid| Pidfd::open(Pid::from_raw(pid)).ok()),
        }
    }

    /// Has the poller tell of the death of its process by that number. Where it cannot there is still the end of file.
    pub(super) fn watch(&self, poller: &Poller, number: u64) {
        if let Some(process) = &self.process {
            let _ = poller.add(process, number, READABLE);
        }
    }

    /// Answers what has come, up to a few messages, until the slice is over.
    #[inline]
    pub(super) fn serve(&mut self, id: LinkId, state: &mut State, slice: &Slice) -> Turn {
        if self.is_deaf.get() {
            return Turn::Over { refused: false };
        }
        let mut turn = Turn::Idle;
        for _ in 0..BURST {
            if !self.look.get() && !self.link.glance() {
                break;
            }
            let Peer { link, line, .. } = self;
            match link.try_recv_with(|message| state.request(id, line, message)) {
                Ok(Ok(Reply::None)) => {}
                Ok(Ok(Reply::Answer)) => match self.send(&state.desk.answer) {
                    Turn::Idle => {}
                    stopped => return stopped,
                },
                Err(TryRecvError::Empty) => {
                    self.look.set(false);
                    break;
                }
                Ok(Err(_)) => return Turn::Over { refused: true },
                Err(_) => return Turn::Over { refused: false },
            }
            turn = Turn::Busy;
            self.whole_until = None;
            // Rings tell by themselves what comes next. Others wait for the woken, and for the end.
            self.look.set(!self.link.is_local());
            if !state.woken.is_empty() || state.is_over || slice.is_over() {
                break;
            }
        }
        turn
    }

    /// Sends an answer, or keeps it: until there is room or, if there is nobody to hear it, for whoever closes the link.
    #[inline]
    pub(super) fn send(&mut self, answer: &[u8]) -> Turn {
        let sent = self.link.try_send_bytes(answer);
        if sent.is_err() {
            self.owed = Some(answer.to_vec());
        }
        self.outcome(sent)
    }

    #[inline]
    fn outcome(&self, sent: Result<(), TrySendError>) -> Turn {
        match sent {
            Ok(()) if !self.link.has_unsent() => Turn::Idle,
            Ok(()) | Err(TrySendError::Full) => Turn::Blocked,
            Err(_) => Turn::Over { refused: false },
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.owed.is_some() || self.link.has_unsent()
    }

    /// Sends what is owed, as far as there is room.
    pub(super) fn flush(&mut self) -> Turn {
        match self.link.flush() {
            Ok(true) => {}
            Ok(false) => return Turn::Blocked,
            Err(_) => return Turn::Over { refused: false },
        }
        let Some(answer) = self.owed.take() else { return Turn::Idle };
        let sent = self.link.try_send_bytes(&answer);
        if sent.is_err() {
            self.owed = Some(answer);
        }
        self.outcome(sent)
    }

    /// Has the poller tell of what comes; false = there is something already, or the kernel cannot do it now.
    pub(super) fn arm(&self, id: LinkId, poller: &Poller) -> bool {
        let armed =
            matches!(self.link.readiness(), Ok(Some(readiness)) if self.is_known(&readiness, id, poller));
        self.look.set(!armed);
        armed
    }

    fn is_known(&self, readiness: &Readiness, id: LinkId, poller: &Poller) -> bool {
        if !self.is_known.get() {
            let flags = if self.link.is_local() { EACH_TIME } else { READABLE };
            self.is_known.set(poller.add(readiness, id, flags).is_ok());
            self.is_deaf.set(!self.is_known.get());
        }
        self.is_known.get()
    }

    /// Whether the poller can tell of room.
    pub(super) fn hears_of_room(&self) -> bool {
        self.is_known.get() && !self.link.is_local()
    }

    /// Has the poller tell of room and not of something to read, or the other way round. Rings tell of no room.
    pub(super) fn mind_room(&self, id: LinkId, poller: &Poller, minds: bool) {
        if let Some(outlet) = self.link.outlet().filter(|_| self.is_known.get()) {
            // If it cannot be changed it is told of too often.
            let _ = poller.change(outlet, id, if minds { WRITABLE } else { READABLE });
        }
    }
}

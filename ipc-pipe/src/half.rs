//! What a `Sender` and a `Receiver` have in common: one side of one direction, used by one thread at a time.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ipc_shm::handle::{self, NoSuchSlot};
use ipc_shm::{Segment, View};
use ipc_sync::{Deadline, Me, forks};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::error::OpenError;
use crate::owner::{Claim, Claimed, Refused, pid_of};
use crate::pipe::Parts;
use crate::ring::Words;
use crate::segment;
use crate::socket::Socket;
use crate::store::Store;

/// Largest message unless somebody says otherwise.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// How long a forked child waits for a lock that it may have inherited from a thread that it has not.
const FORK_PATIENCE: Duration = Duration::from_millis(20);

/// One direction, as it lies in the segment.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) words: View<Words>,
    pub(crate) bytes: Bytes,
}

/// The part of a side that its position and its owner word are.
pub(crate) trait Cursor: Sized + Default + Send + 'static {
    /// Whether this is the side that writes.
    const WRITES: bool;

    /// The word of who has this side.
    fn owner(words: &Words) -> &AtomicU32;

    /// Reads the position anew; `None` = the segment was written over.
    fn take_over(track: &Track) -> Option<Self>;

    /// Whether nothing of it would be missed elsewhere.
    fn may_move(&self) -> bool;
}

/// One end of a pipe as this process has it.
///
/// Fields are dropped in this order: who sleeps at the other end must find the socket closed when it is woken.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: Socket,
    farewell: Farewell,
    segment: Segment,
    side: u32,
}

impl End {
    pub(crate) fn new(socket: Socket, segment: Segment, side: u32) -> End {
        let farewell = Farewell(segment::words(&segment, incoming(side)));
        End { socket, farewell, segment, side }
    }

    /// The end behind descriptors that came from elsewhere.
    pub(crate) fn open(socket: Arc<OwnedFd>, segment: Arc<OwnedFd>, side: u32) -> Result<End, OpenError> {
        let segment = segment::open(segment)?;
        let socket = Socket::of(socket).ok_or(OpenError::NotASocket)?;
        if side > 1 { Err(OpenError::NoSuchSide { side }) } else { Ok(End::new(socket, segment, side)) }
    }

    /// For the other half of the same end.
    pub(crate) fn again(&self) -> End {
        End::new(self.socket.clone(), self.segment.clone(), self.side)
    }

    pub(crate) fn into_parts(self) -> io::Result<Parts> {
        let End { socket, segment, side, farewell: _farewell } = self;
        let socket = socket.into_owned()?;
        let segment = segment.mapping().descriptor().try_clone()?;
        Ok(Parts { socket, segment, side })
    }
}

/// Wakes the other end when this one goes: a writer that sleeps for room, so that it looks at the socket now and not at the
/// end of its slice; and one that does not sleep, by a bell it will try to ring in vain.
#[derive(Debug)]
struct Farewell(View<Words>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.writer.bell.hang();
        self.0.reader.room.ring_all();
    }
}

/// A side that is here, and what is known of it.
pub(crate) struct Here<C: Cursor> {
    pub(crate) cursor: C,
    pub(crate) track: Track,
    pub(crate) end: End,
    claim: Claim,
    /// The stores of both directions, as far as they were needed.
    stores: [Option<Arc<Store>>; 2],
    /// It was lent to a message whose fate is not known yet.
    leaving: bool,
}

impl<C: Cursor> Drop for Here<C> {
    fn drop(&mut self) {
        self.claim.release(C::owner(&self.track.words));
    }
}

/// The direction in which the other side writes. A direction has the number of the side that writes.
fn incoming(side: u32) -> u32 {
    1 - side
}

/// Why a side cannot be used now.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// Another thread of this process used it until the deadline.
    Busy,
    /// This very thread has a loan of it.
    OnLoan,
    /// It was sent away.
    Moved,
    /// Another process has it, or this thread cannot take part.
    Refused(Refused),
    /// The words of the pipe were written over.
    Corrupt,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Busy => f.write_str("another thread is using this end"),
            Unusable::OnLoan => f.write_str("this thread has a loan of this end"),
            Unusable::Moved => f.write_str("this end was sent away"),
            Unusable::Refused(Refused::InUse { pid }) => fmt_in_use(*pid, f),
            Unusable::Refused(Refused::Registry(error)) => error.fmt(f),
            Unusable::Corrupt => f.write_str("the memory of the pipe is damaged"),
        }
    }
}

pub(crate) fn fmt_in_use(pid: Option<u32>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match pid {
        Some(pid) => write!(f, "process {pid} is using this end"),
        None => f.write_str("another process is using this end"),
    }
}

/// A handle for one side; `Sender` and `Receiver` are its two kinds.
pub(crate) struct Half<C: Cursor> {
    /// `None` = it was sent away.
    state: Mutex<Option<Here<C>>>,
    /// The process that may find `state` locked by a thread of its own.
    forks: AtomicU32,
    max_message: AtomicUsize,
    /// The token of the thread that has a loan; 0 = none.
    borrower: AtomicU32,
}

impl<C: Cursor> Half<C> {
    pub(crate) fn new(end: End) -> Half<C> {
        let direction = if C::WRITES { end.side } else { incoming(end.side) };
        let track = segment::track(&end.segment, direction);
        let here = Here {
            cursor: C::default(),
            track,
            end,
            claim: Claim::default(),
            stores: [None, None],
            leaving: false,
        };
        Half {
            state: Mutex::new(Some(here)),
            forks: AtomicU32::new(forks()),
            max_message: AtomicUsize::new(MAX_MESSAGE),
            borrower: AtomicU32::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn max_message(&self) -> usize {
        self.max_message.load(Relaxed)
    }

    pub(crate) fn set_max_message(&self, bytes: usize) {
        self.max_message.store(bytes, Relaxed);
    }

    /// Takes the side for this thread, waiting until `deadline` for others of this process.
    #[inline(always)]
    pub(crate) fn enter(&self, deadline: Deadline) -> Result<MappedMutexGuard<'_, Here<C>>, Unusable> {
        let state = match self.state.try_lock() {
            Some(state) if self.forks.load(Relaxed) == forks() => state,
            state => self.lock_slow(state, deadline)?,
        };
        let mut here = MutexGuard::try_map(state, Here::found).map_err(|_| Unusable::Moved)?;
        let Here { claim, track, .. } = &mut *here;
        match claim.take(C::owner(&track.words)) {
            Ok(Claimed::Kept) => Ok(here),
            Ok(Claimed::Anew) => {
                here.take_over()?;
                Ok(here)
            }
            Err(refused) => Err(Unusable::Refused(refused)),
        }
    }

    #[cold]
    fn lock_slow<'a>(
        &'a self,
        state: Option<MutexGuard<'a, Option<Here<C>>>>,
        deadline: Deadline,
    ) -> Result<MutexGuard<'a, Option<Here<C>>>, Unusable> {
        let forked = self.forks.load(Relaxed) != forks();
        let borrower = self.borrower.load(Relaxed);
        if !forked && borrower != 0 && Me::get().is_ok_and(|me| me.token() == borrower) {
            return Err(Unusable::OnLoan);
        }
        let limit = if forked { deadline.min(Deadline::after(FORK_PATIENCE)) } else { deadline };
        let locked = state.or_else(|| match limit.remaining() {
            None => Some(self.state.lock()),
            Some(time) => self.state.try_lock_for(time),
        });
        match locked {
            Some(state) => {
                self.forks.store(forks(), Relaxed);
                Ok(state)
            }
            None if forked && !deadline.has_passed() => {
                // Locked by a thread of the parent, which was in the middle of using it.
                Err(Unusable::Refused(Refused::InUse { pid: None }))
            }
            None => Err(Unusable::Busy),
        }
    }

    /// Notes that the thread of `token`, which has entered, keeps the side for a loan; 0 = no longer.
    pub(crate) fn set_borrower(&self, token: u32) {
        self.borrower.store(token, Relaxed);
    }

    /// Lends the end to the message being serialized in this thread. It is nobody's from now on, so that the
    /// receiver of the message can take it before we learn that it was sent.
    pub(crate) fn lend(self: &Arc<Self>) -> Result<Ticket, LendError> {
        let mut here = self.enter(Deadline::NOW).map_err(LendError::Unusable)?;
        if !here.cursor.may_move() {
            return Err(LendError::HalfReceived);
        }
        let socket = handle::lend(here.end.socket.descriptor()).map_err(LendError::Handle)?;
        let segment = here.end.segment.lend().map_err(LendError::Handle)?;
        let half = self.clone();
        handle::on_outcome(move |sent| half.settle(sent)).map_err(LendError::Handle)?;
        here.leaving = true;
        let Here { claim, track, .. } = &mut *here;
        claim.release(C::owner(&track.words));
        Ok(Ticket { socket, segment, side: here.end.side })
    }

    /// The message that it was lent to was sent, or was given up.
    fn settle(&self, sent: bool) {
        let mut state = self.state.lock();
        if let Some(here) = state.as_mut() {
            here.leaving = false;
        }
        let gone = if sent { state.take() } else { None };
        drop(state);
        drop(gone);
    }

    /// Gives the end up, for another process.
    pub(crate) fn into_end(self: Arc<Self>) -> Result<End, LendError> {
        let here = self.enter(Deadline::NOW).map_err(LendError::Unusable)?;
        if !here.cursor.may_move() {
            return Err(LendError::HalfReceived);
        }
        let end = here.end.again();
        drop(here);
        self.settle(true);
        Ok(end)
    }
}

impl<C: Cursor> Here<C> {
    #[inline(always)]
    fn found(state: &mut Option<Here<C>>) -> Option<&mut Here<C>> {
        state.as_mut().filter(|here| !here.leaving)
    }

    /// The token in the owner word, which is this thread's while it has the side.
    pub(crate) fn token(&self) -> u32 {
        self.claim.token()
    }

    /// The store of `direction`.
    pub(crate) fn store(&mut self, direction: u32) -> io::Result<Arc<Store>> {
        let place = &mut self.stores[direction as usize & 1];
        match place {
            Some(store) => Ok(store.clone()),
            None => Ok(place.insert(Store::open(&self.end.segment, direction & 1)?).clone()),
        }
    }

    /// The direction that this side belongs to.
    pub(crate) fn direction(&self) -> u32 {
        if C::WRITES { self.end.side } else { incoming(self.end.side) }
    }

    /// Whether `store` is one of this pipe.
    pub(crate) fn has(&self, store: &Store) -> bool {
        store.is_of(&self.end.segment)
    }

    #[cold]
    fn take_over(&mut self) -> Result<(), Unusable> {
        match C::take_over(&self.track) {
            Some(cursor) => {
                self.cursor = cursor;
                Ok(())
            }
            None => {
                self.claim.release(C::owner(&self.track.words));
                Err(Unusable::Corrupt)
            }
        }
    }
}

impl<C: Cursor> fmt::Debug for Half<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Half");
        if let Some(state) = self.state.try_lock() {
            let here = state.as_ref().filter(|here| !here.leaving);
            debug.field("moved", &here.is_none());
            debug.field("owner", &here.and_then(|here| pid_of(C::owner(&here.track.words))));
        }
        debug.field("max_message", &self.max_message()).finish_non_exhaustive()
    }
}

/// An end inside a message: the slots of its descriptors, and which side of the pipe it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    socket: u32,
    segment: u32,
    side: u32,
}

impl Ticket {
    /// The end that came with the message being deserialized in this thread.
    pub(crate) fn redeem(self) -> Result<End, TicketError> {
        let socket = handle::take(self.socket).map_err(TicketError::Slot)?;
        let segment = handle::take(self.segment).map_err(TicketError::Slot)?;
        End::open(socket, segment, self.side).map_err(TicketError::Open)
    }
}

/// Why an end cannot be put into a message.
#[derive(Debug)]
pub(crate) enum LendError {
    Unusable(Unusable),
    HalfReceived,
    Handle(handle::LendError),
}

impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LendError::Unusable(error) => error.fmt(f),
            LendError::HalfReceived => {
                f.write_str("a message was received in part: receive the rest before sending this end away")
            }
            LendError::Handle(error) => error.fmt(f),
        }
    }
}

/// Why a ticket leads to no end.
#[derive(Debug)]
pub(crate) enum TicketError {
    Slot(NoSuchSlot),
    Open(OpenError),
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketError::Slot(error) => error.fmt(f),
            TicketError::Open(error) => error.fmt(f),
        }
    }
}

//! Messages over a socket that is a stream of bytes, in CPython's frame.
//!
//! ```text
//! length   i32, big-endian; or -1 and then u64, big-endian, for more than 2 GiB
//! payload  that many bytes
//! ```
//!
//! A length is checked before memory is taken for it, and memory is taken for what comes and not for what is announced. What
//! came of a message stays for the next receive; what the kernel did not take of one stays for the next send, and is never more
//! than that one.

use std::fmt;
use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recv, sendmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use parking_lot::{Mutex, MutexGuard};

use crate::error::{RecvError, SendError, TryRecvError, TrySendError};
use crate::half::MAX_MESSAGE;

/// Bytes of the first buffer, and of the largest that an idle stream keeps.
const FIRST: usize = 4 << 10;
const KEEP: usize = 64 << 10;

/// A receive without time looks at so many bytes of an unfinished message at most, and then at the clock.
const GULP: usize = 1 << 20;

/// A machine that is silent for so long is asked whether it is there, and so often, so many times.
const SILENCE: u32 = 15;
const INTERVAL: u32 = 5;
const TIMES: u32 = 3;

/// One end of a stream. Threads share it: messages go one after the other.
pub(crate) struct Stream {
    socket: Arc<OwnedFd>,
    inlet: Mutex<Inlet>,
    outlet: Mutex<Outlet>,
    max_message: AtomicUsize,
}

/// What came and was not received yet.
#[derive(Default)]
struct Inlet {
    buffer: Vec<u8>,
    /// The bytes of `buffer` that came.
    start: usize,
    end: usize,
    /// Bytes still to come of a message that was refused.
    skip: u64,
    /// How it ended, if it did.
    over: Option<Over>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Closed,
    Garbled,
}

/// What a send left to be sent.
#[derive(Default)]
struct Outlet {
    rest: Vec<u8>,
    sent: usize,
    closed: bool,
}

/// The beginning of a frame.
enum Front {
    /// Its payload is here.
    Whole(Range<usize>),
    /// More of it must come; `total` bytes with its length, as far as that is known.
    Part { total: usize },
    /// Its length is not one.
    Garbled,
    /// It is larger than allowed: `prefix` bytes of length, then `length` bytes.
    TooBig { prefix: usize, length: u64 },
}

impl Stream {
    /// The stream over `socket`.
    pub(crate) fn new(socket: OwnedFd) -> Stream {
        Stream {
            socket: Arc::new(socket),
            inlet: Mutex::default(),
            outlet: Mutex::default(),
            max_message: AtomicUsize::new(MAX_MESSAGE),
        }
    }

    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    pub(crate) fn set_max_message(&self, bytes: usize) {
        self.max_message.store(bytes, Relaxed);
    }

    /// Receives a message into `into`, which is empty.
    pub(crate) fn receive(&self, into: &mut Vec<u8>, deadline: Deadline) -> Result<(), TryRecvError> {
        let mut inlet = lock(&self.inlet, deadline).ok_or(TryRecvError::Empty)?;
        let payload = self.next(&mut inlet, deadline)?;
        into.extend_from_slice(&inlet.buffer[payload.clone()]);
        inlet.consume(payload.end);
        Ok(())
    }

    /// Whether a receive would find a message, a part of one, or an error.
    pub(crate) fn poll(&self, deadline: Deadline) -> bool {
        let Some(inlet) = lock(&self.inlet, deadline) else { return false };
        inlet.has_news(self.max()) || self.wait(PollFlags::POLLIN, deadline)
    }

    /// Whether a receive has something to answer without asking the kernel. Waits for a thread that is receiving.
    pub(crate) fn has_news(&self) -> bool {
        self.inlet.lock().has_news(self.max())
    }

    /// Whether a message has begun to come and is not whole, as the last receive left it.
    pub(crate) fn is_mid_message(&self) -> bool {
        let begun = |inlet: &Inlet| inlet.skip > 0 || inlet.start < inlet.end;
        self.inlet.try_lock().is_some_and(|inlet| begun(&inlet) && !inlet.has_news(self.max()))
    }

    /// Sends a message: all of it is the kernel's or ours, or none is. Without a deadline it is the kernel's.
    pub(crate) fn transmit(&self, message: &[u8], deadline: Deadline) -> Result<(), TrySendError> {
        let max = self.max();
        if message.len() > max {
            return Err(SendError::TooBig { size: message.len(), max }.into());
        }
        let mut outlet = lock(&self.outlet, deadline).ok_or(TrySendError::Full)?;
        if !self.push(&mut outlet, deadline)? {
            return Err(TrySendError::Full);
        }
        let mut bytes = [0; 12];
        let prefix = prefix(message.len(), &mut bytes);
        let mut sent = 0;
        loop {
            sent += self.send_once(&mut outlet, prefix, message, sent)?;
            match sent == prefix.len() + message.len() {
                true => return Ok(()),
                false if self.wait(PollFlags::POLLOUT, deadline) || !deadline.has_passed() => {}
                false if sent == 0 => return Err(TrySendError::Full),
                false => {
                    outlet.keep(prefix, message, sent);
                    return Ok(());
                }
            }
        }
    }

    /// Sends what an earlier send left, as far as the kernel takes it; true = nothing is left.
    pub(crate) fn flush(&self, deadline: Deadline) -> Result<bool, SendError> {
        match lock(&self.outlet, deadline) {
            Some(mut outlet) => self.push(&mut outlet, deadline),
            None => Ok(false),
        }
    }

    /// Whether a send left something.
    pub(crate) fn has_unsent(&self) -> bool {
        let outlet = self.outlet.lock();
        !outlet.closed && outlet.has_rest()
    }

    fn max(&self) -> usize {
        self.max_message.load(Relaxed)
    }

    /// The next message, in the buffer.
    fn next(&self, inlet: &mut Inlet, deadline: Deadline) -> Result<Range<usize>, TryRecvError> {
        let mut gulped = 0;
        loop {
            let total = match inlet.front(self.max())? {
                Ok(payload) => return Ok(payload),
                Err(total) => total,
            };
            match self.fill(inlet, total) {
                Ok(0) => return Err(inlet.end_of_file(total).into()),
                Ok(count) => gulped += count,
                Err(Errno::EAGAIN) if deadline.has_passed() => return Err(TryRecvError::Empty),
                Err(Errno::EAGAIN) => self.wait_for_more(deadline),
                Err(Errno::EINTR) => {}
                Err(error) if is_end(error) => return Err(inlet.end_of_file(total).into()),
                Err(error) => return Err(RecvError::Io(error.into()).into()),
            }
            if gulped > GULP && deadline.has_passed() {
                return Err(TryRecvError::Empty);
            }
        }
    }

    /// What a send left goes on meanwhile: the other side may need it to answer.
    fn wait_for_more(&self, deadline: Deadline) {
        let unsent = self.outlet.try_lock().filter(|outlet| outlet.has_rest() && !outlet.closed);
        match unsent {
            None => drop(self.wait(PollFlags::POLLIN, deadline)),
            Some(mut outlet) => {
                self.wait(PollFlags::POLLIN | PollFlags::POLLOUT, deadline);
                let _ = self.push(&mut outlet, Deadline::NOW);
            }
        }
    }

    /// Takes what there is, as far as there is room for it.
    fn fill(&self, inlet: &mut Inlet, total: usize) -> Result<usize, Errno> {
        inlet.make_room(total);
        let room = &mut inlet.buffer[inlet.end..];
        let count = recv(self.socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT)?;
        inlet.end += count;
        inlet.drop_skipped();
        Ok(count)
    }

    /// One try; what the kernel took of the frame behind its first `sent` bytes.
    fn send_once(
        &self,
        outlet: &mut Outlet,
        prefix: &[u8],
        message: &[u8],
        sent: usize,
    ) -> Result<usize, SendError> {
        let parts = [
            IoSlice::new(prefix.get(sent..).unwrap_or_default()),
            IoSlice::new(&message[sent.saturating_sub(prefix.len())..]),
        ];
        if outlet.closed {
            return Err(SendError::Closed);
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &parts, &[], flags, None) {
            Ok(count) => Ok(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) if is_end(error) => {
                outlet.closed = true;
                Err(SendError::Closed)
            }
            Err(error) => Err(SendError::Io(error.into())),
        }
    }

    /// Sends the rest of an earlier message; false = not all of it in time.
    fn push(&self, outlet: &mut Outlet, deadline: Deadline) -> Result<bool, SendError> {
        while outlet.has_rest() {
            let rest = std::mem::take(&mut outlet.rest);
            let sent = self.send_once(outlet, &[], &rest, outlet.sent);
            outlet.rest = rest;
            outlet.sent += sent?;
            if outlet.has_rest() && !self.wait(PollFlags::POLLOUT, deadline) && deadline.has_passed() {
                return Ok(false);
            }
        }
        if outlet.sent > 0 {
            *outlet = Outlet { closed: outlet.closed, ..Outlet::default() };
        }
        Ok(true)
    }

    /// Waits for the socket; false = the time was up, or a signal came.
    fn wait(&self, events: PollFlags, deadline: Deadline) -> bool {
        let mut entry = [PollFd::new(self.socket.as_fd(), events)];
        let timeout = deadline.remaining().map(TimeSpec::from_duration);
        match ppoll(&mut entry, timeout, None) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => false,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(1)); // no memory: as well as one can without
                false
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.socket).finish()
    }
}

impl Inlet {
    /// The payload of the frame in front; `Err` = not all of it is here, and how long it is with its length.
    fn front(&mut self, max: usize) -> Result<Result<Range<usize>, usize>, RecvError> {
        match (self.over, self.look(max)) {
            (_, Front::Whole(payload)) => Ok(Ok(payload)),
            (Some(Over::Closed), _) => Err(RecvError::Closed),
            (Some(Over::Garbled), _) | (_, Front::Garbled) => {
                self.over = Some(Over::Garbled);
                Err(RecvError::Garbled)
            }
            (_, Front::Part { total }) => Ok(Err(total)),
            (_, Front::TooBig { prefix, length }) => {
                self.start += prefix;
                self.skip = length;
                self.drop_skipped();
                Err(RecvError::TooBig { size: length, max })
            }
        }
    }

    fn look(&self, max: usize) -> Front {
        let bytes = &self.buffer[self.start..self.end];
        let Some((short, rest)) = bytes.split_first_chunk::<4>() else { return Front::Part { total: 4 } };
        let (prefix, length) = match (i32::from_be_bytes(*short), rest.first_chunk::<8>()) {
            (-1, None) => return Front::Part { total: 12 },
            (-1, Some(long)) => (12, u64::from_be_bytes(*long)),
            (length, _) => match u64::try_from(length) {
                Ok(length) => (4, length),
                Err(_) => return Front::Garbled,
            },
        };
        if length > max as u64 {
            return Front::TooBig { prefix, length };
        }
        let total = prefix + length as usize;
        match bytes.len() >= total {
            true => Front::Whole(self.start + prefix..self.start + total),
            false => Front::Part { total },
        }
    }

    /// Whether a receive has something to answer.
    fn has_news(&self, max: usize) -> bool {
        self.over.is_some() || !matches!(self.look(max), Front::Part { .. })
    }

    fn consume(&mut self, end: usize) {
        self.start = end;
        self.rewind();
    }

    /// An empty buffer begins anew, and a large one is given back.
    fn rewind(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEEP {
                self.buffer = Vec::new();
            }
        }
    }

    fn drop_skipped(&mut self) {
        let here = self.skip.min((self.end - self.start) as u64);
        self.skip -= here;
        self.start += here as usize;
        self.rewind();
    }

    /// Room for at least one byte of a frame of `total`, and for twice what has come of it at most.
    fn make_room(&mut self, total: usize) {
        if self.end < self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let length = total.min(2 * self.end).max(FIRST);
        if length > self.buffer.len() {
            self.buffer.resize(length, 0);
        }
    }

    fn end_of_file(&mut self, total: usize) -> RecvError {
        let received = self.end - self.start;
        *self = Inlet { over: Some(Over::Closed), ..Inlet::default() };
        if received > 0 { RecvError::EofInside { received, total } } else { RecvError::Closed }
    }
}

impl Outlet {
    fn has_rest(&self) -> bool {
        self.sent < self.rest.len()
    }

    fn keep(&mut self, prefix: &[u8], message: &[u8], sent: usize) {
        let rest = [prefix, message].concat();
        (self.rest, self.sent) = (rest, sent);
    }
}

/// Makes a TCP socket what a stream needs: short messages leave at once, and a machine that died is found out though nobody
/// sends to it.
pub(crate) fn tune(socket: &impl AsFd) -> Result<(), Errno> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &SILENCE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &INTERVAL)?;
    setsockopt(socket, sockopt::TcpKeepCount, &TIMES)?;
    // The same for one that owes us the news that what we sent has come.
    setsockopt(socket, sockopt::TcpUserTimeout, &(1000 * (SILENCE + INTERVAL * TIMES)))
}

/// The length of a message, as it is sent before it.
fn prefix(length: usize, bytes: &mut [u8; 12]) -> &[u8] {
    let short = i32::try_from(length);
    bytes[..4].copy_from_slice(&short.unwrap_or(-1).to_be_bytes());
    bytes[4..].copy_from_slice(&(length as u64).to_be_bytes());
    if short.is_ok() { &bytes[..4] } else { bytes }
}

/// Whether this is how a connection ends.
fn is_end(error: Errno) -> bool {
    use Errno::*;
    matches!(error, EPIPE | ECONNRESET | ECONNABORTED | ETIMEDOUT | ENOTCONN | EHOSTUNREACH | ENETUNREACH)
}

fn lock<T>(mutex: &Mutex<T>, deadline: Deadline) -> Option<MutexGuard<'_, T>> {
    match deadline.remaining() {
        None => Some(mutex.lock()),
        Some(Duration::ZERO) => mutex.try_lock(),
        Some(time) => mutex.try_lock_for(time),
    }
}

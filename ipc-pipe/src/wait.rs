//! `wait`: until one of several things is ready, of whatever kinds they are.
//!
//! ```text
//! words only         one sleep on all of them (futex_waitv)
//! descriptors only   one ppoll
//! both               one ppoll; the bridge turns the words into one more descriptor
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use ipc_sync::{BACKSTOP, Deadline, Registry, WakeWord, Woken, sleep_on};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::bridge::Crossing;
use crate::waitable::{Waitable, Watch};

/// How long a wait sleeps when something cannot tell of itself: a thread uses it, or there is no memory for the bridge.
const GLANCE: Duration = Duration::from_millis(5);

/// A descriptor may be readable in vain for as long as somebody is stopped. After so many rounds, naps between them.
const VAIN: u32 = 32;
const NAP: Duration = Duration::from_millis(1);

/// Words that one sleep covers; the others are looked at between glances.
const MOST_WORDS: usize = 127;

/// Waits until at least one of `things` is ready; answers the places of all that are, in order.
///
/// It takes nothing and changes nothing: what is ready stays so until somebody receives it. When several wait for the same
/// thing, another may be faster, so receive with `try_…` or a timeout where that can be. With nothing to wait for
/// it answers at once.
///
/// A process that dies makes its pipes and its sentinel ready, and so ends the wait. A signal does not.
///
/// Connections, processes and descriptors together cost one sleep in `ppoll` and a few system calls for each connection;
/// events and queues together one sleep in `futex_waitv`. Where both kinds are mixed a thread of this process carries
/// the news over; it lives as long as such a wait, and a moment longer. Of more than 127 events and queues, the others are
/// looked at every 5 ms. A connection that another thread is receiving from is looked at every 5 ms too.
///
/// ```
/// use ipc_pipe::{pipe, wait};
/// use ipc_sync::Event;
///
/// let (here, there) = pipe()?;
/// let stop = Event::new()?;
/// there.send(&1)?;
/// assert_eq!(wait(&[&stop, &here]), [1]);
/// stop.set();
/// assert_eq!(wait(&[&stop, &here]), [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.connection.wait")]
#[doc(alias = "select")]
#[doc(alias = "poll")]
pub fn wait(things: &[&dyn Waitable]) -> Vec<usize> {
    wait_until(things, Deadline::NEVER)
}

/// As [`wait`](crate::wait()), for `timeout` at most. Nothing in the answer = the time was up.
///
/// ```
/// use std::time::Duration;
/// let (here, _there) = ipc_pipe::pipe()?;
/// assert!(ipc_pipe::wait_timeout(&[&here], Duration::from_millis(1)).is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_timeout(things: &[&dyn Waitable], timeout: Duration) -> Vec<usize> {
    let deadline = if timeout.is_zero() { Deadline::NOW } else { Deadline::after(timeout) };
    wait_until(things, deadline)
}

/// As [`wait`](crate::wait()), until `deadline` at most. Nothing in the answer = the time was up.
pub fn wait_deadline(things: &[&dyn Waitable], deadline: Instant) -> Vec<usize> {
    wait_until(things, Deadline::at(deadline))
}

fn wait_until(things: &[&dyn Waitable], deadline: Deadline) -> Vec<usize> {
    let (mut pulsed, mut rounds) = (Vec::new(), 0);
    loop {
        let ready = look(things, &pulsed);
        if !ready.is_empty() || deadline.has_passed() || things.is_empty() {
            return ready;
        }
        let round = Round::new(things);
        if rounds > VAIN && !round.watches.is_empty() {
            std::thread::sleep(NAP);
        }
        pulsed = round.sleep(deadline.min(Deadline::after(BACKSTOP)));
        rounds += 1;
    }
}

/// Who is ready, or is said to have been.
fn look(things: &[&dyn Waitable], pulsed: &[usize]) -> Vec<usize> {
    let is_ready = |&place: &usize| pulsed.contains(&place) || things[place].is_ready();
    (0..things.len()).filter(is_ready).collect()
}

/// What one sleep is woken by.
#[derive(Default)]
struct Round<'a> {
    watches: Vec<Watch<'a>>,
    /// Places and words of those that have words.
    words: Vec<(usize, Arc<dyn WakeWord>)>,
    /// One of them cannot tell.
    busy: bool,
    /// One of them is ready.
    ready: bool,
}

impl<'a> Round<'a> {
    fn new(things: &[&'a dyn Waitable]) -> Round<'a> {
        let mut round = Round::default();
        for (place, thing) in things.iter().enumerate() {
            match thing.watch() {
                Watch::Ready => round.ready = true,
                Watch::Busy => round.busy = true,
                Watch::Word(word) => round.words.push((place, word)),
                descriptor => round.watches.push(descriptor),
            }
        }
        round.busy |= round.words.len() > MOST_WORDS;
        round
    }

    /// Sleeps once; answers the places of words that are ready, or were.
    fn sleep(&self, until: Deadline) -> Vec<usize> {
        let until = if self.busy { until.min(Deadline::after(GLANCE)) } else { until };
        match (self.ready, !self.watches.is_empty(), self.words.is_empty()) {
            (true, ..) => {}
            (_, true, true) => self.poll(None, until),
            (_, false, _) => self.sleep_on_words(until),
            (_, true, false) => self.cross(until),
        }
        self.words.iter().for_each(|(_, word)| word.pass_on());
        self.words.iter().filter(|(_, word)| word.is_ready()).map(|(place, _)| *place).collect()
    }

    fn sleep_on_words(&self, until: Deadline) {
        let arm = |(_, word): &'_ (usize, Arc<dyn WakeWord>)| word.arm();
        let Some(armed) = self.words.iter().map(arm).collect::<Option<Vec<u32>>>() else { return };
        let words: Vec<(&AtomicU32, u32)> =
            self.words.iter().zip(armed).map(|((_, word), armed)| (word.word(), armed)).collect();
        if words.is_empty() {
            std::thread::sleep(until.remaining().unwrap_or(BACKSTOP));
        } else if sleep_on(&words, until) == Woken::TimedOut {
            self.count_rescue();
        }
    }

    /// Nobody woke us, though one of the words is ready.
    #[cold]
    fn count_rescue(&self) {
        if !self.busy && self.words.iter().any(|(_, word)| word.is_ready()) {
            Registry::get().iter().for_each(|registry| registry.count_rescue());
        }
    }

    fn cross(&self, until: Deadline) {
        let words = self.words.iter().map(|(_, word)| word.clone());
        match Crossing::new(words) {
            Ok(Some(crossing)) => self.poll(Some(crossing.as_fd()), until),
            Ok(None) => {}
            Err(_) => self.poll(None, until.min(Deadline::after(GLANCE))),
        }
    }

    fn poll(&self, other: Option<BorrowedFd<'_>>, until: Deadline) {
        let mut entries: Vec<PollFd<'_>> = self.watches.iter().filter_map(entry).collect();
        entries.extend(other.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)));
        let timeout = until.remaining().map(TimeSpec::from_duration);
        match ppoll(&mut entries, timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)), // no memory: as well as one can without
        }
    }
}

fn entry<'a>(watch: &'a Watch<'_>) -> Option<PollFd<'a>> {
    match watch {
        Watch::Readable(descriptor) => Some(PollFd::new(*descriptor, PollFlags::POLLIN)),
        Watch::Writable(descriptor) => Some(PollFd::new(*descriptor, PollFlags::POLLOUT)),
        Watch::Armed(readiness) => Some(PollFd::new(readiness.as_fd(), PollFlags::POLLIN)),
        Watch::Ready | Watch::Busy | Watch::Word(_) => None,
    }
}

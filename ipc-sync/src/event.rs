//! `Event`: a flag that processes wait for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use ipc_shm::Cells;
use serde::{Deserialize, Serialize};

use crate::raw_event::RawEvent;
use crate::{CreateError, Deadline, NamedError, Place, Primitive, Registry, WakeWord};

/// ```text
/// 0 4 word  see `raw_event`
/// ```
#[derive(Default)]
#[repr(C)]
struct EventCell {
    word: RawEvent,
}

mod cells {
    //! Promises about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only (RawEvent is a transparent one).
    unsafe impl super::Cells for super::EventCell {}
}

impl Primitive for EventCell {
    const TAG: [u8; 4] = *b"EVNT";
}

/// A flag that any thread of any process sets, clears, and waits for.
///
/// [`wait`](Event::wait) sleeps until the flag is set; all who sleep are woken together. A waiter that was there
/// when the flag was set is through, even if the flag is cleared at once. Nothing else blocks: [`set`](Event::set) waits
/// for nobody, whoever was killed while waiting. It is async-signal-safe too, so a signal handler may set an event that
/// this process has.
///
/// A process that dies neither sets nor clears anything: the flag stays as it was. Whoever waits for a process that may
/// die waits with a timeout, or for something that tells of the death.
///
/// What a thread wrote before it set the flag is seen by whoever found it set.
///
/// An `Event` is a handle: cloning shares the flag, and it can be sent inside any message. Creating one costs no
/// descriptor.
///
/// ```
/// use ipc_sync::Event;
/// use std::time::Duration;
///
/// let start = Event::new()?;
/// assert!(!start.wait_timeout(Duration::from_millis(1)));
/// std::thread::scope(|scope| {
///     let runner = scope.spawn(|| start.wait());
///     start.set();
///     runner.join().unwrap();
/// });
/// start.clear();
/// assert!(!start.is_set());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "multiprocessing.Event")]
#[doc(alias = "flag")]
pub struct Event {
    cell: Place<EventCell>,
}

impl Event {
    /// A new event, not set.
    ///
    /// # Errors
    ///
    /// No memory, no descriptor, or no registry for this process.
    pub fn new() -> Result<Event, CreateError> {
        Ok(Event { cell: Place::new(|_| ())? })
    }

    /// The event of this name; made, not set, if there is none. The name goes with its last user, dead or alive.
    ///
    /// ```
    /// # let name = &format!("doc-event-{}", std::process::id());
    /// let stop = ipc_sync::Event::named(name)?;
    /// let same = ipc_sync::Event::named(name)?; // in this process or another
    /// stop.set();
    /// assert!(same.is_set());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NamedError`]; what was found under the name is not touched.
    pub fn named(name: &str) -> Result<Event, NamedError> {
        Ok(Event { cell: Place::named(name, |_| ())?.0 })
    }

    /// Sets the flag and wakes all who wait. Does not block; setting what is set changes nothing. May be called by
    /// a signal handler.
    #[inline]
    pub fn set(&self) {
        self.cell.word.set();
    }

    /// Takes the flag back: who comes from now on waits. Does not block.
    #[inline]
    pub fn clear(&self) {
        self.cell.word.clear();
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.cell.word.is_set()
    }

    /// Sleeps until the flag is set, or was while this call lasted. Signals do not end it.
    #[inline]
    pub fn wait(&self) {
        self.cell.word.wait(Deadline::NEVER, rescued);
    }

    /// As [`wait`](Event::wait), for `timeout` at most. False: it was not set.
    #[inline]
    #[must_use = "the time may have been up"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.cell.word.wait(Deadline::after(timeout), rescued)
    }

    /// As [`wait`](Event::wait), until `deadline` at most. False: it was not set.
    #[inline]
    #[must_use = "the time may have been up"]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.is_set() || self.cell.word.wait(Deadline::at(deadline), rescued)
    }

    /// The flag as one thing among others that are waited for; ready if it is set, or was since this call.
    pub fn wake_word(&self) -> Arc<dyn WakeWord> {
        Arc::new(Watched { event: self.clone(), unset: self.cell.word.now() })
    }
}

/// An event and its word as it was.
#[derive(Debug)]
struct Watched {
    event: Event,
    unset: u32,
}

impl WakeWord for Watched {
    fn arm(&self) -> Option<u32> {
        self.event.cell.word.arm(self.unset)
    }

    fn word(&self) -> &AtomicU32 {
        self.event.cell.word.word()
    }

    fn is_ready(&self) -> bool {
        self.event.is_set() || self.event.cell.word.now() != self.unset
    }
}

#[cold]
fn rescued() {
    if let Ok(registry) = Registry::get() {
        registry.count_rescue();
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("waiters", &self.cell.word.has_waiters())
            .finish()
    }
}

//! `Event`: a flag of a server that its clients wait for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::talk::{done, in_time, nothing, time, truth};
use super::{Handle, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op};

/// A flag that any client of a server sets, clears, and waits for.
///
/// [`wait`](Event::wait) waits until the flag is set; all who wait are woken together. A waiter that was there when the flag
/// was set is through, even if the flag is cleared at once. The death of a client changes nothing; when the server dies, who
/// waits gets [`CallError::ServerDied`].
///
/// It is a handle: cloning shares the flag, and it can be sent inside any message or stored in a dict of its server.
///
/// ```
/// use std::time::Duration;
///
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let start = manager.event()?;
/// assert!(!start.wait_timeout(Duration::from_millis(1))?);
/// std::thread::scope(|scope| {
///     let runner = scope.spawn(|| start.wait());
///     start.set()?;
///     runner.join().unwrap()
/// })?;
/// start.clear()?;
/// assert!(!start.is_set()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.Event")]
pub struct Event {
    handle: Handle,
}

proxy!(Event, Kind::Event);

impl Event {
    fn of(handle: Handle) -> Event {
        Event { handle }
    }

    pub(in crate::manager) fn create(client: &Arc<Client>, name: Option<&str>) -> Result<Event, CallError> {
        Handle::create(client, Kind::Event, name, |_| ()).map(Event::of)
    }

    /// Sets the flag and wakes all who wait. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn set(&self) -> Result<(), CallError> {
        self.handle.call(Op::EventSet, nothing, done)
    }

    /// Takes the flag back: who comes from now on waits. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.call(Op::EventClear, nothing, done)
    }

    /// Whether the flag is set.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn is_set(&self) -> Result<bool, CallError> {
        self.handle.call(Op::EventIsSet, nothing, truth)
    }

    /// Waits until the flag is set, or was while this call lasted.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn wait(&self) -> Result<(), CallError> {
        self.wait_until(Deadline::NEVER).map(|_| ())
    }

    /// As [`wait`](Event::wait), for `timeout` at most. True = it was set. If the server is stopped it takes a quarter of a
    /// second longer.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the server did not answer; else see [`CallError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, CallError> {
        self.wait_until(Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Event::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Event::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<bool, CallError> {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<bool, CallError> {
        self.handle.wait(Op::EventWait, deadline, time(deadline), in_time)
    }
}

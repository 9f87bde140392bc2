//! `Queue::get_lease` and its kind: items that come back unless they are acknowledged.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_pipe::{codec, scratch};
use ipc_shm::handle::Incoming;
use ipc_sync::{BACKSTOP, Deadline, Me, Woken, forks};
use serde::de::DeserializeOwned;

use crate::Queue;
use crate::batch::Batch;
use crate::channel::Fault;
use crate::error::{GetError, NotHeld};
use crate::leases::{Leases, Lent};
use crate::primitive::complete_barrier;
use crate::raw::{MOMENT, RawQueue};
use crate::user::User;

/// An item of a [leased](crate::Options::leased) queue: to look at, and to be acknowledged when it is dealt with.
///
/// [`ack`](Lease::ack) is the end of the item. Without it the item goes back to the head of the queue, marked as
/// [`redelivered`](Lease::redelivered): at once when the lease is dropped or given back by [`nack`](Lease::nack), and
/// when the thread that has it ends, for whatever reason. No time limit: a stopped process keeps what it has.
///
/// It belongs to the thread that got it. A forked child has only a copy, which does nothing when it is dropped.
#[must_use = "a lease that is dropped goes back to the queue"]
pub struct Lease<T> {
    value: T,
    held: Held,
}

impl<T> Lease<T> {
    /// How often the item was handed out before: 0 = for the first time. After a death the count may be one too high.
    ///
    /// Whoever had it may have dealt with it, and died before the [`ack`](Lease::ack).
    pub fn redelivered(&self) -> u32 {
        self.held.lent.redelivered()
    }

    /// Says that the item is dealt with, and takes the value out of the lease. It will not come back. Does not wait.
    ///
    /// # Errors
    ///
    /// This is a forked child's copy of a lease, or the queue's memory is damaged.
    ///
    /// ```
    /// use ipc_queue::Queue;
    /// let queue = Queue::options().leased().create()?;
    /// queue.put("job".to_owned())?;
    /// let job = queue.get_lease()?;
    /// assert_eq!(*job, "job");
    /// assert_eq!(job.ack()?, "job");
    /// assert!(queue.try_get_lease().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ack(self) -> Result<T, NotHeld> {
        let Lease { value, mut held } = self;
        if held.ack() { Ok(value) } else { Err(NotHeld) }
    }

    /// Gives the item back at once; as dropping the lease does. The next to get is the next to have it.
    ///
    /// ```
    /// use ipc_queue::Queue;
    /// let queue = Queue::options().leased().create()?;
    /// (0..2).try_for_each(|job| queue.put(job))?;
    /// queue.get_lease()?.nack();
    /// let again = queue.get_lease()?;
    /// assert_eq!((*again, again.redelivered()), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nack(self) {}
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = self.redelivered();
        f.debug_struct("Lease")
            .field("value", &self.value)
            .field("redelivered", &times)
            .finish_non_exhaustive()
    }
}

/// An item in the hands of this thread; dropped, it goes back.
struct Held {
    queue: User,
    lent: Lent,
    /// Of the process that has it.
    forks: u32,
    is_over: bool,
    /// It belongs to this thread.
    not_send: PhantomData<*const ()>,
}

impl Held {
    /// False: it is not ours.
    fn ack(&mut self) -> bool {
        self.release(Leases::ack, |queue| {
            if queue.channel.is_shut() {
                queue.channel.words.producers.bell.ring_all(); // it may have been the last that could come back
            }
        })
    }

    fn release(&mut self, give_up: fn(&Leases, Lent) -> bool, tell: fn(&RawQueue)) -> bool {
        let ours = !self.is_over && self.forks == forks();
        self.is_over = true;
        let released = ours && self.queue.leases.as_ref().is_some_and(|leases| give_up(leases, self.lent));
        if released {
            tell(&self.queue);
        }
        released
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(Leases::nack, |queue| queue.channel.words.producers.bell.ring());
    }
}

/// Items of a leased queue; see [`Options::leased`](crate::Options::leased).
impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item for as long as it takes; sleeps while there is none. It comes back unless it is
    /// acknowledged: see [`Lease`].
    ///
    /// Items that came back are handed out first. Also sleeps while 64 items are in the hands of others. An item that
    /// is not a `T` is over, as if it were acknowledged.
    ///
    /// # Errors
    ///
    /// [`GetError::NotLeased`], or as [`get`](Queue::get).
    ///
    /// ```
    /// use ipc_queue::Queue;
    /// let queue = Queue::options().leased().create()?;
    /// queue.put(vec![1, 2, 3])?;
    /// let job = queue.get_lease()?;
    /// let sum: i32 = job.iter().sum(); // if this process dies here another one gets it
    /// assert_eq!(sum, 6);
    /// job.ack()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "acknowledge")]
    pub fn get_lease(&self) -> Result<Lease<T>, GetError> {
        self.get_lease_until(Deadline::NEVER)
    }

    /// Takes the oldest item if there is one; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`], or as [`get_lease`](Queue::get_lease).
    pub fn try_get_lease(&self) -> Result<Lease<T>, GetError> {
        self.get_lease_until(Deadline::NOW)
    }

    /// Takes the oldest item, waiting `timeout` at most; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get_lease`](Queue::get_lease).
    pub fn get_lease_timeout(&self, timeout: Duration) -> Result<Lease<T>, GetError> {
        self.get_lease_until(Deadline::after(timeout))
    }

    /// Takes the oldest item, waiting until `deadline` at most; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// [`GetError::TimedOut`], or as [`get_lease`](Queue::get_lease).
    pub fn get_lease_deadline(&self, deadline: Instant) -> Result<Lease<T>, GetError> {
        self.get_lease_until(Deadline::at(deadline))
    }

    fn get_lease_until(&self, deadline: Deadline) -> Result<Lease<T>, GetError> {
        scratch::with(|bytes| {
            let mut held = self.raw.hold(bytes, deadline)?;
            let _table = Incoming::open(Vec::new()); // handles travel by their names
            match codec::decode(bytes) {
                Ok(value) => Ok(Lease { value, held }),
                Err(error) => {
                    held.ack();
                    Err(GetError::Decode { bytes: std::mem::take(bytes), error })
                }
            }
        })
    }
}

/// The same as bytes.
impl<T> Queue<T> {
    /// The bytes of the oldest item; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// As [`get_lease`](Queue::get_lease).
    pub fn get_lease_bytes(&self) -> Result<Lease<Vec<u8>>, GetError> {
        self.get_lease_bytes_until(Deadline::NEVER)
    }

    /// The bytes of the oldest item if there is one; as [`try_get_lease`](Queue::try_get_lease).
    ///
    /// # Errors
    ///
    /// As [`try_get_lease`](Queue::try_get_lease).
    pub fn try_get_lease_bytes(&self) -> Result<Lease<Vec<u8>>, GetError> {
        self.get_lease_bytes_until(Deadline::NOW)
    }

    /// The bytes of the oldest item, waiting `timeout` at most; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// As [`get_lease_timeout`](Queue::get_lease_timeout).
    pub fn get_lease_bytes_timeout(&self, timeout: Duration) -> Result<Lease<Vec<u8>>, GetError> {
        self.get_lease_bytes_until(Deadline::after(timeout))
    }

    /// The bytes of the oldest item, waiting until `deadline` at most; as [`get_lease`](Queue::get_lease).
    ///
    /// # Errors
    ///
    /// As [`get_lease_deadline`](Queue::get_lease_deadline).
    pub fn get_lease_bytes_deadline(&self, deadline: Instant) -> Result<Lease<Vec<u8>>, GetError> {
        self.get_lease_bytes_until(Deadline::at(deadline))
    }

    fn get_lease_bytes_until(&self, deadline: Deadline) -> Result<Lease<Vec<u8>>, GetError> {
        let mut value = Vec::new();
        let held = self.raw.hold(&mut value, deadline)?;
        Ok(Lease { value, held })
    }
}

impl RawQueue {
    /// A get of a leased queue: a lease that is acknowledged at once.
    #[cold]
    pub(crate) fn get_and_ack(
        self: &Arc<Self>,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Vec<OwnedFd>, GetError> {
        self.hold(buffer, deadline)?.ack();
        Ok(Vec::new())
    }

    /// The same with several: waits for the first, and takes what is there then.
    #[cold]
    pub(crate) fn get_many_and_ack(
        self: &Arc<Self>,
        batch: &mut Batch,
        max: usize,
        deadline: Deadline,
    ) -> Result<Vec<OwnedFd>, GetError> {
        let mut item = Vec::new();
        batch.clear();
        let mut got = self.hold(&mut item, deadline);
        loop {
            got?.ack();
            batch.push(|bytes| bytes.extend_from_slice(&item));
            if batch.len() >= max {
                return Ok(Vec::new());
            }
            got = self.hold(&mut item, Deadline::NOW);
            if got.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    /// Takes the oldest item away for good; false = there is none now. `None`: this is no leased queue.
    pub(crate) fn take_and_ack(&self, me: &Me, buffer: &mut Vec<u8>) -> Option<bool> {
        let leases = self.leases.as_ref()?;
        let lent = self.lend_item(me, leases, buffer, Deadline::NOW);
        Some(lent.is_ok_and(|lent| lent.is_some_and(|lent| leases.ack(lent))))
    }

    /// Lends the oldest item to this thread and copies it into `buffer`.
    fn hold(self: &Arc<Self>, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<Held, GetError> {
        let leases = self.leases.as_ref().ok_or(GetError::NotLeased)?;
        let me = self.getter()?;
        let mut lent = None;
        self.get_slow(&me, deadline, &mut || {
            lent = self.lend_item(&me, leases, buffer, deadline)?;
            Ok(lent.map(|lent| lent.producer))
        })?;
        let lent = lent.ok_or(GetError::Corrupt)?;
        Ok(Held {
            queue: User::of(self.clone()),
            lent,
            forks: forks(),
            is_over: false,
            not_send: PhantomData,
        })
    }

    /// Lends what is there. Who sleeps is told of a thread that nobody may watch yet.
    fn lend_item(
        &self,
        me: &Me,
        leases: &Leases,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Option<Lent>, Fault> {
        if !self.may_take(me) {
            return Ok(None);
        }
        let patience = if deadline == Deadline::NOW { Deadline::after(MOMENT) } else { deadline };
        let lend = |acquired| leases.lend(me, &self.channel, acquired, buffer);
        let lent = self.channel.exclusively(me, patience, lend)?;
        if lent.is_some_and(|lent| lent.is_news) {
            complete_barrier();
            self.channel.words.producers.bell.ring();
        }
        Ok(lent)
    }

    /// Waits until there may be something to lend. Whoever was woken passes it on before it takes anything: its own
    /// death may be news to nobody.
    pub(crate) fn wait_to_lend(
        &self,
        me: &Me,
        leases: &Leases,
        shut: bool,
        deadline: Deadline,
        slept: &Cell<bool>,
    ) {
        let (registry, bell) = (me.registry(), &self.channel.words.producers.bell);
        let ready = || self.may_take(me) || self.is_over(shut);
        let sleep = || {
            let round = Deadline::after(BACKSTOP);
            let wants_place = self.channel.has_item() && leases.is_full();
            let watch = || (!ready()).then(|| leases.watched(registry));
            let at = if wants_place { leases.places() } else { bell };
            let woken = registry.sleep_at(at, watch, deadline.min(round));
            self.channel.name_wake(me);
            slept.set(true);
            if woken == Woken::TimedOut {
                leases.ask(registry);
                self.count_rescue(me, round < deadline && self.channel.has_item() && !leases.is_full());
            } else if ready() {
                bell.ring();
            }
            me.arm();
            !shut && !deadline.has_passed()
        };
        self.for_item.wait(self.producer.load(Relaxed), ready, sleep);
    }
}

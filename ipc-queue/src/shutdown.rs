//! The end of a queue for all its processes.
//!
//! One store under the producers' lock is all: behind it nobody puts any more. All sleepers are woken; one whose
//! wake died with the process that shut the queue down looks again after its backstop.
//!
//! A getter that finds the ring empty then asks the ledger. Items leave the ledger only after they are in the ring,
//! and none come in any more. So if the ledger is empty, and the ring is still empty after that, nothing is left.

use ipc_sync::{Deadline, Me};

use crate::Queue;
use crate::channel::Channel;
use crate::error::GetError;
use crate::item::Got;
use crate::raw::RawQueue;
use crate::state::{DISCARD, SHUT};

impl<T> Queue<T> {
    /// Shuts the queue down for all processes: nobody can put any more, and who gets is told so once nothing is left.
    ///
    /// Puts answer `ShutDown` from now on, also those that wait for a place. What was put can still be got, also what
    /// other processes keep back; then gets answer [`GetError::ShutDown`] and iterators end. Who sleeps is
    /// woken. Done again, it does nothing.
    ///
    /// Waits for a producer in the middle of its put only. A process that dies in here has shut the queue down or has
    /// not; if it did and woke nobody, sleepers notice within 100 ms.
    ///
    /// ```
    /// use ipc_queue::GetError;
    ///
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put(1)?;
    /// queue.shutdown();
    /// assert!(queue.put(2).is_err());
    /// assert_eq!(queue.get()?, 1);
    /// assert!(matches!(queue.get(), Err(GetError::ShutDown)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "queue.Queue.shutdown")]
    pub fn shutdown(&self) {
        self.raw.shut(SHUT);
    }

    /// As [`shutdown`](Queue::shutdown), and discards what was not taken: answers how many items.
    ///
    /// Getters at work may be faster and take some of them. What other processes keep back they discard themselves,
    /// within 100 ms; it is counted here. One item too many may be counted for each process whose put is refused at
    /// this very moment, if the queue has no bound. If this process dies before all are discarded, the others can be
    /// got.
    ///
    /// ```
    /// let queue = ipc_queue::Queue::new()?;
    /// queue.put_many(vec![1, 2, 3])?;
    /// assert_eq!(queue.shutdown_now(), 3);
    /// assert!(queue.get().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "immediate")]
    pub fn shutdown_now(&self) -> usize {
        let kept_back = self.raw.shut(SHUT | DISCARD);
        kept_back + self.raw.discard()
    }

    /// Whether the queue was shut down.
    #[doc(alias = "is_shutdown")]
    pub fn is_shut_down(&self) -> bool {
        self.raw.channel.is_shut()
    }
}

impl Channel {
    pub(crate) fn is_shut(&self) -> bool {
        self.words.producers.state.is(SHUT)
    }

    /// Whether what processes keep back goes nowhere.
    pub(crate) fn discards(&self) -> bool {
        self.words.producers.state.is(DISCARD)
    }

    /// Sets `bits`; answers how many items living processes must discard for that.
    fn shut(&self, me: &Me, bits: u32) -> u32 {
        let set = |_| {
            let discarded = self.discards();
            self.words.producers.state.set(bits);
            Ok(if self.discards() && !discarded { self.sweep(me) } else { 0 })
        };
        self.locked(me, Deadline::NEVER, set).unwrap_or(0)
    }
}

impl RawQueue {
    /// Sets `bits` and wakes all; answers how many items living processes must discard for that.
    fn shut(&self, bits: u32) -> usize {
        let kept_back = Me::get().map_or(0, |me| self.channel.shut(&me, bits));
        self.channel.words.producers.state.set(bits); // damaged memory, or no slot for this thread: as well as may be
        self.wake_all();
        kept_back as usize
    }

    /// Takes what is in the ring, and lets go what this process keeps back; answers how many were in the ring.
    fn discard(&self) -> usize {
        let Ok(me) = Me::get() else { return 0 };
        self.help_feeder(&me, Deadline::NEVER);
        let mut item = Vec::new();
        let mut discarded = 0;
        while self.discard_one(&me, &mut item) {
            discarded += 1;
        }
        discarded
    }

    /// Takes an item for good, by the way of this queue. False: there is none.
    fn discard_one(&self, me: &Me, item: &mut Vec<u8>) -> bool {
        if let Some(taken) = self.take_and_ack(me, item) {
            return taken;
        }
        let taken = matches!(self.take_any(me, item, &mut Got::default(), Deadline::NOW), Ok(Some(_)));
        if let Some(tasks) = self.tasks.as_ref().filter(|_| taken) {
            self.finish_tasks(me, tasks, 1);
        }
        taken
    }

    /// After shutdown: whether what is in the ring now is all that will ever be there. With `ask`, /proc is asked about
    /// those who keep something back.
    pub(crate) fn is_last(&self, me: &Me, ask: bool) -> bool {
        let nothing_comes = || self.here.get().waiting() == 0 && self.channel.kept_back(me, ask) == 0;
        let nothing_comes_back = || self.leases.as_ref().is_none_or(|leases| leases.others_have_none(me));
        self.channel.discards() || nothing_comes() && nothing_comes_back()
    }

    /// Others sleep for what will never come.
    #[cold]
    pub(crate) fn tell_the_end(&self) -> GetError {
        self.channel.words.producers.bell.ring_all();
        GetError::ShutDown
    }
}

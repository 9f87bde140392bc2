//! What `put` hands over when the ring is full: the backlog of this process, and the thread that empties it.
//!
//! A put never waits for room in the ring, only for the bound. The backlog belongs to (process, queue); as long as it
//! holds anything every put of this process goes behind it, so the order of a process's items is kept. An item
//! leaves the backlog when it is in the ring, not before: who finds the backlog empty may write to the ring itself.
//!
//! The feeder thread starts with the first item that is handed over and ends after a second without work, or with the
//! last handle. Its token
//! stands in the ledger for all that this process keeps back: it dies with the process, and then those items count
//! no longer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ipc_sync::{BACKSTOP, Deadline, Me, RegistryError};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::blob::Blobs;
use crate::channel::{Fault, Put, Reserved, Room};
use crate::error::{JoinError, PutFault};
use crate::exit;
use crate::item::{Count, Item, Kept, put_fault};
use crate::raw::RawQueue;

/// The feeder ends when nothing was handed over for so long.
const IDLE: Duration = Duration::from_secs(1);

/// The feeder leaves work to the puts for so long: shorter than a `try_get` waits for it.
const STAND_BACK: Duration = Duration::from_micros(500);

/// Items moved before others get at the backlog.
const BATCH: usize = 64;

/// What belongs to one process, and not to the children it forks.
#[derive(Debug, Default)]
pub(crate) struct Here {
    pub(crate) closed: AtomicBool,
    /// The end of the process does not wait for the backlog.
    pub(crate) may_leave: AtomicBool,
    pub(crate) blobs: Blobs,
    /// Items in the backlog.
    waiting: AtomicUsize,
    backlog: Mutex<Backlog>,
    /// Something came into an empty backlog, or the last item left it.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Backlog {
    items: VecDeque<Kept>,
    feeder: Option<Feeder>,
    /// What the first item waits for.
    needs: Room,
    /// The position of `head` that a put has waited a moment for.
    waited: u64,
    /// Puts have moved items since the feeder looked last. While they do it stands back: on their processor it would
    /// only stop them.
    is_moved_by_puts: bool,
}

/// The thread at work.
#[derive(Debug, Clone, Copy)]
struct Feeder {
    token: u32,
    /// Its entry in the ledger.
    entry: Option<usize>,
}

/// What became of an item.
pub(crate) enum Placed {
    /// It is in the ring or in the backlog.
    Done,
    /// The bound is reached; to be tried again when `head` has left this position.
    Full(u64),
    /// It would go into the backlog. Consumers at work may make room within microseconds, so that is worth a look;
    /// else a producer that is a little faster than they are would fill the memory.
    NoRoom(Room),
}

/// Why the backlog is not shorter.
enum Moved {
    Some,
    Nothing,
    NoRoom(Room),
}

impl Here {
    /// Items of this process that are not in the ring yet.
    #[inline(always)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Acquire)
    }

    fn lock(&self, deadline: Deadline) -> Option<MutexGuard<'_, Backlog>> {
        match deadline.remaining() {
            None => Some(self.backlog.lock()),
            Some(time) => self.backlog.try_lock_for(time),
        }
    }

    /// The queue is closed, or its last user has left: an idle feeder ends. It holds the lock from its look at both
    /// until it waits; if the lock is held for longer, the feeder is at work and will look, or is late by its second.
    pub(crate) fn dismiss_feeder(&self) {
        let _feeder_waits = self.backlog.try_lock_for(STAND_BACK);
        self.changed.notify_all();
    }

    fn push(&self, backlog: &mut Backlog, item: Item<'_>) {
        backlog.items.push_back(Kept::of(item));
        if self.waiting.fetch_add(1, Release) == 0 {
            self.changed.notify_all();
        }
    }

    fn pop(&self, backlog: &mut Backlog) {
        backlog.items.pop_front();
        if self.waiting.fetch_sub(1, Release) == 1 {
            backlog.items.shrink_to(BATCH);
            self.changed.notify_all();
        }
    }

    fn discard(&self, backlog: &mut Backlog) {
        backlog.items.clear();
        self.waiting.store(0, Release);
        self.changed.notify_all();
    }
}

impl RawQueue {
    /// Puts an item into the ring, or behind those that wait for it. Unless it `must`, it may ask for patience first,
    /// once for each half of the ring that consumers take.
    pub(crate) fn place(
        self: &Arc<Self>,
        me: &Me,
        item: Item<'_>,
        must: bool,
        deadline: Deadline,
    ) -> Result<Placed, PutFault> {
        let mut backlog = self.here.get().lock(deadline).ok_or(PutFault::TimedOut)?;
        if !backlog.items.is_empty() && self.channel.head() >= backlog.needs.half {
            self.move_some(me, &mut backlog, deadline);
            backlog.is_moved_by_puts = true;
        }
        if backlog.items.is_empty() {
            match self.append(me, item, Count::New, deadline).map_err(put_fault)? {
                Put::Done => return Ok(Placed::Done),
                Put::Full(head) => return Ok(Placed::Full(head)),
                Put::NoRoom(room) => backlog.needs = room,
            }
        }
        let needs = backlog.needs;
        if !must && backlog.waited != needs.half && self.channel.head() < needs.half {
            backlog.waited = needs.half;
            return Ok(Placed::NoRoom(needs));
        }
        self.hand_over(me, &mut backlog, item, deadline)
    }

    fn hand_over(
        self: &Arc<Self>,
        me: &Me,
        backlog: &mut Backlog,
        item: Item<'_>,
        deadline: Deadline,
    ) -> Result<Placed, PutFault> {
        let feeder = match backlog.feeder {
            Some(feeder) => feeder,
            None => self.start_feeder()?,
        };
        backlog.feeder = Some(feeder);
        if self.bound().is_none() && feeder.entry.is_some() {
            self.channel.count(feeder.entry);
            if self.channel.is_shut() {
                self.channel.uncount(feeder.entry, 1); // nobody waits for it
                return Err(PutFault::ShutDown);
            }
        } else {
            let entry = match self.channel.reserve(me, feeder.token, deadline).map_err(put_fault)? {
                Reserved::In(entry) => Some(entry),
                Reserved::Full(head) => return Ok(Placed::Full(head)),
                Reserved::NoEntry if self.bound().is_some() || self.tasks.is_some() => {
                    return Ok(Placed::Full(self.channel.head()));
                }
                Reserved::NoEntry => None, // an unbounded queue only needs it to tell its length
            };
            backlog.feeder = Some(Feeder { entry, ..feeder });
        }
        self.here.get().push(backlog, item);
        Ok(Placed::Done)
    }

    #[cold]
    fn start_feeder(self: &Arc<Self>) -> Result<Feeder, PutFault> {
        exit::watch(self);
        let (tell, told) = sync_channel(1);
        let queue = self.clone();
        let feed = move || queue.feed(&tell);
        thread::Builder::new().name("queue feeder".into()).spawn(feed).map_err(PutFault::Feeder)?;
        match told.recv() {
            Ok(token) => Ok(Feeder { token: token.map_err(PutFault::Registry)?, entry: None }),
            Err(_) => Err(PutFault::Feeder(io::ErrorKind::Other.into())), // it tells before it does anything else
        }
    }

    /// The feeder thread.
    fn feed(self: Arc<Self>, tell: &SyncSender<Result<u32, RegistryError>>) {
        let me = match Me::get() {
            Ok(me) => me,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let _ = tell.send(Ok(me.token()));
        let mut needed = Instant::now();
        loop {
            match self.move_backlog(&me, Deadline::NEVER) {
                Moved::Some => {}
                Moved::NoRoom(_) if self.stands_back() => {}
                Moved::NoRoom(room) => {
                    self.wait_for_room(&me, room, || self.channel.discards(), Deadline::NEVER);
                    self.here.get().backlog.lock().needs = Room::default(); // some room comes unseen
                    self.discard_if_abandoned(&mut needed);
                }
                Moved::Nothing if self.has_work_again() => {}
                Moved::Nothing => return,
            }
        }
    }

    /// What nobody can ever take is not kept: there is no handle in this process and no other process has the queue,
    /// for longer than a handle is on its way in a message.
    fn discard_if_abandoned(&self, needed: &mut Instant) {
        if self.has_handle() || self.presence.is_held() {
            *needed = Instant::now();
        } else if needed.elapsed() > exit::GRACE {
            let here = self.here.get();
            here.discard(&mut here.backlog.lock());
        }
    }

    /// Leaves the work to the puts for a moment, if they do it.
    fn stands_back(&self) -> bool {
        let here = self.here.get();
        let mut backlog = here.backlog.lock();
        let back = std::mem::take(&mut backlog.is_moved_by_puts);
        if back {
            here.changed.wait_for(&mut backlog, STAND_BACK);
        }
        back
    }

    /// Waits for work; without any for a second, after `close`, or without a user, the feeder takes its leave.
    fn has_work_again(&self) -> bool {
        let here = self.here.get();
        let mut backlog = here.backlog.lock();
        if backlog.items.is_empty() && !self.is_closed() && self.is_used() {
            here.changed.wait_for(&mut backlog, IDLE);
        }
        let more = !backlog.items.is_empty();
        if !more {
            backlog.feeder = None;
        }
        more
    }

    /// Moves what this process keeps back into the ring, as far as there is room.
    pub(crate) fn help_feeder(&self, me: &Me, deadline: Deadline) {
        while let Moved::Some = self.move_backlog(me, deadline) {}
    }

    fn move_backlog(&self, me: &Me, deadline: Deadline) -> Moved {
        match self.here.get().lock(deadline) {
            Some(mut backlog) => self.move_some(me, &mut backlog, deadline),
            None => Moved::Nothing,
        }
    }

    fn move_some(&self, me: &Me, backlog: &mut Backlog, deadline: Deadline) -> Moved {
        let here = self.here.get();
        let entry = backlog.feeder.and_then(|feeder| feeder.entry);
        let discards = self.channel.discards();
        if !backlog.items.is_empty() && self.channel.head() < backlog.needs.enough && !discards {
            return Moved::NoRoom(backlog.needs);
        }
        for _ in 0..BATCH {
            let Some(item) = backlog.items.front() else { return Moved::Nothing };
            match self.append(me, item.item(), Count::In(entry), deadline) {
                Ok(Put::Done) => here.pop(backlog),
                Ok(Put::NoRoom(room)) => {
                    backlog.needs = room;
                    return Moved::NoRoom(room);
                }
                Ok(Put::Full(_)) | Err(Fault::TimedOut) => return Moved::Nothing,
                Err(Fault::Refused(number)) if passes(number) => {
                    backlog.needs = Room::after(self.channel.head());
                    return Moved::NoRoom(backlog.needs);
                }
                Err(Fault::Refused(_)) => {
                    here.pop(backlog); // no kernel will ever carry it
                    self.channel.uncount(entry, 1);
                }
                // Nobody will ever take them.
                Err(Fault::Corrupt | Fault::ShutDown) => {
                    let count = backlog.items.len() as u32;
                    here.discard(backlog);
                    self.channel.uncount(entry, count);
                }
            }
        }
        Moved::Some
    }

    /// Waits until this process keeps nothing back.
    pub(crate) fn join(&self, deadline: Deadline) -> Result<(), JoinError> {
        let here = self.here.get();
        if !self.is_closed() {
            return Err(JoinError::NotClosed);
        }
        let mut backlog = here.lock(deadline).ok_or(JoinError::TimedOut)?;
        while !backlog.items.is_empty() && !here.may_leave.load(Relaxed) {
            if deadline.has_passed() {
                return Err(JoinError::TimedOut);
            }
            let round = deadline.remaining().map_or(BACKSTOP, |time| time.min(BACKSTOP));
            here.changed.wait_for(&mut backlog, round); // `cancel_join` does not take the lock, which may be held
        }
        Ok(())
    }

    /// Lets the end of this process, and whoever joins, not wait for the backlog.
    pub(crate) fn cancel_join(&self) {
        let here = self.here.get();
        here.may_leave.store(true, Relaxed);
        here.changed.notify_all();
    }
}

/// Whether what the kernel refused with this error may be had later.
fn passes(number: i32) -> bool {
    matches!(number, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC | libc::EINTR)
}

//! A queue of bytes: the ring, and what one process keeps beside it.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ipc_pipe::Doorbell;
use ipc_pipe::socket::Socket;
use ipc_shm::PerProcess;
use ipc_shm::handle::{self, LendError, Outgoing};
use ipc_shm::{Parcel, Segment};
use ipc_sync::{BACKSTOP, Deadline, Me, Patience, Woken, full_fence};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::beside::Side;
use crate::channel::{Channel, Fault, Put, Room, Taken};
use crate::error::{CreateError, GetError, PutFault};
use crate::feeder::{Here, Placed};
use crate::form::Form;
use crate::item::{Got, Item};
use crate::leases::Leases;
use crate::presence::Presence;
use crate::segment::{self, Parts, Shape, Strange};
use crate::tasks::Tasks;
use crate::user::User;

/// How long a put that does not wait bears with another producer's.
pub(crate) const MOMENT: Duration = Duration::from_millis(10);

/// How long a get that does not wait bears with a feeder.
const GLANCE: Duration = Duration::from_millis(1);

/// How long room for one item is refused for the sake of room for many.
const BITE: Duration = Duration::from_millis(1);

/// Items put under one hold of the producers' lock, for which other producers wait.
const HOLD: usize = 64;

/// The queues of this process. One that arrives twice is one: its items have one order.
static QUEUES: PerProcess<Mutex<Vec<Weak<RawQueue>>>> = PerProcess::new();

/// Takes what is to be had; answers the processor of its writer, or `None` if the ring is empty.
type Take<'a> = &'a mut dyn FnMut() -> Result<Option<u32>, Fault>;

/// What a message holds of a queue: where its descriptors are among those of the message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ticket {
    memory: Parcel,
    /// Both ends of the socket for what goes beside items.
    side: Option<(u32, u32)>,
}

fn receive_side((into, out): (u32, u32)) -> Result<Side, Strange> {
    let socket = |slot| Socket::of(handle::take(slot)?).ok_or(Strange::Socket);
    Ok(Side { into: socket(into)?, out: socket(out)? })
}

/// A queue of bytes in this process.
#[derive(Debug)]
pub(crate) struct RawQueue {
    pub(crate) channel: Channel,
    pub(crate) form: Form,
    pub(crate) presence: Presence,
    /// Those who use it in this process, which its feeder does not.
    pub(crate) users: AtomicUsize,
    pub(crate) here: PerProcess<Here>,
    /// Of a joinable queue.
    pub(crate) tasks: Option<Tasks>,
    /// Of a leased queue.
    pub(crate) leases: Option<Leases>,
    /// `None` = its items have nothing beside them.
    pub(crate) side: Option<Side>,
    /// Bytes of the longest item.
    pub(crate) max_message: usize,
    /// For event loops of others.
    pub(crate) doorbell: Doorbell,
    segment: Segment,
    pub(crate) for_item: Patience,
    for_room: Patience,
    /// The processor that the last item came from.
    pub(crate) producer: AtomicU32,
}

impl RawQueue {
    /// A new queue.
    pub(crate) fn create(shape: &Shape) -> Result<User, CreateError> {
        let segment = segment::create(shape)?;
        let parts = segment::parts(&segment, &[shape.form]).expect("a new segment is what it should be");
        let side = if parts.leases.is_some() { None } else { Some(Side::new()?) };
        Ok(RawQueue::enter(segment, parts, side)?)
    }

    /// The queue that a message brought, if it is of one of these forms.
    pub(crate) fn receive(ticket: Ticket, forms: &[Form]) -> Result<User, Strange> {
        let segment = segment::unpack(ticket.memory)?;
        RawQueue::open(segment, ticket.side.map(receive_side).transpose()?, forms)
    }

    /// The queue in somebody's memory, if it is of one of these forms.
    pub(crate) fn open(segment: Segment, side: Option<Side>, forms: &[Form]) -> Result<User, Strange> {
        let parts = segment::parts(&segment, forms)?;
        let side = side.filter(|_| parts.leases.is_none());
        RawQueue::enter(segment, parts, side).map_err(|error| Strange::Header(error.into()))
    }

    fn enter(segment: Segment, parts: Parts, side: Option<Side>) -> std::io::Result<User> {
        let mut queues = QUEUES.get().lock();
        queues.retain(|queue| queue.strong_count() > 0);
        let same = |queue: &Arc<RawQueue>| Arc::ptr_eq(queue.segment.mapping(), segment.mapping());
        if let Some(queue) = queues.iter().filter_map(Weak::upgrade).find(same) {
            queue.presence.take()?; // its feeder may have given it up
            return Ok(User::of(queue));
        }
        let Parts { form, channel, tasks, leases, max_message } = parts;
        let queue = Arc::new(RawQueue {
            presence: Presence::new(segment.mapping().descriptor())?,
            users: AtomicUsize::new(0),
            channel,
            form,
            side,
            max_message,
            segment,
            doorbell: Doorbell::new(),
            here: PerProcess::new(),
            tasks,
            leases,
            for_item: Patience::default(),
            for_room: Patience::default(),
            producer: AtomicU32::new(u32::MAX),
        });
        queues.push(Arc::downgrade(&queue));
        Ok(User::of(queue))
    }

    /// Whether this process has the queue for more than its feeder. If not, it gives up its presence; a handle that
    /// arrives takes it again.
    pub(crate) fn has_handle(&self) -> bool {
        let _nothing_arrives = QUEUES.get().lock();
        let is_used = self.is_used();
        if !is_used {
            self.presence.leave();
        }
        is_used
    }

    /// Whether this process has the queue for more than its feeder, at this instant.
    pub(crate) fn is_used(&self) -> bool {
        self.users.load(SeqCst) > 0
    }

    /// Lends the queue to the message being serialized in this thread.
    pub(crate) fn lend(&self) -> Result<Ticket, LendError> {
        let memory = self.segment.pack()?;
        let lend =
            |side: &Side| Ok((handle::lend(side.into.descriptor())?, handle::lend(side.out.descriptor())?));
        Ok(Ticket { memory, side: self.side.as_ref().map(lend).transpose()? })
    }

    /// The table of an item that is to be serialized.
    #[inline(always)]
    pub(crate) fn table(&self) -> Outgoing {
        if self.side.is_some() { Outgoing::open() } else { Outgoing::names_only() }
    }

    /// The name that goes with the last user.
    pub(crate) fn name(&self) -> Option<&str> {
        self.segment.name()
    }

    pub(crate) fn bound(&self) -> Option<usize> {
        Some(self.channel.bound() as usize).filter(|&bound| bound > 0)
    }

    /// Puts one item; with [`Deadline::NOW`] only if it need not wait.
    #[inline(always)]
    pub(crate) fn put(self: &Arc<Self>, item: Item<'_>, deadline: Deadline) -> Result<(), PutFault> {
        let me = Me::get().map_err(PutFault::Registry)?;
        let here = self.here.get();
        if self.is_closed() {
            return Err(PutFault::Closed);
        }
        if !item.is_plain(self.channel.longest()) {
            self.check(item)?;
        } else if here.waiting() == 0 {
            if let Ok(Put::Done) = self.channel.put(&me, item.bytes, deadline) {
                return Ok(());
            }
        }
        match self.form {
            Form::Simple => self.put_into_ring(&me, item, deadline),
            _ => self.put_slow(&me, item, deadline),
        }
    }

    /// Puts items one after another; the error says how many were put.
    #[inline]
    pub(crate) fn put_many<'a>(
        self: &Arc<Self>,
        mut items: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        deadline: Deadline,
    ) -> Result<(), (usize, PutFault)> {
        let count = items.len();
        while let Some(first) = items.clone().next() {
            let put = self.put_some(items.clone().take(HOLD), deadline);
            if put == 0 {
                self.put(Item::of(first), deadline).map_err(|fault| (count - items.len(), fault))?;
            }
            items.nth(put.saturating_sub(1));
        }
        Ok(())
    }

    /// Puts those in front that need not wait for anything but other producers' puts; answers how many.
    #[inline(always)]
    fn put_some<'a>(&self, items: impl Iterator<Item = &'a [u8]>, deadline: Deadline) -> usize {
        let (here, longest) = (self.here.get(), self.channel.longest());
        match Me::get() {
            Ok(me) if here.waiting() == 0 && !self.is_closed() => {
                let plain = items.take_while(|item| item.len() <= longest);
                self.channel.put_many(&me, plain, deadline).unwrap_or(0)
            }
            _ => 0,
        }
    }

    #[cold]
    #[inline(never)]
    fn put_slow(self: &Arc<Self>, me: &Me, item: Item<'_>, deadline: Deadline) -> Result<(), PutFault> {
        let now = deadline == Deadline::NOW;
        let full = || if now { PutFault::Full } else { PutFault::TimedOut };
        let mut must = now;
        loop {
            let patience = if now { Deadline::after(MOMENT) } else { deadline };
            if self.is_closed() {
                return Err(PutFault::Closed);
            }
            match self.place(me, item, must, patience) {
                Ok(Placed::Done) => return Ok(()),
                Ok(Placed::Full(_)) if deadline.has_passed() => return Err(full()),
                Ok(Placed::Full(head)) => self.wait_for_slot(me, head, deadline),
                Ok(Placed::NoRoom(room)) => must = !self.room_is_near(room),
                Err(PutFault::TimedOut) => return Err(full()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Waits until a consumer has taken something since `head` was seen, or for one backstop: slots also come back
    /// when a process dies with its backlog, and that rings no bell.
    fn wait_for_slot(&self, me: &Me, head: u64, deadline: Deadline) {
        let next = head.wrapping_add(1);
        self.wait_for_room(me, Room { enough: next, half: next }, || self.takes_no_more(), deadline);
        if self.channel.head() == head && !deadline.has_passed() {
            self.channel.kept_back(me, true);
        }
    }

    /// Whether consumers make room within the time in which one does not sleep.
    fn room_is_near(&self, room: Room) -> bool {
        self.for_room.wait(self.channel.consumer(), || self.channel.head() >= room.half, || false)
    }

    /// Whether there is nothing more to put for this process.
    pub(crate) fn takes_no_more(&self) -> bool {
        self.channel.is_shut() || self.is_closed()
    }

    /// Waits until consumers have made room or it is `over`, or for one backstop.
    pub(crate) fn wait_for_room(&self, me: &Me, room: Room, over: impl Fn() -> bool, deadline: Deadline) {
        let wanted = Cell::new(room.half);
        let has_room = || self.channel.head() >= wanted.get() || over();
        let sleep = || {
            let eager = wanted.replace(room.enough) != room.enough;
            let round = Deadline::after(if eager { BITE } else { BACKSTOP });
            let position = if eager { room.half } else { room.enough };
            let woken = self.channel.sleep_for_room(position, &over, deadline.min(round));
            self.count_rescue(me, !eager && woken == Woken::TimedOut && has_room());
            eager && !deadline.has_passed()
        };
        self.for_room.wait(self.channel.consumer(), has_room, sleep);
    }

    /// Who gets, unless this process has closed the queue.
    #[inline(always)]
    pub(crate) fn getter(&self) -> Result<Me, GetError> {
        let me = Me::get().map_err(GetError::Registry)?;
        if self.is_closed() { Err(GetError::Closed) } else { Ok(me) }
    }

    /// Takes one item into `buffer`, whose content it replaces; with [`Deadline::NOW`] only if it need not wait.
    #[inline(always)]
    pub(crate) fn get(self: &Arc<Self>, buffer: &mut Vec<u8>, deadline: Deadline) -> Result<(), GetError> {
        self.get_with(buffer, deadline).map(drop)
    }

    /// Takes one item into `buffer` as [`get`](RawQueue::get) does; answers the descriptors that came with it.
    #[inline(always)]
    pub(crate) fn get_with(
        self: &Arc<Self>,
        buffer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Vec<OwnedFd>, GetError> {
        let me = self.getter()?;
        match self.take(&me, buffer) {
            Ok(Taken::Item(producer)) => {
                self.producer.store(producer, Relaxed);
                Ok(Vec::new())
            }
            _ if self.leases.is_some() => self.get_and_ack(buffer, deadline),
            _ => {
                let mut got = Got::default();
                self.get_slow(&me, deadline, &mut || self.take_any(&me, buffer, &mut got, deadline))?;
                got.check()
            }
        }
    }

    /// Takes up to `max` items into `batch`, whose content they replace; waits for the first as a
    /// [`get`](RawQueue::get) does. One that has handles comes alone, and they are the answer.
    #[inline]
    pub(crate) fn get_many(
        self: &Arc<Self>,
        batch: &mut Batch,
        max: usize,
        deadline: Deadline,
    ) -> Result<Vec<OwnedFd>, GetError> {
        let me = self.getter()?;
        match self.take_many(&me, batch, max) {
            Ok(Taken::Item(producer)) => {
                self.producer.store(producer, Relaxed);
                Ok(Vec::new())
            }
            Ok(Taken::Empty) if max == 0 => Ok(Vec::new()),
            _ if self.leases.is_some() => self.get_many_and_ack(batch, max, deadline),
            _ => {
                let mut got = Got::default();
                let mut take = || self.take_any_many(&me, batch, max, &mut got, deadline);
                self.get_slow(&me, deadline, &mut take)?;
                got.check()
            }
        }
    }

    /// Takes the oldest item, by the way of this queue.
    #[inline(always)]
    pub(crate) fn take(&self, me: &Me, buffer: &mut Vec<u8>) -> Result<Taken, Fault> {
        match (&self.tasks, &self.leases) {
            (None, None) => self.channel.take(me, buffer),
            (Some(tasks), _) => self.take_as_task(me, tasks, buffer),
            (None, Some(_)) => Ok(Taken::Empty), // items of a leased queue take another way
        }
    }

    /// Takes the oldest items, by the way of this queue.
    #[inline(always)]
    pub(crate) fn take_many(&self, me: &Me, batch: &mut Batch, max: usize) -> Result<Taken, Fault> {
        match (&self.tasks, &self.leases) {
            (None, None) => self.channel.take_many(me, batch, max),
            (Some(tasks), _) => self.take_many_as_tasks(me, tasks, batch, max),
            (None, Some(_)) => Ok(Taken::Empty),
        }
    }

    /// Whether there may be something to take, for this process.
    #[inline(always)]
    pub(crate) fn may_take(&self, me: &Me) -> bool {
        match (&self.tasks, &self.leases) {
            (None, None) => self.channel.has_item(),
            (Some(tasks), _) => self.channel.has_item() && tasks.has_place(me),
            (None, Some(leases)) => leases.may_lend(me.registry(), &self.channel),
        }
    }

    /// `take` again and again, which has found nothing before.
    #[cold]
    #[inline(never)]
    pub(crate) fn get_slow(&self, me: &Me, deadline: Deadline, take: Take<'_>) -> Result<(), GetError> {
        let (slept, mut until, mut drained) = (Cell::new(false), None, false);
        loop {
            let closed = self.is_closed();
            let taken = if closed { Ok(None) } else { take() };
            // With a lease in its hands a thread names nothing: its own end must be told.
            if slept.get() && (closed || !matches!(taken, Ok(None))) && self.leases.is_none() {
                self.channel.pass_on(me);
            }
            me.arm(); // whoever was woken had named the bell
            match taken {
                Ok(Some(producer)) => {
                    self.producer.store(producer, Relaxed);
                    return Ok(());
                }
                Ok(None) if closed => return Err(GetError::Closed),
                Ok(None) => {}
                Err(fault) => return Err(get_fault(fault, deadline)),
            }
            let shut = self.channel.is_shut();
            match until {
                _ if drained => return Err(self.tell_the_end()),
                _ if shut && self.is_last(me, slept.get()) => drained = true,
                None => until = Some(self.patience_for_item(me, deadline)),
                Some(until) if !until.has_passed() => self.wait_for_item(me, shut, until, &slept),
                Some(_) => return Err(nothing(deadline)),
            }
        }
    }

    /// Until when a get may wait. One that does not wait still gets what is on its way into the ring: this
    /// process's items are moved here and now, another's are waited for a moment.
    fn patience_for_item(&self, me: &Me, deadline: Deadline) -> Deadline {
        if deadline != Deadline::NOW {
            return deadline;
        }
        let glance = Deadline::after(GLANCE);
        if self.here.get().waiting() > 0 {
            self.help_feeder(me, glance);
        }
        if self.channel.kept_back(me, false) > 0 { glance } else { Deadline::NOW }
    }

    /// Waits until there may be something to take. Whoever was woken names the bell to the kernel from then on, so
    /// that its death wakes another.
    fn wait_for_item(&self, me: &Me, shut: bool, deadline: Deadline, slept: &Cell<bool>) {
        if let Some(leases) = &self.leases {
            return self.wait_to_lend(me, leases, shut, deadline, slept);
        }
        let over = || self.is_over(shut);
        let has_item = || self.may_take(me) || over();
        let sleep = || {
            me.arm();
            let round = Deadline::after(BACKSTOP);
            let woken = self.channel.sleep_for_item(over, deadline.min(round));
            self.channel.name_wake(me);
            slept.set(true);
            self.count_rescue(me, round < deadline && woken == Woken::TimedOut && has_item());
            !shut && !deadline.has_passed() // what a dead process kept back will not come, and nothing tells of it
        };
        self.for_item.wait(self.producer.load(Relaxed), has_item, sleep);
    }

    /// Whether a getter that has seen the queue `shut`, or not, has something else to look at than items.
    pub(crate) fn is_over(&self, shut: bool) -> bool {
        self.is_closed() || !shut && self.channel.is_shut()
    }

    pub(crate) fn count_rescue(&self, me: &Me, rescued: bool) {
        if rescued {
            me.registry().count_rescue();
        }
    }

    /// Items in the queue at one instant; none in damaged memory.
    pub(crate) fn len(&self) -> usize {
        let count = |me: &Me| {
            let ring = self.channel.len(me).ok()?;
            let back = |leases: &Leases| leases.returned(me.registry(), self.channel.head());
            let elsewhere =
                self.channel.kept_back(me, false).saturating_add(self.leases.as_ref().map_or(0, back));
            Some(ring.saturating_add(elsewhere))
        };
        Me::get().ok().as_ref().and_then(count).unwrap_or(0) as usize
    }

    /// This process puts and gets no more. Sleepers look whether it is closed after they have hung up their bell; those
    /// of other processes look in vain.
    pub(crate) fn close(&self) {
        let here = self.here.get();
        here.closed.store(true, SeqCst);
        here.dismiss_feeder();
        self.wake_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.here.get().closed.load(SeqCst)
    }

    /// Wakes all who sleep, in all processes.
    #[cold]
    pub(crate) fn wake_all(&self) {
        full_fence();
        self.channel.words.producers.bell.ring_all();
        self.channel.words.consumers.room.ring_all();
        self.leases.iter().for_each(|leases| leases.places().ring_all());
    }
}

/// What a get says that found nothing in its time.
fn nothing(deadline: Deadline) -> GetError {
    if deadline == Deadline::NOW { GetError::Empty } else { GetError::TimedOut }
}

/// What a get says of a fault.
fn get_fault(fault: Fault, deadline: Deadline) -> GetError {
    match fault {
        Fault::TimedOut => nothing(deadline),
        Fault::Corrupt => GetError::Corrupt,
        Fault::ShutDown => GetError::ShutDown,
        Fault::Refused(number) => GetError::Descriptors(std::io::Error::from_raw_os_error(number)),
    }
}

//! The shared ring: producers write one after another under a lock, consumers claim by one compare-and-swap.
//!
//! A put holds the producers' lock. It zeroes the header behind its frame, writes the payload, and stores its own
//! header last: that store is the commit. A get needs no lock. It reads the frame at `head`, copies it, and moves
//! `head` on by a compare-and-swap, which is claim and commit in one: `head` never wraps, so if it still stood
//! there nobody had taken the frame and nobody had overwritten it.
//!
//! ```text
//! offset  size  word
//!      0     4  lock        of the producers, see `ipc_sync::RawLock`
//!      4     4  bell        of the consumers, see `ipc_sync::Bell`
//!      8     8  head_seen   head is not below it
//!     16     8  tail        where the next frame starts
//!     24     4  next        number of the next item; counts up by one and wraps
//!     28     4  first_seen  number of the oldest item
//!     32     4  entries     entries of the ledger in use lie below this
//!     36     4  recoveries  producers that died with the lock
//!     40     4  state       see `shutdown`
//!     44    84  padding
//!    128     8  head        position of the oldest item
//!    136    16  room        bell of the producers, see `ipc_sync::RoomBell`
//!    152     4  takers      lock of those who take more than a frame, see `exclusive`
//!    156   100  padding
//!
//! word         written                       it is
//! header       by a put, under the lock      the TRUTH of what is there: 0 = not published, see `ipc_pipe::Header`
//! head         by a get, compare-and-swap    the TRUTH of what is taken
//! next         under the lock, after header  behind by one if the owner of the lock died
//! tail         under the lock, after next    behind by one frame if the owner of the lock died
//! state        under the lock, bits only set the TRUTH of whether anybody may put
//! others       under the lock                a hint
//! bells        by whoever sleeps             a hint; the kernel rings the bell of a ringer that dies
//! ```
//!
//! A producer that dies before it stores its header has done nothing; behind it, its item is there whole, and the
//! next owner of the lock is told of the death and walks over the published headers from `tail` on. Items are
//! counted by their numbers, so there is no counter to repair. A consumer that dies before its compare-and-swap has
//! done nothing; behind it, the item is in the dead hands. Nobody ever waits for a consumer.
//!
//! What a process could not write yet, because the ring was full, stands in the ledger: {token, count} for each
//! such process. The token is that of its feeder thread, so what a dead process kept back counts no longer.
//!
//! Every word is read once into a local and checked. A damaged one leads to [`Fault::Corrupt`] or to wrong bytes,
//! never out of the ring and never round a loop for ever.

use std::time::Duration;

use crate::primitive::{
    Acquired, AtomicU32, AtomicU64, Bell, Bytes, Deadline, ENTRIES, Flags, HEADER, Header, MAX_PAYLOAD, Me,
    Ordering::*, RawLock, RawLockError, RoomBell, View, Woken, complete_barrier, mutant, processor, span,
};
use crate::state::{DISCARD, SHUT, State};

/// How far ahead a producer asks for the line it will write: a locked instruction waits for stores, not for this.
const AHEAD: u64 = 128;
const LINE: u64 = 64;

/// From here on a copy made in vain costs more than another look at `head`.
const LONG: usize = 256;

/// Times that others may be faster in a row before the ring must be damaged.
pub(crate) const PATIENCE: u32 = 1 << 20;
/// The same for a count of items, and how long one of them waits for the lock.
const LOOKS: u32 = 100;
const MOMENT: Duration = Duration::from_millis(10);

/// The words before the ring.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Words {
    pub(crate) producers: Producers,
    pub(crate) consumers: Consumers,
}

/// What producers write.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Producers {
    pub(crate) lock: RawLock,
    pub(crate) bell: Bell,
    pub(crate) head_seen: AtomicU64,
    pub(crate) tail: AtomicU64,
    pub(crate) next: AtomicU32,
    pub(crate) first_seen: AtomicU32,
    pub(crate) entries: AtomicU32,
    pub(crate) recoveries: AtomicU32,
    pub(crate) state: State,
}

/// What consumers write.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Consumers {
    pub(crate) head: AtomicU64,
    pub(crate) room: RoomBell,
    pub(crate) takers: RawLock,
}

/// What one process keeps back.
///
/// ```text
/// token  0 = free; else of the process's feeder thread. Dead: the entry counts nothing and is free
/// count  items; written by the process of the token, and for a bounded queue only under the producers' lock
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) token: AtomicU32,
    pub(crate) count: AtomicU32,
}

/// Why the ring could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The deadline came while another producer had the lock.
    TimedOut,
    /// A word holds what none of ours writes.
    Corrupt,
    /// Nobody may put any more.
    ShutDown,
    /// The kernel refused what goes beside a frame, with this error number.
    Refused(i32),
}

impl From<RawLockError> for Fault {
    #[cold]
    fn from(error: RawLockError) -> Self {
        match error {
            RawLockError::TimedOut => Fault::TimedOut,
            // Nobody calls back into us under the lock: our own token there was written by somebody else.
            RawLockError::Deadlock | RawLockError::Corrupt => Fault::Corrupt,
        }
    }
}

/// What is to become a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) flags: Flags,
    /// Words before the payload.
    pub(crate) prefix: &'a [u64],
    pub(crate) payload: &'a [u8],
    /// Bytes of both, and of what only takes room.
    pub(crate) length: usize,
}

impl<'a> Frame<'a> {
    /// An item, and nothing else.
    #[inline(always)]
    pub(crate) fn plain(payload: &'a [u8]) -> Frame<'a> {
        Frame { flags: Flags::WHOLE, prefix: &[], payload, length: payload.len() }
    }
}

/// What a take met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Taken {
    /// An item, whose writer ran on this processor.
    Item(u32),
    /// Nothing.
    Empty,
    /// An item that has something beside it, and is still there: see `beside`.
    Beside,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Put {
    /// The item is in the ring.
    Done,
    /// The queue holds as many items as it may; to be tried again when `head` has left this position.
    Full(u64),
    /// The ring has no room for so many bytes now.
    NoRoom(Room),
}

/// What became of an item that is to go into a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reserved {
    /// It is counted in this entry of the ledger.
    In(usize),
    /// As [`Put::Full`].
    Full(u64),
    /// Too many processes have a backlog.
    NoEntry,
}

/// How far consumers must come to make room.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// The position of `head` that makes room for the frame.
    pub(crate) enough: u64,
    /// The position that leaves the ring half empty, so that a full ring moves in bites.
    pub(crate) half: u64,
}

/// Where the next item goes; right under the lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) tail: u64,
    pub(crate) next: u32,
}

impl Cursor {
    /// Where the item behind one of `length` bytes goes.
    #[inline(always)]
    pub(crate) fn behind(self, length: usize) -> Cursor {
        Cursor { tail: self.tail.wrapping_add(span(length)), next: self.next.wrapping_add(1) }
    }
}

/// One process's view of the ring.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) words: View<Words>,
    pub(crate) ledger: View<[Entry; ENTRIES]>,
    pub(crate) ring: Bytes,
    /// Most items at one time, 0 = any number.
    pub(crate) bound: u32,
}

impl Channel {
    pub(crate) fn new(words: View<Words>, ledger: View<[Entry; ENTRIES]>, ring: Bytes, bound: u32) -> Self {
        Channel { words, ledger, ring, bound }
    }

    /// Most items at one time, 0 = any number.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// Bytes of the longest item.
    #[inline(always)]
    pub(crate) fn longest(&self) -> usize {
        MAX_PAYLOAD.min(self.ring.capacity() as usize / 4)
    }

    /// Appends an item of at most [`longest`](Channel::longest) bytes. Waits for nothing but other producers' puts.
    #[inline(always)]
    pub(crate) fn put(&self, me: &Me, payload: &[u8], deadline: Deadline) -> Result<Put, Fault> {
        self.locked(me, deadline, |at| self.put_at(me, at, payload))
    }

    /// Under the lock: a put, unless the bound is reached.
    #[inline(always)]
    pub(crate) fn put_at(&self, me: &Me, at: Cursor, payload: &[u8]) -> Result<Put, Fault> {
        self.put_new(me, at, || self.append(at, Frame::plain(payload)))
    }

    /// Under the lock: has `append` append an item, unless the bound is reached.
    #[inline(always)]
    pub(crate) fn put_new(
        &self,
        me: &Me,
        at: Cursor,
        append: impl FnOnce() -> Result<Put, Fault>,
    ) -> Result<Put, Fault> {
        if self.words.producers.state.is(SHUT) {
            return Err(Fault::ShutDown);
        }
        match self.full(me, at)? {
            Some(head) => Ok(Put::Full(head)),
            None => append(),
        }
    }

    /// Has `append` append an item that is counted in `entry` already.
    pub(crate) fn put_reserved(
        &self,
        me: &Me,
        entry: Option<usize>,
        deadline: Deadline,
        append: impl FnOnce(Cursor) -> Result<Put, Fault>,
    ) -> Result<Put, Fault> {
        self.locked(me, deadline, |at| {
            if self.words.producers.state.is(DISCARD) {
                return Err(Fault::ShutDown);
            }
            let put = append(at)?;
            if put == Put::Done {
                self.uncount(entry, 1);
            }
            Ok(put)
        })
    }

    /// Counts one more item in the ledger, in the entry of `token`.
    pub(crate) fn reserve(&self, me: &Me, token: u32, deadline: Deadline) -> Result<Reserved, Fault> {
        self.locked(me, deadline, |at| {
            if self.words.producers.state.is(SHUT) {
                return Err(Fault::ShutDown);
            }
            if let Some(head) = self.full(me, at)? {
                return Ok(Reserved::Full(head));
            }
            let Some(entry) = self.entry_of(me, token) else { return Ok(Reserved::NoEntry) };
            self.count(Some(entry));
            Ok(Reserved::In(entry))
        })
    }

    /// Counts one more item in `entry` of this process. Only an unbounded queue may do so without the lock.
    pub(crate) fn count(&self, entry: Option<usize>) {
        if let Some(entry) = entry {
            self.ledger[entry].count.fetch_add(1, SeqCst); // before a look at `state`
        }
    }

    pub(crate) fn uncount(&self, entry: Option<usize>, items: u32) {
        if let Some(entry) = entry {
            self.ledger[entry].count.fetch_sub(items, SeqCst);
        }
    }

    /// Runs `work` under the producers' lock, and rings whoever sleeps for an item: also when nothing was put, for
    /// an owner that died may have put something and rung nobody.
    #[inline(always)]
    pub(crate) fn locked<R>(
        &self,
        me: &Me,
        deadline: Deadline,
        work: impl FnOnce(Cursor) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let Producers { lock, bell, .. } = &self.words.producers;
        let acquired = lock.lock(me, deadline)?;
        let result = self.cursor(acquired).and_then(work);
        lock.unlock();
        complete_barrier();
        if mutant() != 4 {
            me.name(bell.word());
        }
        bell.ring();
        me.arm();
        result
    }

    #[inline(always)]
    fn cursor(&self, acquired: Acquired) -> Result<Cursor, Fault> {
        let Producers { tail, next, .. } = &self.words.producers;
        let cursor = Cursor { tail: tail.load(Relaxed), next: next.load(Relaxed) };
        match acquired {
            Acquired::OwnerDied if mutant() != 2 => self.recover(cursor),
            _ => Ok(cursor),
        }
    }

    /// The dead owner may have published one frame more than it counted. Done again, it does nothing.
    #[cold]
    #[inline(never)]
    fn recover(&self, behind: Cursor) -> Result<Cursor, Fault> {
        let Producers { tail, next, recoveries, .. } = &self.words.producers;
        let end = self.end(behind)?;
        next.store(end.next, Relaxed);
        tail.store(end.tail, Release);
        recoveries.fetch_add(1, Relaxed);
        Ok(end)
    }

    /// Walks over the published headers.
    fn end(&self, mut at: Cursor) -> Result<Cursor, Fault> {
        let start = at.tail;
        while let Some(header) = Header::published(self.ring.header(at.tail).load(Acquire)) {
            at = Cursor { tail: at.tail.wrapping_add(header.span()), next: header.item().wrapping_add(1) };
            if at.tail.wrapping_sub(start) > self.ring.capacity() {
                return Err(Fault::Corrupt);
            }
        }
        Ok(at)
    }

    #[inline(always)]
    pub(crate) fn append(&self, at: Cursor, frame: Frame<'_>) -> Result<Put, Fault> {
        if let Some(room) = self.lacks_room(at, frame.length)? {
            return Ok(Put::NoRoom(room));
        }
        self.publish(at, frame);
        Ok(Put::Done)
    }

    /// What would make room for a frame of so many bytes, if there is none.
    #[inline(always)]
    pub(crate) fn lacks_room(&self, at: Cursor, length: usize) -> Result<Option<Room>, Fault> {
        let need = span(length);
        if !self.fits(at, need, self.words.producers.head_seen.load(Relaxed)) {
            let head = self.look_at_head(at)?;
            if !self.fits(at, need, head) {
                return Ok(Some(self.room(at, need)));
            }
        }
        Ok(None)
    }

    /// Room for the frame and for the zero header behind it.
    #[inline(always)]
    pub(crate) fn fits(&self, at: Cursor, need: u64, head: u64) -> bool {
        let used = at.tail.wrapping_sub(head);
        used <= self.ring.capacity() && used + need + HEADER <= self.ring.capacity()
    }

    /// Where consumers are; they cannot have passed the last frame, nor be a whole ring behind it.
    pub(crate) fn look_at_head(&self, at: Cursor) -> Result<u64, Fault> {
        let head = self.head();
        self.words.producers.head_seen.store(head, Relaxed);
        match at.tail.wrapping_sub(head) <= self.ring.capacity() && (at.tail | head) % 8 == 0 {
            true => Ok(head),
            false => Err(Fault::Corrupt),
        }
    }

    pub(crate) fn room(&self, at: Cursor, need: u64) -> Room {
        let capacity = self.ring.capacity();
        let enough = at.tail.wrapping_add(need + HEADER).wrapping_sub(capacity);
        Room { enough, half: enough.max(at.tail.saturating_sub(capacity / 2)) }
    }

    #[inline(always)]
    pub(crate) fn publish(&self, at: Cursor, frame: Frame<'_>) {
        let Producers { tail, next, .. } = &self.words.producers;
        let Frame { flags, prefix, payload, length } = frame;
        let (ring, Cursor { tail: behind, next: number }) = (&self.ring, at.behind(length));
        let header = Header::new(length, flags, processor(), at.next).word();
        ring.prefetch_write(at.tail.wrapping_add(AHEAD));
        ring.prefetch_write(at.tail.wrapping_add(AHEAD + LINE));
        if mutant() != 1 {
            ring.header(behind).store(0, Relaxed);
        }
        if mutant() == 5 {
            ring.header(at.tail).store(header, Release);
        }
        let mut to = at.tail.wrapping_add(HEADER);
        for &word in prefix {
            ring.header(to).store(word, Relaxed);
            to = to.wrapping_add(HEADER);
        }
        ring.write(to, payload);
        ring.header(at.tail).store(header, Release); // the commit
        if mutant() == 3 {
            tail.store(behind, Release);
        }
        next.store(number, Release);
        tail.store(behind, Release); // whoever finds the new tail finds the new number
    }

    /// Whether the bound is reached, and where `head` stood then.
    #[inline(always)]
    pub(crate) fn full(&self, me: &Me, at: Cursor) -> Result<Option<u64>, Fault> {
        if self.bound == 0 {
            return Ok(None);
        }
        let Producers { first_seen, entries, .. } = &self.words.producers;
        let kept_back = if entries.load(Relaxed) == 0 { 0 } else { self.sweep(me) };
        let most = at.next.wrapping_sub(first_seen.load(Relaxed)).saturating_add(kept_back);
        if most < self.bound { Ok(None) } else { self.count_items(at, kept_back) }
    }

    #[inline(never)]
    fn count_items(&self, at: Cursor, kept_back: u32) -> Result<Option<u64>, Fault> {
        let (head, first) = self.oldest(at)?;
        self.words.producers.first_seen.store(first, Relaxed);
        let items = at.next.wrapping_sub(first).saturating_add(kept_back);
        Ok((items >= self.bound).then_some(head))
    }

    /// Position and number of the oldest item before `end`; the end's own if there is none. As long as nobody puts,
    /// no frame is overwritten, so the number is right even if the item is taken meanwhile.
    pub(crate) fn oldest(&self, end: Cursor) -> Result<(u64, u32), Fault> {
        let head = self.head();
        if head == end.tail {
            return Ok((head, end.next));
        }
        let first = Header::published(self.ring.header(head).load(Acquire)).ok_or(Fault::Corrupt)?.item();
        match u64::from(end.next.wrapping_sub(first)) <= self.ring.capacity() / HEADER {
            true => Ok((head, first)),
            false => Err(Fault::Corrupt),
        }
    }

    /// Under the lock: what living processes keep back. Frees the entries of dead ones.
    pub(crate) fn sweep(&self, me: &Me) -> u32 {
        let entries = &self.words.producers.entries;
        let top = (entries.load(Relaxed) as usize).min(ENTRIES);
        let (mut items, mut used) = (0u32, 0);
        for (i, entry) in self.ledger[..top].iter().enumerate() {
            let token = entry.token.load(Relaxed);
            if token != 0 && me.registry().is_dead(token) {
                entry.token.store(0, Relaxed);
            } else if token != 0 {
                items = items.saturating_add(entry.count.load(Relaxed));
                used = i + 1;
            }
        }
        if used != top {
            entries.store(used as u32, Relaxed);
        }
        items
    }

    /// Under the lock: the entry of `token`, a free one if it has none yet.
    fn entry_of(&self, me: &Me, token: u32) -> Option<usize> {
        let find = |wanted| self.ledger.iter().position(|entry| entry.token.load(Relaxed) == wanted);
        if let Some(entry) = find(token) {
            return Some(entry);
        }
        self.sweep(me);
        let entry = find(0)?;
        let entries = &self.words.producers.entries;
        entries.store(entries.load(Relaxed).max(entry as u32 + 1), Relaxed); // first: no entry in use lies above
        self.ledger[entry].count.store(0, Relaxed);
        self.ledger[entry].token.store(token, Release);
        Some(entry)
    }

    /// What living processes keep back, as far as one can see without the lock. With `ask`, /proc is asked about each
    /// of them, for threads whose end the kernel did not mark.
    pub(crate) fn kept_back(&self, me: &Me, ask: bool) -> u32 {
        let top = (self.words.producers.entries.load(Acquire) as usize).min(ENTRIES);
        let registry = me.registry();
        let ended = |token| if ask { registry.has_ended(token) } else { registry.is_dead(token) };
        let living = self.ledger[..top].iter().filter(|entry| {
            let token = entry.token.load(Acquire);
            token != 0 && !ended(token)
        });
        living.fold(0, |sum, entry| sum.saturating_add(entry.count.load(SeqCst)))
    }

    /// The threads whose end makes [`kept_back`](Channel::kept_back) less.
    pub(crate) fn keepers(&self, me: &Me) -> impl Iterator<Item = u32> + '_ {
        let registry = me.registry();
        let top = (self.words.producers.entries.load(Acquire) as usize).min(ENTRIES);
        let keeps = |entry: &&Entry| entry.count.load(Relaxed) > 0;
        let tokens = self.ledger[..top].iter().filter(keeps).map(|entry| entry.token.load(Acquire));
        tokens.filter(move |&token| token != 0 && !registry.is_dead(token))
    }

    /// Where the ring ends; `None` = somebody put meanwhile.
    pub(crate) fn end_at_rest(&self) -> Result<Option<u64>, Fault> {
        let Producers { tail, next, .. } = &self.words.producers;
        let behind = tail.load(Acquire);
        let end = self.end(Cursor { tail: behind, next: next.load(Acquire) });
        if tail.load(Acquire) == behind { Ok(Some(end?.tail)) } else { Ok(None) }
    }

    /// Takes the oldest item into `buffer`, whose content it replaces, if nothing is beside it.
    #[inline(always)]
    pub(crate) fn take(&self, me: &Me, buffer: &mut Vec<u8>) -> Result<Taken, Fault> {
        let mut head = self.head();
        for _ in 0..PATIENCE {
            let header = Header::published(self.ring.header(head).load(Acquire));
            let look_again = header.is_none_or(|header| !header.is_plain_up_to(LONG)) || head % 8 != 0;
            if look_again {
                if let Some(now) = self.moved(head) {
                    head = now;
                    continue;
                }
            }
            let Some(header) = header else { return Ok(Taken::Empty) };
            if look_again && !self.is_sane(head, header) {
                return Err(Fault::Corrupt);
            }
            if look_again && header.flags().has(Flags::HANDLES) {
                return Ok(Taken::Beside);
            }
            buffer.clear();
            self.ring.read(head.wrapping_add(HEADER), header.length(), buffer);
            match self.claim_and_tell(me, head, head.wrapping_add(header.span())) {
                Ok(()) => return Ok(Taken::Item(header.processor())),
                Err(now) => head = now,
            }
        }
        Err(Fault::Corrupt)
    }

    /// A claim, and the news of the room it makes, of which the kernel tells should this thread die between the two.
    #[inline(always)]
    pub(crate) fn claim_and_tell(&self, me: &Me, head: u64, behind: u64) -> Result<(), u64> {
        let room = &self.words.consumers.room;
        me.name(room.word());
        let claim = self.claim(head, behind);
        if claim.is_ok() {
            room.passed(behind, processor());
        }
        me.arm();
        claim
    }

    /// Claim and commit of all that lies between `head` and `behind`; the error is where `head` is now.
    #[inline(always)]
    pub(crate) fn claim(&self, head: u64, behind: u64) -> Result<(), u64> {
        let cursor = &self.words.consumers.head;
        if mutant() == 6 {
            cursor.store(behind, SeqCst);
        } else {
            cursor.compare_exchange(head, behind, SeqCst, Acquire)?;
        }
        complete_barrier();
        Ok(())
    }

    /// Where `head` is now, if it is not there any more.
    #[inline(always)]
    pub(crate) fn moved(&self, head: u64) -> Option<u64> {
        let now = self.head();
        (now != head).then_some(now)
    }

    pub(crate) fn is_sane(&self, head: u64, header: Header) -> bool {
        head % 8 == 0 && header.span() + HEADER <= self.ring.capacity()
    }

    /// The position of the oldest item.
    #[inline(always)]
    pub(crate) fn head(&self) -> u64 {
        self.words.consumers.head.load(Acquire)
    }

    /// Whether there is something to take. May be wrong while others take.
    #[inline(always)]
    pub(crate) fn has_item(&self) -> bool {
        self.ring.header(self.head()).load(Acquire) != 0
    }

    /// Sleeps until there may be something to take, or until it is `over`, at most until `until`.
    pub(crate) fn sleep_for_item(&self, over: impl Fn() -> bool, until: Deadline) -> Woken {
        self.words.producers.bell.sleep(|| self.has_item() || over(), until)
    }

    /// Somebody who was woken passes it on if there is more than it took.
    pub(crate) fn pass_on(&self, me: &Me) {
        let bell = &self.words.producers.bell;
        me.name(bell.word());
        if self.has_item() {
            bell.ring();
        }
        me.arm();
    }

    /// From waking until [`pass_on`](Channel::pass_on) the kernel passes the wake on if this thread dies.
    pub(crate) fn name_wake(&self, me: &Me) {
        me.name(self.words.producers.bell.word());
    }

    /// Sleeps until `head` is at `position` or behind it, or until it is `over`, at most until `until`.
    pub(crate) fn sleep_for_room(&self, position: u64, over: impl Fn() -> bool, until: Deadline) -> Woken {
        self.words.consumers.room.sleep(position, || self.head() >= position || over(), until)
    }

    /// The processor that the last consumer ran on.
    pub(crate) fn consumer(&self) -> u32 {
        self.words.consumers.room.processor()
    }

    /// Items in the ring at one instant.
    ///
    /// A producer that is stopped with the lock stops nobody who counts: `tail` stands still then, and the lock is
    /// not needed. While many put it does not stand still, and the lock is to be had.
    pub(crate) fn len(&self, me: &Me) -> Result<u32, Fault> {
        for _ in 0..LOOKS {
            if let Some(items) = self.len_at_rest() {
                return Ok(items);
            }
            match self.locked(me, Deadline::after(MOMENT), |end| self.items(end)) {
                Err(Fault::TimedOut) => {}
                result => return result,
            }
        }
        Err(Fault::Corrupt)
    }

    /// Items in the ring, if nobody put meanwhile.
    fn len_at_rest(&self) -> Option<u32> {
        let Producers { tail, next, .. } = &self.words.producers;
        let behind = tail.load(Acquire);
        let end = self.end(Cursor { tail: behind, next: next.load(Acquire) }).ok()?;
        let items = self.items(end).ok()?;
        (tail.load(Acquire) == behind).then_some(items)
    }

    fn items(&self, end: Cursor) -> Result<u32, Fault> {
        Ok(end.next.wrapping_sub(self.oldest(end)?.1))
    }
}

//! What clients and the server say to each other, byte by byte.
//!
//! ```text
//! request   0 u8 op | 1 3 bytes 0 | 4 u32 thread of the client | 8 u64 object | 16 arguments, as the op has them
//! answer    0 u8 answer | 1 what the answer to that op has
//!
//! number    u64, little end first; an index is an i64
//! time      number: nanoseconds that the call may wait; the largest = for ever, 0 = not at all
//! bytes     u32 length | bytes
//! value     u32 number of references | u32 length | references, each an object's number | bytes, which name a reference by its place
//! many      u32 count | the elements
//! ```
//!
//! A client asks, and waits for the answer; only then it may ask again on the same link. [`Op::Release`] has no answer. The
//! grammar is closed: what does not fit it ends the link, and nothing in it takes memory before it is there.

use std::time::Duration;

use ipc_sync::Deadline;

/// The version of this file. Both sides must have the same.
pub(super) const VERSION: u32 = 1;

/// Bytes before the arguments of a request.
pub(super) const HEADER: usize = 16;

/// Most requests of a batch.
pub(super) const MAX_BATCH: u32 = 65_536;

/// Most bytes of a name.
pub(super) const MAX_NAME: usize = 1024;

/// The name of an object: its number, never used twice by one server.
pub(super) type ObjectId = u64;

macro_rules! codes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        $vis enum $name { $($(#[$doc])* $variant = $code,)* }

        impl $name {
            pub(in crate::manager) fn of(code: u8) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// What a client can ask for: `arguments -> what Done has`. Those with a time may wait.
    pub(in crate::manager) enum Op {
        // Links and objects.
        /// The first request of a link: version as a number, session or 0, secret of that session (16 bytes) ->
        /// instance of the server (16 bytes), session, its secret (16 bytes), bytes of the largest message it takes,
        /// links at most. Nothing = there is no such session.
        Hello = 1,
        /// What a new object of a [`Kind`] is made of: u8 kind, name as bytes (empty = none), arguments of the kind. The
        /// one with that name, if there is one -> its number. The session has a reference to it.
        Create = 2,
        /// One more reference of this session to the object.
        Retain = 3,
        /// One reference of this session less. Never answered.
        Release = 4,
        /// A reference on its way to another session, for so many nanoseconds -> ticket, a number.
        Lend = 5,
        /// Ticket of the object. The reference is this session's now.
        Claim = 6,
        /// Name as bytes. The name is free again; the object goes with its last reference.
        Remove = 7,
        /// -> many of: name as bytes, u8 kind, object.
        Names = 8,
        /// Many requests to objects without waiting ones, each as bytes with its header -> many answers, each as bytes. A
        /// release in it is answered Done. Nothing of another client comes between.
        Batch = 9,
        /// -> [`Statistics`](super::Statistics), as the codec has them.
        Statistics = 10,
        /// Absolute path as bytes, from the user of the server only. All named data to a file there.
        Save = 11,
        /// Absolute path as bytes, likewise. -> number of names that came.
        Load = 12,
        /// The server ends when this is answered.
        Shutdown = 13,
        /// Whoever asked the request before this one on the same link listens no longer, for its time was up by its own
        /// clock. If it still waits it is given up, without an answer; if it was answered, what it gave comes back:
        /// a lock, a permit, an item. The answer is Abandoned, by which the client finds the end of what was too late.
        Abandon = 14,
        /// u8 kind, name as bytes: the object of that name -> its number. The session has a reference to it. NoSuchName,
        /// OtherKind.
        Open = 15,

        // Dict, Namespace.
        /// key as bytes -> value; Nothing.
        MapGet = 32,
        /// key, value.
        MapSet = 33,
        /// key, value -> the former value; Nothing.
        MapInsert = 34,
        /// key, value -> the value that was there and stays; Nothing = it was inserted.
        MapInsertIfAbsent = 35,
        /// key -> the value it had; Nothing.
        MapRemove = 36,
        /// -> key, value of the entry that was inserted last; Nothing.
        MapPopLast = 37,
        /// key; Done or Nothing.
        MapContains = 38,
        /// -> number.
        MapLen = 39,
        MapClear = 40,
        /// many of: key, value. All of them at once.
        MapExtend = 41,
        /// key, u8 what is expected (0 no entry, 1 value), [value], u8 what is new (0 no entry, 1 value), [value]; Done,
        /// or Differs -> u8 what is there, [value].
        MapCompareExchange = 42,
        /// key, u8 integer type ([`Integer`]), its bytes (16, sign extended) -> the former integer in 16 bytes; wraps.
        /// No such key counts as 0. Differs = the value there is no such integer.
        MapAdd = 43,
        /// place of the page before (0 = the first), u8 what (1 keys, 2 values, 3 both), most bytes -> place for the next
        /// page (0 = this was the last), many of: [key], [value]. Each entry that lives throughout is in exactly one page.
        MapPage = 44,

        // List, Array, Value (a list of one). An index below 0 counts from the end.
        /// index -> value. OutOfRange.
        ListGet = 64,
        /// index, value.
        ListSet = 65,
        /// value.
        ListPush = 66,
        /// index, value. As Python's: an index beyond an end is that end.
        ListInsert = 67,
        /// many values.
        ListExtend = 68,
        /// index -> value. OutOfRange.
        ListPop = 69,
        /// value: the first equal one goes; Nothing = there is none.
        ListRemove = 70,
        /// value, start, stop -> index; Nothing.
        ListIndex = 71,
        /// value -> number.
        ListCount = 72,
        ListReverse = 73,
        ListLen = 74,
        ListClear = 75,
        /// start, stop, most bytes -> version, index after the last, length of the list, many values.
        ListPage = 76,
        /// version, start, stop, many values: these instead of those; Differs = the list has changed since that version.
        /// Version 0 = whatever it is.
        ListSplice = 77,
        /// index, expected value, new value; Done, or Differs -> value.
        ListCompareExchange = 78,
        /// index, as MapAdd. OutOfRange = no such index.
        ListAdd = 79,

        // Queue, JoinableQueue.
        /// time, value; TimedOut (full), Closed.
        QueuePut = 96,
        /// time -> value; TimedOut (empty), Closed.
        QueueGet = 97,
        /// -> items, bound (0 = none), unfinished, abandoned; u8 1 = shut down.
        QueueState = 98,
        /// OutOfRange = this session has taken no item that is not done.
        QueueTaskDone = 99,
        /// time; TimedOut.
        QueueJoin = 100,
        /// u8 1 = what is in it goes. No more puts; gets end with Closed when it is empty. -> number that went.
        QueueShutdown = 101,
        /// many values -> number of them, the first ones, that there was room for. Closed.
        QueuePutMany = 102,
        /// most items -> many values, none if there is none. Closed.
        QueueGetMany = 103,

        // Lock, RLock; what is done to a condition goes to its lock, with the number of the condition.
        /// time -> u8 1 = an owner died. TimedOut, Deadlock, OutOfRange = too many levels.
        LockAcquire = 112,
        /// u8 1 = in a panic: what it guards may be half written. NotHeld.
        LockRelease = 113,
        /// -> u8 1 = somebody has it.
        LockIsLocked = 114,
        /// The owner says that what the lock guards is whole again. NotHeld.
        LockMarkConsistent = 115,
        /// condition, time -> u8 1 = notified, 0 = time was up; u8 1 = an owner of the lock died. The lock is the caller's
        /// again either way. NotHeld.
        ConditionWait = 116,
        /// condition, number of waiters to wake -> number that were woken.
        ConditionNotify = 117,
        /// To the condition itself. -> the object that is its lock.
        ConditionLock = 118,

        // Semaphore, Event, Barrier.
        /// time; TimedOut.
        SemaphoreAcquire = 128,
        /// u8 1 = a permit that this session has (NotHeld), 0 = one more (OutOfRange = there are as many as may be).
        SemaphoreRelease = 129,
        /// A permit that this session has is nobody's: only a release makes up for it. NotHeld.
        SemaphoreForget = 130,
        /// -> permits to take, most that there may be.
        SemaphoreValue = 131,
        EventSet = 132,
        EventClear = 133,
        /// -> u8.
        EventIsSet = 134,
        /// time; TimedOut.
        EventWait = 135,
        /// time -> index of the caller. Broken -> u8 [`Breach`], u32 pid of who died or 0. A time that is up breaks it: TimedOut.
        BarrierWait = 136,
        BarrierAbort = 137,
        /// u8 1 = only if it is broken; Done, or Nothing = it was not.
        BarrierReset = 138,
        /// -> parties, number waiting; u8 broken.
        BarrierState = 139,
    }
}

codes! {
    /// What the server says to a request.
    pub(in crate::manager) enum Answer {
        /// It is done; what follows is what the op has.
        Done = 0,
        /// There is no such key, element, entry.
        Nothing = 1,
        TimedOut = 2,
        /// There is no such object here (any more).
        Gone = 3,
        /// The object is of another kind, which does not have the op; u8 its kind follows.
        OtherKind = 4,
        /// There is no such name.
        NoSuchName = 5,
        /// A budget is used up; u8 [`Budget`] follows.
        Exhausted = 6,
        OutOfRange = 7,
        /// What is there is not what was expected.
        Differs = 8,
        NotHeld = 9,
        Deadlock = 10,
        Broken = 11,
        Closed = 12,
        /// The server could not; a text follows as bytes.
        Failed = 13,
        /// To [`Op::Abandon`], and to nothing else.
        Abandoned = 14,
    }
}

codes! {
    /// What an object is. Arguments of [`Op::Create`] behind it.
    pub(in crate::manager) enum Kind {
        Dict = 1,
        List = 2,
        /// A dict with text keys and values of any types.
        Namespace = 3,
        /// Value, which is a list of one. It is there only if the object is new.
        Value = 4,
        /// Many values: a list whose length stays.
        Array = 5,
        /// Bound; 0 = none.
        Queue = 6,
        /// Bound; 0 = none.
        JoinableQueue = 7,
        Lock = 8,
        RLock = 9,
        /// Object: the lock that it belongs to.
        Condition = 10,
        /// Permits, u8 1 = bounded.
        Semaphore = 11,
        Event = 12,
        /// Parties.
        Barrier = 13,
    }
}

codes! {
    /// What a client has only so much of.
    pub enum Budget {
        /// Bytes of values that it stored.
        Bytes = 1,
        /// Objects that it has references to.
        Objects = 2,
        /// Calls of it that wait.
        Waiting = 3,
        /// Links of one session.
        Links = 4,
    }
}

codes! {
    /// What broke a barrier.
    pub(in crate::manager) enum Breach {
        /// A party was cut off while it waited, mostly because it died.
        Died = 1,
        TimedOut = 2,
        Aborted = 3,
        Reset = 4,
    }
}

codes! {
    /// The integer that an Add adds to, as the codec stores it.
    pub(in crate::manager) enum Integer {
        U8 = 1,
        U16 = 2,
        U32 = 3,
        U64 = 4,
        U128 = 5,
        I8 = 6,
        I16 = 7,
        I32 = 8,
        I64 = 9,
        I128 = 10,
    }
}

impl Kind {
    /// Whether objects of this kind answer `op`.
    #[inline]
    pub(super) fn has(self, op: Op) -> bool {
        match op as u8 {
            32..64 => matches!(self, Kind::Dict | Kind::Namespace),
            64..96 => self == Kind::List || matches!(self, Kind::Value | Kind::Array) && op.keeps_length(),
            96..99 | 101..104 => matches!(self, Kind::Queue | Kind::JoinableQueue),
            99 | 100 => self == Kind::JoinableQueue,
            112..118 => matches!(self, Kind::Lock | Kind::RLock),
            118..128 => self == Kind::Condition,
            128..132 => self == Kind::Semaphore,
            132..136 => self == Kind::Event,
            136.. => self == Kind::Barrier,
            _ => false,
        }
    }

    /// Whether calls of it may wait, or hold something that ends with their client.
    #[inline]
    pub(super) fn has_stakes(self) -> bool {
        !matches!(self, Kind::Dict | Kind::Namespace | Kind::List | Kind::Value | Kind::Array)
    }
}

impl Op {
    /// Whether a list is as long after it as it was before. A splice is asked itself.
    fn keeps_length(self) -> bool {
        !matches!(
            self,
            Op::ListPush | Op::ListInsert | Op::ListExtend | Op::ListPop | Op::ListRemove | Op::ListClear
        )
    }

    /// Whether it has a time.
    #[inline]
    pub(super) fn may_wait(self) -> bool {
        matches!(
            self,
            Op::QueuePut
                | Op::QueueGet
                | Op::QueueJoin
                | Op::LockAcquire
                | Op::ConditionWait
                | Op::SemaphoreAcquire
                | Op::EventWait
                | Op::BarrierWait
        )
    }
}

/// The message is not of the grammar: whoever sent it is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A value inside a message: bytes that only clients understand, and the objects that they refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueRef<'a> {
    references: &'a [u8],
    pub(super) bytes: &'a [u8],
}

impl<'a> ValueRef<'a> {
    pub(super) fn references(&self) -> impl ExactSizeIterator<Item = ObjectId> + use<'a> {
        self.references.chunks_exact(8).map(|id| u64::from_le_bytes(id.try_into().unwrap_or_default()))
    }

    /// These bytes, and no objects.
    pub(super) fn plain(bytes: &'a [u8]) -> ValueRef<'a> {
        ValueRef { references: &[], bytes }
    }

    /// What it takes in a message.
    pub(super) fn size(&self) -> usize {
        8 + self.references.len() + self.bytes.len()
    }
}

/// Reads a message from its front. Everything it answers lies in the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Reader<'a> {
        Reader(message)
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn index(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Result<Deadline, Malformed> {
        Ok(match self.number()? {
            0 => Deadline::NOW,
            u64::MAX => Deadline::NEVER,
            nanoseconds => Deadline::after(Duration::from_nanos(nanoseconds)),
        })
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    #[inline]
    pub(super) fn value(&mut self) -> Result<ValueRef<'a>, Malformed> {
        let (count, length) = (self.u32()? as usize, self.u32()? as usize);
        let references = self.take(count.checked_mul(8).ok_or(Malformed)?)?;
        Ok(ValueRef { references, bytes: self.take(length)? })
    }

    /// The end must be here.
    #[inline]
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// What is left, all of it.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Writes a message to its end.
pub(super) trait Write {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    #[inline]
    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    #[inline]
    fn put_number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    #[inline]
    fn put_index(&mut self, index: i64) {
        self.put(&index.to_le_bytes());
    }

    fn put_time(&mut self, deadline: Deadline) {
        self.put_number(match deadline.remaining() {
            None => u64::MAX,
            Some(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        });
    }

    /// Bytes of at most 4 GiB: messages are shorter.
    #[inline]
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(bytes.len() as u32);
        self.put(bytes);
    }

    #[inline]
    fn put_value(&mut self, references: &[ObjectId], bytes: &[u8]) {
        self.put_u32(references.len() as u32);
        self.put_u32(bytes.len() as u32);
        references.iter().for_each(|id| self.put_number(*id));
        self.put(bytes);
    }
}

impl Write for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What stands in front of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) op: Op,
    /// The thread that asks, as its process numbers it; reentrant locks belong to one.
    pub(super) thread: u32,
    /// 0 = none.
    pub(super) object: ObjectId,
}

impl Header {
    #[inline]
    pub(super) fn write(self, message: &mut Vec<u8>) {
        message.put(&[self.op as u8, 0, 0, 0]);
        message.put_u32(self.thread);
        message.put_number(self.object);
    }

    #[inline]
    pub(super) fn read(message: &mut Reader<'_>) -> Result<Header, Malformed> {
        let [op, 0, 0, 0] = message.array()? else { return Err(Malformed) };
        let op = Op::of(op).ok_or(Malformed)?;
        Ok(Header { op, thread: message.u32()?, object: message.number()? })
    }
}

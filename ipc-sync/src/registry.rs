//! Who is alive: a table of thread slots in shared memory, which the kernel marks when a thread ends.
//!
//! Ownership anywhere is a *token*: a slot and its generation, never a PID. On its first use of any primitive a
//! thread names the live word of a free slot in its robust list (see `robust`) and then puts its TID into it: from that
//! instruction on the kernel marks the word when the thread ends, after its last write. No helper thread is
//! needed, and no process can forget to say that it died.
//!
//! ```text
//! body of the segment
//!   0   4  next: where the search for a free slot goes on (a hint)
//!   4   4  rescues: sleepers that only their backstop woke; 0 unless a wake was lost
//!   8 120  padding
//! 128   …  16384 slots of 32 bytes:
//!          0  4  live    state of the slot, see below
//!          4  4  pid
//!          8  8  stamp   generation | check << 32; stored after the rest of the slot
//!         16  8  start   when the thread started, clock ticks since boot
//!         24  4  tid     | UNMARKED: the kernel will not mark this slot
//!         28  4  namespace  inode of the PID namespace of pid and tid
//!
//! live word            bits 0..30 TID   30 OWNER_DIED   31 WAITERS
//! 0                    never used
//! TID                  held; the fields below are being written, or are right (then the stamp fits them)
//! TID | WAITERS        held; somebody sleeps on this word and must be woken when it changes
//! OWNER_DIED (| WAITERS)  the thread has ended; the slot is free
//! anything else        damaged: nobody concludes anything from it
//! ```

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ipc_shm::{Cells, CreateError, HeaderError, Kind, NameError, OpenError, Segment, View, random_id};

use crate::Deadline;
use crate::futex::{self, Woken};
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*};
use crate::process::{Identity, geteuid, watch_forks};
use crate::robust::Pending;

/// Set in every token, so that a token is never a TID (TIDs end at 2^22).
const OWNED: u32 = 1 << 29;
const SLOT_BITS: u32 = 14;
const GENERATION_BITS: u32 = 15;
const SLOTS: usize = 1 << SLOT_BITS;

/// All bits that a token may have.
pub(crate) const TOKEN: u32 = OWNED | (OWNED - 1);

const DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// How long one sleeps beside an owner whose end nobody will mark.
const SLICE: Duration = Duration::from_millis(20);

/// In `tid`: no robust list, the kernel will not mark this slot.
const UNMARKED: u32 = 1 << 31;

const KIND: Kind = Kind::new(*b"REGI", "registry 1: next u32, rescues u32, 16384 slots of 32 at 128");
const SLOTS_AT: usize = 128;

#[repr(C)]
struct Slot {
    live: AtomicU32,
    pid: AtomicU32,
    stamp: AtomicU64,
    start: AtomicU64,
    tid: AtomicU32,
    namespace: AtomicU32,
}

#[repr(C)]
struct Counters {
    next: AtomicU32,
    rescues: AtomicU32,
}

mod cells {
    //! Promises about the structures above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::Slot {}
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::Counters {}
}

impl Slot {
    fn identity(&self) -> Identity {
        Identity {
            namespace: self.namespace.load(Relaxed),
            pid: self.pid.load(Relaxed),
            tid: self.tid.load(Relaxed) & !UNMARKED,
            start: self.start.load(Relaxed),
        }
    }

    /// Whether `stamp` was made for the fields as they stand.
    fn fits(&self, stamp: u64) -> bool {
        stamp == make_stamp(stamp as u32, self.identity())
    }
}

/// Generation and, above it, a sum over it and the identity: a slot that was written over does not fit its stamp.
fn make_stamp(generation: u32, identity: Identity) -> u64 {
    let Identity { namespace, pid, tid, start } = identity;
    let mixed = [u64::from(generation), u64::from(namespace), u64::from(pid), u64::from(tid), start]
        .into_iter()
        .fold(0x9e37_79b9_7f4a_7c15u64, |sum, field| {
            (sum ^ field).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(29)
        });
    u64::from(generation) | mixed >> 32 << 32
}

/// What a look at the owner of a token found.
pub(crate) enum Owner<'a> {
    /// It lives; `live` holds `seen`, and changes when it ends.
    Alive { live: &'a AtomicU32, seen: u32 },
    /// It lived when last asked, and nobody will mark its end: ask again, do not sleep long.
    Unmarked,
    /// It ended.
    Dead,
    /// The slot is being written, or was written over: wait a little, and give up if it stays so.
    Unclear,
}

/// Why this thread cannot take part: no slot, no registry.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegistryError {
    /// All 16384 slots belong to living threads.
    Full,
    /// The registry's file is not one, or belongs to another version.
    Header(Box<HeaderError>),
    /// The registry's memory could not be made or found.
    Io(io::Error),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::Full => f.write_str("all thread slots of the registry are taken"),
            RegistryError::Header(error) => write!(f, "registry of processes: {error}"),
            RegistryError::Io(error) => write!(f, "registry of processes: {error}"),
        }
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RegistryError::Full => None,
            RegistryError::Header(error) => Some(&**error),
            RegistryError::Io(error) => Some(error),
        }
    }
}

impl From<HeaderError> for RegistryError {
    fn from(error: HeaderError) -> Self {
        RegistryError::Header(Box::new(error))
    }
}

impl From<io::Error> for RegistryError {
    fn from(error: io::Error) -> Self {
        RegistryError::Io(error)
    }
}

/// The table that this process uses, mapped until it ends: the kernel may write to it until then.
pub struct Registry {
    segment: Segment,
    counters: View<Counters>,
    slots: View<[Slot; SLOTS]>,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

impl Registry {
    /// The registry of this process; found by its name or made at the first call.
    ///
    /// # Errors
    ///
    /// It can be neither found nor made, see [`RegistryError`].
    pub fn get() -> Result<&'static Registry, RegistryError> {
        match REGISTRY.get() {
            Some(registry) => Ok(registry),
            None => Registry::start(open_or_create()?),
        }
    }

    /// Uses the registry behind `descriptor`, which came from the process that started this one.
    ///
    /// # Errors
    ///
    /// It is not a registry, or this process uses another one already.
    pub fn adopt(descriptor: Arc<OwnedFd>) -> Result<&'static Registry, RegistryError> {
        let segment = Segment::check(ipc_shm::Mapping::of(descriptor)?, KIND)?;
        let id = segment.registry();
        let registry = Registry::start(segment)?;
        if registry.id() == id { Ok(registry) } else { Err(HeaderError::ForeignRegistry.into()) }
    }

    fn start(segment: Segment) -> Result<&'static Registry, RegistryError> {
        let too_short = |_| HeaderError::TooShort { size: segment.size() as u64, need: BODY as u64 };
        let counters = segment.view(0).map_err(too_short)?;
        let slots = segment.view(SLOTS_AT).map_err(too_short)?;
        watch_forks(forget_this_thread);
        Ok(REGISTRY.get_or_init(|| Registry { segment, counters, slots }))
    }

    /// 128 random bits; tokens mean nothing beside another registry.
    pub fn id(&self) -> u128 {
        self.segment.registry()
    }

    /// What a new process must be given to [`adopt`](Registry::adopt).
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        self.segment.mapping().descriptor()
    }

    /// How many sleepers were only woken by their backstop, in all processes of this registry.
    pub fn rescues(&self) -> u32 {
        self.counters.rescues.load(Relaxed)
    }

    /// A sleeper was only woken by its backstop.
    #[cold]
    pub fn count_rescue(&self) {
        self.counters.rescues.fetch_add(1, Relaxed);
    }

    /// The process that holds `token`, as long as its slot was not used again.
    pub fn pid_of(&self, token: u32) -> Option<u32> {
        let slot = self.slot(token);
        let stamp = slot.stamp.load(Acquire);
        (token_of(token as usize % SLOTS, stamp as u32) == token && slot.fits(stamp))
            .then(|| slot.pid.load(Relaxed))
    }

    /// Whether the thread that holds `token` has ended.
    pub fn is_dead(&self, token: u32) -> bool {
        match self.look(token) {
            Owner::Dead => true,
            Owner::Alive { .. } | Owner::Unclear => false,
            Owner::Unmarked => self.ask(token),
        }
    }

    /// As [`is_dead`](Registry::is_dead), but asks /proc too: the kernel does not mark a thread that named another word
    /// when it ended. For those who found it alive and would give up.
    #[cold]
    pub fn has_ended(&self, token: u32) -> bool {
        self.is_dead(token) || self.ask(token)
    }

    fn slot(&self, token: u32) -> &Slot {
        &self.slots[token as usize % SLOTS]
    }

    /// What the table says of the owner of `token`. The slot's live word is read before its stamp: whoever
    /// claims a slot writes them in the other order.
    pub(crate) fn look(&self, token: u32) -> Owner<'_> {
        if token & OWNED == 0 || token & !TOKEN != 0 {
            return Owner::Unclear;
        }
        let slot = self.slot(token);
        let seen = slot.live.load(SeqCst);
        let stamp = slot.stamp.load(SeqCst);
        let same = token_of(token as usize % SLOTS, stamp as u32) == token;
        match seen & !WAITERS {
            _ if !slot.fits(stamp) => Owner::Unclear,
            _ if !same => Owner::Dead, // the slot was used again
            DIED => Owner::Dead,
            tid if tid != slot.tid.load(Relaxed) & !UNMARKED => Owner::Unclear,
            _ if slot.tid.load(Relaxed) & UNMARKED != 0 => Owner::Unmarked,
            _ => Owner::Alive { live: &slot.live, seen },
        }
    }

    /// Sleeps on `word` and on the owner of `token` together, until one of them changes or `until` comes.
    pub(crate) fn sleep(&self, word: (&AtomicU32, u32), token: u32, until: Deadline) -> Woken {
        match self.look(token) {
            Owner::Dead => Woken::Look,
            Owner::Alive { live, seen } => self.sleep_on_both(word, token, (live, seen), until),
            Owner::Unmarked | Owner::Unclear => {
                match futex::wait(word.0, word.1, until.min(Deadline::after(SLICE))) {
                    Woken::TimedOut if !until.has_passed() => Woken::Look,
                    woken => woken,
                }
            }
        }
    }

    fn sleep_on_both(
        &self,
        word: (&AtomicU32, u32),
        token: u32,
        live: (&AtomicU32, u32),
        until: Deadline,
    ) -> Woken {
        let (live, seen) = live;
        let watched = seen | WAITERS;
        if seen != watched && live.compare_exchange(seen, watched, SeqCst, Relaxed).is_err() {
            return Woken::Look;
        }
        // The slot may have got a new owner before our bit was there to tell it of us.
        if !matches!(self.look(token), Owner::Alive { .. }) {
            return Woken::Look;
        }
        let woken = futex::wait_two(word, (live, watched), until);
        if woken == Woken::Second {
            futex::wake_all(live); // the kernel woke only us
        }
        woken
    }

    /// Asks /proc whether the owner of `token` has ended, and marks its slot if so: for threads whose word the
    /// kernel did not mark, because they have no robust list or it named another word at that instant.
    #[cold]
    pub fn ask(&self, token: u32) -> bool {
        let slot = self.slot(token);
        let stamp = slot.stamp.load(SeqCst);
        let seen = slot.live.load(SeqCst);
        if token_of(token as usize % SLOTS, stamp as u32) != token || !slot.fits(stamp) {
            return false;
        }
        let dead = slot.identity().is_alive() == Some(false);
        if dead && seen & DIED == 0 {
            let _ = slot.live.compare_exchange(seen, DIED | seen & WAITERS, SeqCst, Relaxed);
            futex::wake_all(&slot.live);
        }
        dead
    }

    /// Takes a slot for this thread.
    fn register(&'static self, pending: Pending, marked: bool) -> Result<Me, RegistryError> {
        let identity = Identity::of_this_thread();
        let token = self.take_slot(pending, identity, marked).or_else(|| {
            self.bury();
            self.take_slot(pending, identity, marked)
        });
        let Some(token) = token else {
            pending.set(0);
            return Err(RegistryError::Full);
        };
        Ok(Me { pending, entry: pending.entry(&self.slot(token).live), token, not_send: PhantomData })
    }

    fn take_slot(&self, pending: Pending, identity: Identity, marked: bool) -> Option<u32> {
        (0..SLOTS).find_map(|_| {
            let index = self.counters.next.fetch_add(1, Relaxed) as usize % SLOTS;
            let slot = &self.slots[index];
            let free = slot.live.load(Relaxed);
            if free != 0 && free & !WAITERS != DIED {
                return None;
            }
            pending.set(pending.entry(&slot.live)); // before the slot is ours: a kill from here on marks it
            let taken = slot.live.compare_exchange(free, identity.tid, SeqCst, Relaxed).is_ok();
            taken.then(|| claim(slot, index, identity, marked))
        })
    }

    /// Marks the slots of all threads that ended without a mark.
    #[cold]
    fn bury(&self) {
        for (index, slot) in self.slots.iter().enumerate() {
            self.ask(token_of(index, slot.stamp.load(Relaxed) as u32));
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("id", &format_args!("{:032x}", self.id())).finish_non_exhaustive()
    }
}

/// Fills a slot whose live word holds our TID. The stamp comes last; then the live word drops the WAITERS bit of
/// those who still wait for the former owner, so that none of them falls asleep on it, and they are woken.
fn claim(slot: &Slot, index: usize, identity: Identity, marked: bool) -> u32 {
    slot.pid.store(identity.pid, Relaxed);
    slot.start.store(identity.start, Relaxed);
    slot.tid.store(identity.tid | if marked { 0 } else { UNMARKED }, Relaxed);
    slot.namespace.store(identity.namespace, Relaxed);
    let generation = (slot.stamp.load(Relaxed) as u32).wrapping_add(1);
    slot.stamp.store(make_stamp(generation, identity), SeqCst);
    slot.live.swap(identity.tid, SeqCst);
    futex::wake_all(&slot.live);
    token_of(index, generation)
}

fn token_of(slot: usize, generation: u32) -> u32 {
    OWNED | (generation & ((1 << GENERATION_BITS) - 1)) << SLOT_BITS | slot as u32
}

const BODY: usize = SLOTS_AT + SLOTS * size_of::<Slot>();

/// Every process of this user finds the same registry by its name, which stays: the next program starts faster, and
/// no slot is lost, for the dead are marked. Where the name cannot be had, /dev/shm missing or the name squatted,
/// the registry is anonymous and reaches children only.
fn open_or_create() -> Result<Segment, RegistryError> {
    let id = random_id()?;
    match Segment::named(&name(), KIND, BODY, id) {
        Ok((segment, _)) => Ok(segment),
        Err(NameError::Create(CreateError::Io(error)) | NameError::Open(OpenError::Io(error))) => {
            Err(error.into())
        }
        Err(_) => Ok(Segment::create(c"registry", KIND, BODY, id)?),
    }
}

/// The user and the layout stand in the name: other users and other versions have registries of their own.
fn name() -> String {
    format!("multiprocess-registry-{}-{:016x}", geteuid(), KIND.layout)
}

/// This thread as the registry knows it: its token, and where it tells the kernel what to look at.
#[derive(Debug, Clone, Copy)]
pub struct Me {
    pending: Pending,
    /// Names our live word.
    entry: usize,
    token: u32,
    /// It points into this thread's control block.
    not_send: PhantomData<*const ()>,
}

thread_local! {
    static ME: Cell<Me> = const { Cell::new(Me::NOBODY) };
}

impl Me {
    const NOBODY: Me = Me { pending: Pending::NOWHERE, entry: 0, token: 0, not_send: PhantomData };

    /// This thread, entered into the registry at its first call.
    ///
    /// # Errors
    ///
    /// There is no registry or no free slot in it.
    #[inline(always)]
    pub fn get() -> Result<Me, RegistryError> {
        let mut me = ME.get();
        if me.token == 0 {
            me = enter()?;
        }
        Ok(me) // one way out, so that the fields stay in registers
    }

    /// What stands for this thread in a word that somebody owns.
    #[inline(always)]
    pub fn token(&self) -> u32 {
        self.token
    }

    /// The registry that gave the token.
    pub fn registry(&self) -> &'static Registry {
        REGISTRY.get().expect("a thread has a token from the registry only")
    }

    /// Has the kernel mark our live word if this thread ends. So it is already, unless somebody else used the list: a
    /// pthread robust mutex clears it.
    #[inline(always)]
    pub fn arm(&self) {
        self.pending.set(self.entry);
    }

    /// Has the kernel ring `bell` instead if this thread ends: its TID bits are zero, so one sleeper is woken.
    #[inline(always)]
    pub fn name(&self, bell: &AtomicU32) {
        self.pending.set(self.pending.entry(bell));
    }
}

/// The token of this thread as far as it has one: a forked child has none, whatever its parent held.
#[inline(always)]
pub(crate) fn current_token() -> u32 {
    ME.get().token
}

#[cold]
#[inline(never)]
fn enter() -> Result<Me, RegistryError> {
    let (pending, marked) = Pending::of_this_thread();
    let me = Registry::get()?.register(pending, marked)?;
    ME.set(me);
    Ok(me)
}

/// In a forked child: the copied slot is the parent's.
fn forget_this_thread() {
    let me = ME.replace(Me::NOBODY);
    if me.token != 0 {
        me.pending.set(0);
    }
}

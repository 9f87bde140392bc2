//! Who is alive: a table of thread slots in shared memory, which the kernel marks when a thread ends.
//!
//! Ownership anywhere is a *token*: a slot and its generation, never a PID. On its first use of any primitive a
//! thread names the live word of a free slot in its robust list (see `robust`) and then puts its TID into it: from that
//! instruction on the kernel marks the word when the thread ends, after its last write. No helper thread is
//! needed, and no process can forget to say that it died.
//!
//! ```text
//! body of the segment
//!   0   4  next     where the search for a free slot goes on (a hint)
//!   4   4  rescues  sleepers that only their backstop woke; 0 unless a wake was lost
//!   8 120  padding
//! 128   …  16384 slots of 32 bytes, see `slot`
//! ```

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ipc_shm::{Cells, CreateError, HeaderError, Kind, NameError, OpenError, Segment, View, random_id};

use crate::futex::{self, Woken};
use crate::me::forget_this_thread;
use crate::primitive::{AtomicU32, Ordering::*, full_fence};
use crate::process::{Identity, geteuid, watch_forks};
use crate::robust::Pending;
pub(crate) use crate::slot::{Owner, TOKEN};
use crate::slot::{SLOTS, Slot, WAITERS, index_of, is_token};
use crate::{Bell, Deadline};

/// How long one sleeps beside an owner whose end nobody will mark.
const SLICE: Duration = Duration::from_millis(20);

const KIND: Kind = Kind::new(*b"REGI", "registry 1: next u32, rescues u32, 16384 slots of 32 at 128");
const SLOTS_AT: usize = 128;
const BODY: usize = SLOTS_AT + SLOTS * size_of::<Slot>();

#[repr(C)]
struct Counters {
    next: AtomicU32,
    rescues: AtomicU32,
}

mod cells {
    //! The promise about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), atomic integers only.
    unsafe impl super::Cells for super::Counters {}
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

/// Whether one can sleep beside an owner.
enum Watch<'a> {
    /// On this word as long as it holds this.
    On(&'a AtomicU32, u32),
    /// Nobody will mark its end: not for long.
    Blind,
    /// Something has changed: no.
    Over,
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
        Some(self.slot(token).identity_of(token)?.pid)
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

    /// Whether the owner of `token`, a thread that has ended, took its process along. So it counts too if that is of
    /// another PID namespace, or if the slot was used again: nobody can tell.
    #[cold]
    pub fn process_ended_too(&self, token: u32) -> bool {
        let lives_on = |owner: Identity| !owner.is_main() && owner.process_is_alive() == Some(true);
        !self.slot(token).identity_of(token).is_some_and(lives_on)
    }

    /// Whether the owner of `token` has ended, or its process is about to.
    #[cold]
    pub(crate) fn is_lost(&self, token: u32) -> bool {
        let ends = |owner: Identity| owner.process_is_alive() == Some(false);
        self.has_ended(token) || self.slot(token).identity_of(token).is_some_and(ends)
    }

    /// Whether the owner of `token` is a thread of this process.
    pub fn is_of_this_process(&self, token: u32) -> bool {
        self.slot(token).identity_of(token).is_some_and(Identity::is_of_this_process)
    }

    fn slot(&self, token: u32) -> &Slot {
        &self.slots[index_of(token)]
    }

    /// What the table says of the owner of `token`.
    pub(crate) fn look(&self, token: u32) -> Owner<'_> {
        if is_token(token) { self.slot(token).look(token) } else { Owner::Unclear }
    }

    /// Sleeps on `word` and on the owner of `token` together, until one of them changes or `until` comes.
    pub(crate) fn sleep(&self, word: (&AtomicU32, u32), token: u32, until: Deadline) -> Woken {
        self.sleep_any(word, [token], until)
    }

    /// Sleeps on `word` and on the owners of all `tokens` together, 126 at most, until one of them changes or `until` comes.
    /// Does not sleep if one of them is dead.
    pub fn sleep_any(
        &self,
        word: (&AtomicU32, u32),
        tokens: impl IntoIterator<Item = u32>,
        until: Deadline,
    ) -> Woken {
        let mut words = [word; futex::WORDS];
        let (mut count, mut round) = (1, until);
        for token in tokens.into_iter().take(futex::WORDS - 1) {
            match self.watch(token) {
                Watch::Over => return Woken::Look,
                Watch::Blind => round = until.min(Deadline::after(SLICE)),
                Watch::On(live, watched) => {
                    words[count] = (live, watched);
                    count += 1;
                }
            }
        }
        match futex::wait_any(&words[..count], round) {
            Woken::TimedOut if round != until => Woken::Look,
            Woken::Other(index) => {
                futex::wake_all(words[index].0); // the kernel woke only us
                Woken::Other(index)
            }
            woken => woken,
        }
    }

    /// Sleeps until `bell` is rung, the owner of one of the tokens of `watch` ends, or `until` comes. The bell hangs when
    /// `watch` looks once more and names those to watch, 63 at most; `None` = there is no need to sleep.
    pub fn sleep_at<W: IntoIterator<Item = u32>>(
        &self,
        bell: &Bell,
        watch: impl FnOnce() -> Option<W>,
        until: Deadline,
    ) -> Woken {
        let hung = bell.hang_up();
        full_fence(); // a locked instruction is one on x86 only
        let Some(tokens) = watch() else { return Woken::Look };
        let woken = self.sleep_any((bell.word(), hung), tokens, until);
        bell.hang_up(); // others may still sleep
        woken
    }

    /// Has the end of the owner of `token` told to those who sleep on its live word.
    fn watch(&self, token: u32) -> Watch<'_> {
        let (live, seen) = match self.look(token) {
            Owner::Dead => return Watch::Over,
            Owner::Unmarked | Owner::Unclear => return Watch::Blind,
            Owner::Alive { live, seen } => (live, seen),
        };
        let watched = seen | WAITERS;
        if seen != watched && live.compare_exchange(seen, watched, SeqCst, Relaxed).is_err() {
            return Watch::Over;
        }
        // The slot may have got a new owner before our bit was there to tell it of us.
        match self.look(token) {
            Owner::Alive { .. } => Watch::On(live, watched),
            _ => Watch::Over,
        }
    }

    /// Asks /proc whether the owner of `token` has ended, and marks its slot if so: for threads whose word the
    /// kernel did not mark, because they have no robust list or it named another word at that instant.
    #[cold]
    pub(crate) fn ask(&self, token: u32) -> bool {
        let slot = self.slot(token);
        let seen = slot.live.load(SeqCst);
        let dead = slot.identity_of(token).is_some_and(|owner| owner.is_alive() == Some(false));
        if dead {
            slot.mark(seen);
        }
        dead
    }

    /// Takes a slot for this thread: what names its live word, and the token.
    pub(crate) fn register(&self, pending: Pending, marked: bool) -> Result<(usize, u32), RegistryError> {
        let identity = Identity::of_this_thread();
        let token = self.take_slot(pending, identity, marked).or_else(|| {
            self.bury();
            self.take_slot(pending, identity, marked)
        });
        let Some(token) = token else {
            pending.set(0);
            return Err(RegistryError::Full);
        };
        Ok((pending.entry(&self.slot(token).live), token))
    }

    fn take_slot(&self, pending: Pending, identity: Identity, marked: bool) -> Option<u32> {
        (0..SLOTS).find_map(|_| {
            let index = self.counters.next.fetch_add(1, Relaxed) as usize % SLOTS;
            let slot = &self.slots[index];
            let live = slot.live.load(Relaxed);
            if !Slot::is_free(live) {
                return None;
            }
            pending.set(pending.entry(&slot.live)); // before the slot is ours: a kill from here on marks it
            let taken = slot.live.compare_exchange(live, identity.tid, SeqCst, Relaxed).is_ok();
            taken.then(|| slot.claim(index, identity, marked))
        })
    }

    /// Marks the slots of all threads that ended without a mark.
    #[cold]
    fn bury(&self) {
        for (index, slot) in self.slots.iter().enumerate() {
            self.ask(slot.token(index));
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("id", &format_args!("{:032x}", self.id())).finish_non_exhaustive()
    }
}

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

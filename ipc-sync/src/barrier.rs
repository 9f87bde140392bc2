//! `Barrier`: a point where a number of parties meet, round after round.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_shm::fork::forks;
use ipc_shm::{Cells, Origin, PerProcess, random_id};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::raw_barrier::{Cause, RawBarrier, Refusal};
use crate::{CreateError, Deadline, Me, NamedError, Place, Primitive, Registry, RegistryError};

/// Most parties of a barrier, and most members that it knows at a time.
const PARTIES: usize = 64;

/// See `raw_barrier`; behind it a random number, by which a process knows that two handles lead to one barrier.
#[repr(C)]
struct BarrierCell {
    raw: RawBarrier<PARTIES>,
    id: AtomicU64,
}

impl BarrierCell {
    fn init(&self, parties: u32) {
        self.raw.init(parties);
        self.id.store(random_id().map_or(0, |id| id as u64), Relaxed);
    }
}

mod cells {
    //! Promises about the structure above.
    #![allow(unsafe_code)]
    // SAFETY: repr(C), a RawBarrier, which is repr(C) and made of atomic integers only, and one more.
    unsafe impl super::Cells for super::BarrierCell {}
}

impl Primitive for BarrierCell {
    const TAG: [u8; 4] = *b"BARR";
    const LAYOUT: u64 = 2;
}

/// A point where a number of parties meet, round after round: nobody goes on before all are there.
///
/// [`wait`](Barrier::wait) sleeps until as many threads, of any processes, have called it as the barrier has
/// parties; then all go on, each with another index, and the next round begins. A round ends alike for all who arrived
/// in it: it is released, or it is *broken* and each of them gets the same [`BrokenBarrier`]. It is broken by a
/// timeout of one of them, by [`abort`](Barrier::abort), by [`reset`](Barrier::reset), by a panic in the action, and
/// by the death of a party. A broken barrier refuses everybody until it is reset.
///
/// # When a party dies
///
/// Whoever has arrived once is a member. The barrier knows its members between the rounds too:
///
/// - A member whose thread ends while it waits breaks the round, and so does a member whose process dies (killed or exited)
///   between two rounds. The error names the process, within 250 ms. `exec` ends all threads: in a wait that breaks the
///   round; between two rounds it does if the main thread was a member, else the members count as threads that ended.
/// - A member whose thread ends between two rounds while its process lives on is forgotten, and so is what it was: the
///   others wait for somebody in its place.
/// - A process that drops its last handle of the barrier, however it came by them, leaves it, which breaks nothing: a
///   function that returns and drops the only `Barrier` has left. One that drops it in a panic has not. A handle that a
///   forked child inherited counts from the child's first wait through it.
/// - Who has never arrived is no member: nobody knows yet that it should come. Wait with a timeout for the first time.
///
/// Each death breaks the barrier once: a reset forgets the dead. A party that is stopped (SIGSTOP) is not dead; the others
/// wait for it. In another PID namespace the end of a thread counts as that of its process.
///
/// Every call holds a lock inside the barrier for a few instructions. While a process is stopped just there, calls without
/// a time limit wait for it, and so does dropping the last handle; a wait with a limit ends by then and two times 20 ms.
///
/// Threads may take each other's place: what makes a round is the number of arrivals. A barrier has 64 parties at
/// most, and knows 64 members at most.
///
/// # What a handle is
///
/// Cloning shares the barrier, and it can be sent inside any message, or inherited by `fork`. The action and the
/// default timeout belong to the handle and its clones; they do not travel, for a closure cannot.
///
/// ```
/// use ipc_sync::Barrier;
///
/// let barrier = Barrier::new(3)?;
/// let mut indices = std::thread::scope(|scope| {
///     let parties = [(); 3].map(|()| scope.spawn(|| barrier.wait().unwrap().index()));
///     parties.map(|party| party.join().unwrap())
/// });
/// indices.sort();
/// assert_eq!(indices, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "multiprocessing.Barrier")]
#[doc(alias = "pthread_barrier_t")]
pub struct Barrier {
    member: Arc<Membership>,
    action: Option<Arc<dyn Fn() + Send + Sync>>,
    timeout: Option<Duration>,
}

/// One handle of a barrier and its clones; with the last of a process dropped, the process leaves it.
struct Membership {
    place: Place<BarrierCell>,
    /// In which process it counts: a forked child has copies of handles that it may never use.
    forks: AtomicU32,
}

/// How many handles this process has of each barrier, by its number.
static HANDLES: PerProcess<Mutex<HashMap<u64, usize>>> = PerProcess::new();

impl Membership {
    fn new(place: Place<BarrierCell>) -> Membership {
        let membership = Membership { place, forks: AtomicU32::new(forks()) };
        membership.count();
        membership
    }

    fn id(&self) -> u64 {
        self.place.id.load(Relaxed)
    }

    fn count(&self) {
        *HANDLES.get().lock().entry(self.id()).or_default() += 1;
    }

    /// In a forked child a handle counts from the first wait through it.
    #[inline(always)]
    fn enter(&self) {
        if !self.counts_here() {
            self.enter_child();
        }
    }

    #[cold]
    #[inline(never)]
    fn enter_child(&self) {
        if self.forks.swap(forks(), Relaxed) != forks() {
            self.count();
        }
    }

    #[inline(always)]
    fn counts_here(&self) -> bool {
        self.forks.load(Relaxed) == forks()
    }

    /// Whether it counted, and no other handle of this process leads there.
    fn was_last(&self) -> bool {
        if !self.counts_here() {
            return false;
        }
        let mut handles = HANDLES.get().lock();
        let others = handles.remove(&self.id()).map_or(0, |count| count - 1);
        if others > 0 {
            handles.insert(self.id(), others);
        }
        others == 0
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Ok(registry) = Registry::get() else { return };
        let barrier = &self.place.raw;
        let is_ours = |token| registry.is_of_this_process(token);
        // Who unwinds has not come to the end of its work: if that ends the process, the others must know.
        if !self.was_last() || std::thread::panicking() || !barrier.has_member(is_ours) {
            return;
        }
        if let Ok(me) = Me::get() {
            let _ = barrier.leave(&me, is_ours);
        }
    }
}

/// Why a barrier was neither made nor opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum BarrierError {
    /// A barrier has 1 to 64 parties.
    Parties(usize),
    /// The barrier of this name has so many parties, and not as many as asked for.
    OtherParties(usize),
    /// An anonymous one could not be made.
    Create(CreateError),
    /// A named one was neither opened nor made.
    Named(NamedError),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierError::Parties(parties) => write!(f, "a barrier has 1 to 64 parties, not {parties}"),
            BarrierError::OtherParties(found) => write!(f, "the barrier of this name has {found} parties"),
            BarrierError::Create(error) => error.fmt(f),
            BarrierError::Named(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BarrierError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BarrierError::Parties(_) | BarrierError::OtherParties(_) => None,
            BarrierError::Create(error) => Some(error),
            BarrierError::Named(error) => Some(error),
        }
    }
}

/// Why a wait at a barrier ended without a full round.
#[derive(Debug)]
#[non_exhaustive]
#[doc(alias = "BrokenBarrierError")]
pub enum BrokenBarrier {
    /// A party died.
    Died {
        /// Its process, as its own PID namespace calls it; 0 if nobody knows any more.
        pid: u32,
    },
    /// One of the parties did not want to wait any longer: this one or another.
    TimedOut,
    /// The time was over before this party could arrive, because the action of a full round still ran or a process is
    /// stopped inside the barrier. It has not taken part, and the barrier is not broken by it.
    Late,
    /// Somebody called [`Barrier::abort`].
    Aborted,
    /// Somebody called [`Barrier::reset`] during the round.
    Reset,
    /// The action panicked.
    Panicked,
    /// There are 64 members already. The barrier is not broken.
    Crowded,
    /// This thread is inside a call of this barrier already. The barrier is not broken.
    Deadlock,
    /// The barrier's memory was written over.
    Corrupt,
    /// This thread could not enter the registry. The barrier is not broken.
    Registry(Box<RegistryError>),
}

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BrokenBarrier::Died { pid: 0 } => "broken barrier: a party died",
            BrokenBarrier::Died { pid } => {
                return write!(f, "broken barrier: the party in process {pid} died");
            }
            BrokenBarrier::TimedOut => "broken barrier: a party did not wait any longer",
            BrokenBarrier::Late => "the time was over before this party could arrive at the barrier",
            BrokenBarrier::Aborted => "broken barrier: aborted",
            BrokenBarrier::Reset => "broken barrier: reset while some waited",
            BrokenBarrier::Panicked => "broken barrier: its action panicked",
            BrokenBarrier::Crowded => "the barrier has 64 members already",
            BrokenBarrier::Deadlock => "this thread is inside the barrier already",
            BrokenBarrier::Corrupt => "the barrier's memory is damaged",
            BrokenBarrier::Registry(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for BrokenBarrier {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BrokenBarrier::Registry(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<Refusal> for BrokenBarrier {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Broken(Cause::Died { pid }) => BrokenBarrier::Died { pid },
            Refusal::Broken(Cause::TimedOut) => BrokenBarrier::TimedOut,
            Refusal::Broken(Cause::Aborted) => BrokenBarrier::Aborted,
            Refusal::Broken(Cause::Reset) => BrokenBarrier::Reset,
            Refusal::Broken(Cause::Panicked) => BrokenBarrier::Panicked,
            Refusal::Late => BrokenBarrier::Late,
            Refusal::Crowded => BrokenBarrier::Crowded,
            Refusal::Deadlock => BrokenBarrier::Deadlock,
            Refusal::Corrupt => BrokenBarrier::Corrupt,
        }
    }
}

/// All parties were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWait {
    index: u32,
}

impl BarrierWait {
    /// From 0 to the number of parties - 1; each once in a round. The last to arrive has 0.
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Whether the index is 0, which it is for one of them.
    pub fn is_leader(&self) -> bool {
        self.index == 0
    }
}

impl Barrier {
    /// A new barrier for 1 to 64 parties.
    ///
    /// # Errors
    ///
    /// Another number of parties; no memory, no descriptor, or no registry for this process.
    pub fn new(parties: usize) -> Result<Barrier, BarrierError> {
        let count = checked(parties)?;
        let place = Place::new(|cell: &BarrierCell| cell.init(count)).map_err(BarrierError::Create)?;
        Ok(Barrier::at(place))
    }

    /// The barrier of this name; made, for so many parties, if there is none. The name goes with its last user, dead or
    /// alive.
    ///
    /// ```
    /// # let name = &format!("doc-barrier-{}", std::process::id());
    /// use ipc_sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::named(name, 2)?;
    /// assert!(matches!(Barrier::named(name, 3), Err(BarrierError::OtherParties(2))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A barrier of this name has another number of parties; else as [`new`](Barrier::new), and see [`NamedError`]. What was
    /// found under the name is not touched.
    pub fn named(name: &str, parties: usize) -> Result<Barrier, BarrierError> {
        let count = checked(parties)?;
        let init = |cell: &BarrierCell| cell.init(count);
        let (place, origin) = Place::named(name, init).map_err(BarrierError::Named)?;
        let found = place.raw.parties();
        if origin != Origin::Created && found != count {
            return Err(BarrierError::OtherParties(found as usize));
        }
        Ok(Barrier::at(place))
    }

    fn at(place: Place<BarrierCell>) -> Barrier {
        Barrier { member: Arc::new(Membership::new(place)), action: None, timeout: None }
    }

    /// Gives this handle and its clones an action, which the party with index 0 runs in each round, after all have
    /// arrived and before anyone leaves. The others wait for it; a panic in it breaks the round.
    ///
    /// It runs in rounds whose last party came through a handle that has one: every process brings its own.
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    /// static ROUNDS: AtomicU32 = AtomicU32::new(0);
    ///
    /// let barrier = ipc_sync::Barrier::new(2)?.with_action(|| _ = ROUNDS.fetch_add(1, SeqCst));
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| barrier.wait().unwrap());
    ///     barrier.wait().unwrap();
    ///     assert_eq!(ROUNDS.load(SeqCst), 1);
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_action(mut self, action: impl Fn() + Send + Sync + 'static) -> Barrier {
        self.action = Some(Arc::new(action));
        self
    }

    /// Gives this handle and its clones a time limit for each [`wait`](Barrier::wait).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Barrier {
        self.timeout = Some(timeout);
        self
    }

    /// Arrives, and sleeps until all parties have, or until the default timeout of this handle.
    ///
    /// A thread that comes while the action of a full round runs waits for the next one.
    ///
    /// # Errors
    ///
    /// The round was broken, for all of it alike; or this thread could not take part. See [`BrokenBarrier`].
    #[inline]
    pub fn wait(&self) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(self.default_deadline())
    }

    /// As [`wait`](Barrier::wait), for `timeout` at most; then the round is broken for all who wait. Who has not even
    /// arrived by then, because the action of a full round still ran, gets [`BrokenBarrier::Late`] and breaks nothing.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Barrier::wait_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(Deadline::at(deadline))
    }

    /// As [`wait`](Barrier::wait), with an action for this call alone: it runs if this party gets index 0.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait).
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<BarrierWait, BrokenBarrier> {
        self.meet(self.default_deadline(), Some(action))
    }

    fn default_deadline(&self) -> Deadline {
        self.timeout.map_or(Deadline::NEVER, Deadline::after)
    }

    #[inline]
    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWait, BrokenBarrier> {
        self.meet(deadline, self.action.as_deref())
    }

    #[inline]
    fn meet(&self, deadline: Deadline, action: Option<impl FnOnce()>) -> Result<BarrierWait, BrokenBarrier> {
        self.member.enter();
        let index = self.cell().wait(&me()?, deadline, action)?;
        Ok(BarrierWait { index })
    }

    /// Breaks the barrier: all who wait get [`BrokenBarrier::Aborted`], and so does whoever comes, until it is reset. What is
    /// broken already stays as it is.
    ///
    /// # Errors
    ///
    /// This thread could not take part; the memory is damaged.
    pub fn abort(&self) -> Result<(), BrokenBarrier> {
        Ok(self.cell().abort(&me()?)?)
    }

    /// Makes the barrier usable, and forgets the dead. Those who wait get [`BrokenBarrier::Reset`].
    ///
    /// After a broken round one party should do so, before any comes back; or all of them [`repair`](Barrier::repair).
    ///
    /// # Errors
    ///
    /// As [`abort`](Barrier::abort).
    pub fn reset(&self) -> Result<(), BrokenBarrier> {
        Ok(self.cell().reset(&me()?)?)
    }

    /// Resets the barrier if it is broken; else it does nothing, so every party may do so after a broken round. True: it
    /// was broken.
    ///
    /// ```
    /// use ipc_sync::{Barrier, BrokenBarrier};
    /// use std::time::Duration;
    ///
    /// let barrier = Barrier::new(2)?;
    /// let late = barrier.wait_timeout(Duration::from_millis(1));
    /// assert!(matches!(late, Err(BrokenBarrier::TimedOut)));
    /// assert!(barrier.broken() && barrier.repair()? && !barrier.repair()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`abort`](Barrier::abort).
    pub fn repair(&self) -> Result<bool, BrokenBarrier> {
        Ok(self.cell().repair(&me()?)?)
    }

    /// Arrivals that make a round.
    pub fn parties(&self) -> usize {
        self.cell().parties() as usize
    }

    /// How many wait now.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.cell().waiting()
    }

    /// Whether the barrier is broken.
    pub fn broken(&self) -> bool {
        self.cell().is_broken()
    }

    #[inline(always)]
    fn cell(&self) -> &RawBarrier<PARTIES> {
        &self.member.place.raw
    }
}

fn checked(parties: usize) -> Result<u32, BarrierError> {
    if (1..=PARTIES).contains(&parties) { Ok(parties as u32) } else { Err(BarrierError::Parties(parties)) }
}

#[inline(always)]
fn me() -> Result<Me, BrokenBarrier> {
    Me::get().map_err(|error| BrokenBarrier::Registry(Box::new(error)))
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.member.place.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Place::deserialize(deserializer).map(Barrier::at)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.broken())
            .finish_non_exhaustive()
    }
}

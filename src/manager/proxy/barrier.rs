//! `Barrier`: a point where a number of clients of a server meet, round after round.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_sync::Deadline;

use super::talk::{byte, done, flag, nothing, time};
use super::{Handle, proxy};
use crate::manager::client::Client;
use crate::manager::error::CallError;
use crate::manager::message::{Answer, Breach, Kind, Op, Reader, Write};

/// A point where a number of parties meet, round after round: nobody goes on before all are there.
///
/// [`wait`](Barrier::wait) waits until as many threads, of any clients, have called it as the barrier has parties; then all go
/// on, each with another index, and the next round begins. The barrier is *broken*, for all who wait and all who come, when
/// one who waits dies or does not want to wait any longer, and by [`abort`](Barrier::abort); until somebody calls
/// [`reset`](Barrier::reset) or [`repair`](Barrier::repair). A party that dies between two rounds is not missed before
/// somebody's time is up.
///
/// It is a handle: cloning shares the barrier, and it can be sent inside any message or stored in a dict of its server.
///
/// ```
/// # multiprocess::testing!();
/// let manager = multiprocess::Manager::start()?;
/// let barrier = manager.barrier(2)?;
/// let sum: usize = std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait().unwrap().index());
///     barrier.wait().unwrap().index() + other.join().unwrap()
/// });
/// assert_eq!(sum, 1); // one has 0, the other 1
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SyncManager.Barrier")]
pub struct Barrier {
    handle: Handle,
}

proxy!(Barrier, Kind::Barrier);

/// What a barrier is at one moment.
struct State {
    parties: usize,
    waiting: usize,
    broken: bool,
}

impl Barrier {
    fn of(handle: Handle) -> Barrier {
        Barrier { handle }
    }

    /// # Panics
    ///
    /// There are no parties.
    pub(in crate::manager) fn create(
        client: &Arc<Client>,
        name: Option<&str>,
        parties: usize,
    ) -> Result<Barrier, CallError> {
        assert!(parties > 0, "a barrier has at least one party");
        let arguments = |message: &mut Vec<u8>| message.put_number(parties as u64);
        let barrier = Barrier::of(Handle::create(client, Kind::Barrier, name, arguments)?);
        if name.is_some() {
            let found = barrier.parties()?;
            let other = || format!("the barrier of this name has {found} parties").into();
            (found == parties).then_some(()).ok_or_else(|| CallError::Failed(other()))?;
        }
        Ok(barrier)
    }

    /// Arrives, and waits until all parties have.
    ///
    /// # Errors
    ///
    /// The round was broken, or the server could not be asked; see [`BrokenBarrier`].
    pub fn wait(&self) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(Deadline::NEVER)
    }

    /// As [`wait`](Barrier::wait), for `timeout` at most; then the barrier is broken for all. If the server is stopped it takes
    /// a quarter of a second longer.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Barrier::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWait, BrokenBarrier> {
        self.wait_until(Deadline::at(deadline))
    }

    /// Breaks the barrier: all who wait get [`BrokenBarrier::Aborted`], and so does whoever comes. What is broken already stays
    /// as it is. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn abort(&self) -> Result<(), CallError> {
        self.handle.call(Op::BarrierAbort, nothing, done)
    }

    /// Makes the barrier usable. Those who wait get [`BrokenBarrier::Reset`]. Waits for the server only.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn reset(&self) -> Result<(), CallError> {
        self.restore(false).map(|_| ())
    }

    /// Resets the barrier if it is broken; else it does nothing, so every party may do so after a broken round. True: it was
    /// broken.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn repair(&self) -> Result<bool, CallError> {
        self.restore(true)
    }

    /// Arrivals that make a round.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn parties(&self) -> Result<usize, CallError> {
        Ok(self.state()?.parties)
    }

    /// How many wait now.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> Result<usize, CallError> {
        Ok(self.state()?.waiting)
    }

    /// Whether the barrier is broken.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn broken(&self) -> Result<bool, CallError> {
        Ok(self.state()?.broken)
    }

    fn restore(&self, only_broken: bool) -> Result<bool, CallError> {
        self.handle.call(Op::BarrierReset, byte(only_broken.into()), flag)
    }

    fn state(&self) -> Result<State, CallError> {
        self.handle.call(Op::BarrierState, nothing, |answer, mut rest, _| match answer {
            Answer::Done => {
                let (parties, waiting) = (rest.number()? as usize, rest.number()? as usize);
                Ok(State { parties, waiting, broken: rest.u8()? != 0 })
            }
            other => Err(CallError::unexpected(other, rest)),
        })
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWait, BrokenBarrier> {
        let round =
            self.handle.wait(Op::BarrierWait, deadline, time(deadline), |answer, mut rest, _| match answer {
                Answer::Done => Ok(Ok(BarrierWait { index: rest.number()? as usize })),
                Answer::TimedOut => Ok(Err(BrokenBarrier::TimedOut)),
                Answer::Broken => Ok(Err(BrokenBarrier::read(rest)?)),
                other => Err(CallError::unexpected(other, rest)),
            });
        round.map_err(BrokenBarrier::Call)?
    }
}

/// All parties were there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWait {
    index: usize,
}

impl BarrierWait {
    /// From 0 to the number of parties - 1; each once in a round. The last to arrive has 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether the index is 0, which it is for one of them.
    pub fn is_leader(&self) -> bool {
        self.index == 0
    }
}

/// Why a wait at a barrier ended without a full round.
#[derive(Debug)]
#[non_exhaustive]
#[doc(alias = "BrokenBarrierError")]
pub enum BrokenBarrier {
    /// A party died while it waited, or gave up a server that seemed stopped.
    Died {
        /// Its process; 0 if the server does not know.
        pid: u32,
    },
    /// One of the parties did not want to wait any longer: this one or another.
    TimedOut,
    /// Somebody called [`Barrier::abort`].
    Aborted,
    /// Somebody called [`Barrier::reset`] during the round.
    Reset,
    /// The server could not be asked. If this is [`CallError::TimedOut`], the barrier breaks as soon as the server goes on.
    Call(CallError),
}

impl BrokenBarrier {
    #[cold]
    fn read(mut answer: Reader<'_>) -> Result<BrokenBarrier, CallError> {
        let (breach, pid) = (answer.u8()?, answer.u32()?);
        Ok(match Breach::of(breach).ok_or(CallError::Protocol)? {
            Breach::Died => BrokenBarrier::Died { pid },
            Breach::TimedOut => BrokenBarrier::TimedOut,
            Breach::Aborted => BrokenBarrier::Aborted,
            Breach::Reset => BrokenBarrier::Reset,
        })
    }
}

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokenBarrier::Died { pid: 0 } => f.write_str("broken barrier: a party died"),
            BrokenBarrier::Died { pid } => write!(f, "broken barrier: the party in process {pid} died"),
            BrokenBarrier::TimedOut => f.write_str("broken barrier: a party did not wait any longer"),
            BrokenBarrier::Aborted => f.write_str("broken barrier: aborted"),
            BrokenBarrier::Reset => f.write_str("broken barrier: reset while some waited"),
            BrokenBarrier::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BrokenBarrier {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BrokenBarrier::Call(error) => Some(error),
            _ => None,
        }
    }
}

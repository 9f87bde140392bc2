//! `Process`: the parent's handle of a child.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ipc_pipe::{Connection, RecvError, SendError, TryRecvError, Waitable, Watch};
use ipc_shm::Descriptor;
use ipc_sync::{BACKSTOP, Deadline, Registry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::current::{Birth, is_daemon};
use super::error::{JoinError, SpawnError, SpawnFailure, TryJoinError};
use super::family::Child;
use super::image::Identity;
use super::message::{Bootstrap, Call, Outcome};
use super::pidfd::Pidfd;
use super::start::StartMethod;
use super::status::ExitStatus;
use super::{entry, exec, family, fork, forkserver, lifeline, logs, parent};

/// A process that runs one function of this program, and whose result comes back to [`join`](Process::join).
///
/// The process is the same executable, started anew: it has none of this process's memory, threads, locks and
/// descriptors. What it gets is what was sent: its arguments, and any handle in them ([`Queue`](crate::Queue),
/// [`Lock`](crate::Lock), [`SharedMemory`](crate::SharedMemory), pipe ends, a [`Descriptor`](crate::Descriptor)).
///
/// Whatever ends it, [`join`](Process::join) says so: a result, a panic, an exit code, a signal. Dropping a `Process`
/// neither ends it nor waits for it; when it ends later it is reaped by the next call that spawns, joins or drops one.
/// At its normal exit this process waits for all its children, unless they are [daemons](Builder::daemon).
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{JoinError, Process};
///
/// let mut sum = Process::spawn(|numbers: Vec<u64>| numbers.iter().sum::<u64>(), vec![1, 2, 3])?;
/// assert_eq!(sum.join()?, 6);
///
/// let mut bad = Process::spawn(|text: String| text.parse::<u8>().unwrap(), "many".to_string())?;
/// assert!(matches!(bad.join(), Err(JoinError::Panicked { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Process")]
pub struct Process<R> {
    child: Child,
    answer: Answer<R>,
}

/// How far the result has come.
enum Answer<R> {
    Awaited(Connection),
    Here(Result<R, JoinError>),
    /// The child ended without one; its status is not known yet.
    Missing,
    Taken,
}

impl Process<()> {
    /// A process to be started with more to say about it: name, environment, standard streams.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R> Process<R> {
    /// Starts a process that runs `f(args)`.
    ///
    /// `f` is a function, or a closure that captures nothing. The arguments are one value, usually a tuple. They are
    /// serialized here; it is an error if they cannot be.
    ///
    /// Returns when the arguments are on their way; if they are larger than what the pipe keeps (4 MiB), when the process
    /// has begun to read them. Should it end before that, it is an error; later on it is [`join`](Process::join)'s.
    ///
    /// The process starts with no signal blocked or ignored (but SIGPIPE, as any Rust program), with this process's
    /// directory and environment, and with `/dev/null` as standard input; see [`builder`](Process::builder).
    ///
    /// # Errors
    ///
    /// See [`SpawnFailure`]; the arguments come back inside.
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::{Process, pipe};
    ///
    /// fn double(numbers: multiprocess::Connection) {
    ///     while let Ok(number) = numbers.recv::<u32>() {
    ///         numbers.send(&(number * 2)).unwrap();
    ///     }
    /// }
    ///
    /// let (here, there) = pipe()?;
    /// let mut process = Process::spawn(double, there)?;
    /// here.send(&21u32)?;
    /// assert_eq!(here.recv::<u32>()?, 42);
    /// drop(here);
    /// process.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn<A>(f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError<A>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        Process::start(Builder::default(), f, args)
    }

    pub(crate) fn start<A>(builder: Builder, f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError<A>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        family::sweep();
        Process::launch(builder, f, &args).map_err(|reason| SpawnError::new(reason, args))
    }

    fn launch<A>(mut builder: Builder, f: fn(A) -> R, args: &A) -> Result<Process<R>, SpawnFailure>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        if !entry::is_initialized() {
            return Err(SpawnFailure::NotInitialized);
        }
        if is_daemon() {
            return Err(SpawnFailure::Daemon);
        }
        if builder.name.as_ref().is_some_and(|name| name.contains('\0')) {
            let error = "the name of a process cannot hold a NUL";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        }
        let call = Call::new(f).ok_or(SpawnFailure::NotInExecutable)?;
        let program = Identity::own()?;
        let tied = builder.daemon && !builder.untied;
        let lifeline = tied.then(lifeline::reading_end).transpose()?.map(Descriptor::from);
        let parent = Descriptor::from(parent::own()?);
        let birth = Birth::of(&mut builder);
        let bootstrap = Bootstrap { birth, program, call, parent, lifeline, ear: logs::ear() };
        let (connection, pid, pidfd) = begin(&builder, &bootstrap)?;
        let child = Child::new(bootstrap.birth.name, pid, &builder, pidfd);
        child.enlist();
        let mut process = Process { child, answer: Answer::Missing };
        match connection.send(args) {
            Ok(()) => process.answer = Answer::Awaited(connection),
            Err(error) => return Err(process.give_up(error)),
        }
        Ok(process)
    }

    /// Ends a child that has no arguments. It never runs its function.
    #[cold]
    fn give_up(self, error: SendError) -> SpawnFailure {
        if !matches!(error, SendError::Closed) {
            let _ = self.kill();
        }
        let _ = self.child.wait_until(Deadline::NEVER);
        match (error, self.exit_status()) {
            (SendError::Closed, Some(status)) => SpawnFailure::Died { status },
            (error, _) => SpawnFailure::Arguments(error),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its number, for humans and logs. Nothing here acts on it, as the kernel uses numbers again.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it ends with this process; see [`Builder::daemon`].
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }

    /// Whether it still runs. Does not block. A process that is stopped (SIGSTOP) is alive.
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// How it ended; `None` as long as it runs. Does not block.
    #[doc(alias = "exitcode")]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.exit_status()
    }

    /// Waits until the process has ended, and answers what its function returned.
    ///
    /// The result arrives first, however large; then the process flushes what it put on queues and exits. A process
    /// that waits for somebody to read what it put does not end before that: read first, then join.
    ///
    /// When the process dies, whatever kills it, the answer is [`JoinError::Died`], within a moment. A result that
    /// arrived counts, even if the process is killed on its way out; [`exit_status`](Process::exit_status) says so.
    ///
    /// # Errors
    ///
    /// See [`JoinError`]. The result is handed out once; the next call answers [`JoinError::AlreadyJoined`].
    pub fn join(&mut self) -> Result<R, JoinError>
    where
        R: DeserializeOwned,
    {
        loop {
            if let Some(result) = self.join_until(Deadline::NEVER) {
                return result;
            }
        }
    }

    /// As [`join`](Process::join), but does not wait.
    ///
    /// # Errors
    ///
    /// It still runs, or as of [`join`](Process::join).
    pub fn try_join(&mut self) -> Result<R, TryJoinError>
    where
        R: DeserializeOwned,
    {
        in_time(self.join_until(Deadline::NOW))
    }

    /// As [`join`](Process::join), but waits so long at most.
    ///
    /// # Errors
    ///
    /// It still runs, or as of [`join`](Process::join).
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::{JoinError, Process, TryJoinError};
    /// use std::time::Duration;
    ///
    /// let mut idle: Process<()> = Process::spawn(|()| loop { std::thread::park() }, ())?;
    /// assert!(matches!(idle.join_timeout(Duration::from_millis(10)), Err(TryJoinError::StillRunning)));
    /// idle.kill()?;
    /// let Err(JoinError::Died { status }) = idle.join() else { unreachable!() };
    /// assert_eq!(status.to_string(), "signal 9 (SIGKILL)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R, TryJoinError>
    where
        R: DeserializeOwned,
    {
        in_time(self.join_until(Deadline::after(timeout)))
    }

    /// As [`join`](Process::join), but waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// It still runs, or as of [`join`](Process::join).
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<R, TryJoinError>
    where
        R: DeserializeOwned,
    {
        in_time(self.join_until(Deadline::at(deadline)))
    }

    /// `None` = the time is over.
    fn join_until(&mut self, deadline: Deadline) -> Option<Result<R, JoinError>>
    where
        R: DeserializeOwned,
    {
        if !self.child.is_ours() {
            return Some(Err(JoinError::NotParent));
        }
        family::sweep();
        if let Answer::Awaited(connection) = &self.answer {
            self.answer = receive(connection, &self.child, deadline)?;
        }
        if let Answer::Taken = self.answer {
            return Some(Err(JoinError::AlreadyJoined));
        }
        let status = match self.child.wait_until(deadline) {
            Ok(status) => status?,
            Err(error) => return Some(Err(JoinError::Io(error))),
        };
        match mem::replace(&mut self.answer, Answer::Taken) {
            Answer::Here(result) => Some(result),
            _ => Some(Err(JoinError::Died { status })),
        }
    }

    /// Asks the process to end (SIGTERM), which by default it does at once: no destructors run, and what it put on
    /// queues may not be flushed. Its own children live on. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// The kernel refused: the process has changed its user.
    pub fn terminate(&self) -> io::Result<()> {
        self.child.terminate()
    }

    /// Kills the process (SIGKILL). Its own children live on. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// The kernel refused: the process has changed its user.
    pub fn kill(&self) -> io::Result<()> {
        self.child.kill()
    }

    /// Gives back at once all that this process holds for one that has ended: its result, if nobody joined, and its
    /// descriptors. Does not wait. Dropping it does the same for one that still runs.
    ///
    /// # Errors
    ///
    /// It still runs, and comes back.
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::Process;
    ///
    /// let idle: Process<()> = Process::spawn(|()| loop { std::thread::park() }, ())?;
    /// let mut idle = idle.close().unwrap_err();
    /// idle.kill()?;
    /// assert!(idle.join().is_err());
    /// assert!(idle.close().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Result<(), Process<R>> {
        if self.is_alive() { Err(self) } else { Ok(()) }
    }

    /// The process without its result.
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// A descriptor that is readable as soon as the process has ended, for `poll` and the like.
    #[doc(alias = "pidfd")]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.sentinel()
    }
}

/// Starts a process that finds `bootstrap` on the other end of this connection and waits for its arguments.
fn begin(builder: &Builder, bootstrap: &Bootstrap) -> Result<(Connection, u32, Pidfd), SpawnFailure> {
    let registry = Registry::get()?.descriptor();
    let (connection, theirs) = ipc_pipe::pipe()?;
    connection.set_max_message(usize::MAX); // both ends are this program
    connection.send(bootstrap).map_err(SpawnFailure::Arguments)?; // there before it is born: it need not sleep for it
    let parts = theirs.into_parts()?; // dropped on return: the child's alone, so that its end is the connection's end
    let (pid, pidfd) = match builder.method() {
        StartMethod::Spawn => exec::start(builder, &bootstrap.birth.name, &parts, registry.as_fd())?,
        StartMethod::ForkServer => forkserver::start(builder, &parts)?,
        StartMethod::Fork(_) => fork::start(builder, &parts)?,
    };
    Ok((connection, pid, pidfd))
}

/// The next state of an answer that is awaited; `None` = the time is over.
fn receive<R: DeserializeOwned>(
    connection: &Connection,
    child: &Child,
    deadline: Deadline,
) -> Option<Answer<R>> {
    loop {
        // Asked before the look at the pipe: what it sent before its end is there by then.
        let ended = !child.is_alive();
        let longest = if ended { Duration::ZERO } else { BACKSTOP };
        let time = deadline.remaining().map_or(longest, |rest| rest.min(longest));
        match connection.recv_timeout::<Outcome<R>>(time) {
            Ok(outcome) => return Some(Answer::Here(unpack(outcome))),
            // The child closed its end by its death, and everything of it was read. A forked copy of it may hold the
            // end open for ever.
            Err(TryRecvError::Failed(RecvError::Closed | RecvError::EofInside { .. })) => {
                return Some(Answer::Missing);
            }
            Err(TryRecvError::Empty) if ended => return Some(Answer::Missing),
            Err(TryRecvError::Empty) if deadline.has_passed() => return None,
            Err(TryRecvError::Empty) => (),
            Err(TryRecvError::Failed(error)) => return Some(Answer::Here(Err(JoinError::Result(error)))),
            Err(error) => return Some(Answer::Here(Err(JoinError::Io(io::Error::other(error))))),
        }
    }
}

fn unpack<R>(outcome: Outcome<R>) -> Result<R, JoinError> {
    match outcome {
        Outcome::Returned(result) => Ok(result),
        Outcome::Panicked { message, location } => Err(JoinError::Panicked { message, location }),
        Outcome::NotStarted(message) => Err(JoinError::NotStarted { message }),
        Outcome::ResultRefused(message) => Err(JoinError::ResultRefused { message }),
    }
}

fn in_time<R>(joined: Option<Result<R, JoinError>>) -> Result<R, TryJoinError> {
    joined.ok_or(TryJoinError::StillRunning)?.map_err(TryJoinError::Failed)
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

impl<R> Waitable for Process<R> {
    fn is_ready(&self) -> bool {
        self.sentinel().is_ready()
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Readable(self.sentinel())
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        family::sweep();
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Process");
        form.field("child", &self.child);
        form.finish_non_exhaustive()
    }
}

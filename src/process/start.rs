//! How a process comes to be: started anew, forked by a server, or forked from this one.

use std::fmt;
use std::sync::OnceLock;

/// How a process comes to be. Whatever the method, its function, arguments, result and handles are the same.
///
/// | method       | the child begins                          | costs                 | refused                        |
/// |--------------|-------------------------------------------|-----------------------|--------------------------------|
/// | `Spawn`      | as a fresh program, up to `init`          | about a millisecond   |                                |
/// | `ForkServer` | as a copy of a small, fresh program       | a third of that       |                                |
/// | [`fork`](StartMethod::fork) | as a copy of this process  | grows with its memory | if other threads run           |
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, StartMethod};
///
/// let mut process = Process::builder().start_method(StartMethod::ForkServer).spawn(|x: u32| x + 1, 41)?;
/// assert_eq!(process.join()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(alias = "get_context")]
#[non_exhaustive]
pub enum StartMethod {
    /// The executable is started anew.
    #[default]
    Spawn,
    /// A process with one thread, started anew at the first use, copies itself. It ends with this process; when it is
    /// killed, its children live on and the next start gets another one. One that does not answer for two seconds,
    /// because it was stopped or is stuck, is killed.
    ///
    /// A child has the directory, the environment and the standard streams that this process has when it starts the
    /// child. All else that a process inherits, such as umask and resource limits, is as it was at the server's start.
    ForkServer,
    /// This process copies itself; from [`StartMethod::fork`].
    #[doc(hidden)]
    Fork(Promise),
}

/// What the caller of [`StartMethod::fork`] promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Promise(());

impl StartMethod {
    /// This process copies itself, with all its memory and open descriptors. It is refused when other threads run.
    ///
    /// # Safety
    ///
    /// Nothing in the child may rely on being alone with what it inherited: locks that are held, files whose position is
    /// shared, memory mapped for one process.
    #[allow(unsafe_code)]
    pub unsafe fn fork() -> StartMethod {
        StartMethod::Fork(Promise(()))
    }
}

static DEFAULT: OnceLock<StartMethod> = OnceLock::new();

/// How processes are started that do not say it themselves; see [`Builder::start_method`](crate::Builder::start_method).
/// Can be set once.
///
/// # Errors
///
/// It was set before.
pub fn set_start_method(method: StartMethod) -> Result<(), StartMethodError> {
    DEFAULT.set(method).map_err(|_| StartMethodError(()))
}

/// How processes are started that do not say it themselves.
pub fn start_method() -> StartMethod {
    DEFAULT.get().copied().unwrap_or_default()
}

/// The start method was set before.
#[derive(Debug)]
pub struct StartMethodError(());

impl fmt::Display for StartMethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the start method was set before")
    }
}

impl std::error::Error for StartMethodError {}

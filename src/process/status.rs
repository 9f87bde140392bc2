//! How a process ended.

use std::fmt;

use nix::sys::signal::Signal;

/// How a process ended.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::Process;
///
/// let mut process: Process<()> = Process::spawn(|code| std::process::exit(code), 3)?;
/// let _ = process.join();
/// let status = process.exit_status().unwrap();
/// assert_eq!((status.code(), status.signal()), (Some(3), None));
/// assert_eq!(status.to_string(), "exit code 3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStatus(End);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Code(i32),
    Signal(i32),
    /// Somebody else in this process reaped it (`waitpid(-1)`), or SIGCHLD is ignored.
    Unknown,
}

impl ExitStatus {
    pub(crate) const UNKNOWN: ExitStatus = ExitStatus(End::Unknown);

    pub(crate) fn exited(code: i32) -> ExitStatus {
        ExitStatus(End::Code(code))
    }

    pub(crate) fn killed(signal: i32) -> ExitStatus {
        ExitStatus(End::Signal(signal))
    }

    /// Whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.0 == End::Code(0)
    }

    /// What it exited with; `None` = a signal killed it, or nobody knows.
    pub fn code(&self) -> Option<i32> {
        match self.0 {
            End::Code(code) => Some(code),
            End::Signal(_) | End::Unknown => None,
        }
    }

    /// The signal that killed it; `None` = it exited, or nobody knows.
    pub fn signal(&self) -> Option<i32> {
        match self.0 {
            End::Signal(signal) => Some(signal),
            End::Code(_) | End::Unknown => None,
        }
    }

    /// Both in one number: what it exited with, or minus the signal that killed it. `None` = nobody knows, because
    /// something else in this process reaped it.
    #[doc(alias = "exitcode")]
    pub fn exit_code(&self) -> Option<i32> {
        self.code().or(self.signal().map(|signal| -signal))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            End::Code(code) => write!(f, "exit code {code}"),
            End::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "signal {number} ({signal})"),
                Err(_) => write!(f, "signal {number}"),
            },
            End::Unknown => f.write_str("unknown status (something else reaped the process)"),
        }
    }
}

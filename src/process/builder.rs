//! What to run and how: name, environment, standard streams. No system call is made before `spawn`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::Process;
use super::error::SpawnError;
use super::start::{StartMethod, start_method};

/// A process to be started with more to say about it than a function and its arguments.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, Stdio};
///
/// let mut process = Process::builder()
///     .name("reader")
///     .env("ROOM", "7")
///     .stdin(Stdio::null())
///     .spawn(|()| std::env::var("ROOM").unwrap(), ())?;
/// assert_eq!(process.name(), "reader");
/// assert_eq!(process.join()?, "7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    pub(crate) name: Option<String>,
    pub(crate) daemon: bool,
    /// A process of our own, that does not count among the children.
    pub(crate) unnumbered: bool,
    /// A daemon that looks after its parent by itself, to clear up when that is gone.
    pub(crate) untied: bool,
    start_method: Option<StartMethod>,
    clears: bool,
    /// `None` = not passed on.
    changes: BTreeMap<OsString, Option<OsString>>,
    pub(crate) streams: [Stdio; 3],
}

impl Builder {
    /// Its name in [`current_process`](crate::current_process), in messages and in `ps`. Without one it is
    /// `Process-1` for the first child of the main process, `Process-1:2` for that one's second child.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Whether it ends with this process, however that ends: asked to (SIGTERM) at a normal exit, killed by the kernel if
    /// this process dies in any other way, `kill -9` included. A daemon cannot spawn: it would leave its children behind.
    ///
    /// Without this a process outlives a parent that dies, and a parent that exits waits for it.
    ///
    /// A copy of this process by `fork` keeps its daemons alive as long as it lives itself.
    ///
    /// ```
    /// multiprocess::testing!();
    /// use multiprocess::{Process, SpawnFailure};
    ///
    /// let mut daemon = Process::builder().daemon(true).spawn(
    ///     |()| matches!(Process::spawn(|()| (), ()).unwrap_err().reason(), SpawnFailure::Daemon),
    ///     (),
    /// )?;
    /// assert!(daemon.is_daemon() && daemon.join()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = daemon;
        self
    }

    /// How it comes to be; as [`set_start_method`](crate::set_start_method) said otherwise.
    pub fn start_method(mut self, method: StartMethod) -> Builder {
        self.start_method = Some(method);
        self
    }

    pub(crate) fn method(&self) -> StartMethod {
        self.start_method.unwrap_or_else(start_method)
    }

    pub(crate) fn unnumbered(mut self) -> Builder {
        self.unnumbered = true;
        self
    }

    pub(crate) fn untied(mut self) -> Builder {
        self.untied = true;
        self
    }

    /// Sets a variable of its environment, which is a copy of this process's otherwise.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        self.changes.insert(key.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Leaves a variable out of its environment.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Builder {
        self.changes.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Starts it with no environment but what is set from here on.
    pub fn env_clear(mut self) -> Builder {
        self.clears = true;
        self.changes.clear();
        self
    }

    /// What it reads as standard input; nothing by default, because two readers of one terminal disturb each other.
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Builder {
        self.streams[0] = stream.into();
        self
    }

    /// Where its standard output goes; by default where this process's goes.
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Builder {
        self.streams[1] = stream.into();
        self
    }

    /// Where its standard error goes; by default where this process's goes.
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Builder {
        self.streams[2] = stream.into();
        self
    }

    /// Starts it; see [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// As of [`Process::spawn`]; also a name or an environment that holds a NUL.
    pub fn spawn<A, R>(self, f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError<A>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        Process::start(self, f, args)
    }

    /// Whether it is not the environment of this process.
    pub(crate) fn changes_environment(&self) -> bool {
        self.clears || !self.changes.is_empty()
    }

    /// The environment it gets.
    pub(crate) fn environment(&self) -> BTreeMap<OsString, OsString> {
        let mut environment = BTreeMap::new();
        if !self.clears {
            environment.extend(std::env::vars_os());
        }
        for (key, change) in &self.changes {
            match change {
                Some(value) => environment.insert(key.clone(), value.clone()),
                None => environment.remove(key),
            };
        }
        environment
    }
}

/// What a standard stream of a process is.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, Stdio};
/// use std::io::{Read, Seek};
///
/// # let path = std::env::temp_dir().join(format!("multiprocess-doc-{}", std::process::id()));
/// # let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
/// # std::fs::remove_file(&path)?;
/// Process::builder().stdout(file.try_clone()?).spawn(|()| println!("hello"), ())?.join()?;
/// file.rewind()?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Stdio(pub(crate) Stream);

#[derive(Debug, Default)]
pub(crate) enum Stream {
    /// Input from nowhere, output to where this process's goes.
    #[default]
    Usual,
    Inherit,
    Null,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// The stream that this process has.
    pub fn inherit() -> Stdio {
        Stdio(Stream::Inherit)
    }

    /// `/dev/null`.
    pub fn null() -> Stdio {
        Stdio(Stream::Null)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Stdio {
        Stdio(Stream::Descriptor(descriptor))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        OwnedFd::from(file).into()
    }
}

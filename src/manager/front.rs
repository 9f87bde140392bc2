//! `Manager`: a server, as who started it or connected to it has it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipc_pipe::codec;
use ipc_pipe::{Address, Key, Link, Waitable, Watch};
use ipc_sync::{Deadline, forks};

use super::builder::ManagerBuilder;
use super::client::{Client, Endpoint};
use super::error::{CallError, ManagerError};
use super::message::{Answer, Kind, Op, Reader, Write};
use super::proxy::{done, number};
use super::start::END;
use super::statistics::Statistics;
use crate::process::{self, Process};

/// A server process that keeps objects for any number of other processes: dicts, lists, locks, queues and the rest.
///
/// [`start`](Manager::start) makes one; [`connect`](Manager::connect) finds one that an unrelated program made. Objects are made
/// here, and their proxies go anywhere: to other processes as arguments, over queues and pipes, and into other objects of
/// the same server. A `Manager` itself stays in its process.
///
/// With a name, as in [`dict_named`](Manager::dict_named), an object is made once and found by everybody; it stays until
/// [`remove`](Manager::remove) or the end of the server. Without one it goes with its last proxy.
///
/// ```
/// # multiprocess::testing!();
/// use multiprocess::{Manager, Process};
/// use multiprocess::manager::{Dict, List};
///
/// let manager = Manager::start()?;
/// let pages: Dict<String, List<u32>> = manager.dict()?;
/// pages.set("a", &manager.list()?)?; // a list in a dict is the list, not a copy
///
/// let mut worker = Process::spawn(
///     |pages: Dict<String, List<u32>>| pages.get("a").unwrap().unwrap().push(&7).unwrap(),
///     pages.clone(),
/// )?;
/// worker.join()?;
/// assert_eq!(pages.get("a")?.unwrap().to_vec()?, [7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What blocks
///
/// Making an object, and every call of a proxy, is a trip to the server, a few microseconds. See the types for calls that wait for
/// others.
///
/// # When somebody dies
///
/// When a client dies, its locks, permits, waiting calls and references come back at once. When the server dies, every call of
/// every proxy says so ([`CallError::ServerDied`]) within 250 ms. A server started at the same address with the same key is
/// found by the proxies of *named* objects; what was [saved](Manager::save) can be [loaded](Manager::load) into it.
///
/// The server ends when the `Manager` that started it is dropped, and, however it comes about, when the process of that
/// `Manager` has ended. Ctrl-C does not end it.
///
/// # Who gets in
///
/// Processes of this user that know the key; others only if [allowed](ManagerBuilder::allow_uid). A proxy takes address and key
/// along in messages to other processes: whoever is sent a proxy may talk to its server. The key is in no argument list, in no
/// environment, and in nothing that a server keeps.
#[doc(alias = "SyncManager")]
#[doc(alias = "multiprocessing.Manager")]
pub struct Manager {
    client: Arc<Client>,
    key: Key,
    pid: u32,
    /// The server that is ours.
    child: Option<Child>,
    /// Copies of this process by fork have no server.
    forks: u32,
}

struct Child {
    process: Process<()>,
    /// Its address is nobody else's, and can be cleared up.
    is_private: bool,
}

/// A name of a server; see [`Manager::names`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Named {
    /// The name.
    pub name: String,
    /// What kind of object has it: `dict`, `list`, …
    pub kind: &'static str,
}

impl Manager {
    /// Starts a server in a process of its own, at an address of its own, with a random key; waits until it listens.
    ///
    /// [`init`](crate::init) must come first in `main`, as for any process. A [daemon](crate::Builder::daemon) can start none.
    ///
    /// # Errors
    ///
    /// See [`ManagerBuilder::start`].
    pub fn start() -> Result<Manager, ManagerError> {
        Manager::builder().start()
    }

    /// A server to be started with more to say about it.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// Connects to a server that is there, within ten seconds. It goes on when this is dropped.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or has another key; see [`ManagerError`].
    pub fn connect(address: &Address, key: &Key) -> Result<Manager, ManagerError> {
        Manager::connect_until(address, key, None)
    }

    /// As [`connect`](Manager::connect), within `timeout`.
    ///
    /// # Errors
    ///
    /// As of [`connect`](Manager::connect); [`CallError::TimedOut`].
    pub fn connect_timeout(address: &Address, key: &Key, timeout: Duration) -> Result<Manager, ManagerError> {
        Manager::connect_until(address, key, Some(Deadline::after(timeout)))
    }

    fn connect_until(
        address: &Address,
        key: &Key,
        deadline: Option<Deadline>,
    ) -> Result<Manager, ManagerError> {
        let client = Client::of(&Endpoint::new(address, key));
        let pid = meet(&client, deadline).map_err(ManagerError::Connect)?;
        Ok(Manager { client, key: key.clone(), pid, child: None, forks: forks() })
    }

    pub(super) fn of_child(
        process: Process<()>,
        address: &Address,
        key: &Key,
        is_private: bool,
    ) -> Result<Manager, ManagerError> {
        let client = Client::of(&Endpoint::new(address, key));
        let pid = process.pid();
        let child = Some(Child { process, is_private });
        let manager = Manager { client, key: key.clone(), pid, child, forks: forks() };
        meet(&manager.client, None).map_err(ManagerError::Connect)?;
        Ok(manager)
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.client.endpoint().address()
    }

    /// What clients must know.
    #[doc(alias = "authkey")]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its process, for humans and logs; over a network, on its machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the server, and waits until it has, if this `Manager` started it: it is killed when it needs more than a second. Calls
    /// under way, of whomever, answer [`CallError::ServerDied`]. What was not [saved](Manager::save) is gone. Does nothing if the
    /// server has ended.
    ///
    /// # Errors
    ///
    /// The server does not answer, and is not ours to kill.
    pub fn shutdown(&self) -> Result<(), CallError> {
        let ask = || match self.client.ask_until(Deadline::after(END), Op::Shutdown) {
            Err(CallError::ServerDied) => Ok(()),
            asked => asked,
        };
        let Some(child) = &self.child else { return ask() };
        // Where one of ours has ended another server may be by now, which is not to be asked.
        if !child.process.child().is_ready() {
            child.end(ask().is_ok());
        }
        Ok(())
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    ///
    /// As of [`join_timeout`](Manager::join_timeout).
    pub fn join(&self) -> Result<(), CallError> {
        self.join_until(Deadline::NEVER).map(drop)
    }

    /// Waits until the server has ended, `timeout` at most; whether it has.
    ///
    /// # Errors
    ///
    /// It is not ours, and one more connection to it is not to be had.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, CallError> {
        self.join_until(Deadline::after(timeout))
    }

    fn join_until(&self, deadline: Deadline) -> Result<bool, CallError> {
        let sentinel = match self.sentinel() {
            Ok(sentinel) => sentinel,
            Err(CallError::ServerDied) => return Ok(true),
            Err(error) => return Err(error),
        };
        let waited = match deadline.remaining() {
            Some(time) => ipc_pipe::wait_timeout(&[&sentinel], time),
            None => ipc_pipe::wait(&[&sentinel]),
        };
        Ok(!waited.is_empty())
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// What is ready, for [`wait`](crate::wait()), when the server has ended. One that is not ours costs one more connection.
    ///
    /// # Errors
    ///
    /// [`CallError::ServerDied`]: it has. Else see [`CallError`].
    pub fn sentinel(&self) -> Result<Sentinel, CallError> {
        let sight = match &self.child {
            Some(child) => Sight::Process(child.process.child().clone()),
            None => Sight::Link(self.client.link()?),
        };
        Ok(Sentinel { sight })
    }

    /// The names that the server knows, and what has them.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn names(&self) -> Result<Vec<Named>, CallError> {
        self.client.ask(
            Op::Names,
            |_| (),
            |answer, mut rest| {
                done(answer, rest)?;
                (0..rest.u32()?).map(|_| named(&mut rest)).collect()
            },
        )
    }

    /// The name is free again; false = there was none. The object goes with its last proxy; those that are there still work.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn remove(&self, name: &str) -> Result<bool, CallError> {
        let removed = self.client.ask(Op::Remove, |message| message.put_bytes(name.as_bytes()), done);
        match removed {
            Err(CallError::NoSuchName { .. }) => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// What the server has at the moment.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "debug_info")]
    #[doc(alias = "number_of_objects")]
    pub fn statistics(&self) -> Result<Statistics, CallError> {
        self.client.ask(Op::Statistics, |_| (), statistics)
    }

    /// Has the server write all named data to a file: dicts, lists, namespaces, values and arrays, with the unnamed ones that they
    /// refer to, as they are at one moment. Locks, queues and their kin are no data. The file replaces the one that was there, in
    /// one step: who reads it finds the old one or the new one.
    ///
    /// The server writes it, and answers nobody meanwhile. The path is one of its machine, and the file this user's alone (0600).
    ///
    /// ```
    /// # multiprocess::testing!();
    /// use multiprocess::Manager;
    ///
    /// # let directory = std::env::temp_dir().join(format!("multiprocess-doc-save-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// let file = directory.join("saved");
    /// let first = Manager::start()?;
    /// first.dict_named::<String, i32>("results")?.set("a", &1)?;
    /// first.save(&file)?;
    /// drop(first);
    ///
    /// let second = Manager::start()?;
    /// second.load(&file)?;
    /// assert_eq!(second.dict_named::<String, i32>("results")?.get("a")?, Some(1));
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`]: the server cannot write there. Else see [`CallError`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CallError> {
        let path = absolute(path.as_ref())?;
        self.client.ask(Op::Save, |message| message.put_bytes(&path), done)
    }

    /// Has the server read what was [saved](Manager::save); answers how many names came.
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`]: the file is not there, or not whole, or has a name that the server has already; then nothing was
    /// changed. Else see [`CallError`].
    pub fn load(&self, path: impl AsRef<Path>) -> Result<usize, CallError> {
        let path = absolute(path.as_ref())?;
        let names = self.client.ask(Op::Load, |message| message.put_bytes(&path), number)?;
        Ok(usize::try_from(names).unwrap_or(usize::MAX))
    }
}

/// The path as the server must have it, which is elsewhere.
fn absolute(path: &Path) -> Result<Vec<u8>, CallError> {
    use std::os::unix::ffi::OsStringExt;
    let path = std::path::absolute(path).map_err(|error| CallError::Failed(error.to_string().into()))?;
    Ok(path.into_os_string().into_vec())
}

/// Sees that the server is there, and answers its process. This process may have known another one at the same address.
fn meet(client: &Client, deadline: Option<Deadline>) -> Result<u32, CallError> {
    let ask = || client.seat_until(deadline)?.ask(Op::Statistics, 0, |_| (), statistics);
    let met = match ask() {
        Err(CallError::ServerDied) => ask(),
        met => met,
    };
    met.map(|statistics| statistics.pid)
}

fn statistics(answer: Answer, rest: Reader<'_>) -> Result<Statistics, CallError> {
    done(answer, rest)?;
    codec::decode(rest.rest()).map_err(CallError::Decode)
}

fn named(rest: &mut Reader<'_>) -> Result<Named, CallError> {
    let (name, kind, _) = (rest.bytes()?, rest.u8()?, rest.number()?);
    let kind = Kind::of(kind).ok_or(CallError::Protocol)?.word();
    Ok(Named { name: String::from_utf8_lossy(name).into_owned(), kind })
}

impl Child {
    /// Sees the process end that was told to, or else kills it.
    fn end(&self, was_told: bool) {
        let child = self.process.child();
        let has_ended = || !ipc_pipe::wait_timeout(&[child], END).is_empty();
        if !(was_told && has_ended()) {
            let _ = self.process.kill();
            has_ended();
        }
    }
}

impl Drop for Manager {
    /// The server ends, if this started it, as by [`shutdown`](Manager::shutdown). In a child made by `fork` it goes on.
    fn drop(&mut self) {
        let Some(child) = self.child.as_ref().filter(|_| self.forks == forks()) else { return };
        let _ = self.shutdown();
        if let (true, Address::Unix(path)) = (child.is_private, self.address()) {
            // There only if the server was killed.
            let _ = fs::remove_file(path);
            let _ = path.parent().map(fs::remove_dir);
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Manager");
        shown.field("address", self.address()).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Ready when a server has ended; see [`Manager::sentinel`].
#[derive(Debug)]
pub struct Sentinel {
    sight: Sight,
}

#[derive(Debug)]
enum Sight {
    Process(process::Child),
    /// On which nothing is ever said.
    Link(Link),
}

impl Waitable for Sentinel {
    fn is_ready(&self) -> bool {
        match &self.sight {
            Sight::Process(child) => child.is_ready(),
            Sight::Link(link) => link.is_ready(),
        }
    }

    fn watch(&self) -> Watch<'_> {
        match &self.sight {
            Sight::Process(child) => child.watch(),
            Sight::Link(link) => link.watch(),
        }
    }
}

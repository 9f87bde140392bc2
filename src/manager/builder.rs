//! What a server is to be: its address, its key, what it gives to each client.

use std::io;

use ipc_pipe::{Address, Key, Listener};
use serde::{Deserialize, Serialize};

use super::error::ManagerError;
use super::front::Manager;
use super::server::{self, Limits};
use super::start;

/// A server to be started with more to say about it. No system call is made before [`start`](ManagerBuilder::start) or
/// [`serve`](ManagerBuilder::serve).
///
/// ```
/// # multiprocess::testing!();
/// use multiprocess::{Address, Key, Manager};
///
/// let key = Key::random()?;
/// let manager = Manager::builder()
///     .address(Address::Abstract(format!("doc-{}", std::process::id()).into()))
///     .auth(key.clone())
///     .max_message(1 << 20)
///     .start()?;
/// let numbers = manager.list_named::<i32>("numbers")?;
/// numbers.push(&1)?;
///
/// // Any other process that knows address and key:
/// let other = Manager::connect(manager.address(), &key)?;
/// assert_eq!(other.list_named::<i32>("numbers")?.to_vec()?, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[doc(alias = "BaseManager")]
pub struct ManagerBuilder {
    address: Option<Address>,
    key: Option<Key>,
    uids: Vec<u32>,
    limits: Limits,
}

/// What the process of a server is given.
#[derive(Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) address: Address,
    pub(super) key: Box<[u8]>,
    uids: Vec<u32>,
    message: usize,
    bytes: u64,
    objects: usize,
    waits: usize,
    links: usize,
}

impl ManagerBuilder {
    /// Where it listens. Unless set, that is a socket in a new directory that only this user can enter, under `$XDG_RUNTIME_DIR`
    /// or where temporary files are; the directory goes with the server.
    ///
    /// An address can be used again as soon as its server has ended, however it ended.
    pub fn address(mut self, address: Address) -> ManagerBuilder {
        self.address = Some(address);
        self
    }

    /// What clients must know; 32 random bytes unless set.
    #[doc(alias = "authkey")]
    pub fn auth(mut self, key: Key) -> ManagerBuilder {
        self.key = Some(key);
        self
    }

    /// Lets processes of another user in, if they know the key; see
    /// [`ListenerOptions::allow_uid`](crate::connection::ListenerOptions::allow_uid).
    pub fn allow_uid(mut self, uid: u32) -> ManagerBuilder {
        self.uids.push(uid);
        self
    }

    /// Bytes of the largest message to or from a client, and so of the largest value; 64 MiB unless set.
    pub fn max_message(mut self, bytes: usize) -> ManagerBuilder {
        self.limits.message = bytes;
        self
    }

    /// Bytes of keys and values that one client may store; 1 GiB unless set. What it stored counts until it is removed, whoever
    /// does that, or until the client is gone.
    pub fn client_bytes(mut self, bytes: u64) -> ManagerBuilder {
        self.limits.bytes = bytes;
        self
    }

    /// Objects that one client may have proxies of, names it may make; 100,000 unless set.
    pub fn client_objects(mut self, objects: usize) -> ManagerBuilder {
        self.limits.objects = objects;
        self
    }

    /// Calls of one client that may wait at the same time; 1024 unless set.
    pub fn client_waits(mut self, calls: usize) -> ManagerBuilder {
        self.limits.waits = calls;
        self
    }

    /// Connections of one client; 256 unless set. So many of its threads can be in calls at the same time, and one more waits
    /// until one of them is done. Of the calls that wait for others (for a lock, an item, an event), one eighth fewer:
    /// beyond that they are [`CallError::Exhausted`](crate::manager::CallError::Exhausted) at once, for whoever is to wake
    /// them must get through.
    pub fn client_links(mut self, links: usize) -> ManagerBuilder {
        self.limits.links = links;
        self
    }

    /// Starts a process that is the server, and waits until it listens.
    ///
    /// It ends with the [`Manager`]; or, if that is never dropped, with this process, however that ends.
    ///
    /// # Errors
    ///
    /// The process cannot be started (see [`Process::spawn`](crate::Process::spawn)), or cannot listen there.
    #[doc(alias = "BaseManager.start")]
    pub fn start(self) -> Result<Manager, ManagerError> {
        start::start(self)
    }

    /// Serves in this process, in this thread, until a client [shuts](Manager::shutdown) the server down.
    ///
    /// The address must be known to clients, so it is to be set; the key too.
    ///
    /// # Errors
    ///
    /// It cannot listen there; or the kernel fails it later.
    #[doc(alias = "serve_forever")]
    #[doc(alias = "get_server")]
    pub fn serve(self) -> Result<(), ManagerError> {
        let setup = self.setup().map_err(ManagerError::Listen)?;
        let listener = setup.listen().map_err(ManagerError::Listen)?;
        server::serve(listener, setup.limits()).map_err(ManagerError::Served)
    }

    /// Whether the address is nobody's but its server's.
    pub(super) fn is_private(&self) -> bool {
        self.address.is_none()
    }

    pub(super) fn setup(self) -> io::Result<Setup> {
        let ManagerBuilder { address, key, uids, limits } = self;
        let key = key.map_or_else(Key::random, Ok)?;
        let Limits { message, bytes, objects, waits, links } = limits;
        let address = address.unwrap_or_else(Address::fresh);
        Ok(Setup { address, key: key.expose().into(), uids, message, bytes, objects, waits, links })
    }
}

impl Setup {
    pub(super) fn key(&self) -> io::Result<Key> {
        Key::new(&self.key).map_err(io::Error::other)
    }

    pub(super) fn limits(&self) -> Limits {
        let Setup { message, bytes, objects, waits, links, .. } = *self;
        Limits { message, bytes, objects, waits, links }
    }

    pub(super) fn listen(&self) -> io::Result<Listener> {
        let options = Listener::options().address(self.address.clone()).key(self.key()?);
        self.uids.iter().fold(options, |options, uid| options.allow_uid(*uid)).bind()
    }
}

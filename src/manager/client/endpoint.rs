//! Where a server is, and how a link to it is made.

use std::fmt;
use std::io;

use ipc_pipe::{Address, ConnectError, Key, Link, connect_timeout};
use ipc_sync::Deadline;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::manager::error::CallError;

/// Address and key of a server. It is serialized by proxies only, and only into messages of one family.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::manager) struct Endpoint {
    address: Address,
    key: Box<[u8]>,
}

impl Endpoint {
    pub(in crate::manager) fn new(address: &Address, key: &Key) -> Endpoint {
        Endpoint { address: address.clone(), key: key.expose().into() }
    }

    pub(in crate::manager) fn address(&self) -> &Address {
        &self.address
    }

    /// A new link, authenticated on both sides.
    ///
    /// # Errors
    ///
    /// Nobody is there; or somebody with another key; or this process has no descriptor left.
    pub(super) fn dial(&self, until: Deadline) -> Result<Link, Unreached> {
        let key = Key::new(&self.key)
            .map_err(|error| Unreached::Other(CallError::Failed(error.to_string().into())))?;
        let time = until.remaining().unwrap_or(std::time::Duration::MAX);
        connect_timeout(&self.address, &key, time).map_err(Unreached::from)
    }
}

/// Why there is no link.
pub(super) enum Unreached {
    /// Nobody is there.
    Absent(ConnectError),
    /// Somebody is there.
    Other(CallError),
}

impl From<ConnectError> for Unreached {
    fn from(error: ConnectError) -> Unreached {
        match error {
            ConnectError::NotFound | ConnectError::Refused => Unreached::Absent(error),
            ConnectError::TimedOut => Unreached::Other(CallError::TimedOut),
            ConnectError::Io(error) if is_ours(&error) => Unreached::Other(CallError::Link(error.into())),
            ConnectError::Io(error) if is_end(&error) => Unreached::Absent(ConnectError::Io(error)),
            other => Unreached::Other(CallError::Unreachable(other)),
        }
    }
}

/// Whether it is this process that has no place.
fn is_ours(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS))
}

/// Whether the other side ended in the middle of it.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl From<Unreached> for CallError {
    fn from(why: Unreached) -> CallError {
        match why {
            Unreached::Absent(error) => CallError::Unreachable(error),
            Unreached::Other(error) => error,
        }
    }
}

impl fmt::Debug for Endpoint {
    /// The key is not for everybody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

//! Where a server is, and how a link to it is made.

use std::fmt;

use ipc_sync::Deadline;
use serde::{Deserialize, Serialize};

use crate::manager::error::CallError;
use crate::manager::link::Link;

/// Address and key of a server.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::manager) struct Endpoint {
    address: String,
    key: Box<[u8]>,
}

impl Endpoint {
    /// A new link, authenticated on both sides.
    ///
    /// # Errors
    ///
    /// Nobody is there; or somebody with another key; or this process has no descriptor left.
    pub(super) fn dial(&self, _until: Deadline) -> Result<Link, Unreached> {
        Err(Unreached::Absent("no listener yet".into()))
    }
}

/// Why there is no link.
pub(super) enum Unreached {
    /// Nobody is there.
    Absent(Box<dyn std::error::Error + Send + Sync>),
    /// Somebody is there.
    Other(CallError),
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

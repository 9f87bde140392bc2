//! What a server says of itself.

use serde::{Deserialize, Serialize};

/// What a server has at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Its process.
    pub pid: u32,
    /// Processes that are connected.
    pub clients: u64,
    /// Connections of them; a client has one for each thread that is in a call at the same time.
    pub links: u64,
    /// Objects, named ones and others.
    pub objects: u64,
    /// Names.
    pub names: u64,
    /// Bytes of keys and values that connected clients stored, and what it takes to keep them.
    pub bytes: u64,
    /// Calls that wait for a lock, an item or whatever else.
    pub waiting: u64,
    /// Calls that were answered since the server began. A batch is one for each of its requests.
    pub calls: u64,
    /// Connections that were closed because of what came over them.
    pub refused: u64,
}

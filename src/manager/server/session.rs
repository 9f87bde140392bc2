//! A client as the server knows it: what it has, and how much of it it may have.

use std::collections::{HashMap, HashSet};

use super::slab::ByNumber;
use crate::manager::message::ObjectId;

/// From here on the stakes of a session are looked through for objects that are gone.
const MANY_STAKES: usize = 64;

/// What one client may have at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::manager) struct Limits {
    /// Bytes of a message, and of an answer.
    pub(in crate::manager) message: usize,
    /// Bytes of values and keys that it stored, as long as they are stored.
    pub(in crate::manager) bytes: u64,
    /// Objects that it has references to, names that it made and references that it has lent.
    pub(in crate::manager) objects: usize,
    /// Calls that wait.
    pub(in crate::manager) waits: usize,
    /// Links of one session; and sessions of one process, which has one but while the end of another is not known yet.
    pub(in crate::manager) links: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message: 64 << 20, bytes: 1 << 30, objects: 100_000, waits: 1024, links: 256 }
    }
}

/// All links of one process.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) secret: [u8; 16],
    /// The process that began it; 0 = not known.
    pub(super) pid: u32,
    pub(super) links: usize,
    pub(super) waiting: usize,
    pub(super) bytes: u64,
    pub(super) references: HashMap<ObjectId, u64, ByNumber>,
    /// Names that it made, and references on their way that it has lent.
    pub(super) made: usize,
    stakes: HashSet<ObjectId, ByNumber>,
    prune_at: usize,
}

impl Session {
    pub(super) fn new(secret: [u8; 16], pid: u32) -> Session {
        Session {
            secret,
            pid,
            links: 1,
            waiting: 0,
            bytes: 0,
            references: HashMap::default(),
            made: 0,
            stakes: HashSet::default(),
            prune_at: MANY_STAKES,
        }
    }

    /// In a time that does not tell how much of it is right.
    pub(super) fn has_secret(&self, secret: &[u8; 16]) -> bool {
        self.secret.iter().zip(secret).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// Objects, by what its budget counts.
    pub(super) fn objects(&self) -> usize {
        self.references.len() + self.made
    }

    /// It may hold something of `object` from now on. `lives` tells which objects are still there.
    #[inline]
    pub(super) fn add_stake(&mut self, object: ObjectId, lives: impl Fn(ObjectId) -> bool) {
        self.stakes.insert(object);
        if self.stakes.len() > self.prune_at {
            self.stakes.retain(|object| lives(*object));
            self.prune_at = MANY_STAKES.max(2 * self.stakes.len());
        }
    }

    pub(super) fn take_stakes(&mut self) -> HashSet<ObjectId, ByNumber> {
        std::mem::take(&mut self.stakes)
    }
}

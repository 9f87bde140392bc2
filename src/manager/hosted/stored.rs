//! A value as the server keeps it: bytes that it does not understand.

use super::SessionId;
use crate::manager::message::{ObjectId, ValueRef};

/// Bytes, the objects that they refer to, and who stored them.
#[derive(Debug)]
pub(in crate::manager) struct Stored {
    bytes: Box<[u8]>,
    /// Mostly none.
    references: Box<[ObjectId]>,
    owner: SessionId,
}

impl Stored {
    pub(super) fn new(owner: SessionId, value: ValueRef<'_>) -> Stored {
        Stored { bytes: value.bytes.into(), references: value.references().collect(), owner }
    }

    pub(in crate::manager) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::manager) fn references(&self) -> &[ObjectId] {
        &self.references
    }

    pub(in crate::manager) fn owner(&self) -> SessionId {
        self.owner
    }

    /// What it is charged with.
    pub(in crate::manager) fn size(&self) -> usize {
        8 + 8 * self.references.len() + self.bytes.len()
    }

    /// Whether it is the same value: the same bytes, and the same objects in them.
    pub(in crate::manager) fn is(&self, value: ValueRef<'_>) -> bool {
        *self.bytes == *value.bytes && self.references.iter().copied().eq(value.references())
    }
}

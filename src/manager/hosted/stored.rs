//! A value as the server keeps it: bytes that it does not understand.

use super::{Desk, SessionId};
use crate::manager::message::{ObjectId, ValueRef, Write};

/// The session of what no client stored.
pub(in crate::manager) const NOBODY: SessionId = SessionId(0);

/// Memory that a value takes beside its bytes, about.
const OVERHEAD: usize = 64;

/// Memory that a reference takes beside its number, about: somebody counts it.
const COUNT: usize = 48;

impl ValueRef<'_> {
    /// What a session is charged with that stores it.
    pub(super) fn charge(&self) -> usize {
        self.size() + OVERHEAD + COUNT * self.references().len()
    }
}

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

    /// Writes the value as a message has it, with other numbers for the objects.
    pub(super) fn pack(&self, message: &mut Vec<u8>, number: &mut dyn FnMut(ObjectId) -> ObjectId) {
        let references: Vec<ObjectId> = self.references.iter().map(|id| number(*id)).collect();
        message.put_value(&references, &self.bytes);
    }

    /// The value that [`pack`](Stored::pack) wrote. It is nobody's: no session is charged with it.
    pub(super) fn unpack(
        value: ValueRef<'_>,
        number: &dyn Fn(ObjectId) -> ObjectId,
        desk: &mut Desk,
    ) -> Stored {
        let references: Box<[ObjectId]> = value.references().map(number).collect();
        desk.stored.extend_from_slice(&references);
        Stored { bytes: value.bytes.into(), references, owner: NOBODY }
    }

    pub(in crate::manager) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes of a value that `session` sent, if that changes nothing but bytes.
    #[inline]
    pub(super) fn overwrite(&mut self, session: SessionId, value: ValueRef<'_>) -> bool {
        let fits = self.bytes.len() == value.bytes.len() && self.owner == session;
        let plain = self.references.is_empty() && value.references().len() == 0;
        if fits && plain {
            self.bytes.copy_from_slice(value.bytes);
        }
        fits && plain
    }

    /// Other bytes, as many as it has, in place of them.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.bytes.copy_from_slice(bytes);
    }

    pub(in crate::manager) fn references(&self) -> &[ObjectId] {
        &self.references
    }

    pub(in crate::manager) fn owner(&self) -> SessionId {
        self.owner
    }

    /// What its owner is charged with.
    pub(super) fn charge(&self) -> usize {
        self.size() + OVERHEAD + COUNT * self.references.len()
    }

    /// What it takes in a message.
    pub(in crate::manager) fn size(&self) -> usize {
        8 + 8 * self.references.len() + self.bytes.len()
    }

    /// Whether it is the same value: the same bytes, and the same objects in them.
    pub(in crate::manager) fn is(&self, value: ValueRef<'_>) -> bool {
        *self.bytes == *value.bytes && self.references.iter().copied().eq(value.references())
    }
}

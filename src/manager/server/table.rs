//! All objects of a server, by number and by name, and who keeps each.

use std::collections::HashMap;
use std::rc::Rc;

use super::slab::Slab;
use crate::manager::hosted::{Object, SessionId};
use crate::manager::message::{Kind, ObjectId};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) object: Object,
    /// References of sessions.
    pub(super) references: u64,
    /// References of stored values and conditions, and those on their way.
    pub(super) stored: u64,
    pub(super) name: Option<Rc<[u8]>>,
    /// Who made the name.
    pub(super) maker: SessionId,
    /// Calls that wait here.
    pub(super) waiting: usize,
}

impl Entry {
    pub(super) fn new(kind: Kind, object: Object) -> Entry {
        Entry { kind, object, references: 0, stored: 0, name: None, maker: SessionId(0), waiting: 0 }
    }

    fn is_kept(&self) -> bool {
        self.references > 0 || self.stored > 0 || self.name.is_some()
    }
}

/// An unnamed object goes with its last reference, a named one when it has no name any more either.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Slab<Entry>,
    names: HashMap<Rc<[u8]>, ObjectId>,
    /// Numbers in stored values that were no object's when they were stored, and how often. None of them becomes an
    /// object's, or somebody could count down what others keep. Clients choose them, so they are hashed as names are.
    strays: HashMap<ObjectId, u64>,
}

impl Table {
    pub(super) fn insert(&mut self, entry: Entry) -> ObjectId {
        while self.strays.contains_key(&self.entries.next()) {
            self.entries.skip();
        }
        self.entries.insert(entry)
    }

    #[inline]
    pub(super) fn get(&self, id: ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ObjectId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    pub(super) fn object(&mut self, id: ObjectId) -> Option<&mut Object> {
        Some(&mut self.get_mut(id)?.object)
    }

    pub(super) fn named(&self, name: &[u8]) -> Option<ObjectId> {
        self.names.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&[u8], ObjectId, Kind)> {
        self.names.iter().filter_map(|(name, id)| Some((&**name, *id, self.get(*id)?.kind)))
    }

    pub(super) fn set_name(&mut self, id: ObjectId, name: &[u8], maker: SessionId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let name: Rc<[u8]> = name.into();
        (entry.name, entry.maker) = (Some(name.clone()), maker);
        self.names.insert(name, id);
    }

    /// The name is free; answers the object that had it, and who made the name.
    pub(super) fn remove_name(&mut self, name: &[u8]) -> Option<(ObjectId, SessionId)> {
        let id = self.names.remove(name)?;
        let entry = self.entries.get_mut(id)?;
        entry.name = None;
        Some((id, entry.maker))
    }

    /// A value with a reference to `id` was stored.
    pub(super) fn store(&mut self, id: ObjectId) {
        match self.entries.get_mut(id) {
            Some(entry) => entry.stored += 1,
            None => *self.strays.entry(id).or_default() += 1,
        }
    }

    /// A stored value with a reference to `id` went.
    pub(super) fn unstore(&mut self, id: ObjectId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.stored = entry.stored.saturating_sub(1);
        } else if let Some(count) = self.strays.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.strays.remove(&id);
            }
        }
    }

    /// Takes the object away if nobody keeps it.
    pub(super) fn take_unkept(&mut self, id: ObjectId) -> Option<Entry> {
        if self.get(id)?.is_kept() { None } else { self.entries.remove(id) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn names_len(&self) -> usize {
        self.names.len()
    }
}

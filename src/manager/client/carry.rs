//! Proxies inside values.
//!
//! The server takes a value for bytes. What objects it refers to stands beside them, so that the server can count, and give
//! whoever gets the value a reference to each; in the bytes a proxy is the place of its object in that list. While serde runs
//! over a value, this thread knows the list.

use std::cell::RefCell;
use std::sync::Arc;

use ipc_pipe::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Epoch};
use crate::manager::error::CallError;
use crate::manager::message::{ObjectId, ValueRef, Write};
use crate::manager::proxy::Handle;

thread_local! {
    static STORING: RefCell<Option<Cargo>> = const { RefCell::new(None) };
    static LOADING: RefCell<Option<Manifest>> = const { RefCell::new(None) };
}

/// What the value that is being written refers to.
struct Cargo {
    instance: u128,
    references: Vec<ObjectId>,
    /// They must be there until the server has counted.
    kept: Vec<Handle>,
}

/// What the value that is being read refers to.
struct Manifest {
    client: Arc<Client>,
    epoch: Epoch,
    instance: u128,
    /// `None` = a proxy has it.
    references: Vec<Option<ObjectId>>,
}

impl Drop for Manifest {
    fn drop(&mut self) {
        self.references.iter().flatten().for_each(|object| self.client.release(self.epoch, *object));
    }
}

/// Writes the values of one request.
pub(in crate::manager) struct Storing {
    instance: u128,
    kept: RefCell<Vec<Handle>>,
}

impl Storing {
    #[inline]
    pub(in crate::manager) fn new(instance: u128) -> Storing {
        Storing { instance, kept: RefCell::new(Vec::new()) }
    }

    /// Appends a value to a message.
    ///
    /// # Errors
    ///
    /// It cannot be serialized, or a proxy in it is of another server.
    #[inline]
    pub(in crate::manager) fn value<T: Serialize + ?Sized>(
        &self,
        value: &T,
        message: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        let start = message.len();
        message.put(&[0; 8]);
        let loading = Writing::begin(self.instance);
        codec::encode(value, message)?;
        let cargo = loading.end();
        let size = message.len() - start - 8;
        let length = u32::try_from(size);
        let length = length.map_err(|_| CallError::TooBig { size, max: u32::MAX as usize })?;
        message[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        match cargo {
            Some(cargo) if !cargo.references.is_empty() => self.load(cargo, start, message),
            _ => {}
        }
        Ok(())
    }

    /// Whether a value had a proxy in it.
    pub(in crate::manager) fn has_references(&self) -> bool {
        !self.kept.borrow().is_empty()
    }

    #[cold]
    fn load(&self, cargo: Cargo, start: usize, message: &mut Vec<u8>) {
        message[start..start + 4].copy_from_slice(&(cargo.references.len() as u32).to_le_bytes());
        let references = cargo.references.iter().flat_map(|object| object.to_le_bytes());
        message.splice(start + 8..start + 8, references);
        self.kept.borrow_mut().extend(cargo.kept);
    }
}

/// A value is being written in this thread, perhaps inside another.
struct Writing {
    outer: Option<Cargo>,
}

impl Writing {
    #[inline]
    fn begin(instance: u128) -> Writing {
        let cargo = Cargo { instance, references: Vec::new(), kept: Vec::new() };
        Writing { outer: STORING.replace(Some(cargo)) }
    }

    #[inline]
    fn end(self) -> Option<Cargo> {
        STORING.take()
    }
}

impl Drop for Writing {
    #[inline]
    fn drop(&mut self) {
        let ended = STORING.replace(self.outer.take());
        drop(ended); // outside the borrow: it may drop proxies
    }
}

/// The place of `handle` in the value that is being written; `None` = none is.
///
/// # Errors
///
/// The value goes to another server.
pub(in crate::manager) fn store(handle: &Handle) -> Option<Result<u32, CallError>> {
    let instance = STORING.with_borrow(|cargo| cargo.as_ref().map(|cargo| cargo.instance))?;
    // May call the server, and is outside the borrow for it.
    Some(handle.object_in(instance).map(|object| {
        STORING.with_borrow_mut(|cargo| match cargo {
            Some(cargo) => {
                cargo.references.push(object);
                cargo.kept.push(handle.clone());
                cargo.references.len() as u32 - 1
            }
            None => 0, // it was there just now
        })
    }))
}

/// Reads the values of one answer.
pub(in crate::manager) struct Loading<'c> {
    client: &'c Arc<Client>,
    epoch: Epoch,
    instance: u128,
}

impl<'c> Loading<'c> {
    #[inline]
    pub(in crate::manager) fn new(client: &'c Arc<Client>, epoch: Epoch, instance: u128) -> Loading<'c> {
        Loading { client, epoch, instance }
    }

    /// The value. The references that came with it are taken by the proxies in it.
    ///
    /// # Errors
    ///
    /// It is not a `T`. Its references are given back.
    #[inline]
    pub(in crate::manager) fn value<T: DeserializeOwned>(&self, value: ValueRef<'_>) -> Result<T, CallError> {
        if value.references().len() == 0 {
            return codec::decode(value.bytes).map_err(CallError::Decode);
        }
        self.value_with(value)
    }

    #[cold]
    fn value_with<T: DeserializeOwned>(&self, value: ValueRef<'_>) -> Result<T, CallError> {
        let _reading = Reading::begin(self.manifest(value));
        codec::decode(value.bytes).map_err(CallError::Decode)
    }

    /// The session that has the references, and the life of its server.
    pub(in crate::manager) fn session(&self) -> (Epoch, u128) {
        (self.epoch, self.instance)
    }

    /// The value is not wanted: the references that came with it are given back.
    pub(in crate::manager) fn discard(&self, value: ValueRef<'_>) {
        if value.references().len() > 0 {
            drop(self.manifest(value));
        }
    }

    fn manifest(&self, value: ValueRef<'_>) -> Manifest {
        let references = value.references().map(Some).collect();
        Manifest { client: self.client.clone(), epoch: self.epoch, instance: self.instance, references }
    }
}

/// A value is being read in this thread, perhaps inside another.
struct Reading {
    outer: Option<Manifest>,
}

impl Reading {
    fn begin(manifest: Manifest) -> Reading {
        Reading { outer: LOADING.replace(Some(manifest)) }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let ended = LOADING.replace(self.outer.take());
        drop(ended); // outside the borrow: it gives back what nobody took
    }
}

/// The object at `place` of the value that is being read, with the reference that came with it; `None` = there is none left.
pub(in crate::manager) fn take(place: u32) -> Option<(Arc<Client>, Epoch, u128, ObjectId)> {
    LOADING.with_borrow_mut(|manifest| {
        let manifest = manifest.as_mut()?;
        let object = manifest.references.get_mut(place as usize)?.take()?;
        Some((manifest.client.clone(), manifest.epoch, manifest.instance, object))
    })
}

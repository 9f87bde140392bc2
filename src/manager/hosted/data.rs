//! What a snapshot has of an object.
//!
//! ```text
//! dict    u64 count | entries in their order: key as bytes, value
//! list    u64 count | values
//! ```
//!
//! Values stand there as in a message, but for the numbers of objects, which are those of the snapshot.

use super::stored::{NOBODY, Stored};
use super::{Desk, Hosted, Object};
use crate::manager::message::{Malformed, ObjectId, Reader, Write};

/// Other numbers for objects.
pub(in crate::manager) type Renumber<'a> = dyn Fn(ObjectId) -> ObjectId + 'a;

impl Object {
    /// Appends what is in it; nothing if it is not data.
    pub(in crate::manager) fn pack(&self, bytes: &mut Vec<u8>, number: &mut dyn FnMut(ObjectId) -> ObjectId) {
        match self {
            Object::Dict(dict) => {
                bytes.put_number(dict.len() as u64);
                for (key, value) in dict.iter() {
                    bytes.put_bytes(key);
                    value.pack(bytes, number);
                }
            }
            Object::List(list) => {
                bytes.put_number(list.elements().len() as u64);
                list.elements().iter().for_each(|value| value.pack(bytes, number));
            }
            _ => {}
        }
    }

    /// Takes what [`pack`](Object::pack) wrote, in place of what is in it.
    ///
    /// # Errors
    ///
    /// It wrote something else.
    pub(in crate::manager) fn unpack(
        &mut self,
        bytes: &mut Reader<'_>,
        number: &Renumber<'_>,
        desk: &mut Desk,
    ) -> Result<(), Malformed> {
        self.clear(desk);
        for _ in 0..bytes.number()? {
            match self {
                Object::Dict(dict) => {
                    let (key, value) = (bytes.bytes()?, bytes.value()?);
                    dict.append(key, NOBODY, Stored::unpack(value, number, desk));
                }
                Object::List(list) => list.append(Stored::unpack(bytes.value()?, number, desk)),
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }

    /// Reads what [`pack`](Object::pack) wrote of an object with keys, or of one without.
    ///
    /// # Errors
    ///
    /// It wrote something else, or a number of an object is not `known`.
    pub(in crate::manager) fn skip(
        bytes: &mut Reader<'_>,
        has_keys: bool,
        known: impl Fn(ObjectId) -> bool,
    ) -> Result<(), Malformed> {
        for _ in 0..bytes.number()? {
            if has_keys {
                bytes.bytes()?;
            }
            if !bytes.value()?.references().all(&known) {
                return Err(Malformed);
            }
        }
        Ok(())
    }
}

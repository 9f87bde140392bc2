//! A function as a value that can be sent to another process of this program.
#![allow(unsafe_code)]

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::process::image::Image;

/// Travels as its place in the executable, and may be sent between two copies of one generic function only: types are
/// not checked on the way.
pub(crate) struct Function<A, R>(pub(crate) fn(A) -> R);

impl<A, R> Serialize for Function<A, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offset = Image::get().offset(self.0 as *const ());
        offset.ok_or(S::Error::custom("its function is not in the main executable"))?.serialize(serializer)
    }
}

impl<'de, A, R> Deserialize<'de> for Function<A, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offset = u64::deserialize(deserializer)?;
        let code =
            Image::get().code(offset).ok_or(D::Error::custom("the executable has no such function"))?;
        // SAFETY: the offset was made by `serialize` from a `fn(A) -> R`: both sides run the same file, and the one who
        // sends and the one who receives are the same generic function with the same types.
        Ok(Function(unsafe { std::mem::transmute::<*const (), fn(A) -> R>(code) }))
    }
}

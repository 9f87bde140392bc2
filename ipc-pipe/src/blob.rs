//! Bytes inside a message that serde takes at once.

use std::fmt;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes as a field of a message.
///
/// serde takes a `Vec<u8>` inside another value byte by byte, because it cannot know better. A `Blob` travels as one
/// piece. A message that *is* a `Vec<u8>` or a string needs none.
///
/// ```
/// use ipc_pipe::codec::{Blob, decode, encode};
///
/// let mut message = Vec::new();
/// encode(&("a picture", Blob(vec![7; 1000])), &mut message)?;
/// let (name, picture): (String, Blob) = decode(&message)?;
/// assert_eq!((name.as_str(), picture.len()), ("a picture", 1000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "serde_bytes")]
pub struct Blob(pub Vec<u8>);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Blob {
        Blob(bytes)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        deserializer.deserialize_byte_buf(IntoBlob)
    }
}

struct IntoBlob;

impl<'de> Visitor<'de> for IntoBlob {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes))
    }

    /// Formats without bytes of their own hand over a sequence.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes))
    }
}

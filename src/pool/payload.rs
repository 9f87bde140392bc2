//! A value on its way to a worker or back: its bytes, and the handles in it.
//!
//! A value is serialized once, when it is handed in, and sent later, perhaps more than once: to a worker that dies
//! and then to another. So its descriptors are kept beside its bytes. Long values lie in a memory of their own, whose
//! descriptor travels instead: nothing that is sent here is longer than a pipe has room for, so that a worker
//! that does not read holds up nobody.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ipc_pipe::codec::{self, Blob};
use ipc_shm::handle::{Incoming, Outgoing, Sending};
use ipc_shm::{Descriptor, sealed_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes that travel in the message itself.
const INLINE: usize = 12 << 10;

/// A value as it travels.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Payload {
    bytes: Blob,
    /// Where the bytes are if they are many, and how many.
    memory: Option<(Descriptor, u64)>,
    handles: Vec<Descriptor>,
}

impl Payload {
    /// Serializes a value that is sent now. Ends of pipes in it are gone here from now on.
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Result<Payload, String> {
        let mut payload = Payload::waiting(value)?;
        payload.put_away().map_err(|error| error.to_string())?;
        Ok(payload)
    }

    /// Serializes a value that is sent later, after [`put_away`](Payload::put_away): of many that wait, none takes a
    /// descriptor.
    pub(crate) fn waiting<T: Serialize + ?Sized>(value: &T) -> Result<Payload, String> {
        let (mut bytes, table) = (Vec::new(), Outgoing::open());
        codec::encode(value, &mut bytes).map_err(|error| error.to_string())?;
        Payload::keep(bytes, table.finish()).map_err(|error| error.to_string())
    }

    /// Makes it short enough to be sent, unless it is.
    pub(crate) fn put_away(&mut self) -> io::Result<()> {
        if self.bytes.len() > INLINE {
            self.memory = Some(put_away(&self.bytes)?);
            self.bytes = Blob::default();
        }
        Ok(())
    }

    /// Why a value cannot be serialized, if it cannot. It stays as it is.
    pub(super) fn refusal<T: Serialize>(value: &T) -> Option<String> {
        let _table = Outgoing::open();
        codec::encode(value, &mut Vec::new()).err().map(|error| error.to_string())
    }

    fn keep(bytes: Vec<u8>, sending: Sending) -> io::Result<Payload> {
        let handles = match sending.is_empty() {
            true => Vec::new(),
            false => sending
                .descriptors()
                .map(|handle| Ok(handle.try_clone_to_owned()?.into()))
                .collect::<io::Result<_>>()?,
        };
        sending.sent();
        Ok(Payload { bytes: Blob(bytes), memory: None, handles })
    }

    /// The value.
    pub(crate) fn open<T: DeserializeOwned>(self) -> Result<T, String> {
        let Payload { bytes: Blob(bytes), memory, handles } = self;
        let bytes = match memory {
            Some((memory, length)) => fetch(memory, length).map_err(|error| error.to_string())?,
            None => bytes,
        };
        let handles = handles.into_iter().map(Descriptor::try_into_owned).collect::<io::Result<_>>();
        let _table = Incoming::open(handles.map_err(|error| error.to_string())?);
        codec::decode(&bytes).map_err(|error| error.to_string())
    }

    /// Bytes that its message takes in a pipe.
    pub(crate) fn weight(&self) -> usize {
        if self.bytes.len() > INLINE { 0 } else { self.bytes.len() }
    }
}

fn put_away(bytes: &[u8]) -> io::Result<(Descriptor, u64)> {
    let memory = File::from(sealed_file(c"task", bytes.len())?);
    memory.write_all_at(bytes, 0)?;
    Ok((memory.into(), bytes.len() as u64))
}

fn fetch(memory: Descriptor, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    memory.try_into_file()?.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

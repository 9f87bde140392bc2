//! How a proxy travels.
//!
//! Inside a value for its own server it is a place in the list of objects beside the value. Inside a message of another
//! transport it is all that a process needs to come to the object, the key of the server among it: such messages are the
//! private memory of one family of processes. A reference is lent to the message, for a minute; whoever receives it takes it
//! over. Anywhere else, in a file say, serializing a proxy is an error, and the key stays where it is.

use std::time::Duration;

use ipc_shm::handle::on_outcome;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::Handle;
use super::handle::{done, number};
use crate::manager::client::{self, Client, Endpoint};
use crate::manager::error::CallError;
use crate::manager::message::{Kind, Op, Write};

/// How long a message may be on its way before its reference goes.
const ON_THE_WAY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
enum Form {
    Stored { kind: u8, place: u32 },
    Sent(Sent),
}

#[derive(Serialize, Deserialize)]
struct Sent {
    endpoint: Endpoint,
    instance: u128,
    object: u64,
    kind: u8,
    name: Option<Box<str>>,
    ticket: u64,
}

impl Handle {
    pub(in crate::manager) fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.kind() as u8;
        let form = match client::store(self) {
            Some(place) => Form::Stored { kind, place: place.map_err(ser::Error::custom)? },
            None => {
                on_outcome(|_| ()).map_err(ser::Error::custom)?; // it is a message of ours, or an error
                Form::Sent(self.lend().map_err(ser::Error::custom)?)
            }
        };
        form.serialize(serializer)
    }

    fn lend(&self) -> Result<Sent, CallError> {
        let time = ON_THE_WAY.as_nanos() as u64;
        let write = |message: &mut Vec<u8>, _: &client::Storing| {
            message.put_number(time);
            Ok(())
        };
        let ticket = self.call(Op::Lend, write, |answer, rest, _| number(answer, rest))?;
        let (instance, object) = self.identity();
        let endpoint = self.client().endpoint().clone();
        Ok(Sent {
            endpoint,
            instance,
            object,
            kind: self.kind() as u8,
            name: self.name().map(Box::from),
            ticket,
        })
    }

    pub(in crate::manager) fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<Handle, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let (Form::Stored { kind: found, .. } | Form::Sent(Sent { kind: found, .. })) = &form;
        if *found != kind as u8 {
            let found = Kind::of(*found).map_or("thing", Kind::word);
            return Err(de::Error::custom(format_args!("expected a {}, found a {found}", kind.word())));
        }
        match form {
            Form::Stored { place, .. } => match client::take(place) {
                Some((client, epoch, instance, object)) => {
                    Ok(Handle::new(client, kind, None, epoch, instance, object))
                }
                None => Err(de::Error::custom("a proxy that does not come from its server")),
            },
            Form::Sent(sent) => Ok(sent.claim(kind)),
        }
    }
}

impl Sent {
    /// The proxy. If its server cannot be asked now, the first call says why.
    fn claim(self, kind: Kind) -> Handle {
        let client = Client::of(&self.endpoint);
        let epoch =
            client.seat().ok().filter(|seat| seat.instance() == self.instance).and_then(|mut seat| {
                let write = |message: &mut Vec<u8>| message.put_number(self.ticket);
                seat.ask(Op::Claim, self.object, write, done).ok().map(|()| seat.epoch())
            });
        let name = self.name.as_deref();
        Handle::new(client, kind, name, epoch.unwrap_or_default(), self.instance, self.object)
    }
}

//! The server as clients see it, message by message.

mod calls;
mod mutants;
mod snapshots;

use std::sync::Once;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipc_pipe::{Address, Key, Link, Listener, codec, connect};
use support::{Folder, Rng, Test, seed, until};

use super::state::State;
use super::turns::Turns;
use super::{Limits, serve};
use crate::manager::message::*;
use crate::manager::statistics::Statistics;

/// What a process makes only once is made before anything is counted.
fn test(seconds: u64) -> Test {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let server = Server::start(Limits::default());
        server.client();
    });
    support::test(seconds)
}

/// A server in a thread of its own.
struct Server {
    address: Address,
    key: Key,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(limits: Limits) -> Server {
        Server::at(&Address::fresh(), move |listener| serve(listener, limits).unwrap())
    }

    fn at(address: &Address, serve: impl FnOnce(Listener) + Send + 'static) -> Server {
        let key = Key::random().unwrap();
        let listener = Listener::bind(address, key.clone()).unwrap();
        let address = listener.address().clone();
        let thread = thread::spawn(move || serve(listener));
        Server { address, key, thread: Some(thread) }
    }

    fn link(&self) -> Client {
        Client { link: connect(&self.address, &self.key).unwrap(), session: 0, secret: [0; 16] }
    }

    /// A client of its own.
    fn client(&self) -> Client {
        let mut client = self.link();
        client.hello().unwrap();
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut last = self.link();
        until(|| last.hello().is_ok()); // the server may still count clients that were just dropped
        last.ask(Op::Shutdown, 0, |_| ());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One link.
struct Client {
    link: Link,
    session: u64,
    secret: [u8; 16],
}

type Said = (Answer, Vec<u8>);

fn request(op: Op, object: ObjectId, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::new();
    Header { op, thread: 1, object }.write(&mut message);
    write(&mut message);
    message
}

impl Client {
    fn tell(&self, op: Op, object: ObjectId, write: impl FnOnce(&mut Vec<u8>)) {
        self.link.send_bytes(&request(op, object, write)).unwrap();
    }

    fn hear(&self) -> Said {
        let answer = self.link.recv_bytes().unwrap();
        (Answer::of(answer[0]).unwrap(), answer[1..].to_vec())
    }

    fn ask(&self, op: Op, object: ObjectId, write: impl FnOnce(&mut Vec<u8>)) -> Said {
        self.tell(op, object, write);
        self.hear()
    }

    fn hello(&mut self) -> Result<(), Said> {
        let (session, secret) = (self.session, self.secret);
        let said = self.ask(Op::Hello, 0, |message| {
            message.put_number(VERSION.into());
            message.put_number(session);
            message.put(&secret);
        });
        if said.0 != Answer::Done {
            return Err(said);
        }
        let mut reader = Reader::new(&said.1);
        reader.take(16).unwrap();
        (self.session, self.secret) = (reader.number().unwrap(), reader.array().unwrap());
        Ok(())
    }

    fn create(&self, kind: Kind, name: &[u8]) -> ObjectId {
        let (answer, rest) = self.ask(Op::Create, 0, |message| {
            message.put_u8(kind as u8);
            message.put_bytes(name);
        });
        assert_eq!(answer, Answer::Done);
        Reader::new(&rest).number().unwrap()
    }

    fn set(&self, dict: ObjectId, key: &[u8], value: &[u8]) {
        let said = self.ask(Op::MapSet, dict, |message| {
            message.put_bytes(key);
            message.put_value(&[], value);
        });
        assert_eq!(said.0, Answer::Done);
    }

    /// What the server says of itself.
    fn statistics(&self) -> Statistics {
        let (answer, rest) = self.ask(Op::Statistics, 0, |_| ());
        assert_eq!(answer, Answer::Done);
        codec::decode(&rest).unwrap()
    }

    /// Whether the server has closed the link.
    fn is_refused(&self) -> bool {
        self.link.recv_bytes().is_err()
    }

    fn get(&self, dict: ObjectId, key: &[u8]) -> Said {
        self.ask(Op::MapGet, dict, |message| message.put_bytes(key))
    }
}

fn at_base(statistics: &Statistics) -> bool {
    let Statistics { clients, links, objects, names, bytes, waiting, .. } = *statistics;
    (clients, links, objects, names, bytes, waiting) == (1, 1, 0, 0, 0, 0)
}

fn number(rest: &[u8]) -> u64 {
    Reader::new(rest).number().unwrap()
}

fn value(rest: &[u8]) -> &[u8] {
    Reader::new(rest).value().unwrap().bytes
}

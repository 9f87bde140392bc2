//! What a fuzzer plays, and the tests play again: bytes as the deeds of a hostile peer, as a message, and as a handshake.
#![allow(dead_code)] // each target plays one of them

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use ipc_pipe::auth::{Handshake, Role, Step};
use ipc_pipe::{Key, TryRecvError, codec, pipe};
use ipc_shm::Mapping;
use serde::{Deserialize, Serialize};

/// Bytes of a pipe's memory in which everything but the stores lies.
const FRONT: usize = 135_168;

/// Deeds of one input; a hang would be one that never ends.
const MOST: usize = 200;

/// Reads an input deed by deed; what is not there is zero.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A peer writes words over the memory of a pipe and packets to its socket, between calls of the other end.
///
/// ```text
/// deed % 4   0  word: u32 place, u64 value     1  packet: u8 length, bytes
///            2  the other end receives         3  the other end sends: u16 length
/// ```
///
/// # Panics
///
/// The other end was given more than it allows.
pub(crate) fn frames(input: &[u8]) {
    let Ok((here, there)) = pipe() else { return };
    let Ok(parts) = there.into_parts() else { return };
    let Ok(memory) = Mapping::of(Arc::new(parts.segment)) else { return };
    let socket = UnixDatagram::from(parts.socket); // `send` is the same for a socket of packets
    let _ = socket.set_nonblocking(true);
    here.set_max_message(1 << 16);
    let mut script = Script(input);
    for _ in 0..MOST {
        if script.0.is_empty() {
            break;
        }
        match script.number(1) % 4 {
            0 => {
                let at = (script.number(4) as usize % (FRONT - 8)) & !7;
                let _ = memory.write(at, &script.number(8).to_ne_bytes());
            }
            1 => {
                let length = script.number(1) as usize;
                let _ = socket.send(script.bytes(length));
            }
            2 => receive(&here),
            _ => drop(here.try_send_bytes(&vec![7; script.number(2) as usize])),
        }
    }
    (0..20).for_each(|_| receive(&here));
}

fn receive(here: &ipc_pipe::Connection) {
    match here.recv_bytes_timeout(Duration::from_micros(10)) {
        Ok(bytes) => assert!(bytes.len() <= 1 << 16),
        Err(TryRecvError::Empty | TryRecvError::Failed(_)) => {}
        Err(other) => drop(other),
    }
    let _ = here.try_recv::<(String, Vec<u64>)>();
}

#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Empty,
    Point(i16, u8),
    Named { name: String, inner: Option<Box<Shape>> },
    Many(Vec<(f64, char, bool)>),
}

/// A message that decodes is the only one for its value.
///
/// # Panics
///
/// Another message would mean the same.
pub(crate) fn values(input: &[u8]) {
    if let Ok(value) = codec::decode::<Shape>(input) {
        let mut again = Vec::new();
        codec::encode(&value, &mut again).expect("it was decoded");
        assert_eq!(again, input, "{value:?}");
    }
    let _ = codec::decode::<Vec<String>>(input);
    let _ = codec::decode::<std::collections::BTreeMap<u16, Vec<u8>>>(input);
    let _ = codec::decode::<Vec<()>>(input);
}

/// Somebody without the key is one side of a handshake, and says what he likes.
///
/// ```text
/// u8 who listens to him, then each time: u8 length, bytes
/// ```
///
/// # Panics
///
/// He got in, or was believed to know the key.
pub(crate) fn handshakes(input: &[u8]) {
    let mut script = Script(input);
    let role = match script.number(1) % 4 {
        0 => Role::Server,
        1 => Role::Client { rings: true },
        2 => Role::Client { rings: false },
        _ => Role::PythonClient,
    };
    let key = Key::new([7; 32]).expect("it has bytes");
    let mut handshake = Handshake::new(key, role).expect("getrandom works");
    while !script.0.is_empty() {
        let length = script.number(1) as usize;
        match handshake.hear(script.bytes(length)) {
            Ok(Step::Say(answer)) => assert!(answer.len() <= 256),
            Ok(step) => panic!("{step:?}"),
            Err(_) => {}
        }
        assert!(!handshake.is_authentic());
    }
}

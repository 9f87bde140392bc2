//! Redis on a Unix socket, with a client of our own: its protocol is simple, and no client is faster.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::names;
use crate::store::{Batching, Client, Store, as_soon_as_served};

const PROGRAM: &str = "redis-server";

/// Many gets are a pipeline.
pub struct Redis {
    socket: PathBuf,
}

impl Store for Redis {
    const NAME: &'static str = "Redis";
    type Client = Wire;

    fn create() -> Result<Redis, String> {
        let version = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status();
        version.map_err(|error| format!("{PROGRAM}: {error}"))?;
        Ok(Redis { socket: names::directory().join("redis") })
    }

    /// Nothing is kept on disk, and nobody is listened to but the socket.
    fn serve(&self) {
        let mut server = Command::new(PROGRAM);
        server.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"]);
        let error = server.arg(&self.socket).stdout(Stdio::null()).exec();
        panic!("{PROGRAM}: {error}");
    }

    fn connect(&self) -> Wire {
        let stream = as_soon_as_served(|| UnixStream::connect(&self.socket));
        Wire { answers: BufReader::with_capacity(64 << 10, stream), request: Vec::new(), value: Vec::new() }
    }
}

pub struct Wire {
    answers: BufReader<UnixStream>,
    request: Vec<u8>,
    value: Vec<u8>,
}

impl Wire {
    /// A request is an array of strings. It is sent with [`Wire::send`].
    fn ask(&mut self, words: &[&[u8]]) {
        self.head(b'*', words.len());
        words.iter().for_each(|word| self.word(word));
    }

    fn head(&mut self, kind: u8, count: usize) {
        write!(self.request, "{}{count}\r\n", kind as char).expect("it goes to memory");
    }

    fn word(&mut self, word: &[u8]) {
        self.head(b'$', word.len());
        self.request.extend_from_slice(word);
        self.request.extend_from_slice(b"\r\n");
    }

    fn send(&mut self) {
        self.answers.get_mut().write_all(&self.request).unwrap();
        self.request.clear();
    }

    /// The line that an answer begins with.
    fn line(&mut self) -> &[u8] {
        self.value.clear();
        self.answers.read_until(b'\n', &mut self.value).unwrap();
        self.value.strip_suffix(b"\r\n").expect("a whole line")
    }

    /// The number in the line, which must be of this kind.
    fn count(&mut self, kind: u8) -> usize {
        let (first, digits) = self.line().split_first().expect("a kind");
        assert_eq!(*first, kind, "another answer");
        digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
    }

    fn string(&mut self) -> &[u8] {
        let length = self.count(b'$');
        self.value.resize(length + 2, 0);
        self.answers.read_exact(&mut self.value).unwrap();
        &self.value[..length]
    }
}

impl Client for Wire {
    fn set(&mut self, key: u64, value: &[u8]) {
        self.ask(&[b"SET", &key.to_ne_bytes(), value]);
        self.send();
        assert_eq!(self.line(), b"+OK");
    }

    fn get(&mut self, key: u64) -> impl AsRef<[u8]> {
        self.ask(&[b"GET", &key.to_ne_bytes()]);
        self.send();
        self.string()
    }
}

impl Batching for Wire {
    fn get_many(&mut self, keys: &[u64], mut each: impl FnMut(&[u8])) {
        keys.iter().for_each(|key| self.ask(&[b"GET", &key.to_ne_bytes()]));
        self.send();
        keys.iter().for_each(|_| each(self.string()));
    }
}

/// Many gets are one command.
pub struct RedisMget(Redis);

pub struct Mget(Wire);

impl Store for RedisMget {
    const NAME: &'static str = "Redis MGET";
    type Client = Mget;

    fn create() -> Result<RedisMget, String> {
        Redis::create().map(RedisMget)
    }

    fn serve(&self) {
        self.0.serve();
    }

    fn connect(&self) -> Mget {
        Mget(self.0.connect())
    }
}

impl Client for Mget {
    fn set(&mut self, key: u64, value: &[u8]) {
        self.0.set(key, value);
    }

    fn get(&mut self, key: u64) -> impl AsRef<[u8]> {
        self.0.get(key)
    }
}

impl Batching for Mget {
    fn get_many(&mut self, keys: &[u64], mut each: impl FnMut(&[u8])) {
        self.0.head(b'*', 1 + keys.len());
        self.0.word(b"MGET");
        keys.iter().for_each(|key| self.0.word(&key.to_ne_bytes()));
        self.0.send();
        assert_eq!(self.0.count(b'*'), keys.len());
        keys.iter().for_each(|_| each(self.0.string()));
    }
}

//! Both sides of a listener, as they should be, and a client that does everything by hand.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use ipc_pipe::auth::{Handshake, Role, Step};
use ipc_pipe::{Address, Key, Link, Listener, connect, pipe};
use support::{Child, fork};

/// The registry outlives every test.
pub(crate) fn test(seconds: u64) -> support::Test {
    drop(pipe().unwrap());
    support::test(seconds)
}

pub(crate) fn key() -> Key {
    Key::new([7; 32]).unwrap()
}

pub(crate) fn wrong_key() -> Key {
    Key::new([8; 32]).unwrap()
}

pub(crate) fn tcp() -> Address {
    Address::Tcp("127.0.0.1:0".into())
}

pub(crate) fn abstract_name() -> Address {
    Address::Abstract(support::unique("listener").into_bytes())
}

pub(crate) fn listen(address: &Address) -> Listener {
    Listener::bind(address, key()).unwrap()
}

pub(crate) fn path(address: &Address) -> &Path {
    match address {
        Address::Unix(path) => path,
        other => panic!("{other} has no path"),
    }
}

/// A child that connects to `listener`, and the link to it.
pub(crate) fn client(listener: &Listener, f: impl FnOnce(Link)) -> (Link, Child) {
    let address = listener.address().clone();
    let child = fork(|| f(connect(&address, &key()).unwrap()));
    (listener.accept().unwrap(), child)
}

/// Sends every message back until the other end is closed.
pub(crate) fn echo(link: Link) {
    while let Ok(message) = link.recv_bytes() {
        link.send_bytes(&message).unwrap();
    }
}

/// A socket that nobody has said anything over yet.
pub(crate) fn knock(address: &Address) -> UnixStream {
    use std::os::linux::net::SocketAddrExt;
    let address = match address {
        Address::Unix(path) => SocketAddr::from_pathname(path),
        Address::Abstract(name) => SocketAddr::from_abstract_name(name),
        Address::Tcp(_) => unreachable!("these tests knock on this machine"),
    };
    UnixStream::connect_addr(&address.unwrap()).unwrap()
}

/// A client that has done its handshake, and wanted no rings (or declined them): the bare stream.
pub(crate) fn bare(address: &Address, rings: bool) -> UnixStream {
    let mut stream = knock(address);
    let mut handshake = Handshake::new(key(), Role::Client { rings }).unwrap();
    loop {
        let (said, over) = match handshake.hear(&read_frame(&mut stream).unwrap()).unwrap() {
            Step::Say(said) => (Some(said), false),
            Step::Stream(said) => (said, true),
            Step::Offered => (Some(handshake.answer(false)), true),
            other => panic!("{other:?} is nothing for a client"),
        };
        said.iter().for_each(|said| stream.write_all(&frame(said)).unwrap());
        if over {
            return stream;
        }
    }
}

/// A message as it goes over a stream.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as i32).to_be_bytes(), message].concat()
}

pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Whether the other side closes without a word.
pub(crate) fn is_closed(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    // What was sent and not read there is an error here.
    let _ = stream.read_to_end(&mut rest);
    rest.is_empty()
}

/// The name of an address that has bytes for a name.
pub(crate) fn name(address: &Address) -> &[u8] {
    match address {
        Address::Abstract(name) => name,
        Address::Unix(path) => path.as_os_str().as_bytes(),
        Address::Tcp(place) => place.as_bytes(),
    }
}

//! `connect`: the side that comes to a listener.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike};

use crate::address::{Address, AddressError};
use crate::auth::{Denial, Role};
use crate::greeting::{Fault, Greeting, Peer};
use crate::key::Key;
use crate::letter::Torn;
use crate::link::Link;
use crate::stream::tune;

/// How long [`connect`] tries.
const PATIENCE: Duration = Duration::from_secs(10);

/// Microseconds of the longest single wait: a day.
const LONG: u128 = 86_400_000_000;

/// A listener that is overrun turns away who is slow; so often we come again, with longer and longer pauses.
const VISITS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(1);

/// Connects to the [`Listener`](crate::Listener) at `address`, which must have the same key, within ten seconds.
///
/// Both sides prove that they have the key; it is never sent. On one machine, between processes of one user, the
/// [`Link`] goes over shared memory; else it is a stream.
///
/// # Errors
///
/// See [`ConnectError`].
///
/// ```
/// use ipc_pipe::{Address, Key, Listener, connect};
///
/// let key = Key::random()?;
/// let listener = Listener::bind(&Address::fresh(), key.clone())?;
/// let address = listener.address().clone();
///
/// let client = std::thread::spawn(move || {
///     let link = connect(&address, &key).unwrap();
///     link.send("hello").unwrap();
/// });
/// let link = listener.accept()?;
/// assert_eq!(link.recv::<String>()?, "hello");
/// # client.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Client")]
pub fn connect(address: &Address, key: &Key) -> Result<Link, ConnectError> {
    connect_timeout(address, key, PATIENCE)
}

/// As [`connect`], for `timeout` at most.
///
/// The name of a host is looked up before, and may take longer.
///
/// # Errors
///
/// See [`ConnectError`].
pub fn connect_timeout(address: &Address, key: &Key, timeout: Duration) -> Result<Link, ConnectError> {
    connect_until(address, key, Deadline::after(timeout))
}

/// As [`connect`], until `deadline` at most.
///
/// # Errors
///
/// See [`ConnectError`].
pub fn connect_deadline(address: &Address, key: &Key, deadline: Instant) -> Result<Link, ConnectError> {
    connect_until(address, key, Deadline::at(deadline))
}

/// Connects to a `Listener` of CPython 3.12 or later, within ten seconds. Values of Python's are pickled: send and receive
/// bytes.
///
/// Python's handshake is weaker than ours, and [`connect`] does not speak it: nobody without the key can make it do so.
///
/// # Errors
///
/// See [`ConnectError`].
#[doc(alias = "multiprocessing.connection.Client")]
pub fn connect_python(address: &Address, key: &Key) -> Result<Link, ConnectError> {
    let deadline = Deadline::after(PATIENCE);
    let (socket, peer) = reach(address, deadline)?;
    greet(socket, peer, key, Role::PythonClient, deadline)
}

fn connect_until(address: &Address, key: &Key, deadline: Deadline) -> Result<Link, ConnectError> {
    let mut visits = 0..VISITS;
    loop {
        let (socket, peer) = reach(address, deadline)?;
        let rings = peer.is_some_and(|peer| peer.is_us());
        match greet(socket, peer, key, Role::Client { rings }, deadline) {
            Err(ConnectError::TurnedAway) => match visits.next() {
                Some(visit) if !deadline.has_passed() => std::thread::sleep(PAUSE * (1 << visit)),
                _ => return Err(ConnectError::TurnedAway),
            },
            answer => return answer,
        }
    }
}

/// A connected socket, and who listens at the other end.
fn reach(address: &Address, deadline: Deadline) -> Result<(OwnedFd, Option<Peer>), ConnectError> {
    address.check().map_err(ConnectError::Address)?;
    let local = |address: &UnixAddr| {
        let socket = reach_local(address, deadline)?;
        let peer = Peer::of(&socket);
        Ok((socket, peer))
    };
    let answer = match address {
        Address::Unix(path) => UnixAddr::new(path).and_then(|address| local(&address)),
        Address::Abstract(name) => UnixAddr::new_abstract(name).and_then(|address| local(&address)),
        Address::Tcp(place) => return Ok((reach_tcp(place, deadline)?, None)),
    };
    answer.map_err(ConnectError::from)
}

/// The kernel lets those who wait for a full backlog in by turns, if they wait inside the call.
fn reach_local(address: &UnixAddr, deadline: Deadline) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    loop {
        if let Some(left) = deadline.remaining() {
            let microseconds = left.as_micros().clamp(1, LONG) as i64; // 0 would be for ever
            setsockopt(&socket, sockopt::SendTimeout, &TimeVal::microseconds(microseconds))?;
        }
        match connect_socket(socket.as_raw_fd(), address) {
            Err(Errno::EINTR) if !deadline.has_passed() => {}
            Err(Errno::EINTR | Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            answer => return answer.map(|()| socket),
        }
    }
}

fn reach_tcp(place: &str, deadline: Deadline) -> Result<OwnedFd, ConnectError> {
    let mut refused = ConnectError::NotFound;
    for address in place.to_socket_addrs().map_err(|_| ConnectError::NotFound)? {
        let timeout = deadline.remaining().unwrap_or(PATIENCE).max(Duration::from_micros(1));
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return tune(&stream).map(|()| stream.into()).map_err(ConnectError::from),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

fn greet(
    socket: OwnedFd,
    peer: Option<Peer>,
    key: &Key,
    role: Role,
    deadline: Deadline,
) -> Result<Link, ConnectError> {
    let mut greeting = Greeting::call(socket, peer, key.clone(), role)?;
    loop {
        if greeting.turn()? {
            return Ok(greeting.into_link());
        }
        if deadline.has_passed() {
            return Err(ConnectError::TimedOut);
        }
        let mut entry = [PollFd::new(greeting.socket().as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut entry, deadline.remaining().map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(ConnectError::Io(error.into())),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// It is no address.
    Address(AddressError),
    /// There is nothing at the address: no file, no such host.
    NotFound,
    /// Nobody listens there: its listener has ended.
    Refused,
    /// The listener, or a Python one, does not accept our key.
    WrongKey,
    /// Who listens there does not know the key. It was told nothing.
    PeerNotAuthentic,
    /// The listener closed the connection inside the handshake, several times: it does not admit this user, or is overrun, or
    /// ended.
    TurnedAway,
    /// The time was up.
    TimedOut,
    /// Who listens there does not keep to the handshake.
    Protocol,
    /// The kernel refused: no permission, no descriptor, no memory, no network.
    Io(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Address(error) => error.fmt(f),
            ConnectError::NotFound => f.write_str("there is nothing at the address"),
            ConnectError::Refused => f.write_str("nobody listens at the address"),
            ConnectError::WrongKey => Denial::WrongKey.fmt(f),
            ConnectError::PeerNotAuthentic => Denial::NotAuthentic.fmt(f),
            ConnectError::TurnedAway => {
                f.write_str("the listener closed the connection inside the handshake")
            }
            ConnectError::TimedOut => f.write_str("no connection in time"),
            ConnectError::Protocol => Denial::Protocol.fmt(f),
            ConnectError::Io(error) => write!(f, "connect: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Address(error) => Some(error),
            ConnectError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        match error.kind() {
            io::ErrorKind::NotFound => ConnectError::NotFound,
            io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            io::ErrorKind::TimedOut => ConnectError::TimedOut,
            _ => ConnectError::Io(error),
        }
    }
}

impl From<Errno> for ConnectError {
    fn from(error: Errno) -> ConnectError {
        io::Error::from(error).into()
    }
}

impl From<Fault> for ConnectError {
    fn from(fault: Fault) -> ConnectError {
        match fault {
            Fault::Denied(Denial::WrongKey) => ConnectError::WrongKey,
            Fault::Denied(Denial::NotAuthentic) => ConnectError::PeerNotAuthentic,
            Fault::Denied(Denial::Protocol) => ConnectError::Protocol,
            Fault::Torn(Torn::Io(error)) => ConnectError::Io(error),
            Fault::Torn(_) => ConnectError::TurnedAway,
        }
    }
}

//! How processes that share nothing yet meet, and who does not get in.

mod common;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::bytes;
use ipc_pipe::{
    Address, ConnectError, Key, Link, Listener, RecvError, SendError, connect, connect_python,
    connect_timeout, pipe,
};
use support::{Child, Folder, Status, fork};

/// The registry outlives every test; so does the thread's own slot in it.
fn test(seconds: u64) -> support::Test {
    drop(pipe().unwrap());
    support::test(seconds)
}

fn key() -> Key {
    Key::new([7; 32]).unwrap()
}

fn tcp() -> Address {
    Address::Tcp("127.0.0.1:0".into())
}

fn abstract_name() -> Address {
    Address::Abstract(support::unique("listener").into_bytes())
}

fn path(address: &Address) -> &Path {
    match address {
        Address::Unix(path) => path,
        other => panic!("{other} has no path"),
    }
}

/// A child that connects to `listener`, and the link to it.
fn client(listener: &Listener, f: impl FnOnce(Link)) -> (Link, Child) {
    let address = listener.address().clone();
    let child = fork(|| f(connect(&address, &key()).unwrap()));
    (listener.accept().unwrap(), child)
}

fn echo(link: Link) {
    while let Ok(message) = link.recv_bytes() {
        link.send_bytes(&message).unwrap();
    }
}

fn listen(address: &Address) -> Listener {
    Listener::bind(address, key()).unwrap()
}

#[test]
fn messages_go_there_and_back_over_every_address() {
    let _test = test(30);
    for (address, local) in [(Address::fresh(), true), (abstract_name(), true), (tcp(), false)] {
        let listener = listen(&address);
        let (link, mut child) = client(&listener, echo);
        assert_eq!(link.is_local(), local, "{address}");
        assert_eq!(link.peer().map(|peer| peer.pid), local.then_some(child.pid() as u32));
        for length in [0, 1, 1000, 16 << 10, 100 << 10, 3 << 20] {
            let message = bytes(length, length as u64);
            let answer = thread::scope(|scope| {
                scope.spawn(|| link.send_bytes(&message).unwrap());
                link.recv_bytes().unwrap()
            });
            assert_eq!(answer, message, "{address}, {length} bytes");
        }
        link.send(&("typed", 1.5)).unwrap();
        assert_eq!(link.recv::<(String, f64)>().unwrap(), ("typed".to_owned(), 1.5));
        drop(link);
        assert_eq!(child.wait(), Status::Code(0));
        assert_eq!(listener.refused().total(), 0);
    }
}

#[test]
fn handles_go_over_rings_and_not_over_streams() {
    let _test = test(20);
    let (mine, yours) = pipe().unwrap();
    let rings = listen(&abstract_name());
    let (link, mut child) = client(&rings, |link| {
        let end: ipc_pipe::Connection = link.recv().unwrap();
        end.send("through the handle").unwrap();
    });
    link.send(&yours).unwrap();
    assert_eq!(mine.recv::<String>().unwrap(), "through the handle");
    assert_eq!(child.wait(), Status::Code(0));
    let connection = link.into_connection().unwrap();
    assert!(matches!(connection.recv::<u8>(), Err(RecvError::Closed)));

    let stream = listen(&tcp());
    let (link, mut child) = client(&stream, |link| {
        assert_eq!(link.recv::<u8>().unwrap(), 1);
        drop(link.into_connection().unwrap_err());
    });
    let (_mine, yours) = pipe().unwrap();
    assert!(matches!(link.send(&yours), Err(SendError::TooManyHandles { max: 0, .. })));
    yours.send(&"not moved").unwrap();
    link.send(&1u8).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn wrong_keys_are_refused_by_both_sides() {
    let _test = test(20);
    for address in [Address::fresh(), tcp()] {
        let listener = listen(&address);
        let address = listener.address().clone();
        let mut child = fork(|| {
            let wrong = Key::new([8; 32]).unwrap();
            assert!(matches!(connect(&address, &wrong), Err(ConnectError::WrongKey)));
            assert!(matches!(connect_python(&address, &wrong), Err(ConnectError::WrongKey)));
            connect(&address, &key()).unwrap();
        });
        listener.accept().unwrap();
        assert_eq!(child.wait(), Status::Code(0));
        assert_eq!((listener.refused().key, listener.refused().total()), (2, 2));
    }
}

#[test]
fn nobody_at_the_address_is_told_apart() {
    let _test = test(20);
    let folder = Folder::new();
    let nowhere = Address::Unix(folder.file("plain", "").with_file_name("nobody"));
    assert!(matches!(connect(&nowhere, &key()), Err(ConnectError::NotFound)));
    drop(UnixListener::bind(path(&nowhere)).unwrap());
    assert!(matches!(connect(&nowhere, &key()), Err(ConnectError::Refused)));
    assert!(matches!(connect(&abstract_name(), &key()), Err(ConnectError::Refused)));
    let port = listen(&tcp()).address().clone();
    assert!(matches!(connect(&port, &key()), Err(ConnectError::Refused)));
    assert!(matches!(connect(&Address::Unix("x".repeat(108).into()), &key()), Err(ConnectError::Address(_))));

    // Somebody who says nothing.
    std::fs::remove_file(path(&nowhere)).unwrap();
    let _silent = UnixListener::bind(path(&nowhere)).unwrap();
    let start = Instant::now();
    let answer = connect_timeout(&nowhere, &key(), Duration::from_millis(50));
    assert!(matches!(answer, Err(ConnectError::TimedOut)), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

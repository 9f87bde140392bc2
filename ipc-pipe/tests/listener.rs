//! How processes that share nothing yet meet.
#![allow(unsafe_code)] // umask

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use common::bytes;
use common::meeting::{
    abstract_name, bare, client, echo, frame, key, listen, name, path, tcp, test, wrong_key,
};
use ipc_pipe::{
    Address, AddressError, ConnectError, Key, KeyError, Link, Listener, RecvError, SendError, TryRecvError,
    TrySendError, connect, connect_python, connect_timeout, pipe, wait, wait_timeout,
};
use support::{Folder, Loop, Status, fork, hold, say, until};

/// News of a death must come within so long.
const BOUND: Duration = Duration::from_millis(250);

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
fn client_that_declines_rings_keeps_the_stream() {
    let _test = test(20);
    let listener = listen(&abstract_name());
    for rings in [false, true] {
        let address = listener.address().clone();
        let child = thread::spawn(move || bare(&address, rings));
        let link = listener.accept().unwrap();
        let mut stream = child.join().unwrap();
        assert!(!link.is_local());
        link.send_bytes(b"as it is").unwrap();
        assert_eq!(common::meeting::read_frame(&mut stream).unwrap(), b"as it is");
    }
}

#[test]
fn wrong_keys_are_refused_by_both_sides() {
    let _test = test(20);
    for address in [Address::fresh(), tcp()] {
        let listener = listen(&address);
        let address = listener.address().clone();
        let mut child = fork(|| {
            assert!(matches!(connect(&address, &wrong_key()), Err(ConnectError::WrongKey)));
            assert!(matches!(connect_python(&address, &wrong_key()), Err(ConnectError::WrongKey)));
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
    let nowhere = Address::Unix(folder.path.join("nobody"));
    assert!(matches!(connect(&nowhere, &key()), Err(ConnectError::NotFound)));
    drop(UnixListener::bind(path(&nowhere)).unwrap());
    assert!(matches!(connect(&nowhere, &key()), Err(ConnectError::Refused)));
    assert!(matches!(connect(&abstract_name(), &key()), Err(ConnectError::Refused)));
    let port = listen(&tcp()).address().clone();
    assert!(matches!(connect(&port, &key()), Err(ConnectError::Refused)));
    assert!(matches!(connect(&Address::Unix("x".repeat(108).into()), &key()), Err(ConnectError::Address(_))));

    // Somebody who says nothing.
    fs::remove_file(path(&nowhere)).unwrap();
    let _silent = UnixListener::bind(path(&nowhere)).unwrap();
    let start = Instant::now();
    let answer = connect_timeout(&nowhere, &key(), Duration::from_millis(50));
    assert!(matches!(answer, Err(ConnectError::TimedOut)), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn files_have_their_modes_whatever_the_umask() {
    let _test = test(20);
    let folder = Folder::new();
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for mask in [0, 0o777] {
        let given = Address::Unix(folder.path.join(format!("given-{mask}")));
        let mut child = fork(|| {
            // SAFETY: a number.
            unsafe { libc::umask(mask) };
            let fresh = listen(&Address::fresh());
            let place = path(fresh.address()).to_owned();
            assert_eq!((mode(&place), mode(place.parent().unwrap())), (0o600, 0o700));
            let there = listen(&given);
            assert_eq!(mode(path(&given)), 0o600);
            drop((fresh, there));
            assert!(!place.parent().unwrap().exists() && !path(&given).exists(), "all is removed");
        });
        assert_eq!(child.wait(), Status::Code(0));
    }
    assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 0, "no hidden file is left");
}

#[test]
fn only_a_dead_listener_is_replaced() {
    let _test = test(20);
    let folder = Folder::new();
    let address = Address::Unix(folder.path.join("socket"));
    let kind = |address: &Address| Listener::bind(address, key()).unwrap_err().kind();

    let first = listen(&address);
    assert_eq!(kind(&address), std::io::ErrorKind::AddrInUse);
    assert_eq!(kind(&Address::Abstract(b"".into())), std::io::ErrorKind::InvalidInput);
    client(&first, |_| ()).1.wait();
    drop(first);

    let mut dead = hold(|| std::mem::forget(listen(&address)));
    assert_eq!(kind(&address), std::io::ErrorKind::AddrInUse);
    dead.kill9();
    assert!(path(&address).exists(), "what a killed process leaves");
    let second = listen(&address);
    client(&second, |_| ()).1.wait();

    // Somebody puts another there: that one is not ours to remove.
    fs::remove_file(path(&address)).unwrap();
    let third = listen(&address);
    drop(second);
    client(&third, |_| ()).1.wait();
    drop(third);

    let file = Address::Unix(folder.file("file", "precious"));
    assert_eq!(kind(&file), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(path(&file)).unwrap(), b"precious");
    let target = folder.path.join("target");
    std::os::unix::fs::symlink(&target, folder.path.join("link")).unwrap();
    assert_eq!(kind(&Address::Unix(folder.path.join("link"))), std::io::ErrorKind::AlreadyExists);
    assert!(!target.exists());
    assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 2, "no hidden file is left");
}

#[test]
fn of_many_that_find_a_dead_listener_one_takes_its_place() {
    let _test = test(20);
    let folder = Folder::new();
    let address = Address::Unix(folder.path.join("socket"));
    for _ in 0..20 {
        drop(UnixListener::bind(path(&address)).unwrap());
        let all: Vec<_> = thread::scope(|scope| {
            let bind = || Listener::bind(&address, key());
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let alive: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(alive.len(), 1);
        client(&alive[0], |_| ()).1.wait();
    }
}

#[test]
fn copy_in_a_forked_child_removes_nothing() {
    let _test = test(20);
    let listener = listen(&Address::fresh());
    let mut copy = Some(listener);
    assert_eq!(fork(|| drop(copy.take())).wait(), Status::Code(0));
    let listener = copy.unwrap();
    client(&listener, |_| ()).1.wait();
    assert!(path(listener.address()).exists());
}

#[test]
fn address_can_be_used_again_at_once() {
    let _test = test(30);
    let folder = Folder::new();
    let first = listen(&tcp());
    let port = first.address().clone();
    drop(first);
    for address in [Address::Unix(folder.path.join("socket")), abstract_name(), port] {
        for _ in 0..20 {
            let listener = listen(&address);
            let (link, mut child) = client(&listener, |link| drop(link.recv_bytes()));
            // This side closes first, so that its port would be the one that is kept for a minute.
            drop(link);
            drop(listener);
            assert_eq!(child.wait(), Status::Code(0));
        }
    }
}

#[test]
fn killed_server_is_end_of_file_at_once() {
    let _test = test(20);
    for address in [Address::fresh(), tcp()] {
        let (told, tell) = pipe().unwrap();
        let mut server = fork(|| {
            let listener = listen(&address);
            tell.send(listener.address()).unwrap();
            let links: Vec<Link> = (0..5).map(|_| listener.accept().unwrap()).collect();
            links.iter().for_each(|link| link.send("last words").unwrap());
            drop(links[0].recv_bytes());
        });
        let address: Address = told.recv().unwrap();
        let links: Vec<Link> = (0..5).map(|_| connect(&address, &key()).unwrap()).collect();
        links.iter().for_each(|link| assert_eq!(link.recv::<String>().unwrap(), "last words"));
        let (start, ends) = thread::scope(|scope| {
            let wait = |link: &Link| {
                assert!(matches!(link.recv_bytes(), Err(RecvError::Closed)));
                Instant::now()
            };
            let threads: Vec<_> = links.iter().map(|link| scope.spawn(move || wait(link))).collect();
            until(|| support::procfs::threads(std::process::id() as i32).len() >= 6);
            let start = Instant::now();
            server.kill9();
            (start, threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
        });
        ends.iter().for_each(|end| assert!(end.saturating_duration_since(start) < BOUND));
        assert!(matches!(links[0].send_bytes(&[0; 100]), Err(SendError::Closed) | Ok(())));
        if let Address::Unix(place) = &address {
            assert!(matches!(connect(&address, &key()), Err(ConnectError::Refused)));
            fs::remove_dir_all(place.parent().unwrap()).unwrap();
        }
    }
}

#[test]
fn event_loop_of_others_drives_a_listener_and_its_links() {
    let _test = test(30);
    for address in [abstract_name(), tcp()] {
        let listener = listen(&address);
        let address = listener.address().clone();
        let mut child = fork(|| {
            let link = connect(&address, &key()).unwrap();
            (0..1000u32).for_each(|i| link.send(&i).unwrap());
            assert_eq!(link.recv::<u32>().unwrap(), 1000);
        });
        let events = Loop::new();
        events.add(&listener);
        let link = loop {
            match listener.try_accept().unwrap() {
                Some(link) => break link,
                None => events.turn(),
            }
        };
        assert!(listener.try_accept().unwrap().is_none());
        let events = Loop::new();
        let mut count = 0u32;
        while count < 1000 {
            match link.try_recv::<u32>() {
                Ok(number) => {
                    assert_eq!(number, count);
                    count += 1;
                }
                Err(TryRecvError::Empty) => {
                    if let Some(readiness) = link.readiness().unwrap() {
                        events.add(&readiness);
                        events.turn();
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(wait_timeout(&[&link], Duration::from_millis(5)).is_empty());
        link.send(&count).unwrap();
        assert_eq!(wait(&[&link]), [0], "end of file");
        assert_eq!(child.wait(), Status::Code(0));
    }
}

#[test]
fn stream_takes_a_message_whole_or_not_at_all() {
    let _test = test(30);
    let listener = listen(&tcp());
    let (go, start) = pipe().unwrap();
    let (link, mut child) = client(&listener, |link| {
        start.recv::<()>().unwrap();
        let mut sum = 0u64;
        while let Ok(message) = link.recv_bytes() {
            assert_eq!(message, bytes(300_000, message.len() as u64));
            sum += 1;
            link.send(&sum).unwrap();
        }
    });
    let message = bytes(300_000, 300_000);
    let mut taken = 0;
    loop {
        match link.try_send_bytes(&message) {
            Ok(()) => taken += 1,
            Err(TrySendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 0 && link.has_unsent() && !link.flush().unwrap());
    let full = link.send_bytes_timeout(&message, Duration::from_millis(20));
    assert!(matches!(full, Err(TrySendError::Full)), "nothing of it was sent");
    go.send(&()).unwrap();
    while !link.flush().unwrap() {
        wait(&[&ipc_pipe::Writable(link.outlet().unwrap())]);
    }
    assert!(!link.has_unsent());
    (1..=taken).for_each(|i| assert_eq!(link.recv::<u64>().unwrap(), i));
    link.send_bytes(&message).unwrap();
    assert_eq!(link.recv::<u64>().unwrap(), taken + 1);
    drop(link);
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn rest_of_a_message_goes_on_while_its_sender_waits_for_the_answer() {
    let _test = test(30);
    let listener = listen(&tcp());
    let (go, start) = pipe().unwrap();
    let (link, mut child) = client(&listener, |link| {
        start.recv::<()>().unwrap();
        echo(link);
    });
    let message = bytes(8 << 20, 1);
    link.try_send_bytes(&message).unwrap();
    assert!(link.has_unsent(), "no socket has room for 8 MiB");
    go.send(&()).unwrap();
    assert_eq!(link.recv_bytes().unwrap(), message);
    drop(link);
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn message_over_the_limit_costs_itself_only() {
    let _test = test(20);
    for address in [abstract_name(), tcp()] {
        let listener = listen(&address);
        let (link, mut child) = client(&listener, |link| {
            link.send_bytes(&[1; 5000]).unwrap();
            link.send_bytes(&[2; 100]).unwrap();
            link.set_max_message(10);
            assert!(matches!(link.send_bytes(&[0; 11]), Err(SendError::TooBig { size: 11, max: 10 })));
        });
        link.set_max_message(100);
        assert!(matches!(link.recv_bytes(), Err(RecvError::TooBig { size: 5000, max: 100 })));
        assert_eq!(link.recv_with(<[u8]>::len).unwrap(), 100);
        assert!(matches!(link.recv_bytes(), Err(RecvError::Closed)));
        assert_eq!(child.wait(), Status::Code(0));
    }
}

#[test]
fn many_clients_at_once_all_get_in() {
    let _test = test(30);
    for address in [Address::fresh(), tcp()] {
        let listener = listen(&address);
        let address = listener.address().clone();
        let talk = || {
            for _ in 0..10 {
                let link = connect(&address, &key()).unwrap();
                link.send(&std::process::id()).unwrap();
                assert_eq!(link.recv::<u32>().unwrap(), std::process::id());
            }
        };
        let children: Vec<_> = (0..20).map(|_| fork(talk)).collect();
        thread::scope(|scope| {
            for _ in 0..2 {
                let serve = || (0..100).for_each(|_| answer(&listener.accept().unwrap()));
                scope.spawn(serve);
            }
        });
        support::join(children);
    }
}

fn answer(link: &Link) {
    let message = link.recv_bytes().unwrap();
    let _ = link.send_bytes(&message);
}

#[test]
fn addresses_are_text_and_back() {
    let _test = test(20);
    for (text, address) in [
        ("unix:/run/jobs", Address::Unix("/run/jobs".into())),
        ("./jobs", Address::Unix("./jobs".into())),
        ("abstract:jobs", Address::Abstract(b"jobs".into())),
        ("tcp:[::1]:80", Address::Tcp("[::1]:80".into())),
    ] {
        assert_eq!(text.parse(), Ok(address.clone()));
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    for text in ["", "jobs", "unix:", "abstract:", "pigeon:post"] {
        assert_eq!(text.parse::<Address>(), Err(AddressError::Unknown), "{text}");
    }
    for text in ["tcp:", "tcp:host", "tcp::80", "tcp:host:port", "tcp:host:65536"] {
        assert_eq!(text.parse::<Address>(), Err(AddressError::NoPort), "{text}");
    }
    assert_eq!(
        format!("/{}", "x".repeat(107)).parse::<Address>(),
        Err(AddressError::TooLong { length: 108 })
    );
    assert_ne!(Address::fresh(), Address::fresh());
}

#[test]
fn key_file_is_nobody_elses() {
    let _test = test(20);
    let folder = Folder::new();
    let file = folder.file("key", "secret");
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(matches!(Key::read(&file), Err(KeyError::Exposed { mode: 0o644 })));
    mode(0o600);
    assert_eq!(Key::read(&file).unwrap().expose(), b"secret");
    assert!(matches!(Key::read(&folder.path), Err(KeyError::NotAFile)));
    assert!(matches!(Key::read(folder.path.join("none")), Err(KeyError::Io(_))));
    assert!(matches!(Key::new([]), Err(KeyError::Empty)));
    assert_eq!(format!("{:?}", key()), "Key(..)");
    if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
        assert!(matches!(Key::read(&file), Err(KeyError::NotOurs { uid: 65534 })));
    }
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
}

/// CPython 3.12 or later, if there is one.
fn interpreter() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let installed = fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = ["python3", "python3.13", "python3.12"].map(Into::into).into();
    places.extend(installed.map(|version| version.path().join("bin/python3")));
    places.into_iter().find(|place| {
        let version = "import sys; sys.exit(sys.version_info < (3, 12))";
        let mut command = Command::new(place);
        let quiet = command.args(["-c", version]).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    })
}

/// A script that knows `address` and the key; `None`, with a word, where it cannot run.
fn python(script: &str, address: &Address) -> Option<Command> {
    static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(place) = PLACE.get_or_init(interpreter) else {
        say("skipped: there is no CPython of 3.12 or later");
        return None;
    };
    let setup = "import sys; from multiprocessing.connection import Client, Listener; key = bytes([7] * 32)\n\
                 kind, name = sys.argv[1:]\n\
                 host, _, port = name.rpartition(':')\n\
                 address = {'unix': name, 'abstract': '\\0' + name, 'tcp': (host, kind == 'tcp' and int(port))}[kind]\n";
    let kind = address.to_string().split(':').next().unwrap().to_owned();
    let place_name = String::from_utf8(name(address).into()).unwrap();
    let mut command = Command::new(place);
    command.args(["-c", &format!("{setup}{script}"), &kind, &place_name]);
    Some(command)
}

#[test]
fn client_of_cpython_is_served() {
    let _test = test(60);
    let script = "with Client(address, authkey=key) as link:\n\
                  \x20   link.send_bytes(b'x' * 100000)\n\
                  \x20   assert link.recv_bytes() == b'y' * 100000\n\
                  try:\n\
                  \x20   Client(address, authkey=b'wrong')\n\
                  \x20   sys.exit(3)\n\
                  except Exception as error:\n\
                  \x20   assert type(error).__name__ == 'AuthenticationError', error\n";
    for address in [Address::fresh(), abstract_name(), tcp()] {
        let listener = listen(&address);
        let Some(mut command) = python(script, listener.address()) else { return };
        let mut child = command.spawn().unwrap();
        let link = listener.accept().unwrap();
        assert!(!link.is_local());
        assert_eq!(link.recv_bytes().unwrap(), vec![b'x'; 100_000]);
        link.send_bytes(&vec![b'y'; 100_000]).unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(listener.accept_timeout(Duration::from_millis(5)).unwrap().is_none());
        }
        assert!(child.wait().unwrap().success(), "{address}");
        assert_eq!(listener.refused().key, 1);
    }
}

#[test]
fn listener_of_cpython_is_reached() {
    let _test = test(60);
    let script = "with Listener(address, authkey=key, backlog=8) as door:\n\
                  \x20   print(door.address[1] if kind == 'tcp' else 0, flush=True)\n\
                  \x20   with door.accept() as link:\n\
                  \x20       link.send_bytes(link.recv_bytes() * 2)\n\
                  \x20   for _ in range(2):\n\
                  \x20       try:\n\
                  \x20           door.accept()\n\
                  \x20           sys.exit(3)\n\
                  \x20       except Exception as error:\n\
                  \x20           assert type(error).__name__ == 'AuthenticationError', error\n";
    let folder = Folder::new();
    for address in [Address::Unix(folder.path.join("socket")), abstract_name(), tcp()] {
        let Some(mut command) = python(script, &address) else { return };
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let address = match address {
            Address::Tcp(_) => Address::Tcp(format!("127.0.0.1:{}", line.trim())),
            other => other,
        };
        let link = connect_python(&address, &key()).unwrap();
        link.send_bytes(b"twice ").unwrap();
        assert_eq!(link.recv_bytes().unwrap(), b"twice twice ");
        assert!(matches!(link.recv_bytes(), Err(RecvError::Closed)));
        assert!(matches!(connect_python(&address, &wrong_key()), Err(ConnectError::WrongKey)));
        assert!(
            matches!(connect(&address, &key()), Err(ConnectError::WrongKey)),
            "it speaks another handshake"
        );
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn message_cut_at_each_byte_is_told_and_kept() {
    let _test = test(30);
    let listener = listen(&abstract_name());
    let message = frame(&bytes(200, 5));
    let address = listener.address().clone();
    for cut in 0..message.len() {
        let address = address.clone();
        let child = thread::spawn(move || bare(&address, false));
        let link = listener.accept().unwrap();
        let mut stream = child.join().unwrap();
        use std::io::Write;
        stream.write_all(&message[..cut]).unwrap();
        assert!(matches!(link.try_recv_bytes(), Err(TryRecvError::Empty)));
        assert_eq!(link.is_mid_message(), cut > 0);
        if cut % 2 == 0 {
            stream.write_all(&message[cut..]).unwrap();
            assert_eq!(link.recv_bytes().unwrap(), message[4..], "what came is kept");
            assert!(!link.is_mid_message());
            drop(stream);
            assert!(matches!(link.recv_bytes(), Err(RecvError::Closed)));
        } else {
            drop(stream);
            assert!(matches!(link.recv_bytes(), Err(RecvError::EofInside { .. })), "cut at {cut}");
            assert!(matches!(link.recv_bytes(), Err(RecvError::Closed)));
        }
    }
}

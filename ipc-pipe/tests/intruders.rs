//! Who does not get in by a listener, and whom that does not hold up.
#![allow(unsafe_code)] // other users and limits

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use common::meeting::{
    abstract_name, bare, client, echo, frame, is_closed, key, knock, listen, read_frame, test, wrong_key,
};
use common::{limit_descriptors, send_packet};
use ipc_pipe::auth::{Denial, Handshake, Role, Step};
use ipc_pipe::{Address, ConnectError, Listener, RecvError, connect, connect_timeout, pipe};
use support::{Child, Rng, Status, census, fork, hold, procfs, say, until};

const SERVER: Role = Role::Server;
const CLIENT: Role = Role::Client { rings: true };

/// A user that is nobody of ours.
const STRANGER: u32 = 65534;

fn side(role: Role) -> Handshake {
    Handshake::new(key(), role).unwrap()
}

/// A handshake between two sides that know the key.
struct Talk {
    sides: [Handshake; 2],
    /// The server begins, and then they take turns.
    said: Vec<Vec<u8>>,
}

impl Talk {
    /// As it is after the first `count` messages.
    fn new(client: Role, count: usize) -> Talk {
        let sides = [side(client), side(SERVER)];
        let mut talk = Talk { said: vec![sides[1].challenge()], sides };
        while talk.said.len() < count && talk.hear(talk.said.last().unwrap().clone()).unwrap() {}
        talk
    }

    /// Says `message` to whose turn it is to listen; false = that was the end.
    fn hear(&mut self, message: Vec<u8>) -> Result<bool, Denial> {
        let side = &mut self.sides[(self.said.len() + 1) % 2];
        self.said.push(match side.hear(&message)? {
            Step::Say(message) | Step::Stream(Some(message)) => message,
            Step::Wanted => side.offer(true),
            Step::Offered => side.answer(true),
            Step::Stream(None) | Step::Rings => return Ok(false),
        });
        Ok(true)
    }

    /// Whether one of them gives up, when the next to listen hears `message` instead of what was said last.
    fn breaks_by(mut self, message: Vec<u8>) -> bool {
        let mut heard = self.hear(message);
        while heard == Ok(true) {
            heard = self.hear(self.said.last().unwrap().clone());
        }
        heard.is_err()
    }
}

fn record(client: Role) -> Vec<Vec<u8>> {
    Talk::new(client, usize::MAX).said
}

const CLIENTS: [Role; 3] = [CLIENT, Role::Client { rings: false }, Role::PythonClient];

#[test]
fn handshake_ends_well_between_those_who_know_the_key() {
    let _test = test(20);
    assert_eq!(CLIENTS.map(|role| record(role).len()), [6, 4, 6]);
}

#[test]
fn recorded_sessions_are_refused() {
    let _test = test(20);
    for role in CLIENTS {
        let record = record(role);
        // The client's part, to another server.
        let mut server = side(SERVER);
        assert_eq!(server.hear(&record[1]), Err(Denial::NotAuthentic));
        assert_eq!(server.hear(&record[1]), Err(Denial::Protocol), "and that was it");
        // The server's part, to another client: its own nonce is in what it expects.
        let mut client = side(role);
        assert!(matches!(client.hear(&record[0]), Ok(Step::Say(_))));
        let second = client.hear(&record[2]);
        if role == Role::PythonClient {
            assert!(matches!(second, Ok(Step::Say(_))), "the verdict, which anybody can say");
            assert_eq!(client.hear(&record[4]), Err(Denial::NotAuthentic));
        } else {
            assert_eq!(second, Err(Denial::NotAuthentic));
        }
        // Each message of it, at any place of another session. Only CPython's verdicts are alike.
        for count in 1..=record.len() {
            for old in &record {
                let talk = Talk::new(role, count);
                let expected = talk.said[count - 1] == *old || count == 1 && old == &record[0];
                assert!(expected || talk.breaks_by(old.clone()), "{role:?}, message {count}");
            }
        }
    }
}

#[test]
fn own_words_sent_back_are_refused() {
    let _test = test(20);
    for role in CLIENTS {
        for count in 1..=record(role).len() {
            for earlier in 0..count - 1 {
                let talk = Talk::new(role, count);
                let message = talk.said[earlier].clone();
                let same = talk.said[count - 1] == message; // CPython's verdicts
                assert!(same || talk.breaks_by(message), "{role:?}, message {earlier} instead of {count}");
            }
        }
    }
    // The weak point of CPython's handshake: one client answers the question that another asks.
    let (mut first, mut second) = (side(Role::PythonClient), side(CLIENT));
    first.hear(&side(SERVER).challenge()).unwrap();
    let Ok(Step::Say(challenge)) = first.hear(b"#WELCOME#") else { panic!("it asks for our proof") };
    let Ok(Step::Say(proof)) = second.hear(&challenge) else { panic!("any challenge is answered") };
    assert!(first.hear(&proof).is_err(), "but not by what proves anything there");
}

#[test]
fn random_digests_are_refused() {
    let _test = test(60);
    let mut rng = Rng::new(support::seed());
    let mut random = |length: usize| -> Vec<u8> { (0..length).map(|_| rng.next() as u8).collect() };
    for round in 0..100_000 {
        let mut server = side(SERVER);
        let guess = match round % 4 {
            0 => [&b"{sha256}"[..], &random(32)].concat(),
            1 => [&b"{sha256}"[..], &random(round % 65)].concat(),
            2 => [&b"{mp1}"[..], &random(64)].concat(),
            _ => random(round % 257),
        };
        assert!(server.hear(&guess).is_err() && !server.is_authentic());
    }
}

#[test]
fn every_bit_of_every_message_counts() {
    let _test = test(60);
    for role in CLIENTS {
        for (count, message) in (1..).zip(record(role)) {
            for bit in 0..message.len() * 8 {
                let talk = Talk::new(role, count);
                let mut message = talk.said[count - 1].clone();
                message[bit / 8] ^= 1 << (bit % 8);
                assert!(talk.breaks_by(message), "{role:?}: message {count}, bit {bit}");
            }
        }
    }
}

#[test]
fn server_that_does_not_know_the_key_is_found_out() {
    let _test = test(20);
    let address = abstract_name();
    let door = std::os::unix::net::UnixListener::bind_addr(&{
        use std::os::linux::net::SocketAddrExt;
        std::os::unix::net::SocketAddr::from_abstract_name(common::meeting::name(&address)).unwrap()
    })
    .unwrap();
    let forged = [&b"#WELCOME#"[..], &[0; 32]].concat();
    type Is = fn(&ConnectError) -> bool;
    let answers: [(Vec<u8>, Is); 4] = [
        (frame(b"#WELCOME#"), |error| matches!(error, ConnectError::PeerNotAuthentic)),
        (frame(&forged), |error| matches!(error, ConnectError::PeerNotAuthentic)),
        (frame(b"#FAILURE#"), |error| matches!(error, ConnectError::WrongKey)),
        (vec![0x7f; 4], |error| matches!(error, ConnectError::Protocol)),
    ];
    for (answer, expected) in answers {
        thread::scope(|scope| {
            let client = scope.spawn(|| connect_timeout(&address, &key(), Duration::from_secs(5)));
            let (mut stream, _) = door.accept().unwrap();
            let challenge = Handshake::new(wrong_key(), SERVER).unwrap().challenge();
            stream.write_all(&frame(&challenge)).unwrap();
            read_frame(&mut stream).unwrap();
            stream.write_all(&answer).unwrap();
            let error = client.join().unwrap().unwrap_err();
            assert!(expected(&error), "{error:?}");
        });
    }
}

/// A child that has `quantity` connections open to `address`, says nothing over the first `silent`, and a byte a second over the
/// others; what is closed, it opens again. It is at work when this returns.
fn crowd(address: &Address, quantity: usize, silent: usize) -> Child {
    let address = address.clone();
    let open = move || {
        let stream = knock(&address);
        stream.set_nonblocking(true).unwrap();
        stream
    };
    hold(move || {
        limit_descriptors(quantity as u64 + 200);
        let mut all: Vec<_> = (0..quantity).map(|_| open()).collect();
        thread::spawn(move || {
            for beat in 1u32.. {
                for (number, stream) in all.iter_mut().enumerate() {
                    // The beginning of a message that is long enough to take minutes.
                    let byte = [if beat > 12 { 200 } else { 0 }];
                    let speaks = number >= silent && beat % 4 == 0;
                    if is_gone(stream) || speaks && stream.write(&byte).is_err() {
                        *stream = open();
                    }
                }
                thread::sleep(Duration::from_millis(250));
            }
        });
    })
}

fn is_gone(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// A child that serves whoever gets in, and tells how many were refused.
fn server(address: &Address) -> Child {
    let address = address.clone();
    let serve = move || {
        limit_descriptors(512);
        let listener = listen(&address);
        thread::spawn(move || {
            loop {
                echo(listener.accept().unwrap());
            }
        });
    };
    hold(serve)
}

/// How long a client takes to be served, from nothing to an answer, as long as it takes in truth, and without the time in which it or
/// `server` was ready to run and others ran instead.
fn visit(address: &Address, server: &Child) -> (Duration, Duration) {
    let in_line = || procfs::time_in_line() + procfs::time_in_line_of(server.pid());
    let (start, before) = (Instant::now(), in_line());
    let link = connect(address, &key()).unwrap();
    link.send_bytes(b"good").unwrap();
    assert_eq!(link.recv_bytes().unwrap(), b"good");
    let took = start.elapsed();
    (took, took.saturating_sub(in_line() - before))
}

/// Says how long visits took, and answers what nine of ten took at most if the machine had nothing else to do.
fn judge(what: &str, visits: Vec<(Duration, Duration)>) -> Duration {
    let (mut took, mut alone): (Vec<_>, Vec<_>) = visits.into_iter().unzip();
    took.sort();
    alone.sort();
    let at = |times: &[Duration], percent: usize| times[(times.len() - 1) * percent / 100];
    let line = [50, 90, 98, 100].map(|percent| format!("{percent} % in {:?}", at(&took, percent))).join(", ");
    let most = at(&alone, 90);
    say(&format!("{what}: {} visits, {line}; 90 % in {most:?} without the wait for a processor", took.len()));
    most
}

#[test]
fn good_client_is_served_beside_thousands_of_bad_ones() {
    let _test = test(60);
    let address = abstract_name();
    let server = server(&address);
    judge("alone", (0..50).map(|_| visit(&address, &server)).collect());
    let crowd = crowd(&address, 2000, 1000);
    let mut visits = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        visits.push(visit(&address, &server));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(judge("beside 2000", visits) < Duration::from_millis(50));
    drop((crowd, server));
}

/// Becomes another user; false, with a word, if this process may not.
fn become_stranger() -> bool {
    // SAFETY: a number. All threads of the process change, and a test child has one.
    let done = unsafe { libc::setresuid(STRANGER, STRANGER, STRANGER) } == 0;
    if !done {
        say("skipped: another user: this one is not root");
    }
    done
}

#[test]
fn another_user_is_closed_before_a_byte_of_his_is_read() {
    let _test = test(20);
    let listener = listen(&abstract_name());
    let address = listener.address().clone();
    let mut child = fork(|| {
        if !become_stranger() {
            return;
        }
        let mut stream = knock(&address);
        let _ = stream.write_all(&[0x7f; 1000]); // no frame: it would be counted as such
        assert!(is_closed(&mut stream), "not even challenged");
        assert!(matches!(connect(&address, &key()), Err(ConnectError::TurnedAway)), "though he has the key");
    });
    until(|| {
        assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
        child.try_wait().is_some()
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(listener.refused().user, listener.refused().total());
    client(&listener, |_| ()).1.wait();
}

#[test]
fn allowed_user_gets_a_stream_and_no_memory() {
    let _test = test(20);
    let options = Listener::options().address(abstract_name()).key(key()).allow_uid(STRANGER);
    let listener = options.bind().unwrap();
    let address = listener.address().clone();
    let mut child = fork(|| {
        if !become_stranger() {
            return;
        }
        assert!(matches!(connect(&address, &wrong_key()), Err(ConnectError::WrongKey)));
        // One that asks for rings all the same gets none.
        let mut stream = bare(&address, true);
        stream.write_all(&frame(b"hello")).unwrap();
        let link = connect(&address, &key()).unwrap();
        assert!(!link.is_local());
        link.send_bytes(b"hello").unwrap();
        assert_eq!(link.recv_bytes().unwrap(), b"bye");
    });
    for _ in 0..2 {
        let link = loop {
            match listener.accept_timeout(Duration::from_millis(5)).unwrap() {
                Some(link) => break link,
                None if child.try_wait().is_some() => return, // not root
                None => {}
            }
        };
        assert!(!link.is_local());
        assert_eq!(link.peer().map(|peer| peer.uid), Some(STRANGER));
        assert_eq!(link.recv_bytes().unwrap(), b"hello");
        let _ = link.send_bytes(b"bye");
    }
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn crowd_of_one_user_leaves_room_for_another() {
    let _test = test(20);
    let options = Listener::options().address(abstract_name()).key(key()).allow_uid(STRANGER);
    let listener = options.max_pending(8).bind().unwrap();
    // One of ours, who takes his time, was there first.
    let mut slow = knock(listener.address());
    until(|| {
        assert!(listener.try_accept().unwrap().is_none());
        listener.pending() == 1
    });
    let address = listener.address().clone();
    let mut child = hold(|| {
        if become_stranger() {
            std::mem::forget((0..100).map(|_| knock(&address)).collect::<Vec<_>>());
        }
    });
    until(|| {
        assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
        listener.pending() == 1 || listener.refused().evicted == 93
    });
    assert_eq!(listener.pending(), if listener.refused().evicted > 0 { 8 } else { 1 });
    let mut handshake = side(Role::Client { rings: false });
    for _ in 0..2 {
        let heard = read_frame(&mut slow).unwrap();
        let (Step::Say(said) | Step::Stream(Some(said))) = handshake.hear(&heard).unwrap() else { panic!() };
        slow.write_all(&frame(&said)).unwrap();
        until(|| !handshake.is_authentic() || listener.try_accept().unwrap().is_some());
        if !handshake.is_authentic() {
            assert!(listener.accept_timeout(Duration::from_millis(20)).unwrap().is_none());
        }
    }
    child.kill9();
}

#[test]
fn descriptors_that_come_along_are_never_installed() {
    let _test = test(30);
    let listener = listen(&abstract_name());
    let address = listener.address().clone();
    let (told, tell) = pipe().unwrap();
    let mut child = fork(|| {
        let descriptors = [0; 200];
        let mut sent = 0;
        // With the first bytes of a handshake that never comes.
        for _ in 0..100 {
            let stream = knock(&address).into();
            for byte in [0, 0] {
                sent += usize::from(send_packet(&stream, &[byte], &descriptors));
            }
            std::mem::forget(stream);
        }
        // With a proof, and with messages.
        let stream = bare(&address, false);
        let stream = stream.into();
        for _ in 0..100 {
            sent += usize::from(send_packet(&stream, &frame(b"message"), &descriptors));
            let plain = frame(b"plain");
            send_packet(&stream, &plain, &[]);
        }
        tell.send(&sent).unwrap();
        assert_eq!(tell.recv::<u8>().unwrap(), 0);
    });
    let link = listener.accept().unwrap();
    let sent: usize = told.recv().unwrap();
    let before = census().len();
    assert!(before < 150, "64 clients, and what the test has: {before}");
    let mut messages = 0;
    while let Ok(message) = link.try_recv_bytes() {
        messages += usize::from(message == b"plain");
        assert_eq!(census().len(), before);
    }
    assert_eq!(messages, 100);
    say(&format!("{sent} of 300 packets with descriptors were let through by this kernel, and none arrived"));
    told.send(&0u8).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn listener_without_descriptors_goes_on_when_it_has_them_again() {
    let _test = test(30);
    let listener = listen(&abstract_name());
    let address = listener.address().clone();
    drop(listener);
    let (told, tell) = pipe().unwrap();
    let mut server = fork(|| {
        let listener = listen(&address);
        let mut kept: Vec<_> = Vec::new();
        limit_descriptors(100);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            kept.push(file);
        }
        tell.send(&0u8).unwrap();
        while tell.try_recv::<u8>().is_err() {
            assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
        }
        assert!(listener.refused().resources >= 2, "{:?}", listener.refused());
        // Room for the socket of a client, and not for a pipe: the stream will do.
        kept.truncate(kept.len() - 2);
        tell.send(&0u8).unwrap();
        let first = listener.accept().unwrap();
        assert!(!first.is_local());
        kept.clear();
        let second = listener.accept().unwrap();
        assert!(second.is_local());
        (0..2).for_each(|_| [&first, &second].into_iter().for_each(|link| link.send(&1u8).unwrap()));
        echo(first);
    });
    told.recv::<u8>().unwrap();
    let answer = connect(&address, &key());
    assert!(matches!(answer, Err(ConnectError::TurnedAway)), "{answer:?}");
    told.send(&0u8).unwrap();
    told.recv::<u8>().unwrap();
    let links = [connect(&address, &key()).unwrap(), connect(&address, &key()).unwrap()];
    links.iter().for_each(|link| assert_eq!(link.recv::<u8>().unwrap(), 1));
    drop(links);
    assert_eq!(server.wait(), Status::Code(0));
}

#[test]
fn mutated_handshakes_harm_nobody() {
    let _test = test(60);
    let address = abstract_name();
    let listener = listen(&address);
    let mut rng = Rng::new(support::seed());
    thread::scope(|scope| {
        let (stop, end) = std::sync::mpsc::channel::<()>();
        let listener = &listener;
        scope.spawn(move || {
            while end.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                assert!(listener.accept_timeout(Duration::from_millis(2)).unwrap().is_none());
            }
        });
        for round in 0..2000u32 {
            let mut stream = knock(&address);
            let challenge = read_frame(&mut stream).unwrap();
            let Ok(Step::Say(proof)) = side(CLIENT).hear(&challenge) else { panic!("it answers") };
            let mut message = frame(&proof);
            for _ in 0..=rng.below(3) {
                let place = rng.below(if round % 2 == 0 { 4 } else { message.len() as u64 }) as usize;
                message[place] ^= 1 << rng.below(8);
            }
            message.truncate(1 + rng.below(2 * message.len() as u64) as usize);
            if message == frame(&proof) {
                continue; // the same bit twice, and nothing cut off
            }
            stream.write_all(&message).unwrap();
            if rng.below(2) == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = read_frame(&mut stream);
            }
        }
        drop(stop);
    });
    assert!(listener.refused().total() >= 1000, "{:?}", listener.refused());
    client(&listener, |_| ()).1.wait();
}

#[test]
fn mutated_frames_harm_nobody() {
    let _test = test(60);
    const MAX: usize = 10_000;
    const FRAMES: usize = 200;
    let listener = listen(&abstract_name());
    let mut rng = Rng::new(support::seed());
    let mut ends = [0; 4];
    for _ in 0..1_000_000 / FRAMES {
        let address = listener.address().clone();
        let child = thread::spawn(move || bare(&address, false));
        let link = listener.accept().unwrap();
        let mut stream = child.join().unwrap();
        link.set_max_message(MAX);
        let mut bytes = Vec::new();
        for _ in 0..FRAMES {
            let mut message = frame(&vec![7; rng.below(200) as usize]);
            // Most of them in the payload, so that the stream goes on for a while.
            let place = if rng.below(100) == 0 { rng.below(4) } else { 4 + rng.below(200) } as usize;
            message.get_mut(place).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8));
            bytes.extend(message);
        }
        stream.set_nonblocking(true).unwrap();
        let sent = stream.write(&bytes).unwrap();
        assert!(sent > FRAMES, "a socket has room for that");
        drop(stream);
        let end = loop {
            match link.recv_bytes() {
                Ok(message) => assert!(message.len() <= MAX),
                Err(RecvError::TooBig { size, max }) => {
                    assert!(size > MAX as u64 && max == MAX);
                    ends[0] += 1;
                }
                Err(RecvError::Garbled) => break 1,
                Err(RecvError::EofInside { .. }) => break 2,
                Err(RecvError::Closed) => break 3,
                Err(error) => panic!("{error}"),
            }
        };
        ends[end] += 1;
    }
    assert!(ends.iter().all(|count| *count > 0), "each of its ends was seen: {ends:?}");
}

#[test]
fn silent_ones_go_when_their_time_is_up_though_nobody_comes() {
    let _test = test(20);
    let options = Listener::options().address(abstract_name()).key(key());
    let listener = options.handshake_timeout(Duration::from_millis(50)).bind().unwrap();
    assert_eq!(listener.next_deadline(), None);
    let mut silent: Vec<_> = (0..10).map(|_| knock(listener.address())).collect();
    let events = support::Loop::new();
    events.add(&listener);
    let start = Instant::now();
    while listener.refused().late < 10 {
        events.turn(); // the descriptor alone tells
        assert!(listener.try_accept().unwrap().is_none());
    }
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(listener.pending(), 0);
    silent.iter_mut().for_each(|stream| assert!(read_frame(stream).is_ok() && is_closed(stream)));
}

//! What each request does, and what it leaves.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;

#[test]
fn what_was_set_is_got() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let client = server.client();
    let dict = client.create(Kind::Dict, b"d");
    client.set(dict, b"key", b"value");
    let (answer, rest) = server.client().get(dict, b"key");
    assert_eq!((answer, value(&rest)), (Answer::Done, &b"value"[..]));
}

#[test]
fn death_of_a_client_gives_everything_back() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (watcher, client) = (server.client(), server.client());
    let mut second = server.link();
    (second.session, second.secret) = (client.session, client.secret);
    second.hello().unwrap();
    for _ in 0..10_000 {
        client.create(Kind::Dict, b"");
    }
    let dict = client.create(Kind::Dict, b"");
    client.set(dict, b"key", &[1; 1000]);
    let lock = client.create(Kind::Lock, b"lock");
    assert_eq!(client.ask(Op::LockAcquire, lock, |message| message.put_number(0)).0, Answer::Done);
    let lent = client.ask(Op::Lend, dict, |message| message.put_number(1_000_000));
    assert_eq!(lent.0, Answer::Done);
    let event = client.create(Kind::Event, b"");
    second.tell(Op::EventWait, event, |message| message.put_number(u64::MAX));
    until(|| watcher.statistics().waiting == 1);
    let seen = watcher.statistics();
    assert_eq!((seen.clients, seen.links, seen.objects, seen.names), (2, 3, 10_003, 1));
    assert!(seen.bytes > 1000);
    drop((client, second));
    // The lock comes to whoever waits for it, and says that its owner died.
    let acquired = watcher.ask(Op::LockAcquire, lock, |message| message.put_number(u64::MAX));
    assert_eq!(acquired, (Answer::Done, vec![1]));
    watcher.ask(Op::LockRelease, lock, |message| message.put_u8(0));
    assert_eq!(watcher.ask(Op::Remove, 0, |message| message.put_bytes(b"lock")).0, Answer::Done);
    until(|| at_base(&watcher.statistics()));
}

#[test]
fn a_session_is_joined_with_its_secret_only() {
    let _test = test(60);
    let server = Server::start(Limits { links: 2, ..Limits::default() });
    let client = server.client();
    let mut stranger = server.link();
    (stranger.session, stranger.secret) = (client.session, [0; 16]);
    assert_eq!(stranger.hello().unwrap_err().0, Answer::Nothing);
    (stranger.session, stranger.secret) = (client.session + 1, client.secret);
    assert_eq!(stranger.hello().unwrap_err().0, Answer::Nothing);
    (stranger.session, stranger.secret) = (client.session, client.secret);
    stranger.hello().unwrap();
    let mut third = server.link();
    (third.session, third.secret) = (client.session, client.secret);
    assert_eq!(third.hello().unwrap_err(), (Answer::Exhausted, vec![Budget::Links as u8]));
}

#[test]
fn what_is_not_of_the_grammar_costs_its_own_link_only() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let good = server.client();
    let dict = good.create(Kind::Dict, b"");
    let inner = |message: &mut Vec<u8>, requests: &[Vec<u8>]| {
        message.put_u32(requests.len() as u32);
        requests.iter().for_each(|request| message.put_bytes(request));
    };
    let batch = request(Op::Batch, 0, |message| message.put_u32(0));
    let waits = request(Op::EventWait, dict, |message| message.put_number(0));
    let create = request(Op::Create, 0, |message| message.put(&[1, 0, 0, 0, 0]));
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        vec![0; 16],
        request(Op::Hello, 0, |_| ()),
        request(Op::MapGet, dict, |message| message.put_u32(u32::MAX)),
        request(Op::MapSet, dict, |message| {
            message.put_bytes(b"k");
            message.put_u32(u32::MAX);
            message.put_u32(u32::MAX);
        }),
        request(Op::MapExtend, dict, |message| message.put_u32(u32::MAX)),
        request(Op::MapLen, dict, |message| message.put_u8(0)),
        request(Op::Batch, 0, |message| message.put_u32(u32::MAX)),
        request(Op::Batch, 0, |message| inner(message, std::slice::from_ref(&batch))),
        request(Op::Batch, 0, |message| inner(message, std::slice::from_ref(&waits))),
        request(Op::Batch, 0, |message| inner(message, std::slice::from_ref(&create))),
        request(Op::Create, 0, |message| {
            message.put_u8(1);
            message.put_bytes(&[b'n'; MAX_NAME + 1]);
        }),
    ];
    for (i, message) in bad.iter().enumerate() {
        let client = server.client();
        client.link.send_bytes(message).unwrap();
        assert!(client.is_refused(), "message {i}");
        assert_eq!(good.ask(Op::MapLen, dict, |_| ()), (Answer::Done, vec![0; 8]));
    }
    let impatient = server.client();
    let event = impatient.create(Kind::Event, b"");
    impatient.tell(Op::EventWait, event, |message| message.put_number(u64::MAX));
    impatient.tell(Op::MapLen, dict, |_| ());
    assert!(impatient.is_refused(), "one request at a time");
    until(|| good.statistics().refused == bad.len() as u64 + 1);
    until(|| good.statistics().links == 1);
}

#[test]
fn what_is_not_there_is_gone_and_never_comes() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let client = server.client();
    let dict = client.create(Kind::Dict, b"");
    let set = |references: &[u64]| {
        client.ask(Op::MapSet, dict, |message| {
            message.put_bytes(b"key");
            message.put_value(references, b"");
        })
    };
    // The numbers that come next, each in turn: were one of them given to an object, the second set would count it down.
    let next: Vec<u64> = (1..=4).map(|place| dict + place).chain([dict + (1 << 32), 0, u64::MAX]).collect();
    assert_eq!(set(&next).0, Answer::Done);
    let made: Vec<u64> = (0..4).map(|_| client.create(Kind::List, b"")).collect();
    assert!(made.iter().all(|object| !next.contains(object)));
    assert_eq!(set(&[]).0, Answer::Done);
    assert!(made.iter().all(|object| client.ask(Op::ListLen, *object, |_| ()).0 == Answer::Done));
    assert_eq!(client.ask(Op::ListLen, 77, |_| ()).0, Answer::Gone);
    assert_eq!(client.ask(Op::ListLen, dict, |_| ()), (Answer::OtherKind, vec![Kind::Dict as u8]));
    assert_eq!(client.ask(Op::Retain, 77, |_| ()).0, Answer::Gone);
    (0..3).for_each(|_| client.tell(Op::Release, made[0], |_| ()));
    assert_eq!(client.ask(Op::ListLen, made[0], |_| ()).0, Answer::Gone);
}

#[test]
fn objects_inside_values_live_as_long_as_the_values() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (client, other) = (server.client(), server.client());
    let outer = client.create(Kind::Dict, b"outer");
    let inner = client.create(Kind::List, b"");
    let set = client.ask(Op::MapSet, outer, |message| {
        message.put_bytes(b"inner");
        message.put_value(&[inner], b"the first");
    });
    assert_eq!(set.0, Answer::Done);
    client.tell(Op::Release, inner, |_| ());
    let (answer, rest) = other.get(outer, b"inner");
    assert_eq!(answer, Answer::Done);
    assert!(Reader::new(&rest).value().unwrap().references().eq([inner]));
    assert_eq!(client.ask(Op::MapClear, outer, |_| ()).0, Answer::Done);
    assert_eq!(other.ask(Op::ListLen, inner, |_| ()).0, Answer::Done, "the other client has got it");
    drop(other);
    until(|| client.statistics().clients == 1);
    assert_eq!(client.ask(Op::ListLen, inner, |_| ()).0, Answer::Gone);
}

#[test]
fn a_lent_reference_ends_when_it_is_claimed_or_late() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (client, other) = (server.client(), server.client());
    let lend = |nanoseconds: u64| {
        let dict = client.create(Kind::Dict, b"");
        let (answer, rest) = client.ask(Op::Lend, dict, |message| message.put_number(nanoseconds));
        assert_eq!(answer, Answer::Done);
        client.tell(Op::Release, dict, |_| ());
        (dict, number(&rest))
    };
    let (dict, ticket) = lend(u64::MAX);
    let claim = || other.ask(Op::Claim, dict, |message| message.put_number(ticket)).0;
    assert_eq!(claim(), Answer::Done);
    assert_eq!(claim(), Answer::Gone);
    assert_eq!(other.ask(Op::MapLen, dict, |_| ()).0, Answer::Done);
    other.tell(Op::Release, dict, |_| ());
    assert_eq!(other.ask(Op::MapLen, dict, |_| ()).0, Answer::Gone);
    let (dict, _) = lend(1_000_000);
    until(|| client.ask(Op::MapLen, dict, |_| ()).0 == Answer::Gone);
}

#[test]
fn budgets_are_refused_and_given_back() {
    let _test = test(60);
    let limits = Limits { bytes: 4096, objects: 10, waits: 1, ..Limits::default() };
    let server = Server::start(limits);
    let client = server.client();
    let dict = client.create(Kind::Dict, b"");
    let exhausted = |budget: Budget| (Answer::Exhausted, vec![budget as u8]);
    let set = |key: &[u8], size: usize| {
        client.ask(Op::MapSet, dict, |message| {
            message.put_bytes(key);
            message.put_value(&[], &vec![0; size]);
        })
    };
    assert_eq!(set(b"large", 5000), exhausted(Budget::Bytes));
    let stored = (0u32..100).take_while(|key| set(&key.to_le_bytes(), 100).0 == Answer::Done).count();
    assert!((5..40).contains(&stored));
    assert_eq!(client.ask(Op::MapClear, dict, |_| ()).0, Answer::Done);
    assert_eq!(client.statistics().bytes, 0);
    assert_eq!(set(b"large", 3000).0, Answer::Done);
    assert_eq!(set(b"large", 1000).0, Answer::Exhausted, "both are there for a moment");

    let create = || {
        client.ask(Op::Create, 0, |message| {
            message.put_u8(Kind::Event as u8);
            message.put_bytes(b"");
        })
    };
    let made: Vec<u64> = (0..9).map(|_| number(&create().1)).collect();
    assert_eq!(create(), exhausted(Budget::Objects));
    client.tell(Op::Release, made[8], |_| ());
    assert_eq!(create().0, Answer::Done);

    let mut second = server.link();
    (second.session, second.secret) = (client.session, client.secret);
    second.hello().unwrap();
    second.tell(Op::EventWait, made[0], |message| message.put_number(u64::MAX));
    until(|| client.statistics().waiting == 1);
    assert_eq!(
        client.ask(Op::EventWait, made[0], |message| message.put_number(u64::MAX)),
        exhausted(Budget::Waiting)
    );
    client.ask(Op::EventSet, made[0], |_| ());
    assert_eq!(second.hear().0, Answer::Done);
    assert_eq!(client.ask(Op::EventWait, made[0], |message| message.put_number(0)).0, Answer::Done);
}

#[test]
fn pages_have_what_lives_throughout_once() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (client, other) = (server.client(), server.client());
    let dict = client.create(Kind::Dict, b"");
    let key = |n: u32| n.to_be_bytes();
    (0..1000).for_each(|n| client.set(dict, &key(n), b"value"));
    let (mut seen, mut place, mut pages) = (Vec::new(), 0, 0u32);
    loop {
        let (answer, rest) = client.ask(Op::MapPage, dict, |message| {
            message.put_number(place);
            message.put_u8(3);
            message.put_number(1000);
        });
        assert_eq!(answer, Answer::Done);
        let mut reader = Reader::new(&rest);
        place = reader.number().unwrap();
        for _ in 0..reader.u32().unwrap() {
            seen.push(u32::from_be_bytes(reader.bytes().unwrap().try_into().unwrap()));
            reader.value().unwrap();
        }
        if place == 0 {
            break;
        }
        // Every third goes, some change, some come.
        other.ask(Op::MapRemove, dict, |message| message.put_bytes(&key(pages * 30)));
        other.set(dict, &key(pages * 30 + 1), b"other");
        other.set(dict, &key(10_000 + pages), b"new");
        pages += 1;
    }
    assert!(pages > 10);
    let lived = (0..1000).filter(|n| n % 30 != 0 || *n >= pages * 30);
    let counted = |n: &u32| seen.iter().filter(|key| *key == n).count();
    assert!(lived.into_iter().all(|n| counted(&n) == 1));
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), seen.len());
}

#[test]
fn who_does_not_read_rings_holds_up_nobody() {
    let _test = test(60);
    deaf_beside_good(&Address::fresh());
}

#[test]
fn who_does_not_read_a_stream_holds_up_nobody() {
    let _test = test(60);
    deaf_beside_good(&Address::Tcp("127.0.0.1:0".into()));
}

fn deaf_beside_good(address: &Address) {
    let server = Server::at(address, |listener| serve(listener, Limits::default()).unwrap());
    let (good, deaf) = (server.client(), server.client());
    let dict = good.create(Kind::Dict, b"");
    good.set(dict, b"key", &[7; 40_000]);
    const ASKED: usize = 300;
    (0..ASKED).for_each(|_| deaf.tell(Op::MapGet, dict, |message| message.put_bytes(b"key")));
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(good.get(dict, b"none").0, Answer::Nothing);
        assert!(begun.elapsed() < Duration::from_millis(250));
    }
    for _ in 0..ASKED {
        let (answer, rest) = deaf.hear();
        assert_eq!((answer, value(&rest)), (Answer::Done, &[7; 40_000][..]));
    }
    assert_eq!(deaf.get(dict, b"none").0, Answer::Nothing);
}

#[test]
fn a_message_that_is_not_finished_ends_its_link() {
    let _test = test(60);
    let address = Address::Tcp("127.0.0.1:0".into());
    let server = Server::at(&address, |listener| {
        let mut turns = Turns::new(State::new(Limits::default()).unwrap(), Some(listener)).unwrap();
        turns.frame_time = Duration::from_millis(100);
        turns.run().unwrap();
    });
    let (good, slow, cut) = (server.client(), server.client(), server.client());
    let message = request(Op::Names, 0, |_| ());
    let frame = [&(message.len() as u32).to_be_bytes()[..], &message].concat();
    for client in [&slow, &cut] {
        nix::unistd::write(client.link.outlet().unwrap(), &frame[..10]).unwrap();
    }
    drop(cut);
    let begun = Instant::now();
    assert!(slow.is_refused());
    assert!(begun.elapsed() < Duration::from_secs(5));
    until(|| good.statistics().links == 1);
    assert_eq!(good.ask(Op::Names, 0, |_| ()).0, Answer::Done);
    // One after the other, byte by byte, is whole in time.
    for byte in frame {
        nix::unistd::write(good.link.outlet().unwrap(), &[byte]).unwrap();
    }
    assert_eq!(good.hear().0, Answer::Done);
}

#[test]
fn what_nobody_listens_to_comes_back() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (client, other) = (server.client(), server.client());
    let lock = client.create(Kind::Lock, b"");
    let acquire = |client: &Client, time: u64| client.tell(Op::LockAcquire, lock, |to| to.put_number(time));
    acquire(&client, u64::MAX);
    assert_eq!(client.hear().0, Answer::Done);
    assert_eq!(client.ask(Op::Abandon, 0, |_| ()).0, Answer::Abandoned, "it was answered");
    acquire(&other, u64::MAX);
    assert_eq!(other.hear().0, Answer::Done);
    acquire(&client, u64::MAX);
    assert_eq!(client.ask(Op::Abandon, 0, |_| ()).0, Answer::Abandoned, "it waited");
    assert_eq!(other.ask(Op::LockRelease, lock, |message| message.put_u8(0)).0, Answer::Done);
    acquire(&other, 0);
    assert_eq!(other.hear().0, Answer::Done);
    acquire(&client, 1_000_000);
    assert_eq!(client.hear().0, Answer::TimedOut);
}

#[test]
fn batches_are_answered_one_by_one() {
    let _test = test(60);
    let server = Server::start(Limits { message: 1 << 20, ..Limits::default() });
    let client = server.client();
    let dict = client.create(Kind::Dict, b"");
    client.set(dict, b"large", &[1; 500_000]);
    let large = request(Op::MapRemove, dict, |message| message.put_bytes(b"large"));
    let get = request(Op::MapGet, dict, |message| message.put_bytes(b"large"));
    let requests = [&get, &get, &get, &large, &request(Op::MapLen, dict, |_| ())];
    let (answer, rest) = client.ask(Op::Batch, 0, |message| {
        message.put_u32(requests.len() as u32);
        requests.iter().for_each(|request| message.put_bytes(request));
    });
    assert_eq!(answer, Answer::Done);
    let mut reader = Reader::new(&rest);
    let answers: Vec<&[u8]> = (0..reader.u32().unwrap()).map(|_| reader.bytes().unwrap()).collect();
    reader.end().unwrap();
    let codes: Vec<u8> = answers.iter().map(|answer| answer[0]).collect();
    let [done, failed] = [Answer::Done as u8, Answer::Failed as u8];
    assert_eq!(codes, [done, done, failed, failed, done], "what has no room is not done");
    assert_eq!(number(&answers[4][1..]), 1, "it was not removed");
}

#[test]
fn who_asks_all_the_time_holds_up_nobody() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let (busy, waiter) = (server.client(), server.client());
    let event = waiter.create(Kind::Event, b"");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                busy.ask(Op::EventIsSet, event, |_| ());
            }
        });
        for _ in 0..5 {
            let begun = Instant::now();
            let waited = waiter.ask(Op::EventWait, event, |message| message.put_number(1_000_000));
            assert_eq!(waited.0, Answer::TimedOut);
            server.client();
            assert!(begun.elapsed() < Duration::from_millis(250));
        }
        over.store(true, Relaxed);
    });
}

/// A list of so many short values.
fn long_list(client: &Client, name: &[u8], count: u32) -> ObjectId {
    let list = client.create(Kind::List, name);
    let (answer, _) = client.ask(Op::ListExtend, list, |message| {
        message.put_u32(count);
        (0..count).for_each(|_| message.put_value(&[], b"four"));
    });
    assert_eq!(answer, Answer::Done);
    list
}

#[test]
fn who_asks_for_much_work_holds_up_nobody() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let greedy: Vec<Client> = (0..20).map(|_| server.client()).collect();
    let list = long_list(&greedy[0], b"list", 1_000_000);
    let over = AtomicBool::new(false);
    let count = |message: &mut Vec<u8>| message.put_value(&[], b"five");
    let (mut calls, mut visits) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for client in &greedy {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    (0..16).for_each(|_| client.tell(Op::ListCount, list, count));
                    (0..16).for_each(|_| assert_eq!(client.hear().0, Answer::Done));
                }
            });
        }
        let good = server.client();
        for _ in 0..20 {
            let start = Instant::now();
            good.statistics();
            calls.push(start.elapsed());
            let start = Instant::now();
            server.client();
            visits.push(start.elapsed());
        }
        over.store(true, Relaxed);
    });
    calls.sort();
    visits.sort();
    support::say(&format!("half of the calls {:?}, of the visits {:?}", calls[10], visits[10]));
    assert!(calls[10] < Duration::from_millis(40), "{calls:?}");
    assert!(visits[10] < Duration::from_millis(200), "{visits:?}");
}

type Arguments = dyn Fn(&mut Vec<u8>);

#[test]
fn a_batch_does_so_much_work_and_no_more() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let client = server.client();
    let list = long_list(&client, b"", 1_000_000);
    let batch = |count: u32, op: Op, write: &Arguments| {
        let one = request(op, list, write);
        let (answer, rest) = client.ask(Op::Batch, 0, |message| {
            message.put_u32(count);
            (0..count).for_each(|_| message.put_bytes(&one));
        });
        assert_eq!(answer, Answer::Done);
        let mut rest = Reader::new(&rest);
        assert_eq!(rest.u32(), Ok(count));
        let is_done = |_: &u32| rest.bytes().unwrap()[0] == Answer::Done as u8;
        (0..count).filter(is_done).count()
    };
    let works: [(Op, &Arguments); 4] = [
        (Op::ListCount, &|message| message.put_value(&[], b"five")),
        (Op::ListReverse, &|_| ()),
        (Op::ListPop, &|message| message.put_index(0)),
        (Op::ListInsert, &|message| {
            message.put_index(0);
            message.put_value(&[], b"four");
        }),
    ];
    for (op, write) in works {
        assert!((1..10).contains(&batch(1000, op, write)), "{op:?}");
    }
    assert_eq!(batch(1000, Op::ListLen, &|_| ()), 1000);
}

#[test]
fn batch_whose_answers_have_no_room_is_refused_whole() {
    let _test = test(60);
    let server = Server::start(Limits { message: 64 << 10, ..Limits::default() });
    let client = server.client();
    let dict = client.create(Kind::Dict, b"");
    client.set(dict, b"key", &[1; 30]);
    let get = request(Op::MapGet, dict, |message| message.put_bytes(b"key"));
    for (count, expected) in [(1000u32, Answer::Done), (2000, Answer::Failed)] {
        let said = client.ask(Op::Batch, 0, |message| {
            message.put_u32(count);
            (0..count).for_each(|_| message.put_bytes(&get));
        });
        assert_eq!(said.0, expected);
    }
    assert_eq!(client.get(dict, b"key").0, Answer::Done);
}

#[test]
fn numbers_that_somebody_chose_hold_up_nobody() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let client = server.client();
    let dict = client.create(Kind::Dict, b"");
    // Of objects that never were: all at one place, for whoever takes a number for its own hash.
    let strays: Vec<ObjectId> = (1000..301_000).map(|generation| generation << 32).collect();
    let start = Instant::now();
    let said = client.ask(Op::MapSet, dict, |message| {
        message.put_bytes(b"key");
        message.put_value(&strays, b"");
    });
    assert_eq!(said.0, Answer::Done);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    client.tell(Op::Release, dict, |_| ());
    until(|| at_base(&client.statistics()));
}

#[test]
fn one_process_has_so_many_sessions_and_no_more() {
    let _test = test(60);
    let server = Server::start(Limits { links: 3, ..Limits::default() });
    let clients = [(); 3].map(|()| server.client());
    let mut one_more = server.link();
    assert_eq!(one_more.hello().unwrap_err(), (Answer::Exhausted, vec![Budget::Links as u8]));
    drop(clients);
    until(|| one_more.hello().is_ok());
}

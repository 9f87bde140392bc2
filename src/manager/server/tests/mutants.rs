//! Requests that somebody changed on their way.

use super::*;
use crate::manager::server::calls::Reply;
use crate::manager::server::state::Line;

/// A request of each op, whole, to objects of all kinds.
fn requests(objects: &[ObjectId]) -> Vec<Vec<u8>> {
    let codes =
        (0..=u8::MAX).filter_map(Op::of).filter(|op| !matches!(op, Op::Save | Op::Load | Op::Shutdown));
    let arguments: [&[u8]; 8] = [
        &[],
        &[0; 8],
        &[1, 0, 0, 0, b'k'],
        &[1, 0, 0, 0, b'k', 0, 0, 0, 0, 2, 0, 0, 0, 7, 7],
        &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 8],
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9],
        &[2, 0, 0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0],
    ];
    let mut requests = Vec::new();
    for op in codes {
        for object in objects {
            requests.extend(arguments.map(|bytes| request(op, *object, |message| message.put(bytes))));
        }
    }
    requests
}

/// Changes, cuts or lengthens a message.
fn mutate(message: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(4) {
        let at = rng.below(message.len().max(1) as u64) as usize;
        match rng.below(8) {
            0 => message.truncate(at),
            1 => message.extend_from_slice(&rng.next().to_le_bytes()),
            2 => message.insert(at.min(message.len()), rng.next() as u8),
            3 => message.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xff),
            4 => message.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0),
            5 => message.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
            6 => message.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.below(12) as u8),
            _ => message.extend_from_within(at.min(message.len())..),
        }
    }
}

const KINDS: [(Kind, &[u8]); 12] = [
    (Kind::Dict, &[]),
    (Kind::List, &[]),
    (Kind::Value, &[0; 8]),
    (Kind::Array, &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5]),
    (Kind::Queue, &[0; 8]),
    (Kind::JoinableQueue, &[2, 0, 0, 0, 0, 0, 0, 0]),
    (Kind::Lock, &[]),
    (Kind::RLock, &[]),
    (Kind::Semaphore, &[2, 0, 0, 0, 0, 0, 0, 0, 1]),
    (Kind::Event, &[]),
    (Kind::Barrier, &[2, 0, 0, 0, 0, 0, 0, 0]),
    (Kind::Namespace, &[]),
];

fn objects(mut ask: impl FnMut(Vec<u8>) -> Vec<u8>) -> Vec<ObjectId> {
    let make = |(kind, arguments): (Kind, &[u8])| {
        let answer = ask(request(Op::Create, 0, |message| {
            message.put_u8(kind as u8);
            message.put_bytes(b"");
            message.put(arguments);
        }));
        assert_eq!(answer[0], Answer::Done as u8, "{kind:?}");
        number(&answer[1..])
    };
    KINDS.map(make).to_vec()
}

#[test]
fn a_million_mutants_change_nothing_that_is_not_theirs() {
    let _test = test(60);
    let mut rng = Rng::new(seed());
    let limits = Limits { bytes: 1 << 20, objects: 500, waits: 20, ..Limits::default() };
    let mut state = State::new(limits).unwrap();
    let hello = request(Op::Hello, 0, |message| {
        message.put_number(VERSION.into());
        message.put(&[0; 24]);
    });
    let begin = |state: &mut State| {
        let mut line = Line::default();
        assert_eq!(state.request(1, &mut line, &hello), Ok(Reply::Answer));
        line
    };
    let mut keeper = begin(&mut state);
    let objects = objects(|message| {
        state.request(1, &mut keeper, &message).unwrap();
        state.desk.answer.clone()
    });
    let requests = requests(&[&objects[..], &[0, u64::MAX]].concat());
    let (mut line, mut fine, mut refused) = (begin(&mut state), 0, 0);
    for _ in 0..1_000_000 {
        let mut message = requests[rng.below(requests.len() as u64) as usize].clone();
        mutate(&mut message, &mut rng);
        let outcome = state.request(2, &mut line, &message);
        assert!(!state.is_over || message.starts_with(&[Op::Shutdown as u8]));
        state.is_over = false;
        let woken = std::mem::take(&mut state.woken);
        if woken.iter().any(|woken| line.waits == Some(woken.answered.caller.ticket)) {
            line.waits = None;
        }
        fine += u32::from(outcome.is_ok());
        refused += u32::from(outcome.is_err());
        if outcome.is_err() || line.waits.is_some() && rng.below(2) == 0 {
            state.hang_up(std::mem::take(&mut line));
            line = begin(&mut state);
        }
        state.run_timers();
    }
    println!("{fine} were of the grammar, {refused} were not");
    assert!(fine > 100_000 && refused > 100_000);
    state.hang_up(line);
    let seen = state.statistics();
    assert_eq!((seen.clients, seen.waiting), (1, 0));
    let names: Vec<Vec<u8>> = state.table.names().map(|(name, ..)| name.to_vec()).collect();
    for name in names {
        let remove = request(Op::Remove, 0, |message| message.put_bytes(&name));
        assert_eq!(state.request(1, &mut keeper, &remove), Ok(Reply::Answer));
    }
    // What is left is in values, and goes with them.
    state.hang_up(keeper);
    let seen = state.statistics();
    assert_eq!((seen.clients, seen.names, seen.bytes, seen.waiting), (0, 0, 0, 0));
    assert!(seen.objects < 1000, "{seen:?}");
}

#[test]
fn mutants_over_links_hold_up_nobody() {
    let _test = test(60);
    let server = Server::start(Limits::default());
    let good = server.client();
    let objects = objects(|message| {
        good.link.send_bytes(&message).unwrap();
        good.link.recv_bytes().unwrap()
    });
    let requests = requests(&objects);
    let mut rng = Rng::new(seed());
    let (mut bad, mut longest) = (server.client(), Duration::ZERO);
    for round in 0..3000 {
        let mut message = requests[rng.below(requests.len() as u64) as usize].clone();
        mutate(&mut message, &mut rng);
        if message.first() == Some(&(Op::Shutdown as u8)) {
            continue;
        }
        let answered = bad.link.send_bytes(&message).is_ok()
            && bad.link.recv_with_timeout(Duration::from_micros(200), |_| ()).is_ok();
        if !answered {
            bad = server.client();
        }
        if round % 10 == 0 {
            let begun = Instant::now();
            assert_eq!(good.ask(Op::MapLen, objects[0], |_| ()).0, Answer::Done);
            longest = longest.max(begun.elapsed());
        }
    }
    println!("longest wait of the good client: {longest:?}");
    assert!(longest < Duration::from_millis(250));
    drop(bad);
    until(|| good.statistics().links == 1);
}

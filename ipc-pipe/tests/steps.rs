//! A death after every instruction of a send and of a receive: what is there is whole, and the next one goes on.

mod common;

use std::fs::File;
use std::time::Duration;

use ipc_pipe::{Connection, RecvError, TryRecvError, pipe};
use ipc_shm::Descriptor;
use support::step::Script;

const LONG: Duration = Duration::from_secs(1);

/// Enough to begin before the first system call: what lies further back is the codec and the dynamic linker.
const LAST: u64 = 500;

/// Both ends, neither used by the process that made them.
fn scene() -> (Connection, Connection) {
    pipe().unwrap()
}

/// Enters the registry, which is not what is looked at here.
fn enter() {
    ipc_sync::Me::get().unwrap();
}

fn null() -> Descriptor {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn send_dies_at_any_instruction() {
    let _test = support::test(300);
    Script::new(
        "send",
        scene,
        |(here, _), stage| {
            enter();
            stage.begin();
            here.send_bytes(&[1; 100]).unwrap();
            stage.end();
        },
        |(here, there), fate| {
            here.send_bytes(&[2; 100]).unwrap();
            let first = there.recv_bytes_timeout(LONG).unwrap();
            if first == [1; 100] {
                assert_eq!(there.recv_bytes_timeout(LONG).unwrap(), [2; 100]);
            } else {
                assert_eq!(first, [2; 100]);
                assert!(!fate.finished, "lost");
            }
            assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
        },
    )
    .run()
    .assert_clean();
}

/// Not only between the packet and the frame: but there, too.
#[test]
fn send_of_a_descriptor_dies_at_any_instruction() {
    let _test = support::test(600);
    Script::new(
        "send a descriptor",
        scene,
        |(here, _), stage| {
            enter();
            let file = null();
            stage.begin();
            here.send(&(1u8, &file)).unwrap();
            stage.end();
        },
        |(here, there), fate| {
            let before = support::census().len();
            // A reader that sleeps beside a packet without a frame must see what comes next.
            let (mut number, _file) = match there.recv_timeout::<(u8, Descriptor)>(Duration::from_millis(3)) {
                Ok((number, file)) => (number, Some(file)),
                Err(TryRecvError::Empty) => (0, None),
                Err(error) => panic!("{error}"),
            };
            assert!(number == 1 || !fate.finished, "lost");
            here.send("bytes").unwrap();
            assert_eq!(there.recv_timeout::<String>(LONG).unwrap(), "bytes");
            here.send(&(2u8, null())).unwrap();
            let file;
            (number, file) = there.recv_timeout::<(u8, Descriptor)>(LONG).unwrap();
            assert_eq!(number, 2);
            drop((file, _file));
            assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
            assert_eq!(support::census().len(), before);
        },
    )
    .run_last(LAST)
    .assert_clean();
}

#[test]
fn receive_dies_at_any_instruction() {
    let _test = support::test(300);
    Script::new(
        "receive",
        || {
            let (here, there) = scene();
            (1..=3u8).for_each(|i| here.send_bytes(&[i; 100]).unwrap());
            (here, there)
        },
        |(_, there), stage| {
            enter();
            stage.begin();
            there.recv_bytes().unwrap();
            stage.end();
        },
        |(_, there), fate| {
            let first = there.recv_bytes_timeout(LONG).unwrap();
            assert!(first == [2; 100] || first == [1; 100] && !fate.finished);
            let more = if first == [2; 100] { 3..=3 } else { 2..=3 };
            more.for_each(|i| assert_eq!(there.recv_bytes_timeout(LONG).unwrap(), [i; 100]));
        },
    )
    .run_last(300)
    .assert_clean();
}

#[test]
fn receive_of_a_descriptor_dies_at_any_instruction() {
    let _test = support::test(600);
    Script::new(
        "receive a descriptor",
        || {
            let (here, there) = scene();
            (1..=2u8).for_each(|i| here.send(&(i, null())).unwrap());
            (here, there)
        },
        |(_, there), stage| {
            enter();
            stage.begin();
            there.recv::<(u8, Descriptor)>().unwrap();
            stage.end();
        },
        |(_, there), fate| {
            let mut first = there.recv_timeout::<(u8, Descriptor)>(LONG);
            // Its descriptors went to the dead one, the frame did not.
            if let Err(TryRecvError::Failed(RecvError::HandlesLost { .. })) = first {
                assert!(!fate.finished);
                first = there.recv_timeout(LONG);
            }
            let (number, _) = first.unwrap();
            assert!(number == 2 || !fate.finished);
            (number + 1..=2)
                .for_each(|i| assert_eq!(there.recv_timeout::<(u8, Descriptor)>(LONG).unwrap().0, i));
        },
    )
    .run_last(LAST)
    .assert_clean();
}

/// All that a store holds, so that nothing of it may be lost with the dead.
const ALL: usize = 64 << 20;

#[test]
fn handing_over_dies_at_any_instruction() {
    let _test = support::test(600);
    Script::new(
        "hand over",
        scene,
        |(here, _), stage| {
            enter();
            let payload = here.payload(ALL).unwrap();
            stage.begin();
            here.send_payload(payload).unwrap();
            stage.end();
        },
        |(here, there), fate| {
            match there.receiver().recv_payload_timeout(Duration::from_millis(3)) {
                Ok(payload) => assert_eq!(payload.len(), ALL),
                Err(TryRecvError::Empty) => assert!(!fate.finished, "lost"),
                Err(error) => panic!("{error}"),
            }
            hand_all_over(here, there);
        },
    )
    .run_last(LAST)
    .assert_clean();
}

#[test]
fn taking_a_payload_dies_at_any_instruction() {
    let _test = support::test(600);
    Script::new(
        "take a payload",
        || {
            let (here, there) = scene();
            let mut sender = support::fork(|| {
                (1..=2).for_each(|i| here.send_payload(here.payload(i * ALL / 4).unwrap()).unwrap());
            });
            assert_eq!(sender.wait(), support::Status::Code(0));
            (here, there)
        },
        |(_, there), stage| {
            enter();
            stage.begin();
            drop(there.recv_payload().unwrap());
            stage.end();
        },
        |(here, there), fate| {
            let first = there.receiver().recv_payload_timeout(LONG).unwrap();
            assert!(first.len() == ALL / 2 || first.len() == ALL / 4 && !fate.finished);
            if first.len() == ALL / 4 {
                assert_eq!(there.receiver().recv_payload_timeout(LONG).unwrap().len(), ALL / 2);
            }
            drop(first);
            hand_all_over(here, there);
        },
    )
    .run_last(LAST)
    .assert_clean();
}

#[test]
fn loan_dies_at_any_instruction() {
    let _test = support::test(600);
    Script::new(
        "loan",
        scene,
        |(here, _), stage| {
            enter();
            stage.begin();
            let mut loan = here.loan(100).unwrap();
            loan.write_at(0, &[1; 100]).unwrap();
            loan.send().unwrap();
            stage.end();
        },
        |(here, there), fate| {
            let first = there.recv_bytes_timeout(Duration::from_millis(3));
            match first {
                Ok(message) => assert_eq!(message, [1; 100]),
                Err(error) => assert!(matches!(error, TryRecvError::Empty) && !fate.finished),
            }
            here.send_bytes(&[2; 100]).unwrap();
            assert_eq!(there.recv_bytes_timeout(LONG).unwrap(), [2; 100]);
        },
    )
    .run()
    .assert_clean();
}

fn hand_all_over(here: &Connection, there: &Connection) {
    let all = here.sender().try_payload(ALL).expect("what the dead held is free again");
    here.send_payload(all).unwrap();
    assert_eq!(there.receiver().recv_payload_timeout(LONG).unwrap().len(), ALL);
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
}

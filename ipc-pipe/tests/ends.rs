//! Who has an end, how it moves, and what is seen when it goes.

mod common;

use std::time::{Duration, Instant};

use common::{bytes, echo, peer};
use ipc_pipe::{
    Connection, OpenError, Parts, Receiver, RecvError, SendError, Sender, TryRecvError, pipe, simplex,
};
use support::{Status, asleep, fork, until, until_within};

const KI: usize = 1 << 10;
/// So long that it goes part by part.
const LONG: usize = 5 << 20;

/// News of a death must come within so long.
const BOUND: Duration = Duration::from_millis(250);

#[test]
fn what_was_sent_is_received_before_end_of_file() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| (0..1000u32).for_each(|i| end.send(&i).unwrap()));
    assert_eq!(child.wait(), Status::Code(0));
    (0..1000u32).for_each(|i| assert_eq!(end.recv::<u32>().unwrap(), i));
    assert!(matches!(end.recv::<u32>(), Err(RecvError::Closed)));
    assert!(matches!(end.recv::<u32>(), Err(RecvError::Closed)), "and it stays so");
}

#[test]
fn killed_peer_wakes_a_sleeping_receiver() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| drop(end.recv_bytes()));
    asleep(child.pid());
    let killer = std::thread::spawn(move || {
        until(|| support::procfs::threads(std::process::id() as i32).into_iter().any(support::procfs::waits));
        let start = Instant::now();
        child.kill9();
        start
    });
    assert!(matches!(end.recv::<u32>(), Err(RecvError::Closed)));
    let seen = Instant::now();
    assert!(seen - killer.join().unwrap() < BOUND);
}

#[test]
fn killed_peer_wakes_a_sender_that_waits_for_room() {
    let _test = support::test(20);
    let (end, mut child) = peer(|_end| {
        loop {
            std::thread::park()
        }
    });
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            loop {
                if let Err(error) = end.send_bytes(&[0; 1000]) {
                    return error;
                }
            }
        });
        asleep(child.pid());
        child.kill9();
        assert!(matches!(sending.join().unwrap(), SendError::Closed));
    });
}

#[test]
fn dropped_end_wakes_a_sender_that_waits_for_room() {
    let _test = support::test(20);
    let mut took = Duration::ZERO;
    for _ in 0..20 {
        let (receiver, sender) = simplex().unwrap();
        let (mut receiver, mut sender) = (Some(receiver), Some(sender));
        let mut child = fork(|| {
            drop(receiver.take());
            let sender = sender.take().unwrap();
            assert!(matches!(sender.send_bytes(&vec![1; LONG]), Err(SendError::Closed)));
        });
        drop(sender);
        asleep(child.pid());
        // Its first sleep for room is a short one: let it come to a long one.
        until_within(Duration::from_millis(3), || false);
        let start = Instant::now();
        drop(receiver);
        assert_eq!(child.wait(), Status::Code(0));
        took += start.elapsed();
    }
    assert!(took < Duration::from_millis(500), "only the backstop woke them: {took:?} for 20");
}

#[test]
fn send_to_an_end_that_was_dropped_is_an_error() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    there.close();
    assert!(matches!(here.send(&1), Err(SendError::Closed)));
    assert!(matches!(here.recv::<u8>(), Err(RecvError::Closed)));
}

#[test]
fn end_of_file_comes_with_the_last_copy() {
    let _test = support::test(20);
    let (end, mut first) = peer(|end| {
        let mut second = fork(|| {
            while end.recv_timeout::<u8>(Duration::from_millis(1)).is_err() {}
            end.send(&2u8).unwrap();
        });
        // This one goes while its child still has the end.
        std::mem::forget(fork(|| ()));
        second.try_wait();
        std::mem::forget(second);
    });
    assert_eq!(first.wait(), Status::Code(0));
    let seen = end.recv_timeout::<u8>(Duration::from_millis(20));
    // The child dies with its parent, as the kit wants it, unless it was faster.
    assert!(!matches!(seen, Err(TryRecvError::Failed(RecvError::Decode { .. }))));
    assert!(matches!(end.recv::<u8>(), Err(RecvError::Closed)));
}

#[test]
fn sender_killed_in_a_message_is_end_of_file_inside() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| {
        end.send(&1u8).unwrap();
        end.send_bytes(&bytes(LONG, 1)).unwrap();
    });
    assert_eq!(end.recv::<u8>().unwrap(), 1);
    asleep(child.pid());
    child.kill9();
    let Err(RecvError::EofInside { received, total }) = end.recv_bytes() else { panic!("not inside?") };
    assert!(total == LONG && (1..total).contains(&received));
    assert!(matches!(end.recv_bytes(), Err(RecvError::Closed)));
}

#[test]
fn copy_in_a_forked_child_is_in_use() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    here.send(&1u8).unwrap();
    there.send(&1u8).unwrap();
    assert_eq!(here.recv::<u8>().unwrap(), 1);
    let pid = std::process::id();
    let mut child = fork(|| {
        assert!(matches!(here.send(&2u8), Err(SendError::InUse { pid: Some(user) }) if user == pid));
        assert!(matches!(here.recv::<u8>(), Err(RecvError::InUse { pid: Some(user) }) if user == pid));
        assert!(matches!(here.poll(Duration::ZERO), Err(RecvError::InUse { .. })));
        // The other side of each direction was used by nobody or by the parent, likewise.
        assert!(matches!(there.send(&2u8), Err(SendError::InUse { .. })));
        assert_eq!(there.recv::<u8>().unwrap(), 1, "nobody used this side yet");
    });
    assert_eq!(child.wait(), Status::Code(0));
    here.send(&3u8).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 3, "the dead child's side comes back");
}

#[test]
fn copy_locked_by_a_thread_that_the_child_has_not_is_in_use() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(there.recv::<u8>().unwrap(), 1));
        until(|| matches!(there.try_recv::<u8>(), Err(TryRecvError::Empty)));
        until(|| support::procfs::threads(std::process::id() as i32).into_iter().any(support::procfs::waits));
        let mut child = fork(|| assert!(matches!(there.recv::<u8>(), Err(RecvError::InUse { .. }))));
        let status = child.wait();
        here.send(&1u8).unwrap();
        assert_eq!(status, Status::Code(0));
    });
}

#[test]
fn side_is_taken_over_after_the_death_of_its_owner() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    for round in 0..50u32 {
        let mut child = fork(|| {
            here.send(&round).unwrap();
            loop {
                std::thread::park()
            }
        });
        assert_eq!(there.recv::<u32>().unwrap(), round);
        assert!(matches!(here.send(&0), Err(SendError::InUse { .. })));
        child.kill9();
    }
    here.send(&50u32).unwrap();
    assert_eq!(there.recv::<u32>().unwrap(), 50);
}

#[test]
fn message_of_a_dead_writer_is_truncated_and_the_next_is_whole() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let mut child = fork(|| here.send_bytes(&bytes(LONG, 1)).unwrap());
    asleep(child.pid());
    child.kill9();
    std::thread::scope(|scope| {
        scope.spawn(|| here.send_bytes(&bytes(100 * KI, 2)).unwrap());
        assert!(matches!(there.recv_bytes(), Err(RecvError::Truncated)));
        assert!(there.recv_bytes().unwrap() == bytes(100 * KI, 2));
    });
}

#[test]
fn message_whose_beginning_went_to_a_dead_reader_is_truncated_once() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let sender = fork(|| {
        here.send_bytes(&bytes(LONG, 1)).unwrap();
        here.send_bytes(b"next").unwrap();
        loop {
            std::thread::park()
        }
    });
    asleep(sender.pid());
    sender.signal(libc::SIGSTOP);
    until(|| support::procfs::state(sender.pid()) == Some('T'));
    let mut reader = fork(|| drop(there.recv_bytes()));
    asleep(reader.pid());
    reader.kill9();
    sender.signal(libc::SIGCONT);
    assert!(matches!(there.recv_bytes(), Err(RecvError::Truncated)));
    assert_eq!(there.recv_bytes().unwrap(), b"next");
}

#[test]
fn end_moves_with_what_lies_in_it() {
    let _test = support::test(20);
    let (carrier, mut child) = peer(|carrier| {
        let end: Connection = carrier.recv().unwrap();
        assert_eq!(end.recv::<u32>().unwrap(), 2);
        end.send(&3u32).unwrap();
        assert_eq!(end.recv::<u32>().unwrap(), 4);
    });
    let (mine, yours) = pipe().unwrap();
    mine.send(&1u32).unwrap();
    mine.send(&2u32).unwrap();
    assert_eq!(yours.recv::<u32>().unwrap(), 1);
    carrier.send(&yours).unwrap();
    assert!(matches!(yours.recv::<u32>(), Err(RecvError::Moved)));
    assert!(matches!(yours.send(&0), Err(SendError::Moved)));
    assert!(matches!(carrier.send(&yours), Err(SendError::Encode(_))));
    assert_eq!(mine.recv::<u32>().unwrap(), 3);
    mine.send(&4u32).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
    assert!(matches!(mine.recv::<u32>(), Err(RecvError::Closed)), "no copy stayed here");
    drop(yours);
}

#[test]
fn end_stays_when_its_message_is_not_sent() {
    let _test = support::test(20);
    let (carrier, other) = pipe().unwrap();
    let (mine, yours) = pipe().unwrap();
    mine.send(&5u8).unwrap();
    carrier.set_max_message(3);
    assert!(matches!(carrier.send(&yours), Err(SendError::TooBig { .. })));
    assert_eq!(yours.recv::<u8>().unwrap(), 5);
    carrier.set_max_message(1000);
    assert!(matches!(carrier.send(&(&yours, &yours)), Err(SendError::Encode(_))), "it cannot go twice");
    drop(other);
    assert!(matches!(carrier.send(&yours), Err(SendError::Closed)));
    mine.send(&6u8).unwrap();
    assert_eq!(yours.recv::<u8>().unwrap(), 6);
}

#[test]
fn end_cannot_be_sent_through_itself() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    assert!(matches!(here.send(&here), Err(SendError::Moved)));
    here.send(&7u8).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 7);
    // The other end can: it comes out at itself.
    here.send(&there).unwrap();
    assert!(matches!(there.recv::<Connection>(), Err(RecvError::Moved)));
}

#[test]
fn halves_move_by_themselves() {
    let _test = support::test(20);
    let (carrier, mut child) = peer(|carrier| {
        let (receiver, sender): (Receiver, Sender) = carrier.recv().unwrap();
        sender.send(&(receiver.recv::<u32>().unwrap() + 1)).unwrap();
    });
    let (from_child, to_parent) = simplex().unwrap();
    let (end, other) = pipe().unwrap();
    let (here, there) = other.split();
    carrier.send(&(there, to_parent)).unwrap();
    end.send(&41u32).unwrap();
    assert_eq!(from_child.recv::<u32>().unwrap(), 42);
    child.wait();
    assert!(matches!(from_child.recv::<u32>(), Err(RecvError::Closed)));
    here.send(&1u8).unwrap();
    assert_eq!(end.recv::<u8>().unwrap(), 1, "the half that stayed works");
    drop(here);
    assert!(matches!(end.recv::<u8>(), Err(RecvError::Closed)));
}

#[test]
fn end_in_an_unread_message_keeps_its_pipe_open() {
    let _test = support::test(20);
    let (carrier, other) = pipe().unwrap();
    let (mine, yours) = pipe().unwrap();
    carrier.send(&yours).unwrap();
    drop(yours);
    assert!(matches!(mine.try_recv::<u8>(), Err(TryRecvError::Empty)));
    drop((carrier, other));
    assert!(matches!(mine.recv::<u8>(), Err(RecvError::Closed)));
}

#[test]
fn end_half_way_in_a_message_does_not_move() {
    let _test = support::test(20);
    let (carrier, _other) = pipe().unwrap();
    let (end, child) = peer(|end| end.send_bytes(&bytes(LONG, 1)).unwrap());
    asleep(child.pid());
    child.signal(libc::SIGSTOP);
    until(|| support::procfs::state(child.pid()) == Some('T'));
    assert!(end.try_recv_bytes().is_err());
    let error = carrier.send(&end).unwrap_err();
    assert!(error.to_string().contains("in part"), "{error}");
    child.signal(libc::SIGCONT);
    assert!(end.recv_bytes().unwrap() == bytes(LONG, 1));
    carrier.send(&end).unwrap();
}

#[test]
fn parts_make_an_end_again() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    here.send(&1u8).unwrap();
    let parts = there.into_parts().unwrap();
    let there = Connection::from_parts(parts).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 1);
    let Parts { socket, segment, side } = there.into_parts().unwrap();
    let twice = || segment.try_clone().unwrap();
    let wrong = Connection::from_parts(Parts { socket: twice(), segment: twice(), side });
    assert!(matches!(wrong, Err(OpenError::NotASocket)));
    let wrong = Connection::from_parts(Parts { segment: socket.try_clone().unwrap(), socket: twice(), side });
    assert!(matches!(wrong, Err(OpenError::Header(_))));
    let wrong = Connection::from_parts(Parts { socket, segment, side: 2 });
    assert!(matches!(wrong, Err(OpenError::NoSuchSide { side: 2 })));
}

#[test]
fn pipe_takes_three_descriptors() {
    let _test = support::test(20);
    let before = support::census().len();
    let _warm = pipe().unwrap(); // the registry's own
    let before = before.max(support::census().len());
    let (_here, _there) = pipe().unwrap();
    assert_eq!(support::census().len(), before + 3);
}

/// The peer is killed at a random moment of a lively exchange: what was begun ends, and then comes end of file.
#[test]
fn peer_killed_at_any_moment_is_end_of_file() {
    let _test = support::test(120);
    let mut rng = support::Rng::new(support::seed());
    for _ in 0..300 {
        let (end, mut child) = echo();
        let moment = Duration::from_micros(rng.below(1500));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(moment); // not a wait for anybody: the time of a death is random
            child.kill9();
            Instant::now()
        });
        let mut sizes = rng.clone();
        let message = bytes(100 * KI, 1);
        let mut trips = 0;
        let error = loop {
            let size =
                if sizes.below(10) == 0 { sizes.below(60 * KI as u64) } else { sizes.below(200) } as usize;
            if end.send_bytes(&message[..size]).is_err() {
                break end.recv_bytes().unwrap_err();
            }
            match end.recv_bytes() {
                Ok(back) => assert!(back == message[..size]),
                Err(error) => break error,
            }
            trips += 1;
        };
        let news = Instant::now() - killer.join().unwrap();
        assert!(
            matches!(error, RecvError::Closed | RecvError::EofInside { .. }),
            "after {trips} trips: {error}"
        );
        assert!(news < BOUND, "{news:?} after the death");
    }
}

//! What goes in comes out: sizes, limits, timeouts, and what stays in step after an error.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{bytes, echo, peer};
use ipc_pipe::{RecvError, RecvIntoError, SendError, TryRecvError, pipe, simplex};
use support::{Status, asleep, fork, until, until_within};

const KI: usize = 1 << 10;
const MI: usize = 1 << 20;
const MOMENT: Duration = Duration::from_millis(30);

/// The backstop comes after up to 100 ms; a busy machine is seldom so slow.
const LATE: Duration = Duration::from_millis(40);

#[test]
fn every_size_comes_back_as_it_was() {
    let _test = support::test(60);
    let (end, _child) = echo();
    let frames = [16 * KI - 1, 16 * KI, 16 * KI + 1, 32 * KI, 64 * KI - 17, 64 * KI - 16, 64 * KI - 15];
    let issue =
        [0, 1, 4095, 4096, 4097, 64 * KI - 1, 64 * KI, 64 * KI + 1, 200 * KI, 4 * MI - 1, 4 * MI, 4 * MI + 1];
    for (seed, size) in frames.into_iter().chain(issue).chain(0..70).enumerate() {
        let message = bytes(size, seed as u64);
        std::thread::scope(|scope| {
            scope.spawn(|| end.send_bytes(&message).unwrap());
            assert!(end.recv_bytes().unwrap() == message, "{size} bytes came back different");
        });
    }
}

#[test]
fn every_size_fits_when_both_ends_share_a_processor() {
    let _test = support::test(60);
    let pinned = std::thread::spawn(|| {
        support::pin(0);
        let (end, _child) = echo();
        for size in [64 * KI - 17, 64 * KI - 16, 64 * KI - 15, 200 * KI, MI + 1] {
            let message = bytes(size, size as u64);
            std::thread::scope(|scope| {
                scope.spawn(|| end.send_bytes(&message).unwrap());
                assert!(end.recv_bytes().unwrap() == message, "{size} bytes came back different");
            });
        }
    });
    pinned.join().unwrap();
}

#[test]
fn what_fits_the_ring_is_sent_without_a_receiver() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let sizes: Vec<usize> = (0..300).collect();
    sizes.iter().for_each(|&size| here.send_bytes(&bytes(size, 1)).unwrap());
    sizes.iter().for_each(|&size| assert_eq!(there.recv_bytes().unwrap(), bytes(size, 1)));
}

#[test]
fn empty_message_is_not_end_of_file() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| {
        end.send_bytes(b"").unwrap();
        end.send(&()).unwrap();
    });
    assert_eq!(end.recv_bytes().unwrap(), b"");
    end.recv::<()>().unwrap();
    assert!(matches!(end.recv_bytes(), Err(RecvError::Closed)));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn limit_is_kept_to_the_byte_at_both_ends() {
    let _test = support::test(60);
    for limit in [0, 100, 64 * KI, MI] {
        let (here, there) = pipe().unwrap();
        here.set_max_message(limit);
        let big = bytes(limit + 1, 1);
        assert!(
            matches!(here.send_bytes(&big), Err(SendError::TooBig { size, max }) if size == limit + 1 && max == limit)
        );
        std::thread::scope(|scope| {
            scope.spawn(|| here.send_bytes(&big[..limit]).unwrap());
            assert_eq!(there.recv_bytes().unwrap(), &big[..limit]);
            scope.spawn(|| {
                here.set_max_message(usize::MAX);
                here.send_bytes(&big).unwrap();
                here.send_bytes(b"").unwrap();
            });
            there.set_max_message(limit);
            let refused = there.recv_bytes();
            assert!(
                matches!(refused, Err(RecvError::TooBig { size, max }) if size == limit as u64 + 1 && max == limit)
            );
            assert_eq!(there.recv_bytes().unwrap(), b"", "the next message comes after one that was refused");
        });
    }
}

#[test]
fn limit_is_64_mebibytes_unless_set() {
    let _test = support::test(60);
    let (end, _child) = peer(|end| {
        end.recv_bytes().unwrap();
        end.send(&true).unwrap();
    });
    let message = vec![0; 64 * MI + 1];
    assert!(matches!(end.send_bytes(&message), Err(SendError::TooBig { .. })));
    end.send_bytes(&message[1..]).unwrap();
    assert!(end.recv::<bool>().unwrap());
}

#[test]
fn message_too_large_for_the_buffer_comes_back_whole() {
    let _test = support::test(20);
    let (end, _child) = echo();
    for size in [10, 5000, 200 * KI] {
        let message = bytes(size, 3);
        let mut buffer = vec![0; size - 1];
        std::thread::scope(|scope| {
            scope.spawn(|| end.send_bytes(&message).unwrap());
            let Err(RecvIntoError::TooSmall(whole)) = end.recv_bytes_into(&mut buffer) else {
                panic!("it fits?")
            };
            assert!(whole == message && buffer == vec![0; size - 1]);
        });
        buffer.push(0);
        buffer.push(9);
        std::thread::scope(|scope| {
            scope.spawn(|| end.send_bytes(&message).unwrap());
            assert_eq!(end.recv_bytes_into(&mut buffer).unwrap(), size);
            assert!(buffer[..size] == message && buffer[size] == 9);
        });
    }
}

#[test]
fn values_of_many_types_travel() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let map: HashMap<String, Option<Vec<(i8, f64)>>> =
        [("a".to_owned(), None), ("b".to_owned(), Some(vec![(-1, 0.5), (2, f64::MAX)]))].into();
    here.send(&map).unwrap();
    here.send("text").unwrap();
    here.send(&[1u16, 2, 3][..]).unwrap();
    here.send(&Ok::<u8, String>(7)).unwrap();
    assert_eq!(there.recv::<HashMap<String, Option<Vec<(i8, f64)>>>>().unwrap(), map);
    assert_eq!(there.recv::<String>().unwrap(), "text");
    assert_eq!(there.recv::<Vec<u16>>().unwrap(), [1, 2, 3]);
    assert_eq!(there.recv::<Result<u8, String>>().unwrap(), Ok(7));
}

#[test]
fn wrong_type_costs_its_message_only() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    here.send("no number").unwrap();
    here.send(&8u64).unwrap();
    here.send_bytes(&[0xff; 8]).unwrap();
    here.send("in step").unwrap();
    let Err(RecvError::Decode { bytes, .. }) = there.recv::<u64>() else { panic!("a text is no number") };
    assert_eq!(ipc_pipe::codec::decode::<String>(&bytes).unwrap(), "no number");
    assert!(matches!(there.recv::<u32>(), Err(RecvError::Decode { .. })), "half of the bytes are not used");
    assert!(
        matches!(there.recv::<String>(), Err(RecvError::Decode { .. })),
        "a length of 2^64 - 1 takes no memory"
    );
    assert_eq!(there.recv::<String>().unwrap(), "in step");
}

#[test]
fn value_that_cannot_be_serialized_sends_nothing() {
    struct Unspeakable;
    impl serde::Serialize for Unspeakable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("unspeakable"))
        }
    }
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let error = here.send(&(1, Unspeakable)).unwrap_err();
    assert!(matches!(&error, SendError::Encode(_)) && error.to_string().contains("unspeakable"));
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
}

#[test]
fn timeouts_are_kept() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let timed = |f: &dyn Fn() -> bool| {
        let start = Instant::now();
        assert!(f());
        start.elapsed()
    };
    let empty = |result: Result<u8, TryRecvError>| matches!(result, Err(TryRecvError::Empty));
    let waits: [(&str, &dyn Fn() -> bool); 4] = [
        ("recv_timeout", &|| empty(there.recv_timeout(MOMENT))),
        ("recv_deadline", &|| empty(there.recv_deadline(Instant::now() + MOMENT))),
        ("poll", &|| !there.poll(MOMENT).unwrap()),
        ("recv_bytes_timeout", &|| there.recv_bytes_timeout(MOMENT).is_err()),
    ];
    for (name, wait) in waits {
        let took = timed(wait);
        assert!(took >= MOMENT && took < 10 * MOMENT, "{name} took {took:?}");
    }
    assert!(empty(there.try_recv()));
    assert!(empty(there.recv_deadline(Instant::now() - MOMENT)));
    assert!(!there.poll(Duration::ZERO).unwrap());
    here.send(&1u8).unwrap();
    assert!(there.poll(Duration::MAX).unwrap());
    assert_eq!(there.recv_timeout::<u8>(Duration::MAX).unwrap(), 1);
}

#[test]
fn poll_is_true_at_end_of_file() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| drop(end.recv::<u8>()));
    assert!(!end.poll(Duration::ZERO).unwrap());
    end.send(&0u8).unwrap();
    assert!(end.poll(Duration::MAX).unwrap());
    assert!(end.poll(Duration::ZERO).unwrap());
    assert!(matches!(end.try_recv::<u8>(), Err(TryRecvError::Failed(RecvError::Closed))));
    child.wait();
}

#[test]
fn receive_that_times_out_in_a_message_keeps_its_parts() {
    let _test = support::test(20);
    let (end, child) = peer(|end| {
        end.send_bytes(&bytes(5 * MI, 5)).unwrap();
        end.recv_bytes().ok();
    });
    // The ring holds a part of it, and its sender is stopped in the middle.
    asleep(child.pid());
    child.signal(libc::SIGSTOP);
    until(|| support::procfs::state(child.pid()) == Some('T'));
    for _ in 0..3 {
        assert!(matches!(end.recv_bytes_timeout(MOMENT), Err(TryRecvError::Empty)));
    }
    child.signal(libc::SIGCONT);
    assert!(end.recv_bytes().unwrap() == bytes(5 * MI, 5));
}

#[test]
fn deadline_holds_while_another_thread_receives() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| there.recv::<u8>().unwrap());
        let both = || support::procfs::threads(std::process::id() as i32);
        until(|| both().into_iter().any(support::procfs::waits) && there.try_recv::<u8>().is_err());
        let start = Instant::now();
        assert!(matches!(there.recv_timeout::<u8>(MOMENT), Err(TryRecvError::Empty)));
        assert!(!there.poll(MOMENT).unwrap());
        assert!(start.elapsed() < Duration::from_secs(5));
        here.send(&3u8).unwrap();
        assert_eq!(waiting.join().unwrap(), 3);
    });
}

#[test]
fn sleeping_receiver_is_woken_at_once() {
    let _test = support::test(60);
    let (end, child) = echo();
    let mut late = 0;
    for _ in 0..200 {
        asleep(child.pid());
        let start = Instant::now();
        end.send_bytes(b"wake").unwrap();
        end.recv_bytes().unwrap();
        late += u32::from(start.elapsed() > LATE);
    }
    assert!(late <= 10, "the backstop woke somebody in {late} of 200");
}

#[test]
fn sleeping_sender_is_woken_at_once() {
    let _test = support::test(60);
    let (receiver, sender) = simplex().unwrap();
    let (mut receiver, mut sender) = (Some(receiver), Some(sender));
    let child = fork(|| {
        drop(receiver.take());
        let sender = sender.take().unwrap();
        (0..100).for_each(|i| sender.send_bytes(&bytes(40 * KI, i)).unwrap());
    });
    drop(sender);
    let receiver = receiver.unwrap();
    let mut late = 0;
    for i in 0..100 {
        if i < 95 {
            asleep(child.pid());
            // Its first sleep for room is a short one: let it come to a long one.
            until_within(Duration::from_millis(3), || false);
        }
        let start = Instant::now();
        assert!(receiver.recv_bytes().unwrap() == bytes(40 * KI, i));
        // The next one is on its way when its sender was woken.
        if i < 95 {
            assert!(receiver.poll(Duration::MAX).unwrap());
        }
        late += u32::from(start.elapsed() > LATE);
    }
    assert!(late <= 10, "the backstop woke somebody in {late} of 100");
}

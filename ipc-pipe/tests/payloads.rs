//! Sends with a time limit, loans, borrowed receives, and payloads that are handed over.
#![allow(unsafe_code)] // payloads in place

mod common;

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{bytes, echo, peer};
use ipc_pipe::{RecvError, SendError, TryRecvError, TrySendError, pipe, simplex};
use ipc_shm::Descriptor;
use support::{Status, asleep, fork, shared, until};

const KI: usize = 1 << 10;
const MI: usize = 1 << 20;
const MOMENT: Duration = Duration::from_millis(20);

fn full<T>(result: Result<T, TrySendError>) -> bool {
    matches!(result, Err(TrySendError::Full))
}

#[test]
fn send_in_time_is_whole_or_not_at_all() {
    let _test = support::test(60);
    for size in [0, 1, 100, 16 * KI, 40 * KI, 64 * KI - 16, 64 * KI, 300 * KI, MI, 9 * MI] {
        let (receiver, sender) = simplex().unwrap();
        let messages = [1, 2, 3].map(|seed| bytes(size, seed));
        let mut numbers = (0..10_000).map(|i| &messages[i % 3]);
        let sent = numbers.by_ref().take_while(|message| sender.try_send_bytes(message).is_ok()).count();
        assert!(sent > 0 && (size == 0 || sent < 10_000), "{sent} of {size}");
        let start = Instant::now();
        assert!(full(sender.send_bytes_timeout(&messages[0], MOMENT)) || size == 0);
        assert!(start.elapsed() >= MOMENT || size == 0);
        for i in 0..sent {
            assert!(receiver.try_recv_bytes().unwrap() == messages[i % 3], "number {i} of {size}");
        }
        if size > 0 {
            assert!(matches!(receiver.try_recv_bytes(), Err(TryRecvError::Empty)));
            sender.try_send_bytes(&messages[1]).unwrap();
            assert!(receiver.recv_bytes().unwrap() == messages[1]);
        }
    }
}

#[test]
fn send_in_time_goes_on_when_there_is_room() {
    let _test = support::test(60);
    for size in [KI, 30 * KI, 3 * MI] {
        let messages = [1, 2, 3].map(|seed| bytes(size, seed));
        let (end, mut child) = peer(|end| {
            for i in 0..100 {
                assert!(end.recv_bytes().unwrap() == messages[i % 3]);
            }
        });
        for i in 0..100 {
            end.send_bytes_timeout(&messages[i % 3], Duration::from_secs(20)).unwrap();
        }
        assert_eq!(child.wait(), Status::Code(0));
        assert!(matches!(
            (0..100).find_map(|_| end.send_bytes_timeout(&vec![0; size], MOMENT).err()),
            Some(TrySendError::Failed(SendError::Closed))
        ));
    }
}

#[test]
fn values_and_handles_go_in_time_too() {
    let _test = support::test(60);
    let (here, there) = pipe().unwrap();
    for size in [1, 100 * KI, 3 * MI] {
        let file: Descriptor = File::open("/dev/null").unwrap().into();
        here.send_timeout(&(bytes(size, 1), file), MOMENT).unwrap();
        let (received, file): (Vec<u8>, Descriptor) = there.recv().unwrap();
        assert_eq!(received, bytes(size, 1));
        drop(file);
    }
    here.send_deadline(&5, Instant::now()).unwrap();
    here.try_send(&6).unwrap();
    assert_eq!((there.recv::<i32>().unwrap(), there.recv::<i32>().unwrap()), (5, 6));
}

#[test]
fn limits_hold_for_every_way_to_send() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    here.sender().set_max_message(100 * KI);
    let too_big = |error: &SendError| matches!(error, SendError::TooBig { max: 102_400, .. });
    assert!(too_big(&here.loan(MI).unwrap_err()));
    assert!(too_big(&here.payload(MI).unwrap_err()));
    let error = here.send_payload(vec![0; MI].into()).unwrap_err();
    assert!(matches!(&error.error, TrySendError::Failed(error) if too_big(error)));
    assert_eq!(error.payload.len(), MI);
    here.sender().set_max_message(usize::MAX);
    assert!(matches!(
        here.try_send_bytes(&vec![0; 65 * MI]),
        Err(TrySendError::Failed(SendError::TooBig { max: 67_108_864, .. }))
    ));
    there.receiver().set_max_message(100);
    here.send_payload(here.payload(101).unwrap()).unwrap();
    here.send(&1).unwrap();
    assert!(matches!(there.recv_payload(), Err(RecvError::TooBig { size: 101, max: 100 })));
    assert_eq!(there.recv::<i32>().unwrap(), 1);
}

#[test]
fn loan_is_what_was_written_and_zeros() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    for round in 0..50 {
        for size in [0, 1, 9, 1000, 32 * KI, 33 * KI, 300 * KI] {
            let content = bytes(size, round);
            let mut loan = here.loan(size).unwrap();
            assert!(matches!(here.send(&1), Err(SendError::OnLoan)));
            assert!(loan.write_at(size, b"!").is_err());
            let (first, second) = (size / 4, size / 2);
            loan.write_at(second, &content[second..]).unwrap();
            loan.write_all(&content[..first]).unwrap();
            if round % 2 == 0 {
                drop(loan)
            } else {
                loan.send().unwrap()
            }
            let received = there.recv_bytes().unwrap();
            assert_eq!(received.len(), size);
            assert_eq!(received[..first], content[..first]);
            assert!(received[first..second].iter().all(|&byte| byte == 0));
            assert_eq!(received[second..], content[second..]);
            here.loan(size).unwrap().abandon();
        }
    }
    let mut loan = here.loan(10).unwrap();
    assert!(loan.serialize(&"longer than ten bytes").is_err());
    loan.serialize(&7u32).unwrap();
    assert_eq!(loan.len(), 4);
    loan.send().unwrap();
    assert_eq!(there.recv::<u32>().unwrap(), 7);
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
}

#[test]
fn panic_with_a_loan_sends_nothing() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    for size in [10, MI] {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut loan = here.loan(size).unwrap();
            loan.write_at(0, b"half").unwrap();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        here.send(&1).unwrap();
        assert_eq!(there.recv::<i32>().unwrap(), 1);
    }
}

#[test]
fn dead_holder_of_a_loan_sends_nothing() {
    let _test = support::test(20);
    for size in [10, MI] {
        let (end, mut child) = peer(|end| {
            let mut loan = end.loan(size).unwrap();
            loan.write_at(0, b"half").unwrap();
            loop {
                std::thread::park();
            }
        });
        asleep(child.pid());
        child.kill9();
        assert!(matches!(end.recv_bytes(), Err(RecvError::Closed)));
    }
}

#[test]
fn borrowed_receive_sees_every_message() {
    let _test = support::test(20);
    let (end, mut child) = echo();
    for size in [0, 1, 100, 16 * KI, 64 * KI, 2 * MI] {
        end.send_bytes(&bytes(size, 1)).unwrap();
        assert!(end.recv_with(|message| message == bytes(size, 1)).unwrap());
    }
    assert!(matches!(end.receiver().try_recv_with(|_| ()), Err(TryRecvError::Empty)));
    assert!(matches!(end.receiver().recv_with_timeout(MOMENT, |_| ()), Err(TryRecvError::Empty)));
    // A message may be received within another.
    end.send(&1).unwrap();
    end.send(&2).unwrap();
    let nested = end.recv_with(|one| (one.to_vec(), end.recv_with(<[u8]>::to_vec).unwrap())).unwrap();
    assert_eq!(nested, (vec![1, 0, 0, 0], vec![2, 0, 0, 0]));
    drop(end);
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn payload_goes_there_and_back_and_elsewhere() {
    let _test = support::test(60);
    let (end, mut child) = peer(|end| {
        while let Ok(mut payload) = end.recv_payload() {
            let mut first = [0; 8];
            payload.read_at(0, &mut first).unwrap();
            payload.write_at(0, &(u64::from_ne_bytes(first) + 1).to_ne_bytes()).unwrap();
            end.send_payload(payload).unwrap();
        }
    });
    for size in [8, 64 * KI, MI, 9 * MI] {
        let content = bytes(size, 1);
        let mut payload = end.payload(size).unwrap();
        payload.write_at(0, &content).unwrap();
        payload.write_at(0, &0u64.to_ne_bytes()).unwrap();
        for _ in 0..1000 {
            end.send_payload(payload).unwrap();
            payload = end.recv_payload().unwrap();
            assert!(payload.is_shared());
        }
        let mut first = [0; 8];
        payload.read_at(0, &mut first).unwrap();
        assert_eq!(u64::from_ne_bytes(first), 1000);
        // SAFETY: the child has handed it back.
        assert_eq!(unsafe { payload.as_slice() }[8..], content[8..]);
        // Through another pipe it is copied.
        let (receiver, sender) = simplex().unwrap();
        sender.send_payload(payload).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap()[8..], content[8..]);
    }
    // What was sent as bytes comes as a payload too.
    end.send_bytes(&1u64.to_ne_bytes()).unwrap();
    assert_eq!(end.recv_bytes().unwrap(), 2u64.to_ne_bytes());
    drop(end);
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn payloads_are_bounded_and_come_back() {
    let _test = support::test(60);
    let (receiver, sender) = simplex().unwrap();
    for _ in 0..3 {
        let held: Vec<_> = (0..64).map(|_| sender.try_payload(MI).unwrap()).collect();
        assert!(full(sender.try_payload(1)));
        assert!(full(sender.send_bytes_timeout(&vec![0; MI], MOMENT)));
        held.into_iter().for_each(|payload| sender.send_payload(payload).unwrap());
        assert!(full(sender.try_payload(1)), "unread ones count");
        let read: Vec<_> = (0..64).map(|_| receiver.recv_payload().unwrap()).collect();
        assert!(full(sender.try_payload(1)), "held ones count");
        drop(read);
        drop(sender.try_payload(64 * MI).unwrap());
    }
}

#[test]
fn waiting_for_a_payload_ends_when_one_is_dropped() {
    let _test = support::test(60);
    let (receiver, sender) = simplex().unwrap();
    let tid = unsafe_tid();
    for _ in 0..20 {
        sender.send_payload(sender.payload(64 * MI).unwrap()).unwrap();
        let held = receiver.recv_payload().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                asleep(tid);
                drop(held);
            });
            let start = Instant::now();
            sender.payload(1).unwrap();
            assert!(start.elapsed() < Duration::from_secs(10));
        });
    }
}

fn unsafe_tid() -> i32 {
    // SAFETY: gettid has no conditions.
    unsafe { libc::gettid() }
}

#[test]
fn memory_goes_back_to_the_kernel() {
    let _test = support::test(60);
    let (here, there) = pipe().unwrap();
    let blocks = || {
        use std::os::unix::fs::MetadataExt;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.contains("memfd:pipe")).unwrap();
        let range = line.split(' ').next().unwrap();
        std::fs::metadata(format!("/proc/self/map_files/{range}")).unwrap().blocks() * 512
    };
    here.try_send_bytes(&vec![1; 40 * MI]).unwrap();
    assert!(blocks() > 40 * MI as u64);
    assert_eq!(there.recv_bytes().unwrap().len(), 40 * MI);
    assert!(blocks() < 5 * MI as u64);
    // What is kept goes back too, when nothing comes for a while.
    here.send_bytes(&vec![1; 3 * MI]).unwrap();
    assert_eq!(there.recv_bytes().unwrap().len(), 3 * MI);
    assert!(blocks() > 3 * MI as u64);
    let held = here.payload(1).unwrap();
    assert!(matches!(there.recv_bytes_timeout(10 * MOMENT), Err(TryRecvError::Empty)));
    assert!(blocks() > 3 * MI as u64, "somebody is about to write");
    drop(held);
    assert!(matches!(there.recv_bytes_timeout(10 * MOMENT), Err(TryRecvError::Empty)));
    assert!(blocks() < MI as u64);
}

#[test]
fn payload_in_dead_hands_comes_back() {
    let _test = support::test(60);
    let (here, there) = pipe().unwrap();
    let (mut here, mut there) = (Some(here), Some(there));
    for round in 0..3 {
        let held = shared::<AtomicU64>();
        let (end, other) = (here.take().unwrap(), there.take().unwrap());
        end.send_payload(end.payload(50 * MI).unwrap()).unwrap();
        let mut child = fork(|| {
            let _payload = other.recv_payload().unwrap();
            held.store(1, SeqCst);
            loop {
                std::thread::park();
            }
        });
        until(|| held.load(SeqCst) == 1);
        assert!(full(end.sender().try_payload(50 * MI)), "round {round}: it is held");
        child.kill9();
        drop(end.sender().try_payload(50 * MI).unwrap());
        (here, there) = (Some(end), Some(other));
    }
}

#[test]
fn reader_that_takes_over_finds_unread_payloads() {
    let _test = support::test(60);
    let (here, there) = pipe().unwrap();
    let (mut here, mut there) = (Some(here), Some(there));
    let (end, other) = (here.take().unwrap(), there.take().unwrap());
    for i in 0..4 {
        let mut payload = end.payload(MI).unwrap();
        payload.write_at(0, &bytes(MI, i)).unwrap();
        end.send_payload(payload).unwrap();
    }
    let mut child = fork(|| assert_eq!(other.recv_payload().unwrap().to_vec(), bytes(MI, 0)));
    assert_eq!(child.wait(), Status::Code(0));
    // The end moves in a message, and what is unread in it comes along.
    let (carrier, taker) = pipe().unwrap();
    carrier.send(&other).unwrap();
    let moved: ipc_pipe::Connection = taker.recv().unwrap();
    assert_eq!(moved.recv_bytes().unwrap(), bytes(MI, 1));
    assert_eq!(moved.recv_payload().unwrap().to_vec(), bytes(MI, 2));
    assert!(moved.recv_with(|message| message == bytes(MI, 3)).unwrap());
}

/// 300 pipes, each of which has been used in all ways, fit the usual limit of 1024 descriptors.
#[test]
fn three_hundred_pipes_fit_the_usual_limit() {
    let _test = support::test(60);
    let mut child = fork(|| {
        let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        // SAFETY: the limit lives in this frame.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let pipes: Vec<_> = (0..300).map(|_| pipe().unwrap()).collect();
        for (here, there) in &pipes {
            here.send(&1).unwrap();
            there.send_payload(there.payload(100 * KI).unwrap()).unwrap();
        }
        for (here, there) in &pipes {
            assert_eq!(there.recv::<i32>().unwrap(), 1);
            assert_eq!(here.recv_payload().unwrap().len(), 100 * KI);
        }
    });
    assert_eq!(child.wait(), Status::Code(0));
}

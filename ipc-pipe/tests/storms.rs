//! Many threads, many signals, many messages: nothing lost, nothing twice, nothing late.
#![allow(unsafe_code)] // it installs a signal handler and a timer, and polls by hand

mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{bytes, echo, peer};
use ipc_pipe::{Connection, RecvError, TryRecvError};
use support::{Status, alarms, asleep, until_within};

const MESSAGES: u64 = 100_000;
const SENDERS: u64 = 2;

/// What one thread sends: who it is, its count, and bytes whose number follows from it.
type Message = (u64, u64, Vec<u8>);

fn message(sender: u64, count: u64) -> Message {
    let size = if count % 1000 == 999 { 70_000 } else { count % 200 };
    (sender, count, vec![count as u8; size as usize])
}

/// Two threads that send and two that receive, all at one end.
fn exchange(end: &Connection) {
    let seen = [AtomicU64::new(0), AtomicU64::new(0)];
    let left = AtomicU64::new(MESSAGES);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || (0..MESSAGES / SENDERS).for_each(|i| end.send(&message(sender, i)).unwrap()));
            scope.spawn(|| {
                let mut next = [0; SENDERS as usize];
                while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    let got: Message = end.recv().unwrap();
                    let sender = got.0 as usize;
                    assert!(got.1 >= next[sender], "messages of one sender come in order");
                    assert_eq!(got, message(got.0, got.1));
                    next[sender] = got.1 + 1;
                    seen[sender].fetch_add(got.1 + 1, SeqCst);
                }
            });
        }
    });
    let each = MESSAGES / SENDERS;
    assert!(seen.iter().all(|seen| seen.load(SeqCst) == each * (each + 1) / 2), "each message comes once");
}

#[test]
fn two_threads_at_each_end_exchange_both_ways() {
    let _test = support::test(120);
    let (end, mut child) = peer(|end| exchange(&end));
    exchange(&end);
    assert_eq!(child.wait(), Status::Code(0));
    assert!(matches!(end.try_recv::<u8>(), Err(TryRecvError::Failed(RecvError::Closed))));
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

/// SIGALRM every 100 microseconds, without SA_RESTART: every system call is interrupted before long.
fn storm() {
    extern "C" fn count(_: i32) {
        SIGNALS.fetch_add(1, SeqCst);
    }
    alarms(count, 100);
}

#[test]
fn signals_disturb_nothing() {
    let _test = support::test(120);
    let (end, mut child) = peer(|end| {
        let (inner, mut child) = echo();
        let mut relay = support::fork(|| {
            storm();
            let file = ipc_shm::Descriptor::from(std::fs::File::open("/dev/null").unwrap());
            for i in 0..30_000usize {
                let size = if i % 100 == 0 { 200_000 } else { i % 300 };
                let message = vec![i as u8; size];
                std::thread::scope(|scope| {
                    scope.spawn(|| inner.send_bytes(&message).unwrap());
                    assert!(inner.recv_bytes().unwrap() == message);
                });
                if i % 100 == 50 {
                    inner.send(&file).unwrap();
                    inner.recv_bytes().unwrap();
                }
            }
            let start = Instant::now();
            assert!(matches!(inner.recv_timeout::<u8>(Duration::from_millis(50)), Err(TryRecvError::Empty)));
            assert!(start.elapsed() >= Duration::from_millis(50), "a signal ended a wait");
            assert!(SIGNALS.load(SeqCst) > 1000);
        });
        assert_eq!(relay.wait(), Status::Code(0));
        drop(inner);
        child.kill9();
        end.send(&()).unwrap();
    });
    end.recv::<()>().unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

/// Waits as a program with an event loop of its own would; false = nothing came in time.
fn wait_readable(end: &Connection, timeout: i32) -> bool {
    let Some(readiness) = end.readiness().unwrap() else { return true };
    let mut entry = libc::pollfd { fd: readiness.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry that lives during the call.
    unsafe { libc::poll(&mut entry, 1, timeout) > 0 }
}

#[test]
fn readiness_misses_nothing() {
    let _test = support::test(60);
    let (end, mut child) = peer(|end| {
        let mut rng = support::Rng::new(7);
        for i in 0..5000u32 {
            end.send(&i).unwrap();
            if rng.below(3) == 0 {
                until_within(Duration::from_micros(rng.below(50)), || false);
            }
        }
    });
    for i in 0..5000u32 {
        let got = loop {
            match end.try_recv::<u32>() {
                Err(TryRecvError::Empty) => assert!(wait_readable(&end, 10_000), "message {i} was missed"),
                got => break got.unwrap(),
            }
        };
        assert_eq!(got, i);
    }
    child.wait();
    assert!(wait_readable(&end, 10_000), "end of file is readable");
    assert!(matches!(end.try_recv::<u32>(), Err(TryRecvError::Failed(RecvError::Closed))));
}

#[test]
fn readiness_is_quiet_when_there_is_nothing() {
    let _test = support::test(20);
    let (end, child) = echo();
    for _ in 0..50 {
        asleep(child.pid());
        end.send_bytes(b"x").unwrap();
        assert!(wait_readable(&end, 10_000));
        end.recv_bytes().unwrap();
        // What is left of the wake is taken back when this finds nothing.
        assert!(!wait_readable(&end, 0));
    }
}

#[test]
fn large_messages_cross_each_other() {
    let _test = support::test(60);
    let swap = |end: &Connection, mine: u64, theirs: u64| {
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20).for_each(|i| end.send_bytes(&bytes(500_000, mine + i)).unwrap()));
            (0..20).for_each(|i| assert!(end.recv_bytes().unwrap() == bytes(500_000, theirs + i)));
        });
    };
    let (end, mut child) = peer(|end| swap(&end, 100, 200));
    swap(&end, 200, 100);
    assert_eq!(child.wait(), Status::Code(0));
}

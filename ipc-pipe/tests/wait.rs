//! Waiting for several things at once, by `wait` and by event loops from outside.
#![allow(unsafe_code)] // the outside loop is epoll by hand

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::peer;
use ipc_pipe::{
    Doorbell, Readable, RecvError, TryRecvError, Waitable, Writable, pipe, simplex, wait, wait_timeout,
};
use ipc_sync::{Event, Registry};
use support::{Loop, Status, asleep, fork, shared, storm_of_alarms, until};

const MOMENT: Duration = Duration::from_millis(5);

fn kernel_pipe() -> (OwnedFd, File) {
    let (read, write) = nix_pipe();
    (read, File::from(write))
}

fn nix_pipe() -> (OwnedFd, OwnedFd) {
    let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
    (one.into(), other.into())
}

/// Runs `f` in a thread once this one sleeps.
fn once_asleep<R>(f: impl FnOnce() + Send, waiting: impl FnOnce() -> R) -> R {
    // SAFETY: gettid has no conditions.
    let tid = unsafe { libc::gettid() };
    thread::scope(|scope| {
        scope.spawn(move || {
            asleep(tid);
            f();
        });
        waiting()
    })
}

#[test]
fn every_thing_that_is_ready_is_told_in_order() {
    let (event, other) = (Event::new().unwrap(), Event::new().unwrap());
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let (reader, mut writer) = kernel_pipe();
    let things: [&dyn Waitable; 5] = [&event, &here, &reader, &other, &Writable(&reader)];
    assert_eq!(wait(&things), [4]);
    event.set();
    there.send(&1).unwrap();
    writer.write_all(b"!").unwrap();
    assert_eq!(wait(&things), [0, 1, 2, 4]);
    assert_eq!(wait(&things), [0, 1, 2, 4], "nothing was taken");
    assert!(wait(&[]).is_empty());
}

#[test]
fn time_is_up_with_any_kind() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    let (here, _there) = pipe().unwrap();
    let (reader, _writer) = kernel_pipe();
    let groups: [&[&dyn Waitable]; 5] =
        [&[&event], &[&here], &[&reader], &[&here, &reader], &[&event, &here, &reader]];
    for things in groups {
        let start = Instant::now();
        assert!(wait_timeout(things, Duration::ZERO).is_empty());
        assert!(wait_timeout(things, 4 * MOMENT).is_empty());
        assert!(start.elapsed() >= 4 * MOMENT);
        assert!(ipc_pipe::wait_deadline(things, start).is_empty());
    }
}

#[test]
fn each_kind_ends_a_sleep_among_the_others() {
    let (first, second) = (Event::new().unwrap(), Event::new().unwrap());
    let _test = support::test(30);
    for _ in 0..20 {
        let (here, there) = pipe().unwrap();
        let (reader, mut writer) = kernel_pipe();
        let mixed: [&dyn Waitable; 4] = [&first, &here, &reader, &second];
        assert_eq!(once_asleep(|| second.set(), || wait(&mixed)), [3]);
        second.clear();
        assert_eq!(once_asleep(|| second.set(), || wait(&[&first, &second])), [1]);
        second.clear();
        assert_eq!(once_asleep(|| there.send(&1).unwrap(), || wait(&mixed)), [1]);
        assert_eq!(here.recv::<i32>().unwrap(), 1);
        assert_eq!(once_asleep(|| writer.write_all(b"!").unwrap(), || wait(&mixed)), [2]);
    }
}

#[test]
fn dead_peer_is_ready() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    for mixed in [false, true] {
        let (end, mut child) = peer(|_end| {
            loop {
                thread::park()
            }
        });
        let things: [&dyn Waitable; 2] = [&end, &event];
        let things = if mixed { &things[..] } else { &things[..1] };
        let ready = once_asleep(move || _ = child.kill9(), || wait(things));
        assert_eq!(ready, [0]);
        assert!(matches!(end.recv_bytes(), Err(RecvError::Closed)));
    }
}

#[test]
fn end_that_was_moved_or_is_in_use_is_ready_for_its_error() {
    let _same_memory_for_all_tests = Event::new().unwrap();
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let (mine, yours) = pipe().unwrap();
    here.send(&yours).unwrap();
    assert_eq!(wait(&[&mine, &yours]), [1]);
    drop(there);
}

#[test]
fn pulse_of_an_event_is_seen_by_a_sleeper() {
    let (event, other) = (Event::new().unwrap(), Event::new().unwrap());
    let _test = support::test(20);
    let (here, _there) = pipe().unwrap();
    let pulse = || {
        event.set();
        event.clear();
    };
    assert_eq!(once_asleep(pulse, || wait(&[&other, &event])), [1]);
    assert_eq!(once_asleep(pulse, || wait(&[&other, &event, &here])), [1]);
}

#[test]
fn more_events_than_the_kernel_waits_for() {
    let events: Vec<Event> = (0..300).map(|_| Event::new().unwrap()).collect();
    let _test = support::test(20);
    let (here, _there) = pipe().unwrap();
    let words: Vec<&dyn Waitable> = events.iter().map(|event| event as &dyn Waitable).collect();
    let mixed: Vec<&dyn Waitable> = words.iter().copied().chain([&here as &dyn Waitable]).collect();
    for last in [100, 299] {
        for things in [&words, &mixed] {
            assert_eq!(once_asleep(|| events[last].set(), || wait(things)), [last]);
            events[last].clear();
        }
    }
}

#[test]
fn signals_do_not_end_a_wait() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    let (here, _there) = pipe().unwrap();
    let (reader, _writer) = kernel_pipe();
    let groups: [&[&dyn Waitable]; 3] = [&[&event], &[&here, &reader], &[&here, &event]];
    let mut child = fork(|| {
        storm_of_alarms();
        for things in groups {
            let start = Instant::now();
            assert!(wait_timeout(things, 10 * MOMENT).is_empty());
            assert!(start.elapsed() >= 10 * MOMENT);
        }
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn connection_that_another_thread_reads_is_no_obstacle() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(here.recv::<u8>().unwrap(), 1));
        until(|| matches!(here.try_recv::<u8>(), Err(TryRecvError::Empty)));
        assert_eq!(once_asleep(|| event.set(), || wait(&[&here, &event])), [1]);
        there.send(&1u8).unwrap();
    });
}

#[test]
fn outside_loop_misses_no_message() {
    const MESSAGES: u64 = 100_000;
    let (ring, answer) = (Event::new().unwrap(), Event::new().unwrap());
    let before = Registry::get().unwrap().rescues();
    let _test = support::test(120);
    let (end, mut child) = peer(|end| {
        for i in 0..MESSAGES {
            end.send(&i).unwrap();
            if i % 64 == 0 {
                ring.set();
                answer.wait();
                answer.clear();
            }
        }
    });
    let (outside, doorbell) = (Loop::new(), Doorbell::new());
    let (mut received, mut rings) = (0, 0);
    while received < MESSAGES || rings < MESSAGES.div_ceil(64) {
        let (message, rung) = (end.readiness().unwrap(), doorbell.arm(&ring).unwrap());
        if let (Some(message), Some(rung)) = (&message, &rung) {
            outside.add(message);
            outside.add(rung);
            outside.turn();
        }
        while let Ok(number) = end.try_recv::<u64>() {
            assert_eq!(number, received);
            received += 1;
        }
        if ring.is_set() {
            ring.clear();
            answer.set();
            rings += 1;
        }
    }
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(Registry::get().unwrap().rescues(), before);
}

#[test]
fn doorbell_in_a_forked_child_is_its_own() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    let doorbell = Doorbell::new();
    let ours = doorbell.arm(&event).unwrap().unwrap();
    let ready = shared::<AtomicU64>();
    let mut child = fork(|| {
        let theirs = doorbell.arm(&event).unwrap().unwrap();
        ready.store(1, SeqCst);
        assert_eq!(wait(&[&Readable(theirs)]), [0]);
    });
    until(|| ready.load(SeqCst) == 1);
    asleep(child.pid());
    event.set();
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(wait(&[&Readable(ours)]), [0]);
    drop(doorbell);
}

#[test]
fn doorbell_that_is_armed_again_is_quiet_again() {
    let event = Event::new().unwrap();
    let _test = support::test(20);
    let doorbell = Doorbell::new();
    for _ in 0..200 {
        let readiness = doorbell.arm(&event).unwrap().unwrap();
        assert!(!Readable(&readiness).is_ready());
        event.set();
        assert_eq!(wait(&[&Readable(&readiness)]), [0]);
        assert!(doorbell.arm(&event).unwrap().is_none());
        event.clear();
    }
}

/// Many waits, each over in an instant, against many that tell: what is missed sleeps for a backstop and is counted.
#[test]
fn mixed_waits_in_a_hurry_miss_nothing() {
    let event = Arc::new(Event::new().unwrap());
    let before = Registry::get().unwrap().rescues();
    let _test = support::test(60);
    let (receiver, sender) = simplex().unwrap();
    thread::scope(|scope| {
        let setter = event.clone();
        scope.spawn(move || {
            for i in 0..3000u32 {
                sender.send(&i).unwrap();
                setter.set();
                until(|| !setter.is_set());
            }
        });
        let (mut next, mut rings) = (0, 0);
        while next < 3000 || rings < 3000 {
            wait(&[&*event, &receiver]);
            if let Ok(number) = receiver.try_recv::<u32>() {
                assert_eq!(number, next);
                next += 1;
            }
            if event.is_set() {
                event.clear();
                rings += 1;
            }
        }
    });
    assert_eq!(Registry::get().unwrap().rescues(), before);
}

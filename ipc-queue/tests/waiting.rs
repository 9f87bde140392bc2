//! Queues among other things to wait for: in one `wait`, and in an event loop that knows nothing of us.
#![allow(unsafe_code)] // the outside loop is epoll by hand, and a process is a pidfd

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use ipc_pipe::{Readable, Waitable, pipe, wait, wait_timeout};
use ipc_queue::{GetError, JoinableQueue, Queue, SimpleQueue};
use ipc_sync::{Event, Registry};
use support::{Loop, Status, asleep, fork, join, shared};

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

/// What becomes readable when the process ends.
fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: pidfd_open takes numbers only, and answers a new descriptor, which nobody else owns.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(descriptor >= 0);
        OwnedFd::from_raw_fd(descriptor as i32)
    }
}

#[test]
fn one_wait_covers_queues_connections_events_processes_and_descriptors() {
    let event = Event::new().unwrap();
    let _test = support::test(30);
    let (queue, simple) = (Queue::<u8>::new().unwrap(), SimpleQueue::<u8>::new().unwrap());
    let joinable = JoinableQueue::<u8>::new().unwrap();
    let (here, there) = pipe().unwrap();
    let (mut reader, mut writer) = UnixStream::pair().unwrap();
    let raw = OwnedFd::from(reader.try_clone().unwrap());
    let mut child = fork(|| {
        loop {
            thread::park()
        }
    });
    let process = pidfd(child.pid());
    let things: [&dyn Waitable; 7] = [&queue, &here, &event, &process, &raw, &simple, &joinable];
    for _ in 0..5 {
        assert!(wait_timeout(&things, Duration::ZERO).is_empty());
        assert_eq!(once_asleep(|| queue.put(1).unwrap(), || wait(&things)), [0]);
        assert_eq!(queue.try_get().unwrap(), 1);
        assert_eq!(once_asleep(|| there.send(&1u8).unwrap(), || wait(&things)), [1]);
        assert_eq!(here.recv::<u8>().unwrap(), 1);
        assert_eq!(once_asleep(|| event.set(), || wait(&things)), [2]);
        event.clear();
        assert_eq!(once_asleep(|| writer.write_all(b"!").unwrap(), || wait(&things)), [4]);
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(once_asleep(|| simple.put(1).unwrap(), || wait(&things)), [5]);
        assert_eq!(simple.try_get().unwrap(), 1);
        assert_eq!(once_asleep(|| joinable.put(1).unwrap(), || wait(&things)), [6]);
        assert_eq!(joinable.try_get().unwrap(), 1);
        joinable.task_done().unwrap();
        assert_eq!(once_asleep(|| queue.put(2).unwrap(), || wait(&[&queue, &event])), [0]);
        assert_eq!(queue.try_get().unwrap(), 2);
    }
    assert_eq!(once_asleep(|| queue.shutdown(), || wait(&things)), [0]);
    let others = &things[1..];
    let killed = once_asleep(move || _ = child.kill9(), || wait(others));
    assert_eq!(killed, [2]);
}

#[test]
fn waits_and_gets_of_one_queue_share_its_items() {
    let event = Event::new().unwrap();
    let before = Registry::get().unwrap().rescues();
    let _test = support::test(60);
    const ITEMS: u64 = 3000;
    let queue = Queue::<u64>::new().unwrap();
    let got = shared::<AtomicU64>();
    let getters = [false, true, true].map(|waits| {
        let (queue, event) = (&queue, &event);
        fork(move || {
            loop {
                if waits {
                    wait(&[queue, event]);
                }
                match if waits { queue.try_get() } else { queue.get() } {
                    Ok(_) => _ = got.fetch_add(1, SeqCst),
                    Err(GetError::Empty) => {}
                    Err(GetError::ShutDown) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for item in 0..ITEMS {
        queue.put(item).unwrap();
        if item % 8 == 0 {
            support::until(|| got.load(SeqCst) > item);
        }
    }
    queue.shutdown();
    join(getters);
    assert_eq!(got.load(SeqCst), ITEMS);
    assert_eq!(Registry::get().unwrap().rescues(), before);
}

/// `MESSAGES` in the environment = how many; they come in all rhythms.
#[test]
fn outside_loop_misses_no_message() {
    let messages: u64 = std::env::var("MESSAGES").map_or(100_000, |number| number.parse().unwrap());
    let _same_memory_for_all_tests = Event::new().unwrap();
    let before = Registry::get().unwrap().rescues();
    let _test = support::test(300);
    let queue = Queue::<u64>::bounded(500).unwrap();
    let taken = shared::<AtomicU64>();
    let mut producer = fork(|| {
        for i in 0..messages {
            queue.put(i).unwrap();
            if i % 50 == 0 {
                support::until(|| taken.load(SeqCst) > i);
            }
        }
        queue.shutdown();
    });
    let outside = Loop::new();
    let mut next = 0;
    loop {
        if let Some(readiness) = queue.readiness().unwrap() {
            outside.add(&readiness);
            outside.turn();
        }
        match queue.try_get() {
            Ok(number) => {
                assert_eq!(number, next);
                next += 1;
                taken.store(next, SeqCst);
            }
            Err(GetError::Empty) => {}
            Err(GetError::ShutDown) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, messages);
    assert_eq!(producer.wait(), Status::Code(0));
    assert_eq!(Registry::get().unwrap().rescues(), before);
}

#[test]
fn armed_queue_that_is_dropped_is_gone() {
    let _same_memory_for_all_tests = Event::new().unwrap();
    let _test = support::test(20); // its oracle counts descriptors
    for _ in 0..20 {
        let queue = Queue::<u8>::new().unwrap();
        let readiness = queue.readiness().unwrap().unwrap();
        drop(queue);
        drop(File::from(readiness.as_fd().try_clone_to_owned().unwrap()));
    }
    let queue = Queue::<u8>::new().unwrap();
    let readiness = queue.readiness().unwrap().unwrap();
    queue.close();
    assert_eq!(wait(&[&queue]), [0], "a get would answer that it is closed");
    drop((queue, Readable(readiness)));
}

//! The end of a process waits until its items are in the ring.

mod common;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::process::exit;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::flush;
use ipc_queue::Queue;
use nix::unistd::dup2_stderr;
use support::{Child, Status, asleep, fork, shared, until};

/// 10 MB, forty times the ring.
const ITEMS: u32 = 1000;

fn item(i: u32) -> Vec<u8> {
    vec![i as u8; 10_000]
}

fn put_all(queue: &Queue<Vec<u8>>) {
    (0..ITEMS).for_each(|i| queue.put(item(i)).unwrap());
}

/// A child whose standard error goes to a file.
fn fork_with_stderr(f: impl FnOnce()) -> (Child, File) {
    let file = tempfile::tempfile().unwrap();
    let child = fork(|| {
        dup2_stderr(&file).unwrap();
        f();
    });
    (child, file)
}

fn text(mut file: File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn exit_waits_for_the_backlog() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let (mut child, stderr) = fork_with_stderr(|| {
        put_all(&queue);
        exit(7);
    });
    until(|| queue.len() == ITEMS as usize);
    (0..ITEMS).for_each(|i| assert_eq!(queue.get().unwrap(), item(i)));
    assert_eq!(child.wait(), Status::Code(7));
    assert_eq!(text(stderr), "");
}

#[test]
fn exit_waits_for_several_queues() {
    let _test = support::test(60);
    let queues = [(); 3].map(|()| Queue::new().unwrap());
    let mut child = fork(|| {
        queues.iter().for_each(put_all);
        exit(0);
    });
    for queue in &queues {
        (0..ITEMS).for_each(|i| assert_eq!(queue.get().unwrap(), item(i)));
    }
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn exit_waits_though_the_handle_was_dropped() {
    let _test = support::test(60);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let theirs = common::pack(&queue);
    let mut child = fork(move || {
        let queue = common::unpack(&theirs.0, theirs.1).unwrap();
        put_all(&queue);
        drop(queue);
        exit(0);
    });
    (0..ITEMS).for_each(|i| assert_eq!(queue.get().unwrap(), item(i)));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn cancelled_join_lets_the_process_go() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let (mut child, stderr) = fork_with_stderr(|| {
        put_all(&queue);
        queue.cancel_join_thread();
        queue.close();
        queue.join_thread().unwrap();
        exit(0);
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(text(stderr), "");
    let there: Vec<_> = queue.try_iter().map(Result::unwrap).collect();
    assert!(!there.is_empty() && there.len() < ITEMS as usize, "{} items", there.len());
    there.iter().zip(0..).for_each(|(found, i)| assert_eq!(found, &item(i)));
}

#[test]
fn exit_gives_up_with_one_line_when_nobody_else_has_the_queue() {
    let _test = support::test(60);
    let (mut child, stderr) = fork_with_stderr(|| {
        let queues = [(); 2].map(|()| Queue::new().unwrap());
        queues.iter().for_each(put_all);
        exit(3);
    });
    assert_eq!(child.wait(), Status::Code(3));
    let text = text(stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("items are lost"), "{text}");
}

#[test]
fn exit_gives_up_when_the_last_other_process_dies() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let mut other = fork(thread::park);
    let (mut child, stderr) = fork_with_stderr(|| {
        put_all(&queue);
        exit(0);
    });
    until(|| queue.len() == ITEMS as usize);
    drop(queue);
    let start = Instant::now();
    // Longer than the grace: it is the living process that keeps it.
    until(|| start.elapsed() > Duration::from_millis(1500));
    assert_eq!(child.try_wait(), None);
    other.kill9();
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(text(stderr).lines().count(), 1);
}

#[test]
fn two_that_exit_do_not_wait_for_each_other() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let mut children = [(); 2].map(|()| {
        fork_with_stderr(|| {
            put_all(&queue);
            exit(0);
        })
    });
    until(|| queue.len() == 2 * ITEMS as usize);
    drop(queue);
    children.iter_mut().for_each(|(child, _)| assert_eq!(child.wait(), Status::Code(0)));
    children.into_iter().for_each(|(_, stderr)| assert_eq!(text(stderr).lines().count(), 1));
}

#[test]
fn forked_child_has_not_its_parents_backlog() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    put_all(&queue);
    let mut child = fork(|| {
        queue.put(vec![]).unwrap();
        flush(&queue);
        exit(0); // and does not wait for what its parent still has
    });
    // The child's own item is in its backlog behind a full ring; ours are there once, in order.
    let mut items: Vec<Vec<u8>> = (0..=ITEMS).map(|_| queue.get().unwrap()).collect();
    items.retain(|item| !item.is_empty());
    assert_eq!(items.len(), ITEMS as usize);
    items.iter().zip(0..).for_each(|(found, i)| assert_eq!(found, &item(i)));
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(queue.len(), 0);
}

#[test]
fn forked_child_has_a_feeder_of_its_own() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    put_all(&queue);
    let fed = shared::<AtomicU32>();
    let mut child = fork(|| {
        let own = Queue::new().unwrap();
        put_all(&own);
        (0..ITEMS).for_each(|i| assert_eq!(own.get().unwrap(), item(i)));
        fed.store(1, Relaxed);
        put_all(&queue);
        exit(0);
    });
    until(|| fed.load(Relaxed) == 1);
    (0..2 * ITEMS).for_each(|_| drop(queue.get().unwrap()));
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(queue.len(), 0);
}

#[test]
fn feeder_ends_when_idle_and_comes_again() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    for _ in 0..2 {
        put_all(&queue);
        assert_eq!(feeders(), 1);
        (0..ITEMS).for_each(|i| assert_eq!(queue.get().unwrap(), item(i)));
        until(|| feeders() == 0);
    }
}

#[test]
fn backlog_that_nobody_can_take_goes_with_the_last_handle() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let mut other = fork(thread::park);
    put_all(&queue);
    drop(queue);
    let start = Instant::now();
    until(|| start.elapsed() > Duration::from_millis(1500));
    assert_eq!(feeders(), 1); // for the other process has the queue
    other.kill9();
    until(|| feeders() == 0);
}

#[test]
fn join_ends_when_it_is_cancelled() {
    let _test = support::test(60);
    let queue = Queue::new().unwrap();
    let mut child = fork(|| {
        put_all(&queue);
        queue.close();
        thread::scope(|scope| {
            let joiner = scope.spawn(|| queue.join_thread());
            asleep(joiner_tid());
            queue.cancel_join_thread();
            joiner.join().unwrap().unwrap();
        });
    });
    assert_eq!(child.wait(), Status::Code(0));
}

/// Feeder threads of this process.
fn feeders() -> usize {
    let name = |tid| fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
    let threads = support::procfs::threads(std::process::id() as i32).into_iter();
    threads.filter(|&tid| name(tid).trim() == "queue feeder").count()
}

/// The newest thread of this process.
fn joiner_tid() -> i32 {
    support::procfs::threads(std::process::id() as i32).into_iter().max().unwrap()
}

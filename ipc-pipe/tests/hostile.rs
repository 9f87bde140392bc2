//! A peer of the same user that writes what it likes: wrong data or errors, but no crash, no hang, no memory.
#![allow(unsafe_code)] // the hostile one maps the pipe's memory by hand

mod common;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::support::{self, Status, fork, shared, until};
use ipc_pipe::{Connection, Parts, RecvError, SendError, TryRecvError, pipe};

/// Bytes of the header of the segment: the pipe looks at them once, when it is opened.
const HEADER: usize = 128;
/// Bytes of words behind it.
const WORDS: usize = 512;

/// The memory of a pipe, and its socket, which keeps the pipe open.
struct Raw {
    words: &'static [AtomicU32],
    _parts: Parts,
}

impl Raw {
    fn of(end: Connection) -> Raw {
        let parts = end.into_parts().unwrap();
        let size = std::fs::File::from(parts.segment.try_clone().unwrap()).metadata().unwrap().len() as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = parts.segment.as_raw_fd();
        // SAFETY: a new mapping of all of the file at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, fd, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the mapping has `size` bytes, is never unmapped, and atomics may be shared with anybody.
        let words = unsafe { std::slice::from_raw_parts(at.cast::<AtomicU32>(), size / 4) };
        Raw { words: &words[HEADER / 4..], _parts: parts }
    }

    fn scribble(&self, rng: &mut support::Rng, stop: &AtomicBool) {
        while !stop.load(SeqCst) {
            // Half of the time where it hurts: positions, bells, owners.
            let among = if rng.below(2) == 0 { WORDS / 4 } else { self.words.len() };
            let value = match rng.below(4) {
                0 => 0,
                1 => rng.below(200_000) as u32,
                2 => 1 << rng.below(32),
                _ => rng.next() as u32,
            };
            self.words[rng.below(among as u64) as usize].store(value, SeqCst);
            if rng.below(100) == 0 {
                thread::yield_now();
            }
        }
    }
}

#[test]
fn random_words_all_over_the_memory_are_errors_at_worst() {
    let _test = support::test(60);
    let seed = support::seed();
    for round in 0..8 {
        let stop = shared::<AtomicBool>();
        let trips = shared::<AtomicU64>();
        let (here, there) = pipe().unwrap();
        let (mut here, mut there) = (Some(here), Some(there));
        let mut hostile = fork(|| {
            drop(here.take());
            Raw::of(there.take().unwrap()).scribble(&mut support::Rng::new(seed + round), stop);
        });
        drop(there);
        let end = here.unwrap();
        let mut victim = fork(|| use_until(&end, stop, trips));
        drop(end);
        let start = Instant::now();
        until(|| trips.load(SeqCst) > 500 && start.elapsed() > Duration::from_millis(200));
        stop.store(true, SeqCst);
        assert_eq!(hostile.wait(), Status::Code(0));
        assert_eq!(victim.wait(), Status::Code(0));
    }
}

/// Sends and receives, and takes every answer but a panic.
fn use_until(end: &Connection, stop: &AtomicBool, trips: &AtomicU64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut size = 0;
            while !stop.load(SeqCst) {
                size = (size * 3 + 1) % 40_000;
                match end.send_bytes(&vec![1; size]) {
                    Ok(()) | Err(SendError::Corrupt | SendError::InUse { .. } | SendError::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
                trips.fetch_add(1, SeqCst);
            }
        });
        while !stop.load(SeqCst) {
            let start = Instant::now();
            match end.recv_bytes_timeout(Duration::from_millis(1)) {
                Ok(message) => assert!(message.len() <= 64 << 20),
                Err(TryRecvError::Failed(RecvError::Decode { .. } | RecvError::Moved)) => {
                    panic!("not asked for")
                }
                Err(_) => {}
            }
            assert!(start.elapsed() < Duration::from_secs(5), "the deadline was forgotten");
            trips.fetch_add(1, SeqCst);
        }
    });
}

/// A ring full of parts without an end: a receive in time must come back in time.
#[test]
fn endless_message_does_not_outlast_the_deadline() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let raw = Raw::of(here);
    // Both directions: headers of empty frames, published, neither first nor last.
    for word in raw.words[WORDS / 4..].chunks(2) {
        word[0].store(1 << 20, SeqCst);
    }
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Failed(RecvError::Truncated))));
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
    assert!(matches!(there.recv_bytes_timeout(Duration::from_millis(5)), Err(TryRecvError::Empty)));
}

#[test]
fn announced_length_takes_no_memory() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let raw = Raw::of(here);
    // One direction or the other: a first part of 8 bytes that announces 60 MiB.
    for ring in [WORDS / 4, WORDS / 4 + (64 << 10) / 4] {
        raw.words[ring + 2].store(60 << 20, SeqCst);
        raw.words[ring].store(8 | 1 << 20 | 1 << 21, SeqCst);
    }
    let before = resident();
    assert!(matches!(there.try_recv_bytes(), Err(TryRecvError::Empty)));
    assert!(resident() < before + (8 << 20));
    drop(raw);
    assert!(matches!(there.recv_bytes(), Err(RecvError::EofInside { received: 0, total: 62_914_560 })));
}

/// Bytes of memory this process has reserved for its data.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(5).unwrap().parse::<u64>().unwrap() * 4096
}

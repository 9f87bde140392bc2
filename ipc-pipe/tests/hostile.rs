//! A peer of the same user that writes what it likes: wrong data or errors, but no crash, no hang, no memory.
#![allow(unsafe_code)] // the hostile one maps the pipe's memory by hand

mod common;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{limit_descriptors, send_packet, socket};
use ipc_pipe::{
    Connection, Doorbell, Parts, RecvError, SendError, TryRecvError, TrySendError, pipe, wait_timeout,
};
use ipc_shm::Descriptor;
use ipc_sync::Event;
use support::{Status, census, fork, shared, until, until_within};

/// Bytes of the header of the segment: the pipe looks at them once, when it is opened.
const HEADER: usize = 128;
/// Bytes of words behind it.
const WORDS: usize = 512;
/// Where the stores begin in the file; at the beginning of each, its table.
const STORES: [usize; 2] = [135_168, 135_168 + TABLE + (64 << 20)];
const TABLE: usize = 16 << 10;

/// How much of each attack; the suite is content with a little.
fn dose(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

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
            // Half of the time where it hurts: positions, bells, owners, what the stores hold.
            let (from, bytes) = match rng.below(4) {
                0 => (0, WORDS),
                1 => (STORES[rng.below(2) as usize] - HEADER, 1 << rng.below(15)),
                _ => (0, STORES[0] - HEADER),
            };
            let value = match rng.below(4) {
                0 => 0,
                1 => rng.below(200_000) as u32,
                2 => 1 << rng.below(32) | 1 << rng.below(12),
                _ => rng.next() as u32,
            };
            self.words[from / 4 + rng.below((bytes as u64 / 4).max(1)) as usize].store(value, SeqCst);
            if rng.below(100) == 0 {
                thread::yield_now();
            }
        }
    }
}

#[test]
fn random_words_all_over_the_memory_are_errors_at_worst() {
    let milliseconds = dose("HOSTILE_MILLISECONDS", 1600);
    let _test = support::test(60 + milliseconds / 500);
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
        let time = Duration::from_millis(milliseconds / 8);
        until_within(time + Duration::from_secs(20), || trips.load(SeqCst) > 500 && start.elapsed() > time);
        stop.store(true, SeqCst);
        assert_eq!(hostile.wait(), Status::Code(0));
        assert_eq!(victim.wait(), Status::Code(0));
    }
}

/// Sends and receives in all ways, and takes every answer but a panic.
fn use_until(end: &Connection, stop: &AtomicBool, trips: &AtomicU64) {
    end.receiver().set_max_message(1 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut size = 0;
            while !stop.load(SeqCst) {
                size = (size * 3 + 1) % 40_000;
                match send_somehow(end, size) {
                    Ok(())
                    | Err(
                        TrySendError::Full
                        | TrySendError::Failed(
                            SendError::Corrupt | SendError::InUse { .. } | SendError::Closed,
                        ),
                    ) => {}
                    Err(error) => panic!("{error}"),
                }
                trips.fetch_add(1, SeqCst);
            }
        });
        let mut count = 0;
        while !stop.load(SeqCst) {
            let start = Instant::now();
            count += 1;
            match receive_somehow(end, count) {
                Ok(length) => assert!(length <= 1 << 20),
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

fn send_somehow(end: &Connection, size: usize) -> Result<(), TrySendError> {
    match size % 4 {
        0 => Ok(end.send_bytes(&vec![1; size])?),
        1 => end.send_bytes_timeout(&vec![1; 3 * size], Duration::from_millis(1)),
        2 => {
            let loan = end.sender().loan_timeout(2 * size, Duration::from_millis(1))?;
            Ok(loan.send()?)
        }
        _ => {
            let mut payload = end.sender().try_payload(5 * size)?;
            payload.write_at(0, b"!").unwrap();
            end.sender().send_payload_timeout(payload, Duration::from_millis(1)).map_err(|error| error.error)
        }
    }
}

fn receive_somehow(end: &Connection, count: u32) -> Result<usize, TryRecvError> {
    let moment = Duration::from_millis(1);
    match count % 3 {
        0 => end.recv_bytes_timeout(moment).map(|message| message.len()),
        1 => end.receiver().recv_with_timeout(moment, <[u8]>::len),
        _ => {
            let payload = end.receiver().recv_payload_timeout(moment)?;
            Ok(payload.to_vec().len())
        }
    }
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

/// Frames that name what lies in the store, with names, lengths and tables of the attacker's choice.
#[test]
fn forged_names_of_payloads_are_errors_at_worst() {
    let rounds = dose("HOSTILE_FRAMES", 10_000);
    let _test = support::test(60 + rounds / 1000);
    let (here, there) = pipe().unwrap();
    there.receiver().set_max_message(200_000);
    let raw = Raw::of(here);
    let mut rng = support::Rng::new(support::seed());
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..rounds {
        raw.forge(&mut rng);
        match there.receiver().try_recv_payload() {
            Ok(payload) => {
                whole += 1;
                assert!(payload.len() <= 200_000);
                if rng.below(4) == 0 {
                    let _ = there.sender().try_send_payload(payload);
                }
            }
            Err(TryRecvError::Failed(RecvError::Truncated | RecvError::TooBig { .. })) => refused += 1,
            Err(TryRecvError::Failed(RecvError::HandlesLost { .. }) | TryRecvError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(whole > 0 && refused > 0, "{whole} {refused}");
}

impl Raw {
    fn word(&self, offset: usize, value: u64) {
        self.words[offset / 4].store(value as u32, SeqCst);
        self.words[offset / 4 + 1].store((value >> 32) as u32, SeqCst);
    }

    /// Publishes a frame in front of the reader of direction 0, which names anything.
    fn forge(&self, rng: &mut support::Rng) {
        const HEAD: usize = 136;
        let head = u64::from(self.words[HEAD / 4].load(SeqCst));
        let ring = |position: u64| WORDS + (position as usize & 0xffff);
        let (store, blocks) = (rng.below(2), [8, 1100][rng.below(2) as usize]);
        let block = rng.below(blocks);
        let length = up_to(rng, 40);
        if block < 1024 && rng.below(2) == 0 {
            let entry = STORES[store as usize] - HEADER + 16 * block as usize;
            self.word(entry, rng.next() & !0xffff | up_to(rng, 11));
            self.word(entry + 8, head); // it is that frame
        }
        let nonce = if rng.below(8) == 0 { rng.next() } else { 0 };
        let words = [store << 32 | block, length, nonce];
        words.iter().zip(1..).for_each(|(&word, i)| self.word(ring(head + 8 * i), word));
        self.word(ring(head + 32), 0);
        self.word(ring(head), 24 | 1 << 20 | 1 << 22 | 1 << 23);
    }
}

/// Packets on the socket that are almost right, between messages that are.
#[test]
fn mutated_packets_are_errors_at_worst() {
    let packets = dose("HOSTILE_PACKETS", 10_000);
    let _test = support::test(60 + packets / 500);
    let (mut here, mut there) = pipe().unwrap();
    let file = File::open("/dev/null").unwrap();
    let mut rng = support::Rng::new(support::seed());
    for round in 0..packets {
        if round % 100 == 0 {
            // What was forged for the future stands in the way of a pipe for ever.
            (here, there) = pipe().unwrap();
        }
        let stray = socket(&here);
        let mut packet = [0; 16];
        packet[..4].copy_from_slice(&u32::from_be_bytes(*b"mpfd").to_ne_bytes());
        packet[4] = 1;
        packet[8..].copy_from_slice(&up_to(&mut rng, 64).to_ne_bytes());
        (0..rng.below(3)).for_each(|_| packet[rng.below(16) as usize] ^= 1 << rng.below(8));
        let files = vec![file.as_raw_fd(); rng.below(4) as usize];
        send_packet(&stray, &packet[..1 + rng.below(16) as usize], &files);
        drop(stray);
        let sent = here.send_timeout(&(round, Descriptor::from(null())), Duration::from_secs(1));
        assert!(matches!(sent, Ok(()) | Err(TrySendError::Full)), "{sent:?}");
        let start = Instant::now();
        match there.recv_timeout::<(u64, Descriptor)>(Duration::from_secs(1)) {
            Ok((number, _)) => assert_eq!(number, round),
            Err(TryRecvError::Failed(RecvError::HandlesLost { .. } | RecvError::Decode { .. })) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        here.send(&round).unwrap();
        assert_eq!(there.recv::<u64>().unwrap(), round, "bytes are not touched");
    }
}

/// A number of fewer than `bits` bits, short ones as often as long ones.
fn up_to(rng: &mut support::Rng, bits: u64) -> u64 {
    let bits = rng.below(bits);
    rng.below(1 << bits)
}

fn null() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn smuggled_descriptors_are_closed() {
    let descriptors = dose("HOSTILE_DESCRIPTORS", 10_000);
    let _test = support::test(60 + descriptors / 1000);
    let (here, there) = pipe().unwrap();
    let (stray, file) = (socket(&here), null());
    let before = census();
    for round in 0..descriptors / 100 {
        let mut packet = [0; 16];
        packet[..4].copy_from_slice(&u32::from_be_bytes(*b"mpfd").to_ne_bytes());
        packet[4] = round as u8; // a wrong count, too
        assert!(send_packet(&stray, &packet[..1 + 5 * (round as usize % 4)], &[file.as_raw_fd(); 100]));
        here.send(&Descriptor::from(null())).unwrap();
        drop(there.recv::<Descriptor>().unwrap());
        if round % 10 == 0 {
            assert_eq!(census(), before);
        }
    }
    assert_eq!(census(), before);
}

/// Every operation with 0, 1, 2, … descriptors left: it works or says why it does not, and works again afterwards.
#[test]
fn limit_of_descriptors_at_every_step_is_an_error_at_worst() {
    let _test = support::test(60);
    let mut child = fork(|| {
        let event = Event::new().unwrap();
        let (here, there) = pipe().unwrap();
        let highest = *census().last_key_value().unwrap().0 as u64 + 1;
        let usual = census();
        for left in 0..8 {
            limit_descriptors(highest + left);
            at_the_limit(&here, &there, &event);
            limit_descriptors(1024);
            until(|| census() == usual); // the bridge is a thread, and its own master
            here.send(&(Descriptor::from(null()), 1)).unwrap();
            assert_eq!(there.recv::<(Descriptor, i32)>().unwrap().1, 1);
        }
    });
    assert_eq!(child.wait(), Status::Code(0));
}

fn at_the_limit(here: &Connection, there: &Connection, event: &Event) {
    let moment = Duration::from_millis(1);
    drop(pipe());
    if let Ok((mine, yours)) = pipe() {
        let _ = here.send(&yours).map(|()| there.recv::<Connection>());
        let _ = mine.try_send(&1);
    }
    if let Ok(file) = File::open("/dev/null") {
        let two = (Descriptor::from(file), File::open("/dev/null").ok().map(Descriptor::from));
        let _ = here.send(&two).map(|()| there.recv_bytes());
        let _ = here.send(&two).map(|()| there.recv::<(Descriptor, Option<Descriptor>)>());
    }
    here.send_payload(here.payload(1 << 20).unwrap()).unwrap();
    assert_eq!(there.recv_payload().unwrap().len(), 1 << 20);
    assert!(wait_timeout(&[here, event], moment).is_empty());
    event.set();
    assert_eq!(wait_timeout(&[here, event], moment), [1]);
    event.clear();
    let doorbell = Doorbell::new();
    let _ = doorbell.arm(event);
    here.send(&1).unwrap();
    assert_eq!(there.recv::<i32>().unwrap(), 1);
}

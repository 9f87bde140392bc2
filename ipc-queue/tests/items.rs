//! Items with handles in them, and items of any size.
#![allow(unsafe_code)]

mod common;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use common::flush;
use ipc_pipe::socket::Socket;
use ipc_pipe::{Connection, RecvError, SendError};
use ipc_queue::{GetError, JoinableQueue, PutFault, Queue};
use ipc_shm::{Descriptor, Mapping, SharedMemory};
use ipc_sync::Lock;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};
use support::leaks::census;
use support::{Rng, Status, Test, fork, seed, shared, until};

static LOCK: LazyLock<Lock> = LazyLock::new(|| Lock::new().unwrap());

/// What outlives every test is made before it.
fn begin(seconds: u64) -> Test {
    LazyLock::force(&LOCK);
    support::test(seconds)
}

/// An end of a pipe to write to, as a field of a message, and the end that tells when all copies of it are closed.
fn token() -> (Descriptor, File) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    (writer.into(), reader.into())
}

/// Whether all copies of the other end are closed.
fn is_closed(reader: &mut File) -> bool {
    let mut entry = libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(reader), events: 0, revents: 0 };
    // SAFETY: one entry, alive and writable.
    unsafe { libc::poll(&mut entry, 1, 0) };
    entry.revents & libc::POLLHUP != 0
}

#[derive(Serialize, Deserialize)]
enum Handle {
    Queue(Queue<u32>),
    Connection(Connection),
    Memory(SharedMemory),
    Lock(Lock),
    File(Descriptor),
    Deep(Vec<(u8, Option<Box<Handle>>)>),
}

#[test]
fn handles_of_every_kind_travel_in_items() {
    let _test = begin(20);
    let (lock, queue) = (&*LOCK, Queue::<Handle>::new().unwrap());
    let numbers = Queue::new().unwrap();
    let (mine, yours) = ipc_pipe::pipe().unwrap();
    let memory = SharedMemory::anonymous(100).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    queue.put(Handle::Queue(numbers.clone())).unwrap();
    queue.put(Handle::Connection(yours)).unwrap();
    queue.put(Handle::Memory(memory.clone())).unwrap();
    queue.put(Handle::Lock(lock.clone())).unwrap();
    let inner = Handle::File(Descriptor::from(file.try_clone().unwrap()));
    queue.put(Handle::Deep(vec![(1, None), (2, Some(Box::new(inner)))])).unwrap();
    let guard = lock.lock().unwrap();
    let mut child = fork(|| (0..5).for_each(|_| use_it(queue.get().unwrap())));
    assert_eq!(child.wait(), Status::Code(0));
    drop(guard);
    assert_eq!(numbers.get().unwrap(), 7);
    assert_eq!(mine.recv::<String>().unwrap(), "hello");
    assert!(matches!(mine.recv::<()>(), Err(RecvError::Closed)));
    let mut byte = [0];
    memory.read(50, &mut byte).unwrap();
    assert_eq!(byte, [9]);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
}

fn use_it(handle: Handle) {
    match handle {
        Handle::Queue(queue) => queue.put(7).unwrap(),
        Handle::Connection(end) => end.send("hello").unwrap(),
        Handle::Memory(memory) => memory.write(50, &[9]).unwrap(),
        Handle::Lock(lock) => assert!(lock.try_lock().is_err(), "its owner is the parent"),
        Handle::File(file) => file.try_into_file().unwrap().write_all(b"text").unwrap(),
        Handle::Deep(handles) => {
            handles.into_iter().filter_map(|(_, handle)| handle).for_each(|handle| use_it(*handle));
        }
    }
}

#[test]
fn handle_that_moves_is_gone_when_put_and_back_when_refused() {
    let _test = begin(20);
    let queue = Queue::<(Connection, u32)>::bounded(1).unwrap();
    let ends: Vec<_> = (0..2).map(|_| ipc_pipe::pipe().unwrap()).collect();
    let [(mine, first), (other, second)] = <[_; 2]>::try_from(ends).unwrap();
    queue.put((first, 1)).unwrap();
    let error = queue.try_put((second, 2)).unwrap_err();
    assert!(matches!(error.fault, PutFault::Full));
    let (second, _) = error.into_value();
    second.send("still here").unwrap();
    assert_eq!(other.recv::<String>().unwrap(), "still here");
    let (first, _) = queue.get().unwrap();
    first.send("from the item").unwrap();
    assert_eq!(mine.recv::<String>().unwrap(), "from the item");
    queue.put((second, 2)).unwrap();
    drop(queue);
    until(|| matches!(other.send_bytes(&[0; 100_000]), Err(SendError::Closed)));
}

/// Plain, large, and with handles; some go to the ring at once and some wait.
#[test]
fn order_is_kept_between_items_of_all_kinds() {
    let _test = begin(60);
    let queue = Queue::<(u32, Option<Descriptor>, Vec<u32>)>::options().ring_bytes(4096).create().unwrap();
    let (end, mut reader) = token();
    let mut child = fork(|| {
        for i in 0..1000 {
            let handle = (i % 3 == 0).then(|| end.clone());
            let length = if i % 5 == 0 { 20_000 } else { i % 100 };
            queue.put((i, handle, vec![i; length as usize])).unwrap();
        }
        flush(&queue);
    });
    drop(end);
    for i in 0..1000 {
        let (number, handle, words) = queue.get().unwrap();
        assert_eq!((number, handle.is_some()), (i, i % 3 == 0));
        assert_eq!(words.len(), if i % 5 == 0 { 20_000 } else { i as usize % 100 });
        assert!(words.iter().all(|&word| word == i), "item {i} is torn");
    }
    assert_eq!(child.wait(), Status::Code(0));
    assert!(is_closed(&mut reader), "nothing of the items is left");
}

#[test]
fn items_nobody_takes_wait_with_their_handles() {
    let _test = begin(60);
    let queue = Queue::<(u32, Descriptor)>::new().unwrap();
    let (end, mut reader) = token();
    let before = census().len();
    (0..600).for_each(|i| queue.put((i, end.clone())).unwrap());
    assert_eq!(queue.len(), 600);
    assert_eq!(census().len(), before, "what waits shares its descriptors");
    drop(end);
    assert!(!is_closed(&mut reader));
    let mut child = fork(|| (0..300).for_each(|i| assert_eq!(queue.get().unwrap().0, i)));
    assert_eq!(child.wait(), Status::Code(0));
    (300..600).for_each(|i| assert_eq!(queue.get().unwrap().0, i));
    assert!(is_closed(&mut reader));
}

/// The queue lies in itself, and nobody has it.
#[test]
fn descriptors_in_a_queue_that_nobody_has_are_freed() {
    #[derive(Serialize, Deserialize)]
    struct Both(Option<Queue<Both>>, Descriptor);

    let _test = begin(30);
    let queue = Queue::<Both>::new().unwrap();
    let (end, mut reader) = token();
    queue.put(Both(None, end.clone())).unwrap();
    queue.put(Both(Some(queue.clone()), end)).unwrap();
    assert!(!is_closed(&mut reader));
    drop(queue);
    until(|| {
        drop(ipc_pipe::pipe().unwrap()); // the kernel looks for such rings when sockets are closed
        is_closed(&mut reader)
    });
}

#[test]
fn most_handles_of_one_item_are_253() {
    let _test = begin(20);
    let queue = Queue::<Vec<Descriptor>>::options().ring_bytes(1 << 16).create().unwrap();
    let file = tempfile::tempfile().unwrap();
    let many = |count: usize| (0..count).map(|_| Descriptor::from(file.try_clone().unwrap())).collect();
    let error = queue.put(many(254)).unwrap_err();
    assert!(matches!(error.fault, PutFault::TooManyHandles { count: 254, max: 253 }));
    assert_eq!(error.into_value().len(), 254);
    queue.put(many(253)).unwrap();
    assert_eq!(queue.get().unwrap().len(), 253);
}

/// Runs `f` in a child that may have so many descriptors open.
fn with_limit(limit: u64, f: impl FnOnce()) -> Status {
    fork(|| {
        limit_descriptors(limit);
        f();
    })
    .wait()
}

fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: a limit, alive and only read.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// The limit that leaves so many numbers free.
fn limit_with(free: usize) -> u64 {
    let taken = census();
    (0..).filter(|number| !taken.contains_key(number)).nth(free).unwrap() as u64
}

/// How many there are below 1000; counted without one more.
fn open_descriptors() -> usize {
    // SAFETY: asks for flags; the number need not be a descriptor.
    (0..1000).filter(|&number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0).count()
}

#[test]
fn getter_at_its_limit_of_descriptors_leaves_the_item() {
    let _test = begin(30);
    let queue = Queue::<(u32, Vec<Descriptor>)>::new().unwrap();
    let (end, mut reader) = token();
    let ends =
        (0..10).map(|_| Descriptor::from(OwnedFd::from(File::from(end.clone().try_into_owned().unwrap()))));
    queue.put((1, ends.collect())).unwrap();
    drop(end);
    let status = with_limit(limit_with(5), || {
        let before = open_descriptors();
        for _ in 0..100 {
            assert!(matches!(queue.get(), Err(GetError::Descriptors(_))));
            assert!(matches!(queue.try_get(), Err(GetError::Descriptors(_))));
        }
        assert_eq!(open_descriptors(), before);
        assert_eq!(queue.len(), 1);
    });
    assert_eq!(status, Status::Code(0));
    let (number, ends) = queue.get().unwrap();
    assert_eq!((number, ends.len()), (1, 10));
    drop(ends);
    assert!(is_closed(&mut reader));
}

/// Without these two rights a user may have so many descriptors in sockets as a process may have open.
fn drop_rights() {
    const SYS_ADMIN: u32 = 1 << 21;
    const SYS_RESOURCE: u32 = 1 << 24;
    let mut header = [0x2008_0522u32, 0]; // version 3, this thread
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: header and sets of version 3, alive and writable.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
        sets[0].iter_mut().for_each(|set| *set &= !(SYS_ADMIN | SYS_RESOURCE));
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
    }
}

#[test]
fn too_many_descriptors_on_their_way_are_no_room_and_no_failure() {
    let _test = begin(60);
    let queue = Queue::<(u32, Descriptor)>::new().unwrap();
    let (end, _reader) = token();
    let put = shared::<AtomicU32>();
    let mut child = fork(|| {
        limit_descriptors(40);
        drop_rights();
        for i in 0..200 {
            queue.put((i, end.clone())).unwrap();
            put.store(i + 1, SeqCst);
        }
        flush(&queue);
    });
    until(|| put.load(SeqCst) == 200);
    assert_eq!(queue.len(), 200);
    (0..200).for_each(|i| assert_eq!(queue.get_timeout(Duration::from_secs(10)).unwrap().0, i));
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn putter_without_descriptors_keeps_a_large_item() {
    let _test = begin(30);
    let queue = Queue::<Vec<u8>>::new().unwrap();
    let status = with_limit(limit_with(20), || {
        queue.put(vec![1; 10]).unwrap();
        let _hole: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let error = queue.put(vec![2; 100_000]).unwrap_err();
        assert!(matches!(error.fault, PutFault::Descriptors(_)), "{error}");
        assert_eq!(error.into_value().len(), 100_000);
    });
    assert_eq!(status, Status::Code(0));
    assert_eq!((queue.get().unwrap().len(), queue.len()), (10, 0));
}

#[test]
fn items_of_any_size_come_whole() {
    let _test = begin(60);
    let queue = Queue::<()>::options().max_message(5 << 20).create().unwrap();
    let sizes = [0, 1, 1000, 65_535, 65_536, 65_537, 200 << 10, (1 << 20) + 1, 5 << 20, 70_000, 3];
    let mut child = fork(|| {
        for (i, size) in sizes.into_iter().cycle().take(100).enumerate() {
            queue.put_bytes(&vec![i as u8; size]).unwrap();
        }
        flush(&queue);
    });
    let mut item = Vec::new();
    for (i, size) in sizes.into_iter().cycle().take(100).enumerate() {
        queue.get_bytes_into(&mut item).unwrap();
        assert_eq!(item.len(), size);
        assert!(item.iter().all(|&byte| byte == i as u8));
    }
    assert_eq!(child.wait(), Status::Code(0));
    let error = queue.put_bytes(&vec![0; (5 << 20) + 1]).unwrap_err();
    assert!(matches!(error, PutFault::TooLarge { bytes: 5_242_881, limit: 5_242_880 }), "{error}");
}

/// A putter's blobs come back to it, and what waits is bytes.
#[test]
fn large_items_take_few_descriptors() {
    let _test = begin(60);
    let queue = Queue::<()>::new().unwrap();
    let before = census().len();
    for round in 0..20 {
        queue.put_bytes(&[round; 200 << 10]).unwrap();
        assert_eq!(queue.get_bytes().unwrap(), [round; 200 << 10]);
    }
    assert_eq!(census().len(), before + 1);
    (0..50).for_each(|i| queue.put_bytes(&[i; 200 << 10]).unwrap());
    assert!(census().len() <= before + 8);
    (0..50).for_each(|i| assert_eq!(queue.get_bytes().unwrap(), [i; 200 << 10]));
    assert!(census().len() <= before + 8);
}

#[test]
fn large_item_has_handles_too() {
    let _test = begin(20);
    let queue = Queue::<(Vec<u64>, Descriptor)>::bounded(3).unwrap();
    let (end, mut reader) = token();
    queue.put((vec![5; 100_000], end)).unwrap();
    let (words, end) = queue.get().unwrap();
    assert_eq!(words, vec![5; 100_000]);
    end.try_into_file().unwrap().write_all(b"x").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn batches_keep_the_order_of_items_with_handles() {
    let _test = begin(30);
    let queue = Queue::<(u32, Option<Descriptor>)>::new().unwrap();
    let (end, mut reader) = token();
    queue.put_many((0..100).map(|i| (i, (i % 7 == 3).then(|| end.clone()))).collect()).unwrap();
    drop(end);
    let mut next = 0;
    while next < 100 {
        for (number, handle) in queue.get_many(16).unwrap() {
            assert_eq!((number, handle.is_some()), (next, next % 7 == 3));
            next += 1;
        }
    }
    assert!(is_closed(&mut reader));
}

#[test]
fn immediate_shutdown_closes_the_handles_in_the_queue() {
    let _test = begin(30);
    let queue = Queue::<Descriptor>::new().unwrap();
    let (end, mut reader) = token();
    (0..500).for_each(|_| queue.put(end.clone()).unwrap());
    drop(end);
    assert_eq!(queue.shutdown_now(), 500);
    until(|| is_closed(&mut reader));
}

#[test]
fn bytes_of_an_item_with_handles_come_without_them() {
    let _test = begin(20);
    let queue = Queue::<(u32, Descriptor)>::new().unwrap();
    let (end, mut reader) = token();
    queue.put((77, end)).unwrap();
    assert_eq!(queue.get_bytes().unwrap()[..4], 77u32.to_le_bytes());
    assert!(is_closed(&mut reader));
}

#[test]
fn two_hundred_queues_fit_the_usual_limit_of_descriptors() {
    let _test = begin(30);
    let status = with_limit(1024, || {
        let queues: Vec<_> = (0..200).map(|_| Queue::<u32>::new().unwrap()).collect();
        queues.iter().for_each(|queue| queue.put(1).unwrap());
        queues.iter().for_each(|queue| assert_eq!(queue.get().unwrap(), 1));
    });
    assert_eq!(status, Status::Code(0));
}

#[test]
fn queue_uses_memory_as_far_as_it_was_filled() {
    let _test = begin(20);
    let queue = Queue::<()>::new().unwrap();
    let memory = File::from(common::pack(&queue).1.remove(0));
    let used = || memory.metadata().unwrap().blocks() * 512;
    assert_eq!(used(), 4096);
    queue.put_bytes(&[1; 64]).unwrap();
    assert_eq!(used(), 8192);
}

#[test]
fn item_with_a_handle_is_a_task() {
    let _test = begin(20);
    let queue = JoinableQueue::<(Descriptor, Vec<u8>)>::new().unwrap();
    let (end, mut reader) = token();
    queue.put((end.clone(), vec![])).unwrap();
    queue.put((end, vec![1; 100_000])).unwrap();
    (0..2).for_each(|_| drop(queue.get().unwrap()));
    assert_eq!(queue.unfinished(), 2);
    (0..2).for_each(|_| queue.task_done().unwrap());
    queue.join().unwrap();
    assert!(is_closed(&mut reader));
}

/// With each number of descriptors free, from none up to enough.
#[test]
fn every_shortage_of_descriptors_is_told_and_loses_nothing() {
    let _test = begin(60);
    let (end, mut reader) = token();
    for free in 0..10 {
        let queue = Queue::<(u32, Vec<Descriptor>, Vec<u8>)>::new().unwrap();
        let ends = |count: usize| (0..count).map(|_| OwnedFd::from(duplicate(&end)).into()).collect();
        queue.put((0, ends(3), vec![])).unwrap();
        queue.put((1, vec![], vec![1; 100_000])).unwrap();
        queue.put((2, ends(4), vec![2; 100_000])).unwrap();
        let told = shared::<AtomicU32>();
        let status = with_limit(limit_with(free), || {
            let before = open_descriptors();
            while let Ok((number, ends, _)) = match queue.try_get() {
                Err(GetError::Descriptors(_)) => return, // it stays
                taken => taken,
            } {
                assert_eq!(ends.len(), [3, 0, 4][number as usize]);
                drop(ends);
                assert!(
                    (before..=before + 2).contains(&open_descriptors()),
                    "but for the memory of large items"
                );
                told.fetch_add(1, SeqCst);
            }
            match queue.try_put((3, vec![end.clone()], vec![3; 100_000])) {
                Ok(()) => _ = told.fetch_add(100, SeqCst),
                Err(error) => assert!(matches!(error.fault, PutFault::Descriptors(_)), "{error}"),
            }
        });
        assert_eq!(status, Status::Code(0), "{free} free");
        let told = told.load(SeqCst);
        assert_eq!(queue.len() as u32, 3 - told % 100 + told / 100, "{free} free");
        assert!(
            told % 100
                == if free < 3 {
                    0
                } else if free < 5 {
                    2
                } else {
                    3
                },
            "{free} free, {told} got"
        );
        queue.try_iter().for_each(|item| drop(item.unwrap()));
    }
    drop(end);
    assert!(is_closed(&mut reader));
}

fn duplicate(end: &Descriptor) -> File {
    File::from(end.as_fd().try_clone_to_owned().unwrap())
}

/// Both ends of the socket beside the ring.
fn side<T>(queue: &Queue<T>) -> [OwnedFd; 2] {
    let mut descriptors = common::pack(queue).1;
    let out = descriptors.pop().unwrap();
    [descriptors.pop().unwrap(), out]
}

/// The bytes of the packet in front, whose descriptors are lost.
fn steal(out: &OwnedFd) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: so many bytes, alive and writable.
    let length = unsafe { libc::recv(out.as_raw_fd(), bytes.as_mut_ptr().cast(), 16, libc::MSG_DONTWAIT) };
    (length == 16).then_some(bytes)
}

fn nonce(packet: [u8; 16]) -> u64 {
    u64::from_ne_bytes(packet[8..].try_into().unwrap())
}

/// Ten thousand of them, with items and between items.
#[test]
fn descriptors_smuggled_in_are_closed() {
    let _test = begin(60);
    let queue = Queue::<Descriptor>::new().unwrap();
    let (end, mut reader) = token();
    let [into, out] = side(&queue);
    let into = Socket::of(Arc::new(into)).unwrap();
    let before = census().len();
    for _ in 0..20 {
        queue.put(end.clone()).unwrap();
        let nonce = nonce(steal(&out).unwrap());
        into.send(nonce.wrapping_sub(1), &[end.as_fd(); 250]).unwrap();
        into.send(nonce, &[end.as_fd(); 250]).unwrap();
        drop(queue.get().unwrap());
        assert_eq!(census().len(), before);
    }
    queue.put(end.clone()).unwrap();
    drop(queue.get().unwrap());
    drop(end);
    assert!(is_closed(&mut reader));
}

#[test]
fn item_whose_packet_was_stolen_is_an_error_and_blocks_nobody() {
    let _test = begin(30);
    let queue = Queue::<(u32, Option<Descriptor>, Vec<u8>)>::new().unwrap();
    let (end, mut reader) = token();
    let [_, out] = side(&queue);
    queue.put((1, Some(end.clone()), vec![])).unwrap();
    queue.put((2, None, vec![0; 100_000])).unwrap();
    queue.put((3, Some(end), vec![])).unwrap();
    (0..2).for_each(|_| assert!(steal(&out).is_some()));
    assert!(matches!(queue.get(), Err(GetError::Decode { .. })));
    assert!(matches!(queue.get(), Err(GetError::Lost)));
    assert_eq!(queue.get().unwrap().0, 3);
    assert!(is_closed(&mut reader));
}

/// So long the strangers rage; `RAGE_SECONDS` makes it longer.
fn rage() -> Duration {
    let seconds = std::env::var("RAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// Every call comes back before long.
fn bear_it(queue: &Queue<(u32, Option<Descriptor>, Vec<u8>)>, end: &Descriptor) {
    let mut rng = Rng::new(seed());
    let start = Instant::now();
    while start.elapsed() < rage() {
        let call = Instant::now();
        let length = [0, 50, 100_000][rng.below(3) as usize];
        let handle = (rng.below(2) == 0).then(|| end.clone());
        let _ = queue.try_put((1, handle, vec![1; length]));
        let _ = queue.try_get();
        let _ = queue.get_timeout(Duration::from_millis(1));
        assert!(call.elapsed() < Duration::from_secs(10), "a call took {:?}", call.elapsed());
    }
}

/// Runs two users beside a stranger; then nothing may be left of the descriptors that went through the queue.
fn with_stranger(stranger: impl Fn(&Queue<(u32, Option<Descriptor>, Vec<u8>)>, &Descriptor, &mut Rng)) {
    let queue = Queue::options().ring_bytes(1 << 14).max_message(1 << 20).create().unwrap();
    let (end, mut reader) = token();
    let mut neighbour = fork(|| {
        let mut rng = Rng::new(seed());
        loop {
            stranger(&queue, &end, &mut rng);
        }
    });
    let mut user = fork(|| bear_it(&queue, &end));
    let before = census().len();
    bear_it(&queue, &end);
    assert!(census().len() <= before + 16, "beside the memory that is kept for large items");
    assert_eq!(user.wait(), Status::Code(0));
    neighbour.kill9();
    queue.cancel_join_thread();
    queue.close();
    drop((queue, end));
    until(|| is_closed(&mut reader));
}

#[test]
fn raging_stranger_at_the_socket_neither_hangs_nor_breaks_us() {
    let _test = begin(60 + 3 * rage().as_secs());
    with_stranger(|queue, end, rng| {
        static SIDE: OnceLock<[OwnedFd; 2]> = OnceLock::new();
        let [into, out] = SIDE.get_or_init(|| side(queue));
        let packet = steal(out).unwrap_or_default();
        let socket = Socket::of(Arc::new(into.try_clone().unwrap())).unwrap();
        let near = nonce(packet) ^ (rng.next() >> rng.below(64));
        let _ = socket.send(near, &vec![end.as_fd(); 1 + rng.below(4) as usize]);
        let mut bytes = packet;
        bytes[rng.below(16) as usize] ^= rng.next() as u8;
        let length = rng.below(17) as usize;
        // SAFETY: so many bytes, alive and only read.
        unsafe { libc::send(into.as_raw_fd(), bytes.as_ptr().cast(), length, libc::MSG_DONTWAIT) };
    });
}

/// Random words over all of the memory, the locks and the rest.
#[test]
fn raging_stranger_in_the_memory_neither_hangs_nor_breaks_us() {
    let _test = begin(60 + 3 * rage().as_secs());
    with_stranger(|queue, _, rng| {
        static MEMORY: OnceLock<Arc<Mapping>> = OnceLock::new();
        let memory = MEMORY.get_or_init(|| common::memory(queue));
        let size = if rng.below(2) == 0 { 4096 } else { memory.size() };
        let offset = 4 * rng.below(size as u64 / 4 - 1) as usize;
        let word = rng.next() >> rng.below(64);
        memory.write(offset, &word.to_ne_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(rng.below(200))); // so that they get somewhere
    });
}

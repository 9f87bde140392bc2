//! What a segment is to those who have it: bytes, bounds, clones, seals, and how long its name lives.
#![allow(unsafe_code)] // slices, and resizing behind the back of a mapping

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering::Relaxed;

use ipc_shm::{CreateError, OpenError, OutOfBounds, SharedMemory};
use support::{fork, unique};

/// Each kind of segment there is.
fn each_kind(size: usize) -> [SharedMemory; 4] {
    [
        SharedMemory::create(&unique("kind"), size).unwrap(),
        SharedMemory::options().name(unique("kind")).size(size).create().unwrap(),
        SharedMemory::create_random(size).unwrap(),
        SharedMemory::anonymous(size).unwrap(),
    ]
}

fn exists(name: &str) -> bool {
    std::fs::symlink_metadata(format!("/dev/shm/{name}")).is_ok()
}

#[test]
fn new_segment_has_the_size_asked_for_and_is_zero() {
    let _test = support::test(20);
    for size in [1, 7, 4096, 100_000] {
        for segment in each_kind(size) {
            let mut bytes = vec![1; size];
            segment.read(0, &mut bytes).unwrap();
            assert_eq!(segment.len(), size);
            assert!(!segment.is_empty());
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn what_one_handle_writes_the_other_reads() {
    let _test = support::test(20);
    let mine = SharedMemory::create(&unique("bytes"), 1000).unwrap();
    let theirs = SharedMemory::open(mine.name().unwrap()).unwrap();
    for (offset, length) in [(0, 1), (3, 9), (1, 700), (992, 8), (1000, 0)] {
        let sent: Vec<u8> = (0..length).map(|i| (i + offset) as u8).collect();
        let mut got = vec![0; length];
        mine.write(offset, &sent).unwrap();
        theirs.read(offset, &mut got).unwrap();
        assert_eq!(sent, got);
    }
}

#[test]
fn another_process_sees_the_same_bytes() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("child"), 64).unwrap();
    let name = segment.name().unwrap().to_owned();
    let mut child = fork(|| {
        let same = SharedMemory::open(&name).unwrap();
        same.write(8, b"from the child").unwrap();
        same.atomic_u32(0).unwrap().fetch_add(41, Relaxed);
    });
    segment.atomic_u32(0).unwrap().fetch_add(1, Relaxed);
    assert_eq!(child.wait(), support::Status::Code(0));
    let mut bytes = [0; 14];
    segment.read(8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"from the child");
    assert_eq!(segment.atomic_u32(0).unwrap().load(Relaxed), 42);
}

#[test]
fn ranges_outside_are_refused_and_nothing_is_copied() {
    let _test = support::test(20);
    for segment in each_kind(100) {
        for (offset, length) in [(100, 1), (93, 8), (0, 101), (usize::MAX, 1), (usize::MAX, 0), (101, 0)] {
            let mut bytes = vec![9; length];
            let refused = OutOfBounds { offset, length, size: 100 };
            assert_eq!(segment.read(offset, &mut bytes), Err(refused));
            assert_eq!(segment.write(offset, &bytes), Err(refused));
            assert!(bytes.iter().all(|byte| *byte == 9));
        }
        let mut all = [1; 100];
        segment.read(0, &mut all).unwrap();
        assert_eq!(all, [0; 100]);
    }
}

#[test]
fn atomics_outside_or_misaligned_are_refused() {
    let _test = support::test(20);
    for segment in each_kind(100) {
        assert!(segment.atomic_u32(96).is_ok());
        assert!(segment.atomic_u64(88).is_ok());
        for offset in [1, 2, 98, 100, usize::MAX, usize::MAX - 3] {
            assert!(segment.atomic_u32(offset).is_err(), "{offset}");
        }
        for offset in [4, 96, 100, usize::MAX - 7] {
            assert!(segment.atomic_u64(offset).is_err(), "{offset}");
        }
    }
}

#[test]
fn sizes_no_segment_can_have_are_told_apart() {
    let _test = support::test(20);
    let makers: [&dyn Fn(usize) -> Result<SharedMemory, CreateError>; 4] = [
        &|size| SharedMemory::create(&unique("size"), size),
        &SharedMemory::create_random,
        &SharedMemory::anonymous,
        &|size| SharedMemory::options().size(size).create(),
    ];
    for make in makers {
        assert!(matches!(make(0), Err(CreateError::ZeroSize)));
        for size in [usize::MAX, isize::MAX as usize + 1] {
            assert!(matches!(make(size), Err(CreateError::TooLarge { size: told }) if told == size));
        }
        assert!(make(isize::MAX as usize).is_err());
    }
}

#[test]
fn slices_show_the_bytes_in_place() {
    let _test = support::test(20);
    for mut segment in each_kind(5000) {
        // SAFETY: nobody else has these segments, and each slice is gone before the next use.
        unsafe { segment.as_mut_slice()[4999] = 7 };
        // SAFETY: as above.
        let bytes = unsafe { segment.as_slice() };
        assert_eq!((bytes.len(), bytes[4999]), (5000, 7));
    }
}

#[test]
fn segment_opened_twice_is_mapped_once() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("once"), 4096).unwrap();
    let name = segment.name().unwrap().to_owned();
    let before = support::census().len();
    let again = SharedMemory::open(&name).unwrap();
    let third = again.clone();
    assert_eq!(segment.mapping().base(), again.mapping().base());
    assert_eq!(support::census().len(), before, "no second descriptor either");
    drop(segment);
    assert!(!exists(&name));
    third.write(0, b"still there").unwrap();
}

#[test]
fn name_goes_with_the_last_clone_of_its_creator() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("owner"), 16).unwrap();
    let name = segment.name().unwrap().to_owned();
    let opener = SharedMemory::open(&name).unwrap();
    drop(opener);
    assert!(exists(&name), "an opener owns nothing");
    let clone = segment.clone();
    drop(segment);
    assert!(exists(&name));
    drop(clone);
    assert!(!exists(&name));
    assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound)));
}

#[test]
fn name_goes_when_a_panic_unwinds() {
    let _test = support::test(20);
    let name = unique("panic");
    let panicked = std::panic::catch_unwind(|| {
        let _segment = SharedMemory::create(&name, 16).unwrap();
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.is_err());
    assert!(!exists(&name));
}

#[test]
fn forked_childs_copy_does_not_remove_the_name() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("fork"), 16).unwrap();
    let copy = segment.clone();
    let mut copy = Some(copy);
    let mut segment = Some(segment);
    let name = segment.as_ref().unwrap().name().unwrap().to_owned();
    fork(|| {
        drop(copy.take());
        drop(segment.take());
    })
    .wait();
    assert!(exists(&name));
    drop((segment, copy));
    assert!(!exists(&name));
}

#[test]
fn creator_leaves_a_name_alone_that_leads_to_another_segment_by_now() {
    let _test = support::test(20);
    let first = SharedMemory::create(&unique("again"), 16).unwrap();
    let name = first.name().unwrap().to_owned();
    first.unlink().unwrap();
    let second = SharedMemory::create(&name, 16).unwrap();
    assert_eq!(first.unlink().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    drop(first);
    assert!(exists(&name));
    second.unlink().unwrap();
    assert!(!exists(&name));
}

#[test]
fn anonymous_segment_has_no_name_to_remove_or_keep() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(16).unwrap();
    assert_eq!(segment.name(), None);
    assert_eq!(segment.unlink().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(segment.persist().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn random_names_differ_and_are_found() {
    let _test = support::test(20);
    let [a, b] = [16, 16].map(|size| SharedMemory::create_random(size).unwrap());
    let name = a.name().unwrap();
    assert_ne!(Some(name), b.name());
    let digits = name.strip_prefix("mp_").unwrap();
    assert_eq!(digits.len(), 32);
    assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    a.write(0, b"a").unwrap();
    let mut byte = [0];
    SharedMemory::open(name).unwrap().read(0, &mut byte).unwrap();
    assert_eq!(&byte, b"a");
}

#[test]
fn peer_cannot_resize_an_anonymous_segment() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(8192).unwrap();
    let descriptor = segment.mapping().as_fd().try_clone_to_owned().unwrap();
    assert!(segment.mapping().is_sealed());
    let mut child = fork(|| {
        for size in [0, 4096, 8191, 8193, 1 << 20] {
            // SAFETY: two numbers.
            let result = unsafe { libc::ftruncate(descriptor.as_raw_fd(), size) };
            assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EPERM)));
        }
    });
    assert_eq!(child.wait(), support::Status::Code(0));
    segment.write(8191, b"x").unwrap();
}

#[test]
fn descriptors_are_not_inherited_by_other_programs() {
    let _test = support::test(20);
    for segment in each_kind(16) {
        // SAFETY: numbers; the descriptor lives as long as the segment.
        let flags = unsafe { libc::fcntl(segment.mapping().as_fd().as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}

//! Typed segments: a header tells a stranger from one of ours, and a stranger is not touched.
#![allow(unsafe_code)] // a memfd that is not sealed

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ipc_shm::{HEADER_SIZE, HeaderError, Kind, Mapping, NameError, Origin, Segment, SharedMemory};
use ipc_shm::{header_bytes, layout_hash};
use support::unique;

const KIND: Kind = Kind::new(*b"TEST", "typed 1: u64 count");
const SIZE: usize = HEADER_SIZE + 64;

fn good() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..HEADER_SIZE].copy_from_slice(&header_bytes(KIND, SIZE, 77));
    bytes
}

/// A file in /dev/shm with these bytes, removed on drop.
struct Named(String);

impl Named {
    fn new(bytes: &[u8]) -> Named {
        let named = Named(unique("typed"));
        fs::write(named.path(), bytes).unwrap();
        fs::set_permissions(named.path(), fs::Permissions::from_mode(0o600)).unwrap();
        named
    }

    fn path(&self) -> String {
        format!("/dev/shm/{}", self.0)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        fs::remove_file(self.path()).unwrap();
    }
}

/// Opens these bytes as a typed segment by every way there is; all say the same, and leave the bytes alone.
#[track_caller]
fn open(bytes: &[u8]) -> Result<Segment, HeaderError> {
    let file = Named::new(bytes);
    let named = Segment::named(&file.0, KIND, 64, 0).map(|(segment, _)| segment);
    let leased = SharedMemory::open(&file.0).map(|segment| Segment::check(segment.mapping().clone(), KIND));
    assert_eq!(fs::read(file.path()).unwrap(), bytes);
    let sealed = Mapping::anonymous(c"typed", bytes.len()).unwrap();
    sealed.write(0, bytes).unwrap();
    let anonymous = Segment::open(sealed.descriptor().clone(), KIND);
    let text = |result: Result<Segment, HeaderError>| result.map(drop).map_err(|error| error.to_string());
    let named = named.map_err(|error| match error {
        NameError::Header(error) => error,
        other => panic!("{other}"),
    });
    let expected = text(leased.unwrap());
    assert_eq!(text(anonymous), expected);
    assert_eq!(named.as_ref().map(drop).map_err(ToString::to_string), expected);
    named
}

fn with(offset: usize, bytes: &[u8]) -> [u8; SIZE] {
    let mut all = good();
    all[offset..offset + bytes.len()].copy_from_slice(bytes);
    all
}

#[test]
fn segment_of_its_kind_is_opened() {
    let _test = support::test(20);
    let segment = open(&good()).unwrap();
    assert_eq!((segment.size(), segment.registry()), (64, 77));
}

#[test]
fn each_flipped_byte_of_the_header_is_noticed() {
    let _test = support::test(20);
    for offset in 0..48 {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good();
            bytes[offset] ^= flip;
            let result = open(&bytes);
            let told = match offset {
                0..8 => matches!(result, Err(HeaderError::Magic)),
                8..12 => matches!(result, Err(HeaderError::Version { .. })),
                12..16 => matches!(result, Err(HeaderError::Kind { .. })),
                16..24 => matches!(result, Err(HeaderError::Layout)),
                24..32 => matches!(result, Err(HeaderError::Size { .. } | HeaderError::TooShort { .. })),
                _ => result.as_ref().is_ok_and(|segment| segment.registry() != 77),
            };
            assert!(told, "byte {offset}: {result:?}");
        }
    }
}

#[test]
fn each_field_is_told_by_its_own_error() {
    let _test = support::test(20);
    let mut other_endian: [u8; 8] = good()[..8].try_into().unwrap();
    other_endian.reverse();
    assert!(matches!(open(&with(0, &other_endian)), Err(HeaderError::Magic)));
    assert!(matches!(open(&with(8, &9u32.to_ne_bytes())), Err(HeaderError::Version { found: 9 })));
    assert!(matches!(open(&with(12, b"LOCK")), Err(HeaderError::Kind { found }) if &found == b"LOCK"));
    assert!(matches!(open(&with(16, &layout_hash("typed 2").to_ne_bytes())), Err(HeaderError::Layout)));
    let file = SIZE as u64;
    let smaller = open(&with(24, &150u64.to_ne_bytes()));
    assert!(matches!(smaller, Err(HeaderError::Size { header: 150, file: told }) if told == file));
    let larger = open(&with(24, &(1u64 << 40).to_ne_bytes()));
    assert!(matches!(larger, Err(HeaderError::TooShort { size, need }) if size == file && need == 1 << 40));
}

#[test]
fn file_shorter_than_a_header_or_than_it_says_is_refused() {
    let _test = support::test(20);
    for size in [1, 8, HEADER_SIZE - 1] {
        let told = open(&good()[..size]);
        assert!(matches!(told, Err(HeaderError::TooShort { size: told, need: 128 }) if told == size as u64));
    }
    for size in [HEADER_SIZE, SIZE - 1] {
        let told = open(&good()[..size]);
        assert!(matches!(told, Err(HeaderError::TooShort { size: told, .. }) if told == size as u64));
    }
    let mut longer = good().to_vec();
    longer.push(0);
    assert!(matches!(open(&longer), Err(HeaderError::Size { .. })));
}

#[test]
fn random_bytes_are_never_a_segment() {
    let _test = support::test(20);
    let mut rng = support::Rng::new(support::seed());
    for _ in 0..200 {
        let size = 1 + rng.below(300) as usize;
        let bytes: Vec<u8> = (0..size).map(|_| rng.next() as u8).collect();
        assert!(open(&bytes).is_err());
    }
}

#[test]
fn stranger_under_a_leased_name_is_an_error_and_stays() {
    let _test = support::test(20);
    let file = Named::new(b"somebody's, and not a header at all");
    let result = Segment::leased(&file.0, KIND, 64, 0, |_| panic!("nothing is made"));
    assert!(matches!(result, Err(NameError::Header(HeaderError::TooShort { .. }))));
    assert_eq!(fs::read(file.path()).unwrap(), b"somebody's, and not a header at all");
}

#[test]
fn living_segment_of_another_kind_is_an_error_and_stays() {
    let _test = support::test(20);
    let other = Kind::new(*b"ELSE", "else");
    let name = unique("kind");
    let (segment, _) = Segment::leased(&name, other, 64, 0, |_| ()).unwrap();
    let result = Segment::leased(&name, KIND, 64, 0, |_| ());
    assert!(matches!(result, Err(NameError::Header(HeaderError::Kind { found })) if &found == b"ELSE"));
    let (_, origin) = Segment::leased(&name, other, 64, 0, |_| ()).unwrap();
    assert_eq!(origin, Origin::Opened);
    drop(segment);
}

#[test]
fn memory_a_peer_can_still_shrink_is_refused() {
    let _test = support::test(20);
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
    file.write_all(&good()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let result = Segment::open(Arc::new(OwnedFd::from(file)), KIND);
    assert!(matches!(result, Err(HeaderError::NotSealed)));
}

#[test]
fn views_count_from_the_body_and_stay_inside() {
    let _test = support::test(20);
    let segment = Segment::create(c"typed", KIND, 64, 5).unwrap();
    let same = Segment::open(segment.mapping().descriptor().clone(), KIND).unwrap();
    segment.view::<AtomicU64>(56).unwrap().store(3, Relaxed);
    assert_eq!(same.view::<[AtomicU32; 2]>(56).unwrap()[0].load(Relaxed), 3);
    for offset in [57, 60, 64, usize::MAX, usize::MAX - HEADER_SIZE] {
        let error = segment.view::<AtomicU64>(offset).unwrap_err();
        assert_eq!((error.offset, error.size), (offset, 64));
    }
    assert!(segment.view::<[AtomicU64; 8]>(0).is_ok());
    assert!(segment.view::<[AtomicU64; 9]>(0).is_err());
}

#[test]
fn layouts_hash_as_they_are_told() {
    let _test = support::test(20);
    assert_eq!(layout_hash(""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(layout_hash("a"), 0xaf63_dc4c_8601_ec8c);
    assert_ne!(layout_hash("u32 a, u64 b"), layout_hash("u64 a, u32 b"));
}

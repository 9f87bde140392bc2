//! Handles inside messages: slots, tables, outcomes, and what a receiver refuses.
#![allow(unsafe_code)] // a memfd that is not sealed

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;

use bincode::config;
use ipc_shm::handle::{self, Incoming, LendError, NoSuchSlot, Outgoing, Sending};
use ipc_shm::{Descriptor, HeaderError, Kind, Mapping, OpenError, ParcelError, Segment, SharedMemory};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use support::{Status, fork, unique};

type Refusal = Box<dyn std::error::Error>;

/// A message on its way: what a transport would write, and the descriptors it would send beside.
struct Message {
    bytes: Vec<u8>,
    sending: Sending,
}

fn pack(value: &impl Serialize) -> Result<Message, Refusal> {
    let table = Outgoing::open();
    let bytes = bincode::serde::encode_to_vec(value, config::standard())?;
    Ok(Message { bytes, sending: table.finish() })
}

impl Message {
    /// As many receivers as there are calls: each gets descriptors of its own, as from the kernel.
    fn receive<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        unpack(&self.bytes, self.sending.descriptors().map(|fd| fd.try_clone_to_owned().unwrap()).collect())
    }
}

fn unpack<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<T, Refusal> {
    let _table = Incoming::open(descriptors);
    Ok(bincode::serde::decode_from_slice(bytes, config::standard())?.0)
}

/// What [`SharedMemory`] looks like inside a message.
type Parcel = (Option<u32>, Option<String>, u64);

fn receive_parcel(parcel: &Parcel, descriptors: Vec<OwnedFd>) -> Result<SharedMemory, Refusal> {
    unpack(&bincode::serde::encode_to_vec(parcel, config::standard())?, descriptors)
}

#[track_caller]
fn refused<T>(result: Result<T, Refusal>, why: &str) {
    let error = result.err().expect("it is refused").to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn segment_received_is_the_segment_sent() {
    let _test = support::test(20);
    let named = SharedMemory::create(&unique("sent"), 100).unwrap();
    for segment in [named, SharedMemory::anonymous(100).unwrap()] {
        let received: SharedMemory = pack(&segment).unwrap().receive().unwrap();
        segment.write(50, b"hello").unwrap();
        let mut bytes = [0; 5];
        received.read(50, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!((received.len(), received.name()), (100, segment.name()));
    }
}

#[test]
fn segment_received_twice_is_mapped_once() {
    let _test = support::test(20);
    let message = pack(&SharedMemory::anonymous(4096).unwrap()).unwrap();
    let first: SharedMemory = message.receive().unwrap();
    let before = support::census().len();
    let second: SharedMemory = message.receive().unwrap();
    let (a, b): (SharedMemory, SharedMemory) = pack(&(&first, &second)).unwrap().receive().unwrap();
    for segment in [&second, &a, &b] {
        assert_eq!(segment.mapping().base(), first.mapping().base());
    }
    assert_eq!(support::census().len(), before);
}

#[test]
fn another_process_writes_what_it_received() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(4096).unwrap();
    let message = pack(&segment).unwrap();
    let mut child = fork(|| {
        let received: SharedMemory = message.receive().unwrap();
        received.write(4091, b"child").unwrap();
    });
    assert_eq!(child.wait(), Status::Code(0));
    let mut bytes = [0; 5];
    segment.read(4091, &mut bytes).unwrap();
    assert_eq!(&bytes, b"child");
}

#[test]
fn receiver_owns_no_name() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("owner"), 16).unwrap();
    let received: SharedMemory = pack(&segment).unwrap().receive().unwrap();
    drop(received);
    assert!(SharedMemory::open(segment.name().unwrap()).is_ok());
}

#[test]
fn handle_may_be_dropped_before_its_message_is_sent() {
    let _test = support::test(20);
    let message = pack(&SharedMemory::anonymous(77).unwrap()).unwrap();
    assert_eq!(message.receive::<SharedMemory>().unwrap().len(), 77);
}

#[test]
fn equal_handles_share_a_slot() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(16).unwrap();
    let file = Descriptor::from(File::open("/dev/null").unwrap());
    let message = pack(&(&segment, &file, segment.clone(), file.clone(), &segment)).unwrap();
    assert_eq!(message.sending.descriptors().len(), 2);
    let (a, _, _, _, b): (SharedMemory, Descriptor, SharedMemory, Descriptor, SharedMemory) =
        message.receive().unwrap();
    assert_eq!(a.mapping().base(), b.mapping().base());
}

#[test]
fn any_descriptor_is_a_handle() {
    let _test = support::test(20);
    let (mut near, far) = UnixStream::pair().unwrap();
    let message = pack(&vec![Some(Descriptor::from(OwnedFd::from(far)))]).unwrap();
    let received: Vec<Option<Descriptor>> = message.receive().unwrap();
    drop(message);
    let mut far = received.into_iter().flatten().next().unwrap().try_into_file().unwrap();
    far.write_all(b"ping").unwrap();
    drop(far);
    let mut got = String::new();
    near.read_to_string(&mut got).unwrap();
    assert_eq!(got, "ping");
}

#[test]
fn handle_outside_a_message_is_a_clear_error() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(16).unwrap();
    let alone =
        |value: &dyn Fn() -> Result<Vec<u8>, bincode::error::EncodeError>| value().unwrap_err().to_string();
    let told = alone(&|| bincode::serde::encode_to_vec(&segment, config::standard()));
    assert!(told.contains("inside a message"), "{told}");
    assert_eq!(handle::lend(segment.mapping().descriptor()), Err(LendError::NoMessage));
    assert_eq!(handle::on_outcome(|_| panic!("never called")), Err(LendError::NoMessage));
    assert_eq!(handle::take(0).unwrap_err(), NoSuchSlot { slot: 0 });
}

/// A value that sends a message of its own while it is being serialized.
struct Nested<'a>(&'a SharedMemory, &'a SharedMemory);

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = pack(self.0).unwrap();
        assert_eq!(inner.sending.descriptors().len(), 1);
        assert_eq!(inner.receive::<SharedMemory>().unwrap().len(), self.0.len());
        self.1.serialize(serializer)
    }
}

#[test]
fn tables_stack() {
    let _test = support::test(20);
    let [inner, outer] = [10, 20].map(|size| SharedMemory::anonymous(size).unwrap());
    let message = pack(&(Nested(&inner, &outer), &outer)).unwrap();
    assert_eq!(message.sending.descriptors().len(), 1, "the inner message kept its own");
    let (a, b): (SharedMemory, SharedMemory) = message.receive().unwrap();
    assert_eq!((a.len(), b.len()), (20, 20));
}

/// A value that cannot be serialized.
struct Fails(bool);

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            true => std::panic::resume_unwind(Box::new("on purpose")),
            false => Err(serde::ser::Error::custom("on purpose")),
        }
    }
}

#[test]
fn error_or_panic_closes_the_table() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(16).unwrap();
    assert!(pack(&(&segment, Fails(false))).is_err());
    assert_eq!(handle::lend(segment.mapping().descriptor()), Err(LendError::NoMessage));
    let panicked = std::panic::catch_unwind(|| pack(&(&segment, Fails(true))).is_err());
    assert!(panicked.is_err());
    assert_eq!(handle::lend(segment.mapping().descriptor()), Err(LendError::NoMessage));
    assert_eq!(Arc::strong_count(segment.mapping().descriptor()), 1);
}

/// A handle that wants to know what became of its message.
struct Curious(Rc<Cell<Option<bool>>>);

impl Serialize for Curious {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let told = self.0.clone();
        handle::on_outcome(move |sent| assert_eq!(told.replace(Some(sent)), None)).unwrap();
        serializer.serialize_unit()
    }
}

#[test]
fn handles_learn_once_what_became_of_their_message() {
    let _test = support::test(20);
    let learn = |fate: &dyn Fn(&Curious)| {
        let told = Rc::new(Cell::new(None));
        fate(&Curious(told.clone()));
        told.get()
    };
    assert_eq!(learn(&|curious| pack(curious).unwrap().sending.sent()), Some(true));
    assert_eq!(learn(&|curious| drop(pack(curious).unwrap())), Some(false));
    assert_eq!(learn(&|curious| drop(pack(&(curious, Fails(false))))), Some(false));
    assert_eq!(learn(&|_| ()), None);
}

#[test]
fn outcome_may_use_the_tables_itself() {
    let _test = support::test(20);
    let segment = SharedMemory::anonymous(16).unwrap();
    let packed = Rc::new(Cell::new(0));
    let count = packed.clone();
    let table = Outgoing::open();
    handle::on_outcome(move |_| count.set(pack(&segment).unwrap().sending.descriptors().len())).unwrap();
    drop(table);
    assert_eq!(packed.get(), 1);
}

#[test]
fn descriptors_nobody_takes_are_closed() {
    let _test = support::test(20);
    let before = support::census().len();
    let table = Incoming::open((0..10).map(|_| File::open("/dev/null").unwrap().into()).collect());
    let taken = handle::take(3).unwrap();
    assert!(Arc::ptr_eq(&taken, &handle::take(3).unwrap()), "a slot may be taken many times");
    assert_eq!(handle::take(10).unwrap_err(), NoSuchSlot { slot: 10 });
    drop(table);
    assert_eq!(support::census().len(), before + 1);
    drop(taken);
    assert_eq!(handle::take(3).unwrap_err(), NoSuchSlot { slot: 3 });
}

/// A memfd; not the toolkit's own, so nothing seals it.
fn memfd(size: u64) -> OwnedFd {
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(size).unwrap();
    file.into()
}

fn sealed(size: usize) -> OwnedFd {
    let mapping = Mapping::anonymous(c"test", size).unwrap();
    mapping.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn segment_that_is_not_what_the_message_says_is_refused() {
    let _test = support::test(20);
    assert_eq!(receive_parcel(&(Some(0), None, 4096), vec![sealed(4096)]).unwrap().len(), 4096);
    for length in [0, 4095, 4097, u64::MAX] {
        refused(receive_parcel(&(Some(0), None, length), vec![sealed(4096)]), "not as long");
    }
    refused(receive_parcel(&(Some(0), None, 4096), vec![memfd(4096)]), "not sealed");
    refused(receive_parcel(&(Some(1), None, 4096), vec![sealed(4096)]), "did not come with it");
    for name in ["", "..", "a/b", "a\0b"] {
        refused(receive_parcel(&(Some(0), Some(name.into()), 4096), vec![sealed(4096)]), "name");
    }
}

#[test]
fn descriptor_that_is_not_memory_is_refused() {
    let _test = support::test(20);
    let (socket, _other) = UnixStream::pair().unwrap();
    let (pipe, _writer) = nix::unistd::pipe().unwrap();
    let read_only = File::open(std::env::current_exe().unwrap()).unwrap();
    let length = read_only.metadata().unwrap().len();
    let strangers: [OwnedFd; 6] = [
        socket.into(),
        pipe,
        File::open("/dev/zero").unwrap().into(),
        File::open("/").unwrap().into(),
        memfd(0),
        read_only.into(),
    ];
    for stranger in strangers {
        let number = stranger.as_raw_fd();
        let named = Some("name".to_owned());
        for size in [0, 4096, length] {
            let copies = vec![stranger.try_clone().unwrap()];
            assert!(receive_parcel(&(Some(0), named.clone(), size), copies).is_err(), "descriptor {number}");
        }
    }
}

/// A message that takes no descriptors.
fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    let _table = Outgoing::names_only();
    Ok(bincode::serde::encode_to_vec(value, config::standard())?)
}

#[test]
fn thing_with_a_name_travels_by_it_alone() {
    let _test = support::test(10);
    let segment = SharedMemory::create(&unique("by-name"), 64).unwrap();
    segment.write(0, b"here").unwrap();
    let bytes = bytes_of(&(&segment, 7)).unwrap();
    let mut child = fork(|| {
        let (received, seven): (SharedMemory, i32) = unpack(&bytes, Vec::new()).unwrap();
        let mut content = [0; 4];
        received.read(0, &mut content).unwrap();
        assert_eq!((&content, received.name(), seven), (b"here", segment.name(), 7));
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert!(unpack::<(SharedMemory, i32)>(&bytes, Vec::new()).is_ok());
    drop(segment);
    refused(unpack::<(SharedMemory, i32)>(&bytes, Vec::new()), "no segment of this name");
}

#[test]
fn thing_without_a_name_does_not_travel_by_name() {
    let _test = support::test(10);
    let segment = SharedMemory::anonymous(64).unwrap();
    refused(bytes_of(&segment), "without a name");
    refused(bytes_of(&Descriptor::from(File::open("/dev/null").unwrap())), "without a name");
    refused(receive_parcel(&(None, None, 64), Vec::new()), "did not come with it");
    let _table = Outgoing::names_only();
    assert!(pack(&segment).is_ok(), "a message inside it has a table of its own");
}

#[test]
fn typed_segment_travels_by_its_name_while_somebody_uses_it() {
    let _test = support::test(10);
    const KIND: Kind = Kind::new(*b"TEST", "test 1: u64");
    let (segment, _) = Segment::leased(&unique("typed"), KIND, 8, 5, |_| {}).unwrap();
    let parcel = || -> ipc_shm::Parcel {
        let _table = Outgoing::names_only();
        segment.pack().unwrap()
    };
    let (first, second) = (parcel(), parcel());
    let received = Segment::unpack(first.clone(), KIND).unwrap();
    assert_eq!((received.registry(), received.size()), (5, 8));
    let other = Kind::new(*b"ELSE", "another");
    assert!(matches!(Segment::unpack(first, other), Err(ParcelError::Header(HeaderError::Kind { .. }))));
    drop((segment, received));
    assert!(matches!(Segment::unpack(second, KIND), Err(ParcelError::Open(OpenError::NotFound))));
}

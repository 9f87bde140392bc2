//! Descriptors and shared things inside messages.
#![allow(unsafe_code)] // it changes limits and sends what nobody should

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use common::{bytes, limit_descriptors, peer, send_packet, socket};
use ipc_pipe::{Connection, RecvError, SendError, TryRecvError, pipe};
use ipc_shm::{Descriptor, SharedMemory};
use ipc_sync::Lock;
use support::{Status, census, fork};

fn null() -> Descriptor {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn file_and_memory_travel_inside_a_value() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| {
        let (name, file, memory): (String, Option<Descriptor>, Vec<SharedMemory>) = end.recv().unwrap();
        let mut text = String::new();
        file.unwrap().try_into_file().unwrap().read_to_string(&mut text).unwrap();
        memory[0].write(0, format!("{name}: {text}").as_bytes()).unwrap();
        end.send(&()).unwrap();
    });
    let (out, mut into) = std::os::unix::net::UnixStream::pair().unwrap();
    into.write_all(b"through a socket").unwrap();
    drop(into);
    let memory = SharedMemory::anonymous(4096).unwrap();
    end.send(&("a name", Some(Descriptor::from(OwnedFd::from(out))), vec![&memory])).unwrap();
    end.recv::<()>().unwrap();
    let mut found = [0; 24];
    memory.read(0, &mut found).unwrap();
    assert_eq!(&found, b"a name: through a socket");
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn lock_travels_and_is_one_lock() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| {
        let lock = Lock::new().unwrap();
        let guard = lock.lock().unwrap();
        end.send(&lock).unwrap();
        end.recv::<()>().unwrap();
        drop(guard);
        end.send(&()).unwrap();
        end.recv::<()>().ok();
    });
    let lock: Lock = end.recv().unwrap();
    assert!(lock.try_lock().is_err(), "its maker holds it");
    end.send(&()).unwrap();
    end.recv::<()>().unwrap();
    drop(lock.lock().unwrap());
    drop(end);
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn descriptors_are_close_on_exec_and_none_stays() {
    let _test = support::test(60);
    let (here, there) = pipe().unwrap();
    here.send(&0).unwrap(); // both sides are taken
    there.recv::<i32>().unwrap();
    let before = census();
    for size in [0, 1, 1000, 30_000] {
        let filler = bytes(size, 1);
        here.send(&(null(), null(), &filler)).unwrap();
        let (one, _other, back): (Descriptor, Descriptor, Vec<u8>) = there.recv().unwrap();
        assert!(back == filler);
        // SAFETY: F_GETFD takes a number.
        let flags = unsafe { libc::fcntl(one.as_fd().as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    assert_eq!(census(), before);
    here.send(&(null(), "unread as it is")).unwrap();
    assert!(!there.recv_bytes().unwrap().is_empty(), "bytes of a message with handles");
    here.send(&null()).unwrap();
    assert!(matches!(there.recv::<String>(), Err(RecvError::Decode { .. })), "not what was sent");
    here.send(&[null(), null()]).unwrap();
    there.set_max_message(3);
    assert!(matches!(there.recv_bytes(), Err(RecvError::TooBig { .. })));
    assert_eq!(census(), before, "what nobody took is closed");
}

#[test]
fn same_descriptor_goes_once_however_often_it_stands() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let file = null();
    here.send(&vec![&file; 10_000]).unwrap();
    let before = census().len();
    let files: Vec<Descriptor> = there.recv().unwrap();
    assert_eq!((files.len(), census().len()), (10_000, before + 1));
}

#[test]
fn as_many_descriptors_as_the_kernel_takes_and_no_more() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let files: Vec<Descriptor> = (0..254).map(|_| null()).collect();
    assert!(matches!(here.send(&files), Err(SendError::TooManyHandles { count: 254, max: 253 })));
    here.send(&files[1..]).unwrap();
    assert_eq!(there.recv::<Vec<Descriptor>>().unwrap().len(), 253);
}

#[test]
fn receiver_out_of_descriptors_loses_that_message_only() {
    let _test = support::test(20);
    let (end, mut child) = peer(|end| {
        let open = census().len() as u64;
        limit_descriptors(open + 4);
        for _ in 0..100 {
            let lost = end.recv::<Vec<Descriptor>>();
            let Err(RecvError::HandlesLost { sent: 20, received }) = lost else { panic!("{lost:?}") };
            assert!(received < 20);
            assert_eq!(end.recv::<String>().unwrap(), "in step");
            assert_eq!(census().len() as u64, open, "what came is closed");
        }
        let few: Vec<Descriptor> = end.recv().unwrap();
        assert_eq!(few.len(), 2);
    });
    let files: Vec<Descriptor> = (0..20).map(|_| null()).collect();
    for _ in 0..100 {
        end.send(&files).unwrap();
        end.send("in step").unwrap();
    }
    end.send(&files[..2]).unwrap();
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn constructors_at_the_limit_fail_and_leave_nothing() {
    let _test = support::test(20);
    let mut child = fork(|| {
        drop(pipe().unwrap());
        limit_descriptors(64);
        let mut fill: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        for _ in 0..3 {
            assert!(pipe().is_err());
            fill.pop();
        }
        drop(pipe().unwrap());
        fill.pop();
        (0..100).for_each(|_| drop(pipe().unwrap()));
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn too_many_descriptors_on_their_way_is_an_error_and_the_pipe_goes_on() {
    let _test = support::test(20);
    // Root may have more in flight than its limit: as somebody else.
    let mut child = fork(|| {
        // SAFETY: two numbers.
        if unsafe { libc::setuid(65534) } != 0 {
            return support::say("skipped: cannot become another user");
        }
        let (here, there) = pipe().unwrap();
        limit_descriptors(100);
        let files: Vec<Descriptor> = (0..20).map(|_| null()).collect();
        let mut sent = 0;
        let error = loop {
            match here.send(&files) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Descriptors(_)) && sent >= 5, "{error} after {sent}");
        here.send("bytes still go").unwrap();
        (0..sent).for_each(|_| assert_eq!(there.recv::<Vec<Descriptor>>().unwrap().len(), 20));
        assert_eq!(there.recv::<String>().unwrap(), "bytes still go");
        here.send(&files).unwrap();
    });
    assert_eq!(child.wait(), Status::Code(0));
}

#[test]
fn end_with_unread_data_travels_through_two_pipes() {
    let _test = support::test(20);
    let (first, mut relay) = peer(|first| {
        let (second, mut last) = peer(|second| {
            let end: Connection = second.recv().unwrap();
            assert_eq!(end.recv::<String>().unwrap(), "unread");
            end.send("arrived").unwrap();
            end.recv::<()>().ok();
        });
        second.send(&first.recv::<Connection>().unwrap()).unwrap();
        assert_eq!(last.wait(), Status::Code(0));
    });
    let (mine, yours) = pipe().unwrap();
    mine.send("unread").unwrap();
    first.send(&yours).unwrap();
    assert_eq!(mine.recv::<String>().unwrap(), "arrived");
    drop(mine);
    assert_eq!(relay.wait(), Status::Code(0));
}

/// What a peer may send beside the protocol: packets without a frame, with descriptors or without, of any shape.
#[test]
fn stray_packets_cost_nothing() {
    let _test = support::test(20);
    let (here, there) = pipe().unwrap();
    let stray = socket(&here);
    let before = census();
    let file = File::open("/dev/null").unwrap();
    for round in 0..20u32 {
        assert!(send_packet(&stray, &[0; 1], &[]));
        assert!(send_packet(&stray, &[1; 16], &[file.as_raw_fd(); 3]));
        assert!(send_packet(&stray, &[2; 1000], &[file.as_raw_fd(); 200]));
        let mut announcement = [0; 16];
        announcement[..4].copy_from_slice(&u32::from_be_bytes(*b"mpfd").to_ne_bytes());
        assert!(send_packet(&stray, &announcement, &[file.as_raw_fd()]));
        if round % 3 == 0 {
            assert!(matches!(there.recv_timeout::<u8>(Duration::from_millis(5)), Err(TryRecvError::Empty)));
        }
        here.send(&(round, null())).unwrap();
        assert_eq!(there.recv::<(u32, Descriptor)>().unwrap().0, round);
        here.send(&round).unwrap();
        assert_eq!(there.recv::<u32>().unwrap(), round);
    }
    drop(file);
    let after = census();
    assert_eq!(after, before);
}

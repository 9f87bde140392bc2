//! Out of descriptors: every constructor answers an error, leaves nothing behind, and works again afterwards.
#![allow(unsafe_code)] // rlimits

#[allow(dead_code)] // it can do more
use std::fs::File;
use std::io;

use bincode::config;
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_shm::{Kind, Segment, SharedMemory, list, random_id, sweep};
use support::{Status, alarm, fork, unique};

const KIND: Kind = Kind::new(*b"TEST", "limits 1");

/// Sets the number of the first descriptor that cannot be had.
fn limit(descriptors: u64) {
    let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: 1024 };
    // SAFETY: the structure lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0, "{}", io::Error::last_os_error());
}

type Constructor<'a> = (&'a str, &'a dyn Fn() -> Result<(), String>);

fn done<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

/// Runs a constructor with 0, 1, 2, … descriptors to be had, until it succeeds.
fn starve((what, make): Constructor<'_>) {
    let before = support::census();
    let used = before.keys().max().map_or(0, |highest| *highest as u64 + 1);
    assert_eq!(before.len() as u64, used, "no gaps: the limit is the number of free descriptors");
    let mut errors = 0;
    loop {
        limit(used + errors);
        let result = make();
        limit(1024);
        assert_eq!(support::census(), before, "{what} leaves descriptors behind");
        match result {
            Ok(()) => break,
            Err(error) => {
                assert!(error.contains("os error 24") || error.contains("EMFILE"), "{what}: {error}")
            }
        }
        errors += 1;
        assert!(errors < 20, "{what} needs too many descriptors");
    }
    assert!(errors > 0 || what == "random_id", "{what} needs no descriptor");
}

/// Descriptors may have gaps, and a limit counts from the gaps up: fill them.
fn fill_gaps() -> Vec<File> {
    let mut filler = Vec::new();
    loop {
        let census = support::census();
        if census.keys().max().is_some_and(|highest| *highest as usize + 1 == census.len()) {
            return filler;
        }
        filler.push(File::open("/dev/null").unwrap());
    }
}

#[test]
fn without_descriptors_every_constructor_fails_and_leaves_nothing() {
    let _test = support::test(60);
    let _turn = support::turn::turn();
    let name = unique("limits");
    let owner = SharedMemory::create(&unique("opened"), 16).unwrap();
    let opened = owner.name().unwrap().to_owned();
    let typed = unique("typed");
    let (_typed, _) = Segment::named(&typed, KIND, 16, 0).unwrap();
    let mut child = fork(|| {
        alarm(50);
        let _filler = fill_gaps();
        let received = || {
            let anonymous = SharedMemory::anonymous(16).map_err(|error| error.to_string())?;
            let table = Outgoing::open();
            let bytes = bincode::serde::encode_to_vec(&anonymous, config::standard()).unwrap();
            let sending = table.finish();
            let copies = sending.descriptors().map(|fd| fd.try_clone_to_owned()).collect::<io::Result<_>>();
            let _table = Incoming::open(copies.map_err(|error| error.to_string())?);
            let decoded: Result<(SharedMemory, usize), _> =
                bincode::serde::decode_from_slice(&bytes, config::standard());
            done(decoded)
        };
        let constructors: &[Constructor<'_>] = &[
            ("create", &|| done(SharedMemory::create(&name, 16))),
            ("create_random", &|| done(SharedMemory::create_random(16))),
            ("anonymous", &|| done(SharedMemory::anonymous(16))),
            ("open", &|| done(SharedMemory::open(&opened))),
            ("named", &|| done(Segment::named(&typed, KIND, 16, 0))),
            ("leased", &|| done(Segment::leased(&name, KIND, 16, 0, |_| ()))),
            ("create typed", &|| done(Segment::create(c"limits", KIND, 16, 0))),
            ("list", &|| done(list())),
            ("sweep", &|| done(sweep())),
            ("random_id", &|| done(random_id())),
            ("receive", &received),
        ];
        constructors.iter().for_each(|constructor| starve(*constructor));
        assert!(std::fs::symlink_metadata(format!("/dev/shm/{name}")).is_err());
    });
    assert_eq!(child.wait(), Status::Code(0));
    SharedMemory::open(&typed).unwrap().unlink().unwrap();
}

#[test]
fn name_of_a_leased_segment_goes_even_when_its_last_user_has_no_descriptor_left() {
    let _test = support::test(60);
    let name = unique("last");
    let mut child = fork(|| {
        let _filler = fill_gaps();
        let (segment, _) = Segment::leased(&name, KIND, 16, 0, |_| ()).unwrap();
        limit(support::census().len() as u64);
        drop(segment);
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert!(std::fs::symlink_metadata(format!("/dev/shm/{name}")).is_err());
}

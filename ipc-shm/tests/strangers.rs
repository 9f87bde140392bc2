//! Segments of others: CPython's and those of the crate `shared_memory` are used as they are, and left alone.
#![allow(unsafe_code)] // the bytes of the other crate's mapping

#[allow(dead_code)] // it can do more
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ipc_shm::{CreateError, OpenError, SegmentState, SharedMemory};
use shared_memory::ShmemConf;
use support::{say, unique};

/// A Python program that answers line by line.
struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Python {
    /// `None`, with a word, when there is no python3 here.
    fn run(program: &str, name: &str) -> Option<Python> {
        let command = Command::new("python3")
            .args(["-c", program, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let Ok(mut child) = command else {
            say("skipped: segments of CPython: there is no python3");
            return None;
        };
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Python { child, input, output })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        self.input = None;
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CREATOR: &str = "
import sys
from multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1], create=True, size=100)
segment.buf[:6] = b'python'
print('ready', flush=True)
sys.stdin.readline()
print(bytes(segment.buf[:6]).decode(), flush=True)
sys.stdin.read()
segment.close()
segment.unlink()
";

/// Unregisters what it attached to: until 3.13 Python's tracker removes also what others made.
const OPENER: &str = "
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1])
resource_tracker.unregister(segment._name, 'shared_memory')
print(segment.size, bytes(segment.buf[:6]).decode(), flush=True)
segment.buf[:6] = b'python'
print('written', flush=True)
sys.stdin.read()
segment.close()
";

fn exists(name: &str) -> bool {
    fs::symlink_metadata(format!("/dev/shm/{name}")).is_ok()
}

fn start(segment: &SharedMemory) -> String {
    let mut bytes = [0; 6];
    segment.read(0, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A living stranger's segment is neither swept nor taken over.
#[track_caller]
fn is_left_alone(name: &str) {
    let _turn = support::turn::turn();
    let info = ipc_shm::list().unwrap().into_iter().find(|info| info.name == name).unwrap();
    assert_eq!(info.state, SegmentState::Unmarked);
    assert!(!ipc_shm::sweep().unwrap().iter().any(|removed| removed == name));
    assert!(matches!(SharedMemory::create(name, 16), Err(CreateError::AlreadyExists)));
    assert!(exists(name));
}

#[test]
fn living_segment_of_cpython_is_used_and_left_alone() {
    let _test = support::test(60);
    let name = unique("cpython");
    let Some(mut python) = Python::run(CREATOR, &name) else { return };
    assert_eq!(python.line(), "ready");
    is_left_alone(&name);
    let segment = SharedMemory::open(&name).unwrap();
    assert_eq!((segment.len(), start(&segment)), (100, "python".to_owned()));
    segment.write(0, b"rust!!").unwrap();
    drop(segment);
    is_left_alone(&name);
    python.tell();
    assert_eq!(python.line(), "rust!!");
    python.end();
    assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound)));
}

#[test]
fn cpython_opens_ours() {
    let _test = support::test(60);
    let segment = SharedMemory::create(&unique("ours"), 100).unwrap();
    segment.write(0, b"rust!!").unwrap();
    let name = segment.name().unwrap().to_owned();
    let Some(mut python) = Python::run(OPENER, &name) else { return };
    assert_eq!(python.line(), "100 rust!!");
    assert_eq!(python.line(), "written");
    assert_eq!(start(&segment), "python");
    drop(segment);
    assert!(!exists(&name), "the name is ours");
    python.end();
}

#[test]
fn segment_of_the_crate_shared_memory_is_used_and_left_alone() {
    let _test = support::test(20);
    let name = unique("crate");
    let theirs = ShmemConf::new().os_id(&name).size(100).create().unwrap();
    is_left_alone(&name);
    let segment = SharedMemory::open(&name).unwrap();
    assert_eq!(segment.len(), 100);
    segment.write(0, b"rust!!").unwrap();
    // SAFETY: nobody else has this segment, and the other handle is not in use meanwhile.
    assert_eq!(&unsafe { theirs.as_slice() }[..6], b"rust!!");
    drop(segment);
    is_left_alone(&name);
    drop(theirs);
    assert!(!exists(&name));
}

#[test]
fn crate_shared_memory_opens_ours() {
    let _test = support::test(20);
    let segment = SharedMemory::create(&unique("ours"), 100).unwrap();
    let name = segment.name().unwrap().to_owned();
    let mut theirs = ShmemConf::new().os_id(&name).open().unwrap();
    // SAFETY: nobody else has this segment, and the other handle is not in use meanwhile.
    let bytes = unsafe { theirs.as_slice_mut() };
    bytes[..6].copy_from_slice(b"theirs");
    assert_eq!(start(&segment), "theirs");
    drop(theirs);
    assert!(exists(&name), "they only opened it");
}

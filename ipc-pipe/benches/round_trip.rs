//! Round trips of 64 bytes between two pinned processes: ours, a socketpair and two kernel pipes, in one run.
//!
//! `cargo bench -p ipc-pipe [-- PART_OF_A_ROW'S_NAME]`. Rows are interleaved; each figure is the median of five fresh pairs of processes, with
//! the least and the most, in nanoseconds, and its ratio to ours.
#![allow(unsafe_code)] // it forks, pins, and calls read and write for the peers

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc_pipe::{Connection, pipe};
use serde::{Deserialize, Serialize};

const SIZE: usize = 64;
const REPETITIONS: usize = 5;
const TIME: Duration = Duration::from_millis(300);

/// One row: makes both sides, and answers how to ask and how to answer once.
struct Row {
    name: &'static str,
    sides: fn() -> (Side, Side),
}

/// What one process does again and again: the first asks and waits for the answer, the second the other way round.
/// False = the other side is gone.
type Side = Box<dyn FnMut() -> bool>;

const ROWS: &[Row] = &[
    Row { name: "Connection, bytes", sides: bytes },
    Row { name: "Connection, struct", sides: values },
    Row { name: "socketpair", sides: sockets },
    Row { name: "two pipes", sides: pipes },
];

fn bytes() -> (Side, Side) {
    let (here, there) = pipe().expect("a pipe");
    let ask = move || {
        let mut buffer = [7; SIZE];
        here.send_bytes(&buffer).is_ok() && here.recv_bytes_into(&mut buffer).is_ok()
    };
    let answer = move || {
        let mut buffer = [0; SIZE];
        there.recv_bytes_into(&mut buffer).is_ok() && there.send_bytes(&buffer).is_ok()
    };
    (Box::new(ask), Box::new(answer))
}

#[derive(Serialize, Deserialize)]
struct Record {
    id: u64,
    kind: u32,
    value: f64,
    name: String,
    more: [u32; 6],
}

fn values() -> (Side, Side) {
    let (here, there) = pipe().expect("a pipe");
    let record = Record { id: 1, kind: 2, value: 3.0, name: "a name".into(), more: [4; 6] };
    let ask = move || here.send(&record).is_ok() && here.recv::<Record>().is_ok();
    let echo = |there: &Connection| there.send(&there.recv::<Record>().ok()?).ok();
    (Box::new(ask), Box::new(move || echo(&there).is_some()))
}

fn sockets() -> (Side, Side) {
    let (here, there) = UnixStream::pair().expect("a socketpair");
    (
        client(here.try_clone().expect("a descriptor"), here),
        server(there.try_clone().expect("a descriptor"), there),
    )
}

fn pipes() -> (Side, Side) {
    let (requests, ask) = kernel_pipe();
    let (answers, answer) = kernel_pipe();
    (client(ask, answers), server(answer, requests))
}

fn kernel_pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two new descriptors, which nobody else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0, "a pipe");
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

fn client(mut to: impl Write + 'static, mut from: impl Read + 'static) -> Side {
    Box::new(move || to.write_all(&[7; SIZE]).is_ok() && from.read_exact(&mut [0; SIZE]).is_ok())
}

fn server(mut to: impl Write + 'static, mut from: impl Read + 'static) -> Side {
    Box::new(move || {
        let mut buffer = [0; SIZE];
        from.read_exact(&mut buffer).is_ok() && to.write_all(&buffer).is_ok()
    })
}

/// Nanoseconds of one round trip between this process on processor 0 and a child on processor `other`.
fn measure(row: &Row, other: usize) -> f64 {
    let (mut ask, mut answer) = (row.sides)();
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    if child == 0 {
        drop(ask);
        pin(other);
        while answer() {}
        // SAFETY: `_exit` has no conditions.
        unsafe { libc::_exit(0) };
    }
    drop(answer);
    pin(0);
    let warm = Instant::now();
    while warm.elapsed() < TIME / 10 {
        assert!(ask(), "the child is gone");
    }
    let (start, mut trips) = (Instant::now(), 0u32);
    while start.elapsed() < TIME {
        (0..100).for_each(|_| assert!(ask(), "the child is gone"));
        trips += 100;
    }
    let each = start.elapsed().as_nanos() as f64 / f64::from(trips);
    drop(ask);
    // SAFETY: the child is ours, and the status is not wanted.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    each
}

fn pin(processor: usize) {
    // SAFETY: a `cpu_set_t` is plain bits, zero is the empty set; it lives during the call, its size is given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn table(title: &str, rows: &[&Row], other: usize) {
    let mut runs = vec![Vec::new(); rows.len()];
    for _ in 0..REPETITIONS {
        for (row, runs) in rows.iter().zip(&mut runs) {
            runs.push(measure(row, other));
        }
    }
    println!("{title}");
    let medians: Vec<f64> = runs.iter_mut().map(|runs| median(runs)).collect();
    for ((row, runs), median) in rows.iter().zip(&runs).zip(&medians) {
        let (least, most) = (runs[0], runs[REPETITIONS - 1]);
        let ratio = median / medians[0];
        println!("  {:20} {median:8.0} ns [{least:.0}..{most:.0}]  x{ratio:.1}", row.name);
    }
}

/// Sorts, too.
fn median(runs: &mut [f64]) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn main() {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(&part)).collect();
    table("64 bytes there and back, one processor", &rows, 0);
    table("64 bytes there and back, two processors", &rows, 1);
}

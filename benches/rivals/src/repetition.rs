//! Each repetition is this program started anew: nothing that a contender did to its process, its descriptors or
//! its signals reaches the next one, and one that hangs can be ended with all it started.
//!
//! The figure comes back as one line on standard output. All that a repetition starts is in its process group, or
//! else becomes a child of this process when its parent ends; afterwards nothing of it is left.
#![allow(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::sys::wait::wait;
use nix::unistd::Pid;

use crate::cell::Cell;
use crate::names;

/// The longest that a repetition may take; most take a tenth of a second.
const LIMIT: Duration = Duration::from_secs(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Must come before the first [`run`].
pub fn prepare() {
    prctl::set_child_subreaper(true).expect("Linux since 3.4");
    for stop in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { signal(stop, SigHandler::Handler(note_interruption)) }.expect("both may be handled");
    }
}

extern "C" fn note_interruption(_: i32) {
    INTERRUPTED.store(true, Relaxed);
}

/// Operations per second of one repetition in a process of its own, or why there are none.
pub fn run(cell: usize, contender: usize) -> Result<f64, String> {
    let mut child = Command::new("/proc/self/exe")
        .args(["--repeat", &cell.to_string(), &contender.to_string()])
        .env(names::VARIABLE, names::prefix())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let answer = line(child.stdout.take().expect("piped"));
    end(Pid::from_raw(child.id() as i32));
    if INTERRUPTED.load(Relaxed) {
        exit(130);
    }
    understand(answer.ok_or("it hangs")?.trim())
}

fn line(output: ChildStdout) -> Option<String> {
    let patience = PollTimeout::try_from(LIMIT).expect("some seconds");
    let ready = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], patience);
    let mut line = String::new();
    (ready == Ok(1)).then(|| _ = BufReader::new(output).read_line(&mut line))?;
    Some(line)
}

fn understand(answer: &str) -> Result<f64, String> {
    match answer.parse() {
        Ok(rate) => Ok(rate),
        Err(_) if answer.is_empty() => Err("it fails".into()),
        Err(_) => Err(answer.into()),
    }
}

/// Nobody of the group is left, nor of those who left it, nor any of their names.
fn end(group: Pid) {
    _ = killpg(group, Signal::SIGKILL);
    while wait().is_ok() {}
    names::clear();
}

/// The other side of [`run`]: does the work, tells the figure, and ends.
pub fn serve(cell: &Cell, contender: usize) -> ! {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal");
    match (cell.contenders[contender].run)(cell.task) {
        Ok(rate) => println!("{rate}"),
        Err(reason) => println!("{}", reason.replace('\n', " ")),
    }
    exit(0)
}

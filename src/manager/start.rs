//! The process of a server, from both sides: who starts it, and what it does.
//!
//! It is a daemon that looks after its parent by itself: the kernel's way, a kill, would leave the socket's file behind. One thread
//! serves; another one sleeps until the parent is gone or somebody asks for the end (SIGTERM), and then shuts the server down as
//! any client can.

use std::io;
use std::os::fd::AsFd;
use std::process::exit;
use std::thread;
use std::time::Duration;

use ipc_pipe::{Address, Sender, TryRecvError, simplex};
use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};

use super::builder::{ManagerBuilder, Setup};
use super::client::{Client, Endpoint};
use super::error::ManagerError;
use super::front::Manager;
use super::message::Op;
use super::server;
use crate::process::{Process, StartMethod, parent_process};

/// How long a new server may take until it listens.
const BEGINNING: Duration = Duration::from_secs(30);

/// How long a server may take to end when it is asked to.
pub(super) const END: Duration = Duration::from_secs(1);

/// Where the server listens, or why it does not.
type Report = Result<Address, Refusal>;

/// An error of the kernel, for another process.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    code: Option<i32>,
    is_in_use: bool,
    text: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        let is_in_use = error.kind() == io::ErrorKind::AddrInUse;
        Refusal { code: error.raw_os_error(), is_in_use, text: error.to_string() }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None if refusal.is_in_use => io::Error::new(io::ErrorKind::AddrInUse, refusal.text),
            None => io::Error::other(refusal.text),
        }
    }
}

/// Starts the process and waits until it listens.
pub(super) fn start(builder: ManagerBuilder) -> Result<Manager, ManagerError> {
    let is_private = builder.is_private();
    let setup = builder.setup().map_err(ManagerError::Listen)?;
    let key = setup.key().map_err(ManagerError::Listen)?;
    let (receiver, sender) = simplex().map_err(|error| ManagerError::Start(error.into()))?;
    let child = Process::builder().name("Manager").daemon(true).unnumbered().untied();
    let process = child.start_method(StartMethod::Spawn).spawn(live, (setup, sender));
    let process = process.map_err(|error| ManagerError::Start(error.reason().to_string().into()))?;
    let failure = match receiver.recv_timeout::<Report>(BEGINNING) {
        Ok(Ok(address)) => return Manager::of_child(process, &address, &key, is_private),
        Ok(Err(refusal)) => return Err(ManagerError::Listen(refusal.into())),
        Err(TryRecvError::Failed(error)) => error.to_string(),
        Err(_) => "it does not begin to listen".to_owned(),
    };
    let _ = process.kill();
    Err(ManagerError::Start(failure.into()))
}

/// The function of the process.
fn live((setup, report): (Setup, Sender)) {
    server::settle_in();
    let listener =
        match setup.listen().and_then(|listener| watch(&setup, listener.address()).map(|()| listener)) {
            Ok(listener) => listener,
            Err(error) => return report.send(&Report::Err(error.into())).unwrap_or_default(),
        };
    let told = report.send(&Report::Ok(listener.address().clone()));
    drop(report);
    if told.is_ok() {
        let _ = server::serve(listener, setup.limits());
    }
}

/// Has another thread wait for the end of the parent, or SIGTERM.
fn watch(setup: &Setup, address: &Address) -> io::Result<()> {
    let parent = parent_process().ok_or_else(|| io::Error::other("a server without a parent"))?;
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&terminate), None)?; // there is one thread yet
    let asked = SignalFd::with_flags(&terminate, SfdFlags::SFD_CLOEXEC)?;
    let client = Client::of(&Endpoint::new(address, &setup.key()?));
    thread::Builder::new().name("parent".into()).spawn(move || {
        let mut ends = [
            PollFd::new(parent.sentinel(), PollFlags::POLLIN),
            PollFd::new(asked.as_fd(), PollFlags::POLLIN),
        ];
        while matches!(poll(&mut ends, PollTimeout::NONE), Err(Errno::EINTR)) {}
        let asked = client.ask_until(Deadline::after(END), Op::Shutdown);
        if asked.is_ok() {
            thread::sleep(END); // it ends by itself, and this thread with it
        }
        exit(0)
    })?;
    Ok(())
}

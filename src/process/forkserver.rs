//! A small process with one thread that copies itself on request.
//!
//! It is an ordinary child of this process, started anew at the first use, and a daemon. A copy is made with
//! CLONE_PARENT: it is our child and not the server's, so that it is waited for, reaped and watched like any other, and
//! the server's death harms nobody. What travels, in one packet each:
//!
//! ```text
//! this process → server   side u32, environment as KEY=VALUE NUL …
//!                         with descriptors: socket, segment, directory, standard streams
//! server → this process   pid i32, or minus errno
//! ```
//!
//! A server may be killed after it made a copy and before it answered. So both share a word, which is 0 when a request
//! is sent and in which the kernel notes the number of the copy as it makes it.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use ipc_pipe::Parts;
use ipc_shm::{Descriptor, PerProcess, SharedMemory};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::builder::Builder;
use super::child::Process;
use super::exec::{hold, variable};
use super::fork::{self, Surroundings};
use super::image::Image;
use super::pidfd::Pidfd;
use super::start::StartMethod;

/// Socket, segment, directory, three streams.
const DESCRIPTORS: usize = 6;

/// A packet cannot be longer than this with the usual limits of the kernel.
const LONGEST: usize = 192 << 10;

struct Server {
    socket: OwnedFd,
    note: SharedMemory,
    process: Process<()>,
}

static SERVER: PerProcess<Mutex<Option<Server>>> = PerProcess::new();
static PRELOAD: Mutex<Option<fn()>> = Mutex::new(None);

/// Has `prepare` run once in the fork server before its first copy is made: what it loads every child has at once.
///
/// It must not start threads. Takes effect if the server was not started yet.
#[doc(alias = "set_forkserver_preload")]
pub fn preload(prepare: fn()) {
    *PRELOAD.lock() = Some(prepare);
}

/// Has the server make a child that runs what it finds behind `parts`.
pub(crate) fn start(builder: &Builder, parts: &Parts) -> io::Result<(u32, Pidfd)> {
    let surroundings = Surroundings::all(builder)?;
    let packet = encode(parts.side, &surroundings)?;
    let mut descriptors = vec![parts.socket.as_raw_fd(), parts.segment.as_raw_fd()];
    descriptors.extend(surroundings.directory.iter().map(AsRawFd::as_raw_fd));
    descriptors.extend(surroundings.streams.iter().flatten().map(AsRawFd::as_raw_fd));
    let child = match ask(&packet, &descriptors) {
        Err(error) if is_gone(&error) => ask(&packet, &descriptors)?,
        answer => answer?,
    };
    let child = Pid::from_raw(child);
    Ok((child.as_raw() as u32, hold(child)?))
}

/// Asks the server, which is started if there is none, for a copy: the copy's number. If the server died, there is no
/// copy, and another server can be asked.
fn ask(packet: &[u8], descriptors: &[RawFd]) -> io::Result<i32> {
    let mut server = SERVER.get().lock();
    let running = match server.take() {
        Some(running) => running,
        None => Server::start()?,
    };
    match running.ask(packet, descriptors) {
        Err(error) if is_gone(&error) => running.bury().ok_or(error),
        answer => {
            *server = Some(running);
            answer?
        }
    }
}

/// Whether an error says that the server died.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Server {
    fn start() -> io::Result<Server> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let prepare = PRELOAD.lock().and_then(|prepare| Image::get().offset(prepare as *const ()));
        let builder = Process::builder().name("ForkServer").daemon(true).start_method(StartMethod::Spawn);
        let builder = builder.unnumbered();
        let note = SharedMemory::anonymous(size_of::<AtomicU32>()).map_err(io::Error::other)?;
        let args = (Descriptor::from(theirs), note.clone(), prepare);
        let process = builder.spawn(serve, args).map_err(io::Error::other)?;
        Ok(Server { socket, note, process })
    }

    /// It does not answer any more: ends and reaps it. What it left is the number of a copy, if it made one: that is a
    /// whole child, and ours.
    #[cold]
    fn bury(mut self) -> Option<i32> {
        let _ = self.process.kill();
        let _ = self.process.join();
        let copy = self.note.atomic_u32(0).ok()?.load(SeqCst);
        (copy != 0).then_some(copy as i32)
    }

    /// The outer error is that of the conversation, the inner one what the server met.
    fn ask(&self, packet: &[u8], descriptors: &[RawFd]) -> io::Result<io::Result<i32>> {
        self.note.atomic_u32(0).map_err(io::Error::other)?.store(0, SeqCst);
        let rights = [ControlMessage::ScmRights(descriptors)];
        let packet = [IoSlice::new(packet)];
        retry(|| sendmsg::<()>(self.socket.as_raw_fd(), &packet, &rights, MsgFlags::MSG_NOSIGNAL, None))?;
        let mut answer = [0; 4];
        if retry(|| nix::unistd::read(&self.socket, &mut answer))? != answer.len() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let answer = i32::from_ne_bytes(answer);
        Ok(if answer > 0 { Ok(answer) } else { Err(io::Error::from_raw_os_error(-answer)) })
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

fn encode(side: u32, surroundings: &Surroundings) -> io::Result<Vec<u8>> {
    let mut packet = Vec::with_capacity(4096);
    packet.extend(side.to_ne_bytes());
    for (key, value) in surroundings.environment.iter().flatten() {
        let variable = variable(key, value)?;
        packet.extend(variable.as_bytes_with_nul());
    }
    if packet.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the environment is too large for a fork server",
        ));
    }
    Ok(packet)
}

/// The life of the server: until the other end of its socket is gone.
fn serve((socket, note, prepare): (Descriptor, SharedMemory, Option<u64>)) {
    let (Ok(socket), Ok(word)) = (socket.try_into_owned(), note.atomic_u32(0)) else { return };
    if let Some(code) = prepare.and_then(|offset| Image::get().code(offset)) {
        // SAFETY: the offset was made from a `fn()` by a process that runs the same file.
        let prepare = unsafe { std::mem::transmute::<*const (), fn()>(code) };
        prepare();
    }
    let (mut packet, mut environment) = (vec![0; LONGEST], Vec::new());
    while let Ok(Some((parts, surroundings))) = receive(&socket, &mut packet, &mut environment) {
        word.store(0, SeqCst); // mapped here by now: the kernel meets no fault that a kill could end
        let answer = match fork::fork_for_parent(word) {
            Ok(Some(child)) => child.as_raw(),
            Ok(None) => {
                drop((socket, note));
                fork::live(parts, surroundings)
            }
            Err(error) => -error.raw_os_error().unwrap_or(libc::EAGAIN),
        };
        drop((parts, surroundings));
        if retry(|| nix::unistd::write(&socket, &answer.to_ne_bytes())).is_err() {
            return;
        }
    }
}

/// What the next copy is given. Its `environment` is made the server's own if it is another one than that of the copy
/// before: a copy has it then without doing anything.
fn receive(
    socket: &OwnedFd,
    packet: &mut [u8],
    environment: &mut Vec<u8>,
) -> io::Result<Option<(Parts, Surroundings)>> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    let (length, mut descriptors) = (message.bytes, Vec::new());
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(rights) = control {
            // SAFETY: the kernel has just installed them for us.
            descriptors.extend(rights.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(decode(&packet[..length], descriptors, environment))
}

/// `None` = the other end is gone, or is not what we know.
fn decode(
    packet: &[u8],
    descriptors: Vec<OwnedFd>,
    environment: &mut Vec<u8>,
) -> Option<(Parts, Surroundings)> {
    let (side, wanted) = packet.split_first_chunk()?;
    let side = u32::from_ne_bytes(*side);
    let descriptors: [OwnedFd; DESCRIPTORS] = descriptors.try_into().ok()?;
    let [socket, segment, directory, input, output, error] = descriptors;
    if wanted != environment {
        let variables = wanted.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        fork::set_environment(variables.filter_map(split).collect());
        wanted.clone_into(environment);
    }
    let streams = [input, output, error].map(Some);
    let surroundings = Surroundings { streams, directory: Some(directory), environment: None };
    Some((Parts { socket, segment, side }, surroundings))
}

/// The first byte of a key may be a '='.
fn split(variable: &[u8]) -> Option<(OsString, OsString)> {
    let at = 1 + variable.get(1..)?.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (OsStr::from_bytes(&variable[..at]), OsString::from_vec(variable[at + 1..].to_vec()));
    Some((key.to_owned(), value))
}

//! A small process with one thread that copies itself on request.
//!
//! It is an ordinary child of this process, started anew at the first use, and a daemon. A copy is made with
//! CLONE_PARENT: it is our child and not the server's, so that it is waited for, reaped and watched like any other, and
//! the server's death harms nobody. What travels, in one packet each:
//!
//! ```text
//! this process → server   side u32, environment as KEY=VALUE NUL …
//!                         with descriptors: socket, segment, directory, standard streams, and a file of the
//!                         environment if it is too long for a packet
//! server → this process   one byte when it is ready; then for each request pid i32, or minus errno
//! ```
//!
//! A server that does not answer in time, because somebody stopped it or because it is wedged, is killed, and another is
//! asked.
//!
//! A server may be killed after it made a copy and before it answered. So both share a word, which is 0 when a request
//! is sent and in which the kernel notes the number of the copy as it makes it.
#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use ipc_pipe::Parts;
use ipc_shm::{Descriptor, PerProcess, SharedMemory};
use ipc_sync::{Copies, Deadline};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::builder::Builder;
use super::child::Process;
use super::error::TryJoinError;
use super::exec::{hold, variable};
use super::fork::{self, Surroundings};
use super::image::Image;
use super::pidfd::{Pidfd, wait_readable};
use super::start::StartMethod;

/// Socket, segment, directory, three streams.
const DESCRIPTORS: usize = 6;

/// Longer environments travel in a file: the usual limit of a packet is thrice this.
const LONGEST: usize = 64 << 10;

/// Bytes of a packet.
const PACKET: usize = size_of::<u32>() + LONGEST;

/// How long a server may take to prepare itself, and then for each copy; and to be gone when it was killed.
const PREPARATION: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(2);
const BURIAL: Duration = Duration::from_secs(1);

/// How many servers are asked for one copy.
const ATTEMPTS: usize = 2;

struct Server {
    socket: OwnedFd,
    /// It has said so.
    ready: bool,
    note: SharedMemory,
    process: Process<()>,
}

static SERVER: PerProcess<Mutex<Option<Server>>> = PerProcess::new();
static PRELOAD: Mutex<Option<fn()>> = Mutex::new(None);

/// Has `prepare` run once in the fork server before its first copy is made: what it loads every child has at once.
///
/// It must not start threads, and must return within a minute: a server that takes longer is given up. Takes effect if
/// the server was not started yet.
#[doc(alias = "set_forkserver_preload")]
pub fn preload(prepare: fn()) {
    *PRELOAD.lock() = Some(prepare);
}

/// Has the server make a child that runs what it finds behind `parts`.
pub(crate) fn start(builder: &Builder, parts: &Parts) -> io::Result<(u32, Pidfd)> {
    let surroundings = Surroundings::all(builder)?;
    let mut packet = encode(parts.side, &surroundings)?;
    let file = if packet.len() > PACKET { Some(in_file(packet.split_off(size_of::<u32>()))?) } else { None };
    let mut descriptors = vec![parts.socket.as_raw_fd(), parts.segment.as_raw_fd()];
    descriptors.extend(surroundings.directory.iter().map(AsRawFd::as_raw_fd));
    descriptors.extend(surroundings.streams.iter().flatten().map(AsRawFd::as_raw_fd));
    descriptors.extend(file.iter().map(AsRawFd::as_raw_fd));
    let child = Pid::from_raw(ask(&packet, &descriptors)?);
    Ok((child.as_raw() as u32, hold(child)?))
}

/// Asks the server, which is started if there is none, for a copy: the copy's number. If the server is of no use, and
/// has made no copy, another one is asked.
fn ask(packet: &[u8], descriptors: &[RawFd]) -> io::Result<i32> {
    let mut server = SERVER.get().lock();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for _ in 0..ATTEMPTS {
        let mut running = match server.take() {
            Some(running) => running,
            None => Server::start()?,
        };
        match running.ask(packet, descriptors) {
            Err(error) if is_of_no_use(&error) => match running.bury()? {
                Some(copy) => return Ok(copy),
                None => last = error,
            },
            answer => {
                *server = Some(running);
                return answer?;
            }
        }
    }
    Err(io::Error::new(last.kind(), format!("fork servers die or do not answer: {last}")))
}

/// Whether an error says that the server died, or that the time is up.
fn is_of_no_use(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), BrokenPipe | ConnectionReset | WouldBlock | TimedOut)
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
        Ok(Server { socket, ready: false, note, process })
    }

    /// It does not answer any more: ends and reaps it. What it left is the number of a copy, if it made one: that is a
    /// whole child, and ours.
    #[cold]
    fn bury(mut self) -> io::Result<Option<i32>> {
        self.process.kill()?;
        if let Err(TryJoinError::StillRunning) = self.process.join_timeout(BURIAL) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a fork server does not end when it is killed",
            ));
        }
        let copy = self.note.atomic_u32(0).map_err(io::Error::other)?.load(SeqCst);
        Ok((copy != 0).then_some(copy as i32))
    }

    /// The next thing that it says.
    fn hear<const LENGTH: usize>(&self, patience: Duration) -> io::Result<[u8; LENGTH]> {
        if !wait_readable(self.socket.as_fd(), Deadline::after(patience))? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0; LENGTH];
        match retry(|| nix::unistd::read(&self.socket, &mut answer))? {
            length if length == LENGTH => Ok(answer),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// The outer error is that of the conversation, the inner one what the server met.
    fn ask(&mut self, packet: &[u8], descriptors: &[RawFd]) -> io::Result<io::Result<i32>> {
        self.note.atomic_u32(0).map_err(io::Error::other)?.store(0, SeqCst);
        if !self.ready {
            let [_] = self.hear(PREPARATION)?;
            self.ready = true;
        }
        let rights = [ControlMessage::ScmRights(descriptors)];
        let packet = [IoSlice::new(packet)];
        // There is room: what was asked before has been answered.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        retry(|| sendmsg::<()>(self.socket.as_raw_fd(), &packet, &rights, flags, None))?;
        let answer = i32::from_ne_bytes(self.hear(ANSWER)?);
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
    Ok(packet)
}

/// A file without a name, from its beginning.
#[cold]
fn in_file(bytes: Vec<u8>) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"environment", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The life of the server: until the other end of its socket is gone.
fn serve((socket, note, prepare): (Descriptor, SharedMemory, Option<u64>)) {
    let (Ok(socket), Ok(word)) = (socket.try_into_owned(), note.atomic_u32(0)) else { return };
    if let Some(code) = prepare.and_then(|offset| Image::get().code(offset)) {
        // SAFETY: the offset was made from a `fn()` by a process that runs the same file.
        let prepare = unsafe { std::mem::transmute::<*const (), fn()>(code) };
        prepare();
    }
    if say(&socket, &[0]).is_err() {
        return;
    }
    let (copies, mut packet, mut environment) = (Copies::new(), vec![0; PACKET], Vec::new());
    while let Ok(Some((parts, surroundings))) = receive(&socket, &mut packet, &mut environment) {
        word.store(0, SeqCst); // mapped here by now: the kernel meets no fault that a kill could end
        let answer = match fork::fork_for_parent(word, &copies) {
            Ok(Some(child)) => child.as_raw(),
            Ok(None) => {
                drop((socket, note));
                fork::live(parts, surroundings)
            }
            Err(error) => -error.raw_os_error().unwrap_or(libc::EAGAIN),
        };
        drop((parts, surroundings));
        if say(&socket, &answer.to_ne_bytes()).is_err() {
            return;
        }
    }
}

fn say(socket: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
    retry(|| nix::unistd::write(socket, bytes))
}

/// What the next copy is given. Its `environment` is made the server's own if it is another one than that of the copy
/// before: a copy has it then without doing anything.
fn receive(
    socket: &OwnedFd,
    packet: &mut [u8],
    environment: &mut Vec<u8>,
) -> io::Result<Option<(Parts, Surroundings)>> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS + 1]);
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
    mut descriptors: Vec<OwnedFd>,
    environment: &mut Vec<u8>,
) -> Option<(Parts, Surroundings)> {
    let (side, mut wanted) = packet.split_first_chunk()?;
    let side = u32::from_ne_bytes(*side);
    let mut long = Vec::new();
    if descriptors.len() > DESCRIPTORS {
        File::from(descriptors.pop()?).read_to_end(&mut long).ok()?;
        wanted = &long;
    }
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

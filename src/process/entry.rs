//! Where a child leaves the way of `main`: it runs its one function and exits.
//!
//! A child is the same executable, started anew, so its `main` begins like the parent's. One variable of its
//! environment tells it what it is. Whoever starts a process before [`init`] would have each child start one too,
//! without end: that is why `spawn` refuses.
#![allow(unsafe_code)]

use std::fmt::Display;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ipc_pipe::{Connection, Parts};
use ipc_shm::Descriptor;
use ipc_sync::Registry;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exec::{AGREEMENT, REGISTRY, SEGMENT, SOCKET, VARIABLE};
use super::image::{Identity, Image};
use super::message::{Bootstrap, Call, Outcome};
use super::{lifeline, logs, panics, parent};

static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// Must be the first line of `main`, before any thread is started.
///
/// In the main process it notes that it was called, and returns. In a process that [`Process::spawn`] started it runs
/// that one function and never returns: nothing below it in `main` happens there. What is above it happens in each
/// process.
///
/// A program that runs with more rights than its caller (setuid) cannot be a child: whoever calls it could send it
/// anywhere.
///
/// [`Process::spawn`]: crate::Process::spawn
///
/// ```
/// use multiprocess::Process;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiprocess::init();
///     let mut process = Process::spawn(|x: u32| x * 2, 21)?;
///     assert_eq!(process.join()?, 42);
///     Ok(())
/// }
/// ```
#[doc(alias = "freeze_support")]
pub fn init() {
    if !INITIALIZED.swap(true, Relaxed) {
        if let Some(side) = side_of_child() {
            let parent = connect(side).unwrap_or_else(|error| give_up(&error));
            exit(run(Box::leak(Box::new(parent))));
        }
    }
}

/// Whether `init` was called.
pub(crate) fn is_initialized() -> bool {
    INITIALIZED.load(Relaxed)
}

/// What [`testing!`](crate::testing) has called before `main`. The standard library sets SIGPIPE to be ignored only
/// after that, so here a child does it.
#[doc(hidden)]
pub extern "C" fn test_entry() {
    if std::env::var_os(VARIABLE).is_some() {
        // SAFETY: SIG_IGN is no handler of ours, so nothing runs asynchronously.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
    init();
}

/// Which side of its connection this process has, if it is a child. The variable is gone afterwards: a program that
/// a child starts is none.
fn side_of_child() -> Option<u32> {
    let value = std::env::var_os(VARIABLE)?;
    // SAFETY: getauxval takes a number.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        give_up(&"it runs with more rights than its caller");
    }
    // SAFETY: `init` is called before any other thread is started, so nobody reads the environment.
    unsafe { std::env::remove_var(VARIABLE) };
    let side = value.to_str().and_then(|value| value.strip_prefix(AGREEMENT)?.parse().ok());
    Some(side.unwrap_or_else(|| give_up(&format!("{VARIABLE}={value:?} is not understood"))))
}

/// The life of a child, however it came to be, up to its exit code.
pub(crate) fn run(parent: &'static Connection) -> i32 {
    parent.set_max_message(usize::MAX); // both ends are this program
    panics::watch(parent);
    let bootstrap = match parent.recv::<Bootstrap>() {
        Ok(bootstrap) => bootstrap,
        Err(_) => return 1, // the parent is gone, or has given this child up
    };
    bootstrap.birth.remember();
    if let Err(error) = attach(bootstrap.parent, bootstrap.lifeline) {
        return refuse(parent, &format!("the child cannot follow its parent: {error}"));
    }
    if Identity::own().ok() != Some(bootstrap.program) {
        return refuse(parent, "the child runs another executable than its parent");
    }
    logs::listen(bootstrap.ear);
    match bootstrap.call.trampoline() {
        Some(trampoline) => trampoline(bootstrap.call, parent),
        None => refuse(parent, "the child's executable has no such function"),
    }
}

/// Ties this process to its parent.
fn attach(parent: Descriptor, lifeline: Option<Descriptor>) -> io::Result<()> {
    parent::remember(parent.try_into_owned()?);
    match lifeline {
        Some(line) => lifeline::hold(&line.try_into_owned()?),
        None => Ok(()),
    }
}

/// Takes over what this process was born with, and closes what came along.
fn connect(side: u32) -> Result<Connection, Box<dyn std::error::Error>> {
    close_above(REGISTRY);
    let [socket, segment, registry] = [SOCKET, SEGMENT, REGISTRY].map(inherited);
    Registry::adopt(Arc::new(registry?))?;
    Ok(Connection::from_parts(Parts { socket: socket?, segment: segment?, side })?)
}

/// A descriptor that exec left open for us, closed at the next one.
fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl answers EBADF if it is not open. If it is, the parent passed it to us, and nobody else in this
    // process knows of it: `init` takes each once.
    unsafe {
        fcntl(BorrowedFd::borrow_raw(number), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Nothing but what was sent crosses: descriptors that the parent had without CLOEXEC are nobody's here.
fn close_above(last: i32) {
    // SAFETY: this is the start of the program, and nothing in it owns a descriptor yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, last + 1, libc::c_uint::MAX, 0) };
    if closed != 0 {
        close_each_above(last);
    }
}

/// For kernels before 5.9, and filters that do not know the call.
#[cold]
fn close_each_above(last: i32) {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > last) {
        // SAFETY: as above. The descriptor of the listing itself is closed already, and gets EBADF.
        unsafe { libc::close(number) };
    }
}

/// Runs a function whose types it knows.
type Trampoline = fn(Call, &'static Connection) -> i32;

impl Call {
    /// How a child calls `f`; `None` = it cannot, because `f` is in no place that it knows.
    pub(crate) fn new<A, R>(f: fn(A) -> R) -> Option<Call>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let trampoline: Trampoline = trampoline::<A, R>;
        Call::through(trampoline as *const (), f)
    }

    /// How another process of the program calls `f` through a function that knows its types.
    pub(crate) fn through<A, R>(trampoline: *const (), f: fn(A) -> R) -> Option<Call> {
        let image = Image::get();
        let (trampoline, function) = (image.offset(trampoline)?, image.offset(f as *const ())?);
        Some(Call { trampoline, function })
    }

    fn trampoline(self) -> Option<Trampoline> {
        let code = Image::get().code(self.trampoline)?;
        // SAFETY: the offset was made by `Call::new` from a `Trampoline`, in a process that runs the same file.
        Some(unsafe { std::mem::transmute::<*const (), Trampoline>(code) })
    }

    /// The function that a trampoline was made for; only that trampoline may ask.
    pub(crate) fn function<A, R>(self) -> Option<fn(A) -> R> {
        let code = Image::get().code(self.function)?;
        // SAFETY: the offset was made by `Call::through` from a `fn(A) -> R` together with that of a trampoline for
        // the same types, in a process that runs the same file, and it is that trampoline that asks.
        Some(unsafe { std::mem::transmute::<*const (), fn(A) -> R>(code) })
    }
}

fn trampoline<A, R>(call: Call, parent: &'static Connection) -> i32
where
    A: DeserializeOwned,
    R: Serialize,
{
    let Some(f) = call.function::<A, R>() else {
        return refuse(parent, "the child's executable has no such function");
    };
    match live(f, parent) {
        Ok(()) => 0,
        Err(outcome) => answer(parent, outcome),
    }
}

/// Runs `f` and sends what it returned, before anything of that is dropped. A panic on the way, in `f` or in what its
/// types do to be serialized, is the function's panic.
fn live<A, R>(f: fn(A) -> R, parent: &Connection) -> Result<(), Outcome<()>>
where
    A: DeserializeOwned,
    R: Serialize,
{
    let life = || {
        let args = parent.recv::<A>().map_err(|error| Outcome::NotStarted(error.to_string()))?;
        let outcome = Outcome::Returned(f(args));
        parent.send(&outcome).map_err(|error| Outcome::ResultRefused(error.to_string()))
    };
    catch_unwind(AssertUnwindSafe(life)).unwrap_or_else(|payload| Err(panics::caught(&*payload)))
}

fn refuse(parent: &Connection, reason: &str) -> i32 {
    answer(parent, Outcome::NotStarted(reason.to_owned()))
}

/// Sends the news that there is no result. A parent that is gone does not need it.
fn answer(parent: &Connection, outcome: Outcome<()>) -> i32 {
    let _ = parent.send(&outcome);
    1
}

/// There is nobody to tell but a human.
#[cold]
fn give_up(reason: &dyn Display) -> ! {
    eprintln!("multiprocess: this process was started as a child and cannot be one: {reason}");
    exit(1)
}

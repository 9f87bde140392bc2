//! What children have to say reaches their parent: records of the `log` crate, and panics.
//!
//! The parent that asks for them has one queue, which every process it starts from then on, and every one those start,
//! is born with. A child's logger puts records there; a thread of the parent takes them out. A child that is
//! killed in the middle of a record loses that record and harms nobody.

use std::fmt;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use ipc_queue::Queue;
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::current::current_process;

/// What a process of the family said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// The name of the process.
    pub process: String,
    /// Its number.
    pub pid: u32,
    /// 1 = error … 5 = trace.
    level: u8,
    /// Which part of the program; `panic` for a panic.
    pub target: String,
    /// What was said.
    pub message: String,
    /// Source file and line, if they are known.
    pub place: Option<(String, u32)>,
}

impl LogRecord {
    fn of_this_process(level: Level, target: &str, message: String, place: Option<(String, u32)>) -> Self {
        let process = current_process();
        let (name, level) = (process.name().to_owned(), level as u8);
        LogRecord { process: name, pid: process.pid(), level, target: target.to_owned(), message, place }
    }

    /// How urgent it is.
    pub fn level(&self) -> Level {
        Level::iter().find(|level| *level as u8 == self.level).unwrap_or(Level::Trace)
    }

    /// Gives it to the logger of this process, with the name of its process before the message.
    fn log(&self) {
        let (file, line) =
            self.place.as_ref().map_or((None, None), |(file, line)| (Some(&**file), Some(*line)));
        let (LogRecord { process, target, message, .. }, level) = (self, self.level());
        if level <= log::max_level() {
            log::logger().log(
                &Record::builder()
                    .level(level)
                    .target(target)
                    .file(file)
                    .line(line)
                    .args(format_args!("{process}: {message}"))
                    .build(),
            );
        }
    }
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}] {}: {}", self.level(), self.process, self.pid, self.target, self.message)
    }
}

/// Where the children of this process send what they log, and this process too if it is a child; `None` = nowhere.
static LINE: Mutex<Option<Queue<LogRecord>>> = Mutex::new(None);

/// What a new child is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ear {
    line: Queue<LogRecord>,
    most: u8,
}

/// For a child of this process.
pub(crate) fn ear() -> Option<Ear> {
    LINE.lock().clone().map(|line| Ear { line, most: log::max_level() as u8 })
}

/// In a child: logs there from now on. A logger that a forked child inherited stays; a copy of a fork server has that
/// one's, which is ours.
pub(crate) fn listen(ear: Option<Ear>) {
    let Some(Ear { line, most }) = ear else { return drop(LINE.lock().take()) };
    *LINE.lock() = Some(line);
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.load(Relaxed) || log::set_logger(&Forward).is_ok() {
        INSTALLED.store(true, Relaxed);
        let most = LevelFilter::iter().find(|filter| *filter as u8 == most);
        log::set_max_level(most.unwrap_or(LevelFilter::Trace));
    }
}

/// Called by the panic hook of a child: any thread's panic is said.
pub(crate) fn note(info: &PanicHookInfo<'_>, message: &str) {
    let Some(line) = LINE.lock().clone() else { return };
    let thread = thread::current();
    let message = format!("thread {} panicked: {message}", thread.name().unwrap_or("<unnamed>"));
    let place = info.location().map(|place| (place.file().to_owned(), place.line()));
    let _ = line.put(LogRecord::of_this_process(Level::Error, "panic", message, place));
}

/// The logger of a child.
struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    /// Never waits: the queue has no bound. When nobody listens any more there is nobody to tell so.
    fn log(&self, record: &Record<'_>) {
        let line = LINE.lock().clone();
        if let (true, Some(line)) = (self.enabled(record.metadata()), line) {
            let place = record.file().zip(record.line()).map(|(file, line)| (file.to_owned(), line));
            let message = record.args().to_string();
            let _ = line.put(LogRecord::of_this_process(record.level(), record.target(), message, place));
        }
    }

    fn flush(&self) {}
}

/// Listens to the children of this process until it is dropped; made by [`collect_logs`].
#[derive(Debug)]
#[must_use = "records are collected until this is dropped"]
pub struct LogCollector {
    line: Queue<LogRecord>,
    listener: Option<JoinHandle<()>>,
}

/// Has what the children of this process log, and their panics, logged here: one line of set-up.
///
/// It is for processes started from now on, and for those that they start. Their records go to the logger of this
/// process with the name of their process before the message; a panic in any of their threads is a record of its own,
/// at [`Level::Error`] with the target `panic`. They log as much as [`log::max_level`] says here when they start.
///
/// Logging in a child does not wait for this process. What a child logged before it ended or was killed arrives; the
/// record it was just writing may be lost. A child that was [forked](crate::StartMethod::fork) keeps the logger that
/// it inherited, and sends its panics.
///
/// # Errors
///
/// Already collecting, or no memory, descriptor or thread for it.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Process, collect_logs_with};
/// use std::sync::mpsc;
///
/// log::set_max_level(log::LevelFilter::Info);
/// let (tell, told) = mpsc::channel();
/// let logs = collect_logs_with(move |record| tell.send(record.to_string()).unwrap())?; // or `collect_logs()`
/// Process::builder().name("baker").spawn(|()| log::info!("bread is ready"), ())?.join()?;
/// drop(logs); // all that was said has arrived
/// assert!(told.recv()?.ends_with("bread is ready"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "QueueHandler")]
#[doc(alias = "log_to_stderr")]
pub fn collect_logs() -> io::Result<LogCollector> {
    collect_logs_with(|record| record.log())
}

/// As [`collect_logs`], with something else to be done with each record, in a thread of its own.
///
/// # Errors
///
/// As [`collect_logs`].
pub fn collect_logs_with(mut act: impl FnMut(LogRecord) + Send + 'static) -> io::Result<LogCollector> {
    let mut current = LINE.lock();
    if current.is_some() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the logs of this family are collected already",
        ));
    }
    let line = Queue::new().map_err(io::Error::other)?;
    let source = line.clone();
    let listen = move || source.iter().flatten().for_each(&mut act);
    let listener = thread::Builder::new().name("log collector".into()).spawn(listen)?;
    *current = Some(line.clone());
    Ok(LogCollector { line, listener: Some(listener) })
}

impl Drop for LogCollector {
    /// What was said before has been acted on when this returns.
    fn drop(&mut self) {
        LINE.lock().take();
        self.line.shutdown(); // children that log on are refused, and keep nothing
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

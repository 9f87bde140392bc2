//! The bridge: one thread of this process that sleeps on words and tells of them through descriptors.
//!
//! ```text
//! who waits                          bridge
//! empties the eventfd                sleeps on its own word and on those it was given
//! arms the word, hands it over       woken: takes the words that changed off its list,
//! rings the bridge's own word        writes to their eventfds, passes the wakes on
//! polls the eventfd
//! ```
//!
//! A word is on the list from one arming to the wake that follows it, under a number of its own, so that a wake of an
//! earlier arming takes nothing off. The thread starts with the first word on the list, and ends a moment after the last.
//! A forked child has a bridge of its own, and eventfds of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;
use std::{io, thread};

use ipc_shm::PerProcess;
use ipc_sync::{BACKSTOP, Deadline, Registry, WakeWord, Woken, sleep_on, wake_sleepers};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use parking_lot::Mutex;

use crate::receiver::Readiness;
use crate::waitable::{Waitable, Watch};

/// How long the thread stays when there is nothing to do: the next wait may come soon.
const LINGER: Duration = Duration::from_millis(50);

/// Words that one sleep covers beside the bridge's own; more are looked at every [`GLANCE`].
const MOST: usize = 126;
const GLANCE: Duration = Duration::from_millis(5);

static BRIDGE: PerProcess<Bridge> = PerProcess::new();

#[derive(Debug, Default)]
struct Bridge {
    list: Mutex<List>,
    /// Changes with the list.
    changes: AtomicU32,
}

#[derive(Debug, Default)]
struct List {
    items: Vec<Item>,
    next: u64,
    runs: bool,
}

/// A word that was armed, and where to tell of it.
#[derive(Debug, Clone)]
struct Item {
    number: u64,
    word: Arc<dyn WakeWord>,
    expected: u32,
    bell: Arc<OwnedFd>,
}

impl Item {
    fn has_changed(&self) -> bool {
        self.word.word().load(Acquire) != self.expected || self.word.is_ready()
    }
}

impl Bridge {
    /// Puts armed words on the list; answers their numbers.
    fn add(&'static self, words: Vec<(Arc<dyn WakeWord>, u32)>, bell: &Arc<OwnedFd>) -> io::Result<Numbers> {
        let mut list = self.list.lock();
        if !list.runs {
            start()?;
            list.runs = true;
        }
        let first = list.next;
        for (word, expected) in words {
            let number = list.next;
            list.items.push(Item { number, word, expected, bell: bell.clone() });
            list.next += 1;
        }
        let numbers = Numbers { first, end: list.next };
        drop(list);
        self.tell();
        Ok(numbers)
    }

    fn remove(&self, numbers: Numbers) {
        let mut list = self.list.lock();
        let (gone, kept) =
            std::mem::take(&mut list.items).into_iter().partition(|item| numbers.has(item.number));
        list.items = kept;
        drop(list);
        let gone: Vec<Item> = gone;
        if !gone.is_empty() {
            self.tell();
        }
        // Dropped outside the lock: a word may be the last of something large.
    }

    fn tell(&self) {
        self.changes.fetch_add(1, SeqCst);
        wake_sleepers(&self.changes);
    }

    /// What the thread does.
    fn run(&self) {
        loop {
            let changes = self.changes.load(SeqCst);
            let items = self.list.lock().items.clone();
            if items.is_empty() {
                let woken = sleep_on(&[(&self.changes, changes)], Deadline::after(LINGER));
                if woken == Woken::TimedOut && self.may_end() {
                    return;
                }
                continue;
            }
            let woken = self.sleep(changes, &items);
            items.iter().filter(|item| item.has_changed()).for_each(|item| self.fire(item, woken));
        }
    }

    fn may_end(&self) -> bool {
        let mut list = self.list.lock();
        list.runs = !list.items.is_empty();
        !list.runs
    }

    fn sleep(&self, changes: u32, items: &[Item]) -> Woken {
        let mut words = vec![(&self.changes, changes)];
        words.extend(items.iter().map(|item| (item.word.word(), item.expected)));
        let round = if items.len() > MOST { GLANCE } else { BACKSTOP };
        sleep_on(&words, Deadline::after(round))
    }

    /// Tells of `item`, unless it was told already or is wanted no more.
    #[cold]
    fn fire(&self, item: &Item, woken: Woken) {
        let mut list = self.list.lock();
        let place = list.items.iter().position(|other| other.number == item.number);
        let fired = place.map(|place| list.items.swap_remove(place));
        if fired.is_some() {
            let _ = nix::unistd::write(&item.bell, &1u64.to_ne_bytes()); // full = it is readable
            if woken == Woken::TimedOut && list.items.len() < MOST {
                Registry::get().iter().for_each(|registry| registry.count_rescue());
            }
        }
        drop(list);
        item.word.pass_on();
    }
}

/// Starts the thread, deaf to signals: they are for the threads of the program.
fn start() -> io::Result<()> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let started = thread::Builder::new().name("ipc-bridge".into()).spawn(|| BRIDGE.get().run());
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    started.map(drop)
}

/// Items of the list, by their numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    first: u64,
    end: u64,
}

impl Numbers {
    fn has(self, number: u64) -> bool {
        (self.first..self.end).contains(&number)
    }
}

fn eventfd() -> io::Result<Arc<OwnedFd>> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(Arc::new(EventFd::from_value_and_flags(0, flags)?.into()))
}

/// Words on the bridge for one wait, and the descriptor that tells of any of them.
#[derive(Debug)]
pub(crate) struct Crossing {
    bell: Arc<OwnedFd>,
    numbers: Numbers,
}

impl Crossing {
    /// `None` = one of them is ready.
    pub(crate) fn new(words: impl Iterator<Item = Arc<dyn WakeWord>>) -> io::Result<Option<Crossing>> {
        let bell = eventfd()?;
        let armed: Option<Vec<_>> = words.map(|word| word.arm().map(|expected| (word, expected))).collect();
        let Some(armed) = armed else { return Ok(None) };
        let numbers = BRIDGE.get().add(armed, &bell)?;
        Ok(Some(Crossing { bell, numbers }))
    }
}

impl AsFd for Crossing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        BRIDGE.get().remove(self.numbers);
    }
}

/// A descriptor for what has none: it becomes readable when an event, a queue or any other [`Waitable`] becomes ready.
///
/// It is for outside event loops; [`wait`](crate::wait()) needs none. It is one for one waitable: keep it beside
/// that, [`arm`](Doorbell::arm) it before each wait, look after the wait. It costs a descriptor from the first arming on,
/// and, while it is armed, a thread that all doorbells of this process share.
///
/// A forked child's copy makes a descriptor of its own when it is armed there.
///
/// ```
/// use ipc_pipe::{Doorbell, Readable, wait};
/// use ipc_sync::Event;
///
/// let (event, doorbell) = (Event::new()?, Doorbell::new());
/// let readiness = doorbell.arm(&event)?.expect("it is not set");
/// event.set();
/// wait(&[&Readable(&readiness)]); // or epoll, or select
/// assert!(event.is_set());
/// assert!(doorbell.arm(&event)?.is_none(), "ready: nothing to wait for");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[doc(alias = "eventfd")]
pub struct Doorbell {
    here: PerProcess<Mutex<Armed>>,
}

/// What this process has of a doorbell.
#[derive(Debug, Default)]
struct Armed {
    bell: Option<Arc<OwnedFd>>,
    numbers: Numbers,
}

impl Doorbell {
    /// A new one, not armed; it has no descriptor yet.
    pub const fn new() -> Doorbell {
        Doorbell { here: PerProcess::new() }
    }

    /// Has the descriptor become readable when `thing` becomes ready; `None` = it is ready now. Does not block.
    ///
    /// The descriptor stays readable until this is called again, so it may be readable in vain, but it misses nothing that
    /// comes after the call. It stays the same one. Neither read nor write it.
    ///
    /// # Errors
    ///
    /// No descriptor or no thread could be had.
    pub fn arm(&self, thing: &dyn Waitable) -> io::Result<Option<Readiness>> {
        match thing.watch() {
            Watch::Ready => Ok(None),
            Watch::Armed(readiness) => Ok(Some(readiness)),
            Watch::Readable(descriptor) => lent(descriptor),
            Watch::Word(word) => self.arm_word(word),
            Watch::Busy => Err(io::ErrorKind::ResourceBusy.into()),
            Watch::Writable(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn arm_word(&self, word: Arc<dyn WakeWord>) -> io::Result<Option<Readiness>> {
        let mut here = self.here.get().lock();
        BRIDGE.get().remove(std::mem::take(&mut here.numbers));
        let bell = match here.bell.take() {
            Some(bell) => bell,
            None => eventfd()?,
        };
        let _ = nix::unistd::read(&bell, &mut [0; 8]); // nothing there = it is not readable
        here.bell = Some(bell.clone());
        let Some(expected) = word.arm() else { return Ok(None) };
        here.numbers = BRIDGE.get().add(vec![(word, expected)], &bell)?;
        Ok(Some(Readiness::of(bell)))
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        BRIDGE.get().remove(self.numbers);
    }
}

fn lent(descriptor: BorrowedFd<'_>) -> io::Result<Option<Readiness>> {
    Ok(Some(Readiness::of(Arc::new(descriptor.try_clone_to_owned()?))))
}

//! Futexes without timeouts: a queue of sleepers, of whom a wake takes the first out that sleeps on its word.
#![allow(unsafe_code)]

use loom::sync::{Condvar, Mutex};
use std::sync::atomic::Ordering::SeqCst;

use super::Deadline;
use super::primitive::{AtomicU32, die, dies_next, step};

/// Most words one can sleep on together.
pub const WORDS: usize = 1 + 64;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Look,
    /// Through another word than the first.
    Other(usize),
    TimedOut,
}

/// A thread in the kernel.
struct Sleeper {
    ticket: usize,
    words: Vec<*const AtomicU32>,
    /// `None` = it sleeps on.
    woken: Option<Woken>,
}

impl Sleeper {
    fn index_of(&self, word: *const AtomicU32) -> Option<usize> {
        self.words.iter().position(|&on| on == word)
    }
}

#[derive(Default)]
struct Queue {
    next: usize,
    sleepers: Vec<Sleeper>,
}

// SAFETY: the pointers are compared and never followed.
unsafe impl Send for Queue {}

impl Queue {
    fn enter(&mut self, words: &[(&AtomicU32, u32)]) -> usize {
        let ticket = self.next;
        self.next += 1;
        let words = words.iter().map(|&(word, _)| word as *const _).collect();
        self.sleepers.push(Sleeper { ticket, words, woken: None });
        ticket
    }

    fn woken(&self, ticket: usize) -> Option<Woken> {
        self.sleepers.iter().find(|sleeper| sleeper.ticket == ticket)?.woken
    }

    fn leave(&mut self, ticket: usize) {
        self.sleepers.retain(|sleeper| sleeper.ticket != ticket);
    }

    fn wake_first(&mut self, word: *const AtomicU32) -> bool {
        let mut asleep = self.sleepers.iter_mut().filter(|sleeper| sleeper.woken.is_none());
        let first = asleep.find_map(|sleeper| Some((sleeper.index_of(word)?, sleeper)));
        let Some((index, sleeper)) = first else { return false };
        sleeper.woken = Some(if index == 0 { Woken::Look } else { Woken::Other(index) });
        true
    }
}

loom::lazy_static! {
    static ref QUEUE: Mutex<Queue> = Mutex::new(Queue::default());
    static ref WOKEN: Condvar = Condvar::new();
}

/// Sleeps as long as `word` holds `expected`.
pub fn wait(word: &AtomicU32, expected: u32, until: Deadline) -> Woken {
    wait_any(&[(word, expected)], until)
}

/// Sleeps as long as all words hold what is expected of them.
///
/// A thread whose end comes next is killed in its sleep: a wake that reached it first is lost with it.
pub fn wait_any(words: &[(&AtomicU32, u32)], _: Deadline) -> Woken {
    step();
    let mut queue = QUEUE.lock().unwrap();
    if words.iter().any(|(word, expected)| word.by_kernel().load(SeqCst) != *expected) {
        return Woken::Look;
    }
    let ticket = queue.enter(words);
    if dies_next() {
        drop(queue);
        QUEUE.lock().unwrap().leave(ticket);
        die();
    }
    loop {
        queue = WOKEN.wait(queue).unwrap();
        if let Some(woken) = queue.woken(ticket) {
            queue.leave(ticket);
            return woken;
        }
    }
}

/// Wakes up to `count` sleepers of `word`; answers how many.
pub fn wake(word: &AtomicU32, count: i32) -> usize {
    step();
    (0..count).take_while(|_| kernel_wake(word)).count()
}

/// Wakes all sleepers of `word`; answers how many.
pub fn wake_all(word: &AtomicU32) -> usize {
    wake(word, i32::MAX)
}

/// Sets bit number `bit` of `word` and wakes up to `count` sleepers of `sleepers`: one step.
pub fn set_bit_and_wake(word: &AtomicU32, bit: u32, sleepers: &AtomicU32, count: i32) {
    step();
    word.by_kernel().fetch_or(1 << bit, SeqCst);
    (0..count).take_while(|_| kernel_wake(sleepers)).count();
}

/// Adds 1 to `word` and wakes up to `count` sleepers of `sleepers`: one step.
pub fn increment_and_wake(word: &AtomicU32, sleepers: &AtomicU32, count: i32) {
    step();
    word.by_kernel().fetch_add(1, SeqCst);
    (0..count).take_while(|_| kernel_wake(sleepers)).count();
}

/// Wakes one sleeper of `word`, not as a step of any thread; false = nobody slept.
pub fn kernel_wake(word: *const AtomicU32) -> bool {
    let found = QUEUE.lock().unwrap().wake_first(word);
    if found {
        WOKEN.notify_all();
    }
    found
}

/// How many threads sleep.
pub fn sleepers() -> usize {
    QUEUE.lock().unwrap().sleepers.iter().filter(|sleeper| sleeper.woken.is_none()).count()
}

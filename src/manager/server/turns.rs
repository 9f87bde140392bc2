//! The loop: one thread, all links in turn, and sleep when none has anything.
//!
//! ```text
//! hot        used lately: its ring is looked at in each turn, no system call
//! cold       armed: the poller tells when something comes
//! blocked    its answer has no room: it is tried again from time to time, and nothing is read
//! ```
//!
//! Before the server sleeps all hot links become cold. So who is silent costs nothing.
//!
//! A link whose requests take a whole slice of time is greedy: of all that are, one is served in each turn, so that the others
//! wait for one slice and not for many.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use ipc_pipe::{Link, Listener};
use ipc_sync::{Deadline, Patience};

use super::peer::{Peer, Turn};
use super::poller::{Events, Poller, READABLE};
use super::slab::Slab;
use super::slice::Slice;
use super::state::{LinkId, State, Woken};

/// The poller's numbers for newcomers, and for snapshots that were written. Links have larger ones.
const DOOR: u64 = 0;
const SAVER: u64 = 1;

/// In a number of the poller's: it is not the link that has something; its process is dead.
const DEAD: u64 = 1 << 63;

/// Newcomers that are let in at once.
const CROWD: usize = 16;

/// Turns between two looks at everything else: newcomers, cold links, timers.
const UNTIL_LOOK: u64 = 64;

/// Glances at hot links, each a few nanoseconds, between two looks at cold ones while nothing comes.
const GLANCES: usize = 256;

/// Turns in which nothing comes after which a link is cold, if there are [`FEW`]; fewer, if there are more.
const SILENCE: u64 = 1024;
const FEW: usize = 16;

/// A message that has begun must be whole after this.
const FRAME_TIME: Duration = Duration::from_secs(10);

/// Between two tries to send what has no room in a ring.
const RETRY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Turns {
    state: State,
    door: Option<Listener>,
    peers: Slab<Peer>,
    hot: Vec<LinkId>,
    blocked: Vec<LinkId>,
    /// When they are tried again.
    retry: Deadline,
    /// Links in the middle of a message, by the time at which they are closed if they still are.
    begun: VecDeque<(Deadline, LinkId)>,
    poller: Poller,
    patience: Patience,
    /// Not all that are on the list are hot.
    untidy: bool,
    /// Since it looked at everything else, or somebody used up the last one.
    slice: Slice,
    /// Where in the list a turn begins: behind the greedy link that was served last.
    start: usize,
    /// Counts turns.
    now: u64,
    /// The turn in which it looked at everything else last.
    looked: u64,
    /// The processor on which the last client was seen.
    processor: u32,
    pub(super) frame_time: Duration,
}

/// What became of a turn of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    Idle,
    Busy,
    /// Somebody used up a slice: everything else has waited long enough.
    Late,
}

/// What came while nobody had anything.
struct Rested {
    events: Events,
    /// All hot links were armed.
    slept: bool,
}

impl Turns {
    pub(super) fn new(state: State, door: Option<Listener>) -> io::Result<Turns> {
        let poller = Poller::new()?;
        poller.add(&state.saver, SAVER, READABLE)?;
        if let Some(door) = &door {
            poller.add(door, DOOR, READABLE)?;
        }
        Ok(Turns {
            state,
            door,
            peers: Slab::default(),
            hot: Vec::new(),
            blocked: Vec::new(),
            retry: Deadline::NEVER,
            begun: VecDeque::new(),
            poller,
            patience: Patience::default(),
            untidy: false,
            slice: Slice::begin(),
            start: 0,
            now: 0,
            looked: 0,
            processor: u32::MAX,
            frame_time: FRAME_TIME,
        })
    }

    /// A newcomer. One that cannot be listened to is closed.
    pub(super) fn adopt(&mut self, link: Link) {
        link.set_max_message(self.state.limits.message);
        let id = self.peers.insert(Peer::new(link));
        self.state.links += 1;
        self.hot.push(id);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.watch(&self.poller, id | DEAD);
        }
    }

    /// Serves until a client asks for the end.
    pub(super) fn run(&mut self) -> io::Result<()> {
        while !self.state.is_over {
            self.now += 1;
            match self.turn() {
                Pace::Idle => self.rest()?,
                Pace::Busy => {}
                Pace::Late => self.look_around()?,
            }
            if self.now - self.looked >= UNTIL_LOOK {
                self.look_around()?;
            }
        }
        Ok(())
    }

    /// One turn of all hot links, but for greedy ones: one of these.
    fn turn(&mut self) -> Pace {
        let (mut pace, mut fed) = (Pace::Idle, false);
        let (count, start) = (self.hot.len(), self.start);
        for n in start..start + count {
            let at = n % count;
            let id = self.hot[at];
            if fed && self.peers.get(id).is_some_and(|peer| peer.is_greedy) {
                continue;
            }
            if !self.serve(id) {
                continue;
            }
            pace = pace.max(Pace::Busy);
            if self.slice.is_over() {
                self.slice = Slice::begin();
                (pace, fed, self.start) = (Pace::Late, true, at + 1);
            }
        }
        if std::mem::take(&mut self.untidy) {
            self.tidy();
        }
        pace
    }

    #[inline]
    fn serve(&mut self, id: LinkId) -> bool {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.is_hot) else { return false };
        let turn = peer.serve(id, &mut self.state, &self.slice);
        peer.is_greedy = turn == Turn::Busy && self.slice.is_over();
        match turn {
            Turn::Busy => {
                peer.served = self.now;
                self.processor = peer.link.peer_processor().unwrap_or(u32::MAX);
            }
            Turn::Idle => {}
            turn => self.stop(id, turn),
        }
        if !self.state.woken.is_empty() {
            self.deliver();
        }
        turn != Turn::Idle
    }

    /// Takes links off the list that are not hot any more.
    #[cold]
    fn tidy(&mut self) {
        let Turns { hot, peers, .. } = self;
        hot.retain(|id| {
            let Some(peer) = peers.get_mut(*id) else { return false };
            peer.is_listed = peer.is_hot;
            peer.is_hot
        });
    }

    /// A link that is blocked or over.
    #[cold]
    fn stop(&mut self, id: LinkId, turn: Turn) {
        self.untidy = true;
        match turn {
            Turn::Over { refused } => self.close(id, refused),
            _ => {
                let Some(peer) = self.peers.get_mut(id) else { return };
                peer.is_hot = false;
                peer.arm(id, &self.poller);
                peer.mind_room(id, &self.poller, true);
                if !peer.hears_of_room() {
                    self.blocked.push(id);
                    self.retry = self.retry.min(Deadline::after(RETRY));
                }
            }
        }
    }

    fn close(&mut self, id: LinkId, refused: bool) {
        let Some(Peer { link, mut line, owed, .. }) = self.peers.remove(id) else { return };
        // What was sent to one who is gone and has not taken it is in nobody's hands.
        let is_unheard = owed.is_some() || (!refused && line.last.is_some() && !link.all_taken());
        // Closed first: who hears of what it held finds it gone.
        drop(link);
        self.state.links -= 1;
        self.state.refused += u64::from(refused);
        if let Some(answered) = line.last.take().filter(|_| is_unheard) {
            self.state.undo(answered);
        }
        self.state.hang_up(line);
    }

    /// Sends answers to calls that waited. One that reaches nobody may wake others.
    fn deliver(&mut self) {
        while !self.state.woken.is_empty() {
            for Woken { link, answered } in std::mem::take(&mut self.state.woken) {
                let Some(peer) = self.peers.get_mut(link) else {
                    self.state.undo(answered);
                    continue;
                };
                peer.line.waits = None;
                let turn = peer.send(&answered.answer);
                match turn {
                    Turn::Over { .. } => self.state.undo(answered),
                    _ => peer.line.last = Some(answered),
                }
                if turn != Turn::Idle {
                    self.stop(link, turn);
                }
            }
        }
    }

    /// Waits until somebody has something: awake for a little while, then asleep.
    fn rest(&mut self) -> io::Result<()> {
        self.note_begun();
        let (over, looks) = (RefCell::new(None), Cell::new(0));
        let Turns { hot, peers, patience, processor, .. } = &*self;
        let hot_peers = || hot.iter().filter_map(|id| peers.get(*id).map(|peer| (*id, peer)));
        let ready = || {
            looks.set(looks.get() + hot.len());
            over.borrow().is_some()
                || hot_peers().any(|(_, peer)| peer.link.glance())
                || looks.get() >= GLANCES && looks.take() > 0 && self.peek(&over)
        };
        let sleep = || {
            over.replace(Some(self.sleep(hot_peers())));
            true
        };
        if hot_peers().any(|(_, peer)| peer.link.is_local()) {
            patience.wait(*processor, ready, sleep);
        } else {
            sleep();
        }
        if let Some(rested) = over.into_inner() {
            self.wake(rested?);
        }
        self.slice = Slice::begin();
        Ok(())
    }

    /// Whether the poller has something to tell: a cold link is not to wait until the hot ones are.
    fn peek(&self, over: &RefCell<Option<io::Result<Rested>>>) -> bool {
        let mut events = Events::default();
        let told = self.poller.wait(&mut events, Deadline::NOW).is_ok() && events.are_there();
        if told {
            over.replace(Some(Ok(Rested { events, slept: false })));
        }
        told
    }

    /// Arms all hot links and sleeps, unless one of them has something by now.
    fn sleep<'a>(&self, hot: impl Iterator<Item = (LinkId, &'a Peer)>) -> io::Result<Rested> {
        let (mut slept, mut events) = (true, Events::default());
        for (id, peer) in hot {
            slept &= peer.arm(id, &self.poller);
        }
        if slept {
            self.poller.wait(&mut events, self.next_deadline())?;
        }
        Ok(Rested { events, slept })
    }

    /// After sleep all links are cold but those that the poller tells of.
    fn wake(&mut self, rested: Rested) {
        if rested.slept {
            for id in self.hot.drain(..) {
                if let Some(peer) = self.peers.get_mut(id) {
                    (peer.is_hot, peer.is_listed) = (false, false);
                }
            }
        }
        self.attend(&rested.events);
        self.keep_time();
    }

    /// What a busy server must not forget.
    fn look_around(&mut self) -> io::Result<()> {
        self.note_begun();
        let mut events = Events::default();
        self.poller.wait(&mut events, Deadline::NOW)?;
        self.cool();
        self.attend(&events);
        self.keep_time();
        self.slice = Slice::begin();
        Ok(())
    }

    /// Links that were silent for long become cold.
    fn cool(&mut self) {
        let Turns { hot, peers, poller, now, .. } = self;
        let silence = SILENCE / (1 + hot.len() / FEW) as u64;
        for id in hot {
            let Some(peer) = peers.get_mut(*id) else { continue };
            peer.is_hot &= peer.served + silence > *now || !peer.arm(*id, poller);
        }
        self.tidy();
    }

    fn attend(&mut self, events: &Events) {
        for number in events.numbers() {
            match number {
                DOOR => self.let_in(),
                SAVER => self.state.finish_saves(),
                dead if dead & DEAD != 0 => self.end(dead & !DEAD),
                link => self.heat(link),
            }
        }
    }

    /// The process at the other end is dead. What it sent is done; nothing more comes.
    #[cold]
    fn end(&mut self, id: LinkId) {
        self.heat(id);
        self.serve(id);
        self.close(id, false);
        self.untidy = true;
        self.deliver();
    }

    /// The poller tells of a link.
    fn heat(&mut self, id: LinkId) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.look.set(true);
        if peer.is_blocked() {
            self.flush(id);
            return;
        }
        (peer.is_hot, peer.served) = (true, self.now);
        if !peer.is_listed {
            peer.is_listed = true;
            self.hot.push(id);
        }
    }

    /// Tries to send what a link is owed; true = it is not blocked any more.
    fn flush(&mut self, id: LinkId) -> bool {
        let Some(peer) = self.peers.get_mut(id) else { return true };
        match peer.flush() {
            Turn::Over { refused } => self.close(id, refused),
            Turn::Idle => {
                peer.mind_room(id, &self.poller, false);
                self.heat(id);
            }
            _ => return false,
        }
        true
    }

    fn let_in(&mut self) {
        for _ in 0..CROWD {
            let Some(door) = &self.door else { return };
            match door.try_accept() {
                Ok(Some(link)) => self.adopt(link),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// When the server must wake though nobody has anything.
    fn next_deadline(&self) -> Deadline {
        let begun = self.begun.front().map_or(Deadline::NEVER, |(deadline, _)| *deadline);
        let door = self.door.as_ref().and_then(Listener::next_deadline);
        let door = door.map_or(Deadline::NEVER, Deadline::at);
        self.state.next_deadline().min(begun).min(self.retry).min(door)
    }

    /// Does what its time has come for.
    fn keep_time(&mut self) {
        self.looked = self.now;
        self.state.run_timers();
        if self.retry.has_passed() {
            self.retry_blocked();
        }
        while let Some((_, id)) = self.begun.front().copied().filter(|(deadline, _)| deadline.has_passed()) {
            self.begun.pop_front();
            let late = |peer: &Peer| peer.whole_until.is_some_and(Deadline::has_passed);
            if self.peers.get(id).is_some_and(late) {
                self.close(id, true);
            }
        }
        let door = self.door.as_ref().and_then(Listener::next_deadline);
        if door.is_some_and(|deadline| deadline <= Instant::now()) {
            self.let_in();
        }
        self.deliver();
    }

    #[cold]
    fn retry_blocked(&mut self) {
        let mut blocked = std::mem::take(&mut self.blocked);
        blocked.retain(|id| !self.flush(*id));
        self.blocked.append(&mut blocked);
        self.retry = if self.blocked.is_empty() { Deadline::NEVER } else { Deadline::after(RETRY) };
    }

    /// Notes links that are in the middle of a message.
    fn note_begun(&mut self) {
        for id in &self.hot {
            let Some(peer) = self.peers.get_mut(*id) else { continue };
            if peer.whole_until.is_none() && peer.link.is_mid_message() {
                let deadline = Deadline::after(self.frame_time);
                peer.whole_until = Some(deadline);
                self.begun.push_back((deadline, *id));
            }
        }
    }
}

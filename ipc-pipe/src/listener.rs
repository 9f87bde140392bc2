//! `Listener`: where processes that share nothing yet come in.
//!
//! Nobody waits for anybody else's handshake: all that are under way stand in one table, behind one epoll descriptor, and go on as
//! their bytes come. A timer behind the same descriptor tells when somebody's time is up, whichever thread waits.
//!
//! ```text
//! a client comes
//!   not one of the users that may       closed before a byte is read
//!   the table is full                   the oldest that proved nothing goes, of the user who has most of them; if all
//!                                       are new, the client waits at the door until one is not
//!   the handshake fails, or ends late   closed, counted
//!   the handshake is over               a link
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc_sync::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use parking_lot::Mutex;

use crate::address::Address;
use crate::auth::Denial;
use crate::greeting::{Fault, Greeting, Peer};
use crate::key::Key;
use crate::letter::Torn;
use crate::link::Link;
use crate::site::Site;
use crate::waitable::{Waitable, Watch};

/// The numbers of the listening socket and of the timer among those of the handshakes, which come after.
const DOOR: u64 = 0;
const CLOCK: u64 = 1;

/// Clients that are let in, and events that are looked at, in one turn.
const TURN: usize = 16;

/// Who came less than so long ago is not sent away for another: a living client answers within it.
const GRACE: Duration = Duration::from_millis(4);

/// Where the kernel has no descriptor for us, we ask again after so long.
const PAUSE: Duration = Duration::from_millis(10);

/// Settings of a [`Listener`].
///
/// ```
/// use ipc_pipe::{Address, Key, Listener};
/// use std::time::Duration;
///
/// let listener = Listener::options()
///     .address(Address::Abstract(b"jobs".to_vec()))
///     .key(Key::random()?)
///     .allow_uid(1000)
///     .handshake_timeout(Duration::from_millis(500))
///     .bind()?;
/// assert_eq!(listener.address().to_string(), "abstract:jobs");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    address: Option<Address>,
    key: Option<Key>,
    uids: Vec<u32>,
    backlog: Option<u32>,
    timeout: Duration,
    max_pending: usize,
}

impl ListenerOptions {
    /// Where to listen; [`Address::fresh`] unless set.
    pub fn address(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// What clients must know. A random one unless set; see [`Listener::key`].
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Lets a user in beside our own. It needs the key too, and gets a stream: no memory is shared with it. The socket file stays ours
    /// alone (0600): for another user its mode must be changed, or the address be an abstract one.
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// Clients that may wait until they are looked at. Unless set, 128 on this machine, where the next one waits inside its `connect`;
    /// and 1024 over TCP, where the next one comes again after a second.
    pub fn backlog(mut self, clients: u32) -> Self {
        self.backlog = Some(clients);
        self
    }

    /// How long a handshake may take; 2 s unless set.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Handshakes under way at a time, at most; 64 unless set. Each takes a descriptor and 1 KiB; the listener itself has four
    /// descriptors.
    pub fn max_pending(mut self, handshakes: usize) -> Self {
        self.max_pending = handshakes.max(1);
        self
    }

    /// Listens.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`].
    pub fn bind(self) -> io::Result<Listener> {
        let ListenerOptions { address, key, uids, backlog, timeout, max_pending } = self;
        let address = address.unwrap_or_else(Address::fresh);
        let backlog = backlog.unwrap_or(if address.is_local() { 128 } else { 1024 });
        let site = Site::new(&address, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let key = key.map_or_else(Key::random, Ok)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&site.door, EpollEvent::new(EpollFlags::EPOLLIN, DOOR))?;
        epoll.add(&clock, EpollEvent::new(EpollFlags::EPOLLIN, CLOCK))?;
        let spare = Some(epoll.0.try_clone()?);
        let hall = Hall { spare, max_pending, timeout, last: CLOCK, ..Hall::default() };
        Ok(Listener { epoll, site, clock, key, uids, hall: Mutex::new(hall) })
    }
}

/// A place where other processes connect to this one, by [`connect`](crate::connect).
///
/// Clients must know the key, and prove it; on this machine they must be processes of this user, or of one that was
/// [allowed](ListenerOptions::allow_uid), which is looked at before anything they send. Whoever fails is closed and
/// [counted](Listener::refused), and does not make anybody else wait: a good client gets in at once beside thousands that
/// are silent or slow. CPython's `Client`, from 3.12 on, gets in too, as a stream.
///
/// When this is dropped, or its process ends, clients that were accepted stay connected; others are told that nobody
/// listens. The file and its directory go when it is dropped. A file that a killed process left is replaced by the next listener.
///
/// It may be shared between threads; each client goes to one of them.
///
/// # For event loops
///
/// [`as_fd`](AsFd::as_fd) is readable when [`try_accept`](Listener::try_accept) has something to do, which may be no more than a step of
/// somebody's handshake, or the end of his time.
///
/// ```
/// use ipc_pipe::{Address, Key, Listener, connect};
///
/// let key = Key::random()?;
/// let listener = Listener::bind(&Address::fresh(), key.clone())?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || {
///     let link = connect(&address, &key).unwrap();
///     link.recv::<String>().unwrap()
/// });
/// let link = listener.accept()?;
/// assert!(link.is_local(), "one user, one machine: shared memory");
/// link.send("welcome")?;
/// assert_eq!(client.join().unwrap(), "welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.connection.Listener")]
pub struct Listener {
    epoll: Epoll,
    site: Site,
    clock: TimerFd,
    key: Key,
    uids: Vec<u32>,
    hall: Mutex<Hall>,
}

/// Those who are let in and have not proved yet who they are.
#[derive(Debug, Default)]
struct Hall {
    /// By their numbers, and so the oldest first.
    guests: BTreeMap<u64, Guest>,
    last: u64,
    max_pending: usize,
    timeout: Duration,
    /// The door is shut until then: there is no room, or no descriptor.
    shut: Option<Instant>,
    /// What the timer is set to.
    alarm: Option<Instant>,
    /// Who waits at the door for a place.
    visitor: Option<(OwnedFd, Option<Peer>)>,
    /// A descriptor kept for the day when there is none: it is given up to accept a client, who is sent away, instead
    /// of being told of him without end.
    spare: Option<OwnedFd>,
    refused: Refusals,
}

#[derive(Debug)]
struct Guest {
    greeting: Greeting,
    since: Instant,
}

/// How many clients did not get in, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Processes of users that are not allowed.
    pub user: u64,
    /// They do not know the key.
    pub key: u64,
    /// They do not keep to the handshake; CPython before 3.12, which answers by MD5, is among them.
    pub protocol: u64,
    /// They went away.
    pub closed: u64,
    /// They took too long.
    pub late: u64,
    /// They made room for others.
    pub evicted: u64,
    /// This process had no descriptor for them, or the kernel no memory.
    pub resources: u64,
}

impl Refusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.user + self.key + self.protocol + self.closed + self.late + self.evicted + self.resources
    }

    fn count(&mut self, fault: &Fault) {
        *match fault {
            Fault::Denied(Denial::NotAuthentic) => &mut self.key,
            Fault::Denied(_) => &mut self.protocol,
            Fault::Torn(Torn::Io(_)) => &mut self.resources,
            Fault::Torn(_) => &mut self.closed,
        } += 1;
    }
}

impl Listener {
    /// Listens at `address` for clients that know `key`.
    ///
    /// A directory that is missing is made, 0700, and removed with the listener; the file is 0600, whatever the umask. The file of a
    /// listener that is dead is replaced. An address can be used again at once.
    ///
    /// # Errors
    ///
    /// `AddrInUse`: somebody listens there. `AlreadyExists`: there is a file that is not a socket. And what the kernel answers.
    pub fn bind(address: &Address, key: Key) -> io::Result<Listener> {
        Listener::options().address(address.clone()).key(key).bind()
    }

    /// A listener with settings of your own.
    pub fn options() -> ListenerOptions {
        ListenerOptions {
            address: None,
            key: None,
            uids: Vec::new(),
            backlog: None,
            timeout: Duration::from_secs(2),
            max_pending: 64,
        }
    }

    /// Where it listens; with the port that the kernel chose, if it was 0.
    pub fn address(&self) -> &Address {
        &self.site.address
    }

    /// What clients must know.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Waits for a client that gets in.
    ///
    /// # Errors
    ///
    /// The kernel has no memory to wait with.
    pub fn accept(&self) -> io::Result<Link> {
        self.accept_until(Deadline::NEVER).map(|link| link.expect("a wait without end does not time out"))
    }

    /// A client that gets in now, if there is one. Does not block.
    ///
    /// One turn of all handshakes that are under way. Call it again when [`as_fd`](AsFd::as_fd) is readable.
    ///
    /// # Errors
    ///
    /// As [`accept`](Listener::accept).
    pub fn try_accept(&self) -> io::Result<Option<Link>> {
        let mut hall = self.hall.lock();
        self.expire(&mut hall);
        let mut events = [EpollEvent::empty(); TURN];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            answer => answer?,
        };
        // The link of one guest goes out at once; what is left stays ready.
        let link = events[..count].iter().find_map(|event| self.handle(&mut hall, event.data()));
        self.set_clock(&mut hall);
        Ok(link)
    }

    /// Waits for a client that gets in, for `timeout` at most. `None` = the time was up.
    ///
    /// # Errors
    ///
    /// As [`accept`](Listener::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<Option<Link>> {
        self.accept_until(Deadline::after(timeout))
    }

    /// As [`accept_timeout`](Listener::accept_timeout), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`accept`](Listener::accept).
    pub fn accept_deadline(&self, deadline: Instant) -> io::Result<Option<Link>> {
        self.accept_until(Deadline::at(deadline))
    }

    /// When [`try_accept`](Listener::try_accept) has something to do though nobody comes: somebody's time is up. [`as_fd`](AsFd::as_fd)
    /// tells that too. `None` = nobody is on the way.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.hall.lock().next_deadline()
    }

    /// Handshakes under way.
    pub fn pending(&self) -> usize {
        self.hall.lock().guests.len()
    }

    /// How many clients did not get in, and why.
    pub fn refused(&self) -> Refusals {
        self.hall.lock().refused
    }

    /// Listens no more. Dropping it does the same.
    pub fn close(self) {}

    fn accept_until(&self, deadline: Deadline) -> io::Result<Option<Link>> {
        loop {
            if let Some(link) = self.try_accept()? {
                return Ok(Some(link));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            let mut entry = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut entry, deadline.remaining().map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Goes on with whomever an event tells of.
    fn handle(&self, hall: &mut Hall, number: u64) -> Option<Link> {
        match number {
            DOOR => self.admit(hall),
            CLOCK => {
                hall.alarm = None;
                let _ = self.clock.unset();
            }
            guest => return self.attend(hall, guest),
        }
        None
    }

    /// Sets the timer to the next time that is up. One that is set for later than needed is set anew, one for earlier rings in
    /// vain.
    fn set_clock(&self, hall: &mut Hall) {
        let Some(next) = hall.next_deadline() else { return };
        if hall.alarm.is_none_or(|alarm| next < alarm) {
            let left = next.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            hall.alarm = self.clock.set(once, TimerSetTimeFlags::empty()).is_ok().then_some(next);
        }
    }

    /// Sends those away whose time is up, and opens the door again.
    fn expire(&self, hall: &mut Hall) {
        let now = Instant::now();
        while let Some((&number, guest)) = hall.guests.first_key_value() {
            if now.saturating_duration_since(guest.since) < hall.timeout {
                break;
            }
            self.remove(hall, number);
            hall.refused.late += 1;
        }
        if hall.shut.is_some_and(|until| until <= now) {
            hall.shut = None;
            self.watch_door(EpollFlags::EPOLLIN);
            if let Some((socket, peer)) = hall.visitor.take() {
                self.seat(hall, socket, peer);
            }
        }
    }

    /// Lets clients in.
    fn admit(&self, hall: &mut Hall) {
        for _ in 0..TURN {
            if hall.shut.is_some() {
                return;
            }
            match self.site.door.accept() {
                Ok(socket) => self.examine(hall, socket),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EMFILE | Errno::ENFILE) => self.send_one_away(hall),
                    Some(Errno::ENOMEM | Errno::ENOBUFS) => self.shut(hall, PAUSE),
                    _ => {} // that one is gone already
                },
            }
        }
    }

    /// Looks at who it is, before anything it says.
    fn examine(&self, hall: &mut Hall, socket: OwnedFd) {
        if !self.site.address.is_local() {
            return self.seat(hall, socket, None);
        }
        match Peer::of(&socket) {
            Some(peer) if peer.is_us() || self.uids.contains(&peer.uid) => {
                self.seat(hall, socket, Some(peer));
            }
            _ => hall.refused.user += 1,
        }
    }

    /// Begins a handshake, if there is room for one more.
    fn seat(&self, hall: &mut Hall, socket: OwnedFd, peer: Option<Peer>) {
        if hall.guests.len() >= hall.max_pending && !self.make_room(hall) {
            hall.visitor = Some((socket, peer));
            return;
        }
        let number = hall.last + 1;
        match Greeting::serve(socket, peer, self.key.clone()).and_then(|greeting| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
            let added = self.epoll.add(greeting.socket(), event);
            added.map(|()| greeting).map_err(|error| Fault::Torn(Torn::Io(error.into())))
        }) {
            Ok(greeting) => {
                hall.last = number;
                hall.guests.insert(number, Guest { greeting, since: Instant::now() });
            }
            Err(fault) => hall.refused.count(&fault),
        }
    }

    /// Goes on with one handshake.
    fn attend(&self, hall: &mut Hall, number: u64) -> Option<Link> {
        match hall.guests.get_mut(&number)?.greeting.turn() {
            Ok(false) => None,
            Ok(true) => self.remove(hall, number).map(Greeting::into_link),
            Err(fault) => {
                self.remove(hall, number);
                hall.refused.count(&fault);
                None
            }
        }
    }

    /// Closes the oldest connection that proved nothing, of the user who has most of them; false = all are new, and the
    /// door is shut until one is not.
    fn make_room(&self, hall: &mut Hall) -> bool {
        let mut counts = BTreeMap::<Option<u32>, (usize, u64)>::new();
        for (&number, guest) in &hall.guests {
            if !guest.greeting.is_authentic() {
                let user = guest.greeting.peer().map(|peer| peer.uid);
                counts.entry(user).or_insert((0, number)).0 += 1;
            }
        }
        let Some(&(_, oldest)) = counts.values().max_by_key(|(count, _)| *count) else {
            self.shut(hall, GRACE); // all of them will be through in a moment
            return false;
        };
        let age = hall.guests[&oldest].since.elapsed();
        if age < GRACE {
            self.shut(hall, GRACE - age);
            return false;
        }
        self.remove(hall, oldest);
        hall.refused.evicted += 1;
        true
    }

    fn remove(&self, hall: &mut Hall, number: u64) -> Option<Greeting> {
        let guest = hall.guests.remove(&number)?;
        // Closing it would not be enough: a forked child may have a copy.
        let _ = self.epoll.delete(guest.greeting.socket());
        Some(guest.greeting)
    }

    /// Accepts a client by the spare descriptor, and closes it.
    fn send_one_away(&self, hall: &mut Hall) {
        if hall.spare.take().is_none() {
            self.shut(hall, PAUSE);
        } else if self.site.door.accept().is_ok() {
            hall.refused.resources += 1;
        }
        hall.spare = self.epoll.0.try_clone().ok();
    }

    fn shut(&self, hall: &mut Hall, time: Duration) {
        hall.shut = Some(Instant::now() + time);
        self.watch_door(EpollFlags::empty());
    }

    fn watch_door(&self, events: EpollFlags) {
        let _ = self.epoll.modify(&self.site.door, &mut EpollEvent::new(events, DOOR));
    }
}

impl Hall {
    /// When somebody's time is up, or the door is opened again.
    fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.guests.values().next().and_then(|guest| guest.since.checked_add(self.timeout));
        [oldest, self.shut].into_iter().flatten().min()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Ready when there is something to do for [`Listener::try_accept`], which may then answer `None`.
impl Waitable for Listener {
    fn is_ready(&self) -> bool {
        let mut entry = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut entry, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Readable(self.as_fd())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", self.address()).finish_non_exhaustive()
    }
}

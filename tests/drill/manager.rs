//! Row 11: clients of a manager that are killed in calls of all kinds, and what its server has left of them.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use multiprocess::manager::{CallError, Event, Lock, Queue, Semaphore, Statistics};
use multiprocess::{Address, Dict, Key, Manager};

use crate::queue::{read, write};
use crate::{Outcome, servers};
use support::chaos::Plan;
use support::{Folder, Rng, say, shared, until_within};

/// Nothing done for so long is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// So many clients are killed for each server that is.
const KILLS_EACH_SERVER: u64 = 4;
/// What dead clients had is free after so long.
const FAREWELL: Duration = Duration::from_secs(2);

const CLIENTS: usize = 8;
const PERMITS: u32 = 2;
const BOUND: usize = 4;
/// Keys from 0 on whose entries are set and read all at once.
pub(crate) const BATCH: u64 = 100;
/// Keys whose entries are changed under the lock.
const LEFT: u64 = 1000;
const RIGHT: u64 = 1001;
/// Bytes of a large value.
pub(crate) const LARGE: usize = 256 << 10;
/// No wait of a client is longer.
const SHORT: Duration = Duration::from_millis(3);

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    vec![servers::drill(kills.div_ceil(KILLS_EACH_SERVER), seed), clients(kills, seed)]
}

/// Where servers are, one after the other, and who may talk to them.
pub(crate) struct Place {
    _folder: Folder,
    address: Address,
    key: Key,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = Folder::new();
        let address = Address::Unix(folder.path.join("server"));
        Place { _folder: folder, address, key: Key::random().expect("random numbers") }
    }

    pub(crate) fn start(&self) -> Manager {
        let builder = Manager::builder().address(self.address.clone()).auth(self.key.clone());
        let manager = builder.start().expect("a server");
        Objects::of(&manager); // a restarted server has none of them
        manager
    }

    pub(crate) fn connect(&self) -> Manager {
        Manager::connect(&self.address, &self.key).expect("the server is there")
    }
}

/// What clients do something with. All of it has names.
pub(crate) struct Objects {
    pub(crate) values: Dict<u64, Vec<u8>>,
    pub(crate) numbers: Dict<u64, u64>,
    pub(crate) lock: Lock,
    pub(crate) permits: Semaphore,
    pub(crate) items: Queue<u64>,
    pub(crate) dicts: Queue<Dict<u64, u64>>,
    pub(crate) event: Event,
}

impl Objects {
    /// Whether the server is there, and all of them.
    pub(crate) fn look(&self) -> Result<(), CallError> {
        _ = (self.values.len()?, self.numbers.len()?, self.lock.is_locked()?, self.permits.value()?);
        _ = (self.items.len()?, self.dicts.len()?, self.event.is_set()?);
        Ok(())
    }

    pub(crate) fn of(manager: &Manager) -> Objects {
        Objects {
            values: manager.dict_named("values").expect("a dict"),
            numbers: manager.dict_named("numbers").expect("a dict"),
            lock: manager.lock_named("lock").expect("a lock"),
            permits: manager.bounded_semaphore_named("permits", PERMITS).expect("a semaphore"),
            items: manager.queue_named("items", Some(BOUND)).expect("a queue"),
            dicts: manager.queue_named("dicts", Some(BOUND)).expect("a queue"),
            event: manager.event_named("event").expect("an event"),
        }
    }
}

#[derive(Default)]
struct Account {
    calls: AtomicU64,
    torn: AtomicU64,
    half_done: AtomicU64,
    owners_died: AtomicU64,
    next_seed: AtomicU64,
}

fn clients(kills: u64, seed: u64) -> Outcome {
    let (place, account) = (Place::new(), shared::<Account>());
    let manager = place.start();
    let objects = Objects::of(&manager);
    set_many(&objects, 0);
    [LEFT, RIGHT].iter().for_each(|key| objects.numbers.set(key, &0).expect("the server lives"));
    let base = Holdings::of(&manager);
    let plan = Plan { workers: CLIENTS, kills, seed };
    let mut report = plan.run(|_| work(&place, account, seed), || account.calls.load(SeqCst));
    report.workers.iter_mut().for_each(|worker| _ = worker.kill9());
    while objects.dicts.try_get().is_ok() {} // they are held by the queue, and by nobody who died
    let came_back = until_within(FAREWELL, || Holdings::of(&manager) == base);
    if !came_back {
        say(&format!("left of the dead: {:?}, and there was {base:?}", Holdings::of(&manager)));
    }
    let count = |count: &AtomicU64| count.load(SeqCst);
    let done = format!("calls {} owners died {}", count(&account.calls), count(&account.owners_died));
    let counts = [
        ("left of the dead", u64::from(!came_back)),
        ("locks lost", u64::from(objects.lock.try_lock().is_err())),
        ("permits lost", u64::from(PERMITS).abs_diff(permits(&objects))),
        ("torn", count(&account.torn)),
        ("half done", count(&account.half_done)),
    ];
    Outcome::new("manager clients", &report, done, &counts)
}

/// What a server has beside its clients.
#[derive(Debug, PartialEq)]
struct Holdings {
    clients: u64,
    links: u64,
    objects: u64,
    names: u64,
    waiting: u64,
    refused: u64,
    descriptors: usize,
}

impl Holdings {
    fn of(manager: &Manager) -> Holdings {
        let statistics = manager.statistics().expect("the server lives");
        let descriptors = fs::read_dir(format!("/proc/{}/fd", statistics.pid)).expect("it is ours").count();
        let Statistics { clients, links, objects, names, waiting, refused, .. } = statistics;
        Holdings { clients, links, objects, names, waiting, refused, descriptors }
    }
}

fn work(place: &Place, account: &Account, seed: u64) {
    let mut rng = Rng::new(seed ^ account.next_seed.fetch_add(1, SeqCst) << 32);
    let manager = place.connect();
    let objects = Objects::of(&manager);
    loop {
        match rng.below(8) {
            0 => change_under_lock(&objects, account),
            1 => _ = objects.permits.acquire_timeout(SHORT),
            2 => _ = objects.items.put_timeout(1, SHORT),
            3 => _ = objects.items.get_timeout(SHORT),
            4 => hand_proxies_on(&manager, &objects),
            5 => set_large(&objects, &mut rng, account),
            6 => set_and_get_many(&objects, &mut rng, account),
            _ => _ = objects.event.wait_timeout(SHORT),
        }
        account.calls.fetch_add(1, SeqCst);
    }
}

/// Two entries that are equal whenever nobody has the lock, but for those who died with it.
fn change_under_lock(objects: &Objects, account: &Account) {
    let guard = objects.lock.lock().expect("a lock");
    let read = |key| objects.numbers.get(&key).expect("the server lives").expect("it was set");
    let (left, right) = (read(LEFT), read(RIGHT));
    account.owners_died.fetch_add(guard.owner_died().into(), SeqCst);
    account.half_done.fetch_add((left != right && !guard.owner_died()).into(), SeqCst);
    [LEFT, RIGHT].iter().for_each(|key| objects.numbers.set(key, &(left + 1)).expect("the server lives"));
    if guard.owner_died() {
        guard.mark_consistent().expect("it is held");
    }
}

/// A dict on its way from one client to another, or lost with the client that has it.
fn hand_proxies_on(manager: &Manager, objects: &Objects) {
    let dict = manager.dict::<u64, u64>().expect("a dict");
    dict.set(&1, &1).expect("the server lives");
    _ = objects.dicts.put_timeout(dict, SHORT);
    if let Ok(dict) = objects.dicts.get_timeout(SHORT) {
        assert_eq!(dict.get(&1).expect("the server lives"), Some(1));
    }
}

/// A value of a size that takes a while, whole or not there.
fn set_large(objects: &Objects, rng: &mut Rng, account: &Account) {
    let mut value = Vec::new();
    write(&mut value, rng.below(4) as u32, rng.next() as u32, |_| LARGE);
    objects.values.set(&0, &value).expect("the server lives");
    let found = objects.values.get(&0).expect("the server lives").expect("it was set");
    account.torn.fetch_add(read(&found).is_none().into(), SeqCst);
}

/// A hundred entries at once, which are always the same.
fn set_and_get_many(objects: &Objects, rng: &mut Rng, account: &Account) {
    set_many(objects, rng.next());
    let keys: Vec<u64> = (0..BATCH).collect();
    let found = objects.numbers.get_many(&keys).expect("the server lives");
    account.torn.fetch_add(found.windows(2).any(|pair| pair[0] != pair[1]).into(), SeqCst);
}

fn set_many(objects: &Objects, number: u64) {
    objects.numbers.extend((0..BATCH).map(|key| (key, number))).expect("the server lives");
}

/// Permits that can be taken now.
fn permits(objects: &Objects) -> u64 {
    let permits: Vec<_> = std::iter::from_fn(|| objects.permits.try_acquire().ok()).collect();
    permits.len() as u64
}

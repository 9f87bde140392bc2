//! Row 10: a manager whose server is killed while clients are in calls of all kinds, and started again at its address.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::manager::{CallError, GetError, LockError, PutError, PutFault};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::manager::{BATCH, LARGE, Objects, PATIENCE, Place};
use support::chaos::Report;
use support::leaks::census;
use support::{Rng, fork, shared, until, until_within};

const CLIENTS: usize = 8;
/// Within so long every call has returned.
const NEWS: Duration = Duration::from_millis(250);
/// The longest moment between the last answer and the kill, in microseconds.
const MOMENT: u64 = 1500;

/// What clients tell. A life is the number of a server; the first is 1.
#[derive(Default)]
struct Account {
    /// In which life each client was served last.
    served: [AtomicU64; CLIENTS],
    /// Of which life's end each client was told last.
    told: [AtomicU64; CLIENTS],
    calls: AtomicU64,
    strange: AtomicU64,
    leaks: AtomicU64,
}

fn all(clients: &[AtomicU64], life: u64) -> bool {
    clients.iter().all(|client| client.load(SeqCst) == life)
}

pub(crate) fn drill(kills: u64, seed: u64) -> Outcome {
    let (start, mut rng, account) = (Instant::now(), Rng::new(seed), shared::<Account>());
    let place = Place::new();
    let mut server = place.start();
    let clients: Vec<_> = (0..CLIENTS).map(|i| fork(|| be_served(&place, i, account))).collect();
    let (mut life, mut late, mut hang, mut stall) = (0, 0, false, Duration::ZERO);
    while life < kills && !hang {
        life += 1;
        hang = !until_within(PATIENCE, || all(&account.served, life));
        // Not a wait for anybody: the time of a death is random.
        thread::sleep(Duration::from_micros(rng.below(MOMENT)));
        kill(Pid::from_raw(server.pid() as i32), Signal::SIGKILL).expect("it is ours");
        let since = Instant::now();
        hang |= !until_within(PATIENCE, || all(&account.told, life));
        late += u64::from(since.elapsed() > NEWS);
        stall = stall.max(since.elapsed());
        server.join().expect("it has ended"); // its address is free
        server = place.start();
    }
    drop(clients);
    let counts = [
        ("told late", late),
        ("strange errors", account.strange.load(SeqCst)),
        ("descriptors left behind", account.leaks.load(SeqCst)),
    ];
    let report = Report { seed, kills: vec![life], hang, stall, time: start.elapsed(), workers: Vec::new() };
    let done = format!("clients {CLIENTS} calls {}", account.calls.load(SeqCst));
    Outcome::new("manager servers", &report, done, &counts)
}

/// In calls of one kind, through all lives.
fn be_served(place: &Place, i: usize, account: &Account) {
    let objects = Objects::of(&place.connect());
    let mut descriptors = None;
    for life in 1.. {
        until(|| objects.look().is_ok());
        let open = census().len();
        account.leaks.fetch_add((open > *descriptors.get_or_insert(open)).into(), SeqCst);
        account.served[i].store(life, SeqCst);
        let error = call(&objects, i, account);
        account.strange.fetch_add((!matches!(error, CallError::ServerDied)).into(), SeqCst);
        account.told[i].store(life, SeqCst);
    }
}

/// Calls of one kind until one fails. Four of the eight wait for what never comes.
fn call(objects: &Objects, i: usize, account: &Account) -> CallError {
    loop {
        let result = match i {
            0 => objects.numbers.fetch_add(&0, 1).map(drop),
            1 => objects.numbers.extend((0..BATCH).map(|key| (key, key))),
            2 => objects.values.set(&0, &vec![7; LARGE]),
            3 => have_lock_and_wait(objects),
            4 => objects.lock.lock().map(drop).map_err(of_lock),
            5 => objects.items.get().map(drop).map_err(of_get),
            6 => objects.dicts.put(objects.numbers.clone()).map_err(of_put),
            _ => objects.event.wait(),
        };
        match result {
            Ok(()) => _ = account.calls.fetch_add(1, SeqCst),
            Err(error) => return error,
        }
    }
}

fn have_lock_and_wait(objects: &Objects) -> Result<(), CallError> {
    let _guard = objects.lock.lock().map_err(of_lock)?;
    objects.event.wait()
}

fn of_lock(error: LockError) -> CallError {
    match error {
        LockError::Call(error) => error,
        other => panic!("{other}"),
    }
}

fn of_get(error: GetError) -> CallError {
    match error {
        GetError::Call(error) => error,
        other => panic!("{other}"),
    }
}

fn of_put<T>(error: PutError<T>) -> CallError {
    match error.fault {
        PutFault::Call(error) => error,
        other => panic!("{other}"),
    }
}

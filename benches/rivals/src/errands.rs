//! The works that any store can do, with its server on the second processor.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::Task;
use crate::crew::{Crew, Desk, Job, process};
use crate::link::{number, set_number};
use crate::processors::Side;
use crate::store::{Batching, Client, Proxying, Store};

/// The numbers of the keys are below it, and are the numbers of their values.
const KEYS: u64 = 1000;

/// Keys of one batch.
const BATCH: usize = 100;

const IDLE_CLIENTS: usize = 1000;

/// How long the idle ones are looked at, after as long without a look.
const IDLE: Duration = Duration::from_secs(1);

/// What an idle server uses can not be told more finely; it keeps ratios finite.
const LEAST_SHARE: f64 = 0.001;

pub fn get<S: Store>(task: Task) -> Result<f64, String> {
    crew::<S>(1, Some(Side::Left), task, gets)
}

pub fn set<S: Store>(task: Task) -> Result<f64, String> {
    crew::<S>(1, Some(Side::Left), task, sets)
}

/// Four clients wherever there is room, together.
pub fn get_by_four<S: Store>(task: Task) -> Result<f64, String> {
    crew::<S>(4, None, task, gets)
}

/// A hundred at a time, counted one by one.
pub fn get_in_batches<S: Store<Client: Batching>>(task: Task) -> Result<f64, String> {
    crew::<S>(1, Some(Side::Left), task, batches)
}

/// One proxy after another, with what it stands for.
pub fn make_proxies<S: Store<Client: Proxying>>(task: Task) -> Result<f64, String> {
    crew::<S>(1, Some(Side::Left), task, proxies)
}

/// The server and so many clients of it.
fn crew<S: Store>(
    clients: usize,
    side: Option<Side>,
    task: Task,
    work: fn(S::Client, usize, Desk),
) -> Result<f64, String> {
    let store: &'static S = Box::leak(Box::new(S::create()?));
    let serve = Job { side: Some(Side::Right), work: Box::new(|_| store.serve()) };
    let client = move |desk: Desk| {
        let mut client = store.connect();
        fill(&mut client, task.size.0);
        desk.meet(clients);
        work(client, task.size.0, desk);
    };
    let ask = (0..clients).map(|_| Job { side, work: Box::new(client) });
    Crew::Processes.rate(task.placement, std::iter::once(serve).chain(ask).collect())
}

fn fill(client: &mut impl Client, size: usize) {
    let mut value = vec![7; size.max(8)];
    for key in 0..KEYS {
        set_number(&mut value, key);
        client.set(key, &value);
    }
}

fn gets(mut client: impl Client, size: usize, desk: Desk) {
    for n in 1.. {
        let key = n % KEYS;
        check(key, client.get(key).as_ref(), size);
        desk.done(n);
    }
}

fn sets(mut client: impl Client, size: usize, desk: Desk) {
    let mut value = vec![7; size];
    for n in 1.. {
        set_number(&mut value, n % KEYS);
        client.set(n % KEYS, &value);
        desk.done(n);
    }
}

fn batches(mut client: impl Batching, size: usize, desk: Desk) {
    for n in 1.. {
        let first = n * BATCH as u64 % KEYS;
        let keys: [u64; BATCH] = std::array::from_fn(|i| first + i as u64);
        let mut answers = 0;
        client.get_many(&keys, |value| {
            check(keys[answers], value, size);
            answers += 1;
        });
        assert_eq!(answers, BATCH, "an answer is lost");
        desk.done(n * BATCH as u64);
    }
}

fn proxies(mut client: impl Proxying, _: usize, desk: Desk) {
    for n in 1.. {
        client.make_and_drop();
        desk.done(n);
    }
}

#[inline(always)]
fn check(key: u64, value: &[u8], size: usize) {
    assert!(value.len() == size && number(value) == key, "the value of another key");
}

/// What share of a processor, in percent, the server uses for many who are connected and want nothing.
pub fn idle<S: Store>(task: Task) -> Result<f64, String> {
    let store: &'static S = Box::leak(Box::new(S::create()?));
    let at = |side, work: &dyn Fn()| {
        process(|| {
            task.placement.pin(side);
            work();
        })
    };
    let server = at(Side::Right, &|| store.serve());
    let desk = Desk::new();
    (0..IDLE_CLIENTS).for_each(|_| _ = at(Side::Left, &|| stay_connected(store, desk)));
    desk.wait_for(IDLE_CLIENTS);
    thread::sleep(IDLE);
    let (start, before) = (Instant::now(), seconds_of(server.as_raw())?);
    thread::sleep(IDLE);
    let used = (seconds_of(server.as_raw())? - before) / start.elapsed().as_secs_f64();
    Ok((used * 100.0).max(LEAST_SHARE))
}

fn stay_connected<S: Store>(store: &S, desk: Desk) {
    let mut client = store.connect();
    client.set(0, &[7; 8]);
    desk.arrive();
    loop {
        thread::park();
    }
}

/// What all threads of a process have used of the processors so far.
fn seconds_of(pid: i32) -> Result<f64, String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| "the server has ended")?;
    let used = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Ok(Duration::from_nanos(used.sum()).as_secs_f64())
}

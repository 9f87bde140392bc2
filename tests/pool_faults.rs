//! Deaths of workers and of their parent, at every station of a task.
#![allow(unsafe_code)] // faults that are one, signals by number

use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use multiprocess::{
    Lock, Pool, Process, ReturnWhen, Sender, StartMethod, TaskError, Value, active_children, simplex,
    wait_futures,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{Rng, procfs, until};

multiprocess::testing!();

/// What every test starts with. The pipe that daemons hang on, the fork server and the memory of locks stay in this
/// process, so they are made before.
fn test(seconds: u64) -> support::Test {
    static LINE: Once = Once::new();
    LINE.call_once(|| {
        std::mem::forget(Lock::new().unwrap());
        let warm = Process::builder().daemon(true).start_method(StartMethod::ForkServer);
        warm.spawn(|()| (), ()).unwrap().join().unwrap();
    });
    support::test(seconds)
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Fault {
    Error,
    Exit,
    Abort,
    Segv,
    Kill,
}

const FAULTS: [Fault; 5] = [Fault::Error, Fault::Exit, Fault::Abort, Fault::Segv, Fault::Kill];

/// Where it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Station {
    DecodingTask,
    Running,
    EncodingResult,
    DecodingResult,
}

impl Fault {
    /// Does it; an error is for the caller to be.
    fn strike(self) {
        match self {
            Fault::Error => {}
            Fault::Exit => std::process::exit(5),
            Fault::Abort => std::process::abort(),
            Fault::Segv => signal(std::process::id(), libc::SIGSEGV),
            Fault::Kill => signal(std::process::id(), libc::SIGKILL),
        }
    }

    fn is_how_it_ended(self, error: &TaskError) -> bool {
        let TaskError::WorkerDied { status, .. } = error else { return false };
        match self {
            Fault::Error => false,
            Fault::Exit => status.code() == Some(5),
            Fault::Abort => status.signal() == Some(libc::SIGABRT),
            Fault::Segv => status.signal() == Some(libc::SIGSEGV),
            Fault::Kill => status.signal() == Some(libc::SIGKILL),
        }
    }
}

fn signal(pid: u32, number: i32) {
    // SAFETY: two numbers. Rust's handler of SIGSEGV lets one that was sent kill the process, at the next instruction.
    unsafe { libc::kill(pid as i32, number) };
    if pid == std::process::id() {
        loop {
            // SAFETY: as above.
            unsafe { libc::raise(number) };
        }
    }
}

/// A value that is read or written with a fault.
#[derive(Debug)]
struct Loaded {
    fault: Fault,
    station: Station,
}

impl Serialize for Loaded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.station == Station::EncodingResult {
            self.fault.strike();
            return Err(serde::ser::Error::custom("as asked"));
        }
        (self.fault, self.station).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Loaded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (fault, station): (Fault, Station) = Deserialize::deserialize(deserializer)?;
        if matches!(station, Station::DecodingTask | Station::DecodingResult) {
            fault.strike();
            return Err(serde::de::Error::custom("as asked"));
        }
        Ok(Loaded { fault, station })
    }
}

fn run((fault, station): (Fault, Station)) -> Loaded {
    if station == Station::Running {
        fault.strike();
        panic!("as asked");
    }
    Loaded { fault, station }
}

fn pool(method: StartMethod, workers: usize) -> Pool {
    Pool::builder().workers(workers).start_method(method).start().unwrap()
}

fn strike(pool: &Pool, fault: Fault, station: Station) -> TaskError {
    match station {
        Station::DecodingTask => {
            pool.apply(|loaded: Loaded| loaded.fault, Loaded { fault, station }).unwrap_err()
        }
        _ => pool.apply(run, (fault, station)).unwrap_err(),
    }
}

/// One faulty task among others: it fails as it should, and the others do not notice.
fn fails_alone(method: StartMethod, station: Station) {
    let _test = test(120);
    let pool = pool(method, 2);
    for fault in FAULTS {
        let others: Vec<_> = (0..50).map(|n| pool.apply_async(|n: u64| n + 1, n)).collect();
        let error = strike(&pool, fault, station);
        let expected = match (fault, station) {
            (Fault::Error, Station::DecodingTask) => matches!(error, TaskError::Arguments { .. }),
            (Fault::Error, Station::Running) => matches!(error, TaskError::Panicked { .. }),
            (Fault::Error, _) => matches!(error, TaskError::Result { .. }),
            _ => fault.is_how_it_ended(&error),
        };
        assert!(expected, "{fault:?} {station:?}: {error:?}");
        assert!(others.iter().zip(0..).all(|(other, n)| other.get() == Ok(n + 1)));
        assert_eq!(pool.map(|n: u64| n * 2, 0..20).unwrap().len(), 20);
    }
}

/// The parent reads the result, so it is the parent that dies, and its workers with it.
fn ends_the_family(method: StartMethod) {
    let _test = test(120);
    for fault in FAULTS {
        let (news, tell) = simplex().unwrap();
        let parent = |(method, fault, tell): (bool, Fault, Sender)| {
            let method = if method { StartMethod::ForkServer } else { StartMethod::Spawn };
            let pool = pool(method, 2);
            tell.send(&pool.pids()).unwrap();
            let error = strike(&pool, fault, Station::DecodingResult);
            assert!(matches!(error, TaskError::Result { .. }), "{error:?}");
            assert_eq!(pool.apply(|n: u64| n + 1, 1), Ok(2));
        };
        let mut process = Process::spawn(parent, (method == StartMethod::ForkServer, fault, tell)).unwrap();
        let workers: Vec<u32> = news.recv().unwrap();
        assert_eq!(process.join().is_ok(), fault == Fault::Error, "{fault:?}");
        until(|| workers.iter().all(|pid| is_gone(*pid)));
    }
}

/// A worker that has nothing to do dies: nobody is harmed.
fn harms_nobody(method: StartMethod) {
    let _test = test(120);
    let pool = pool(method, 2);
    for number in [libc::SIGTERM, libc::SIGABRT, libc::SIGSEGV, libc::SIGKILL] {
        until(|| pool.pids().len() == 2);
        assert_eq!(pool.apply(|n: u64| n + 1, 1), Ok(2));
        for pid in pool.pids() {
            signal(pid, number);
        }
        assert_eq!(pool.map(|n: u64| n + 1, 0..100).unwrap().len(), 100);
    }
}

fn is_gone(pid: u32) -> bool {
    matches!(procfs::state(pid as i32), Some('Z') | None)
}

macro_rules! for_each_method {
    ($($module:ident $method:ident;)*) => {$(
        mod $module {
            use super::*;
            #[test] fn fault_while_decoding_the_task() { fails_alone(StartMethod::$method, Station::DecodingTask); }
            #[test] fn fault_while_running() { fails_alone(StartMethod::$method, Station::Running); }
            #[test] fn fault_while_encoding_the_result() { fails_alone(StartMethod::$method, Station::EncodingResult); }
            #[test] fn fault_while_decoding_the_result() { ends_the_family(StartMethod::$method); }
            #[test] fn fault_while_idle() { harms_nobody(StartMethod::$method); }
        }
    )*};
}
for_each_method! {
    spawn Spawn;
    forkserver ForkServer;
}

#[test]
fn kills_fail_no_more_tasks_than_there_were() {
    let _test = test(120);
    let pool = pool(StartMethod::ForkServer, 3);
    let mut rng = Rng::new(support::seed());
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let lock = Lock::new().unwrap();
    let (mut kills, tasks) = (0, 4000);
    for n in 0..tasks {
        let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
        let on_error = move |error| {
            assert!(matches!(error, TaskError::WorkerDied { .. }), "{error}");
            failed.fetch_add(1, SeqCst);
        };
        // Short ones, some that fill the connection, some that lie in a memory of their own, and a handle.
        let bytes = vec![n as u8; [8, 5000, 40_000][n as usize % 3]];
        let echo = |(bytes, lock): (Vec<u8>, Lock)| {
            let _guard = lock.lock().unwrap();
            bytes
        };
        let expected = bytes.clone();
        let on_result = move |bytes| _ = done.fetch_add(usize::from(bytes == expected), SeqCst);
        pool.apply_async_with(echo, (bytes, lock.clone()), on_result, on_error);
        if n % 100 == 50 {
            let workers =
                active_children().into_iter().filter(|child| child.name().starts_with("PoolWorker"));
            if let Some(worker) = workers.collect::<Vec<_>>().get(rng.below(3) as usize) {
                worker.kill().unwrap();
                kills += 1;
            }
        }
    }
    pool.close();
    pool.join().unwrap();
    let (done, failed) = (done.load(SeqCst), failed.load(SeqCst));
    assert_eq!(done + failed, tasks as usize);
    assert!(failed <= kills, "{failed} tasks failed after {kills} kills");
}

/// Keeps a pool busy, and says who its workers are.
fn busy_parent(tell: Sender) {
    let pool = pool(StartMethod::Spawn, 8);
    tell.send(&pool.pids()).unwrap();
    for result in pool.imap_unordered(|n: u64| n.wrapping_mul(n), 0..) {
        result.unwrap();
    }
}

#[test]
fn nobody_outlives_a_parent_that_is_killed() {
    let _test = test(120);
    let mut rng = Rng::new(support::seed());
    for _ in 0..8 {
        let (news, tell) = simplex().unwrap();
        let mut parent = Process::spawn(busy_parent, tell).unwrap();
        let workers: Vec<u32> = news.recv().unwrap();
        std::thread::sleep(Duration::from_micros(rng.below(30_000))); // the time of a death is random
        parent.kill().unwrap();
        parent.join().unwrap_err();
        let start = Instant::now();
        until(|| workers.iter().all(|pid| is_gone(*pid)));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[test]
fn a_stopped_worker_delays_its_own_task_only() {
    let _test = test(60);
    let pool = pool(StartMethod::Spawn, 2);
    let pid = pool.apply(|()| std::process::id(), ()).unwrap();
    signal(pid, libc::SIGSTOP);
    until(|| procfs::state(pid as i32) == Some('T'));
    let tasks: Vec<_> = (0..100).map(|n| pool.apply_async(|n: u64| n, n)).collect();
    until(|| tasks.iter().filter(|task| task.ready()).count() >= 99);
    signal(pid, libc::SIGCONT);
    assert!(tasks.iter().zip(0..).all(|(task, n)| task.get() == Ok(n)));
}

/// Each of them settles others while it waits, whose callbacks wait too.
#[test]
fn thousands_of_callbacks_that_wait_for_the_pool_do_not_nest() {
    let _test = test(60);
    let pool = Arc::new(Pool::new(2).unwrap());
    let (tell, told) = channel();
    for n in 0..5000u64 {
        let (again, tell) = (pool.clone(), tell.clone());
        let ask = move |m: u64| tell.send(again.apply(|x: u64| x + 1, m).unwrap()).unwrap();
        pool.apply_async_with(|x: u64| x + 1, n, ask, |error| panic!("{error}"));
    }
    let mut sums: Vec<u64> = told.iter().take(5000).collect();
    sums.sort();
    assert!(sums.into_iter().eq(2..5002));
}

/// A result may come together with that of a callback that waits for it.
#[test]
fn a_callback_gets_what_came_together_with_its_own_result() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    for n in 0..300u64 {
        let (tell, told) = channel();
        let other = pool.apply_async(|x: u64| x, n);
        pool.apply_async_with(|x: u64| x, n + 1, move |_| tell.send(other.get()).unwrap(), |_| ());
        assert_eq!(told.recv().unwrap().unwrap(), n);
    }
}

/// Its worker died, and it waits for another: it has begun all the same.
#[test]
fn a_task_that_runs_again_cannot_be_cancelled() {
    let begun = Value::new(0u32).unwrap();
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    for round in 0..20 {
        let run = |begun: Value<u32>| -> u32 {
            let before = begun.fetch_add(1);
            if before % 2 == 0 {
                std::thread::sleep(Duration::MAX);
            }
            before
        };
        let task = pool.tasks().retries(1).apply_async(run, begun.clone());
        until(|| begun.get() == 2 * round + 1);
        active_children().iter().for_each(|worker| worker.kill().unwrap());
        assert!(!task.cancel());
        assert_eq!(task.get(), Ok(2 * round + 1));
    }
}

#[derive(Serialize, Deserialize)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 == 77 && !std::thread::panicking() {
            panic!("a drop that panics");
        }
    }
}

#[test]
fn a_result_whose_drop_panics_stops_nobody() {
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    let make = |_: ()| {
        let mut bomb = Bomb(0);
        bomb.0 = 77;
        bomb
    };
    drop(pool.apply_async(|()| Bomb(1), ()));
    drop(pool.apply_async(make, ()));
    assert_eq!(pool.apply(|x: u32| x, 5), Ok(5));
    pool.close();
    pool.join_timeout(Duration::from_secs(10)).unwrap();
}

/// There are descriptors again before all workers are gone, or after.
#[test]
fn a_worker_that_cannot_be_replaced_for_a_while_does_not_break_the_pool() {
    let _test = test(60);
    let mut poor = support::fork(|| {
        let pool = Pool::new(3).unwrap();
        assert_eq!(pool.map(|x: u32| x, 0..30).unwrap().len(), 30);
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        limit_descriptors(open - 1);
        active_children()[0].kill().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            assert_eq!(pool.apply(|x: u32| x, 5), Ok(5));
        }
        limit_descriptors(1000);
        assert_eq!(pool.map(|x: u32| x, 0..30).unwrap().len(), 30);
        std::process::exit(0);
    });
    assert_eq!(poor.wait(), support::Status::Code(0));
}

fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: 1024 };
    // SAFETY: the limit lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// More tasks wait than there are descriptors.
#[test]
fn large_tasks_that_wait_take_no_descriptors() {
    let _test = test(60);
    let mut poor = support::fork(|| {
        let pool = Pool::new(1).unwrap();
        limit_descriptors(200);
        let results: Vec<_> =
            (0..600).map(|_| pool.apply_async(|v: Vec<u8>| v.len(), vec![1u8; 13 << 10])).collect();
        assert!(results.into_iter().all(|result| result.get() == Ok(13 << 10)));
        std::process::exit(0);
    });
    assert_eq!(poor.wait(), support::Status::Code(0));
}

/// A worker cannot be replaced for a while; the other one works on.
#[test]
fn a_stopped_fork_server_does_not_hold_up_a_pool() {
    let _test = test(60);
    let body = |()| {
        let pool = pool(StartMethod::ForkServer, 2);
        assert_eq!(pool.map(|x: u32| x, 0..4), Ok(vec![0, 1, 2, 3]));
        let workers = pool.pids();
        let children = procfs::children(std::process::id() as i32);
        let server = children.into_iter().find(|child| !workers.contains(&(*child as u32))).unwrap();
        signal(server as u32, libc::SIGSTOP);
        signal(workers[0], libc::SIGKILL);
        let mut longest = Duration::ZERO;
        while pool.pids().len() < 2 || pool.pids().contains(&workers[0]) {
            let start = Instant::now();
            assert_eq!(pool.tasks().retries(1).apply(|x: u32| x, 5), Ok(5));
            longest = longest.max(start.elapsed());
        }
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        assert_eq!(procfs::state(server), None);
    };
    Process::spawn(body, ()).unwrap().join().unwrap();
}

#[test]
fn a_worker_whose_main_thread_ends_dies() {
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    let leave = |()| {
        std::thread::spawn(|| std::thread::sleep(Duration::MAX));
        // SAFETY: ends this thread, whose memory nobody else uses.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    };
    let outcome = pool.apply(leave, ());
    assert!(matches!(outcome, Err(TaskError::WorkerDied { .. })), "{outcome:?}");
    assert_eq!(pool.apply(|x: u32| x, 5), Ok(5));
}

/// The kill for the time of one task comes about when that is done and the next one begins.
#[test]
fn time_limit_hits_no_bystander() {
    let _test = test(60);
    let pool = Pool::new(1).unwrap();
    let limit = Duration::from_millis(2);
    let limited = pool.tasks().time_limit(limit);
    let (mut rng, mut killed) = (Rng::new(support::seed()), 0);
    for _ in 0..300 {
        let time = Duration::from_micros(1600 + rng.below(800));
        let task = limited.apply_async(|time: Duration| std::thread::sleep(time), time);
        let bystanders = [(); 4].map(|()| pool.apply_async(|x: u32| x, 5));
        if let Err(error) = task.get() {
            assert_eq!(error, TaskError::TimeLimit { limit });
            killed += 1;
        }
        bystanders.into_iter().for_each(|bystander| assert_eq!(bystander.get(), Ok(5)));
    }
    assert!(killed > 0);
}

/// Workers are ended at the exit of a program that left its pool alone. That is not the tasks' fault.
#[test]
fn no_callback_is_called_at_exit() {
    let _test = test(60);
    let called = Value::new(0u32).unwrap();
    let body = |called: Value<u32>| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.apply(|x: u32| x, 5), Ok(5));
        let on_error = move |_| _ = called.fetch_add(1);
        pool.apply_async_with(|()| std::thread::sleep(Duration::MAX), (), |()| (), on_error);
        std::mem::forget(pool);
        // The exit takes a while: it waits for this one.
        let slow = |()| std::thread::sleep(Duration::from_millis(300));
        std::mem::forget(Process::spawn(slow, ()).unwrap());
    };
    Process::spawn(body, called.clone()).unwrap().join().unwrap();
    assert_eq!(called.get(), 0);
}

/// It has none of the workers.
#[test]
fn a_forked_copy_of_the_parent_is_told_at_once() {
    let _test = test(60);
    let pool = Pool::new(2).unwrap();
    let pending = pool.apply_async(|()| std::thread::sleep(Duration::MAX), ());
    let future = pool.apply_async(|()| std::thread::sleep(Duration::MAX), ()).into_future();
    let mut results = pool.imap(|x: u32| x, 0..1000);
    assert_eq!(pool.pids().len(), 2);
    let status = support::fork(move || {
        let is_told = |outcome: Result<(), TaskError>| matches!(outcome, Err(TaskError::NoWorker { .. }));
        assert!(is_told(pending.get()) && !pending.cancel());
        assert_eq!(wait_futures(&[&future], ReturnWhen::AllCompleted).not_done.len(), 1);
        assert!(is_told(future.result()) && !future.running());
        assert!(results.any(|result| result.is_err()));
        assert!(is_told(pool.apply(|()| (), ())));
        drop(pool);
    })
    .wait();
    assert_eq!(status, support::Status::Code(0));
}

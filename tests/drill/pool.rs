//! Rows 12 and 13: a pool whose workers are killed while it is busy, and busy pools whose parents are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{Pool, Process, Sender, StartMethod, TaskError, active_children, simplex};

use crate::Outcome;
use support::chaos::Report;
use support::{Rng, procfs, until_within};

const WORKERS: usize = 4;
const TASKS_EACH_KILL: u64 = 50;
/// The longest moment between two kills.
const MOMENT: u64 = 1500;
/// Tasks that wait at one time.
const AHEAD: u64 = 400;
/// Nothing done for so long is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many workers has a parent that is killed, and one kill of a worker in ten is one of a parent.
const CHILDREN: usize = 8;
const KILLS_EACH_PARENT: u64 = 10;
/// Nobody of the family is alive after so long.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Account {
    /// How often each task was called back.
    marks: Vec<AtomicU8>,
    done: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
    /// Errors that no kill explains.
    strange: AtomicU64,
}

impl Account {
    fn told(&self) -> u64 {
        self.done.load(SeqCst) + self.failed.load(SeqCst)
    }
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    vec![
        workers(StartMethod::Spawn, 0, kills, seed),
        workers(StartMethod::ForkServer, 0, kills, seed),
        workers(StartMethod::ForkServer, 1000, kills, seed),
        parents(kills.div_ceil(KILLS_EACH_PARENT), seed),
    ]
}

/// Lasts up to a tenth of a millisecond.
fn work(n: u64) -> u64 {
    let start = Instant::now();
    let time = Duration::from_micros(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x7f);
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    !n
}

fn workers(method: StartMethod, retries: u32, kills: u64, seed: u64) -> Outcome {
    let start = Instant::now();
    let mut rng = Rng::new(seed);
    let pool = Pool::builder().workers(WORKERS).name("drilled").start_method(method).retries(retries).start();
    let pool = pool.expect("a pool");
    let marks = (0..kills * TASKS_EACH_KILL).map(|_| AtomicU8::new(0)).collect();
    let account = Arc::new(Account { marks, ..Account::default() });
    let (mut submitted, mut killed, mut hang, mut stall) = (0, 0, false, Duration::ZERO);
    while killed < kills && !hang {
        for _ in 0..TASKS_EACH_KILL {
            submit(&pool, &account, submitted);
            submitted += 1;
        }
        // Not a wait for anybody: the time of a death is random.
        thread::sleep(Duration::from_micros(rng.below(MOMENT)));
        let since = Instant::now();
        hang = !until_within(PATIENCE, || kill_one(&mut rng));
        killed += 1;
        hang |= !until_within(PATIENCE, || submitted - account.told() <= AHEAD);
        stall = stall.max(since.elapsed());
    }
    pool.close();
    hang |= pool.join_timeout(PATIENCE).is_err();
    let (told, failed) = (account.told(), account.failed.load(SeqCst));
    let untold =
        account.marks[..submitted as usize].iter().filter(|mark| mark.load(SeqCst) != 1).count() as u64;
    let allowed = if retries == 0 { killed } else { 0 };
    let counts = [
        ("untold", submitted - told.min(submitted)),
        ("not told once", untold),
        ("failed beyond the kills", failed.saturating_sub(allowed)),
        ("wrong results", account.wrong.load(SeqCst)),
        ("strange errors", account.strange.load(SeqCst)),
    ];
    let report =
        Report { seed, kills: vec![killed], hang, stall, time: start.elapsed(), workers: Vec::new() };
    let done = format!("tasks {submitted} done {} failed {failed}", account.done.load(SeqCst));
    Outcome::new(&format!("pool {method:?} {retries} retries"), &report, done, &counts)
}

fn submit(pool: &Pool, account: &Arc<Account>, n: u64) {
    let (good, bad) = (Arc::clone(account), Arc::clone(account));
    let on_result = move |result| {
        good.marks[n as usize].fetch_add(1, SeqCst);
        good.wrong.fetch_add(u64::from(result != !n), SeqCst);
        good.done.fetch_add(1, SeqCst);
    };
    let on_error = move |error| {
        let expected = matches!(error, TaskError::WorkerDied { status, .. } if status.signal() == Some(9));
        bad.marks[n as usize].fetch_add(1, SeqCst);
        bad.strange.fetch_add(u64::from(!expected), SeqCst);
        bad.failed.fetch_add(1, SeqCst);
    };
    pool.apply_async_with(work, n, on_result, on_error);
}

/// Kills a worker, whatever it does; false = there is none at the moment.
fn kill_one(rng: &mut Rng) -> bool {
    let mut workers = active_children();
    workers.retain(|child| child.name().starts_with("drilled"));
    workers.get(rng.below(WORKERS as u64) as usize).is_some_and(|worker| worker.kill().is_ok())
}

fn busy(tell: Sender) {
    let pool = Pool::new(CHILDREN).expect("a pool");
    tell.send(&pool.pids()).expect("somebody listens");
    let tasks = pool.imap_unordered(work, 0..);
    tasks.for_each(|result| _ = result.expect("a result"));
}

fn parents(kills: u64, seed: u64) -> Outcome {
    let start = Instant::now();
    let mut rng = Rng::new(seed);
    let (mut left, mut stall) = (0, Duration::ZERO);
    for _ in 0..kills {
        let (news, tell) = simplex().expect("a pipe");
        let mut parent = Process::spawn(busy, tell).expect("a parent");
        let family: Vec<u32> = news.recv().expect("its workers");
        // As above.
        thread::sleep(Duration::from_micros(rng.below(20_000)));
        parent.kill().expect("it is ours");
        let since = Instant::now();
        let _ = parent.join();
        let gone = |pid: &u32| matches!(procfs::state(*pid as i32), Some('Z') | None);
        left += u64::from(!until_within(FAREWELL, || family.iter().all(gone)));
        stall = stall.max(since.elapsed());
    }
    let report =
        Report { seed, kills: vec![kills], hang: false, stall, time: start.elapsed(), workers: Vec::new() };
    Outcome::new(
        "pool parents",
        &report,
        format!("workers {}", kills * CHILDREN as u64),
        &[("outlived", left)],
    )
}

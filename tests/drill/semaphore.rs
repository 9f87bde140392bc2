//! Row 4: processes that share a few permits, die with them, and hand some over for good.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use ipc_sync::{Me, Registry, Semaphore};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::{Rng, shared};

/// Workers of any shape.
const MOST: usize = 8;

#[derive(Default)]
struct Account {
    /// Who is inside: its token, and above it how many times it was.
    inside: [AtomicU64; MOST],
    operations: AtomicU64,
    forgotten: AtomicU64,
    over_limit: AtomicU64,
    next_seed: AtomicU32,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    [(4, 2), (6, 3)]
        .into_iter()
        .map(|(workers, permits)| shape(Plan { workers, kills, seed }, permits))
        .collect()
}

fn shape(plan: Plan, permits: u32) -> Outcome {
    let semaphore = Semaphore::bounded(permits).expect("a semaphore");
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let progress = || {
        let _ = semaphore.release(); // what the dead had forgotten; one too many is refused
        account.operations.load(SeqCst)
    };
    let mut report = plan.run(|i| work(i, &semaphore, permits, account, plan.seed), progress);
    report.workers.clear();
    while semaphore.release().is_ok() {}
    let left = semaphore.value().expect("nothing but deaths happened to this semaphore");
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let (operations, forgotten) = (count(&account.operations), count(&account.forgotten));
    let done = format!("operations {operations} forgotten {forgotten} rescues {rescued}");
    let counts = [
        ("over the limit", count(&account.over_limit)),
        ("permits lost", u64::from(permits.abs_diff(left))),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("semaphore {} processes {permits} permits", plan.workers), &report, done, &counts)
}

fn work(i: usize, semaphore: &Semaphore, permits: u32, account: &Account, seed: u64) {
    let token = u64::from(Me::get().expect("a registry").token());
    let mut rng = Rng::new(seed ^ u64::from(account.next_seed.fetch_add(1, SeqCst)) << 32);
    for times in 1.. {
        let permit = semaphore.acquire().expect("nothing but deaths happens to this semaphore");
        account.inside[i].store(token | times << 32, SeqCst);
        if account.living_inside() > permits as usize {
            account.over_limit.fetch_add(1, SeqCst);
        }
        account.operations.fetch_add(1, SeqCst);
        account.inside[i].store(0, SeqCst);
        if rng.below(16) == 0 {
            permit.forget();
            account.forgotten.fetch_add(1, SeqCst);
            let _ = semaphore.release(); // refused if it was replaced already
        }
    }
}

impl Account {
    /// How many were inside at one moment: those that two looks found alike, and that live still. 0 = it
    /// changed between the looks.
    fn living_inside(&self) -> usize {
        let look = || self.inside.each_ref().map(|who| who.load(SeqCst));
        let (first, second) = (look(), look());
        let registry = Registry::get().expect("a registry");
        let lives = |who: &&u64| **who != 0 && !registry.is_dead(**who as u32);
        if first == second { first.iter().filter(lives).count() } else { 0 }
    }
}

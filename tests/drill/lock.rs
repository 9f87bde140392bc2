//! Row 1: processes that take turns under one lock and die at it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use ipc_sync::{Lock, Registry};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::shared;

#[derive(Default)]
struct Account {
    /// What the lock guards: equal whenever nobody is inside.
    left: AtomicU64,
    right: AtomicU64,
    inside: AtomicU32,
    operations: AtomicU64,
    owner_deaths: AtomicU64,
    torn: AtomicU64,
    double_owners: AtomicU64,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    [2, 4, 6].into_iter().map(|workers| shape(Plan { workers, kills, seed })).collect()
}

fn shape(plan: Plan) -> Outcome {
    let lock = Lock::new().expect("a lock");
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let report = plan.run(|_| work(&lock, account), || account.operations.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let (operations, owner_deaths) = (count(&account.operations), count(&account.owner_deaths));
    let done = format!("operations {operations} owner deaths {owner_deaths} rescues {rescued}");
    let counts = [
        ("torn", count(&account.torn)),
        ("double owners", count(&account.double_owners)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("lock {} processes", plan.workers), &report, done, &counts)
}

fn work(lock: &Lock, account: &Account) {
    loop {
        let guard = lock.lock().expect("nothing but a death happens to this lock");
        if guard.owner_died() {
            account.owner_deaths.fetch_add(1, SeqCst);
            account.inside.store(0, SeqCst);
            account.right.store(account.left.load(SeqCst), SeqCst);
            guard.mark_consistent();
        }
        if account.inside.swap(1, SeqCst) != 0 {
            account.double_owners.fetch_add(1, SeqCst);
        }
        let next = account.left.load(SeqCst);
        if account.right.load(SeqCst) != next {
            account.torn.fetch_add(1, SeqCst);
        }
        account.left.store(next + 1, SeqCst);
        (0..20).for_each(|_| std::hint::spin_loop());
        account.right.store(next + 1, SeqCst);
        account.operations.fetch_add(1, SeqCst);
        account.inside.store(0, SeqCst);
        drop(guard);
    }
}

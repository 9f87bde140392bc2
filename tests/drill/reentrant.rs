//! Row 3: processes that take a lock at several levels and die at any of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use ipc_sync::{ReentrantGuard, ReentrantLock, Registry};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::{Rng, shared};

const DEEPEST: u64 = 5;

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
    [2, 4].into_iter().map(|workers| shape(Plan { workers, kills, seed })).collect()
}

fn shape(plan: Plan) -> Outcome {
    let lock = ReentrantLock::new().expect("a lock");
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let report = plan.run(|i| work(&lock, account, i as u64), || account.operations.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let (operations, owner_deaths) = (count(&account.operations), count(&account.owner_deaths));
    let done = format!("operations {operations} owner deaths {owner_deaths} rescues {rescued}");
    let counts = [
        ("torn", count(&account.torn)),
        ("double owners", count(&account.double_owners)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("reentrant {} processes", plan.workers), &report, done, &counts)
}

fn work(lock: &ReentrantLock, account: &Account, seed: u64) {
    let mut rng = Rng::new(seed + account.operations.load(SeqCst));
    loop {
        let outer = lock.lock().expect("nothing but a death happens to this lock");
        if outer.owner_died() {
            account.mend(&outer);
        }
        if account.inside.swap(1, SeqCst) != 0 {
            account.double_owners.fetch_add(1, SeqCst);
        }
        account.deeper(lock, rng.below(DEEPEST));
        account.operations.fetch_add(1, SeqCst);
        account.inside.store(0, SeqCst);
        drop(outer);
    }
}

impl Account {
    fn mend(&self, guard: &ReentrantGuard<'_>) {
        self.owner_deaths.fetch_add(1, SeqCst);
        self.inside.store(0, SeqCst);
        self.right.store(self.left.load(SeqCst), SeqCst);
        guard.mark_consistent();
    }

    /// So many levels more, then a step.
    fn deeper(&self, lock: &ReentrantLock, levels: u64) {
        if levels > 0 {
            let _level = lock.lock().expect("it is ours");
            return self.deeper(lock, levels - 1);
        }
        let next = self.left.load(SeqCst);
        if self.right.load(SeqCst) != next {
            self.torn.fetch_add(1, SeqCst);
        }
        self.left.store(next + 1, SeqCst);
        (0..20).for_each(|_| std::hint::spin_loop());
        self.right.store(next + 1, SeqCst);
    }
}

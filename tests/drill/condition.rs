//! Row 5: producers and consumers that wait for each other under one lock, and die at it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Condition, Lock, LockGuard, Registry};

use crate::{Outcome, STANDSTILL, baton, lost_wakes};
use support::chaos::Plan;
use support::shared;

/// Items that fit.
const ROOM: u64 = 4;

/// The oldest waiter is notified first, so among thousands of notifications a second nobody waits this long.
const TURN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Account {
    /// Equal whenever nobody is inside: how many items there are.
    items: AtomicU64,
    mirror: AtomicU64,
    inside: AtomicU32,
    operations: AtomicU64,
    waits: AtomicU64,
    owner_deaths: AtomicU64,
    /// Calls to notify, counted before each.
    calls: AtomicU64,
    torn: AtomicU64,
    double_owners: AtomicU64,
    /// Waits in which nobody was notified, though what they waited for had come.
    lost: AtomicU64,
    /// Notifications of before the wait, or of nobody.
    stored: AtomicU64,
}

struct Room {
    lock: Lock,
    filled: Condition,
    emptied: Condition,
    account: &'static Account,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    let plans = [4, 6].map(|workers| Plan { workers, kills, seed });
    plans.into_iter().flat_map(|plan| [shape(plan), baton::shape(plan)]).collect()
}

fn shape(plan: Plan) -> Outcome {
    let (lock, account) = (Lock::new().expect("a lock"), shared::<Account>());
    let [filled, emptied] = [(); 2].map(|()| Condition::new().expect("a condition"));
    let room = Room { lock, filled, emptied, account };
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let report = plan.run(|i| room.work(i % 2 == 0), || account.operations.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let done = format!(
        "operations {} waits {} owner deaths {} rescues {rescued}",
        count(&account.operations),
        count(&account.waits),
        count(&account.owner_deaths)
    );
    let counts = [
        ("torn", count(&account.torn)),
        ("double owners", count(&account.double_owners)),
        ("lost notifications", if report.stall > STANDSTILL { 0 } else { count(&account.lost) }),
        ("stored notifications", count(&account.stored)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("condition {} processes", plan.workers), &report, done, &counts)
}

impl Room {
    /// Puts an item in or takes one out, for ever.
    fn work(&self, produces: bool) {
        let account = self.account;
        loop {
            let guard = self.enter();
            let guard = if produces {
                self.wait_for(guard, &self.emptied, |items| items < ROOM)
            } else {
                self.wait_for(guard, &self.filled, |items| items > 0)
            };
            let items = account.items.load(SeqCst);
            let items = if produces { items + 1 } else { items - 1 };
            account.items.store(items, SeqCst);
            (0..20).for_each(|_| std::hint::spin_loop());
            account.mirror.store(items, SeqCst);
            self.notify(if produces { &self.filled } else { &self.emptied }, 1);
            account.operations.fetch_add(1, SeqCst);
            account.inside.store(0, SeqCst);
            drop(guard);
        }
    }

    fn enter(&self) -> LockGuard<'_> {
        let guard = self.lock.lock().expect("nothing but a death happens to this lock");
        self.check(&guard);
        guard
    }

    /// What is true of everybody who has just got the lock. A dead holder may have notified nobody of what it did.
    fn check(&self, guard: &LockGuard<'_>) {
        let account = self.account;
        if guard.owner_died() {
            account.owner_deaths.fetch_add(1, SeqCst);
            account.inside.store(0, SeqCst);
            account.mirror.store(account.items.load(SeqCst), SeqCst);
            guard.mark_consistent();
            [&self.filled, &self.emptied]
                .into_iter()
                .for_each(|condition| self.notify(condition, usize::MAX));
        }
        if account.inside.swap(1, SeqCst) != 0 {
            account.double_owners.fetch_add(1, SeqCst);
        }
        if account.items.load(SeqCst) != account.mirror.load(SeqCst) {
            account.torn.fetch_add(1, SeqCst);
        }
    }

    fn notify(&self, condition: &Condition, count: usize) {
        self.account.calls.fetch_add(1, SeqCst);
        condition.notify(count).expect("a notification");
    }

    fn wait_for<'a>(
        &self,
        mut guard: LockGuard<'a>,
        condition: &Condition,
        ready: impl Fn(u64) -> bool,
    ) -> LockGuard<'a> {
        let account = self.account;
        while !ready(account.items.load(SeqCst)) {
            let (calls, start) = (account.calls.load(SeqCst), Instant::now());
            account.waits.fetch_add(1, SeqCst);
            account.inside.store(0, SeqCst);
            let notified;
            (guard, notified) = condition.wait_timeout(guard, TURN).expect("a wait");
            self.check(&guard);
            if notified && account.calls.load(SeqCst) == calls {
                account.stored.fetch_add(1, SeqCst);
            }
            if !notified && ready(account.items.load(SeqCst)) && start.elapsed() >= TURN {
                account.lost.fetch_add(1, SeqCst);
            }
        }
        guard
    }
}

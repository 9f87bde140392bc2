//! Row 5 once more: one notification goes round among waiters that die of it.
//!
//! Whoever is notified notifies the next, so one notification lost stops all, and one too many is seen at once. The
//! replacement of a dead worker brings none along: what was given to the dead must have reached another.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use ipc_sync::{Condition, Lock, LockGuard, Registry};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::shared;

/// Nobody waits this long for its turn unless the baton is lost.
const TURN: Duration = Duration::from_secs(1);

/// So many passes after a new baton, those who were notified of it may still be in their waits: they inherit nothing.
const LEFTOVERS: u64 = 16;

/// All of it is for who has the lock.
#[derive(Default)]
struct Account {
    operations: AtomicU64,
    /// Counts the batons: a notification of before is worth nothing.
    baton: AtomicU64,
    /// Operations before this baton.
    start: AtomicU64,
    /// Nobody waited when the baton was to be passed: the next to come picks it up.
    on_the_floor: AtomicU64,
    /// 1 = somebody has it in hand.
    in_hand: AtomicU64,
    /// How many could inherit it when it was passed last.
    heirs: AtomicU64,
    owner_deaths: AtomicU64,
    lost: AtomicU64,
    /// Batons that went with their bearer while nobody else waited.
    without_heirs: AtomicU64,
    doubled: AtomicU64,
}

struct Round {
    lock: Lock,
    condition: Condition,
    account: &'static Account,
}

pub(crate) fn shape(plan: Plan) -> Outcome {
    let (lock, condition) = (Lock::new().expect("a lock"), Condition::new().expect("a condition"));
    let round = Round { lock, condition, account: shared::<Account>() };
    round.account.on_the_floor.store(1, SeqCst);
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let report = plan.run(|_| round.work(), || round.account.operations.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let (rescued, account) = (rescues() - before, round.account);
    let (operations, owner_deaths) = (count(&account.operations), count(&account.owner_deaths));
    let done = format!(
        "operations {operations} owner deaths {owner_deaths} without heirs {} rescues {rescued}",
        count(&account.without_heirs)
    );
    let counts = [
        ("lost notifications", count(&account.lost)),
        ("doubled notifications", count(&account.doubled)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("baton {} processes", plan.workers), &report, done, &counts)
}

impl Round {
    fn work(&self) {
        loop {
            let guard = self.lock.lock().expect("nothing but a death happens to this lock");
            self.look(&guard);
            if self.account.on_the_floor.swap(0, SeqCst) == 1 {
                self.pass(&guard);
            }
            self.wait(guard);
        }
    }

    /// Whoever died with the lock may have had the baton.
    fn look(&self, guard: &LockGuard<'_>) {
        if guard.owner_died() {
            self.account.owner_deaths.fetch_add(1, SeqCst);
            self.start_again();
            guard.mark_consistent();
        }
    }

    /// A new baton, on the floor; the old one, wherever it is, is worth nothing.
    fn start_again(&self) {
        self.account.baton.fetch_add(1, SeqCst);
        self.account.start.store(self.account.operations.load(SeqCst), SeqCst);
        self.account.in_hand.store(0, SeqCst);
        self.account.on_the_floor.store(1, SeqCst);
        self.condition.notify_all().expect("a notification");
    }

    fn wait(&self, guard: LockGuard<'_>) {
        let account = self.account;
        let (baton, operations) = (account.baton.load(SeqCst), account.operations.load(SeqCst));
        let (guard, notified) = self.condition.wait_timeout(guard, TURN).expect("a wait");
        self.look(&guard);
        if account.baton.load(SeqCst) != baton {
            return;
        }
        if notified {
            self.pass(&guard);
        } else if account.on_the_floor.load(SeqCst) == 0 && account.operations.load(SeqCst) == operations {
            let unjustly = account.heirs.load(SeqCst) > 0;
            if unjustly { &account.lost } else { &account.without_heirs }.fetch_add(1, SeqCst);
            self.start_again();
        }
    }

    fn pass(&self, _: &LockGuard<'_>) {
        let account = self.account;
        account.doubled.fetch_add(account.in_hand.swap(1, SeqCst), SeqCst);
        let passed = account.operations.fetch_add(1, SeqCst) - account.start.load(SeqCst);
        let heirs = if passed < LEFTOVERS { 0 } else { self.waiters().saturating_sub(1) };
        account.heirs.store(heirs, SeqCst);
        account.in_hand.store(0, SeqCst);
        if self.condition.notify_one().expect("a notification") == 0 {
            account.on_the_floor.store(1, SeqCst);
        }
    }

    fn waiters(&self) -> u64 {
        let text = format!("{:?}", self.condition);
        text.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a number of waiters")
    }
}

//! Row 1 for many readers or one writer: both die at any moment.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use ipc_sync::{Registry, RwLock};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::shared;

#[derive(Default)]
struct Account {
    /// What the lock guards: equal whenever no writer is inside.
    left: AtomicU64,
    right: AtomicU64,
    writing: AtomicU32,
    reads: AtomicU64,
    writes: AtomicU64,
    writer_deaths: AtomicU64,
    torn: AtomicU64,
    double_writers: AtomicU64,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    vec![shape(2, Plan { workers: 6, kills, seed })]
}

fn shape(writers: usize, plan: Plan) -> Outcome {
    let lock = RwLock::new().expect("a lock");
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let count = |count: &AtomicU64| count.load(SeqCst);
    let work = |i| if i < writers { write(&lock, account) } else { read(&lock, account) };
    let mut report = plan.run(work, || count(&account.reads) + count(&account.writes));
    report.workers.clear();
    let lost = u64::from(lock.try_write().is_err());
    let rescued = rescues() - before;
    let (reads, writes, deaths) =
        (count(&account.reads), count(&account.writes), count(&account.writer_deaths));
    let done = format!("reads {reads} writes {writes} writer deaths {deaths} rescues {rescued}");
    let counts = [
        ("torn reads", count(&account.torn)),
        ("double writers", count(&account.double_writers)),
        ("locks lost", lost),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(
        &format!("rwlock {writers} writers {} readers", plan.workers - writers),
        &report,
        done,
        &counts,
    )
}

fn write(lock: &RwLock, account: &Account) {
    loop {
        let guard = lock.write().expect("nothing but a death happens to this lock");
        if guard.owner_died() {
            account.writer_deaths.fetch_add(1, SeqCst);
            account.writing.store(0, SeqCst);
            account.right.store(account.left.load(SeqCst), SeqCst);
            guard.mark_consistent();
        }
        if account.writing.swap(1, SeqCst) != 0 {
            account.double_writers.fetch_add(1, SeqCst);
        }
        let next = account.left.fetch_add(1, SeqCst) + 1;
        (0..20).for_each(|_| std::hint::spin_loop());
        if account.right.swap(next, SeqCst) != next - 1 {
            account.torn.fetch_add(1, SeqCst);
        }
        account.writes.fetch_add(1, SeqCst);
        account.writing.store(0, SeqCst);
        drop(guard);
        (0..200).for_each(|_| std::hint::spin_loop());
    }
}

fn read(lock: &RwLock, account: &Account) {
    loop {
        let guard = lock.read().expect("nothing but a death happens to this lock");
        let right = account.right.load(SeqCst);
        (0..20).for_each(|_| std::hint::spin_loop());
        let torn = account.left.load(SeqCst) != right || account.writing.load(SeqCst) != 0;
        if torn && !guard.owner_died() {
            account.torn.fetch_add(1, SeqCst);
        }
        account.reads.fetch_add(1, SeqCst);
        drop(guard);
    }
}

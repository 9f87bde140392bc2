//! Row 6: parties that meet round after round, of whom one dies at any time; the others mend the barrier and go on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use ipc_sync::{Barrier, BrokenBarrier, Registry};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::shared;

/// A party that comes in the place of a dead one is there sooner.
const LONG: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Account {
    /// Waits that ended, however they did.
    ended: AtomicU64,
    rounds: AtomicU64,
    deaths_told: AtomicU64,
    repairs: AtomicU64,
    /// Which of the parties are between their arrival and their leaving.
    inside: [AtomicU32; 8],
    /// Rounds whose action found somebody outside.
    not_full: AtomicU64,
    timeouts: AtomicU64,
    /// Rounds that ended in any other way, or by the death of somebody who lives.
    wrong: AtomicU64,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    [3, 5, 8].into_iter().map(|workers| shape(Plan { workers, kills, seed })).collect()
}

fn shape(plan: Plan) -> Outcome {
    let barrier = Barrier::new(plan.workers).expect("a barrier").with_timeout(LONG);
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let report = plan.run(|party| work(&barrier, account, party), || account.ended.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let (rounds, told, repairs) =
        (count(&account.rounds), count(&account.deaths_told), count(&account.repairs));
    let done = format!("rounds {rounds} deaths told {told} repairs {repairs} rescues {rescued}");
    let counts = [
        ("not full", count(&account.not_full)),
        ("timeouts", count(&account.timeouts)),
        ("wrong", count(&account.wrong)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("barrier {} parties", plan.workers), &report, done, &counts)
}

fn work(barrier: &Barrier, account: &Account, party: usize) {
    let inside = &account.inside[party];
    let action = || {
        let all = account.inside[..barrier.parties()].iter().all(|inside| inside.load(SeqCst) == 1);
        account.not_full.fetch_add(u64::from(!all), SeqCst);
        account.rounds.fetch_add(1, SeqCst);
    };
    inside.store(0, SeqCst);
    loop {
        inside.store(1, SeqCst);
        let wait = barrier.wait_with(action);
        inside.store(0, SeqCst);
        account.ended.fetch_add(1, SeqCst);
        let Err(error) = wait else { continue };
        let count = match error {
            BrokenBarrier::Died { pid } if pid != std::process::id() && pid != 0 => &account.deaths_told,
            BrokenBarrier::TimedOut | BrokenBarrier::Late => &account.timeouts,
            _ => &account.wrong,
        };
        count.fetch_add(1, SeqCst);
        account.repairs.fetch_add(u64::from(barrier.repair().expect("a barrier")), SeqCst);
    }
}

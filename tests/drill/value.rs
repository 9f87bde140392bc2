//! Values and arrays: processes that count in every way there is, and die at it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ipc_sync::{Array, Registry, Value};

use crate::{Outcome, lost_wakes};
use support::chaos::Plan;
use support::shared;

/// Ways to count: update, fetch_add, a guard over several words, update of an element.
const WAYS: usize = 4;

#[derive(Default)]
struct Account {
    /// Steps that returned, of each way: at most one of each dead worker is in the value and not in here.
    acknowledged: [AtomicU64; WAYS],
    torn: AtomicU64,
    owner_deaths: AtomicU64,
}

/// What all count in.
struct Counters {
    updated: Value<u64>,
    added: Value<u64>,
    /// All words are equal.
    guarded: Value<[u64; 9]>,
    array: Array<u64>,
}

impl Counters {
    fn new() -> Counters {
        Counters {
            updated: Value::new(0).expect("a value"),
            added: Value::new(0).expect("a value"),
            guarded: Value::new([0; 9]).expect("a value"),
            array: Array::new(2).expect("an array"),
        }
    }

    fn counted(&self) -> [u64; WAYS] {
        [self.updated.get(), self.added.get(), self.guarded.get()[0], self.array.get(1).expect("it has two")]
    }
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    vec![shape(Plan { workers: 4, kills, seed })]
}

fn shape(plan: Plan) -> Outcome {
    let counters = Counters::new();
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let progress = || account.acknowledged.iter().map(|count| count.load(SeqCst)).sum();
    let mut report = plan.run(|_| work(&counters, account), progress);
    report.workers.clear(); // nobody counts any more
    let rescued = rescues() - before;
    let acknowledged = account.acknowledged.each_ref().map(|count| count.load(SeqCst));
    let deaths = report.total() + plan.workers as u64;
    let pairs = || counters.counted().into_iter().zip(acknowledged);
    let in_dead_hands: u64 = pairs().map(|(counted, known)| counted.saturating_sub(known)).sum();
    let done = format!(
        "steps {} of them in dead hands {in_dead_hands} owner deaths {} rescues {rescued}",
        progress(),
        account.owner_deaths.load(SeqCst)
    );
    let counts = [
        ("lost", pairs().map(|(counted, known)| known.saturating_sub(counted)).sum()),
        ("too many", in_dead_hands.saturating_sub(deaths)),
        ("torn", account.torn.load(SeqCst)),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("value {} processes", plan.workers), &report, done, &counts)
}

fn work(counters: &Counters, account: &Account) {
    let fine = "nothing but a death happens to these counters";
    let acknowledge = |way: usize| account.acknowledged[way].fetch_add(1, SeqCst);
    loop {
        counters.updated.update(|count| *count += 1).expect(fine);
        acknowledge(0);
        counters.added.fetch_add(1);
        acknowledge(1);
        count_guarded(&counters.guarded, account);
        acknowledge(2);
        count_in_pairs(&counters.array, account);
        acknowledge(3);
    }
}

/// All words move on together.
fn count_guarded(value: &Value<[u64; 9]>, account: &Account) {
    let mut guard = value.lock().expect("nothing but a death happens to it");
    if guard.owner_died() {
        account.owner_deaths.fetch_add(1, SeqCst);
        guard.mark_consistent();
    }
    let is_torn = |words: [u64; 9]| words.iter().any(|&word| word != words[0]);
    account.torn.fetch_add(u64::from(is_torn(*guard)) + u64::from(is_torn(value.get())), SeqCst);
    guard.iter_mut().for_each(|word| *word += 1);
}

/// The second element follows the first: whoever dies between has counted in the first alone.
fn count_in_pairs(array: &Array<u64>, account: &Account) {
    let guard = array.lock().expect("nothing but a death happens to it");
    let (ahead, behind) = (guard.get(0).expect("it has two"), guard.get(1).expect("it has two"));
    if guard.owner_died() {
        account.owner_deaths.fetch_add(1, SeqCst);
        guard.set(0, behind).expect("it has two");
        guard.mark_consistent();
    } else {
        account.torn.fetch_add(u64::from(ahead != behind), SeqCst);
    }
    guard.set(0, behind + 1).expect("it has two");
    guard.set(1, behind + 1).expect("it has two");
}

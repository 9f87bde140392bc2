//! Row 5: a flag that some put up and down and others wait for, and any of them dies at it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use ipc_sync::{Event, Registry};

use crate::{Outcome, STANDSTILL, lost_wakes};
use support::chaos::Plan;
use support::shared;

/// Nobody waits for so long while somebody puts the flag up all the time.
const LONG: Duration = Duration::from_secs(4);

#[derive(Default)]
struct Account {
    pulses: AtomicU64,
    through: AtomicU64,
    /// Waits that ended without the flag, though it was up many times.
    missed: AtomicU64,
    /// A setter waits for nobody.
    slow_sets: AtomicU64,
}

pub(crate) fn drill(kills: u64, seed: u64) -> Vec<Outcome> {
    [(1, 1), (2, 2), (1, 5)].map(|(setters, waiters)| shape(setters, waiters, kills, seed)).into()
}

fn shape(setters: usize, waiters: usize, kills: u64, seed: u64) -> Outcome {
    let event = Event::new().expect("an event");
    let account = shared::<Account>();
    let rescues = || u64::from(Registry::get().expect("a registry").rescues());
    let before = rescues();
    let work = |worker: usize| if worker < setters { pulse(&event, account) } else { wait(&event, account) };
    let plan = Plan { workers: setters + waiters, kills, seed };
    let report = plan.run(work, || account.through.load(SeqCst));
    let count = |count: &AtomicU64| count.load(SeqCst);
    let rescued = rescues() - before;
    let (pulses, through) = (count(&account.pulses), count(&account.through));
    let done = format!("pulses {pulses} waits {through} rescues {rescued}");
    let slow = if report.stall > STANDSTILL { 0 } else { count(&account.slow_sets) };
    let counts = [
        ("missed", count(&account.missed)),
        ("slow sets", slow),
        ("lost wakes", lost_wakes(&report, rescued)),
    ];
    Outcome::new(&format!("event {setters} setters {waiters} waiters"), &report, done, &counts)
}

fn pulse(event: &Event, account: &Account) {
    for turn in 0u32.. {
        let start = Instant::now();
        event.set();
        if start.elapsed() > STANDSTILL {
            account.slow_sets.fetch_add(1, SeqCst);
        }
        event.clear();
        account.pulses.fetch_add(1, SeqCst);
        // Long and short times between pulses: the waiters sleep in some and only look in others.
        (0..turn % 64 * 100).for_each(|_| std::hint::spin_loop());
    }
}

fn wait(event: &Event, account: &Account) {
    loop {
        let came = event.wait_timeout(LONG);
        let count = if came { &account.through } else { &account.missed };
        count.fetch_add(1, SeqCst);
    }
}

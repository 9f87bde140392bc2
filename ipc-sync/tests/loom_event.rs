//! Every interleaving of setters, pulses and waiters of an event word, with a death before each atomic step.
//!
//! `raw_event.rs` itself is compiled here a second time, over the atomics and the kernel of `world`.

#[path = "../src/raw_event.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_event;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use loom::sync::Arc;
use loom::thread::spawn;
use raw_event::RawEvent;
use world::{BACKSTOP, Deadline, explore, futex, primitive};

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 4;

fn overslept() {
    unreachable!("nobody oversleeps here")
}

fn wait(event: &RawEvent) {
    assert!(event.wait(Deadline::NEVER, overslept));
}

fn waiter(event: &Arc<RawEvent>) -> loom::thread::JoinHandle<()> {
    let event = event.clone();
    spawn(move || wait(&event))
}

#[test]
fn setting_wakes_all() {
    explore(SWITCHES, || {
        let event = Arc::new(RawEvent::default());
        let waiters = [waiter(&event), waiter(&event)];
        event.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// A waiter that is about to sleep, or sleeps, is through however soon the flag goes down again.
#[test]
fn a_pulse_is_missed_by_nobody_who_sleeps() {
    explore(SWITCHES, || {
        let event = Arc::new(RawEvent::default());
        let waiter = waiter(&event);
        while !event.has_waiters() {
            loom::thread::yield_now();
        }
        event.set();
        event.clear();
        waiter.join().unwrap();
        assert!(!event.is_set());
    });
}

#[test]
fn two_setters_and_one_who_clears_lose_no_waiter() {
    explore(SWITCHES, || {
        let event = Arc::new(RawEvent::default());
        let waiter = waiter(&event);
        let other = event.clone();
        let setter = spawn(move || {
            other.set();
            other.clear();
        });
        event.set();
        setter.join().unwrap();
        event.set();
        waiter.join().unwrap();
    });
}

#[test]
fn a_setter_that_dies_before_any_step_has_woken_all_or_set_nothing() {
    world::each_death(SWITCHES, |mortal| {
        let event = Arc::new(RawEvent::default());
        let waiter = waiter(&event);
        let (other, mortal) = (event.clone(), mortal.clone());
        let setter = spawn(move || _ = mortal.live(|| other.set()));
        setter.join().unwrap();
        if !event.is_set() {
            event.set();
        }
        waiter.join().unwrap();
    });
}

#[test]
fn a_waiter_that_dies_before_any_step_takes_no_wake_along() {
    world::each_death(SWITCHES, |mortal| {
        let event = Arc::new(RawEvent::default());
        let survivor = waiter(&event);
        let (other, mortal) = (event.clone(), mortal.clone());
        let dying = spawn(move || _ = mortal.live(|| wait(&other)));
        event.set();
        survivor.join().unwrap();
        dying.join().unwrap();
    });
}

/// Store and load on both sides: whoever clears the flag and then finds nothing is woken again.
#[test]
fn clear_then_look_then_wait_misses_nothing() {
    use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
    explore(SWITCHES, || {
        let event = Arc::new(RawEvent::default());
        event.set();
        let work = Arc::new(AtomicBool::new(false));
        let (other, done) = (event.clone(), work.clone());
        let setter = spawn(move || {
            done.store(true, Relaxed);
            other.set();
        });
        event.clear();
        if !work.load(Relaxed) {
            wait(&event);
            assert!(work.load(Relaxed));
        }
        setter.join().unwrap();
    });
}

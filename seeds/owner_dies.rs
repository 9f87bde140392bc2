//! A process is killed while it holds a lock, in the midst of its work; the other one gets the lock and mends.
//!
//! `cargo run --release --example owner_dies`

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{Array, Process, Sender, Value, simplex};

const ROUNDS: u32 = 5;

/// Money moves from one account to the other, and what there is in all stays the same: in two steps, though.
fn rob((accounts, bag, sender): (Array<i64>, Value<i64>, Sender)) {
    let guard = accounts.lock().expect("only this process is here");
    guard.update(0, |account| *account -= 100).expect("there are two accounts");
    bag.update(|bag| *bag = 100).expect("nobody dies with the bag");
    sender.send(&()).expect("somebody listens");
    loop {
        thread::park(); // and the second step never comes
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let accounts = Array::from_slice(&[1000i64, 1000])?;
    let bag = Value::new(0i64)?;
    for round in 1..=ROUNDS {
        let (receiver, sender) = simplex()?;
        let robber: Process<()> = Process::spawn(rob, (accounts.clone(), bag.clone(), sender))?;
        receiver.recv::<()>()?;
        println!("round {round}: {:?} and the lock in the hands of pid {}", accounts.to_vec(), robber.pid());
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10)); // by then the lock is waited for
            let killed = Instant::now();
            robber.kill().map(|_| (killed, robber))
        });
        let guard = accounts.lock()?; // sleeps until the kernel tells of the death
        let here = Instant::now();
        assert!(guard.owner_died());
        guard.update(0, |account| *account += bag.swap(0))?;
        guard.mark_consistent();
        let (killed, mut robber) = killer.join().expect("the killer does not panic")?;
        let micros = here.saturating_duration_since(killed).as_micros();
        println!(
            "         {:?} again, {micros} µs after the kill: {}",
            guard.to_vec(),
            robber.join().unwrap_err()
        );
    }
    Ok(())
}

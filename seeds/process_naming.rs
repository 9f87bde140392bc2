//! Names: squares are worked out by processes that say who they are.
//!
//! `cargo run --release --example process_naming`

use std::error::Error;

use multiprocess::{Process, Queue, active_children, current_process, parent_process};

/// One line of the table: who, whose child, what.
type Line = (String, String, u64);

fn square((lines, numbers): (Queue<Line>, Vec<u64>)) {
    let parent = parent_process().expect("a child has one");
    for n in numbers {
        let line = (current_process().name().to_owned(), parent.name().to_owned(), n * n);
        lines.put(line).expect("the queue has no bound");
    }
}

/// Has a child of its own, whose name counts on from that of this process.
fn delegate(lines: Queue<Line>) {
    let mut child = Process::spawn(square, (lines, vec![100, 200])).expect("one more process");
    child.join().expect("squares cannot fail");
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let lines = Queue::new()?;
    let named = Process::builder().name("squares of odd").spawn(square, (lines.clone(), vec![1, 3, 5]))?;
    let unnamed = Process::spawn(square, (lines.clone(), vec![2, 4, 6]))?;
    let middle = Process::spawn(delegate, lines.clone())?;

    println!("this is {}; its children:", current_process().name());
    for child in active_children() {
        println!("  {} ({})", child.name(), child.pid());
    }
    for mut process in [named, unnamed, middle] {
        process.join()?; // all that it put can be taken by now
    }

    println!("{:<16} {:<14} square", "process", "child of");
    for line in lines.try_iter() {
        let (process, parent, square) = line?;
        println!("{process:<16} {parent:<14} {square}");
    }
    Ok(())
}

//! A process is started and joined, and does nothing.

use multiprocess::{Process, StartMethod};

use crate::calls;
use crate::cell::{Cell, Contender, Unit};
use crate::links::python;
use crate::processors::Placement;

/// What the parent has touched when it starts others.
const LARGE: usize = 1 << 30;

pub fn cells() -> Vec<Cell> {
    let parents = [(Placement::One, 0), (Placement::Two, 0), (Placement::Two, LARGE)];
    parents.into_iter().flat_map(of_parent).collect()
}

fn of_parent((placement, size): (Placement, usize)) -> [Cell; 2] {
    let spawn = vec![ours(StartMethod::Spawn), procspawn(), python("process_spawn")];
    let fork_server = vec![ours(StartMethod::ForkServer), procspawn(), python("process_fork_server")];
    [("process spawn and join", spawn), ("process fork server and join", fork_server)]
        .map(|(what, contenders)| Cell::new(what, size, placement, Unit::Milliseconds, contenders))
}

fn ours(method: StartMethod) -> Contender {
    contender("multiprocess::Process", move || {
        let mut process = Process::builder().start_method(method).spawn(|x: u64| x + 1, 41).unwrap();
        assert_eq!(process.join().unwrap(), 42);
    })
}

fn procspawn() -> Contender {
    contender("procspawn", || assert_eq!(procspawn::spawn(41u64, |x| x + 1).join().unwrap(), 42))
}

fn python(work: &'static str) -> Contender {
    python::contender("Python Process", work, None)
}

fn contender(name: &'static str, call: impl Fn() + Copy + 'static) -> Contender {
    calls::contender(name, 1, move |task| {
        let memory = vec![1u8; task.size.0];
        move || {
            std::hint::black_box(&memory);
            call();
        }
    })
}

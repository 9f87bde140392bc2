//! The works that any link can do.

use crate::cell::Task;
use crate::crew::{Desk, Job};
use crate::link::{EIGHT, End, Link, number, set_number};
use crate::processors::Side;

/// One asks, the other answers with the same message.
pub fn round_trip<L: Link>(task: Task) -> Result<f64, String> {
    pair::<L>(task, ask, answer)
}

/// One sends, the other receives. What is lost on the way is found.
pub fn one_way<L: Link>(task: Task) -> Result<f64, String> {
    pair::<L>(task, stream, follow)
}

/// As [`one_way`], with a link that sends and receives eight times what it is given.
pub fn by_eights<L: Link>(task: Task) -> Result<f64, String> {
    Ok(one_way::<L>(task)? * EIGHT as f64)
}

pub fn four_to_one<L: Link>(task: Task) -> Result<f64, String> {
    crowd::<L>(4, 1, task)
}

pub fn one_to_four<L: Link>(task: Task) -> Result<f64, String> {
    crowd::<L>(1, 4, task)
}

/// So many send, so many receive.
fn crowd<L: Link>(producers: usize, consumers: usize, task: Task) -> Result<f64, String> {
    let link = create::<L>(task);
    let job = |side, work| job(link, side, producers + consumers, task, work);
    let producers = (0..producers).map(|_| job(Side::Left, produce));
    let consumers = (0..consumers).map(|_| job(Side::Right, consume));
    L::CREW.rate(task.placement, producers.chain(consumers).collect())
}

type Work<E> = fn(E, usize, Desk);

fn pair<L: Link>(task: Task, left: Work<L::End>, right: Work<L::End>) -> Result<f64, String> {
    let link = create::<L>(task);
    let jobs = vec![job(link, Side::Left, 2, task, left), job(link, Side::Right, 2, task, right)];
    L::CREW.rate(task.placement, jobs)
}

fn create<L: Link>(task: Task) -> &'static L {
    Box::leak(Box::new(L::create(task.size.0)))
}

fn job<L: Link>(link: &'static L, side: Side, parties: usize, task: Task, work: Work<L::End>) -> Job {
    let work = move |desk: Desk| {
        let end = link.open(side);
        desk.meet(parties);
        work(end, task.size.0, desk);
    };
    Job { side: Some(side), work: Box::new(work) }
}

fn ask(mut end: impl End, size: usize, desk: Desk) {
    let (mut message, mut answer) = (vec![7; size], vec![0; size]);
    for n in 1.. {
        set_number(&mut message, n);
        end.send(&message);
        end.recv(&mut answer);
        assert_eq!(number(&answer), n, "the answer to another question");
        desk.done(n);
    }
}

fn answer(mut end: impl End, size: usize, _: Desk) {
    let mut message = vec![0; size];
    loop {
        end.recv(&mut message);
        end.send(&message);
    }
}

/// Begins with a round trip: some links lose what comes before the receiver's first look.
fn stream(mut end: impl End, size: usize, _: Desk) {
    let mut message = vec![7; size];
    set_number(&mut message, 0);
    end.send(&message);
    end.recv(&mut message);
    for n in 1.. {
        set_number(&mut message, n);
        end.send(&message);
    }
}

fn follow(mut end: impl End, size: usize, desk: Desk) {
    let mut message = vec![0; size];
    end.recv(&mut message);
    end.send(&message);
    for n in 1.. {
        end.recv(&mut message);
        assert_eq!(number(&message), n, "a message is lost");
        desk.done(n);
    }
}

fn produce(mut end: impl End, size: usize, _: Desk) {
    let message = vec![7; size];
    loop {
        end.send(&message);
    }
}

fn consume(mut end: impl End, size: usize, desk: Desk) {
    let mut message = vec![0; size];
    for n in 1.. {
        end.recv(&mut message);
        desk.done(n);
    }
}

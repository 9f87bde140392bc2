//! `crossbeam-channel` between threads: what it costs if nobody need be a process.

use crossbeam_channel::{Receiver, Sender, bounded};

use super::our_queue::{BOUND, bound};
use crate::crew::Crew;
use crate::link::{End, Link, number, set_number};
use crate::processors::Side;
use crate::record::Record;

const WEDGES: Option<&str> = Some("threads of one process: they die together");

type Channel<T> = (Sender<T>, Receiver<T>);

/// Messages are vectors.
pub struct Crossbeam([Channel<Vec<u8>>; 2]);

impl Link for Crossbeam {
    const NAME: &'static str = "crossbeam-channel";
    const CREW: Crew = Crew::Threads;
    type End = Channel<Vec<u8>>;

    fn wedges(_: usize) -> Option<&'static str> {
        WEDGES
    }

    fn create(size: usize) -> Crossbeam {
        Crossbeam([0; 2].map(|_| bounded(bound(size))))
    }

    fn open(&self, side: Side) -> Self::End {
        directions(&self.0, side)
    }
}

fn directions<T>([there, back]: &[Channel<T>; 2], side: Side) -> Channel<T> {
    match side {
        Side::Left => (there.0.clone(), back.1.clone()),
        Side::Right => (back.0.clone(), there.1.clone()),
    }
}

impl End for Channel<Vec<u8>> {
    fn send(&mut self, message: &[u8]) {
        self.0.send(message.to_vec()).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, number(&self.1.recv().unwrap()));
    }
}

/// Messages are structs, moved without serde.
pub struct CrossbeamTyped([Channel<Record>; 2]);

impl Link for CrossbeamTyped {
    const NAME: &'static str = Crossbeam::NAME;
    const CREW: Crew = Crew::Threads;
    type End = Channel<Record>;

    fn wedges(_: usize) -> Option<&'static str> {
        WEDGES
    }

    fn create(_: usize) -> CrossbeamTyped {
        CrossbeamTyped([0; 2].map(|_| bounded(BOUND)))
    }

    fn open(&self, side: Side) -> Self::End {
        directions(&self.0, side)
    }
}

impl End for Channel<Record> {
    fn send(&mut self, message: &[u8]) {
        self.0.send(Record::new(number(message))).unwrap();
    }

    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, self.1.recv().unwrap().number);
    }
}

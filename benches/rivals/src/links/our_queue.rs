//! `multiprocess::Queue`, one for each direction.

use multiprocess::Queue;

use crate::link::{End, Link, number, set_number};
use crate::processors::Side;
use crate::record::Record;

/// Of all bounded queues here.
pub const BOUND: usize = 2000;

/// The same, or less for items that would fill the memory.
pub fn bound(size: usize) -> usize {
    if size <= 4096 { BOUND } else { 16 }
}

pub struct OurQueue([Queue<()>; 2]);

pub struct Bytes {
    output: Queue<()>,
    input: Queue<()>,
    item: Vec<u8>,
}

impl Link for OurQueue {
    const NAME: &'static str = "multiprocess::Queue";
    type End = Bytes;

    fn create(size: usize) -> OurQueue {
        OurQueue([0; 2].map(|_| Queue::bounded(bound(size)).unwrap()))
    }

    fn open(&self, side: Side) -> Bytes {
        let [output, input] = directions(&self.0, side);
        Bytes { output, input, item: vec![] }
    }
}

pub fn directions<T>([there, back]: &[Queue<T>; 2], side: Side) -> [Queue<T>; 2] {
    match side {
        Side::Left => [there.clone(), back.clone()],
        Side::Right => [back.clone(), there.clone()],
    }
}

impl End for Bytes {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.output.put_bytes(message).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        self.input.get_bytes_into(&mut self.item).unwrap();
        set_number(buffer, number(&self.item));
    }
}

/// The same with a [`Record`] as the item.
pub struct OurQueueTyped([Queue<Record>; 2]);

pub struct Typed {
    output: Queue<Record>,
    input: Queue<Record>,
}

impl Link for OurQueueTyped {
    const NAME: &'static str = OurQueue::NAME;
    type End = Typed;

    fn create(_: usize) -> OurQueueTyped {
        OurQueueTyped([0; 2].map(|_| Queue::bounded(BOUND).unwrap()))
    }

    fn open(&self, side: Side) -> Typed {
        let [output, input] = directions(&self.0, side);
        Typed { output, input }
    }
}

impl End for Typed {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.output.put(Record::new(number(message))).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, self.input.get().unwrap().number);
    }
}

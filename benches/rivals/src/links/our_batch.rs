//! `multiprocess::Queue`, eight items at once.

use multiprocess::Queue;
use multiprocess::queue::Batch;

use super::our_queue::{BOUND, OurQueue, directions};
use crate::link::{EIGHT, End, Link, number, set_number};
use crate::processors::Side;

pub struct OurBatch([Queue<()>; 2]);

pub struct Batches {
    output: Queue<()>,
    input: Queue<()>,
    batch: Batch,
    /// How many items of the batch are used up.
    used: usize,
}

/// The most that is taken at once.
const MOST: usize = 64;

impl Link for OurBatch {
    const NAME: &'static str = OurQueue::NAME;
    type End = Batches;

    fn create(_: usize) -> OurBatch {
        OurBatch([0; 2].map(|_| Queue::bounded(BOUND).unwrap()))
    }

    fn open(&self, side: Side) -> Batches {
        let [output, input] = directions(&self.0, side);
        Batches { output, input, batch: Batch::new(), used: 0 }
    }
}

impl End for Batches {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.output.put_bytes_many(&[message; EIGHT]).unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        for _ in 0..EIGHT {
            if self.used == self.batch.len() {
                self.input.get_bytes_many(MOST, &mut self.batch).unwrap();
                self.used = 0;
            }
            set_number(buffer, number(&self.batch[self.used]));
            self.used += 1;
        }
    }
}

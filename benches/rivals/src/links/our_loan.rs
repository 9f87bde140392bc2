//! `multiprocess::connection::Loan`: written where the receiver finds it, and read without an allocation.

use multiprocess::Connection;

use super::our_pipe::OurPipe;
use crate::link::{End, Link, number, set_number};
use crate::processors::Side;

pub struct OurLoan(OurPipe);

pub struct Lender(Connection);

impl Link for OurLoan {
    const NAME: &'static str = "multiprocess Loan";
    type End = Lender;

    fn create(size: usize) -> OurLoan {
        OurLoan(OurPipe::create(size))
    }

    fn open(&self, side: Side) -> Lender {
        Lender(self.0.open(side))
    }
}

impl End for Lender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        let mut loan = self.0.loan(message.len()).unwrap();
        loan.write_at(0, message).unwrap();
        loan.send().unwrap();
    }

    #[inline(always)]
    fn recv(&mut self, buffer: &mut [u8]) {
        set_number(buffer, self.0.recv_with(number).unwrap());
    }
}

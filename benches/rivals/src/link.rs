//! What every channel looks like to the works: two sides, and messages of one size between them.

use std::sync::Mutex;

use crate::crew::Crew;
use crate::processors::Side;

/// A channel for both directions, between processes or threads.
///
/// It is created before the processes of its sides start; each of them opens its side for itself.
pub trait Link: Sync + Sized + 'static {
    const NAME: &'static str;
    const CREW: Crew = Crew::Processes;
    type End: End;

    /// How a process that dies with an end in its hands harms the others; None if it does not.
    fn wedges(_size: usize) -> Option<&'static str> {
        None
    }

    fn create(size: usize) -> Self;
    fn open(&self, side: Side) -> Self::End;
}

/// What one process has of a link. What goes wrong here is a panic, and ends the repetition.
///
/// A message begins with its [`number`]. The rest is copied in by the sender, and out, or into memory of its own,
/// by the receiver.
pub trait End {
    fn send(&mut self, message: &[u8]);
    fn recv(&mut self, buffer: &mut [u8]);
}

/// A link that sends batches takes a message for so many; see [`by_eights`](crate::work::by_eights).
pub const EIGHT: usize = 8;

#[inline(always)]
pub fn set_number(message: &mut [u8], number: u64) {
    message[..8].copy_from_slice(&number.to_ne_bytes());
}

#[inline(always)]
pub fn number(message: &[u8]) -> u64 {
    u64::from_ne_bytes(message[..8].try_into().expect("eight bytes"))
}

/// Both ends of a link that are there from its birth. Each process takes its own, once.
pub struct Ends<E>(Mutex<[Option<E>; 2]>);

impl<E> Ends<E> {
    pub fn new(left: E, right: E) -> Ends<E> {
        Ends(Mutex::new([Some(left), Some(right)]))
    }

    pub fn take(&self, side: Side) -> E {
        let mut ends = self.0.lock().expect("nobody panics with it");
        ends[side as usize].take().expect("an end is taken once")
    }
}

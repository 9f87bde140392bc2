//! A page of many elements in an answer: as many as are asked for and do not hold the server up.

use super::Desk;
use crate::manager::message::Write;

/// Most bytes and elements of one page, unless a single element is larger: less than a millisecond of the server's time.
const BYTES: usize = 256 << 10;
const ELEMENTS: u32 = 4096;

/// An answer to which elements are added.
#[derive(Debug)]
pub(super) struct Page {
    /// Where the number of elements stands.
    at: usize,
    end: usize,
    count: u32,
}

impl Page {
    /// Begins a page of `most` bytes at the end of the answer.
    pub(super) fn begin(desk: &mut Desk, most: u64) -> Page {
        let at = desk.answer.len();
        desk.answer.put_u32(0);
        let most = usize::try_from(most).map_or(BYTES, |most| most.min(BYTES));
        Page { at, end: (at + most).min(desk.room), count: 0 }
    }

    /// Whether an element of so many bytes belongs to the page, and counts it. The first one does if it fits an answer.
    #[inline]
    pub(super) fn takes(&mut self, desk: &Desk, size: usize) -> bool {
        let end = if self.count == 0 { desk.room } else { self.end };
        let takes = self.count < ELEMENTS && desk.answer.len() + size <= end;
        self.count += u32::from(takes);
        takes
    }

    /// Says how many there are. Of none though there should be some, `is_whole` is false: the answer says that it would be
    /// too large.
    pub(super) fn end(self, desk: &mut Desk, is_whole: bool) -> bool {
        desk.steps += self.count as usize;
        if self.count == 0 && !is_whole {
            return desk.has_room(desk.room);
        }
        desk.answer[self.at..self.at + 4].copy_from_slice(&self.count.to_le_bytes());
        true
    }
}

//! Several frames at once: put under one hold of the lock, taken by one claim.
//!
//! Each frame is committed by itself, as by a put of its own. A claim moves `head` over all that were read, and as
//! long as `head` stood in front of them nobody can have overwritten any.

use crate::batch::Batch;
use crate::channel::{Channel, Fault, PATIENCE, Put, Taken};
use crate::primitive::{Deadline, Flags, HEADER, Header, Me, Ordering::Acquire};

impl Channel {
    /// Appends items of at most [`longest`](Channel::longest) bytes, as many as there is room for; answers how many. Who
    /// dies meanwhile has put the first of them.
    #[inline]
    pub(crate) fn put_many<'a>(
        &self,
        me: &Me,
        items: impl Iterator<Item = &'a [u8]>,
        deadline: Deadline,
    ) -> Result<usize, Fault> {
        self.locked(me, deadline, |mut at| {
            let mut count = 0;
            for item in items {
                if !matches!(self.put_at(me, at, item), Ok(Put::Done)) {
                    break; // a fault meets whoever puts the next one by itself
                }
                at = at.behind(item.len());
                count += 1;
            }
            Ok(count)
        })
    }

    /// Takes the oldest items, `max` at most, into `batch`, whose content they replace. Answers the processor of the last
    /// one's writer. It ends before an item that has something beside it.
    pub(crate) fn take_many(&self, me: &Me, batch: &mut Batch, max: usize) -> Result<Taken, Fault> {
        for _ in 0..PATIENCE {
            let head = self.head();
            let (behind, last) = self.read_many(head, batch, max);
            match last {
                _ if behind == head && self.moved(head).is_some() => {}
                None => return Ok(Taken::Empty),
                Some(last) if behind == head && last.flags().has(Flags::HANDLES) => return Ok(Taken::Beside),
                Some(_) if behind == head => return Err(Fault::Corrupt),
                Some(last) if self.claim_and_tell(me, head, behind).is_ok() => {
                    return Ok(Taken::Item(last.processor()));
                }
                Some(_) => {}
            }
        }
        Err(Fault::Corrupt)
    }

    /// Copies items from `head` on; answers where they end, and the last header it met. They are worth nothing
    /// before the claim.
    fn read_many(&self, head: u64, batch: &mut Batch, max: usize) -> (u64, Option<Header>) {
        batch.clear();
        let (mut at, mut last) = (head, None);
        while batch.len() < max && self.moved(head).is_none() {
            let Some(header) = Header::published(self.ring.header(at).load(Acquire)) else { break };
            last = Some(header);
            let behind = at.wrapping_add(header.span());
            if header.flags().has(Flags::HANDLES)
                || !self.is_sane(at, header)
                || behind.wrapping_sub(head) + HEADER > self.ring.capacity()
            {
                break;
            }
            batch.push(|bytes| self.ring.read(at.wrapping_add(HEADER), header.length(), bytes));
            at = behind;
        }
        (at, last)
    }
}

//! Many values in a request.

use super::{Desk, SessionId, Stored};
use crate::manager::message::{Malformed, Reader, ValueRef};

/// Many values, each checked to be one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Many<'a> {
    pub(super) count: u32,
    values: Reader<'a>,
    charge: usize,
}

impl<'a> Many<'a> {
    /// The rest of the arguments.
    pub(super) fn read(mut arguments: Reader<'a>) -> Result<Many<'a>, Malformed> {
        let count = arguments.u32()?;
        let (values, mut total) = (arguments, 0);
        for _ in 0..count {
            total += arguments.value()?.charge();
        }
        arguments.end()?;
        Ok(Many { count, values, charge: total })
    }

    /// All of them, or, when the budget does not suffice, `None`.
    pub(super) fn keep(self, session: SessionId, desk: &mut Desk) -> Option<Vec<Stored>> {
        if !desk.affords(self.charge) {
            return None;
        }
        self.map(|value| desk.keep(session, value)).collect()
    }
}

impl<'a> Iterator for Many<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<ValueRef<'a>> {
        self.count = self.count.checked_sub(1)?;
        self.values.value().ok() // it was read once already
    }
}

//! Adding to an integer among bytes.

use crate::manager::message::{Answer, Integer, Malformed, Reader, Write};

use super::{Desk, Stored};

/// What an Add asks for: `u8 type | 16 bytes to add`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addition {
    integer: Integer,
    operand: u128,
}

impl Addition {
    pub(super) fn read(arguments: &mut Reader<'_>) -> Result<Addition, Malformed> {
        let integer = Integer::of(arguments.u8()?).ok_or(Malformed)?;
        Ok(Addition { integer, operand: u128::from_le_bytes(arguments.array()?) })
    }

    /// Adds to `value` in its place, and answers what it was before.
    pub(super) fn apply(self, value: &mut Stored, desk: &mut Desk) {
        let Some(before) = self.former(value) else {
            desk.say(Answer::Differs);
            return;
        };
        let after = before.wrapping_add(self.operand).to_le_bytes();
        value.write(&after[..self.width()]);
        Addition::answer(before, desk);
    }

    /// It was `before`.
    pub(super) fn answer(before: u128, desk: &mut Desk) {
        desk.say(Answer::Done).put(&before.to_le_bytes());
    }

    /// The same for 0: what is there then.
    pub(super) fn alone(self) -> ([u8; 16], usize) {
        (self.operand.to_le_bytes(), self.width())
    }

    /// The integer in `value`, its sign extended; `None` = it is none of this type.
    fn former(self, value: &Stored) -> Option<u128> {
        let (bytes, width) = (value.bytes(), self.width());
        if bytes.len() != width || !value.references().is_empty() {
            return None;
        }
        let negative = self.is_signed() && bytes[width - 1] & 0x80 != 0;
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..width].copy_from_slice(bytes);
        Some(u128::from_le_bytes(wide))
    }

    fn width(self) -> usize {
        match self.integer {
            Integer::U8 | Integer::I8 => 1,
            Integer::U16 | Integer::I16 => 2,
            Integer::U32 | Integer::I32 => 4,
            Integer::U64 | Integer::I64 => 8,
            Integer::U128 | Integer::I128 => 16,
        }
    }

    fn is_signed(self) -> bool {
        self.integer as u8 >= Integer::I8 as u8
    }
}

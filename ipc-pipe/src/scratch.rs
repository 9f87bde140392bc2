//! A buffer that each thread keeps for messages on their way between values and rings.

use std::cell::Cell;

/// A larger buffer is not kept: one large message would hold its memory for ever.
const KEEP: usize = 256 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with an empty buffer. A message may be serialized within another: then the inner one gets a new one.
#[inline(always)]
pub fn with<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEEP {
        buffer.clear();
        let _ = BUFFER.try_with(|place| place.set(buffer));
    }
    result
}

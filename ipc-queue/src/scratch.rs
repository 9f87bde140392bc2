//! A buffer for the bytes of one item, used again and again by its thread.

use std::cell::Cell;

/// A buffer that grew beyond this is not kept.
const KEPT: usize = 64 << 10;

/// Runs `f` with an empty buffer of this thread; a call inside `f` gets another.
#[inline(always)]
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    result
}

//! Memory of what was much larger once: its clients are charged for elements, and not for places without one.

/// A collection with places for so many elements keeps them, though it has fewer.
pub(super) const SPACIOUS: usize = 4096;

/// How many places to keep, if it is time to give some back.
#[inline]
pub(super) fn to_keep(length: usize, capacity: usize) -> Option<usize> {
    (capacity > SPACIOUS && length < capacity / 8).then_some(2 * length)
}

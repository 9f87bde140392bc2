//! Whether a panic began while a guard was held: such a guard poisons, one that was made and dropped while its thread
//! unwinds already does not.

/// Taken when a guard is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwinding(bool);

impl Unwinding {
    #[inline(always)]
    pub(crate) fn now() -> Unwinding {
        Unwinding(std::thread::panicking())
    }

    /// Whether this thread unwinds and did not then.
    #[inline(always)]
    pub(crate) fn has_begun(self) -> bool {
        !self.0 && std::thread::panicking()
    }
}

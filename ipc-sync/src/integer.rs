//! The integers that have atomic forms: what one instruction of the machine can do to them.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize, Ordering::SeqCst,
};

use ipc_shm::Shareable;

/// An integer of up to 8 bytes, signed or not. `Value` and `Array` change them without a lock. No other type can have
/// it.
pub trait Integer: Shareable + Forms {}

/// What an atomic does, for any of them. Not nameable outside.
pub trait Forms: Sized {
    type Atomic: Sync + 'static;
    fn fetch_add(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_sub(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_and(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_or(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_xor(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_max(cell: &Self::Atomic, operand: Self) -> Self;
    fn fetch_min(cell: &Self::Atomic, operand: Self) -> Self;
    fn swap(cell: &Self::Atomic, operand: Self) -> Self;
    fn compare_exchange(cell: &Self::Atomic, current: Self, new: Self) -> Result<Self, Self>;
}

macro_rules! forms {
    ($t:ident $($form:ident)*) => {$(
        #[inline(always)]
        fn $form(cell: &Self::Atomic, operand: $t) -> $t {
            cell.$form(operand, SeqCst)
        }
    )*};
}

macro_rules! integers {
    ($($t:ident $atomic:ident)*) => {$(
        impl Integer for $t {}

        impl Forms for $t {
            type Atomic = $atomic;
            forms!($t fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min swap);

            #[inline(always)]
            fn compare_exchange(cell: &$atomic, current: $t, new: $t) -> Result<$t, $t> {
                cell.compare_exchange(current, new, SeqCst, SeqCst)
            }
        }
    )*};
}
integers!(u8 AtomicU8 u16 AtomicU16 u32 AtomicU32 u64 AtomicU64 usize AtomicUsize);
integers!(i8 AtomicI8 i16 AtomicI16 i32 AtomicI32 i64 AtomicI64 isize AtomicIsize);

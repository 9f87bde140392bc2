//! Numbers in a row: values whose bytes are copied at once.
//!
//! On a little-endian machine the elements of a numeric slice, and the bytes of a string, lie in memory as they lie in a
//! message: behind a `u64` count. serde would hand them over one by one.
//!
//! The types are found by their `TypeId`, which the compiler knows: for any other type nothing of this is left in the
//! program.
#![allow(unsafe_code)]

use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::{ptr, slice};

use ipc_shm::Shareable;

const COUNT: usize = size_of::<u64>();

/// Calls a macro with all element types.
macro_rules! for_numbers {
    ($call:ident) => {
        $call!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64)
    };
}

/// Count and bytes of `value`, if it is a string, or a slice, vector or box of numbers.
#[inline(always)]
pub(crate) fn of<T: ?Sized>(value: &T) -> Option<(u64, &[u8])> {
    if cfg!(target_endian = "big") {
        return None;
    }
    if let Some(text) = text_of(value) {
        return Some((text.len() as u64, text.as_bytes()));
    }
    macro_rules! numbers {
        ($($t:ty)*) => {$(
            if let Some(numbers) = numbers_of::<$t, T>(value) {
                return Some((numbers.len() as u64, bytes_of(numbers)));
            }
        )*};
    }
    for_numbers!(numbers);
    None
}

/// The `T` that `bytes` hold, all of them. `None` = it is another type, or the bytes are not one: the slow way says why.
#[inline(always)]
pub(crate) fn into<T>(bytes: &[u8]) -> Option<T> {
    if cfg!(target_endian = "big") {
        return None;
    }
    if same::<T, String>() || same::<T, Box<str>>() {
        return into_text(bytes);
    }
    macro_rules! numbers {
        ($($t:ty)*) => {$(
            if same::<T, Vec<$t>>() {
                return cast(into_numbers::<$t>(bytes)?);
            }
            if same::<T, Box<[$t]>>() {
                return cast(into_numbers::<$t>(bytes)?.into_boxed_slice());
            }
        )*};
    }
    for_numbers!(numbers);
    None
}

#[inline(always)]
fn text_of<T: ?Sized>(value: &T) -> Option<&str> {
    None.or_else(|| view::<T, String>(value).map(|text| &**text))
        .or_else(|| view::<T, Box<str>>(value).map(|text| &**text))
        .or_else(|| view::<T, &str>(value).copied())
        .or_else(|| view::<T, str>(value))
}

#[inline(always)]
fn numbers_of<N: Shareable, T: ?Sized>(value: &T) -> Option<&[N]> {
    None.or_else(|| view::<T, Vec<N>>(value).map(|numbers| &**numbers))
        .or_else(|| view::<T, Box<[N]>>(value).map(|numbers| &**numbers))
        .or_else(|| view::<T, &[N]>(value).copied())
        .or_else(|| view::<T, [N]>(value))
}

#[inline(always)]
fn into_text<T>(bytes: &[u8]) -> Option<T> {
    let text = String::from_utf8(into_numbers(bytes)?).ok()?;
    if same::<T, String>() { cast(text) } else { cast(text.into_boxed_str()) }
}

/// The numbers behind a count that fits them exactly.
#[inline(always)]
fn into_numbers<N: Shareable>(bytes: &[u8]) -> Option<Vec<N>> {
    let (count, bytes) = bytes.split_first_chunk::<COUNT>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    if count.checked_mul(size_of::<N>()) != Some(bytes.len()) {
        return None;
    }
    let mut numbers = Vec::<N>::with_capacity(count);
    // SAFETY: the vector has room for `count` numbers, which are `bytes.len()` bytes; source and target are different
    // memory; any bytes are valid numbers (`Shareable`).
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), numbers.as_mut_ptr().cast::<u8>(), bytes.len());
        numbers.set_len(count);
    }
    Some(numbers)
}

fn bytes_of<N: Shareable>(numbers: &[N]) -> &[u8] {
    // SAFETY: `Shareable`: no padding, so every byte of the slice is initialized; the length is its own.
    unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// `value` as what it is.
#[inline(always)]
fn view<T: ?Sized, U: ?Sized>(value: &T) -> Option<&U> {
    if !same::<T, U>() {
        return None;
    }
    // SAFETY: T and U are the same type up to lifetimes, so `&T` and `&U` are the same pointer. Lifetimes within: U is
    // owned, `str`, `[N]`, or a reference to one, whose lifetime the caller's `&T` bounds.
    Some(unsafe { ptr::read(ptr::from_ref(&value).cast::<&U>()) })
}

/// `value` as what it is.
#[inline(always)]
fn cast<U, T>(value: U) -> Option<T> {
    if !same::<T, U>() {
        return None;
    }
    let value = ManuallyDrop::new(value);
    // SAFETY: T and U are the same type up to lifetimes, and U, a vector, box or string of plain data, has none; the
    // original is not dropped.
    Some(unsafe { ptr::read(ptr::from_ref(&*value).cast::<T>()) })
}

/// Whether two types are the same up to lifetimes.
#[inline(always)]
fn same<T: ?Sized, U: ?Sized>() -> bool {
    type_id::<T>() == type_id::<U>()
}

/// The `TypeId` of a type that may borrow, all its lifetimes taken for `'static` (the trick of the crate `typeid`).
#[inline(always)]
fn type_id<T: ?Sized>() -> TypeId {
    trait Erased {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Erased for PhantomData<T> {
        #[inline(always)]
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let phantom = PhantomData::<T>;
    let erased: &dyn Erased = &phantom;
    // SAFETY: only the lifetime bound of the trait object changes, and `id` uses no value of the type.
    unsafe { std::mem::transmute::<&dyn Erased, &(dyn Erased + 'static)>(erased) }.id()
}

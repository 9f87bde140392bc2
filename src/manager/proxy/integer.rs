//! The integers that a server can add to.

use crate::manager::client::Loading;
use crate::manager::error::CallError;
use crate::manager::message::{self, Answer, Reader, Write};

/// An integer, signed or not, of any width. A server adds to one without sending it back and forth. No other type can have
/// it.
pub trait Integer: Forms {}

/// How it is sent. Not nameable outside.
pub trait Forms: serde::Serialize + serde::de::DeserializeOwned + Copy {
    #[doc(hidden)]
    const CODE: u8;
    #[doc(hidden)]
    fn widen(self) -> [u8; 16];
    #[doc(hidden)]
    fn narrow(bytes: [u8; 16]) -> Self;
}

macro_rules! integers {
    ($($type:ident $code:ident $wide:ident)*) => {$(
        impl Integer for $type {}

        impl Forms for $type {
            const CODE: u8 = message::Integer::$code as u8;

            fn widen(self) -> [u8; 16] {
                (self as $wide).to_le_bytes()
            }

            fn narrow(bytes: [u8; 16]) -> $type {
                $wide::from_le_bytes(bytes) as $type
            }
        }
    )*};
}
integers!(u8 U8 u128 u16 U16 u128 u32 U32 u128 u64 U64 u128 u128 U128 u128 usize U64 u128);
integers!(i8 I8 i128 i16 I16 i128 i32 I32 i128 i64 I64 i128 i128 I128 i128 isize I64 i128);

/// Appends what is to be added.
pub(super) fn put<N: Integer>(number: N, message: &mut Vec<u8>) {
    message.put_u8(N::CODE);
    message.put(&number.widen());
}

/// The former integer.
pub(super) fn former<N: Integer>(
    answer: Answer,
    mut rest: Reader<'_>,
    _: &Loading<'_>,
) -> Result<N, CallError> {
    match answer {
        Answer::Done => Ok(N::narrow(rest.array()?)),
        Answer::Differs => Err(CallError::NotThatInteger),
        other => Err(CallError::unexpected(other, rest)),
    }
}

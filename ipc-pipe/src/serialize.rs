//! serde to bytes; see `codec` for the format.
//!
//! Every step is inlined into the `Serialize` implementation of the value, so that a structure of numbers becomes a row
//! of stores.

use std::fmt::Display;

use serde::ser::{self, Serialize, Serializer};

use crate::codec::EncodeError;

/// Where the bytes go.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A function that takes the bytes piece by piece, until it answers false.
pub(crate) struct Pieces<F>(pub(crate) F);

impl<F: FnMut(&[u8]) -> bool> Sink for Pieces<F> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if (self.0)(bytes) { Ok(()) } else { Err(EncodeError::full()) }
    }
}

impl ser::Error for EncodeError {
    #[cold]
    fn custom<T: Display>(message: T) -> Self {
        EncodeError::of(message.to_string())
    }
}

/// Writes one value.
pub(crate) struct Writer<'a, S>(pub(crate) &'a mut S);

impl<S: Sink> Writer<'_, S> {
    #[inline(always)]
    fn count(&mut self, count: usize) -> Result<(), EncodeError> {
        self.0.put(&(count as u64).to_le_bytes())
    }

    #[inline(always)]
    fn known(&mut self, count: Option<usize>) -> Result<(), EncodeError> {
        match count {
            Some(count) => self.count(count),
            None => Err(EncodeError::of("the length of a sequence or map must be known before".into())),
        }
    }

    #[inline(always)]
    fn variant(&mut self, index: u32) -> Result<(), EncodeError> {
        self.0.put(&index.to_le_bytes())
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty)*) => {$(
        #[inline(always)]
        fn $method(self, number: $type) -> Result<(), EncodeError> {
            self.0.put(&number.to_le_bytes())
        }
    )*};
}

impl<'a, S: Sink> Serializer for Writer<'a, S> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_f32 f32 serialize_f64 f64
    }

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.0.put(&[value.into()])
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.0.put(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(text.as_bytes())
    }

    #[inline]
    fn serialize_bytes(mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.count(bytes.len())?;
        self.0.put(bytes)
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.0.put(&[0])
    }

    #[inline(always)]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.0.put(&[1])?;
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), EncodeError> {
        self.variant(index)
    }

    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(index)?;
        value.serialize(self)
    }

    #[inline(always)]
    fn serialize_seq(mut self, count: Option<usize>) -> Result<Self, EncodeError> {
        self.known(count)?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index)?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_map(mut self, count: Option<usize>) -> Result<Self, EncodeError> {
        self.known(count)?;
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline(always)]
    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index)?;
        Ok(self)
    }

    #[inline(always)]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Whatever has parts is the row of its parts.
macro_rules! parts {
    ($($kind:ident: $($method:ident($($name:ident: $type:ty),*)),+;)*) => {$(
        impl<S: Sink> ser::$kind for Writer<'_, S> {
            type Ok = ();
            type Error = EncodeError;

            $(
                #[inline(always)]
                fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)* part: &T) -> Result<(), EncodeError> {
                    part.serialize(Writer(&mut *self.0))
                }
            )+

            #[inline(always)]
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(_name: &'static str);
    SerializeStructVariant: serialize_field(_name: &'static str);
}

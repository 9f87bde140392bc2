//! The format: one for both ways into it, and what serde shapes it does not carry.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use ipc_pipe::codec::{Blob, decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut buffer = b"what was there before".to_vec();
    let before = buffer.len();
    encode(value, &mut buffer).unwrap();
    buffer.split_off(before)
}

/// serde hands over what is inside a newtype one by one: that is the slow way.
#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
struct Slow<T>(T);

fn both_ways<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone>(value: T) {
    let fast = encoded(&value);
    assert_eq!(fast, encoded(&Slow(value.clone())));
    assert_eq!(decode::<T>(&fast).unwrap(), value);
    assert_eq!(decode::<Slow<T>>(&fast).unwrap(), Slow(value));
    assert!(decode::<T>(&fast[..fast.len() - 1]).is_err(), "cut short");
    assert!(decode::<T>(&[&fast[..], &[0]].concat()).is_err(), "and more");
    assert!(decode::<T>(&[]).is_err());
}

#[test]
fn fast_and_slow_way_are_one_format() {
    macro_rules! numbers {
        ($($t:ty)*) => {$(
            both_ways::<Vec<$t>>(vec![]);
            both_ways(vec![<$t>::MIN, 1 as $t, <$t>::MAX]);
            both_ways(vec![<$t>::MIN, 1 as $t, <$t>::MAX].into_boxed_slice());
            let slice = &[1 as $t, 2 as $t][..];
            assert_eq!(encoded(slice), encoded(&slice.to_vec()));
            assert_eq!(encoded(&slice), encoded(&slice.to_vec()));
        )*};
    }
    numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);
    for text in ["", "a", "größer", "\0"] {
        both_ways(text.to_owned());
        both_ways(text.to_owned().into_boxed_str());
        assert_eq!(encoded(text), encoded(&text.to_owned()));
        assert_eq!(encoded(&text), encoded(&text.to_owned()));
        assert_eq!(encoded(&Cow::Borrowed(text)), encoded(text));
    }
}

#[test]
fn text_must_be_utf8() {
    let bytes = encoded(&vec![0xffu8, 0xfe]);
    assert!(decode::<String>(&bytes).is_err());
    assert!(decode::<Box<str>>(&bytes).is_err());
    assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), [0xff, 0xfe]);
}

#[test]
fn pretended_length_takes_no_memory() {
    for length in [u64::MAX, u64::MAX / 2, 1 << 40, 9] {
        let bytes = [&length.to_le_bytes()[..], &[0; 8]].concat();
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Blob>(&bytes).is_err());
        assert!(decode::<Vec<String>>(&bytes).is_err());
        assert!(decode::<Vec<[u64; 32]>>(&bytes).is_err());
    }
}

#[test]
fn borrowed_values_can_be_sent() {
    #[derive(Serialize)]
    struct Borrowing<'a, T: ?Sized> {
        text: &'a str,
        inner: &'a T,
        marker: PhantomData<&'a ()>,
    }
    let local = String::from("local");
    let value = Borrowing { text: &local, inner: &[1u8, 2][..], marker: PhantomData };
    assert_eq!(decode::<(String, Vec<u8>, ())>(&encoded(&value)).unwrap(), (local.clone(), vec![1, 2], ()));
}

#[test]
fn blob_is_bytes_in_one_piece() {
    let blob = Blob(vec![1, 2, 3]);
    assert_eq!(encoded(&("a", &blob, 7)), encoded(&("a", vec![1u8, 2, 3], 7)));
    assert_eq!(decode::<(Blob, Blob)>(&encoded(&(&blob, Blob::default()))).unwrap(), (blob, Blob::default()));
}

#[test]
fn enums_maps_and_options_travel() {
    #[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
    enum Plain {
        Unit,
        Tuple(u8, String),
        Struct { map: BTreeMap<String, Option<i64>> },
    }
    let map = BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some(-1))]);
    both_ways(vec![Plain::Unit, Plain::Tuple(1, "x".into()), Plain::Struct { map }]);
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum AdjacentlyTagged {
    Number(u32),
    Text(String),
}

#[test]
fn adjacently_tagged_enum_does_not_travel() {
    for value in [AdjacentlyTagged::Number(1), AdjacentlyTagged::Text("x".into())] {
        assert!(decode::<AdjacentlyTagged>(&encoded(&value)).is_err());
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

#[test]
fn untagged_enum_does_not_travel() {
    for value in [Untagged::Number(1), Untagged::Text("x".into())] {
        assert!(decode::<Untagged>(&encoded(&value)).is_err());
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum InternallyTagged {
    A { number: u32 },
}

#[test]
fn internally_tagged_enum_does_not_travel() {
    assert!(decode::<InternallyTagged>(&encoded(&InternallyTagged::A { number: 1 })).is_err());
}

#[derive(Debug, Serialize, Deserialize)]
struct Flattened {
    id: u32,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, Serialize, Deserialize)]
struct Inner {
    number: u32,
}

#[test]
fn flattened_field_cannot_be_sent() {
    let value = Flattened { id: 1, inner: Inner { number: 2 } };
    assert!(encode(&value, &mut Vec::new()).is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u32>,
    second: u32,
}

#[test]
fn skipped_field_is_missing() {
    let here = Skipping { first: Some(1), second: 2 };
    assert_eq!(decode::<Skipping>(&encoded(&here)).unwrap(), here);
    let skipped = Skipping { first: None, second: 2 };
    assert!(!matches!(decode::<Skipping>(&encoded(&skipped)), Ok(back) if back == skipped));
}

/// One of everything that serde knows.
#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
struct All {
    numbers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64),
    flags: [bool; 2],
    letters: Vec<char>,
    text: String,
    bytes: Blob,
    unit: ((), Unit),
    some: Option<Box<All>>,
    variants: Vec<Variant>,
    map: BTreeMap<u8, Vec<()>>,
    newtype: Slow<u16>,
    tuple: Pair,
}

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
struct Pair(i8, String);

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(u64),
    Tuple(u8, char),
    Struct { a: bool, b: Option<()> },
}

fn all() -> All {
    All {
        numbers: (1, 2, 3, 4, 5, -1, -2, -3, -4, -5, 0.5, -0.25),
        flags: [true, false],
        letters: vec!['a', '\0', 'ß', '語', '🦀', char::MAX],
        text: "größer".into(),
        bytes: Blob(vec![0, 255]),
        unit: ((), Unit),
        some: None,
        variants: vec![
            Variant::Unit,
            Variant::Newtype(7),
            Variant::Tuple(8, 'x'),
            Variant::Struct { a: true, b: Some(()) },
        ],
        map: BTreeMap::from([(1, vec![]), (2, vec![(); 5])]),
        newtype: Slow(9),
        tuple: Pair(-9, String::new()),
    }
}

#[test]
fn format_is_that_of_bincode_with_fixed_integers() {
    let format = bincode::config::standard().with_fixed_int_encoding();
    let value = All { some: Some(Box::new(all())), ..all() };
    let bytes = encoded(&value);
    assert_eq!(bytes, bincode::serde::encode_to_vec(&value, format).unwrap());
    assert_eq!(decode::<All>(&bytes).unwrap(), value);
}

#[test]
fn cut_or_damaged_bytes_are_an_error_or_another_value() {
    let bytes = encoded(&all());
    for end in 0..bytes.len() {
        assert!(decode::<All>(&bytes[..end]).is_err(), "{end}");
    }
    for place in 0..bytes.len() {
        for value in [0, 1, 2, 0x7f, 0x80, 0xc3, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] = value;
            let _ = decode::<All>(&damaged);
        }
    }
    assert!(decode::<Vec<()>>(&u64::MAX.to_le_bytes()).is_err(), "it would count for years");
    assert_eq!(decode::<Vec<()>>(&1000u64.to_le_bytes()).unwrap().len(), 1000);
    for wrong in [&[2u8][..], &[0x80]] {
        assert!(decode::<bool>(wrong).is_err() && decode::<Option<()>>(wrong).is_err());
    }
    for wrong in [&[0x80u8][..], &[0xc3], &[0xc3, 0x28], &[0xed, 0xa0, 0x80], &[0xff, 0, 0, 0]] {
        assert!(decode::<char>(wrong).is_err(), "{wrong:?}");
    }
    assert!(decode::<Variant>(&9u32.to_le_bytes()).is_err());
}

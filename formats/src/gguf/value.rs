//! Metadata values as they are stored: scalars, strings, arrays, arrays of arrays.

use std::fmt;

/// The types a metadata value or an array element can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "each variant is the name of its type")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Every type, by id.
    pub const ALL: [ValueType; 13] = {
        use ValueType::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ]
    };

    /// The number that stands for this type in a file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The type with this number.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The name used in messages, for example `u32`.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// The fewest bytes that one value of this type takes in a file.
    pub(crate) const fn min_bytes(self) -> u64 {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => 1,
            ValueType::U16 | ValueType::I16 => 2,
            ValueType::U32 | ValueType::I32 | ValueType::F32 => 4,
            ValueType::U64 | ValueType::I64 | ValueType::F64 => 8,
            // A length and no characters; an element type, a length and no elements.
            ValueType::String => 8,
            ValueType::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the name of its type")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array: elements of one type, stored without gaps.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the name of its element type")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Evaluates `$body` with `$v` bound to the contents, whatever the variant.
macro_rules! each {
    ($on:expr, $kind:ident, $v:ident => $body:expr) => {
        match $on {
            $kind::U8($v) => $body,
            $kind::I8($v) => $body,
            $kind::U16($v) => $body,
            $kind::I16($v) => $body,
            $kind::U32($v) => $body,
            $kind::I32($v) => $body,
            $kind::F32($v) => $body,
            $kind::Bool($v) => $body,
            $kind::String($v) => $body,
            $kind::Array($v) => $body,
            $kind::U64($v) => $body,
            $kind::I64($v) => $body,
            $kind::F64($v) => $body,
        }
    };
}

/// The [`ValueType`] that goes with a variant of [`Value`] or [`Array`].
macro_rules! type_of {
    ($on:expr, $kind:ident) => {
        match $on {
            $kind::U8(_) => ValueType::U8,
            $kind::I8(_) => ValueType::I8,
            $kind::U16(_) => ValueType::U16,
            $kind::I16(_) => ValueType::I16,
            $kind::U32(_) => ValueType::U32,
            $kind::I32(_) => ValueType::I32,
            $kind::F32(_) => ValueType::F32,
            $kind::Bool(_) => ValueType::Bool,
            $kind::String(_) => ValueType::String,
            $kind::Array(_) => ValueType::Array,
            $kind::U64(_) => ValueType::U64,
            $kind::I64(_) => ValueType::I64,
            $kind::F64(_) => ValueType::F64,
        }
    };
}

/// Every integer type's widest value, so that one conversion serves all.
macro_rules! integer {
    ($on:expr, $kind:ident, $v:ident => $body:expr) => {
        match $on {
            $kind::U8($v) => Some($body),
            $kind::I8($v) => Some($body),
            $kind::U16($v) => Some($body),
            $kind::I16($v) => Some($body),
            $kind::U32($v) => Some($body),
            $kind::I32($v) => Some($body),
            $kind::U64($v) => Some($body),
            $kind::I64($v) => Some($body),
            $kind::F32(_) | $kind::F64(_) | $kind::Bool(_) | $kind::String(_) | $kind::Array(_) => {
                None
            }
        }
    };
}

impl Value {
    /// The type of this value.
    pub fn value_type(&self) -> ValueType {
        type_of!(self, Value)
    }

    /// The value of any integer type; `None` for the other types.
    pub fn as_integer(&self) -> Option<i128> {
        integer!(self, Value, v => i128::from(*v))
    }

    /// The value of either floating-point type; `None` for the other types.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Value::F32(v) => Some(f64::from(*v)),
            Value::F64(v) => Some(*v),
            _ => None,
        }
    }

    /// The string; `None` for the other types.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// What this is, with its value where that is short: for messages.
    pub fn describe(&self) -> String {
        match self {
            Value::String(v) => format!("a string of {} bytes", v.len()),
            Value::Array(v) => v.describe(),
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            Value::Bool(v) => format!("bool {v}"),
            other => match other.as_integer() {
                Some(v) => format!("{} {v}", other.value_type()),
                None => other.value_type().to_string(),
            },
        }
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, Array, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ValueType {
        type_of!(self, Array)
    }

    /// The name of the type of the elements, for example `u32`.
    pub fn kind_name(&self) -> &'static str {
        self.element_type().name()
    }

    /// The elements of any integer type, widened; `None` for the other types.
    pub fn integers(&self) -> Option<Vec<i128>> {
        integer!(self, Array, v => v.iter().map(|&x| i128::from(x)).collect())
    }

    /// The elements of either floating-point type; `None` for the other types.
    pub fn floats(&self) -> Option<Vec<f64>> {
        match self {
            Array::F32(v) => Some(v.iter().map(|&x| f64::from(x)).collect()),
            Array::F64(v) => Some(v.clone()),
            _ => None,
        }
    }

    /// What this is, for messages.
    pub fn describe(&self) -> String {
        format!("an array of {} {} elements", self.len(), self.kind_name())
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident;)*) => { $(
        impl From<$ty> for Value {
            fn from(v: $ty) -> Self {
                Value::$variant(v)
            }
        }
        impl From<Vec<$ty>> for Array {
            fn from(v: Vec<$ty>) -> Self {
                Array::$variant(v)
            }
        }
        impl From<Vec<$ty>> for Value {
            fn from(v: Vec<$ty>) -> Self {
                Value::Array(Array::$variant(v))
            }
        }
    )* };
}

from! {
    u8 => U8; i8 => I8; u16 => U16; i16 => I16; u32 => U32; i32 => I32; f32 => F32; bool => Bool;
    u64 => U64; i64 => I64; f64 => F64; Array => Array;
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::String(v.to_owned())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::String(v)
    }
}

impl From<Strings> for Value {
    fn from(v: Strings) -> Self {
        Value::Array(Array::String(v))
    }
}

/// An array of strings in one buffer: a quarter of a million tokens load in a few milliseconds.
///
/// The format asks for UTF-8, but vocabularies of bytes break that rule, so the strings are kept as
/// bytes and nothing is checked while they load, which would double the time. [`Strings::get`]
/// checks the one string that it hands out; [`Strings::get_bytes`] has an answer for every string.
/// (Keys, tensor names and scalar strings must be UTF-8.)
#[derive(Clone, PartialEq, Eq)]
pub struct Strings {
    /// The characters of all strings, one after the other.
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`; it starts where its neighbour ends.
    ends: Vec<u32>,
}

impl Strings {
    /// Joins the parts: `ends` rise and the last one is the length of `bytes`.
    pub(crate) fn new(bytes: Vec<u8>, ends: Vec<u32>) -> Self {
        debug_assert!(ends.is_sorted() && ends.last().map_or(0, |e| *e as usize) == bytes.len());
        Self { bytes, ends }
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Length in bytes of all strings together.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The index of the first string that is not UTF-8. Reads all of them.
    pub fn first_not_utf8(&self) -> Option<usize> {
        self.iter().position(|string| string.is_none())
    }

    /// String `i`; `None` beyond the last one and for a string that is not UTF-8.
    pub fn get(&self, i: usize) -> Option<&str> {
        std::str::from_utf8(self.get_bytes(i)?).ok()
    }

    /// The bytes of string `i`; `None` beyond the last one.
    pub fn get_bytes(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        Some(&self.bytes[start..end])
    }

    /// The bytes of each string in order.
    pub fn iter_bytes(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.bytes[start..end as usize];
            start = end as usize;
            string
        })
    }

    /// Each string in order, `None` in place of those that are not UTF-8.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> + '_ {
        self.iter_bytes()
            .map(|bytes| std::str::from_utf8(bytes).ok())
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Strings {
    /// Collects strings or byte strings.
    ///
    /// # Panics
    /// When they have more than 4 GiB together.
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for string in strings {
            bytes.extend_from_slice(string.as_ref());
            ends.push(u32::try_from(bytes.len()).expect("strings of more than 4 GiB in one array"));
        }
        Self::new(bytes, ends)
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter_bytes().map(String::from_utf8_lossy))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cut_where_they_end() {
        let strings: Strings = ["", "a", "héé", ""].into_iter().collect();
        assert_eq!((strings.len(), strings.total_bytes()), (4, 6));
        assert_eq!(strings.first_not_utf8(), None);
        assert_eq!(
            strings.iter().flatten().collect::<Vec<_>>(),
            ["", "a", "héé", ""]
        );
        assert_eq!((strings.get(4), strings.get_bytes(4)), (None, None));
        assert!(Strings::from_iter::<[&str; 0]>([]).is_empty());
    }

    #[test]
    fn strings_that_are_not_utf8_keep_their_bytes() {
        let strings: Strings = [&b"ok"[..], b"\xff", "é".as_bytes()].into_iter().collect();
        assert_eq!(strings.first_not_utf8(), Some(1));
        assert_eq!(
            strings.iter().collect::<Vec<_>>(),
            [Some("ok"), None, Some("é")]
        );
        assert_eq!(strings.get_bytes(1), Some(&b"\xff"[..]));
    }

    #[test]
    fn a_character_cut_in_two_belongs_to_neither_string() {
        let strings: Strings = [&b"\xc3"[..], b"\xa9"].into_iter().collect();
        assert_eq!((strings.get(0), strings.get(1)), (None, None));
        assert_eq!(
            strings.iter_bytes().collect::<Vec<_>>().concat(),
            "é".as_bytes()
        );
    }

    #[test]
    fn type_numbers_lead_back_to_their_type() {
        for (i, ty) in ValueType::ALL.into_iter().enumerate() {
            assert_eq!(
                (ty.id() as usize, ValueType::from_id(ty.id())),
                (i, Some(ty))
            );
        }
        assert_eq!(ValueType::from_id(13), None);
    }
}

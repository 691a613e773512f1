//! The key-value pairs of a file, and typed access to them.

use super::value::{Array, Strings, Value};
use crate::error::Error;

/// The metadata of a file: keys and values in file order, found by key in logarithmic time.
///
/// The typed getters answer `Ok(None)` where the key is absent and an error that names key, place,
/// found and expected where its value is of no use. Integers convert between widths and signs when
/// the value fits, and so do the two float types; nothing else converts.
#[derive(Debug, Default)]
pub struct Metadata {
    entries: Vec<Entry>,
    /// Indices of `entries`, sorted by key.
    by_key: Vec<u32>,
}

/// One key-value pair.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Where the entry (that is, its key) starts in the file.
    pub(crate) key_at: u64,
    /// Where the value starts.
    pub(crate) at: u64,
}

/// An integer type that a getter can answer with.
trait Integer: TryFrom<i128> {
    const NAME: &'static str;
    const ARRAY: &'static str;
    const EACH: &'static str;
}

macro_rules! integers {
    ($($ty:ident)*) => { $(
        impl Integer for $ty {
            const NAME: &'static str = concat!("an integer that fits ", stringify!($ty));
            const ARRAY: &'static str = concat!("an array of integers that fit ", stringify!($ty));
            const EACH: &'static str =
                concat!("an integer that fits ", stringify!($ty), ", or an array of such");
        }
    )* };
}
integers! { u32 u64 i32 i64 }

impl Metadata {
    /// Indexes the entries.
    ///
    /// # Errors
    /// A key that occurs twice.
    pub(crate) fn new(entries: Vec<Entry>) -> Result<Self, Error> {
        let mut by_key: Vec<u32> = (0..entries.len() as u32).collect();
        by_key.sort_by_key(|&i| &entries[i as usize].key);
        let twice = |pair: &&[u32]| entries[pair[0] as usize].key == entries[pair[1] as usize].key;
        if let Some(pair) = by_key.windows(2).find(twice) {
            // The sort is stable, so the first of the pair is the first in the file.
            let (first, second) = (&entries[pair[0] as usize], &entries[pair[1] as usize]);
            let (key, first_at) = (second.key.clone(), first.key_at);
            return Err(Error::DuplicateKey {
                key,
                first_at,
                at: second.key_at,
            });
        }
        Ok(Self { entries, by_key })
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let i = self
            .by_key
            .binary_search_by(|&i| self.entries[i as usize].key.as_str().cmp(key));
        Some(&self.entries[self.by_key[i.ok()?] as usize])
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// The value of a key, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        Some(&self.entry(key)?.value)
    }

    /// Where in the file the value of a key starts, in bytes.
    pub fn offset(&self, key: &str) -> Option<u64> {
        Some(self.entry(key)?.at)
    }

    /// The error for a key that has to be there and is not; `expected` says what it should hold.
    pub fn missing(&self, key: &str, expected: impl Into<String>) -> Error {
        Error::MissingKey {
            key: key.to_owned(),
            expected: expected.into(),
        }
    }

    /// The error for a key whose value has the right type but cannot be used, for example a token
    /// id beyond the vocabulary.
    pub fn bad_value(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Error {
        Error::BadValue {
            key: key.to_owned(),
            at: self.offset(key).unwrap_or(0),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    /// Refuses a value outside `range`, in the words of [`Self::bad_value`].
    pub fn check_range(
        &self,
        key: &str,
        value: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<(), Error> {
        if range.contains(&value) {
            return Ok(());
        }
        let expected = format!("{} to {}", range.start(), range.end());
        Err(self.bad_value(key, value, expected))
    }

    /// Looks a key up and converts its value; `None` from `convert` becomes a wrong-type error.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        match convert(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::WrongType {
                key: key.to_owned(),
                at: entry.at,
                found: entry.value.describe(),
                expected,
            }),
        }
    }

    fn integer<T: Integer>(&self, key: &str) -> Result<Option<T>, Error> {
        self.typed(key, T::NAME, |value| T::try_from(value.as_integer()?).ok())
    }

    /// An integer of any stored type that fits `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key)
    }

    /// An integer of any stored type that fits `u64`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key)
    }

    /// An integer of any stored type that fits `i32`.
    pub fn i32(&self, key: &str) -> Result<Option<i32>, Error> {
        self.integer(key)
    }

    /// An integer of any stored type that fits `i64`.
    pub fn i64(&self, key: &str) -> Result<Option<i64>, Error> {
        self.integer(key)
    }

    /// A float of either stored type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "f32", |value| narrow(value.as_float()?))
    }

    /// A float of either stored type.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "f64", Value::as_float)
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "string", Value::as_str)
    }

    /// An array of whatever elements.
    pub fn array(&self, key: &str) -> Result<Option<&Array>, Error> {
        self.typed(key, "array", array_of)
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&Strings>, Error> {
        self.typed(key, "array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings),
            _ => None,
        })
    }

    fn integer_array<T: Integer>(&self, key: &str) -> Result<Option<Vec<T>>, Error> {
        self.typed(key, T::ARRAY, |value| fit(array_of(value)?.integers()?))
    }

    /// An array of integers of any stored type that fit `u32`.
    pub fn u32_array(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.integer_array(key)
    }

    /// An array of integers of any stored type that fit `i32`.
    pub fn i32_array(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.integer_array(key)
    }

    /// An array of floats of either stored type.
    pub fn f32_array(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.typed(key, "array of f32", |value| match array_of(value)? {
            Array::F32(floats) => Some(floats.clone()),
            other => other.floats()?.into_iter().map(narrow).collect(),
        })
    }

    /// `n` integers that fit `u32`: a single value is repeated, an array must have `n` entries or
    /// more (those beyond are left out).
    pub fn u32_per(&self, key: &str, n: usize) -> Result<Option<Vec<u32>>, Error> {
        let found = self.typed(key, u32::EACH, |value| match value {
            Value::Array(array) => fit(array.integers()?),
            one => Some(vec![u32::try_from(one.as_integer()?).ok()?; n]),
        })?;
        self.first_n(key, n, found)
    }

    /// `n` floats: a single value is repeated, an array must have `n` entries or more.
    pub fn f32_per(&self, key: &str, n: usize) -> Result<Option<Vec<f32>>, Error> {
        let found = self.typed(key, "f32, or an array of f32", |value| match value {
            Value::Array(array) => array.floats()?.into_iter().map(narrow).collect(),
            one => Some(vec![narrow(one.as_float()?)?; n]),
        })?;
        self.first_n(key, n, found)
    }

    /// `n` truth values: a single value is repeated, an array must have `n` entries or more.
    pub fn bool_per(&self, key: &str, n: usize) -> Result<Option<Vec<bool>>, Error> {
        let found = self.typed(key, "bool, or an array of bool", |value| match value {
            Value::Array(Array::Bool(array)) => Some(array.clone()),
            Value::Bool(one) => Some(vec![*one; n]),
            _ => None,
        })?;
        self.first_n(key, n, found)
    }

    fn first_n<T>(
        &self,
        key: &str,
        n: usize,
        found: Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, Error> {
        let Some(mut values) = found else {
            return Ok(None);
        };
        if values.len() < n {
            let at = self.offset(key).unwrap_or(0);
            let (key, found) = (key.to_owned(), values.len());
            return Err(Error::ArrayTooShort {
                key,
                at,
                found,
                expected: n,
            });
        }
        values.truncate(n);
        Ok(Some(values))
    }
}

fn array_of(value: &Value) -> Option<&Array> {
    match value {
        Value::Array(array) => Some(array),
        _ => None,
    }
}

/// All of the integers in another type, or `None` if one does not fit.
fn fit<T: Integer>(integers: Vec<i128>) -> Option<Vec<T>> {
    integers.into_iter().map(|v| T::try_from(v).ok()).collect()
}

/// The nearest f32; `None` for a finite number beyond the range of f32.
fn narrow(value: f64) -> Option<f32> {
    let narrowed = value as f32;
    (narrowed.is_finite() || !value.is_finite()).then_some(narrowed)
}

//! The one place that slices file bytes: a cursor that checks every length against what remains.

use crate::error::{Error, Place};
use crate::gguf::Endian;

/// The bytes `start..start + len`, if all of them are there.
pub(crate) fn slice(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    bytes.get(start..end)
}

/// Reads numbers, strings and slices from a byte slice, front to back.
///
/// Nothing is allocated here, and every failure says what was being read and where.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    endian: Endian,
    /// What is being read now: set by the reader, copied into errors.
    pub(crate) place: Place<&'a str>,
}

macro_rules! numbers {
    ($($name:ident -> $ty:ident;)*) => { $(
        #[doc = concat!("Reads one `", stringify!($ty), "`.")]
        pub(crate) fn $name(&mut self, item: &'static str) -> Result<$ty, Error> {
            let bytes = self.array(item)?;
            Ok(match self.endian {
                Endian::Little => $ty::from_le_bytes(bytes),
                Endian::Big => $ty::from_be_bytes(bytes),
            })
        }
    )* };
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8], endian: Endian) -> Self {
        Self {
            bytes,
            at: 0,
            endian,
            place: Place::Header,
        }
    }

    /// Bytes consumed so far.
    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes left.
    pub(crate) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The order of bytes in numbers.
    pub(crate) fn endian(&self) -> Endian {
        self.endian
    }

    /// The next `n` bytes. `item` names them in the error.
    #[inline]
    pub(crate) fn take(&mut self, n: u64, item: &'static str) -> Result<&'a [u8], Error> {
        match slice(self.bytes, self.at(), n) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.truncated(n, item)),
        }
    }

    #[cold]
    fn truncated(&self, need: u64, item: &'static str) -> Error {
        let (place, at, have) = (self.place.to_owned(), self.at(), self.remaining());
        Error::Truncated {
            place,
            item,
            at,
            need,
            have,
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self, item: &'static str) -> Result<[u8; N], Error> {
        match self.bytes[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N as u64, item)),
        }
    }

    numbers! {
        u8 -> u8; i8 -> i8; u16 -> u16; i16 -> i16; u32 -> u32; i32 -> i32; f32 -> f32;
        u64 -> u64; i64 -> i64; f64 -> f64;
    }

    /// Reads a u64 count of entries of at least `min_bytes` bytes each and refuses one that exceeds
    /// `cap` or that the remaining bytes cannot hold. What passes may be used to size a loop; it
    /// should not size an allocation whose entries are much larger than `min_bytes`.
    pub(crate) fn count(
        &mut self,
        item: &'static str,
        min_bytes: u64,
        cap: u64,
    ) -> Result<u64, Error> {
        let at = self.at();
        let found = self.u64(item)?;
        let have = self.remaining();
        let fits = have / min_bytes;
        if found > fits {
            let place = self.place.to_owned();
            return Err(Error::CountTooLarge {
                place,
                item,
                at,
                found,
                fits,
                have,
            });
        }
        self.check_cap(item, at, found, cap)?;
        Ok(found)
    }

    /// Refuses a `found` (read at byte `at`) above `cap`.
    pub(crate) fn check_cap(
        &self,
        item: &'static str,
        at: u64,
        found: u64,
        cap: u64,
    ) -> Result<(), Error> {
        if found <= cap {
            return Ok(());
        }
        Err(Error::OverCap {
            place: self.place.to_owned(),
            item,
            at,
            found,
            cap,
        })
    }

    /// Reads a u64 length and that many bytes of UTF-8.
    pub(crate) fn string(&mut self, item: &'static str, cap: u64) -> Result<&'a str, Error> {
        let len_at = self.at();
        let len = self.u64(item)?;
        if len <= self.remaining() {
            self.check_cap(item, len_at, len, cap)?;
        }
        let at = self.at();
        let bytes = self.take(len, item)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let bad = error.valid_up_to();
            let (place, bad_at) = (self.place.to_owned(), at + bad as u64);
            Error::NotUtf8 {
                place,
                item,
                at,
                bad_at,
                found: bytes[bad],
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beyond_the_end_takes_nothing_and_says_what_was_missing() {
        let mut cursor = Cursor::new(&[1, 2, 3, 4, 5], Endian::Little);
        assert_eq!(cursor.u16("x").unwrap(), 0x0201);
        match cursor.u32("the number").unwrap_err() {
            Error::Truncated {
                item: "the number",
                at: 2,
                need: 4,
                have: 3,
                ..
            } => {}
            other => panic!("{other}"),
        }
        assert!(cursor.take(u64::MAX, "x").is_err());
        assert_eq!(cursor.take(3, "x").unwrap(), [3, 4, 5]);
        assert_eq!(cursor.take(0, "x").unwrap(), [0u8; 0]);
        assert!(cursor.u8("x").is_err());
    }

    #[test]
    fn bytes_are_ordered_as_the_file_says() {
        let bytes = [0, 0, 0, 7];
        assert_eq!(Cursor::new(&bytes, Endian::Big).u32("x").unwrap(), 7);
        assert_eq!(
            Cursor::new(&bytes, Endian::Little).u32("x").unwrap(),
            7 << 24
        );
    }

    #[test]
    fn slices_outside_the_bytes_do_not_exist() {
        assert_eq!(slice(&[1, 2], 1, 1), Some(&[2][..]));
        for (start, len) in [(1, 2), (3, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(slice(&[1, 2], start, len), None);
        }
    }
}

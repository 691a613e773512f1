//! SentencePiece's map of characters (`tokenizer.ggml.precompiled_charsmap`): what Unigram
//! vocabularies write for compatibility forms, odd spaces and the like.
//!
//! The file holds the size of a double-array trie in bytes (u32), the trie (units of u32), and the
//! replacements, each ended by a zero. A unit's bits: 0 to 7 the byte that leads to it, 8 whether
//! a key ends here (its value stands in the unit that this one points to), 9 a shift of 8 for the
//! offset, 10 to 30 the offset, which is combined by exclusive or; a value's bit 31 is set.
//! At each place of a text the longest key counts. All of it comes from a file, so every index is
//! checked, and lengths are bounded: no published key or replacement comes near the limits.

/// Longest key that is looked for, in bytes.
const MAX_KEY: usize = 128;
/// A longer replacement is left out: it would let a small text fill memory.
const MAX_REPLACEMENT: usize = 512;

/// A map from strings to strings.
#[derive(Debug)]
pub(super) struct CharsMap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharsMap {
    /// Reads the map; `None` if the sizes do not fit.
    pub(super) fn new(bytes: &[u8]) -> Option<CharsMap> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let trie = rest.get(..size).filter(|_| size.is_multiple_of(4) && size > 0)?;
        let (units, _) = trie.as_chunks::<4>();
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Some(CharsMap { units, replacements: rest[size..].to_vec() })
    }

    /// The text with every key replaced.
    pub(super) fn map(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found =
                self.longest(rest.as_bytes()).filter(|&(len, _)| rest.is_char_boundary(len));
            match found {
                Some((len, replacement)) => {
                    out.push_str(replacement);
                    rest = &rest[len..];
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    /// Length and replacement of the longest key that `text` begins with.
    fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let mut node = offset(*self.units.first()?) as usize;
        let mut found = None;
        for (at, &byte) in text.iter().take(MAX_KEY).enumerate() {
            super::count::step();
            node ^= usize::from(byte);
            let Some(&unit) = self.units.get(node) else { break };
            // A value has bit 31 set, so it is no byte's unit.
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            node ^= offset(unit) as usize;
            if unit >> 8 & 1 == 1 {
                let value = self.units.get(node).map(|unit| unit & !(1 << 31));
                found = value.and_then(|v| self.replacement(v as usize)).map(|r| (at + 1, r));
            }
        }
        found
    }

    fn replacement(&self, at: usize) -> Option<&str> {
        let rest = self.replacements.get(at..)?;
        let end = memchr::memchr(0, &rest[..rest.len().min(MAX_REPLACEMENT)])?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_map_neither_fails_nor_hangs() {
        assert!(CharsMap::new(b"").is_none());
        assert!(CharsMap::new(b"\x08\0\0\0abcd").is_none());
        let mut seed = 5u32;
        for size in [4usize, 64, 4096] {
            let mut bytes = (size as u32).to_le_bytes().to_vec();
            bytes.extend((0..size + 99).map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8 & (seed >> 16) as u8
            }));
            let map = CharsMap::new(&bytes).unwrap();
            let text: String = (0..4000u32).filter_map(char::from_u32).collect();
            assert!(map.map(&text).len() <= text.len() * MAX_REPLACEMENT);
        }
    }
}

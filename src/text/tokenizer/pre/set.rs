//! A set of characters as a bitmap: what one `[...]` of a pattern compiles to.
//!
//! The class is written as in the published patterns (`[^\s\p{L}\p{N}]`), read by `regex-syntax`
//! (so Unicode categories, scripts and class algebra come from its tables) and stored as a
//! two-level bitmap: 256 characters a block, equal blocks stored once. A test is two loads.

use regex_syntax::hir::{Class, HirKind};

/// Characters of one bitmap block.
const BLOCK: usize = 256;
/// Blocks that cover every code point.
const N_BLOCKS: usize = 0x11_0000 / BLOCK;

/// A set of characters; membership costs two loads, or a shift for ASCII.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    ascii: u128,
    index: Box<[u16]>,
    blocks: Vec<[u64; 4]>,
}

impl Set {
    /// Compiles a class such as `\p{L}` or `[^\r\n\p{L}]`.
    ///
    /// The classes are constants of this program; one that does not parse is a bug that the tests
    /// find, hence the panic.
    pub(crate) fn new(class: &str) -> Set {
        let hir = regex_syntax::parse(class).expect("a class of the pattern table parses");
        let ranges: Vec<(u32, u32)> = match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => {
                class.ranges().iter().map(|r| (r.start() as u32, r.end() as u32)).collect()
            }
            HirKind::Class(Class::Bytes(class)) => {
                class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect()
            }
            // A class of one character is simplified to a literal.
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).expect("a literal of text");
                text.chars().map(|c| (c as u32, c as u32)).collect()
            }
            other => panic!("{class} is no character class but {other:?}"),
        };
        Set::from_ranges(&ranges)
    }

    /// `ranges` are sorted and do not overlap; both ends belong to the set.
    fn from_ranges(ranges: &[(u32, u32)]) -> Set {
        let mut set = Set { ascii: 0, index: vec![0; N_BLOCKS].into(), blocks: vec![[0; 4]] };
        let full = [u64::MAX; 4];
        let mut full_at = None;
        let mut block = [0u64; 4];
        let mut next = 0;
        for at in 0..N_BLOCKS {
            let (first, last) = ((at * BLOCK) as u32, (at * BLOCK + BLOCK - 1) as u32);
            while next < ranges.len() && ranges[next].1 < first {
                next += 1;
            }
            let Some(&(lo, hi)) = ranges.get(next) else {
                break;
            };
            if lo > last {
                continue;
            }
            if lo <= first && hi >= last {
                let id = *full_at.get_or_insert_with(|| {
                    set.blocks.push(full);
                    set.blocks.len() - 1
                });
                set.index[at] = id as u16;
                continue;
            }
            block.fill(0);
            for &(lo, hi) in ranges[next..].iter().take_while(|r| r.0 <= last) {
                for c in lo.max(first)..=hi.min(last) {
                    let bit = c as usize % BLOCK;
                    block[bit / 64] |= 1 << (bit % 64);
                }
            }
            set.index[at] = set.blocks.len() as u16;
            set.blocks.push(block);
        }
        let low = set.blocks[usize::from(set.index[0])];
        set.ascii = u128::from(low[0]) | u128::from(low[1]) << 64;
        set
    }

    /// Whether `c` belongs to the set.
    #[inline]
    pub(crate) fn has(&self, c: char) -> bool {
        let c = c as usize;
        if c < 128 {
            return self.ascii >> c & 1 == 1;
        }
        let block = &self.blocks[usize::from(self.index[c / BLOCK])];
        block[c % BLOCK / 64] >> (c % 64) & 1 == 1
    }

    /// If the character at byte `at` of `text` belongs to the set: the byte after it.
    #[inline]
    pub(crate) fn step(&self, text: &str, at: usize) -> Option<usize> {
        crate::text::tokenizer::count::step();
        let byte = *text.as_bytes().get(at)?;
        if byte < 128 {
            return (self.ascii >> byte & 1 == 1).then_some(at + 1);
        }
        let c = text[at..].chars().next()?;
        self.has(c).then(|| at + c.len_utf8())
    }

    /// End of the longest run of up to `max` characters of the set from byte `at`, and its length
    /// in characters.
    #[inline]
    pub(crate) fn run(&self, text: &str, mut at: usize, max: u32) -> (usize, u32) {
        let mut n = 0;
        while n < max {
            let Some(next) = self.step(text, at) else {
                break;
            };
            at = next;
            n += 1;
        }
        (at, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_the_class_says() {
        for class in [r"\p{L}", r"[^\s\p{L}\p{N}]", r"\s", r"[\p{Lu}\p{M}&&[^\p{Han}]]", r"\w"] {
            let set = Set::new(class);
            let hir = regex_syntax::parse(class).unwrap();
            let HirKind::Class(Class::Unicode(ranges)) = hir.kind() else { panic!("{class}") };
            let mut ranges = ranges.iter().peekable();
            let mut text = String::new();
            for c in '\0'..=char::MAX {
                while ranges.peek().is_some_and(|r| r.end() < c) {
                    ranges.next();
                }
                let expected = ranges.peek().is_some_and(|r| r.start() <= c);
                assert_eq!(set.has(c), expected, "{class} {c:?}");
                text.clear();
                text.push(c);
                assert_eq!(set.step(&text, 0).is_some(), expected, "{class} {c:?}");
            }
        }
    }

    #[test]
    fn a_run_stops_at_its_limit_and_at_strangers() {
        let set = Set::new(r"\p{N}");
        assert_eq!(set.run("12٣45a", 0, 3), (4, 3));
        assert_eq!(set.run("12٣45a", 0, u32::MAX), (6, 5));
        assert_eq!(set.run("a1", 0, 3), (0, 0));
    }
}

//! Code books of the IQ1, IQ2 and IQ3 types: an index stands for the magnitudes of 8 or 4 values at
//! once. Each book is a chosen subset of the points of a small lattice; the choice follows no
//! formula, so it is data: `books.bin`, the published grids of the types with every value replaced
//! by the number of its level.
//!
//! The file is 16-bit numbers, entry after entry, of IQ2_XXS (256 entries), IQ2_XS (512), IQ2_S
//! (1,024), IQ1_S and IQ1_M (2,048), IQ3_XXS (256), IQ3_S (512). Of the first four, value `j` of the
//! eight is bits `2 j` and up; of the last two, value `j` of the four is bits `3 j` and up. A level
//! is 0, 1, 2 for magnitudes 8, 25, 43 (IQ2) or for values -1, 0, 1 (IQ1); 0 to 7 for magnitudes
//! 4, 12, 20, 28, 36, 44, 52, 62 (IQ3_XXS) or 1, 3, 5, .. 15 (IQ3_S).

const FILE: &[u8; 9216] = include_bytes!("books.bin");

const fn entry(i: usize) -> u16 {
    u16::from_le_bytes([FILE[2 * i], FILE[2 * i + 1]])
}

/// A book of N (a power of two) entries of eight levels of two bits.
pub(crate) struct Book8<const N: usize> {
    /// The eight levels of an entry, a byte each, the first in the lowest byte.
    pub(crate) wide: [u64; N],
    /// The same in 16 bits: level `2 i` is bits `2 i` and up, level `2 i + 1` bits `2 i + 8` and up.
    /// So one 16-bit shift by `2 i` brings two neighbours to the bottom of neighbouring bytes.
    pub(crate) packed: [u16; N],
}

/// A book of N (a power of two) entries of four levels of three bits.
pub(crate) struct Book4<const N: usize> {
    /// The four levels of an entry, a byte each, the first in the lowest byte.
    pub(crate) wide: [u32; N],
    /// The same in 16 bits: levels 0 to 3 from bits 0, 8, 3 and 11 up.
    pub(crate) packed: [u16; N],
}

impl<const N: usize> Book8<N> {
    const fn from(first: usize) -> Self {
        assert!(N.is_power_of_two());
        let mut book = Self { wide: [0; N], packed: [0; N] };
        let mut e = 0;
        while e < N {
            let bits = entry(first + e);
            let mut j = 0;
            while j < 8 {
                let level = bits >> (2 * j) & 3;
                assert!(level < 3);
                book.wide[e] |= (level as u64) << (8 * j);
                book.packed[e] |= level << (j / 2 * 2 + j % 2 * 8);
                j += 1;
            }
            e += 1;
        }
        book
    }
}

impl<const N: usize> Book4<N> {
    const fn from(first: usize) -> Self {
        assert!(N.is_power_of_two());
        let mut book = Self { wide: [0; N], packed: [0; N] };
        let mut e = 0;
        while e < N {
            let bits = entry(first + e);
            let mut j = 0;
            while j < 4 {
                let level = bits >> (3 * j) & 7;
                book.wide[e] |= (level as u32) << (8 * j);
                book.packed[e] |= level << (j / 2 * 3 + j % 2 * 8);
                j += 1;
            }
            e += 1;
        }
        book
    }
}

/// The book of IQ2_XXS.
pub(crate) static IQ2_XXS: Book8<256> = Book8::from(0);
/// The book of IQ2_XS.
pub(crate) static IQ2_XS: Book8<512> = Book8::from(256);
/// The book of IQ2_S.
pub(crate) static IQ2_S: Book8<1024> = Book8::from(768);
/// The book of IQ1_S and IQ1_M.
pub(crate) static IQ1: Book8<2048> = Book8::from(1792);
/// The book of IQ3_XXS.
pub(crate) static IQ3_XXS: Book4<256> = Book4::from(3840);
/// The book of IQ3_S.
pub(crate) static IQ3_S: Book4<512> = Book4::from(4096);

//! Instruction set rows: the public [`Isa`] with its detection (`row`), and the trait of primitives
//! that every row implements.
//!
//! A kernel is written once, generic over [`Simd`] and over the tensor type's unpacker; a row
//! stamps it with its own `#[target_feature]` (see [`entries!`](self)). Primitives are
//! `#[inline(always)]` without features of their own: they take on those of the entry that they
//! are inlined into. So they must never be called from anywhere but below an entry of a row that
//! [`Isa::is_available`] has confirmed; that is the one safety contract of everything in here.
//!
//! Primitives that take apart stored bits (the *patterns*) have a scalar default: a new row is
//! right as soon as its arithmetic is, and gets fast pattern by pattern.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "bodies are nothing but intrinsics under the one contract stated above"
)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avxvnni;
pub(crate) mod codes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod dotprod;
pub(crate) mod half;
#[cfg(target_arch = "aarch64")]
pub(crate) mod i8mm;
pub mod limits;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pairs;
pub(crate) mod patterns;
pub(crate) mod prefetch;
#[cfg(target_arch = "x86_64")]
pub(crate) mod quantize;
mod row;
pub(crate) mod scalar;
pub(crate) mod transpose;

pub use row::Isa;
#[cfg(test)]
pub(crate) use row::StandIn;

use crate::types::books::{Book4, Book8};

/// Largest [`Simd::LANES`].
pub(crate) const MAX_LANES: usize = 16;
/// Bytes of the widest weight vector.
pub(crate) const MAX_Q: usize = 4 * MAX_LANES;

/// The primitives of one instruction set row.
///
/// `L` below is [`Simd::LANES`]. A [`Simd::Q`] holds `4 L` bytes; lane `i` of an integer dot
/// product covers bytes `4 i .. 4 i + 4`, that is four consecutive values of k.
///
/// # Safety
/// All functions: the machine runs this row, the call is inlined below an entry of this row, and
/// pointers are valid for what the function says it reads or writes (no alignment is needed).
pub(crate) trait Simd: Copy + 'static {
    /// 32-bit lanes of a vector.
    const LANES: usize;
    /// Vectors of rows per panel: `LANES * PANEL` rows are unpacked together.
    const PANEL: usize;
    /// Tiles for few columns: rows for one column (1 or 2), rows (1 or 2) and columns (1 or 4)
    /// for several.
    const TILE: (usize, usize, usize);
    /// Most columns of a panel micro-tile (1, 2, 4 or 6): for groups of 32, for groups of 16, and for
    /// codes above [`Simd::WHOLE`].
    const PANEL_COLS: (usize, usize, usize);
    /// Largest code that [`Simd::panel`] takes whole: those of types with larger ones it finds as the
    /// two planes of [`Simd::split`], the second `SPAN / 4` steps after the first.
    const WHOLE: u8 = 255;
    /// Whether [`Simd::panel`] adds products in 16 bits, so that the largest code decides how many.
    const NARROW: bool;
    /// `L` floats.
    type F: Copy;
    /// `4 L` bytes.
    type Q: Copy;
    /// `L` 32-bit integers.
    type I: Copy;

    // ---- floats -------------------------------------------------------------------------------

    /// All zero.
    unsafe fn zero() -> Self::F;
    /// `x` in all lanes.
    unsafe fn splat(x: f32) -> Self::F;
    /// Reads `L` floats.
    unsafe fn load(p: *const f32) -> Self::F;
    /// Writes `L` floats.
    unsafe fn store(p: *mut f32, x: Self::F);
    /// Lane-wise product.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// Lane-wise sum.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, fused where the row has it.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Sum of all lanes, in one fixed order.
    unsafe fn sum(x: Self::F) -> f32;
    /// The value of one float16.
    unsafe fn half(bits: u16) -> f32;
    /// Eight float16, `stride` bytes apart, as floats at `out`.
    #[inline(always)]
    unsafe fn halves(p: *const u8, stride: usize, out: *mut f32) {
        for b in 0..8 {
            *out.add(b) = Self::half(p.add(b * stride).cast::<u16>().read_unaligned());
        }
    }
    /// Eight pairs of float16, `stride` bytes apart: the firsts at `d`, the seconds at `m`.
    #[inline(always)]
    unsafe fn half_pairs(p: *const u8, stride: usize, d: *mut f32, m: *mut f32) {
        Self::halves(p, stride, d);
        Self::halves(p.add(2), stride, m);
    }
    /// Eight unsigned bytes times `d`, as floats at `out`.
    #[inline(always)]
    unsafe fn scale_u8(bytes: u64, d: f32, out: *mut f32) {
        for (i, b) in bytes.to_le_bytes().into_iter().enumerate() {
            *out.add(i) = d * f32::from(b);
        }
    }
    /// Eight signed bytes times `d`, as floats at `out`.
    #[inline(always)]
    unsafe fn scale_i8(bytes: u64, d: f32, out: *mut f32) {
        for (i, b) in bytes.to_le_bytes().into_iter().enumerate() {
            *out.add(i) = d * f32::from(b as i8);
        }
    }
    /// `2^(e - 128)` of eight bytes e, exact, as floats at `out`; of 0 and 1 it is subnormal.
    #[inline(always)]
    unsafe fn powers(exponents: u64, out: *mut f32) {
        for (i, e) in exponents.to_le_bytes().into_iter().enumerate() {
            let e = u32::from(e);
            *out.add(i) = f32::from_bits(if e > 1 { (e - 1) << 23 } else { (1 << 21) << e });
        }
    }
    /// Reads `L` float16.
    unsafe fn load_f16(p: *const u8) -> Self::F;
    /// Reads `L` bfloat16.
    unsafe fn load_bf16(p: *const u8) -> Self::F;
    /// Asks for the cache line at `p`; any address is fine.
    unsafe fn prefetch(p: *const u8);

    // ---- integers -----------------------------------------------------------------------------

    /// Reads `4 L` bytes.
    unsafe fn load_q(p: *const u8) -> Self::Q;
    /// Writes `4 L` bytes.
    unsafe fn store_q(p: *mut u8, q: Self::Q);
    /// Four bytes in all lanes.
    unsafe fn splat_q(p: *const u8) -> Self::Q;
    /// Bitwise or.
    unsafe fn or(a: Self::Q, b: Self::Q) -> Self::Q;
    /// Every byte shifted left; the caller knows that no bit leaves its byte.
    unsafe fn shl<const N: u32>(a: Self::Q) -> Self::Q;
    /// Every byte with its top bit flipped (signed to unsigned plus 128 and back).
    unsafe fn flip(a: Self::Q) -> Self::Q;
    /// The two planes that codes above [`Simd::WHOLE`], of which 128 is to be taken off, are kept as;
    /// not called where there are none.
    #[inline(always)]
    unsafe fn split(a: Self::Q) -> (Self::Q, Self::Q) {
        (a, a)
    }
    /// Every byte (below 16) replaced by `table[byte]`.
    unsafe fn lookup(table: &'static [u8; 16], index: Self::Q) -> Self::Q;
    /// What [`Simd::dot`] needs to take `offset` off every weight: made once per activation
    /// vector, used for several weight vectors. Meaningless where `offset` is 0.
    unsafe fn bias(x: Self::Q, offset: u8) -> Self::I;
    /// Per lane, the sum of four products `(u - offset) * x` of unsigned `u <= max` and signed
    /// `x >= -127`; exact, converted to float at the end (below 2^24: exactly).
    unsafe fn dot(u: Self::Q, x: Self::Q, bias: Self::I, max: u8, offset: u8) -> Self::F;

    // ---- scales -------------------------------------------------------------------------------

    /// The scale of each lane of vector `v` of a span: lane `i` gets `d[(4 L v + 4 i) / group]`.
    unsafe fn spread(d: *const f32, v: usize, group: usize) -> Self::F;
    /// Adds, per group of 16 values of a span, `m * sum` into `acc` (which lane is the row's
    /// choice). `m` holds 8 floats for groups of 32, 16 for groups of 16; `sums` 16 floats.
    unsafe fn mins(acc: Self::F, m: *const f32, sums: *const f32, group: usize) -> Self::F;

    // ---- panels -------------------------------------------------------------------------------

    /// Transposes `L` rows of `L` dwords: row `r` is read at `src + from * r`, and its dword `i`
    /// written at `dst + i * to + 4 r`.
    unsafe fn transpose(src: *const u8, from: usize, dst: *mut u8, to: usize);
    /// The integer part of a micro-tile: for `quads` steps of four k, `V` vectors of `L` rows
    /// (at `w`, step after step `stride` bytes apart) times `C` columns (dwords at `x[c]`). Codes
    /// are at most `max`, of which `1 << shift` is to be taken off; where `shift` is none, nothing
    /// is, and `max` is below 32. `-sum` of the column's group, an i32, is at `nsum[c]` (only read
    /// where there is a shift).
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        nsum: &[*const u8; C],
        max: u8,
        shift: Option<u32>,
    ) -> [[Self::F; C]; V];

    // ---- patterns: vector v of a span is values 4 L v .. 4 L (v + 1) ---------------------------

    /// 4-bit codes of blocks of 32 (low nibbles first): nibble bytes of block `b` at
    /// `p + b * stride`.
    #[inline(always)]
    unsafe fn nibbles(p: *const u8, stride: usize, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::nibble(p, stride, i))
    }

    /// Bit `i % 32` of the 32-bit number at `p + (i / 32) * stride`, as `one` or 0.
    #[inline(always)]
    unsafe fn bits(p: *const u8, stride: usize, v: usize, one: u8) -> Self::Q {
        patterns::gather::<Self>(v, |i| one * patterns::bit(p, stride, i))
    }

    /// Bytes of blocks of 32, block `b` at `p + b * stride`.
    #[inline(always)]
    unsafe fn bytes(p: *const u8, stride: usize, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| *p.add(i / 32 * stride + i % 32))
    }

    /// 4-bit codes of NVFP4: blocks of 64, of which each 8 bytes are 16 values, low nibbles first;
    /// nibble bytes of block `b` at `p + b * stride`.
    #[inline(always)]
    unsafe fn nibbles_8(p: *const u8, stride: usize, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::nibble_8(p, stride, i))
    }

    /// 2-bit codes in order: value `i` of a block of 64 is bits `2 (i % 4)` of byte `i / 4`; bytes of
    /// block `b` at `p + b * stride`.
    #[inline(always)]
    unsafe fn quarters(p: *const u8, stride: usize, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::quarter(p, stride, i))
    }

    /// 4-bit codes of Q4_K: chunks of 32 bytes, low nibbles then high nibbles.
    #[inline(always)]
    unsafe fn nibbles_32(p: *const u8, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::nibble_32(p, i))
    }

    /// 4-bit codes of Q6_K: chunks of 64 bytes, low nibbles then high nibbles.
    #[inline(always)]
    unsafe fn nibbles_64(p: *const u8, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::nibble_64(p, i))
    }

    /// The 2-bit order: value `128 n + 32 j + l` is bits `2 j` of byte `32 n + l`.
    #[inline(always)]
    unsafe fn two_bits(p: *const u8, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::two_bit(p, i))
    }

    /// One bit a value: value `32 g + l` is bit `g` of byte `l`, as 0 or 1.
    #[inline(always)]
    unsafe fn one_bit(p: *const u8, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| patterns::one_bit(p, i))
    }

    /// Base-three digits of TQ1_0, plus 7: digits 0 to 4 of bytes 0..32, of bytes 32..48, and digits 0
    /// to 3 of bytes 48..52, each digit of all bytes of its part before the next one.
    #[inline(always)]
    unsafe fn thirds(p: *const u8, v: usize) -> Self::Q {
        patterns::gather::<Self>(v, |i| 7 + patterns::third(p, i))
    }

    // ---- books: a whole span at once ----------------------------------------------------------

    /// Indices of 32 runs in eight groups, four 16-bit numbers to a word, the first the lowest: their
    /// low eight bits at `low`, the upper ones at `high`, `step` (1 or 2) bytes per group of which
    /// the lowest bits are four fields of `bits` bits.
    #[inline(always)]
    unsafe fn indices(low: *const u8, high: *const u8, step: usize, bits: u32) -> [u64; 8] {
        let mut index = [0; 8];
        for (g, index) in index.iter_mut().enumerate() {
            let mut fields = u64::from(*high.add(step * g));
            if step == 2 {
                fields |= u64::from(*high.add(step * g + 1)) << 8;
            }
            *index = patterns::widened(low.add(4 * g)) | patterns::upper(fields, bits);
        }
        index
    }

    /// Sign bytes of the 32 runs of eight groups, from four 7-bit indices in the low 28 bits of a
    /// number per group.
    #[inline(always)]
    unsafe fn signs_28(w: &[u32; 8]) -> [u8; 32] {
        let mut signs = [0; 32];
        for (signs, &w) in signs.as_chunks_mut().0.iter_mut().zip(w) {
            *signs = patterns::signs_28(w).to_le_bytes();
        }
        signs
    }

    /// Sign bytes of 32 runs from the 7-bit indices at the top of 16-bit numbers, four to a word.
    #[inline(always)]
    unsafe fn signs_16(words: &[u64; 8]) -> [u8; 32] {
        let mut signs = [0; 32];
        for (signs, &words) in signs.as_chunks_mut().0.iter_mut().zip(words) {
            *signs = patterns::signs_16(words).to_le_bytes();
        }
        signs
    }

    /// Bit 11 of each of 32 16-bit numbers, four to a word, for all eight bits of a byte.
    #[inline(always)]
    unsafe fn twelfths(words: &[u64; 8]) -> [u8; 32] {
        let mut flags = [0; 32];
        for (flags, &words) in flags.as_chunks_mut().0.iter_mut().zip(words) {
            let bits = patterns::narrowed(words >> 11 & 0x0001_0001_0001_0001);
            *flags = (bits * 255).to_le_bytes();
        }
        flags
    }

    /// The 256 codes of 32 entries of a book, at `codes`: `table[level]`, or `table[level + 8]` for
    /// values whose flag (a bit each) is set. Indices are 16-bit numbers, four to a word, the first
    /// the lowest; only as many low bits of them count as the book needs.
    #[inline(always)]
    unsafe fn points8<const N: usize>(
        book: &'static Book8<N>,
        index: &[u64; 8],
        flags: &[u8; 32],
        table: &'static [u8; 16],
        codes: *mut u8,
    ) {
        for r in 0..32 {
            let i = index[r / 4] >> (r % 4 * 16);
            let levels = book.wide[i as usize % N].to_le_bytes();
            codes.add(8 * r).cast::<[u8; 8]>().write_unaligned(levels);
        }
        patterns::flagged::<Self>(flags, table, codes);
    }

    /// As [`Simd::points8`] of 64 entries of four values.
    #[inline(always)]
    unsafe fn points4<const N: usize>(
        book: &'static Book4<N>,
        index: &[u64; 16],
        flags: &[u8; 32],
        table: &'static [u8; 16],
        codes: *mut u8,
    ) {
        for r in 0..64 {
            let i = index[r / 4] >> (r % 4 * 16);
            let levels = book.wide[i as usize % N].to_le_bytes();
            codes.add(4 * r).cast::<[u8; 4]>().write_unaligned(levels);
        }
        patterns::flagged::<Self>(flags, table, codes);
    }
}

/// Stamps the entry points of one row: the generic drivers compiled with its features.
macro_rules! entries {
    ($simd:ty, $prepare:path $(, $features:literal)?) => {
        /// Entries of this row; see the drivers of the same names.
        pub(crate) struct Row;

        impl $crate::table::Entries for Row {
            $(#[target_feature(enable = $features)])?
            unsafe fn rows<U: $crate::tile::Unpack>(job: &$crate::tile::Job<'_>) {
                $crate::tile::rows::<$simd, U>(job)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn expand<T: $crate::span::Span>(
                p: *const u8,
                n: usize,
                codes: *mut $crate::span::Bytes,
                head: *mut $crate::tile::Head,
            ) {
                $crate::span::expand::<$simd, T>(p, n, codes, head)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn expanded<const GROUP: usize>(
                job: &$crate::tile::Job<'_>,
                codes: &$crate::span::Codes,
            ) {
                $crate::span::rows::<$simd, GROUP>(job, codes)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn panel(
                job: &$crate::tile::Job<'_>,
                codes: &$crate::span::Codes,
                scratch: *mut u8,
            ) {
                $crate::panel::panel::<$simd>(job, codes, scratch)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn multiply<const GROUP: usize, const MINS: bool, const MAX: u8>(
                job: &$crate::tile::Job<'_>,
                codes: &$crate::span::Codes,
                s: usize,
                values: usize,
                slab: $crate::panel::Slab,
            ) {
                $crate::panel::multiply::<$simd, GROUP, MINS, MAX>(job, codes, s, values, slab)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn floats<W: $crate::float::Weight>(job: &$crate::tile::Job<'_>) {
                $crate::float::rows::<$simd, W>(job)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn prepare(x: &[f32], dst: &mut [u8], regime: $crate::Regime) {
                $prepare(x, dst, regime)
            }
            const PANEL_ROWS: usize =
                <$simd as $crate::isa::Simd>::LANES * <$simd as $crate::isa::Simd>::PANEL;
            const NARROW: bool = <$simd as $crate::isa::Simd>::NARROW;
        }
    };
}
pub(crate) use entries;

/// Stamps the entry points of one row for packed weights.
macro_rules! packed_entries {
    ($simd:ty $(, $features:literal)?) => {
        impl $crate::table::PackedEntries for Row {
            $(#[target_feature(enable = $features)])?
            unsafe fn packed_rows<T: $crate::packed::Layout>(job: &$crate::tile::Job<'_>) {
                $crate::packed::driver::rows::<$simd, T>(job)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn packed_fill<T: $crate::packed::Layout>(
                job: &$crate::tile::Job<'_>,
                r: usize,
                valid: usize,
                s: usize,
                values: usize,
                slab: $crate::panel::Slab,
            ) {
                $crate::packed::driver::fill::<$simd, T>(job, r, valid, s, values, slab)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn packed_panel(
                job: &$crate::tile::Job<'_>,
                codes: &$crate::span::Codes,
                fill: $crate::packed::driver::Fill,
                scratch: *mut u8,
            ) {
                $crate::packed::driver::panel::<$simd>(job, codes, fill, scratch)
            }
        }
    };
}
pub(crate) use packed_entries;

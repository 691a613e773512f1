//! The AVX-512 row (F, BW, VL, DQ, VNNI): 16 lanes, `vpdpbusd`.
//!
//! Vector `v` of a span covers 64 values, so two groups of 32. Storage patterns put both in one
//! register by a broadcast load and a variable shift (`vpsrlvd` by 0 in one half, more in the
//! other), which costs two operations and keeps the values in their natural order.
//!
//! Tried and dropped: 256-bit registers with `vpdpbusd` for few columns, hoping that on processors
//! with 256-bit data paths (Zen 4) the saved permutations pay. From the second-level cache, GB/s
//! with 256 / 512 bits: Q4_1 20.4 / 21.0, Q4_K 14.6 / 19.5, Q6_K 17.2 / 26.2, Q8_0 30.5 / 36.5.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::x86_64::*;

use super::Simd;
use crate::packed::driver::Lanes;
use crate::types::books::{Book4, Book8};

/// Token of the row.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

super::entries!(
    Avx512,
    crate::isa::quantize::avx512,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
);
super::packed_entries!(Avx512, "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c");

/// Both halves of the register: 32 bytes at `p`.
#[inline(always)]
unsafe fn twice(p: *const u8) -> __m512i {
    _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast()))
}

/// Shift counts: `lo` for the lower eight dwords, `hi` for the upper.
#[inline(always)]
unsafe fn counts(lo: usize, hi: usize) -> __m512i {
    let (a, b) = (lo as i32, hi as i32);
    _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b)
}

#[inline(always)]
unsafe fn transpose16(r: &mut [__m512i; 16]) {
    let mut t = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    // now r[4 i + j] holds dword j of rows 4i..4i+4 in each 128-bit part
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    // a 4x4 transpose of the 128-bit parts
    for j in 0..4 {
        let a = _mm512_shuffle_i32x4::<0x44>(r[j], r[4 + j]);
        let b = _mm512_shuffle_i32x4::<0xee>(r[j], r[4 + j]);
        let c = _mm512_shuffle_i32x4::<0x44>(r[8 + j], r[12 + j]);
        let d = _mm512_shuffle_i32x4::<0xee>(r[8 + j], r[12 + j]);
        t[j] = _mm512_shuffle_i32x4::<0x88>(a, c);
        t[4 + j] = _mm512_shuffle_i32x4::<0xdd>(a, c);
        t[8 + j] = _mm512_shuffle_i32x4::<0x88>(b, d);
        t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(b, d);
    }
    *r = t;
}

/// The 16-bit entries of a book for 32 indices: 64 entries are looked up at once in two registers,
/// and of neighbouring parts of the book the one kept that the next bit of the index means. For books
/// of 256 or 512 entries: of 1,024 a load for each entry is as fast, of 2,048 twice as fast.
#[derive(Clone, Copy)]
struct Entries {
    book: *const u16,
    index: __m512i,
    /// Which indices have bit 6, 7, ..
    bits: [__mmask32; 3],
}

macro_rules! larger_parts {
    ($($name:ident of $smaller:ident, $size:literal by bit $bit:literal;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, part: usize) -> __m512i {
            let (lo, hi) = (self.$smaller(part), self.$smaller(part + $size / 2));
            _mm512_mask_mov_epi16(lo, self.bits[$bit], hi)
        }
    )*};
}

impl Entries {
    #[inline(always)]
    unsafe fn find<const N: usize>(book: &'static [u16; N], index: __m512i) -> __m512i {
        let bit = |n: usize| _mm512_test_epi16_mask(index, _mm512_set1_epi16(64 << n));
        let bits = [bit(0), bit(1), bit(2)];
        let all = Self { book: book.as_ptr(), index, bits };
        match N {
            256 => all.four(0),
            512 => all.eight(0),
            _ => unreachable!("a book of {N} entries"),
        }
    }

    #[inline(always)]
    unsafe fn one(self, part: usize) -> __m512i {
        let table = self.book.add(64 * part);
        let (lo, hi) = (_mm512_loadu_si512(table.cast()), _mm512_loadu_si512(table.add(32).cast()));
        _mm512_permutex2var_epi16(lo, self.index, hi)
    }

    larger_parts! {
        two of one, 2 by bit 0;
        four of two, 4 by bit 1;
        eight of four, 8 by bit 2;
    }
}

/// `table[level]` of 64 levels, `table[level + 8]` where the flag is set; writes vector `v` of codes.
#[inline(always)]
unsafe fn flagged(levels: __m512i, flags: &[u8; 32], table: __m512i, codes: *mut u8, v: usize) {
    let mask = flags.as_ptr().add(8 * v).cast::<u64>().read_unaligned();
    let levels = _mm512_mask_add_epi8(levels, mask, levels, _mm512_set1_epi8(8));
    _mm512_storeu_si512(codes.add(64 * v).cast(), _mm512_shuffle_epi8(table, levels));
}

/// Three times every byte, `n` times over.
#[inline(always)]
unsafe fn tripled(q: __m256i, n: usize) -> __m256i {
    let mut q = q;
    for _ in 0..n {
        q = _mm256_add_epi8(q, _mm256_add_epi8(q, q));
    }
    q
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const PANEL: usize = 2;
    const TILE: (usize, usize, usize) = (2, 2, 4);
    const PANEL_COLS: (usize, usize, usize) = (6, 4, 6);
    const NARROW: bool = false;
    type F = __m512;
    type Q = __m512i;
    type I = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        _mm512_setzero_ps()
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        _mm512_storeu_ps(p, x);
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn sum(x: __m512) -> f32 {
        let hi = _mm512_extractf32x8_ps::<1>(x);
        super::avx2::sum8(_mm256_add_ps(_mm512_castps512_ps256(x), hi))
    }
    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        super::avx2::half(bits)
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8, stride: usize, out: *mut f32) {
        super::avx2::halves(p, stride, out);
    }
    #[inline(always)]
    unsafe fn half_pairs(p: *const u8, stride: usize, d: *mut f32, m: *mut f32) {
        super::avx2::half_pairs(p, stride, d, m);
    }
    #[inline(always)]
    unsafe fn scale_u8(bytes: u64, d: f32, out: *mut f32) {
        super::avx2::scale_u8(bytes, d, out);
    }
    #[inline(always)]
    unsafe fn scale_i8(bytes: u64, d: f32, out: *mut f32) {
        super::avx2::scale_i8(bytes, d, out);
    }
    #[inline(always)]
    unsafe fn powers(exponents: u64, out: *mut f32) {
        super::avx2::powers(exponents, out);
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> __m512 {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn store_q(p: *mut u8, q: __m512i) {
        _mm512_storeu_si512(p.cast(), q);
    }
    #[inline(always)]
    unsafe fn splat_q(p: *const u8) -> __m512i {
        _mm512_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }
    #[inline(always)]
    unsafe fn shl<const N: u32>(a: __m512i) -> __m512i {
        _mm512_slli_epi32::<N>(a)
    }
    #[inline(always)]
    unsafe fn flip(a: __m512i) -> __m512i {
        _mm512_xor_si512(a, _mm512_set1_epi8(-128))
    }
    #[inline(always)]
    unsafe fn lookup(table: &'static [u8; 16], index: __m512i) -> __m512i {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        _mm512_shuffle_epi8(table, index)
    }
    #[inline(always)]
    unsafe fn bias(x: __m512i, offset: u8) -> __m512i {
        let zero = _mm512_setzero_si512();
        if offset == 0 {
            return zero;
        }
        let sum = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(offset as i8), x);
        _mm512_sub_epi32(zero, sum)
    }
    #[inline(always)]
    unsafe fn dot(u: __m512i, x: __m512i, bias: __m512i, _: u8, _: u8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(bias, u, x))
    }

    #[inline(always)]
    unsafe fn spread(d: *const f32, v: usize, group: usize) -> __m512 {
        if group == 32 {
            let pair =
                _mm512_castpd_ps(_mm512_set1_pd(d.add(2 * v).cast::<f64>().read_unaligned()));
            let index = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            _mm512_permutexvar_ps(index, pair)
        } else {
            let four = _mm512_broadcast_f32x4(_mm_loadu_ps(d.add(4 * v)));
            let index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            _mm512_permutexvar_ps(index, four)
        }
    }
    #[inline(always)]
    unsafe fn mins(acc: __m512, m: *const f32, sums: *const f32, group: usize) -> __m512 {
        let m = if group == 32 {
            let index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            // loading 64 bytes would wait for the store of just these 32
            _mm512_permutexvar_ps(index, _mm512_broadcast_f32x8(_mm256_loadu_ps(m)))
        } else {
            _mm512_loadu_ps(m)
        };
        _mm512_fmadd_ps(m, _mm512_loadu_ps(sums), acc)
    }

    #[inline(always)]
    unsafe fn transpose(src: *const u8, from: usize, dst: *mut u8, to: usize) {
        let mut r = [_mm512_setzero_si512(); 16];
        for (i, r) in r.iter_mut().enumerate() {
            *r = _mm512_loadu_si512(src.add(from * i).cast());
        }
        transpose16(&mut r);
        for (i, r) in r.iter().enumerate() {
            _mm512_storeu_si512(dst.add(i * to).cast(), *r);
        }
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        nsum: &[*const u8; C],
        _: u8,
        shift: Option<u32>,
    ) -> [[__m512; C]; V] {
        let mut acc = [[_mm512_setzero_si512(); C]; V];
        if let Some(shift) = shift {
            let shift = _mm_cvtsi32_si128(shift as i32);
            for c in 0..C {
                let start = _mm512_sll_epi32(Self::splat_q(nsum[c]), shift);
                for acc in &mut acc {
                    acc[c] = start;
                }
            }
        }
        for j in 0..quads {
            let mut u = [_mm512_setzero_si512(); V];
            for v in 0..V {
                u[v] = _mm512_loadu_si512(w.add(j * stride + 64 * v).cast());
            }
            for c in 0..C {
                let x = Self::splat_q(x[c].add(4 * j));
                for v in 0..V {
                    acc[v][c] = _mm512_dpbusd_epi32(acc[v][c], u[v], x);
                }
            }
        }
        let mut out = [[_mm512_setzero_ps(); C]; V];
        for v in 0..V {
            for c in 0..C {
                out[v][c] = _mm512_cvtepi32_ps(acc[v][c]);
            }
        }
        out
    }

    #[inline(always)]
    unsafe fn nibbles(p: *const u8, stride: usize, v: usize) -> __m512i {
        let p = p.add(2 * v * stride);
        let a = _mm512_broadcast_i32x4(_mm_loadu_si128(p.cast()));
        let b = _mm_loadu_si128(p.add(stride).cast());
        let both = _mm512_mask_broadcast_i32x4(a, 0xff00, b);
        let count = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
        _mm512_and_si512(_mm512_srlv_epi32(both, count), _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn bits(p: *const u8, stride: usize, v: usize, one: u8) -> __m512i {
        let p = p.add(2 * v * stride);
        let lo = p.cast::<u32>().read_unaligned();
        let hi = p.add(stride).cast::<u32>().read_unaligned();
        let mask = u64::from(lo) | u64::from(hi) << 32;
        _mm512_maskz_mov_epi8(mask, _mm512_set1_epi8(one as i8))
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8, stride: usize, v: usize) -> __m512i {
        let p = p.add(2 * v * stride);
        let lo = _mm512_castsi256_si512(_mm256_loadu_si256(p.cast()));
        _mm512_inserti64x4::<1>(lo, _mm256_loadu_si256(p.add(stride).cast()))
    }
    #[inline(always)]
    unsafe fn nibbles_32(p: *const u8, v: usize) -> __m512i {
        let q = _mm512_srlv_epi32(twice(p.add(32 * v)), counts(0, 4));
        _mm512_and_si512(q, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn nibbles_64(p: *const u8, v: usize) -> __m512i {
        let q = _mm512_loadu_si512(p.add(v / 2 * 64).cast());
        let q = if v.is_multiple_of(2) { q } else { _mm512_srli_epi32::<4>(q) };
        _mm512_and_si512(q, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn two_bits(p: *const u8, v: usize) -> __m512i {
        let shift = v % 2 * 4;
        let q = _mm512_srlv_epi32(twice(p.add(v / 2 * 32)), counts(shift, shift + 2));
        _mm512_and_si512(q, _mm512_set1_epi8(3))
    }
    #[inline(always)]
    unsafe fn one_bit(p: *const u8, v: usize) -> __m512i {
        let q = _mm512_srlv_epi32(twice(p), counts(2 * v, 2 * v + 1));
        _mm512_and_si512(q, _mm512_set1_epi8(1))
    }
    #[inline(always)]
    unsafe fn nibbles_8(p: *const u8, stride: usize, v: usize) -> __m512i {
        let q = _mm512_castsi256_si512(_mm256_loadu_si256(p.add(v * stride).cast()));
        let q = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), q);
        let q = _mm512_srlv_epi64(q, _mm512_setr_epi64(0, 4, 0, 4, 0, 4, 0, 4));
        _mm512_and_si512(q, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn quarters(p: *const u8, stride: usize, v: usize) -> __m512i {
        // a byte to each dword, then each of its pairs of bits to the bottom of a byte
        let q = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.add(v * stride).cast()));
        let q = _mm512_or_si512(q, _mm512_slli_epi32::<6>(q));
        let q = _mm512_or_si512(q, _mm512_slli_epi32::<12>(q));
        _mm512_and_si512(q, _mm512_set1_epi8(3))
    }
    #[inline(always)]
    unsafe fn thirds(p: *const u8, v: usize) -> __m512i {
        let first = _mm256_loadu_si256(p.cast());
        // bytes 32..48 with 0 and 1 factors of three, and 48..52 with 0 to 3
        let second = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.add(32).cast()));
        let second = _mm256_blend_epi32::<0xf0>(second, tripled(second, 1));
        let (lo, hi) = match v {
            0 => (first, tripled(first, 1)),
            1 => (tripled(first, 2), tripled(first, 3)),
            2 => (tripled(first, 4), second),
            _ => (tripled(second, 2), super::avx2::last_thirds(p, tripled(second, 4))),
        };
        let q = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(lo), hi);
        let (seven, one) = (_mm512_set1_epi8(7), _mm512_set1_epi8(1));
        let some = _mm512_cmpgt_epu8_mask(q, _mm512_set1_epi8(85));
        let two = _mm512_cmpgt_epu8_mask(q, _mm512_set1_epi8(170_u8 as i8));
        let q = _mm512_mask_add_epi8(seven, some, seven, one);
        _mm512_mask_add_epi8(q, two, q, one)
    }

    #[inline(always)]
    unsafe fn indices(low: *const u8, high: *const u8, step: usize, bits: u32) -> [u64; 8] {
        let high = match step {
            1 => _mm512_cvtepu8_epi64(_mm_loadl_epi64(high.cast())),
            _ => _mm512_cvtepu16_epi64(_mm_loadu_si128(high.cast())),
        };
        // four copies of a group's number, each with its own field moved to the bottom
        let copies = _mm512_set4_epi32(0x0908_0908, 0x0908_0908, 0x0100_0100, 0x0100_0100);
        let count = |i: u32| i64::from(bits * i) << (16 * i);
        let high = _mm512_srlv_epi16(
            _mm512_shuffle_epi8(high, copies),
            _mm512_set1_epi64(count(1) | count(2) | count(3)),
        );
        let high = _mm512_and_si512(high, _mm512_set1_epi16((1 << bits) - 1));
        let low = _mm512_cvtepu8_epi16(_mm256_loadu_si256(low.cast()));
        let mut index = [0; 8];
        let all = _mm512_or_si512(low, _mm512_slli_epi16::<8>(high));
        _mm512_storeu_si512(index.as_mut_ptr().cast(), all);
        index
    }
    #[inline(always)]
    unsafe fn signs_28(w: &[u32; 8]) -> [u8; 32] {
        super::avx2::signs_28(w)
    }
    #[inline(always)]
    unsafe fn signs_16(words: &[u64; 8]) -> [u8; 32] {
        let x = _mm512_srli_epi16::<9>(_mm512_loadu_si512(words.as_ptr().cast()));
        let p = _mm512_xor_si512(x, _mm512_srli_epi16::<4>(x));
        let p = _mm512_xor_si512(p, _mm512_srli_epi16::<2>(p));
        let p = _mm512_xor_si512(p, _mm512_srli_epi16::<1>(p));
        let x = _mm512_or_si512(x, _mm512_slli_epi16::<7>(p));
        let mut signs = [0; 32];
        _mm256_storeu_si256(signs.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(x));
        signs
    }
    #[inline(always)]
    unsafe fn twelfths(words: &[u64; 8]) -> [u8; 32] {
        let words = _mm512_loadu_si512(words.as_ptr().cast());
        let set = _mm512_test_epi16_mask(words, _mm512_set1_epi16(1 << 11));
        let mut flags = [0; 32];
        _mm256_storeu_si256(flags.as_mut_ptr().cast(), _mm256_movm_epi8(set));
        flags
    }

    #[inline(always)]
    unsafe fn points8<const N: usize>(
        book: &'static Book8<N>,
        index: &[u64; 8],
        flags: &[u8; 32],
        table: &'static [u8; 16],
        codes: *mut u8,
    ) {
        if N > 512 {
            return super::avx2::Avx2::points8(book, index, flags, table, codes);
        }
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        let found = Entries::find(&book.packed, _mm512_loadu_si512(index.as_ptr().cast()));
        for v in 0..4 {
            // an entry to each qword, four times; then each pair of levels to the bottom
            let spread = _mm512_add_epi16(
                _mm512_setr_epi64(
                    0,
                    0x0001_0001_0001_0001,
                    0x0002_0002_0002_0002,
                    0x0003_0003_0003_0003,
                    0x0004_0004_0004_0004,
                    0x0005_0005_0005_0005,
                    0x0006_0006_0006_0006,
                    0x0007_0007_0007_0007,
                ),
                _mm512_set1_epi16(8 * v as i16),
            );
            let q = _mm512_permutexvar_epi16(spread, found);
            let q = _mm512_srlv_epi16(q, _mm512_set1_epi64(0x0006_0004_0002_0000));
            flagged(_mm512_and_si512(q, _mm512_set1_epi8(3)), flags, table, codes, v);
        }
    }
    #[inline(always)]
    unsafe fn points4<const N: usize>(
        book: &'static Book4<N>,
        index: &[u64; 16],
        flags: &[u8; 32],
        table: &'static [u8; 16],
        codes: *mut u8,
    ) {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        for half in 0..2 {
            let index = _mm512_loadu_si512(index.as_ptr().add(8 * half).cast());
            let found = Entries::find(&book.packed, index);
            let parts = [_mm512_castsi512_si256(found), _mm512_extracti64x4_epi64::<1>(found)];
            for (i, part) in parts.into_iter().enumerate() {
                // levels 0 and 1 stay in the lower word of a dword, 2 and 3 go to the upper
                let q = _mm512_cvtepu16_epi32(part);
                let q = _mm512_or_si512(q, _mm512_slli_epi32::<13>(q));
                let q = _mm512_and_si512(q, _mm512_set1_epi8(7));
                flagged(q, flags, table, codes, 2 * half + i);
            }
        }
    }
}

impl Lanes for Avx512 {
    type N = __m512i;

    #[inline(always)]
    unsafe fn zero_n() -> __m512i {
        _mm512_setzero_si512()
    }
    #[inline(always)]
    unsafe fn start(p: *const u8, shift: u32) -> __m512i {
        _mm512_set1_epi32(p.cast::<i32>().read_unaligned() << shift)
    }
    #[inline(always)]
    unsafe fn add_n(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn dp(acc: __m512i, u: __m512i, x: __m512i, _: u8, _: u8) -> __m512i {
        _mm512_dpbusd_epi32(acc, u, x)
    }
    #[inline(always)]
    unsafe fn float(n: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(n)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())))
    }
    #[inline(always)]
    unsafe fn field(q: __m512i, shift: i32, mask: u8) -> __m512i {
        let q = match shift {
            0 => q,
            1.. => _mm512_srl_epi32(q, _mm_cvtsi32_si128(shift)),
            _ => _mm512_sll_epi32(q, _mm_cvtsi32_si128(-shift)),
        };
        _mm512_and_si512(q, _mm512_set1_epi8(mask as i8))
    }
}

//! The AVX2 row (with FMA and F16C): 8 lanes. How bytes are multiplied is a parameter ([`Products`]):
//! in pairs here, and whole in `avxvnni`.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Simd;
use super::pairs::{Pairs, Products};
use crate::packed::driver::Lanes;
use crate::types::books::{Book4, Book8};

/// Token of a row of 256 bits with products of kind `P`.
#[derive(Clone, Copy)]
pub(crate) struct Ymm<P>(PhantomData<P>);

/// Token of the AVX2 row.
pub(crate) type Avx2 = Ymm<Pairs>;

super::packed_entries!(Avx2, "avx2,fma,f16c");
super::entries!(Avx2, crate::act::quantize, "avx2,fma,f16c");

/// Sum of eight lanes in a fixed order.
#[inline(always)]
pub(crate) unsafe fn sum8(x: __m256) -> f32 {
    let s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)))
}

/// The value of one float16.
#[inline(always)]
pub(crate) unsafe fn half(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// Eight float16, `stride` bytes apart.
#[inline(always)]
pub(crate) unsafe fn halves(p: *const u8, stride: usize, out: *mut f32) {
    let at = |b: usize| p.add(b * stride).cast::<i16>().read_unaligned();
    let h = _mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
    _mm256_storeu_ps(out, _mm256_cvtph_ps(h));
}

/// Eight pairs of float16, `stride` bytes apart.
#[inline(always)]
pub(crate) unsafe fn half_pairs(p: *const u8, stride: usize, d: *mut f32, m: *mut f32) {
    let at = |b: usize| p.add(b * stride).cast::<i32>().read_unaligned();
    let lo = _mm_setr_epi32(at(0), at(1), at(2), at(3));
    let hi = _mm_setr_epi32(at(4), at(5), at(6), at(7));
    // firsts into the lower, seconds into the upper eight bytes
    let split = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let (lo, hi) = (_mm_shuffle_epi8(lo, split), _mm_shuffle_epi8(hi, split));
    _mm256_storeu_ps(d, _mm256_cvtph_ps(_mm_unpacklo_epi64(lo, hi)));
    _mm256_storeu_ps(m, _mm256_cvtph_ps(_mm_unpackhi_epi64(lo, hi)));
}

/// Eight unsigned bytes times `d`.
#[inline(always)]
pub(crate) unsafe fn scale_u8(bytes: u64, d: f32, out: *mut f32) {
    let n = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)));
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_set1_ps(d), n));
}

/// Eight signed bytes times `d`.
#[inline(always)]
pub(crate) unsafe fn scale_i8(bytes: u64, d: f32, out: *mut f32) {
    let n = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes as i64)));
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_set1_ps(d), n));
}

/// See [`Simd::powers`].
#[inline(always)]
pub(crate) unsafe fn powers(exponents: u64, out: *mut f32) {
    let e = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(exponents as i64));
    let one = _mm256_set1_epi32(1);
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, one));
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), e);
    let bits = _mm256_blendv_epi8(subnormal, normal, _mm256_cmpgt_epi32(e, one));
    _mm256_storeu_si256(out.cast(), bits);
}

/// The last 32 values of TQ1_0, before their digits are taken: bytes 32..48 with four factors of
/// three, from the lower half of `fourth`, and the four bytes after them with 0, 1, 2 and 3.
#[inline(always)]
pub(crate) unsafe fn last_thirds(p: *const u8, fourth: __m256i) -> __m256i {
    let once = _mm_set1_epi32(p.add(48).cast::<i32>().read_unaligned());
    let thrice = |q: __m128i| _mm_add_epi8(q, _mm_add_epi8(q, q));
    let three = thrice(once);
    let nine = thrice(three);
    let lo = _mm_unpacklo_epi32(once, three);
    let hi = _mm_unpacklo_epi32(nine, thrice(nine));
    _mm256_inserti128_si256::<1>(fourth, _mm_unpacklo_epi64(lo, hi))
}

/// See [`Simd::signs_28`].
#[inline(always)]
pub(crate) unsafe fn signs_28(w: &[u32; 8]) -> [u8; 32] {
    let w = _mm256_loadu_si256(w.as_ptr().cast());
    let field = |q, mask| _mm256_and_si256(q, _mm256_set1_epi32(mask));
    let lo = _mm256_or_si256(field(w, 0x7f), field(_mm256_slli_epi32::<1>(w), 0x7f00));
    let hi = _mm256_or_si256(
        field(_mm256_slli_epi32::<2>(w), 0x7f_0000),
        field(_mm256_slli_epi32::<3>(w), 0x7f00_0000),
    );
    let x = _mm256_or_si256(lo, hi);
    let p = _mm256_xor_si256(x, _mm256_srli_epi32::<4>(x));
    let p = _mm256_xor_si256(p, _mm256_srli_epi32::<2>(p));
    let p = _mm256_xor_si256(p, _mm256_srli_epi32::<1>(p));
    let even = _mm256_and_si256(_mm256_slli_epi32::<7>(p), _mm256_set1_epi8(-128));
    let mut signs = [0; 32];
    _mm256_storeu_si256(signs.as_mut_ptr().cast(), _mm256_or_si256(x, even));
    signs
}

/// Sixteen indices in four groups, see [`Simd::indices`].
#[inline(always)]
unsafe fn indices_16(low: *const u8, high: *const u8, step: usize, bits: u32) -> __m256i {
    let high = match step {
        1 => _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(high.cast::<i32>().read_unaligned())),
        _ => _mm256_cvtepu16_epi64(_mm_loadl_epi64(high.cast())),
    };
    // four copies of a group's number, each with its own field moved to the top by a product
    let copies = _mm256_set1_epi64x(0x0100_0100_0100_0100);
    let copies = _mm256_unpacklo_epi64(copies, _mm256_set1_epi64x(0x0908_0908_0908_0908));
    let top = |i: u32| 1i64 << (16 - bits * (i + 1)) << (16 * i);
    let high = _mm256_mullo_epi16(
        _mm256_shuffle_epi8(high, copies),
        _mm256_set1_epi64x(top(0) | top(1) | top(2) | top(3)),
    );
    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(16 - bits as i32));
    let low = _mm256_cvtepu8_epi16(_mm_loadu_si128(low.cast()));
    _mm256_or_si256(low, _mm256_slli_epi16::<8>(high))
}

/// `table[level]` of 32 levels, `table[level + 8]` where the flag is set; writes vector `v` of codes.
#[inline(always)]
unsafe fn flagged(levels: __m256i, flags: &[u8; 32], table: __m256i, codes: *mut u8, v: usize) {
    let q = _mm256_or_si256(levels, Avx2::bits(flags.as_ptr(), 4, v, 8));
    _mm256_storeu_si256(codes.add(32 * v).cast(), _mm256_shuffle_epi8(table, q));
}

impl<P: Products> Simd for Ymm<P> {
    const LANES: usize = 8;
    const PANEL: usize = 2;
    const TILE: (usize, usize, usize) = (2, 1, 4);
    const PANEL_COLS: (usize, usize, usize) = P::PANEL_COLS;
    const WHOLE: u8 = P::WHOLE;
    const NARROW: bool = P::NARROW;
    type F = __m256;
    type Q = __m256i;
    type I = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        _mm256_setzero_ps()
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        _mm256_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m256) {
        _mm256_storeu_ps(p, x);
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn sum(x: __m256) -> f32 {
        sum8(x)
    }
    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        half(bits)
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8, stride: usize, out: *mut f32) {
        halves(p, stride, out);
    }
    #[inline(always)]
    unsafe fn half_pairs(p: *const u8, stride: usize, d: *mut f32, m: *mut f32) {
        half_pairs(p, stride, d, m);
    }
    #[inline(always)]
    unsafe fn scale_u8(bytes: u64, d: f32, out: *mut f32) {
        scale_u8(bytes, d, out);
    }
    #[inline(always)]
    unsafe fn scale_i8(bytes: u64, d: f32, out: *mut f32) {
        scale_i8(bytes, d, out);
    }
    #[inline(always)]
    unsafe fn powers(exponents: u64, out: *mut f32) {
        powers(exponents, out);
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> __m256 {
        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn store_q(p: *mut u8, q: __m256i) {
        _mm256_storeu_si256(p.cast(), q);
    }
    #[inline(always)]
    unsafe fn splat_q(p: *const u8) -> __m256i {
        _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        _mm256_or_si256(a, b)
    }
    #[inline(always)]
    unsafe fn shl<const N: u32>(a: __m256i) -> __m256i {
        // the intrinsic's count is an i32 constant, which a u32 parameter cannot become
        _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32))
    }
    #[inline(always)]
    unsafe fn flip(a: __m256i) -> __m256i {
        _mm256_xor_si256(a, _mm256_set1_epi8(-128))
    }
    #[inline(always)]
    unsafe fn split(a: __m256i) -> (__m256i, __m256i) {
        let signed = Self::flip(a);
        (_mm256_abs_epi8(signed), signed)
    }
    #[inline(always)]
    unsafe fn lookup(table: &'static [u8; 16], index: __m256i) -> __m256i {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        _mm256_shuffle_epi8(table, index)
    }
    #[inline(always)]
    unsafe fn bias(x: __m256i, offset: u8) -> __m256i {
        P::bias(x, offset)
    }
    #[inline(always)]
    unsafe fn dot(u: __m256i, x: __m256i, bias: __m256i, max: u8, offset: u8) -> __m256 {
        _mm256_cvtepi32_ps(P::dot(u, x, bias, max, offset))
    }

    #[inline(always)]
    unsafe fn spread(d: *const f32, v: usize, group: usize) -> __m256 {
        if group == 32 {
            return _mm256_broadcast_ss(&*d.add(v));
        }
        let lo = _mm256_broadcast_ss(&*d.add(2 * v));
        let hi = _mm256_broadcast_ss(&*d.add(2 * v + 1));
        _mm256_blend_ps::<0xf0>(lo, hi)
    }
    #[inline(always)]
    unsafe fn mins(acc: __m256, m: *const f32, sums: *const f32, group: usize) -> __m256 {
        let (lo, hi) = if group == 32 {
            let m = _mm256_loadu_ps(m);
            let lo = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
            let hi = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
            (_mm256_permutevar8x32_ps(m, lo), _mm256_permutevar8x32_ps(m, hi))
        } else {
            (_mm256_loadu_ps(m), _mm256_loadu_ps(m.add(8)))
        };
        let acc = _mm256_fmadd_ps(lo, _mm256_loadu_ps(sums), acc);
        _mm256_fmadd_ps(hi, _mm256_loadu_ps(sums.add(8)), acc)
    }

    #[inline(always)]
    unsafe fn transpose(src: *const u8, from: usize, dst: *mut u8, to: usize) {
        let mut r = [_mm256_setzero_si256(); 8];
        for (i, r) in r.iter_mut().enumerate() {
            *r = _mm256_loadu_si256(src.add(from * i).cast());
        }
        let mut t = r;
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..2 {
            r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        for j in 0..4 {
            let lo = _mm256_permute2x128_si256::<0x20>(r[j], r[4 + j]);
            let hi = _mm256_permute2x128_si256::<0x31>(r[j], r[4 + j]);
            _mm256_storeu_si256(dst.add(j * to).cast(), lo);
            _mm256_storeu_si256(dst.add((4 + j) * to).cast(), hi);
        }
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        nsum: &[*const u8; C],
        max: u8,
        shift: Option<u32>,
    ) -> [[__m256; C]; V] {
        let mut acc = [[_mm256_setzero_si256(); C]; V];
        if let (Some(shift), true) = (shift, max <= P::WHOLE) {
            let shift = _mm_cvtsi32_si128(shift as i32);
            for c in 0..C {
                let start = _mm256_sll_epi32(Self::splat_q(nsum[c]), shift);
                for acc in &mut acc {
                    acc[c] = start;
                }
            }
        }
        let acc = P::panel(acc, w, stride, x, quads, max);
        let mut out = [[_mm256_setzero_ps(); C]; V];
        for v in 0..V {
            for c in 0..C {
                out[v][c] = _mm256_cvtepi32_ps(acc[v][c]);
            }
        }
        out
    }

    #[inline(always)]
    unsafe fn nibbles(p: *const u8, stride: usize, v: usize) -> __m256i {
        let q = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.add(v * stride).cast()));
        let q = _mm256_srlv_epi32(q, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
        _mm256_and_si256(q, _mm256_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn bits(p: *const u8, stride: usize, v: usize, one: u8) -> __m256i {
        // byte j of the register gets byte j / 8 of the word, then keeps its own bit
        let word = _mm256_set1_epi32(p.add(v * stride).cast::<i32>().read_unaligned());
        let index = _mm256_setr_epi64x(
            0,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        );
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_and_si256(_mm256_shuffle_epi8(word, index), bit);
        _mm256_and_si256(_mm256_cmpeq_epi8(set, bit), _mm256_set1_epi8(one as i8))
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8, stride: usize, v: usize) -> __m256i {
        _mm256_loadu_si256(p.add(v * stride).cast())
    }
    #[inline(always)]
    unsafe fn nibbles_32(p: *const u8, v: usize) -> __m256i {
        let q = _mm256_loadu_si256(p.add(v / 2 * 32).cast());
        let q = if v.is_multiple_of(2) { q } else { _mm256_srli_epi16::<4>(q) };
        _mm256_and_si256(q, _mm256_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn nibbles_64(p: *const u8, v: usize) -> __m256i {
        let q = _mm256_loadu_si256(p.add(v / 4 * 64 + v % 2 * 32).cast());
        let q = if v % 4 < 2 { q } else { _mm256_srli_epi16::<4>(q) };
        _mm256_and_si256(q, _mm256_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn two_bits(p: *const u8, v: usize) -> __m256i {
        let q = _mm256_loadu_si256(p.add(v / 4 * 32).cast());
        let q = _mm256_srl_epi16(q, _mm_cvtsi32_si128((v % 4 * 2) as i32));
        _mm256_and_si256(q, _mm256_set1_epi8(3))
    }
    #[inline(always)]
    unsafe fn one_bit(p: *const u8, v: usize) -> __m256i {
        let q = _mm256_srl_epi16(_mm256_loadu_si256(p.cast()), _mm_cvtsi32_si128(v as i32));
        _mm256_and_si256(q, _mm256_set1_epi8(1))
    }
    #[inline(always)]
    unsafe fn nibbles_8(p: *const u8, stride: usize, v: usize) -> __m256i {
        let q = _mm_loadu_si128(p.add(v / 2 * stride + v % 2 * 16).cast());
        let q = _mm256_permute4x64_epi64::<0x50>(_mm256_castsi128_si256(q));
        let q = _mm256_srlv_epi64(q, _mm256_setr_epi64x(0, 4, 0, 4));
        _mm256_and_si256(q, _mm256_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn quarters(p: *const u8, stride: usize, v: usize) -> __m256i {
        // a byte to each dword, then each of its pairs of bits to the bottom of a byte
        let q = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(v / 2 * stride + v % 2 * 8).cast()));
        let q = _mm256_or_si256(q, _mm256_slli_epi32::<6>(q));
        let q = _mm256_or_si256(q, _mm256_slli_epi32::<12>(q));
        _mm256_and_si256(q, _mm256_set1_epi8(3))
    }
    #[inline(always)]
    unsafe fn thirds(p: *const u8, v: usize) -> __m256i {
        let thrice = |q: __m256i| _mm256_add_epi8(q, _mm256_add_epi8(q, q));
        let mut q = _mm256_loadu_si256(p.cast());
        let mut n = v;
        if v >= 5 {
            // bytes 32..48 with no factor and one, then both with two more for each vector
            q = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.add(32).cast()));
            q = _mm256_blend_epi32::<0xf0>(q, thrice(q));
            n = 2 * (v - 5);
        }
        for _ in 0..n {
            q = thrice(q);
        }
        if v == 7 {
            q = last_thirds(p, q);
        }
        // a comparison that holds gives -1
        let reaches = |least: u8| {
            let least = _mm256_set1_epi8(least as i8);
            _mm256_cmpeq_epi8(_mm256_max_epu8(q, least), q)
        };
        let digits = _mm256_add_epi8(reaches(86), reaches(171));
        _mm256_sub_epi8(_mm256_set1_epi8(7), digits)
    }

    #[inline(always)]
    unsafe fn indices(low: *const u8, high: *const u8, step: usize, bits: u32) -> [u64; 8] {
        let mut index = [0; 8];
        for half in 0..2 {
            let q = indices_16(low.add(16 * half), high.add(4 * half * step), step, bits);
            _mm256_storeu_si256(index.as_mut_ptr().add(4 * half).cast(), q);
        }
        index
    }
    #[inline(always)]
    unsafe fn signs_28(w: &[u32; 8]) -> [u8; 32] {
        signs_28(w)
    }
    #[inline(always)]
    unsafe fn signs_16(words: &[u64; 8]) -> [u8; 32] {
        let mut x = [_mm256_setzero_si256(); 2];
        for (i, x) in x.iter_mut().enumerate() {
            let words = _mm256_loadu_si256(words.as_ptr().add(4 * i).cast());
            let index = _mm256_srli_epi16::<9>(words);
            let p = _mm256_xor_si256(index, _mm256_srli_epi16::<4>(index));
            let p = _mm256_xor_si256(p, _mm256_srli_epi16::<2>(p));
            let p = _mm256_xor_si256(p, _mm256_srli_epi16::<1>(p));
            let even = _mm256_and_si256(_mm256_slli_epi16::<7>(p), _mm256_set1_epi16(128));
            *x = _mm256_or_si256(index, even);
        }
        let bytes = _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi16(x[0], x[1]));
        let mut signs = [0; 32];
        _mm256_storeu_si256(signs.as_mut_ptr().cast(), bytes);
        signs
    }
    #[inline(always)]
    unsafe fn points8<const N: usize>(
        book: &'static Book8<N>,
        index: &[u64; 8],
        flags: &[u8; 32],
        table: &'static [u8; 16],
        codes: *mut u8,
    ) {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        for v in 0..8 {
            let at = |i: usize| book.wide[(index[v] >> (16 * i)) as usize % N] as i64;
            let q = _mm256_setr_epi64x(at(0), at(1), at(2), at(3));
            flagged(q, flags, table, codes, v);
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
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        for v in 0..8 {
            let at = |i: usize| {
                let index = index[2 * v + i / 4] >> (i % 4 * 16);
                book.wide[index as usize % N] as i32
            };
            let q = _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
            flagged(q, flags, table, codes, v);
        }
    }
}

impl<P: Products> Lanes for Ymm<P> {
    type N = __m256i;

    #[inline(always)]
    unsafe fn zero_n() -> __m256i {
        _mm256_setzero_si256()
    }
    #[inline(always)]
    unsafe fn start(p: *const u8, shift: u32) -> __m256i {
        _mm256_set1_epi32(p.cast::<i32>().read_unaligned() << shift)
    }
    #[inline(always)]
    unsafe fn add_n(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn dp(acc: __m256i, u: __m256i, x: __m256i, max: u8, _: u8) -> __m256i {
        P::dp(acc, u, x, max)
    }
    #[inline(always)]
    unsafe fn float(n: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(n)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> __m256 {
        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> __m256 {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())))
    }
    #[inline(always)]
    unsafe fn field(q: __m256i, shift: i32, mask: u8) -> __m256i {
        let q = match shift {
            0 => q,
            1.. => _mm256_srl_epi32(q, _mm_cvtsi32_si128(shift)),
            _ => _mm256_sll_epi32(q, _mm_cvtsi32_si128(-shift)),
        };
        _mm256_and_si256(q, _mm256_set1_epi8(mask as i8))
    }
}

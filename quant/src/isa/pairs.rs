//! Products of bytes in rows of 256 bits, and how AVX2 makes them: `vpmaddubsw` (unsigned times signed
//! bytes, pairs added in 16 bits with saturation) followed by `vpmaddwd` with ones.
//!
//! Saturation is never reached: unsigned codes up to 127 give at most 2 * 127 * 127 = 32,258.
//! Types whose codes need all eight bits (offset 128) are made signed again, and multiplied as
//! magnitude times sign-adjusted activation: at most 2 * 128 * 127 = 32,512. Panels keep magnitudes
//! and signs of such codes side by side.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::x86_64::*;

use crate::tile::SPAN;

/// How a row of 256 bits multiplies unsigned with signed bytes.
///
/// # Safety
/// All functions: that of [`Simd`](super::Simd).
pub(crate) trait Products: Copy + 'static {
    /// See [`Simd::PANEL_COLS`](super::Simd::PANEL_COLS).
    const PANEL_COLS: (usize, usize, usize);
    /// See [`Simd::NARROW`](super::Simd::NARROW).
    const NARROW: bool;
    /// See [`Simd::WHOLE`](super::Simd::WHOLE).
    const WHOLE: u8;
    /// See [`Lanes::dp`](crate::packed::driver::Lanes::dp).
    unsafe fn dp(acc: __m256i, u: __m256i, x: __m256i, max: u8) -> __m256i;
    /// See [`Simd::bias`](super::Simd::bias).
    unsafe fn bias(x: __m256i, offset: u8) -> __m256i;
    /// See [`Simd::dot`](super::Simd::dot), before the conversion.
    unsafe fn dot(u: __m256i, x: __m256i, bias: __m256i, max: u8, offset: u8) -> __m256i;
    /// See [`Simd::panel`](super::Simd::panel), before the conversion; where codes are taken whole,
    /// what is to be taken off them is at `acc` already.
    unsafe fn panel<const V: usize, const C: usize>(
        acc: [[__m256i; C]; V],
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        max: u8,
    ) -> [[__m256i; C]; V];
}

/// Products in two steps.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Whether codes up to `max` can go through `vpmaddubsw` as they are.
const fn fits(max: u8) -> bool {
    max <= 127
}

#[inline(always)]
unsafe fn widen(pairs: __m256i) -> __m256i {
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Pair sums of `(u - offset) * x`, offset 128, by magnitude and sign.
#[inline(always)]
unsafe fn pairs_signed(w: __m256i, x: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
}

/// The same vector, made here: nothing that it comes from can be put off. Left alone, the compiler
/// loads the operands of a whole group first and has to park them on the stack.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) unsafe fn now(x: __m256i) -> __m256i {
    let mut x = x;
    std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nostack, preserves_flags));
    x
}

/// How many pair sums of codes up to `max` may be added in 16 bits.
const fn batch(max: u8) -> usize {
    32767 / (2 * 127 * max as usize)
}

/// Pair sums of `run` quads from quad `j` on, in 16 bits.
#[inline(always)]
unsafe fn pairs<const V: usize, const C: usize>(
    w: *const u8,
    stride: usize,
    x: &[*const u8; C],
    j: usize,
    run: usize,
) -> [[__m256i; C]; V] {
    let mut short = [[_mm256_setzero_si256(); C]; V];
    for i in j..j + run {
        let mut u = [_mm256_setzero_si256(); V];
        for v in 0..V {
            u[v] = _mm256_loadu_si256(w.add(i * stride + 32 * v).cast());
        }
        for c in 0..C {
            let x = splat(x[c].add(4 * i));
            for v in 0..V {
                let pairs = _mm256_maddubs_epi16(u[v], x);
                short[v][c] =
                    now(if i == j { pairs } else { _mm256_add_epi16(short[v][c], pairs) });
            }
        }
    }
    short
}

/// Sums of a group whose codes are stored as two planes: magnitudes, and the signed codes.
#[inline(always)]
unsafe fn signed<const V: usize, const C: usize>(
    w: *const u8,
    stride: usize,
    x: &[*const u8; C],
    quads: usize,
) -> [[__m256i; C]; V] {
    let mut acc = [[_mm256_setzero_si256(); C]; V];
    for i in 0..quads {
        let mut size = [_mm256_setzero_si256(); V];
        let mut sign = [_mm256_setzero_si256(); V];
        for v in 0..V {
            let at = w.add(i * stride + 32 * v);
            size[v] = _mm256_loadu_si256(at.cast());
            sign[v] = _mm256_loadu_si256(at.add(SPAN / 4 * stride).cast());
        }
        for c in 0..C {
            let x = splat(x[c].add(4 * i));
            for v in 0..V {
                let pairs = _mm256_maddubs_epi16(size[v], _mm256_sign_epi8(x, sign[v]));
                acc[v][c] = now(_mm256_add_epi32(acc[v][c], widen(pairs)));
            }
        }
    }
    acc
}

/// Four bytes in all lanes.
#[inline(always)]
unsafe fn splat(p: *const u8) -> __m256i {
    _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
}

/// Every byte with its top bit flipped.
#[inline(always)]
unsafe fn flip(a: __m256i) -> __m256i {
    _mm256_xor_si256(a, _mm256_set1_epi8(-128))
}

impl Products for Pairs {
    const PANEL_COLS: (usize, usize, usize) = (4, 2, 4);
    const NARROW: bool = true;
    const WHOLE: u8 = 127;

    #[inline(always)]
    unsafe fn dp(acc: __m256i, u: __m256i, x: __m256i, max: u8) -> __m256i {
        let pairs = |u| _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1));
        if max < 128 {
            return _mm256_add_epi32(acc, pairs(u));
        }
        // two products of 255 and 127 do not fit 16 bits; of 127 or 128 and 127 they do
        let top = _mm256_set1_epi8(-128);
        let low = pairs(_mm256_andnot_si256(top, u));
        _mm256_add_epi32(_mm256_add_epi32(acc, low), pairs(_mm256_and_si256(top, u)))
    }
    #[inline(always)]
    unsafe fn bias(x: __m256i, offset: u8) -> __m256i {
        // offset 128 is dealt with in `dot`
        if offset == 0 || offset == 128 {
            return _mm256_setzero_si256();
        }
        widen(_mm256_maddubs_epi16(_mm256_set1_epi8(offset as i8), x))
    }
    #[inline(always)]
    unsafe fn dot(u: __m256i, x: __m256i, bias: __m256i, max: u8, offset: u8) -> __m256i {
        if !fits(max) {
            widen(pairs_signed(flip(u), x))
        } else if offset == 0 {
            widen(_mm256_maddubs_epi16(u, x))
        } else {
            _mm256_sub_epi32(widen(_mm256_maddubs_epi16(u, x)), bias)
        }
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        acc: [[__m256i; C]; V],
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        max: u8,
    ) -> [[__m256i; C]; V] {
        if max > Self::WHOLE {
            return signed::<V, C>(w, stride, x, quads);
        }
        let mut acc = acc;
        let run = batch(max).min(quads);
        let mut j = 0;
        while j < quads {
            let short = pairs::<V, C>(w, stride, x, j, run);
            for v in 0..V {
                for c in 0..C {
                    acc[v][c] = _mm256_add_epi32(acc[v][c], widen(short[v][c]));
                }
            }
            j += run;
        }
        acc
    }
}

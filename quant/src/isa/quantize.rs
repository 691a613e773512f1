//! Quantization of activations with AVX-512: the same bytes as `act::quantize`, faster.
//!
//! The arithmetic is that of `act`: magnitudes compared as integers, one division each for the
//! scale and its inverse, products rounded to the nearest integer with ties to even.
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract: the AVX-512 row's features are present")]

use std::arch::x86_64::*;

use crate::Regime;
use crate::act::{self, CHUNK, HEADER};

/// Scales and inverses of sixteen groups, given the bits of their largest magnitudes.
#[inline(always)]
unsafe fn scales(max: __m512i) -> (__m512, __m512) {
    let amax = _mm512_castsi512_ps(max);
    let finite = _mm512_cmplt_epi32_mask(max, _mm512_set1_epi32(0x7f80_0000));
    let used = finite & _mm512_cmp_ps_mask::<_CMP_GE_OQ>(amax, _mm512_set1_ps(act::TINY));
    let top = _mm512_set1_ps(127.0);
    let d = _mm512_maskz_div_ps(used, amax, top);
    let inverse = _mm512_maskz_div_ps(used, top, amax);
    (_mm512_mask_blend_ps(finite, _mm512_set1_ps(f32::NAN), d), inverse)
}

/// `x * inverse` as bytes; zero where the inverse is.
#[inline(always)]
unsafe fn bytes(x: __m512, inverse: __m512) -> __m128i {
    let used = _mm512_cmp_ps_mask::<_CMP_NEQ_OQ>(inverse, _mm512_setzero_ps());
    let n = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(used, x, inverse));
    _mm512_cvtepi32_epi8(n)
}

#[inline(always)]
unsafe fn magnitude(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fff_ffff))
}

/// Every lane gets the largest of its four neighbours.
#[inline(always)]
unsafe fn max_of_4(x: __m512i) -> __m512i {
    let x = _mm512_max_epu32(x, _mm512_shuffle_epi32::<0xb1>(x));
    _mm512_max_epu32(x, _mm512_shuffle_epi32::<0x4e>(x))
}

/// Every lane gets the sum of its four neighbours.
#[inline(always)]
unsafe fn sum_of_4(x: __m512i) -> __m512i {
    let x = _mm512_add_epi32(x, _mm512_shuffle_epi32::<0xb1>(x));
    _mm512_add_epi32(x, _mm512_shuffle_epi32::<0x4e>(x))
}

/// Quantizes a column; see [`act::quantize`].
///
/// # Safety
/// The features of the AVX-512 row are present, and the call is inlined below one of its entries.
#[inline(always)]
pub(crate) unsafe fn avx512(x: &[f32], dst: &mut [u8], regime: Regime) {
    act::write_header(dst, act::tag(act::ActKind::Q8, regime), x.len());
    let kp = act::padded(x.len());
    debug_assert!(dst.len() >= HEADER + 9 * kp / 4);
    let base = dst.as_mut_ptr();
    for i in 0..kp / CHUNK {
        let left = x.len().saturating_sub(CHUNK * i);
        let from = x.as_ptr().wrapping_add(CHUNK * i);
        let mut values = [_mm512_setzero_ps(); 4];
        for (j, v) in values.iter_mut().enumerate() {
            let n = left.saturating_sub(16 * j).min(16);
            // the masked load touches only the `n` values that exist
            *v = _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, from.wrapping_add(16 * j));
        }
        match regime {
            Regime::Rows => fine(&values, base, kp, i),
            Regime::Panel => wide(&values, base, kp, i),
        }
    }
}

/// Sixteen groups of four.
#[inline(always)]
unsafe fn fine(x: &[__m512; 4], base: *mut u8, kp: usize, i: usize) {
    // lane 4 g + j of `max` stands for group g of vector j
    let mut max = max_of_4(magnitude(x[0]));
    max = _mm512_mask_blend_epi32(0x2222, max, max_of_4(magnitude(x[1])));
    max = _mm512_mask_blend_epi32(0x4444, max, max_of_4(magnitude(x[2])));
    max = _mm512_mask_blend_epi32(0x8888, max, max_of_4(magnitude(x[3])));
    let (d, inverse) = scales(max);
    let inverse = _mm512_castps_si512(inverse);
    let spread = [
        _mm512_shuffle_epi32::<0x00>(inverse),
        _mm512_shuffle_epi32::<0x55>(inverse),
        _mm512_shuffle_epi32::<0xaa>(inverse),
        _mm512_shuffle_epi32::<0xff>(inverse),
    ];
    let mut q = _mm512_setzero_si512();
    for j in 0..4 {
        let part = bytes(x[j], _mm512_castsi512_ps(spread[j]));
        _mm_storeu_si128(base.add(HEADER + CHUNK * i + 16 * j).cast(), part);
        q = match j {
            0 => _mm512_inserti32x4::<0>(q, part),
            1 => _mm512_inserti32x4::<1>(q, part),
            2 => _mm512_inserti32x4::<2>(q, part),
            _ => _mm512_inserti32x4::<3>(q, part),
        };
    }
    // groups back into their order: lane 4 j + g from lane 4 g + j
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let d = _mm512_permutexvar_ps(order, d);
    let (scales, sums) = act::rows_offsets(kp);
    _mm512_storeu_ps(base.add(scales + CHUNK * i).cast(), d);
    let n = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
    let part = _mm512_mul_ps(d, _mm512_cvtepi32_ps(n));
    // (0 + 1) + (2 + 3) of every four lanes
    let pair = _mm512_add_ps(part, _mm512_permute_ps::<0xb1>(part));
    let sum = _mm512_add_ps(pair, _mm512_permute_ps::<0x4e>(pair));
    let first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let sum = _mm512_castps512_ps128(_mm512_permutexvar_ps(first, sum));
    _mm_storeu_ps(base.add(sums + CHUNK / 4 * i).cast(), sum);
}

/// Two groups of 32.
#[inline(always)]
unsafe fn wide(x: &[__m512; 4], base: *mut u8, kp: usize, i: usize) {
    let a = _mm512_max_epu32(magnitude(x[0]), magnitude(x[1]));
    let b = _mm512_max_epu32(magnitude(x[2]), magnitude(x[3]));
    // reduce both at once: a in the lower half, b in the upper
    let lo = _mm512_shuffle_i64x2::<0x44>(a, b);
    let hi = _mm512_shuffle_i64x2::<0xee>(a, b);
    let half = _mm512_max_epu32(lo, hi);
    let half = max_of_4(_mm512_max_epu32(half, _mm512_shuffle_i64x2::<0xb1>(half, half)));
    let (d, inverse) = scales(half);
    let first = _mm512_permutexvar_ps(_mm512_setzero_si512(), inverse);
    let second = _mm512_permutexvar_ps(_mm512_set1_epi32(8), inverse);
    let mut q = _mm512_castsi128_si512(bytes(x[0], first));
    q = _mm512_inserti32x4::<1>(q, bytes(x[1], first));
    q = _mm512_inserti32x4::<2>(q, bytes(x[2], second));
    q = _mm512_inserti32x4::<3>(q, bytes(x[3], second));
    _mm512_storeu_si512(base.add(HEADER + CHUNK * i).cast(), q);

    let zero = _mm512_setzero_si512();
    let n = sum_of_4(_mm512_dpbusd_epi32(zero, _mm512_set1_epi8(1), q));
    let n = _mm512_sub_epi32(zero, n);
    let n16 = _mm512_castsi512_si128(_mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        n,
    ));
    let n32 = _mm_hadd_epi32(n16, n16);
    let pick = _mm512_setr_epi32(0, 0, 8, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let d = _mm512_permutexvar_ps(pick, d);
    let d16 = _mm512_castps512_ps128(d);
    let d32 = _mm512_castps512_ps128(_mm512_shuffle_f32x4::<0x01>(d, d));
    let negative = _mm_set1_ps(-0.0);
    let s16 = _mm_xor_ps(negative, _mm_mul_ps(d16, _mm_cvtepi32_ps(n16)));
    let s32 = _mm_xor_ps(negative, _mm_mul_ps(d32, _mm_cvtepi32_ps(n32)));
    let (at, at16) = (act::panel_offsets(kp, 32), act::panel_offsets(kp, 16));
    _mm_storel_epi64(base.add(at.scales + 8 * i).cast(), _mm_castps_si128(d32));
    _mm_storel_epi64(base.add(at.sums + 8 * i).cast(), _mm_castps_si128(s32));
    _mm_storel_epi64(base.add(at.nsums + 8 * i).cast(), n32);
    _mm_storeu_ps(base.add(at16.sums + 16 * i).cast(), s16);
    _mm_storeu_si128(base.add(at16.nsums + 16 * i).cast(), n16);
}

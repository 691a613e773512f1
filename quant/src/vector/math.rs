//! Elementary functions on whole SIMD registers.
//!
//! The polynomials are Chebyshev fits made for this file (mpmath `chebyfit`, 40 digits, then
//! rounded to f32); the argument reduction of `exp` is Cody and Waite's (Software Manual for the
//! Elementary Functions, 1980, chapter 6). Everything here is branch-free: both sides of a
//! choice are computed and one is selected, so a lane never depends on its neighbours.

use pulp::Simd;

/// Largest argument whose exponential is finite in f32: ln(f32::MAX).
const EXP_MAX: f32 = 88.722_83;
/// Below this, results would be (nearly) subnormal and are flushed to zero: exp(-86.9) = 1.8e-38.
const EXP_MIN: f32 = -86.9;
/// Adding this rounds an f32 of small magnitude to an integer held in the low mantissa bits.
const ROUND_MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
/// ln 2 in two parts; the high one has 9 significant bits, so `n * LN2_HI` is exact.
const LN2_HI: f32 = 0.693_359_4; // 0x3f318000
const LN2_LO: f32 = -2.121_944_4e-4;

/// `c[0] x^(n-1) + ... + c[n-1]`, by Horner's rule.
#[inline(always)]
fn poly<S: Simd, const N: usize>(simd: S, x: S::f32s, c: [f32; N]) -> S::f32s {
    let mut y = simd.splat_f32s(c[0]);
    for k in 1..N {
        y = simd.mul_add_e_f32s(y, x, simd.splat_f32s(c[k]));
    }
    y
}

/// e^x. Error at most 2 ulp; +inf above 88.72, zero below -86.9 (instead of subnormals), NaN
/// stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let magic = simd.splat_f32s(ROUND_MAGIC);
    let t = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(t, magic);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HI), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LO), r);
    let q = poly(simd, r, [1.392_618_4e-3, 8.363_179e-3, 4.166_655_6e-2, 1.666_657_6e-1, 0.5]);
    let p = simd.mul_add_e_f32s(simd.mul_f32s(r, r), q, r);
    let p = simd.add_f32s(p, simd.splat_f32s(1.0));
    // 2^(n-1) from the integer in t's mantissa; one less than n keeps n = 128 representable.
    let bits = simd.transmute_u32s_f32s(t);
    let bits = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    let half_scale = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(126 << 23)));
    let y = simd.mul_f32s(p, half_scale);
    let y = simd.add_f32s(y, y);
    let too_small = simd.less_than_f32s(x, simd.splat_f32s(EXP_MIN));
    let y = simd.select_f32s(too_small, simd.splat_f32s(0.0), y);
    let too_big = simd.greater_than_f32s(x, simd.splat_f32s(EXP_MAX));
    simd.select_f32s(too_big, simd.splat_f32s(f32::INFINITY), y)
}

/// e^x - 1 - x for x of 0 or less: near 0 by its series, where the plain form would cancel.
#[inline(always)]
pub(crate) fn exp_bend<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let plain = simd.sub_f32s(simd.sub_f32s(exp(simd, x), one), x);
    let p = poly(
        simd,
        x,
        [1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5],
    );
    let series = simd.mul_f32s(simd.mul_f32s(x, x), p);
    let is_near = simd.less_than_f32s(simd.splat_f32s(-0.5), x);
    simd.select_f32s(is_near, series, plain)
}

/// x / (1 + e^-t): x times the logistic function of t.
#[inline(always)]
pub(crate) fn mul_sigmoid<S: Simd>(simd: S, x: S::f32s, t: S::f32s) -> S::f32s {
    let e = exp(simd, simd.sub_f32s(simd.splat_f32s(0.0), t));
    simd.div_f32s(x, simd.add_f32s(e, simd.splat_f32s(1.0)))
}

/// |x| and the sign bit of x.
#[inline(always)]
fn split_sign<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let minus_zero = simd.splat_f32s(-0.0);
    let sign = simd.and_f32s(x, minus_zero);
    (simd.xor_f32s(x, sign), sign)
}

/// tanh x. Error at most 2e-7, relative and absolute; NaN stays NaN.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (a, sign) = split_sign(simd, x);
    let z = simd.mul_f32s(x, x);
    let q =
        poly(simd, z, [-6.096_714e-3, 2.099_718e-2, -5.385_091e-2, 1.333_277e-1, -3.333_332_8e-1]);
    let small = simd.mul_add_e_f32s(simd.mul_f32s(x, z), q, x);
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.add_f32s(a, a));
    let large = simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(e, one)));
    let large = simd.or_f32s(large, sign);
    let is_small = simd.less_than_f32s(a, simd.splat_f32s(0.625));
    simd.select_f32s(is_small, small, large)
}

/// erf x. Error at most 2e-7, relative and absolute; NaN stays NaN.
///
/// Below 1: x P(x^2). From 1 to 4: 1 - exp(Q(x) - x^2), where Q is a fit of ln erfc(x) + x^2.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (a, sign) = split_sign(simd, x);
    let z = simd.mul_f32s(x, x);
    let p = poly(
        simd,
        z,
        [
            7.875_875e-5,
            -8.016_864e-4,
            5.189_087e-3,
            -2.685_421e-2,
            1.128_359_4e-1,
            -3.761_262_6e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let small = simd.mul_f32s(x, p);
    // erfc(4) = 1.5e-8 is under half an ulp of 1. Ordered so that a NaN is kept.
    let beyond = simd.greater_than_f32s(a, simd.splat_f32s(4.0));
    let c = simd.select_f32s(beyond, simd.splat_f32s(4.0), a);
    let q = poly(
        simd,
        c,
        [
            -1.327_236_2e-5,
            3.169_370_2e-4,
            -3.432_351_4e-3,
            2.260_477_3e-2,
            -1.032_811_2e-1,
            3.608_587_4e-1,
            -1.125_893_6,
            -7.658_978e-4,
        ],
    );
    let minus_c = simd.sub_f32s(simd.splat_f32s(0.0), c);
    let erfc = exp(simd, simd.mul_add_e_f32s(minus_c, c, q));
    let large = simd.or_f32s(simd.sub_f32s(simd.splat_f32s(1.0), erfc), sign);
    let is_small = simd.less_than_f32s(a, simd.splat_f32s(1.0));
    simd.select_f32s(is_small, small, large)
}

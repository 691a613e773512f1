//! `exp` and `ln` built from plain IEEE additions and multiplications.
//!
//! The C library's versions differ in the last bit from platform to platform, and a draw that falls on that
//! bit would not replay. These give the same bits everywhere, and the loop over `exp` is vectorized.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has few bits, so that `n * LN2_HI` is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
/// 1.5 * 2^23: adding it rounds a small float to an integer, which then sits in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// Below this `exp` gives 0: the result would be no normal float.
const EXP_MIN: f32 = -87.0;
const EXP_MAX: f32 = 88.0;

/// `e^x` within 2 units in the last place; 0 below -87, and the value at 88 above that.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    let t = if x > EXP_MIN { x } else { EXP_MIN };
    let t = if t < EXP_MAX { t } else { EXP_MAX };
    let shifted = t * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (t - n * LN2_HI) - n * LN2_LO;
    let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)));
    let y = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
    // The integer n stands in the low bits of `shifted`; everything above it leaves on the left.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < EXP_MIN { 0.0 } else { y * scale }
}

/// Natural logarithm of a positive normal number, within a few units in the last place.
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0);
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i64 - 1023) as f64;
    let mut m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 artanh s with s = (m-1)/(m+1), |s| < 0.172: eleven terms reach 1e-17.
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let series = (0..11)
        .rev()
        .fold(0.0, |sum, i| sum * s2 + 1.0 / f64::from(2 * i + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

/// `base^n` by squaring: `powi` may round differently on each platform.
pub(super) fn powi(mut base: f64, mut n: u32) -> f64 {
    let mut result = 1.0;
    while n > 0 {
        if n & 1 == 1 {
            result *= base;
        }
        base *= base;
        n >>= 1;
    }
    result
}

/// `x^y` for `x` in `[0, 1]` and `y >= 0`, as `e^(y ln x)`.
pub(super) fn pow(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        1.0
    } else if x < f64::MIN_POSITIVE {
        0.0
    } else {
        f64::from(exp((y * ln(x)) as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_stays_within_two_ulp_of_double_precision() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            let ulp = f64::from((want as f32).next_up() - want as f32);
            let off = (f64::from(exp(x)) - want).abs();
            assert!(off <= 2.0 * ulp, "exp({x}) is off by {} ulp", off / ulp);
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
    }

    #[test]
    fn ln_and_powers_agree_with_the_standard_library() {
        for x in [
            1e-300, 1e-9, 0.1, 0.5, 0.999_999, 1.0, 1.000_001, 1.5, 2.0, 3.75, 151_936.0, 1e300,
        ] {
            let (got, want) = (ln(x), x.ln());
            assert!(
                (got - want).abs() <= 1e-15 * want.abs().max(1.0),
                "ln({x}): {got} {want}"
            );
        }
        assert_eq!(powi(1.75, 3), 1.75 * 1.75 * 1.75);
        assert_eq!(powi(2.0, 0), 1.0);
        assert!((pow(0.5, 2.0) - 0.25).abs() < 1e-6);
        assert_eq!(pow(0.0, 1.0), 0.0);
        assert_eq!(pow(0.3, 0.0), 1.0);
    }
}

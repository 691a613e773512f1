//! Sums, dot products, maxima, searches.
//!
//! Sums run in f32 lanes over stretches of [`ROUNDS`] vectors, whose totals are added in f64: for
//! an instruction set the order is fixed by the length alone, and the error hardly grows with it.

use super::math;
use pulp::Simd;

/// Vectors summed in f32 before the total moves to f64: 4 accumulators, 8 additions each.
const ROUNDS: usize = 32;

/// A term of a sum, from up to two elements and a constant.
trait Term {
    /// acc + term(x, y).
    fn add_to<S: Simd>(simd: S, acc: S::f32s, x: S::f32s, y: S::f32s, c: S::f32s) -> S::f32s;
}

struct Plain;
impl Term for Plain {
    #[inline(always)]
    fn add_to<S: Simd>(simd: S, acc: S::f32s, x: S::f32s, _: S::f32s, _: S::f32s) -> S::f32s {
        simd.add_f32s(acc, x)
    }
}

struct Product;
impl Term for Product {
    #[inline(always)]
    fn add_to<S: Simd>(simd: S, acc: S::f32s, x: S::f32s, y: S::f32s, _: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(x, y, acc)
    }
}

struct SquaredDistance;
impl Term for SquaredDistance {
    #[inline(always)]
    fn add_to<S: Simd>(simd: S, acc: S::f32s, x: S::f32s, _: S::f32s, c: S::f32s) -> S::f32s {
        let d = simd.sub_f32s(x, c);
        simd.mul_add_e_f32s(d, d, acc)
    }
}

/// Sum of one stretch, in f32: four accumulators, then whole vectors, then the tail in scalars
/// (a masked tail would add term(0, 0), which is not zero for every term).
#[inline(always)]
fn stretch<S: Simd, T: Term>(simd: S, x: &[f32], y: &[f32], c: f32) -> f32 {
    let cs = simd.splat_f32s(c);
    let (x_body, x_tail) = S::as_simd_f32s(x);
    let (y_body, y_tail) = S::as_simd_f32s(y);
    let (x4, x1) = x_body.as_chunks::<4>();
    let (y4, y1) = y_body.as_chunks::<4>();
    let mut acc = [simd.splat_f32s(0.0); 4];
    for (a, b) in x4.iter().zip(y4) {
        for l in 0..4 {
            acc[l] = T::add_to(simd, acc[l], a[l], b[l], cs);
        }
    }
    for (a, b) in x1.iter().zip(y1) {
        acc[0] = T::add_to(simd, acc[0], *a, *b, cs);
    }
    let sum = simd.add_f32s(simd.add_f32s(acc[0], acc[1]), simd.add_f32s(acc[2], acc[3]));
    let mut sum = simd.reduce_sum_f32s(sum);
    let one = pulp::Scalar::new();
    for (&a, &b) in x_tail.iter().zip(y_tail) {
        sum = T::add_to(one, sum, a, b, c);
    }
    sum
}

#[inline(always)]
fn total<S: Simd, T: Term>(simd: S, x: &[f32], y: &[f32], c: f32) -> f64 {
    let n = ROUNDS * S::F32_LANES;
    let mut sum = 0.0;
    for (x, y) in x.chunks(n).zip(y.chunks(n)) {
        sum += f64::from(stretch::<S, T>(simd, x, y, c));
    }
    sum
}

#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, x: &[f32]) -> f64 {
    total::<S, Plain>(simd, x, x, 0.0)
}

#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f64 {
    total::<S, Product>(simd, x, y, 0.0)
}

/// Sum of (x - c)^2.
#[inline(always)]
pub(super) fn squared_distance<S: Simd>(simd: S, x: &[f32], c: f32) -> f64 {
    total::<S, SquaredDistance>(simd, x, x, c)
}

/// Largest element, -inf for none. NaN: unspecified, but no panic.
#[inline(always)]
pub(super) fn max<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (body, tail) = S::as_simd_f32s(x);
    let (b4, b1) = body.as_chunks::<4>();
    let mut acc = [simd.splat_f32s(f32::NEG_INFINITY); 4];
    for a in b4 {
        for l in 0..4 {
            acc[l] = simd.max_f32s(a[l], acc[l]);
        }
    }
    for a in b1 {
        acc[0] = simd.max_f32s(*a, acc[0]);
    }
    let m = simd.max_f32s(simd.max_f32s(acc[0], acc[1]), simd.max_f32s(acc[2], acc[3]));
    tail.iter().fold(simd.reduce_max_f32s(m), |m, &v| m.max(v))
}

/// Elements looked at between two checks of a search.
const SEARCH: usize = 256;

/// First index of the largest element; `None` for an empty slice, or where NaNs hide it.
#[inline(always)]
pub(super) fn argmax<S: Simd>(simd: S, x: &[f32]) -> Option<usize> {
    let m = max(simd, x);
    first(x, |v| v == m)
}

/// First index of a NaN or an infinity.
#[inline(always)]
pub(super) fn check_finite<S: Simd>(_: S, x: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    first(x, |v| v.to_bits() & EXPONENT == EXPONENT)
}

/// First index where `hit` holds. Written for auto-vectorization: no early exit within a chunk.
#[inline(always)]
fn first(x: &[f32], hit: impl Fn(f32) -> bool) -> Option<usize> {
    for (c, chunk) in x.chunks(SEARCH).enumerate() {
        if chunk.iter().fold(false, |any, &v| any | hit(v)) {
            return chunk.iter().position(|&v| hit(v)).map(|i| c * SEARCH + i);
        }
    }
    None
}

/// x[i] = e^(x[i] - c); returns the sum, accumulated as in [`sum`].
#[inline(always)]
pub(super) fn exp_shifted<S: Simd>(simd: S, x: &mut [f32], c: f32) -> f64 {
    let cs = simd.splat_f32s(c);
    let (body, tail) = S::as_mut_simd_f32s(x);
    for v in body {
        *v = math::exp(simd, simd.sub_f32s(*v, cs));
    }
    if !tail.is_empty() {
        let v = simd.partial_load_f32s(tail);
        simd.partial_store_f32s(tail, math::exp(simd, simd.sub_f32s(v, cs)));
    }
    sum(simd, x)
}

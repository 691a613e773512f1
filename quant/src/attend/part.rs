//! Sums over spans, and how they are added.

use super::{BLOCK, padded};
use crate::vector::math;
use pulp::{Simd, WithSimd};

/// Floats of a part: sums of `padded(head_dim_v)`, then maximum and sum of weights; whole vectors.
pub(super) fn part_len(head_dim_v: usize) -> usize {
    padded(head_dim_v) + BLOCK
}

/// Where in a part the maximum stands; the sum of weights follows.
#[inline(always)]
fn max_at(part: &[f32]) -> usize {
    part.len() - BLOCK
}

/// Notes the maximum and the sum of weights of a part.
#[inline(always)]
pub(super) fn set_weight(part: &mut [f32], (max, weight): (f32, f32)) {
    let at = max_at(part);
    part[at..at + 2].copy_from_slice(&[max, weight]);
}

/// Nothing yet, but for a `sink`, which has weight and no value; -inf for none.
#[inline(always)]
pub(super) fn begin(total: &mut [f32], sink: f32) {
    total.fill(0.0);
    set_weight(total, (sink, if sink == f32::NEG_INFINITY { 0.0 } else { 1.0 }));
}

/// Adds the next span's part to a query's sum: the one place where spans meet. Whoever worked on
/// them, they are added in the order of their positions.
#[inline(always)]
pub(super) fn add<S: Simd>(simd: S, total: &mut [f32], part: &[f32]) {
    let at = max_at(part);
    let (max, weight, max_part, weight_part) = (total[at], total[at + 1], part[at], part[at + 1]);
    if weight_part == 0.0 {
        return; // Nothing of the span is seen.
    }
    let top = max.max(max_part);
    let scalar = pulp::Scalar::new();
    let factor = math::exp(scalar, max - top);
    let factor_part = math::exp(scalar, max_part - top);
    set_weight(total, (top, weight * factor + weight_part * factor_part));
    let (a, b) = (simd.splat_f32s(factor), simd.splat_f32s(factor_part));
    let parts = S::as_simd_f32s(&part[..at]).0;
    for (total, part) in S::as_mut_simd_f32s(&mut total[..at]).0.iter_mut().zip(parts) {
        *total = simd.mul_add_e_f32s(b, *part, simd.mul_f32s(a, *total));
    }
}

/// What a sum stands for.
#[inline(always)]
pub(super) fn divide(total: &[f32], out: &mut [f32]) {
    let weight = total[max_at(total) + 1];
    for (o, &s) in out.iter_mut().zip(total) {
        // Nothing visible: zeros. Adding zero turns -0 into +0, the one trace that other queries of
        // the tile could leave.
        *o = if weight == 0.0 { 0.0 } else { s / weight + 0.0 };
    }
}

/// The arguments of `sum_parts` on their way through the dispatch.
pub(super) struct SumParts<'a, 'p> {
    /// `[part_len]`, which the parts are added to.
    pub total: &'a mut [f32],
    pub parts: &'a mut dyn Iterator<Item = &'p [f32]>,
}

impl WithSimd for SumParts<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for part in self.parts {
            add(simd, self.total, part);
        }
    }
}

//! Normalizations, softmax and rotary embedding.

use super::{RopeLayout, map, reduce};
use pulp::Simd;

/// out = (x - shift) * scale * weight + bias.
#[inline(always)]
fn affine<S: Simd>(
    simd: S,
    x: &[f32],
    shift: f32,
    scale: f32,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    out.copy_from_slice(x);
    if shift != 0.0 {
        map::unary(simd, map::Shift(-shift), out);
    }
    match weight {
        Some(w) => map::binary(simd, map::ScaleMul(scale), out, w),
        None => map::unary(simd, map::Scale(scale), out),
    }
    if let Some(b) = bias {
        map::binary(simd, map::Add, out, b);
    }
}

/// 1 / sqrt(mean of squares + eps), computed in f64.
#[inline(always)]
fn rms_scale<S: Simd>(simd: S, x: &[f32], eps: f32) -> f32 {
    let mean = reduce::dot(simd, x, x) / x.len().max(1) as f64;
    (1.0 / (mean + f64::from(eps)).sqrt()) as f32
}

#[inline(always)]
pub(super) fn rms<S: Simd>(simd: S, x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let scale = rms_scale(simd, x, eps);
    affine(simd, x, 0.0, scale, weight, None, out);
}

#[inline(always)]
pub(super) fn rms_in_place<S: Simd>(simd: S, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let scale = rms_scale(simd, x, eps);
    match weight {
        Some(w) => map::binary(simd, map::ScaleMul(scale), x, w),
        None => map::unary(simd, map::Scale(scale), x),
    }
}

#[inline(always)]
pub(super) fn layer<S: Simd>(
    simd: S,
    x: &[f32],
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    let n = x.len().max(1) as f64;
    let mean = (reduce::sum(simd, x) / n) as f32;
    let variance = reduce::squared_distance(simd, x, mean) / n;
    let scale = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
    affine(simd, x, mean, scale, weight, bias, out);
}

#[inline(always)]
pub(super) fn l2<S: Simd>(simd: S, x: &[f32], eps: f32, out: &mut [f32]) {
    let norm = reduce::dot(simd, x, x).sqrt().max(f64::from(eps));
    affine(simd, x, 0.0, (1.0 / norm) as f32, None, None, out);
}

#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, x: &mut [f32], sink: Option<f32>) {
    let sink = sink.unwrap_or(f32::NEG_INFINITY);
    let max = reduce::max(simd, x).max(sink);
    if max == f32::NEG_INFINITY {
        // Fully masked, unless NaNs hide behind the maximum: those must not turn into zeros.
        let poisoned = x.iter().any(|v| v.is_nan());
        x.fill(if poisoned { f32::NAN } else { 0.0 });
        return;
    }
    // The same exponential as the elements', so that a sink equal to a score weighs the same.
    let mut of_sink = [sink];
    let mut sum = reduce::exp_shifted(simd, x, max);
    sum += reduce::exp_shifted(simd, &mut of_sink, max);
    map::unary(simd, map::Scale((1.0 / sum) as f32), x);
}

/// Rotates pairs of x by the angles whose cosines and sines are the two halves of `cos_sin`.
/// Plain mul and sub without fusing: the same bits on every instruction set.
#[inline(always)]
pub(super) fn rope<S: Simd>(_: S, x: &mut [f32], cos_sin: &[f32], layout: RopeLayout) {
    let n_rot = cos_sin.len();
    let (cos, sin) = cos_sin.split_at(n_rot / 2);
    match layout {
        RopeLayout::Pairs => {
            let pairs = x[..n_rot].as_chunks_mut::<2>().0;
            for ((p, &c), &s) in pairs.iter_mut().zip(cos).zip(sin) {
                *p = [p[0] * c - p[1] * s, p[0] * s + p[1] * c];
            }
        }
        RopeLayout::Halves => {
            let (a, b) = x[..n_rot].split_at_mut(n_rot / 2);
            for (((a, b), &c), &s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
            }
        }
    }
}

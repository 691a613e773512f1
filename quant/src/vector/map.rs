//! Drivers for element-wise functions, and the activation functions themselves.
//!
//! A function is a type with an `#[inline(always)]` method, not a closure: a closure that the
//! compiler chose not to inline would be compiled without the instruction set's features.

use super::math;
use pulp::Simd;

/// A function of one element.
pub(super) trait Unary: Copy {
    /// The function of every lane.
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// A function of two elements.
pub(super) trait Binary: Copy {
    /// The function of every pair of lanes.
    fn of<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s;
}

/// `x[i] = f(x[i])`.
#[inline(always)]
pub(super) fn unary<S: Simd, F: Unary>(simd: S, f: F, x: &mut [f32]) {
    let (body, tail) = S::as_mut_simd_f32s(x);
    for v in body {
        *v = f.of(simd, *v);
    }
    if !tail.is_empty() {
        let v = simd.partial_load_f32s(tail);
        simd.partial_store_f32s(tail, f.of(simd, v));
    }
}

/// `x[i] = f(x[i], y[i])`; the slices have one length.
#[inline(always)]
pub(super) fn binary<S: Simd, F: Binary>(simd: S, f: F, x: &mut [f32], y: &[f32]) {
    let (x_body, x_tail) = S::as_mut_simd_f32s(x);
    let (y_body, y_tail) = S::as_simd_f32s(y);
    for (v, w) in x_body.iter_mut().zip(y_body) {
        *v = f.of(simd, *v, *w);
    }
    if !x_tail.is_empty() {
        let v = simd.partial_load_f32s(x_tail);
        let w = simd.partial_load_f32s(y_tail);
        simd.partial_store_f32s(x_tail, f.of(simd, v, w));
    }
}

/// x + y.
#[derive(Clone, Copy)]
pub(super) struct Add;
impl Binary for Add {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.add_f32s(x, y)
    }
}

/// x * y.
#[derive(Clone, Copy)]
pub(super) struct Mul;
impl Binary for Mul {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.mul_f32s(x, y)
    }
}

/// x + a y.
#[derive(Clone, Copy)]
pub(super) struct AddScaled(pub f32);
impl Binary for AddScaled {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(simd.splat_f32s(self.0), y, x)
    }
}

/// a x.
#[derive(Clone, Copy)]
pub(super) struct Scale(pub f32);
impl Unary for Scale {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(x, simd.splat_f32s(self.0))
    }
}

/// x + a.
#[derive(Clone, Copy)]
pub(super) struct Shift(pub f32);
impl Unary for Shift {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        simd.add_f32s(x, simd.splat_f32s(self.0))
    }
}

/// (a x) y.
#[derive(Clone, Copy)]
pub(super) struct ScaleMul(pub f32);
impl Binary for ScaleMul {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        simd.mul_f32s(simd.mul_f32s(x, simd.splat_f32s(self.0)), y)
    }
}

/// e^x.
#[derive(Clone, Copy)]
pub(super) struct Exp;
impl Unary for Exp {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        math::exp(simd, x)
    }
}

/// tanh x.
#[derive(Clone, Copy)]
pub(super) struct Tanh;
impl Unary for Tanh {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        math::tanh(simd, x)
    }
}

/// cap tanh(x / cap).
#[derive(Clone, Copy)]
pub(super) struct Softcap(pub f32);
impl Unary for Softcap {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let cap = simd.splat_f32s(self.0);
        simd.mul_f32s(cap, math::tanh(simd, simd.div_f32s(x, cap)))
    }
}

/// x / (1 + e^-x).
#[derive(Clone, Copy)]
pub(super) struct Sigmoid;
impl Unary for Sigmoid {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        math::mul_sigmoid(simd, simd.splat_f32s(1.0), x)
    }
}

/// x sigmoid(x).
#[derive(Clone, Copy)]
pub(super) struct Silu;
impl Unary for Silu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        math::mul_sigmoid(simd, x, x)
    }
}

/// x (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3); the same as x sigmoid(2u).
#[derive(Clone, Copy)]
pub(super) struct GeluTanh;
impl Unary for GeluTanh {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
        let c1 = simd.splat_f32s(TWO_SQRT_2_OVER_PI);
        let c3 = simd.splat_f32s(TWO_SQRT_2_OVER_PI * 0.044_715);
        let slope = simd.mul_add_e_f32s(simd.mul_f32s(x, x), c3, c1);
        math::mul_sigmoid(simd, x, simd.mul_f32s(x, slope))
    }
}

/// x (1 + erf(x / sqrt 2)) / 2.
#[derive(Clone, Copy)]
pub(super) struct GeluErf;
impl Unary for GeluErf {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let u = simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
        let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
        simd.mul_add_e_f32s(half, math::erf(simd, u), half)
    }
}

/// x sigmoid(1.702 x).
#[derive(Clone, Copy)]
pub(super) struct GeluQuick;
impl Unary for GeluQuick {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        math::mul_sigmoid(simd, x, simd.mul_f32s(x, simd.splat_f32s(1.702)))
    }
}

/// max(x, 0), NaN kept.
#[derive(Clone, Copy)]
pub(super) struct Relu;
impl Unary for Relu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
    }
}

/// max(x, 0)^2, NaN kept.
#[derive(Clone, Copy)]
pub(super) struct Relu2;
impl Unary for Relu2 {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let y = Relu.of(simd, x);
        simd.mul_f32s(y, y)
    }
}

/// beta x + alpha_p x^2 above 0, beta x + alpha_n (e^min(x, eps) - 1 - x) elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Xielu {
    pub alpha_p: f32,
    pub alpha_n: f32,
    pub beta: f32,
    pub eps: f32,
}
impl Unary for Xielu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let eps = simd.splat_f32s(self.eps);
        let bounded = simd.select_f32s(simd.less_than_f32s(eps, x), eps, x);
        let bent = simd.add_f32s(math::exp_bend(simd, bounded), simd.sub_f32s(bounded, x));
        let below = simd.mul_f32s(bent, simd.splat_f32s(self.alpha_n));
        let above = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(self.alpha_p));
        let is_above = simd.less_than_f32s(simd.splat_f32s(0.0), x);
        let curve = simd.select_f32s(is_above, above, below);
        simd.mul_add_e_f32s(x, simd.splat_f32s(self.beta), curve)
    }
}

/// f(gate) up.
#[derive(Clone, Copy)]
pub(super) struct Gated<F>(pub F);
impl<F: Unary> Binary for Gated<F> {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, gate: S::f32s, up: S::f32s) -> S::f32s {
        simd.mul_f32s(self.0.of(simd, gate), up)
    }
}

/// g sigmoid(alpha g) (u + 1) with g = min(gate, limit) and u = up clamped to +-limit.
#[derive(Clone, Copy)]
pub(super) struct SwigluClamped {
    pub alpha: f32,
    pub limit: f32,
}
impl Binary for SwigluClamped {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, gate: S::f32s, up: S::f32s) -> S::f32s {
        let hi = simd.splat_f32s(self.limit);
        let lo = simd.splat_f32s(-self.limit);
        // Selections, not min and max: those lose a NaN on some instruction sets.
        let g = simd.select_f32s(simd.greater_than_f32s(gate, hi), hi, gate);
        let u = simd.select_f32s(simd.greater_than_f32s(up, hi), hi, up);
        let u = simd.select_f32s(simd.less_than_f32s(u, lo), lo, u);
        let s = math::mul_sigmoid(simd, g, simd.mul_f32s(g, simd.splat_f32s(self.alpha)));
        simd.mul_f32s(s, simd.add_f32s(u, simd.splat_f32s(1.0)))
    }
}

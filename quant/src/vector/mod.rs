//! Element-wise and reducing functions over f32 slices: norms, activations, softmax, rotary
//! embedding. SIMD through `pulp`; no allocation, no threads, no unsafe.
//!
//! [`Vector`] is a small copyable handle that fixes the instruction set. For one instruction set
//! every function gives the same bits on every run; between instruction sets the last bits may
//! differ (fused or separate multiply-add, number of lanes), within the bounds that
//! `tests/vector.rs` states against f64.
//!
//! Lengths are the caller's invariant: slices that must agree in length and do not are a bug, and
//! panic with both lengths.

mod convert;
mod map;
pub(crate) mod math;
mod norm;
mod recur;
mod reduce;

use crate::isa::Isa;
pub(crate) use convert::{Q4_BYTES, Q8_BYTES, Q8_LEN};
use pulp::WithSimd;
pub use recur::{Read, Recur};

/// Handle to the vector functions of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    isa: Isa,
    arch: Arch,
}

/// The proof, made once, that the CPU has what the functions use.
#[derive(Clone, Copy, Debug)]
enum Arch {
    Scalar(pulp::Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

/// Activation functions of feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x sigmoid(x).
    Silu,
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// x (1 + erf(x / sqrt 2)) / 2.
    GeluErf,
    /// x sigmoid(1.702 x).
    GeluQuick,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    Relu2,
    /// beta x + alpha_p x^2 above 0, beta x + alpha_n (e^min(x, eps) - 1 - x) elsewhere (Huang and
    /// Schlag, 2024).
    Xielu {
        /// Curvature above 0.
        alpha_p: f32,
        /// Curvature below 0.
        alpha_n: f32,
        /// Slope.
        beta: f32,
        /// Bound on the exponent.
        eps: f32,
    },
}

/// Gated activations: a function of gate and up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Glu {
    /// f(gate) up.
    Gated(Activation),
    /// g sigmoid(alpha g) (u + 1) with g = min(gate, limit) and u = up clamped to
    /// [-limit, limit]. gpt-oss: alpha 1.702, limit 7.
    SwigluClamped {
        /// Slope inside the logistic function.
        alpha: f32,
        /// Bound of gate (above) and of up (both sides).
        limit: f32,
    },
}

/// Which elements of a head a rotary embedding turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours: `(x[2i], x[2i+1])`. GGML calls it "norm".
    Pairs,
    /// Halves: `(x[i], x[i + n_rot/2])`. GGML calls it "neox".
    Halves,
}

/// Runs `module::function(simd, args...)` compiled for the handle's instruction set. The argument
/// types are spelled out because the call becomes a struct, as `pulp` wants it.
macro_rules! run {
    ($vector:expr, $($path:ident)::+ < $lt:lifetime > ($($arg:ident: $ty:ty),+) $(-> $ret:ty)?) => {{
        struct Op<$lt> {
            $($arg: $ty,)+
            lifetime: core::marker::PhantomData<&$lt ()>,
        }
        impl<$lt> pulp::WithSimd for Op<$lt> {
            type Output = run!(@ret $($ret)?);
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, simd: S) -> Self::Output {
                $($path)::+(simd, $(self.$arg),+)
            }
        }
        $vector.dispatch(Op { $($arg,)+ lifetime: core::marker::PhantomData })
    }};
    (@ret) => { () };
    (@ret $ret:ty) => { $ret };
}
pub(crate) use run;

/// Panics, naming both, unless the lengths agree.
#[track_caller]
fn same_len(a: usize, b: usize) {
    assert_eq!(a, b, "slices of one vector operation differ in length");
}

impl Vector {
    /// The functions for `isa`.
    ///
    /// # Panics
    /// If this CPU does not have `isa`: a forced instruction set is checked where it is parsed.
    pub fn new(isa: Isa) -> Vector {
        assert!(isa.is_available(), "this CPU has no {isa:?}");
        let arch = match isa.base() {
            Isa::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => pulp::x86::V3::try_new().map(Arch::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (pulp::x86::V4::try_new().map(Arch::Avx512))
                .or_else(|| pulp::x86::V3::try_new().map(Arch::Avx2)),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            // Rows of other architectures, which `is_available` has refused above.
            _ => None,
        };
        // pulp asks for a few features more than the row (bit counting beside AVX2, for
        // instance); on a CPU without them the portable code is right, if slow.
        let arch = arch.unwrap_or(Arch::Scalar(pulp::Scalar::new()));
        Vector { isa, arch }
    }

    /// The instruction set of this handle.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Runs `op` compiled for the instruction set.
    #[inline]
    pub(crate) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        use pulp::Simd;
        match self.arch {
            Arch::Scalar(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => Simd::vectorize(simd, op),
        }
    }
}

/// Normalizations over one row.
impl Vector {
    /// out = x / sqrt(mean(x^2) + eps) * weight; all slices of one length.
    /// Source: Zhang and Sennrich, 2019 (arXiv 1910.07467).
    pub fn rms_norm(self, x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
        same_len(x.len(), out.len());
        same_len(x.len(), weight.map_or(x.len(), <[f32]>::len));
        run!(self, norm::rms<'a>(x: &'a [f32], weight: Option<&'a [f32]>, eps: f32, out: &'a mut [f32]));
    }

    /// [`Vector::rms_norm`] with x as its own output; the same bits.
    pub fn rms_norm_in_place(self, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
        same_len(x.len(), weight.map_or(x.len(), <[f32]>::len));
        run!(self, norm::rms_in_place<'a>(x: &'a mut [f32], weight: Option<&'a [f32]>, eps: f32));
    }

    /// out = (x - mean) / sqrt(variance + eps) * weight + bias; all slices of one length.
    /// Source: Ba, Kiros and Hinton, 2016 (arXiv 1607.06450).
    pub fn layer_norm(
        self,
        x: &[f32],
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        eps: f32,
        out: &mut [f32],
    ) {
        same_len(x.len(), out.len());
        same_len(x.len(), weight.map_or(x.len(), <[f32]>::len));
        same_len(x.len(), bias.map_or(x.len(), <[f32]>::len));
        run!(self, norm::layer<'a>(
            x: &'a [f32], weight: Option<&'a [f32]>, bias: Option<&'a [f32]>, eps: f32,
            out: &'a mut [f32]
        ));
    }

    /// out = x / max(|x|, eps), |x| the Euclidean norm.
    pub fn l2_norm(self, x: &[f32], eps: f32, out: &mut [f32]) {
        same_len(x.len(), out.len());
        run!(self, norm::l2<'a>(x: &'a [f32], eps: f32, out: &'a mut [f32]));
    }
}

/// Element-wise arithmetic; the first slice is also the result.
impl Vector {
    /// x += y.
    pub fn add(self, x: &mut [f32], y: &[f32]) {
        same_len(x.len(), y.len());
        let f = map::Add;
        run!(self, map::binary<'a>(f: map::Add, x: &'a mut [f32], y: &'a [f32]));
    }

    /// y += a x.
    pub fn add_scaled(self, y: &mut [f32], a: f32, x: &[f32]) {
        same_len(y.len(), x.len());
        let f = map::AddScaled(a);
        run!(self, map::binary<'a>(f: map::AddScaled, y: &'a mut [f32], x: &'a [f32]));
    }

    /// x *= y.
    pub fn mul(self, x: &mut [f32], y: &[f32]) {
        same_len(x.len(), y.len());
        let f = map::Mul;
        run!(self, map::binary<'a>(f: map::Mul, x: &'a mut [f32], y: &'a [f32]));
    }

    /// acc += x y, element by element.
    pub fn mul_add(self, acc: &mut [f32], x: &[f32], y: &[f32]) {
        same_len(acc.len(), x.len());
        same_len(acc.len(), y.len());
        run!(self, recur::mul_add<'a>(acc: &'a mut [f32], x: &'a [f32], y: &'a [f32]));
    }

    /// x *= a.
    pub fn scale(self, x: &mut [f32], a: f32) {
        let f = map::Scale(a);
        run!(self, map::unary<'a>(f: map::Scale, x: &'a mut [f32]));
    }

    /// out = x.
    pub fn copy(self, x: &[f32], out: &mut [f32]) {
        same_len(x.len(), out.len());
        out.copy_from_slice(x);
    }

    /// x = e^x: at most 2 ulp off, results below 1.8e-38 flushed to zero.
    pub fn exp(self, x: &mut [f32]) {
        let f = map::Exp;
        run!(self, map::unary<'a>(f: map::Exp, x: &'a mut [f32]));
    }

    /// x = tanh x: at most 2e-7 off.
    pub fn tanh(self, x: &mut [f32]) {
        let f = map::Tanh;
        run!(self, map::unary<'a>(f: map::Tanh, x: &'a mut [f32]));
    }

    /// x = 1 / (1 + e^-x).
    pub fn sigmoid(self, x: &mut [f32]) {
        let f = map::Sigmoid;
        run!(self, map::unary<'a>(f: map::Sigmoid, x: &'a mut [f32]));
    }

    /// x = cap tanh(x / cap); cap must not be zero.
    pub fn softcap(self, x: &mut [f32], cap: f32) {
        let f = map::Softcap(cap);
        run!(self, map::unary<'a>(f: map::Softcap, x: &'a mut [f32]));
    }
}

/// Reductions and searches.
impl Vector {
    /// Sum of x; 0 for an empty slice. Stretches of 32 vectors in f32, their totals in f64.
    pub fn sum(self, x: &[f32]) -> f32 {
        run!(self, reduce::sum<'a>(x: &'a [f32]) -> f64) as f32
    }

    /// Sum of `x[i] y[i]`, accumulated as [`Vector::sum`] is.
    pub fn dot(self, x: &[f32], y: &[f32]) -> f32 {
        same_len(x.len(), y.len());
        run!(self, reduce::dot<'a>(x: &'a [f32], y: &'a [f32]) -> f64) as f32
    }

    /// Largest element; -inf for an empty slice. With a NaN inside, any value.
    pub fn max(self, x: &[f32]) -> f32 {
        run!(self, reduce::max<'a>(x: &'a [f32]) -> f32)
    }

    /// First index of the largest element; `None` for an empty slice or one of NaNs. With some
    /// NaNs inside, any index or `None`: check with [`Vector::check_finite`].
    pub fn argmax(self, x: &[f32]) -> Option<usize> {
        run!(self, reduce::argmax<'a>(x: &'a [f32]) -> Option<usize>)
    }

    /// Index of the first NaN or infinity.
    pub fn check_finite(self, x: &[f32]) -> Option<usize> {
        run!(self, reduce::check_finite<'a>(x: &'a [f32]) -> Option<usize>)
    }

    /// Softmax in place. A `sink` is one more logit that takes its share and has no output
    /// (gpt-oss). A row of nothing but -inf, without a sink, becomes zeros.
    pub fn softmax(self, x: &mut [f32], sink: Option<f32>) {
        run!(self, norm::softmax<'a>(x: &'a mut [f32], sink: Option<f32>));
    }
}

/// Recurrences over time.
impl Vector {
    /// One step of a linear recurrence: `state` is `[rows, n]`, `values` and `out` `[rows]`; see
    /// [`Recur`]. A row's result does not depend on the other rows. Accumulates in f32.
    pub fn recur(self, state: &mut [f32], step: Recur<'_>, values: &[f32], out: &mut [f32]) {
        let n = step.key.len();
        same_len(state.len(), values.len() * n);
        same_len(out.len(), values.len());
        same_len(n, step.query.len());
        for v in step.erase.into_iter().flatten() {
            same_len(n, v.len());
        }
        same_len(step.decay.len(), if step.decay.len() == n { n } else { state.len() });
        run!(self, recur::recur<'a>(
            state: &'a mut [f32], step: Recur<'a>, values: &'a [f32], out: &'a mut [f32]
        ));
    }
}

/// Activations and positions.
impl Vector {
    /// x = f(x).
    pub fn act(self, f: Activation, x: &mut [f32]) {
        macro_rules! of {
            ($f:ident) => {{
                let f = map::$f;
                run!(self, map::unary<'a>(f: map::$f, x: &'a mut [f32]))
            }};
        }
        match f {
            Activation::Silu => of!(Silu),
            Activation::GeluTanh => of!(GeluTanh),
            Activation::GeluErf => of!(GeluErf),
            Activation::GeluQuick => of!(GeluQuick),
            Activation::Relu => of!(Relu),
            Activation::Relu2 => of!(Relu2),
            Activation::Xielu { alpha_p, alpha_n, beta, eps } => {
                let f = map::Xielu { alpha_p, alpha_n, beta, eps };
                run!(self, map::unary<'a>(f: map::Xielu, x: &'a mut [f32]))
            }
        }
    }

    /// gate = f(gate, up): the gated activation, in place.
    pub fn glu(self, f: Glu, gate: &mut [f32], up: &[f32]) {
        same_len(gate.len(), up.len());
        macro_rules! of {
            ($f:ident) => {{
                let f = map::Gated(map::$f);
                run!(self, map::binary<'a>(f: map::Gated<map::$f>, gate: &'a mut [f32], up: &'a [f32]))
            }};
        }
        match f {
            Glu::Gated(Activation::Silu) => of!(Silu),
            Glu::Gated(Activation::GeluTanh) => of!(GeluTanh),
            Glu::Gated(Activation::GeluErf) => of!(GeluErf),
            Glu::Gated(Activation::GeluQuick) => of!(GeluQuick),
            Glu::Gated(Activation::Relu) => of!(Relu),
            Glu::Gated(Activation::Relu2) => of!(Relu2),
            Glu::Gated(Activation::Xielu { alpha_p, alpha_n, beta, eps }) => {
                let f = map::Gated(map::Xielu { alpha_p, alpha_n, beta, eps });
                run!(self, map::binary<'a>(f: map::Gated<map::Xielu>, gate: &'a mut [f32], up: &'a [f32]))
            }
            Glu::SwigluClamped { alpha, limit } => {
                let f = map::SwigluClamped { alpha, limit };
                run!(self, map::binary<'a>(f: map::SwigluClamped, gate: &'a mut [f32], up: &'a [f32]))
            }
        }
    }

    /// Rotary embedding of one head at one position. `cos_sin` is `[n_rot]`: the n_rot/2 cosines,
    /// then the n_rot/2 sines; elements of x from n_rot on are left as they are. The same bits on
    /// every instruction set. Source: Su et al., 2021 (arXiv 2104.09864).
    ///
    /// # Panics
    /// If n_rot is odd or exceeds the head.
    pub fn rope(self, x: &mut [f32], cos_sin: &[f32], layout: RopeLayout) {
        let n_rot = cos_sin.len();
        assert!(
            n_rot.is_multiple_of(2) && n_rot <= x.len(),
            "n_rot {n_rot} must be even and within the head of {}",
            x.len()
        );
        run!(self, norm::rope<'a>(x: &'a mut [f32], cos_sin: &'a [f32], layout: RopeLayout));
    }
}

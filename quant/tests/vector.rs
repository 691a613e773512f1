//! Vector functions against f64 on every instruction set that this CPU has.
//!
//! Bounds: normalizations, softmax and sums NMSE 1e-13 (relative to what is summed); exp 2 ulp;
//! tanh and erf 2e-7 absolute and relative; activations 4e-7 relative to the larger of |x| and
//! the result's scale; conversions to the bit.

use half::{bf16, f16};
use pumice_quant::{Activation, Glu, RopeLayout};
use pumice_quant::{Isa, KvType, Vector};

mod common;
use common::{Random, nmse};

/// Lengths around every vector and stretch boundary.
const LENGTHS: [usize; 14] = [1, 3, 7, 8, 15, 16, 17, 33, 64, 100, 511, 576, 1025, 4099];

fn on_each(f: impl Fn(Vector)) {
    for isa in Isa::available() {
        f(Vector::new(isa));
    }
}

fn as_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// erf to f64 precision: the Taylor series below 3, Lentz's continued fraction of erfc above.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() && n < 200.0 {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = a;
        for k in (1..60).rev() {
            fraction = a + f64::from(k) / 2.0 / fraction;
        }
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    y.copysign(x)
}

fn act(f: Activation, x: f64) -> f64 {
    let sigmoid = |t: f64| 1.0 / (1.0 + (-t).exp());
    match f {
        Activation::Silu => x * sigmoid(x),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + u.tanh())
        }
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Xielu { alpha_p, alpha_n, beta, eps } => {
            let [p, n, beta, eps] = [alpha_p, alpha_n, beta, eps].map(f64::from);
            let bent = if x > 0.0 { p * x * x } else { n * (x.min(eps).exp_m1() - x) };
            bent + beta * x
        }
    }
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::GeluQuick,
    Activation::Relu,
    Activation::Relu2,
    Activation::Xielu { alpha_p: 0.9, alpha_n: 1.3, beta: 0.5, eps: -1e-6 },
];

/// Everything from -100 to 100 in steps that hit no particular pattern, and the neighbourhood of 0.
fn grid() -> Vec<f32> {
    let wide = (-100_003..100_003).map(|i| i as f32 * 9.997e-4);
    let small = (-2003..2003).map(|i| i as f32 * 1.003e-5);
    wide.chain(small).collect()
}

#[test]
fn exp_is_within_two_ulp_and_right_at_the_ends() {
    on_each(|v| {
        let x: Vec<f32> = grid().into_iter().filter(|x| (-86.8..88.7).contains(x)).collect();
        let mut y = x.clone();
        v.exp(&mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = f64::from(x).exp();
            let ulp = f64::from(f32::from_bits((want as f32).to_bits() + 1) - want as f32);
            let off = (f64::from(y) - want).abs() / ulp;
            assert!(off <= 2.0, "{:?}: exp({x}) = {y}, {off} ulp off", v.isa());
        }
        let mut ends = [f32::NEG_INFINITY, -87.5, -1e30, 89.0, 1e30, f32::INFINITY, 0.0, f32::NAN];
        v.exp(&mut ends);
        assert_eq!(ends[..7], [0.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY, f32::INFINITY, 1.0]);
        assert!(ends[7].is_nan());
    });
}

#[test]
fn tanh_and_softcap_are_within_2e_7() {
    on_each(|v| {
        let x = grid();
        let mut y = x.clone();
        v.tanh(&mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let want = f64::from(x).tanh();
            let off = (f64::from(y) - want).abs();
            assert!(off <= 2e-7 * want.abs(), "{:?}: tanh({x}) = {y}", v.isa());
        }
        let mut y = x.clone();
        v.softcap(&mut y, 30.0);
        for (&x, &y) in x.iter().zip(&y) {
            let want = 30.0 * (f64::from(x) / 30.0).tanh();
            assert!((f64::from(y) - want).abs() <= 3e-7 * want.abs(), "{:?}: {x} {y}", v.isa());
        }
        let mut ends = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -0.0];
        v.tanh(&mut ends);
        assert_eq!(ends[..2], [-1.0, 1.0]);
        assert!(ends[2].is_nan() && ends[3] == 0.0);
    });
}

#[test]
fn activations_follow_f64() {
    on_each(|v| {
        for f in ACTIVATIONS {
            let x = grid();
            let mut y = x.clone();
            v.act(f, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let want = act(f, f64::from(x));
                let off = (f64::from(y) - want).abs();
                // Left tails are x times something tiny: absolute error, scaled by |x|.
                let bound = 4e-7 * want.abs().max(0.25 * f64::from(x.abs()));
                assert!(off <= bound, "{:?} {f:?}({x}) = {y}, want {want}", v.isa());
            }
        }
    });
}

#[test]
fn glu_is_act_times_up_at_every_length() {
    on_each(|v| {
        let mut random = Random::new(1);
        for n in LENGTHS {
            let (gate, up) = (random.normal(n, 3.0), random.normal(n, 1.0));
            for f in ACTIVATIONS {
                let mut y = gate.clone();
                v.glu(Glu::Gated(f), &mut y, &up);
                let want: Vec<f64> = gate
                    .iter()
                    .zip(&up)
                    .map(|(&g, &u)| act(f, f64::from(g)) * f64::from(u))
                    .collect();
                for i in 0..n {
                    let size = act(f, f64::from(gate[i])).abs().max(9.0);
                    let bound = 5e-7 * f64::from(up[i].abs()) * size;
                    assert!((f64::from(y[i]) - want[i]).abs() <= bound, "{:?} {f:?} {i}", v.isa());
                }
            }
        }
    });
}

#[test]
fn clamped_swiglu_follows_gpt_oss() {
    on_each(|v| {
        let mut random = Random::new(2);
        let (gate, up) = (random.normal(1003, 8.0), random.normal(1003, 8.0));
        let mut y = gate.clone();
        v.glu(Glu::SwigluClamped { alpha: 1.702, limit: 7.0 }, &mut y, &up);
        for i in 0..gate.len() {
            let g = f64::from(gate[i]).min(7.0);
            let u = f64::from(up[i]).clamp(-7.0, 7.0);
            let want = g / (1.0 + (-f64::from(1.702f32) * g).exp()) * (u + 1.0);
            assert!((f64::from(y[i]) - want).abs() <= 1e-6 * want.abs().max(1.0), "{i}");
        }
        let mut nan = [f32::NAN, 1.0];
        v.glu(Glu::SwigluClamped { alpha: 1.702, limit: 7.0 }, &mut nan, &[1.0, f32::NAN]);
        assert!(nan[0].is_nan() && nan[1].is_nan());
    });
}

#[test]
fn norms_follow_f64_at_every_length() {
    on_each(|v| {
        let mut random = Random::new(3);
        for n in LENGTHS {
            let x: Vec<f32> = random.normal(n, 2.0).iter().map(|x| x + 0.7).collect();
            let (w, b) = (random.normal(n, 1.0), random.normal(n, 1.0));
            let mut y = vec![0.0; n];
            let d = as_f64(&x);
            let eps = 1e-5f32;
            let (mean, square) =
                (d.iter().sum::<f64>() / n as f64, d.iter().map(|x| x * x).sum::<f64>() / n as f64);
            let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;

            v.rms_norm(&x, Some(&w), eps, &mut y);
            let s = 1.0 / (square + f64::from(eps)).sqrt();
            let want: Vec<f64> = (0..n).map(|i| d[i] * s * f64::from(w[i])).collect();
            assert!(nmse(&y, &want) < 1e-13, "{:?} rms {n}", v.isa());
            let mut z = x.clone();
            v.rms_norm_in_place(&mut z, Some(&w), eps);
            assert_eq!(y, z, "in place and out of place differ");
            v.rms_norm(&x, None, eps, &mut y);
            let want: Vec<f64> = d.iter().map(|x| x * s).collect();
            assert!(nmse(&y, &want) < 1e-13, "{:?} rms {n} without weight", v.isa());

            if n > 1 {
                v.layer_norm(&x, Some(&w), Some(&b), eps, &mut y);
                let s = 1.0 / (variance + f64::from(eps)).sqrt();
                let want: Vec<f64> =
                    (0..n).map(|i| (d[i] - mean) * s * f64::from(w[i]) + f64::from(b[i])).collect();
                assert!(nmse(&y, &want) < 1e-13, "{:?} layer {n}", v.isa());
                v.layer_norm(&x, None, None, eps, &mut y);
                let want: Vec<f64> = d.iter().map(|x| (x - mean) * s).collect();
                assert!(nmse(&y, &want) < 1e-13, "{:?} layer {n} plain", v.isa());
            }

            v.l2_norm(&x, 1e-12, &mut y);
            let want: Vec<f64> = d.iter().map(|x| x / (square * n as f64).sqrt()).collect();
            assert!(nmse(&y, &want) < 1e-13, "{:?} l2 {n}", v.isa());
        }
        let mut y = [1.0; 4];
        v.l2_norm(&[0.0; 4], 1e-12, &mut y);
        assert_eq!(y, [0.0; 4]);
    });
}

#[test]
fn a_large_mean_does_not_spoil_layer_norm() {
    on_each(|v| {
        let mut random = Random::new(4);
        let x: Vec<f32> = random.normal(2048, 1.0).iter().map(|x| x + 1000.0).collect();
        let d = as_f64(&x);
        let mean = d.iter().sum::<f64>() / 2048.0;
        let variance = d.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2048.0;
        let want: Vec<f64> = d.iter().map(|x| (x - mean) / variance.sqrt()).collect();
        let mut y = vec![0.0; 2048];
        v.layer_norm(&x, None, None, 0.0, &mut y);
        // The mean is rounded to f32: 3e-5 of a standard deviation here.
        assert!(nmse(&y, &want) < 2e-9);
    });
}

#[test]
fn sums_follow_f64_at_every_length() {
    on_each(|v| {
        let mut random = Random::new(5);
        for n in LENGTHS.into_iter().chain([0, 100_003]) {
            let (x, y) = (random.normal(n, 1.0), random.normal(n, 1.0));
            let sum: f64 = as_f64(&x).iter().sum();
            let dot: f64 = as_f64(&x).iter().zip(as_f64(&y)).map(|(a, b)| a * b).sum();
            let size = (n as f64).sqrt().max(1.0);
            assert!((f64::from(v.sum(&x)) - sum).abs() < 3e-7 * size, "{:?} sum {n}", v.isa());
            assert!((f64::from(v.dot(&x, &y)) - dot).abs() < 3e-7 * size, "{:?} dot {n}", v.isa());
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(v.max(&x), max);
            assert_eq!(v.argmax(&x), x.iter().position(|&a| a == max));
        }
    });
}

#[test]
fn searches_find_the_first_hit_wherever_it_is() {
    on_each(|v| {
        for n in [1usize, 17, 300, 1000] {
            for at in [0, n / 3, n / 2, n - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = vec![f32::MAX; n];
                    assert_eq!(v.check_finite(&x), None);
                    x[at] = bad;
                    x[n - 1] = bad;
                    assert_eq!(v.check_finite(&x), Some(at), "{:?} {n}", v.isa());
                }
                let mut x = vec![-3.0f32; n];
                x[at] = 5.0;
                x[n - 1] = 5.0;
                assert_eq!(v.argmax(&x), Some(at), "{:?} {n}", v.isa());
            }
        }
        assert_eq!(v.argmax(&[]), None);
        assert_eq!(v.argmax(&[f32::NEG_INFINITY; 3]), Some(0));
    });
}

#[test]
fn softmax_follows_f64_with_masks_and_sinks() {
    on_each(|v| {
        let mut random = Random::new(6);
        for n in LENGTHS {
            for sink in [None, Some(1.5f32), Some(40.0)] {
                let mut x = random.normal(n, 4.0);
                if n > 8 {
                    x[n / 2] = f32::NEG_INFINITY;
                }
                let d = as_f64(&x);
                let max = d.iter().copied().fold(f64::MIN, f64::max);
                let max = max.max(sink.map_or(f64::MIN, f64::from));
                let sum: f64 = d.iter().map(|x| (x - max).exp()).sum::<f64>()
                    + sink.map_or(0.0, |s| (f64::from(s) - max).exp());
                let want: Vec<f64> = d.iter().map(|x| (x - max).exp() / sum).collect();
                v.softmax(&mut x, sink);
                // A sink far above: x - max is rounded at its magnitude, 2e-6 for 40.
                let bound = if sink == Some(40.0) { 1e-11 } else { 1e-13 };
                assert!(nmse(&x, &want) < bound, "{:?} {n} {sink:?}: {}", v.isa(), nmse(&x, &want));
            }
        }
        let mut masked = [f32::NEG_INFINITY; 21];
        v.softmax(&mut masked, None);
        assert_eq!(masked, [0.0; 21]);
        let mut masked = [f32::NEG_INFINITY; 21];
        v.softmax(&mut masked, Some(0.0));
        assert_eq!(masked, [0.0; 21]);
        let mut nan = [f32::NAN; 21];
        v.softmax(&mut nan, None);
        assert!(nan.iter().all(|x| x.is_nan()));
    });
}

#[test]
fn arithmetic_is_exact_per_element() {
    on_each(|v| {
        let mut random = Random::new(7);
        for n in LENGTHS {
            let (x, y) = (random.normal(n, 1.0), random.normal(n, 1.0));
            let pairs = || x.iter().zip(&y);
            let mut z = x.clone();
            v.add(&mut z, &y);
            assert_eq!(z, pairs().map(|(a, b)| a + b).collect::<Vec<_>>());
            let mut z = x.clone();
            v.mul(&mut z, &y);
            assert_eq!(z, pairs().map(|(a, b)| a * b).collect::<Vec<_>>());
            let mut z = x.clone();
            v.scale(&mut z, 0.3);
            assert_eq!(z, x.iter().map(|a| a * 0.3).collect::<Vec<_>>());
            let mut z = x.clone();
            v.add_scaled(&mut z, 0.3, &y);
            for i in 0..n {
                let want = f64::from(x[i]) + f64::from(0.3f32) * f64::from(y[i]);
                assert!((f64::from(z[i]) - want).abs() < 3e-7);
            }
        }
    });
}

#[test]
fn rope_turns_pairs_and_halves_and_leaves_the_rest() {
    on_each(|v| {
        for (n, n_rot) in [(8, 8), (64, 64), (80, 32), (20, 10), (128, 128), (6, 0)] {
            let mut random = Random::new(8);
            let x = random.normal(n, 1.0);
            let angles = random.normal(n_rot / 2, 2.0);
            let table: Vec<f32> =
                angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin())).collect();
            for layout in [RopeLayout::Pairs, RopeLayout::Halves] {
                let mut y = x.clone();
                v.rope(&mut y, &table, layout);
                for i in 0..n_rot / 2 {
                    let (a, b) = match layout {
                        RopeLayout::Pairs => (2 * i, 2 * i + 1),
                        RopeLayout::Halves => (i, i + n_rot / 2),
                    };
                    let (c, s) = (table[i], table[i + n_rot / 2]);
                    assert_eq!(y[a], x[a] * c - x[b] * s, "{:?} {layout:?} {n}", v.isa());
                    assert_eq!(y[b], x[a] * s + x[b] * c, "{:?} {layout:?} {n}", v.isa());
                }
                assert_eq!(y[n_rot..], x[n_rot..]);
            }
        }
    });
}

#[test]
fn half_conversions_match_the_half_crate_on_every_value() {
    on_each(|v| {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0.0f32; all.len()];
        v.f16_to_f32(&all, &mut wide);
        let mut back = vec![f16::ZERO; all.len()];
        v.f32_to_f16(&wide, &mut back);
        for ((&h, &w), &b) in all.iter().zip(&wide).zip(&back) {
            if h.is_nan() {
                assert!(w.is_nan() && b.is_nan(), "{:?} {h:?}", v.isa());
                continue;
            }
            assert_eq!(w.to_bits(), h.to_f32_const().to_bits(), "{:?}", v.isa());
            let want = if h.is_infinite() { f16::MAX.copysign(h) } else { h };
            assert_eq!(b.to_bits(), want.to_bits(), "{:?}", v.isa());
        }
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        v.bf16_to_f32(&all, &mut wide);
        let mut back = vec![bf16::ZERO; all.len()];
        v.f32_to_bf16(&wide, &mut back);
        for ((&h, &w), &b) in all.iter().zip(&wide).zip(&back) {
            assert_eq!(w.to_bits(), u32::from(h.to_bits()) << 16);
            assert!(b.to_bits() == h.to_bits() || h.is_nan() && b.is_nan(), "{h:?} {b:?}");
        }
    });
}

#[test]
fn half_conversions_round_to_nearest_even_and_clamp() {
    on_each(|v| {
        let mut random = Random::new(9);
        let mut x: Vec<f32> = (0..50_003).map(|_| f32::from_bits(random.bits() as u32)).collect();
        x.extend([65504.0, 65519.9, 65520.0, 1e9, -1e9, f32::INFINITY, f32::MAX, f32::MIN]);
        x.extend([2f32.powi(-25), 3.0 * 2f32.powi(-26), -2f32.powi(-24), 1.0 + 2f32.powi(-11)]);
        let mut h = vec![f16::ZERO; x.len()];
        let mut b = vec![bf16::ZERO; x.len()];
        v.f32_to_f16(&x, &mut h);
        v.f32_to_bf16(&x, &mut b);
        for i in 0..x.len() {
            if x[i].is_nan() {
                assert!(h[i].is_nan() && b[i].is_nan());
                continue;
            }
            let want = f16::from_f32_const(x[i].clamp(-65504.0, 65504.0));
            assert_eq!(h[i].to_bits(), want.to_bits(), "{:?} {}", v.isa(), x[i]);
            let want = bf16::from_f32(x[i]);
            let want = match x[i].is_finite() && want.is_infinite() {
                true => bf16::MAX.copysign(want),
                false => want,
            };
            assert_eq!(b[i].to_bits(), want.to_bits(), "{:?} {}", v.isa(), x[i]);
        }
    });
}

#[test]
fn cache_rows_come_back_within_their_precision() {
    on_each(|v| {
        let mut random = Random::new(10);
        for n in [1, 8, 16, 20, 32, 40, 64, 72, 128, 256] {
            let x = random.normal(n, 3.0);
            let max = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            for ty in KvType::ALL {
                let mut row = vec![0u32; ty.row_bytes(n).div_ceil(4)];
                let row: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut row)[..ty.row_bytes(n)];
                ty.encode(v, &x, row);
                let mut y = vec![0.0; n];
                ty.decode(v, row, &mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    let bound = match ty {
                        KvType::F32 => 0.0,
                        KvType::F16 => x.abs() / 2048.0,
                        KvType::BF16 => x.abs() / 256.0,
                        // Half a step, and the scale's own rounding.
                        KvType::Q8_0 => max / 127.0 * 0.57,
                        // Codes reach to 7 on one side: one step at that end.
                        KvType::Q4_0 => max / 8.0 * 1.01,
                    };
                    assert!((x - y).abs() <= bound, "{:?} {ty} {n}: {x} {y}", v.isa());
                }
                let name: KvType = ty.name().parse().expect("own name");
                assert_eq!(name, ty);
            }
        }
        assert!("q4_1".parse::<KvType>().is_err());
    });
}

#[test]
fn q4_0_rows_have_the_same_bytes_everywhere_and_keep_trouble_visible() {
    let scalar = Vector::new(Isa::Scalar);
    on_each(|v| {
        let mut random = Random::new(12);
        for n in [5, 32, 37, 96, 4096] {
            let x = random.normal(n, 3.0);
            let bytes = KvType::Q4_0.row_bytes(n);
            let (mut a, mut b) = (vec![0; bytes], vec![0; bytes]);
            scalar.f32_to_q4_0(&x, &mut a);
            v.f32_to_q4_0(&x, &mut b);
            assert_eq!(a, b, "{:?} {n}", v.isa());
        }
        // Each level of a block, whichever sign its largest element has.
        for sign in [1.0, -1.0] {
            let x: Vec<f32> = (0..40).map(|i| sign * ((i % 16) as f32 - 8.0) * 0.5).collect();
            let mut row = vec![0; 36];
            v.f32_to_q4_0(&x, &mut row);
            let mut y = vec![0.0; 40];
            v.q4_0_to_f32(&row, &mut y);
            assert_eq!(x, y);
        }
        let mut row = vec![0; 36];
        let mut x = vec![0.0f32; 40];
        x[3] = f32::NAN;
        x[35] = 1e30;
        x[36] = -0.5;
        v.f32_to_q4_0(&x, &mut row);
        let mut y = vec![0.0; 40];
        v.q4_0_to_f32(&row, &mut y);
        assert!(y[..32].iter().all(|y| y.is_nan()));
        assert_eq!(y[35], 65504.0 * 8.0);
        assert_eq!(y[36], 0.0);
    });
}

#[test]
fn q8_0_rows_have_the_same_bytes_everywhere_and_keep_trouble_visible() {
    let scalar = Vector::new(Isa::Scalar);
    on_each(|v| {
        let mut random = Random::new(11);
        for n in [5, 32, 37, 96, 4096] {
            let x = random.normal(n, 3.0);
            let bytes = KvType::Q8_0.row_bytes(n);
            let (mut a, mut b) = (vec![0; bytes], vec![0; bytes]);
            scalar.f32_to_q8_0(&x, &mut a);
            v.f32_to_q8_0(&x, &mut b);
            assert_eq!(a, b, "{:?} {n}", v.isa());
        }
        let mut row = vec![0; 68];
        let mut x = vec![0.0f32; 40];
        x[3] = f32::NAN;
        x[35] = 1e30;
        x[36] = -0.5;
        v.f32_to_q8_0(&x, &mut row);
        let mut y = vec![0.0; 40];
        v.q8_0_to_f32(&row, &mut y);
        assert!(y[..32].iter().all(|y| y.is_nan()));
        assert_eq!(y[35], 65504.0 * 127.0);
        assert_eq!(y[36], 0.0);
    });
}

#[test]
#[should_panic(expected = "differ in length")]
fn unequal_lengths_panic() {
    Vector::new(Isa::Scalar).add(&mut [1.0; 3], &[1.0; 4]);
}

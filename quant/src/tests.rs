//! The kernels of every type on every row of this machine, against exact arithmetic.
//!
//! The oracle works on the same rounded activations and on the codes, scales and offsets that the
//! scalar unpacker yields (which are tied to the decoders, bit for bit, by the first test), in
//! float64. What is left is the float32 accumulation: [`Kernels::ERROR_BOUND`].

use formats::TensorType;

use crate::act::{self, ActKind, Regime};
use crate::isa::scalar::Scalar;
use crate::span::Span;
use crate::tile::{Head, SPAN};
use crate::types::{grid, iq, k, q4, q8, small};
use crate::{Isa, Kernels, Out, SUPPORTED, decode, is_packable, kernels, pack, packed_kernels};

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Roughly normal, with an outlier now and then.
    fn value(&mut self) -> f32 {
        let t: f32 = (0..6).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).sum();
        if self.below(40) == 0 { 9.0 * t } else { t }
    }
}

/// Byte positions of the float16 fields of a block.
fn halves(ty: TensorType) -> &'static [usize] {
    match ty {
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q2K => &[80, 82],
        TensorType::Q3K => &[108],
        TensorType::Q6K => &[208],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => &[],
        TensorType::MXFP4 | TensorType::NVFP4 | TensorType::IQ1M => &[],
        _ => &[0],
    }
}

/// The bytes of a block that hold scales of scales, and what to keep of each so that the scale is
/// small.
fn sub_scales(ty: TensorType) -> (Vec<usize>, u8) {
    match ty {
        TensorType::Q2K => ((0..16).collect(), 0x33),
        TensorType::Q4K | TensorType::Q5K => ((4..16).collect(), 0x03),
        TensorType::Q6K => ((192..208).collect(), 0x07),
        TensorType::IQ2XXS => ((9..66).step_by(8).collect(), 0x1f),
        TensorType::IQ2XS => ((66..74).collect(), 0x11),
        TensorType::IQ2S => ((74..82).collect(), 0x11),
        TensorType::IQ3XXS => ((69..98).step_by(4).collect(), 0x1f),
        TensorType::IQ3S => ((106..110).collect(), 0x11),
        _ => (vec![], 0),
    }
}

/// A float16 that makes all weights whole numbers.
fn unit_scale(ty: TensorType) -> u16 {
    match ty {
        TensorType::IQ1S | TensorType::IQ1M => 0x4800,
        TensorType::IQ2XXS | TensorType::IQ2XS | TensorType::IQ2S => 0x4800,
        TensorType::IQ3XXS => 0x4400,
        _ => 0x3c00,
    }
}

/// Gives a block of any bytes scales of a sane size; `unit` makes all weights whole numbers.
fn tame(rng: &mut Rng, ty: TensorType, b: &mut [u8], unit: bool) {
    let sign = (rng.next() & 0x8000) as u16;
    let scale = |rng: &mut Rng| match unit {
        true => unit_scale(ty),
        false => (0x1800 + rng.below(0x1000) as u16) | sign,
    };
    for &at in halves(ty) {
        let d = scale(rng);
        b[at..at + 2].copy_from_slice(&d.to_le_bytes());
    }
    if unit {
        let (places, keep) = sub_scales(ty);
        places.into_iter().for_each(|at| b[at] &= keep);
    }
    match ty {
        TensorType::MXFP4 if unit => b[0] = 128,
        TensorType::MXFP4 => b[0] = 118 + b[0] % 14,
        TensorType::NVFP4 if unit => b[..4].fill(0x40),
        // 33 in all groups, of which 32 is taken off
        TensorType::IQ4XS if unit => b[2..8].copy_from_slice(&[0xaa, 0xaa, 17, 17, 17, 17]),
        TensorType::IQ1M => {
            let d = scale(rng);
            for i in 0..4 {
                b[49 + 2 * i] = b[49 + 2 * i] & 15 | ((d >> (4 * i) & 15) << 4) as u8;
            }
        }
        // finite: clear the top exponent bit
        TensorType::F32 => b[3] &= 0xbf,
        TensorType::F16 | TensorType::BF16 => b[1] &= 0xbf,
        _ => {}
    }
}

/// Random blocks, see [`tame`].
fn blocks(rng: &mut Rng, ty: TensorType, n: usize, unit: bool) -> Vec<u8> {
    let mut w: Vec<u8> = (0..ty.row_bytes(n).unwrap()).map(|_| rng.next() as u8).collect();
    w.chunks_exact_mut(ty.block_bytes()).for_each(|b| tame(rng, ty, b, unit));
    w
}

/// The two parts `d * (code - offset)` and `m` of every weight of a row of blocks.
fn parts<T: Span>(w: &[u8]) -> (Vec<f32>, Vec<f32>) {
    let n = w.len() / T::BYTES * T::BLOCK;
    let bytes = SPAN / T::BLOCK * T::BYTES;
    let mut padded = w.to_vec();
    padded.resize(w.len().next_multiple_of(bytes), 0);
    let (mut main, mut mins) = (Vec::new(), Vec::new());
    for span in padded.chunks_exact(bytes) {
        let (mut codes, mut head) = ([0; SPAN], Head::ZERO);
        // SAFETY: the span is whole, and the scalar row runs everywhere.
        unsafe { T::expand::<Scalar>(span.as_ptr(), codes.as_mut_ptr(), &mut head) };
        for (i, code) in codes.into_iter().enumerate() {
            assert!(code <= T::MAX, "code {code} above {}", T::MAX);
            main.push(head.d[i / T::GROUP] * (f32::from(code) - f32::from(T::OFFSET)));
            mins.push(if T::MINS { head.m[i / T::GROUP] } else { 0.0 });
        }
    }
    main.truncate(n);
    mins.truncate(n);
    (main, mins)
}

fn parts_of(ty: TensorType, w: &[u8]) -> (Vec<f32>, Vec<f32>) {
    match ty {
        TensorType::Q4_0 => parts::<q4::Q4_0>(w),
        TensorType::Q4_1 => parts::<q4::Q4_1>(w),
        TensorType::Q5_0 => parts::<q4::Q5_0>(w),
        TensorType::Q5_1 => parts::<q4::Q5_1>(w),
        TensorType::Q8_0 => parts::<q8::Q8_0>(w),
        TensorType::Q2K => parts::<k::Q2K>(w),
        TensorType::Q3K => parts::<k::Q3K>(w),
        TensorType::Q4K => parts::<k::Q4K>(w),
        TensorType::Q5K => parts::<k::Q5K>(w),
        TensorType::Q6K => parts::<k::Q6K>(w),
        TensorType::IQ4NL => parts::<iq::Iq4Nl>(w),
        TensorType::IQ4XS => parts::<iq::Iq4Xs>(w),
        TensorType::MXFP4 => parts::<iq::Mxfp4>(w),
        TensorType::NVFP4 => parts::<iq::Nvfp4>(w),
        TensorType::Q1_0 => parts::<small::Q1_0>(w),
        TensorType::Q2_0 => parts::<small::Q2_0>(w),
        TensorType::TQ1_0 => parts::<small::Tq1_0>(w),
        TensorType::TQ2_0 => parts::<small::Tq2_0>(w),
        TensorType::IQ1S => parts::<grid::Iq1S>(w),
        TensorType::IQ1M => parts::<grid::Iq1M>(w),
        TensorType::IQ2XXS => parts::<grid::Iq2Xxs>(w),
        TensorType::IQ2XS => parts::<grid::Iq2Xs>(w),
        TensorType::IQ2S => parts::<grid::Iq2S>(w),
        TensorType::IQ3XXS => parts::<grid::Iq3Xxs>(w),
        TensorType::IQ3S => parts::<grid::Iq3S>(w),
        _ => {
            let mut y = vec![0f32; w.len() / ty.block_bytes()];
            decode(ty, w, &mut y).unwrap();
            let none = vec![0f32; y.len()];
            (y, none)
        }
    }
}

/// The values that a prepared column stands for.
fn restored(kind: ActKind, column: &[u8], k: usize, regime: Regime) -> Vec<f32> {
    let float = |at: usize| f32::from_le_bytes(column[at..at + 4].try_into().unwrap());
    let kp = act::padded(k);
    (0..k)
        .map(|i| match (kind, regime) {
            (ActKind::F32, _) => float(act::HEADER + 4 * i),
            (_, Regime::Rows) => {
                let q = f32::from(column[act::HEADER + i] as i8);
                q * float(act::rows_offsets(kp).0 + i / 4 * 4)
            }
            (_, Regime::Panel) => {
                let q = f32::from(column[act::HEADER + i] as i8);
                q * float(act::panel_offsets(kp, 32).scales + i / 32 * 4)
            }
        })
        .collect()
}

fn prepared(kern: &Kernels, x: &[f32], k: usize, regime: Regime) -> Vec<u8> {
    let bytes = kern.act().bytes(k);
    let mut acts = vec![0xa5u8; x.len() / k * bytes];
    for (x, dst) in x.chunks_exact(k).zip(acts.chunks_exact_mut(bytes)) {
        kern.prepare(x, dst, regime);
    }
    acts
}

struct Case {
    ty: TensorType,
    k: usize,
    n_rows: usize,
    n_cols: usize,
    w: Vec<u8>,
    x: Vec<f32>,
}

impl Case {
    fn new(rng: &mut Rng, ty: TensorType, k: usize, n_rows: usize, n_cols: usize) -> Self {
        let w = blocks(rng, ty, k * n_rows, false);
        let x = (0..k * n_cols).map(|_| rng.value()).collect();
        Self { ty, k, n_rows, n_cols, w, x }
    }

    fn run(&self, kern: &Kernels, regime: Regime) -> Vec<f32> {
        let acts = prepared(kern, &self.x, self.k, regime);
        let (w, k, rows, cols) = (&self.w, self.k, self.n_rows, self.n_cols);
        // a stride wider than the rows: what lies between must stay untouched
        let stride = rows + 3;
        let mut y = vec![f32::from_bits(0x7fc0_1234); cols * stride];
        let mut out = Out::new(&mut y, cols, rows, stride);
        match regime {
            Regime::Rows => kern.rows(w, k, rows, &acts, cols, &mut out),
            Regime::Panel => {
                let mut scratch = vec![0u8; kern.panel_scratch(cols)];
                kern.panel(w, k, rows, &acts, cols, &mut out, &mut scratch);
            }
        }
        let untouched = |x: &f32| x.to_bits() == 0x7fc0_1234;
        assert!(y.chunks(stride).all(|c| c[rows..].iter().all(untouched)), "{}", kern.id());
        y.chunks(stride).flat_map(|c| c[..rows].to_vec()).collect()
    }

    /// Exact results and sums of magnitudes.
    fn exact(&self, regime: Regime) -> Vec<(f64, f64)> {
        let scalar = kernels(self.ty, Isa::Scalar).unwrap();
        let acts = prepared(scalar, &self.x, self.k, regime);
        let (main, mins) = parts_of(self.ty, &self.w);
        let mut out = Vec::new();
        for column in acts.chunks_exact(scalar.act().bytes(self.k)) {
            let x = restored(scalar.act(), column, self.k, regime);
            for r in 0..self.n_rows {
                let (mut sum, mut size) = (0f64, 0f64);
                for (i, &x) in x.iter().enumerate() {
                    let (a, m) = (main[r * self.k + i], mins[r * self.k + i]);
                    let (a, m) = (f64::from(a) * f64::from(x), f64::from(m) * f64::from(x));
                    sum += a + m;
                    size += a.abs() + m.abs();
                }
                out.push((sum, size));
            }
        }
        out
    }
}

/// Row lengths to try: a tail after whole spans, less than a span, several spans.
fn lengths(ty: TensorType) -> &'static [usize] {
    match ty.block_len() {
        1 => &[1, 7, 15, 16, 67, 576],
        32 => &[32, 64, 224, 256, 576, 1536],
        64 => &[64, 192, 256, 832],
        128 => &[128, 256, 896],
        _ => &[256, 512, 1280],
    }
}

#[test]
fn unpackers_agree_with_decoders_to_the_bit() {
    let mut rng = Rng(1);
    for &ty in SUPPORTED {
        // many enough that all entries of the code books occur
        let n = 1 << 16;
        let w = blocks(&mut rng, ty, n, false);
        let mut decoded = vec![0f32; n];
        decode(ty, &w, &mut decoded).unwrap();
        let (main, mins) = parts_of(ty, &w);
        for (i, y) in decoded.iter().enumerate() {
            let found = if mins[i] == 0.0 { main[i] } else { main[i] + mins[i] };
            assert!(found == *y, "{ty}: value {i}: {found} instead of {y}");
        }
    }
}

#[test]
fn every_kernel_is_within_the_bound_of_exact_arithmetic() {
    let mut rng = Rng(2);
    let shapes = [(1, 1), (2, 3), (5, 1), (7, 2), (3, 16), (33, 5), (70, 13)];
    for &ty in SUPPORTED {
        for (i, &k) in lengths(ty).iter().enumerate() {
            let (n_rows, n_cols) = shapes[(i + ty.block_bytes()) % shapes.len()];
            let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
            for regime in [Regime::Rows, Regime::Panel] {
                let exact = case.exact(regime);
                for isa in Isa::available() {
                    let kern = kernels(ty, isa).unwrap();
                    let found = case.run(kern, regime);
                    for (j, (y, (sum, size))) in found.iter().zip(&exact).enumerate() {
                        let bound = f64::from(Kernels::ERROR_BOUND) * size;
                        let off = (f64::from(*y) - sum).abs();
                        let id = kern.id();
                        assert!(
                            off <= bound,
                            "{id} {regime:?} k {k} output {j}: {y} instead of {sum}, off {off:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn integer_parts_are_exact_on_every_row() {
    let mut rng = Rng(3);
    for &ty in SUPPORTED.iter().filter(|ty| ty.block_len() > 1) {
        let k = 512;
        let mut case = Case::new(&mut rng, ty, k, 37, 7);
        case.w = blocks(&mut rng, ty, k * 37, true);
        // whole numbers with 127 in every group of four: all activation scales are one
        case.x = (0..k * 7)
            .map(|i| if i % 4 == 1 { 127.0 } else { rng.below(255) as f32 - 127.0 })
            .collect();
        for regime in [Regime::Rows, Regime::Panel] {
            let exact = case.exact(regime);
            let largest = exact.iter().fold(0.0, |a, &(_, size)| size.max(a));
            assert!(largest < f64::from(1 << 24), "{ty}: {largest} is not exact in float32");
            for isa in Isa::available() {
                let kern = kernels(ty, isa).unwrap();
                for (y, (sum, _)) in case.run(kern, regime).iter().zip(&exact) {
                    assert_eq!(f64::from(*y), *sum, "{} {regime:?}", kern.id());
                }
            }
        }
    }
}

#[test]
fn extreme_codes_meet_extreme_activations_without_overflow() {
    let mut rng = Rng(9);
    for &ty in SUPPORTED.iter().filter(|ty| ty.block_len() > 1) {
        let (k, n_rows, n_cols) = (256, 9, 5);
        let mut case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        case.w = blocks(&mut rng, ty, k * n_rows, true);
        let row_bytes = case.w.len() / n_rows;
        for (row, byte) in case.w.chunks_exact_mut(row_bytes).zip([0, 255, 0x7f, 0x80, 0x88, 0xf0])
        {
            row.fill(byte);
            row.chunks_exact_mut(ty.block_bytes()).for_each(|b| tame(&mut rng, ty, b, true));
        }
        // the first columns take the signs of rows, so that nothing cancels there
        let (main, _) = parts_of(ty, &case.w);
        for c in 0..n_cols {
            for i in 0..k {
                case.x[c * k + i] = match c {
                    0..3 => 127f32.copysign(main[(3 * c + 1) * k + i]),
                    3 => 127.0,
                    _ => -127.0,
                };
            }
        }
        for regime in [Regime::Rows, Regime::Panel] {
            let exact = case.exact(regime);
            assert!(exact.iter().all(|&(_, size)| size < f64::from(1 << 24)), "{ty}");
            for isa in Isa::available() {
                let kern = kernels(ty, isa).unwrap();
                for (y, (sum, _)) in case.run(kern, regime).iter().zip(&exact) {
                    assert_eq!(f64::from(*y), *sum, "{} {regime:?}", kern.id());
                }
            }
        }
    }
}

#[test]
fn blocks_of_any_bytes_are_taken_without_a_panic() {
    let mut rng = Rng(10);
    for &ty in SUPPORTED {
        let (k, n_rows, n_cols) = (256, 33, 2);
        let mut case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        for fill in [None, Some(0u8), Some(0xff)] {
            case.w.iter_mut().for_each(|b| *b = fill.unwrap_or(rng.next() as u8));
            let mut decoded = vec![0f32; k * n_rows];
            decode(ty, &case.w, &mut decoded).unwrap();
            let sane = |row: &[f32]| row.iter().all(|y| y.abs() < 1e30);
            let sane: Vec<bool> = decoded.chunks(k).map(sane).collect();
            for isa in Isa::available() {
                for regime in [Regime::Rows, Regime::Panel] {
                    let y = case.run(kernels(ty, isa).unwrap(), regime);
                    // scales that are not finite spoil their own rows alone
                    for (i, y) in y.iter().enumerate().filter(|(i, _)| sane[i % n_rows]) {
                        assert!(!y.is_nan(), "{ty} {isa} {regime:?} output {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_result_depends_on_its_row_and_column_alone() {
    let mut rng = Rng(4);
    for &ty in SUPPORTED {
        let k = match ty.block_len() {
            256 => 512,
            128 => 384,
            _ => 320,
        };
        for isa in Isa::available() {
            let kern = kernels(ty, isa).unwrap();
            for regime in [Regime::Rows, Regime::Panel] {
                let case = Case::new(&mut rng, ty, k, 21, 16);
                let whole = case.run(kern, regime);
                let row_bytes = case.w.len() / 21;
                for (r0, r1, c0, c1) in
                    [(0, 21, 3, 4), (5, 6, 0, 16), (2, 9, 11, 13), (20, 21, 15, 16)]
                {
                    let part = Case {
                        n_rows: r1 - r0,
                        n_cols: c1 - c0,
                        w: case.w[r0 * row_bytes..r1 * row_bytes].to_vec(),
                        x: case.x[c0 * k..c1 * k].to_vec(),
                        ..case
                    };
                    let found = part.run(kern, regime);
                    for c in c0..c1 {
                        for r in r0..r1 {
                            let a = found[(c - c0) * (r1 - r0) + r - r0];
                            let b = whole[c * 21 + r];
                            assert_eq!(a.to_bits(), b.to_bits(), "{} {regime:?}", kern.id());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_rows_and_many_columns_stay_within_the_bound() {
    let mut rng = Rng(5);
    for (ty, k, n_rows, n_cols) in [
        (TensorType::Q4_1, 14336, 5, 2),
        (TensorType::Q6K, 8192, 3, 1),
        (TensorType::Q4K, 2048, 40, 67),
    ] {
        let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        let regime = if n_cols > 16 { Regime::Panel } else { Regime::Rows };
        let exact = case.exact(regime);
        for isa in Isa::available() {
            let kern = kernels(ty, isa).unwrap();
            for (y, (sum, size)) in case.run(kern, regime).iter().zip(&exact) {
                let off = (f64::from(*y) - sum).abs();
                assert!(off <= f64::from(Kernels::ERROR_BOUND) * size, "{}: {off:e}", kern.id());
            }
        }
    }
}

#[test]
fn prepared_columns_are_the_same_bytes_on_every_row() {
    let mut rng = Rng(6);
    for k in [1, 31, 32, 64, 100, 256, 576, 1000] {
        let mut x: Vec<f32> = (0..k).map(|_| rng.value()).collect();
        let odd = [0.0, -0.0, 1e-36, 1e-38, f32::MAX, f32::MIN_POSITIVE, 63.5, f32::NAN, 0.5, -2.5];
        for (i, v) in odd.into_iter().enumerate() {
            x[(i * 37) % k] = v;
        }
        for ty in [TensorType::Q4_1, TensorType::F16] {
            for regime in [Regime::Rows, Regime::Panel] {
                let scalar = kernels(ty, Isa::Scalar).unwrap();
                let expected = prepared(scalar, &x, k, regime);
                for isa in Isa::available() {
                    let kern = kernels(ty, isa).unwrap();
                    let found = prepared(kern, &x, k, regime);
                    // Which NaN it is differs by instruction; that it is one does not.
                    let same = |(a, b): (&[u8], &[u8])| {
                        let float = |w: &[u8]| f32::from_le_bytes(w.try_into().unwrap());
                        a == b || (float(a).is_nan() && float(b).is_nan())
                    };
                    let mut words = found.chunks_exact(4).zip(expected.chunks_exact(4));
                    assert!(words.all(same), "{} k {k}", kern.id());
                }
            }
        }
    }
}

#[test]
fn rounding_is_half_to_even_with_a_scale_per_group() {
    let kern = kernels(TensorType::Q4_1, Isa::detect()).unwrap();
    let x = [127.0, 0.5, 1.5, -2.5, 254.0, 1.0, -3.0, 7.0];
    let column = prepared(kern, &x, 8, Regime::Rows);
    let q: Vec<i8> = column[act::HEADER..][..8].iter().map(|&b| b as i8).collect();
    assert_eq!(q, [127, 0, 2, -2, 127, 0, -2, 4]);
    let restored = restored(ActKind::Q8, &column, 8, Regime::Rows);
    assert_eq!(restored, [127.0, 0.0, 2.0, -2.0, 254.0, 0.0, -4.0, 8.0]);
}

#[test]
fn an_activation_that_is_not_finite_makes_the_results_nan() {
    let mut rng = Rng(7);
    for &ty in SUPPORTED {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut case = Case::new(&mut rng, ty, 256, 3, 2);
            // weights that are not zero anywhere near it
            case.x[256 + 70] = bad;
            for isa in Isa::available() {
                let kern = kernels(ty, isa).unwrap();
                for regime in [Regime::Rows, Regime::Panel] {
                    let y = case.run(kern, regime);
                    assert!(y[..3].iter().all(|y| y.is_finite()), "{}: {y:?}", kern.id());
                    assert!(y[3..].iter().all(|y| !y.is_finite()), "{}: {y:?}", kern.id());
                }
            }
        }
    }
}

#[test]
fn zero_weights_and_zero_activations_give_zero() {
    for &ty in SUPPORTED {
        let k = 512;
        let zero = Case {
            ty,
            k,
            n_rows: 5,
            n_cols: 3,
            w: blocks(&mut Rng(8), ty, 5 * k, false),
            x: vec![0.0; 3 * k],
        };
        for isa in Isa::available() {
            for regime in [Regime::Rows, Regime::Panel] {
                let y = zero.run(kernels(ty, isa).unwrap(), regime);
                assert!(y.iter().all(|&y| y == 0.0), "{ty} {isa}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "(tag, k) of a prepared column")]
fn a_column_prepared_for_the_other_driver_is_refused() {
    let kern = kernels(TensorType::Q8_0, Isa::Scalar).unwrap();
    let acts = prepared(kern, &[1.0; 32], 32, Regime::Panel);
    let mut y = [0f32];
    kern.rows(&[0; 34], 32, 1, &acts, 1, &mut Out::new(&mut y, 1, 1, 1));
}

#[test]
#[should_panic(expected = "do not fit 5 floats")]
fn a_view_past_the_end_is_refused() {
    Out::new(&mut [0f32; 5], 2, 3, 3);
}

#[test]
fn packed_rows_have_the_bits_of_panels_in_any_company() {
    let mut rng = Rng(9);
    let shapes = [(16, 1), (32, 4), (48, 3), (80, 7), (64, 16), (16, 2), (112, 5)];
    for &ty in SUPPORTED.iter().filter(|&&ty| is_packable(ty)) {
        for (i, &k) in lengths(ty).iter().enumerate() {
            let (n_rows, n_cols) = shapes[(i + ty.block_bytes()) % shapes.len()];
            let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
            let mut w = vec![0; case.w.len()];
            pack(ty, &case.w, k, &mut w).unwrap();
            let packed = Case { w, x: case.x.clone(), ..case };
            for isa in Isa::available() {
                let Some(kern) = packed_kernels(ty, isa).unwrap() else { continue };
                let expected = case.run(kernels(ty, isa).unwrap(), Regime::Panel);
                for regime in [Regime::Rows, Regime::Panel] {
                    let found = packed.run(kern, regime);
                    for (j, (y, e)) in found.iter().zip(&expected).enumerate() {
                        let id = kern.id();
                        assert!(
                            y.to_bits() == e.to_bits(),
                            "{id} {regime:?} k {k}, {n_rows} rows, output {j}: {y} instead of {e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "packed rows")]
fn packed_rows_come_in_groups() {
    let mut rng = Rng(10);
    let case = Case::new(&mut rng, TensorType::Q8_0, 32, 17, 1);
    case.run(packed_kernels(TensorType::Q8_0, Isa::Scalar).unwrap().unwrap(), Regime::Rows);
}

#[test]
fn a_pair_of_columns_stands_for_nearly_the_exact_values() {
    let mut rng = Rng(11);
    let k = 576;
    let x: Vec<f32> = (0..k).map(|_| rng.value()).collect();
    let q8 = [kernels(TensorType::Q8_0, Isa::Scalar), kernels(TensorType::Q8_0, Isa::detect())];
    let wide = packed_kernels(TensorType::Q8_0, Isa::Scalar).unwrap().map(Ok);
    for kern in q8.into_iter().chain(wide).map(Result::unwrap) {
        for regime in [Regime::Rows, Regime::Panel] {
            let mut pair = vec![0; 2 * kern.act().bytes(k)];
            kern.prepare_pair(&x, &mut pair, regime, &mut vec![0.0; k]);
            let (first, second) = pair.split_at(pair.len() / 2);
            let regime = if kern.is_packed() { Regime::Panel } else { regime };
            let sums = restored(kern.act(), first, k, regime);
            let sums = sums.iter().zip(restored(kern.act(), second, k, regime)).map(|(a, b)| a + b);
            for (i, y) in sums.enumerate() {
                // at worst the largest of 32 values decides on the size of a step
                let near = x[i / 32 * 32..][..32].iter().fold(0f32, |m, x| m.max(x.abs()));
                assert!((x[i] - y).abs() <= near / 127.0 / 254.0, "{} became {y}", x[i]);
            }
        }
    }
}

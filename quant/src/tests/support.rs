//! Made-up blocks, the oracle and what a test of kernels does over and over.

use formats::TensorType;

use crate::act::{self, ActKind, Regime};
use crate::isa::StandIn;
use crate::isa::scalar::Scalar;
use crate::span::Span;
use crate::table::{stand_in, stand_in_packed};
use crate::tile::{Head, SPAN};
use crate::types::{grid, iq, k, q4, q8, small};
use crate::{Isa, Kernels, Out, decode, kernels, packed_kernels};

/// splitmix64.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Roughly normal, with an outlier now and then.
    pub(super) fn value(&mut self) -> f32 {
        let t: f32 = (0..6).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).sum();
        if self.below(40) == 0 { 9.0 * t } else { t }
    }
}

/// Byte positions of the float16 fields of a block.
pub(super) fn halves(ty: TensorType) -> &'static [usize] {
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
pub(super) fn sub_scales(ty: TensorType) -> (Vec<usize>, u8) {
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
pub(super) fn unit_scale(ty: TensorType) -> u16 {
    match ty {
        TensorType::IQ1S | TensorType::IQ1M => 0x4800,
        TensorType::IQ2XXS | TensorType::IQ2XS | TensorType::IQ2S => 0x4800,
        TensorType::IQ3XXS => 0x4400,
        _ => 0x3c00,
    }
}

/// Gives a block of any bytes scales of a sane size; `unit` makes all weights whole numbers.
pub(super) fn tame(rng: &mut Rng, ty: TensorType, b: &mut [u8], unit: bool) {
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
pub(super) fn blocks(rng: &mut Rng, ty: TensorType, n: usize, unit: bool) -> Vec<u8> {
    let mut w: Vec<u8> = (0..ty.row_bytes(n).unwrap()).map(|_| rng.next() as u8).collect();
    w.chunks_exact_mut(ty.block_bytes()).for_each(|b| tame(rng, ty, b, unit));
    w
}

/// The two parts `d * (code - offset)` and `m` of every weight of a row of blocks.
pub(super) fn parts<T: Span>(w: &[u8]) -> (Vec<f32>, Vec<f32>) {
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

pub(super) fn parts_of(ty: TensorType, w: &[u8]) -> (Vec<f32>, Vec<f32>) {
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
pub(super) fn restored(kind: ActKind, column: &[u8], k: usize, regime: Regime) -> Vec<f32> {
    let float = |at: usize| f32::from_le_bytes(column[at..at + 4].try_into().unwrap());
    let kp = act::padded(k);
    (0..k)
        .map(|i| match (kind, regime) {
            (ActKind::F32, _) => float(act::HEADER + 4 * i),
            (_, Regime::Rows) => {
                let q = f32::from(column[act::HEADER + i] as i8);
                q * float(act::rows_offsets(kp).0 + i / 4 * 4)
            }
            (ActKind::Q8Bf16, Regime::Panel) => {
                let at = act::HEADER + 2 * i;
                half::bf16::from_le_bytes([column[at], column[at + 1]]).to_f32()
            }
            (_, Regime::Panel) => {
                let q = f32::from(column[act::HEADER + i] as i8);
                q * float(act::panel_offsets(kp, 32).scales + i / 32 * 4)
            }
        })
        .collect()
}

pub(super) fn prepared(kern: &Kernels, x: &[f32], k: usize, regime: Regime) -> Vec<u8> {
    let bytes = kern.act().bytes(k);
    let mut acts = vec![0xa5u8; x.len() / k * bytes];
    for (x, dst) in x.chunks_exact(k).zip(acts.chunks_exact_mut(bytes)) {
        kern.prepare(x, dst, regime);
    }
    acts
}

/// The kernels of a type on every row of this machine, and on rows that stand in for others.
pub(super) fn all(ty: TensorType) -> Vec<&'static Kernels> {
    let own = Isa::available().into_iter().map(|isa| kernels(ty, isa).unwrap());
    own.chain(StandIn::available().into_iter().map(|row| stand_in(ty, row).unwrap())).collect()
}

/// The kernels for rows as stored and for packed ones, where a row has the latter.
pub(super) fn all_packed(ty: TensorType) -> Vec<(&'static Kernels, &'static Kernels)> {
    let own = Isa::available().into_iter().map(|isa| {
        let packed = packed_kernels(ty, isa).unwrap();
        (kernels(ty, isa).unwrap(), packed)
    });
    let others = StandIn::available().into_iter().map(|row| {
        let packed = stand_in_packed(ty, row);
        (stand_in(ty, row).unwrap(), packed)
    });
    own.chain(others).filter_map(|(plain, packed)| Some((plain, packed?))).collect()
}

pub(super) struct Case {
    pub(super) ty: TensorType,
    pub(super) k: usize,
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
    pub(super) w: Vec<u8>,
    pub(super) x: Vec<f32>,
}

impl Case {
    pub(super) fn new(
        rng: &mut Rng,
        ty: TensorType,
        k: usize,
        n_rows: usize,
        n_cols: usize,
    ) -> Self {
        let w = blocks(rng, ty, k * n_rows, false);
        let x = (0..k * n_cols).map(|_| rng.value()).collect();
        Self { ty, k, n_rows, n_cols, w, x }
    }

    pub(super) fn run(&self, kern: &Kernels, regime: Regime) -> Vec<f32> {
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
    pub(super) fn exact(&self, kern: &Kernels, regime: Regime) -> Vec<(f64, f64)> {
        let acts = prepared(kern, &self.x, self.k, regime);
        let (main, mins) = parts_of(self.ty, &self.w);
        let mut out = Vec::new();
        for column in acts.chunks_exact(kern.act().bytes(self.k)) {
            let x = restored(kern.act(), column, self.k, regime);
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

impl Case {
    /// Checks results for weights and activations that are whole numbers: they are exact, unless the
    /// kernel rounds weights that have more bits than it keeps.
    pub(super) fn whole_numbers(&self, kern: &Kernels, regime: Regime, exact: &[(f64, f64)]) {
        let (main, mins) = parts_of(self.ty, &self.w);
        let short = |(a, b): (&f32, &f32)| half::bf16::from_f32(a + b).to_f32() == a + b;
        let kept = main.iter().zip(&mins).all(short);
        for (y, (sum, size)) in self.run(kern, regime).iter().zip(exact) {
            let off = (f64::from(*y) - sum).abs();
            let bound = match kern.error_bound(regime) {
                wide if wide > Kernels::ERROR_BOUND && !kept => f64::from(wide) * size,
                _ => 0.0,
            };
            assert!(off <= bound, "{} {regime:?}: {y} instead of {sum}", kern.id());
        }
    }
}

/// Row lengths to try: a tail after whole spans, less than a span, several spans.
pub(super) fn lengths(ty: TensorType) -> &'static [usize] {
    match ty.block_len() {
        1 => &[1, 7, 15, 16, 67, 576],
        32 => &[32, 64, 224, 256, 576, 1536],
        64 => &[64, 192, 256, 832],
        128 => &[128, 256, 896],
        _ => &[256, 512, 1280],
    }
}

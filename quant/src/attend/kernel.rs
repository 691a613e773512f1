//! One page for one group of queries: scores, and weighted sums of values. Between the two, a whole
//! span's scores become weights.

use super::{DistanceBias, PAGE, QueryRow, SPAN};
use crate::isa::prefetch::{LINE, prefetch_line};
use crate::isa::{codes, half};
use crate::vector::{Q8_LEN, math};
use ::half::f16;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Queries whose accumulators fit the registers at once: 6 queries by 4 vectors on 32 registers,
/// 6 by 2 on 16.
pub(super) const GROUP: usize = 6;

/// Bytes of the codes of a block of Q4_0.
const HALF: usize = Q8_LEN / 2;

/// Keys or values of a page, read as vectors of f32.
pub(super) trait Source: Copy {
    /// Numbers are codes, to be multiplied by the scale of their position and block.
    const SCALED: bool;
    /// `V` vectors from `at` on of row `row`. A row is an element of all keys or one position's value.
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V];
}

/// As f32, or converted before, rows of so many elements.
#[derive(Clone, Copy)]
pub(super) struct Floats<'a, const SCALED: bool>(pub &'a [f32], pub usize);

impl<const SCALED: bool> Source for Floats<'_, SCALED> {
    const SCALED: bool = SCALED;

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V] {
        let row = &self.0[row * self.1 + at * S::F32_LANES..][..V * S::F32_LANES];
        let mut out = [simd.splat_f32s(0.0); V];
        out.copy_from_slice(S::as_simd_f32s(row).0);
        out
    }
}

/// Half precision as it is stored, rows of so many elements. This and what follows are for tiles of
/// so few queries that a conversion ahead would cost more than it saves, and only where
/// [`half::has_load`] says so.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a>(pub &'a [f16], pub usize);

impl Source for Halves<'_> {
    const SCALED: bool = false;

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V] {
        let row = &self.0[row * self.1 + at * S::F32_LANES..][..V * S::F32_LANES];
        let mut out = [simd.splat_f32s(0.0); V];
        for (out, lanes) in out.iter_mut().zip(row.chunks_exact(S::F32_LANES)) {
            *out = half::load(lanes);
        }
        out
    }
}

/// The codes of Q8_0, rows of so many bytes.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8], pub usize);

impl Source for Bytes<'_> {
    const SCALED: bool = true;

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V] {
        let row = &self.0[row * self.1 + at * S::F32_LANES..][..V * S::F32_LANES];
        let mut out = [simd.splat_f32s(0.0); V];
        for (out, lanes) in out.iter_mut().zip(row.chunks_exact(S::F32_LANES)) {
            *out = codes::bytes(lanes);
        }
        out
    }
}

/// The codes of Q4_0 keys: rows of [`PAGE`] bytes, two elements each.
#[derive(Clone, Copy)]
pub(super) struct KeyNibbles<'a>(pub &'a [u8]);

impl Source for KeyNibbles<'_> {
    const SCALED: bool = true;

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V] {
        let byte = (row / Q8_LEN * HALF + row % HALF) * PAGE + at * S::F32_LANES;
        let shift = (row % Q8_LEN / HALF * 4) as u32;
        let row = &self.0[byte..][..V * S::F32_LANES];
        let mut out = [simd.splat_f32s(0.0); V];
        for (out, lanes) in out.iter_mut().zip(row.chunks_exact(S::F32_LANES)) {
            *out = codes::nibbles(lanes, shift);
        }
        out
    }
}

/// The codes of Q4_0 values, rows of so many bytes.
#[derive(Clone, Copy)]
pub(super) struct ValueNibbles<'a>(pub &'a [u8], pub usize);

impl Source for ValueNibbles<'_> {
    const SCALED: bool = true;

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S, row: usize, at: usize) -> [S::f32s; V] {
        let mut out = [simd.splat_f32s(0.0); V];
        for (j, out) in out.iter_mut().enumerate() {
            let column = (at + j) * S::F32_LANES;
            let byte = row * self.1 + column / Q8_LEN * HALF + column % HALF;
            let shift = (column % Q8_LEN / HALF * 4) as u32;
            *out = codes::nibbles(&self.0[byte..][..S::F32_LANES], shift);
        }
        out
    }
}

/// One side of a page, ready for use.
#[derive(Clone, Copy)]
pub(super) struct Side<'a, K> {
    pub source: K,
    /// `[block, PAGE]`; of types without blocks nothing.
    pub scales: &'a [f32],
    pub ahead: Ahead,
}

/// What will be read next: a part of it is asked for with every row that is used.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    start: *const u8,
    /// Bytes with every row.
    step: usize,
}

impl Ahead {
    /// Asks for nothing.
    pub(super) const NONE: Ahead = Ahead { start: std::ptr::null(), step: 0 };

    /// `bytes`, while `rows` rows are used.
    #[inline(always)]
    pub(super) fn new(bytes: &[u8], rows: usize) -> Ahead {
        Ahead { start: bytes.as_ptr(), step: bytes.len() / rows }
    }

    #[inline(always)]
    fn ask(self, row: usize) {
        let mut at = 0;
        while at < self.step {
            prefetch_line(self.start.wrapping_add(row * self.step + at));
            at += LINE;
        }
    }
}

/// Positions `seen` of a page that some query of the group sees: their scores to rows of `out`,
/// [`SPAN`] apart. `q` is packed `[head_dim_k, n]` for `n` queries, at most [`GROUP`].
pub(super) struct Scores<'a, K> {
    pub q: &'a [f32],
    pub keys: Side<'a, K>,
    pub seen: Range<usize>,
    pub out: &'a mut [f32],
}

impl<K: Source> Scores<'_, K> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S, n: usize) {
        match n {
            1 => simd.vectorize(ScoresOf::<K, 1>(self)),
            2 => simd.vectorize(ScoresOf::<K, 2>(self)),
            3 => simd.vectorize(ScoresOf::<K, 3>(self)),
            4 => simd.vectorize(ScoresOf::<K, 4>(self)),
            5 => simd.vectorize(ScoresOf::<K, 5>(self)),
            _ => simd.vectorize(ScoresOf::<K, GROUP>(self)),
        }
    }
}

/// [`Scores`] of a fixed number of queries: a function of its own, not a part of its caller, which
/// would become too large to compile well.
struct ScoresOf<'a, K, const R: usize>(Scores<'a, K>);

impl<K: Source, const R: usize> WithSimd for ScoresOf<'_, K, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Scores { q, keys, seen, out } = self.0;
        let q = q.as_chunks::<R>().0;
        // Blocks of 4 (or 2) vectors of positions, those that anyone sees.
        let vectors = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let first = seen.start / S::F32_LANES / vectors * vectors;
        for at in (first..seen.end.div_ceil(S::F32_LANES)).step_by(vectors) {
            match vectors {
                4 => score::<S, K, R, 4>(simd, q, &keys, (at, at == first), out),
                _ => score::<S, K, R, 2>(simd, q, &keys, (at, at == first), out),
            }
        }
    }
}

/// `out[r][position] = q[r] . key` for `V` vectors of positions from vector `at` on; of blocks, the
/// sum over them of scale times product.
#[inline(always)]
fn score<S: Simd, K: Source, const R: usize, const V: usize>(
    simd: S,
    q: &[[f32; R]],
    keys: &Side<'_, K>,
    (at, is_first): (usize, bool),
    out: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let length = if K::SCALED { Q8_LEN } else { q.len() };
    for (b, q) in q.chunks(length.max(1)).enumerate() {
        let mut acc = [[zero; V]; R];
        for (i, q) in q.iter().enumerate() {
            let row = b * length + i;
            if is_first {
                keys.ahead.ask(row);
            }
            let key = keys.source.vectors::<S, V>(simd, row, at);
            for r in 0..R {
                let q = simd.splat_f32s(q[r]);
                for j in 0..V {
                    acc[r][j] = simd.mul_add_e_f32s(q, key[j], acc[r][j]);
                }
            }
        }
        let scales = if K::SCALED { &keys.scales[b * PAGE..][..PAGE] } else { &[] };
        for r in 0..R {
            let out = &mut S::as_mut_simd_f32s(&mut out[r * SPAN..][..PAGE]).0[at..at + V];
            for j in 0..V {
                out[j] = match (K::SCALED, b) {
                    (false, _) => acc[r][j],
                    (true, 0) => simd.mul_f32s(S::as_simd_f32s(scales).0[at + j], acc[r][j]),
                    (true, _) => {
                        simd.mul_add_e_f32s(S::as_simd_f32s(scales).0[at + j], acc[r][j], out[j])
                    }
                };
            }
        }
    }
}

/// What changes a score before it becomes a weight.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub softcap: Option<f32>,
    pub bias: Option<DistanceBias<'a>>,
}

/// Turns one query's scores over a span that starts at `first` into weights e^(score - max), zero
/// where it does not see (`seen`) but others of its group do (`all`). Returns the maximum, -inf when
/// nothing is seen, and the sum of the weights.
#[inline(always)]
pub(super) fn soften<S: Simd>(
    simd: S,
    change: Change<'_>,
    (row, first): (&QueryRow, usize),
    (seen, all): (&Range<usize>, &Range<usize>),
    scores: &mut [f32],
) -> (f32, f32) {
    let lanes = S::F32_LANES;
    let all = all.start / lanes * lanes..all.end.next_multiple_of(lanes);
    if seen.is_empty() {
        scores[all].fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    scores[all.start..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..all.end].fill(f32::NEG_INFINITY);
    let inner = seen.start / lanes * lanes..seen.end.next_multiple_of(lanes);
    if let Some(cap) = change.softcap {
        let cap = simd.splat_f32s(cap);
        for s in S::as_mut_simd_f32s(&mut scores[inner.clone()]).0 {
            *s = simd.mul_f32s(cap, math::tanh(simd, simd.div_f32s(*s, cap)));
        }
        scores[inner.start..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..inner.end].fill(f32::NEG_INFINITY);
    }
    if row.alibi_slope != 0.0 {
        for (i, s) in scores[seen.clone()].iter_mut().enumerate() {
            let distance = (first + seen.start + i).abs_diff(row.pos);
            *s -= row.alibi_slope * distance as f32;
        }
    }
    if let Some(bias) = change.bias {
        bias.add(row, first + seen.start, &mut scores[seen.clone()]);
    }
    let mut top = simd.splat_f32s(f32::NEG_INFINITY);
    for v in S::as_simd_f32s(&scores[inner]).0 {
        top = simd.max_f32s(*v, top);
    }
    let top = simd.reduce_max_f32s(top);
    if top == f32::NEG_INFINITY {
        // Every score is -inf, or NaN hiding behind it: the latter must stay visible.
        let poisoned = scores[seen.clone()].iter().any(|s| s.is_nan());
        scores[all].fill(if poisoned { f32::NAN } else { 0.0 });
        return (top, if poisoned { f32::NAN } else { 0.0 });
    }
    let shift = simd.splat_f32s(top);
    let mut total = simd.splat_f32s(0.0);
    for v in S::as_mut_simd_f32s(&mut scores[all]).0 {
        *v = math::exp(simd, simd.sub_f32s(*v, shift));
        total = simd.add_f32s(total, *v);
    }
    (top, simd.reduce_sum_f32s(total))
}

/// Adds positions `seen` of a page, each value times its weight, to the sums of up to [`GROUP`]
/// queries.
pub(super) struct Weigh<'a, K> {
    /// Rows [`SPAN`] apart.
    pub weights: &'a [f32],
    pub values: Side<'a, K>,
    pub seen: Range<usize>,
    /// Rows of `stride`, of which the first `columns` are in use.
    pub sums: &'a mut [f32],
    pub columns: usize,
    pub stride: usize,
    /// What is in it does not matter.
    pub scaled: &'a mut Scaled,
}

/// Weights times scales, for the blocks of a column of vectors: `[block, query, position]`.
pub(super) type Scaled = [[[f32; PAGE]; GROUP]; 2];

impl<K: Source> Weigh<'_, K> {
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S, n: usize) {
        match n {
            1 => simd.vectorize(WeighOf::<K, 1>(self)),
            2 => simd.vectorize(WeighOf::<K, 2>(self)),
            3 => simd.vectorize(WeighOf::<K, 3>(self)),
            4 => simd.vectorize(WeighOf::<K, 4>(self)),
            5 => simd.vectorize(WeighOf::<K, 5>(self)),
            _ => simd.vectorize(WeighOf::<K, GROUP>(self)),
        }
    }
}

/// As [`ScoresOf`].
struct WeighOf<'a, K, const R: usize>(Weigh<'a, K>);

impl<K: Source, const R: usize> WithSimd for WeighOf<'_, K, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let n = self.0.columns.div_ceil(S::F32_LANES);
        let mut at = 0;
        while at < n {
            at += match n - at {
                4.. if S::REGISTER_COUNT >= 32 => self.0.columns::<S, R, 4>(simd, at),
                2.. => self.0.columns::<S, R, 2>(simd, at),
                _ => self.0.columns::<S, R, 1>(simd, at),
            };
        }
    }
}

impl<K: Source> Weigh<'_, K> {
    /// `sums[r] += weights[r][position] value`, for the `V` vectors of columns from vector `at` on; of
    /// blocks, with the product of weight and scale. Returns V.
    #[inline(always)]
    fn columns<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, at: usize) -> usize {
        let Weigh { weights, values, seen, sums, stride, scaled, .. } = self;
        // V vectors lie in one block, or they are two blocks; vectors start at multiples of V or less.
        let two = V * S::F32_LANES > Q8_LEN;
        if K::SCALED {
            let block = at * S::F32_LANES / Q8_LEN;
            for (b, scaled) in scaled[..1 + usize::from(two)].iter_mut().enumerate() {
                let scales = S::as_simd_f32s(&values.scales[(block + b) * PAGE..][..PAGE]).0;
                for (r, scaled) in scaled[..R].iter_mut().enumerate() {
                    let weights = S::as_simd_f32s(&weights[r * SPAN..][..PAGE]).0;
                    let out = S::as_mut_simd_f32s(scaled).0;
                    for i in 0..PAGE / S::F32_LANES {
                        out[i] = simd.mul_f32s(weights[i], scales[i]);
                    }
                }
            }
        }
        let (sums, stride) = (S::as_mut_simd_f32s(sums).0, *stride / S::F32_LANES);
        let mut acc = [[simd.splat_f32s(0.0); V]; R];
        for r in 0..R {
            acc[r].copy_from_slice(&sums[r * stride + at..][..V]);
        }
        // Per block and query; so that the loop need not check where they end.
        let factors: [[&[f32; PAGE]; R]; 2] = std::array::from_fn(|b| {
            std::array::from_fn(|r| match K::SCALED {
                true => &scaled[b][r],
                false => weights[r * SPAN..].first_chunk().expect("a row of weights"),
            })
        });
        for position in seen.start..seen.end.min(PAGE) {
            if at == 0 {
                values.ahead.ask(position);
            }
            let value = values.source.vectors::<S, V>(simd, position, at);
            for r in 0..R {
                for j in 0..V {
                    let b = usize::from(two) * (j * S::F32_LANES / Q8_LEN);
                    let factor = simd.splat_f32s(factors[b][r][position]);
                    acc[r][j] = simd.mul_add_e_f32s(factor, value[j], acc[r][j]);
                }
            }
        }
        for r in 0..R {
            sums[r * stride + at..][..V].copy_from_slice(&acc[r]);
        }
        V
    }
}

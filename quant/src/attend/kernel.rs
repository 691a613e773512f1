//! One page for one group of queries: scores, running softmax, weighted sum of values.

use super::{DistanceBias, PAGE, PageRef, QueryRow};
use crate::isa::half;
use crate::vector::math;
use ::half::f16;
use pulp::Simd;

/// Queries whose accumulators fit the registers at once: 6 queries by 4 vectors on 32 registers,
/// 6 by 2 on 16.
pub(super) const GROUP: usize = 6;

/// Keys or values of a page, read as vectors of f32.
pub(super) trait Source<S: Simd>: Copy {
    /// Vector number `i` in the order of memory.
    fn vector(self, simd: S, i: usize) -> S::f32s;
}

/// Converted before.
#[derive(Clone, Copy)]
pub(super) struct Floats<'a, V>(pub &'a [V]);

impl<S: Simd> Source<S> for Floats<'_, S::f32s> {
    #[inline(always)]
    fn vector(self, _: S, i: usize) -> S::f32s {
        self.0[i]
    }
}

/// Half precision as it is stored, for tiles of so few queries that a conversion ahead would cost
/// more than it saves. Only where [`half::has_load`] says so.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a>(pub &'a [f16]);

impl<S: Simd> Source<S> for Halves<'_> {
    #[inline(always)]
    fn vector(self, _: S, i: usize) -> S::f32s {
        half::load(&self.0[i * S::F32_LANES..][..S::F32_LANES])
    }
}

/// A page ready for use.
pub(super) struct PageJob<'a, K> {
    pub page: &'a PageRef<'a>,
    /// `[head_dim_k, PAGE]`.
    pub keys: K,
    /// `[PAGE, n_columns vectors]`.
    pub values: K,
    /// Vectors of a value.
    pub n_columns: usize,
    pub softcap: Option<f32>,
    pub bias: Option<DistanceBias<'a>>,
}

/// The running result of a group's queries.
pub(super) struct State<'a, V> {
    /// `[n, padded head_dim_v]`: sum of e^(score - max) v.
    pub sums: &'a mut [V],
    /// `[n]`: largest score (or sink) so far, -inf before any.
    pub max: &'a mut [f32],
    /// `[n]`: sum of e^(score - max).
    pub weight: &'a mut [f32],
}

/// The scores, then the weights, of a group.
type Scores = [[f32; PAGE]; GROUP];

impl<K> PageJob<'_, K> {
    /// Adds the page to the state of up to [`GROUP`] queries, packed `[head_dim_k, n]` in `q`.
    #[inline(always)]
    pub(super) fn group<S: Simd>(
        &self,
        simd: S,
        q: &[f32],
        rows: &[QueryRow],
        state: State<'_, S::f32s>,
    ) where
        K: Source<S>,
    {
        match rows.len() {
            1 => self.group_of::<S, 1>(simd, q.as_chunks().0, rows, state),
            2 => self.group_of::<S, 2>(simd, q.as_chunks().0, rows, state),
            3 => self.group_of::<S, 3>(simd, q.as_chunks().0, rows, state),
            4 => self.group_of::<S, 4>(simd, q.as_chunks().0, rows, state),
            5 => self.group_of::<S, 5>(simd, q.as_chunks().0, rows, state),
            _ => self.group_of::<S, GROUP>(simd, q.as_chunks().0, rows, state),
        }
    }

    #[inline(always)]
    fn group_of<S: Simd, const R: usize>(
        &self,
        simd: S,
        q: &[[f32; R]],
        rows: &[QueryRow],
        state: State<'_, S::f32s>,
    ) where
        K: Source<S>,
    {
        let visible: [(usize, usize); R] = std::array::from_fn(|r| rows[r].visible(self.page));
        let seen = visible.iter().filter(|(lo, hi)| lo < hi);
        let lo = seen.clone().map(|v| v.0).min().unwrap_or(PAGE);
        let hi = seen.map(|v| v.1).max().unwrap_or(0);
        if lo >= hi {
            return;
        }
        let mut scores: Scores = [[0.0; PAGE]; GROUP];
        // Scores: blocks of 4 (or 2) vectors of positions, those that anyone sees.
        let vectors = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let first = lo / S::F32_LANES / vectors * vectors;
        for at in (first..hi.div_ceil(S::F32_LANES)).step_by(vectors) {
            match vectors {
                4 => score::<S, K, R, 4>(simd, q, self.keys, at, &mut scores),
                _ => score::<S, K, R, 2>(simd, q, self.keys, at, &mut scores),
            }
        }
        let mut decay = [1.0; R];
        for r in 0..R {
            decay[r] = self.soften(
                simd,
                &rows[r],
                visible[r],
                &mut scores[r],
                &mut state.max[r],
                &mut state.weight[r],
            );
        }
        let (n, v) = (self.n_columns, self.values);
        let mut at = 0;
        while at < n {
            let (span, sums) = ((lo, hi), &mut *state.sums);
            at += match n - at {
                4.. if vectors == 4 => {
                    weigh::<S, K, R, 4>(simd, &scores, &decay, (v, n), at, span, sums)
                }
                2.. => weigh::<S, K, R, 2>(simd, &scores, &decay, (v, n), at, span, sums),
                _ => weigh::<S, K, R, 1>(simd, &scores, &decay, (v, n), at, span, sums),
            };
        }
    }

    /// Turns one query's scores into weights e^(score - max), zero where nothing is visible, and
    /// updates its maximum and total. Returns the factor for what was summed before.
    #[inline(always)]
    fn soften<S: Simd>(
        &self,
        simd: S,
        row: &QueryRow,
        (lo, hi): (usize, usize),
        scores: &mut [f32; PAGE],
        max: &mut f32,
        weight: &mut f32,
    ) -> f32 {
        if lo >= hi {
            scores.fill(0.0);
            return 1.0;
        }
        if let Some(cap) = self.softcap {
            let cap = simd.splat_f32s(cap);
            for s in S::as_mut_simd_f32s(scores).0 {
                *s = simd.mul_f32s(cap, math::tanh(simd, simd.div_f32s(*s, cap)));
            }
        }
        if row.alibi_slope != 0.0 {
            for (i, s) in scores.iter_mut().enumerate() {
                let distance = (self.page.first_pos + i).abs_diff(row.pos);
                *s -= row.alibi_slope * distance as f32;
            }
        }
        if let Some(bias) = self.bias {
            bias.add(row, self.page.first_pos, scores);
        }
        scores[..lo].fill(f32::NEG_INFINITY);
        scores[hi..].fill(f32::NEG_INFINITY);
        let vectors = S::as_mut_simd_f32s(scores).0;
        let mut top = vectors[0];
        for v in &vectors[1..] {
            top = simd.max_f32s(*v, top);
        }
        let top = simd.reduce_max_f32s(top).max(*max);
        if top == f32::NEG_INFINITY {
            // Every score is -inf, or NaN hiding behind it: the latter must stay visible.
            let poisoned = scores[lo..hi].iter().any(|s| s.is_nan());
            scores.fill(if poisoned { f32::NAN } else { 0.0 });
            if poisoned {
                *weight = f32::NAN;
            }
            return 1.0;
        }
        // e^0 is exactly 1, so the short cut gives the same bits.
        let decay = if top == *max { 1.0 } else { math::exp(pulp::Scalar::new(), *max - top) };
        let shift = simd.splat_f32s(top);
        let mut total = simd.splat_f32s(0.0);
        for v in vectors {
            *v = math::exp(simd, simd.sub_f32s(*v, shift));
            total = simd.add_f32s(total, *v);
        }
        *max = top;
        *weight = *weight * decay + simd.reduce_sum_f32s(total);
        decay
    }
}

/// `scores[r][position] = q[r] . key` for `V` vectors of positions from vector `at` on.
#[inline(always)]
fn score<S: Simd, K: Source<S>, const R: usize, const V: usize>(
    simd: S,
    q: &[[f32; R]],
    keys: K,
    at: usize,
    scores: &mut Scores,
) {
    let mut acc = [[simd.splat_f32s(0.0); V]; R];
    for (i, q) in q.iter().enumerate() {
        let first = i * (PAGE / S::F32_LANES) + at;
        let mut key = [simd.splat_f32s(0.0); V];
        for j in 0..V {
            key[j] = keys.vector(simd, first + j);
        }
        for r in 0..R {
            let q = simd.splat_f32s(q[r]);
            for j in 0..V {
                acc[r][j] = simd.mul_add_e_f32s(q, key[j], acc[r][j]);
            }
        }
    }
    for r in 0..R {
        S::as_mut_simd_f32s(&mut scores[r]).0[at..at + V].copy_from_slice(&acc[r]);
    }
}

/// `sums[r] = decay[r] sums[r] + weights[r][position] value`, over the positions of `span` and the
/// `V` vectors of columns from vector `at` on. Returns V.
#[inline(always)]
fn weigh<S: Simd, K: Source<S>, const R: usize, const V: usize>(
    simd: S,
    weights: &Scores,
    decay: &[f32; R],
    (values, n): (K, usize),
    at: usize,
    span: (usize, usize),
    sums: &mut [S::f32s],
) -> usize {
    let mut acc = [[simd.splat_f32s(0.0); V]; R];
    for r in 0..R {
        let decay = simd.splat_f32s(decay[r]);
        for j in 0..V {
            acc[r][j] = simd.mul_f32s(decay, sums[r * n + at + j]);
        }
    }
    for position in span.0..span.1.min(PAGE) {
        let mut value = [simd.splat_f32s(0.0); V];
        for j in 0..V {
            value[j] = values.vector(simd, position * n + at + j);
        }
        for r in 0..R {
            let weight = simd.splat_f32s(weights[r][position]);
            for j in 0..V {
                acc[r][j] = simd.mul_add_e_f32s(weight, value[j], acc[r][j]);
            }
        }
    }
    for r in 0..R {
        sums[r * n + at..][..V].copy_from_slice(&acc[r]);
    }
    V
}

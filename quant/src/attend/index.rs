//! Scores of a sparse-attention indexer (DeepSeek-AI, DeepSeek-V3.2, 2025): how much a query wants to
//! see each position.
//!
//! `score[t] = sum over heads h of weight[h] * max(q[h] . key[t], 0)`. A page of keys is converted to
//! f32 once for all heads of a query. **One order of addition**: a product is the chain that
//! [`attend`](super::attend()) has for a score, a score a chain over the heads from head 0 on; so its
//! bits depend on nothing but the query and the key.

use super::kernel::{Ahead, Floats, GROUP, Scores, Side, Source};
use super::pages::{code_bytes, read_keys, read_scales};
use super::span::pack_queries;
use super::{PAGE, SPAN};
use crate::KvType;
use crate::vector::{Q8_LEN, Vector};
use pulp::{Simd, WithSimd};

/// One row's heads, all of which read the same keys.
#[derive(Clone, Copy, Debug)]
pub struct IndexQuery<'a> {
    /// `[n_head, head_dim]`.
    pub q: &'a [f32],
    /// `[n_head]`.
    pub weights: &'a [f32],
}

/// Floats of scratch that [`index_scores`] needs.
pub fn index_scratch_len(n_head: usize, head_dim: usize) -> usize {
    PAGE * (head_dim + head_dim.div_ceil(Q8_LEN)) + n_head * head_dim + GROUP * SPAN
}

/// Scores of all positions of `pages`, to `out`, `[pages, PAGE]`.
///
/// A page is `PAGE * ty.row_bytes(head_dim)` bytes as [`store_key`](super::store_key) puts keys,
/// aligned to 4; positions that hold nothing yet get scores that mean nothing. `scratch` has at least
/// [`index_scratch_len`] floats; what is in it does not matter.
///
/// # Panics
/// If a length breaks what is said above.
pub fn index_scores<'p>(
    vector: Vector,
    (ty, head_dim): (KvType, usize),
    query: IndexQuery<'_>,
    pages: impl IntoIterator<Item = &'p [u8]>,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let n_head = query.weights.len();
    assert_eq!(query.q.len(), n_head * head_dim, "queries are [n_head, head_dim]");
    let needed = index_scratch_len(n_head, head_dim);
    assert!(scratch.len() >= needed, "scratch of {} floats, needs {needed}", scratch.len());
    let (keys, scratch) = scratch.split_at_mut(PAGE * head_dim);
    let (scales, scratch) = scratch.split_at_mut(PAGE * head_dim.div_ceil(Q8_LEN));
    let (packed, scratch) = scratch.split_at_mut(query.q.len());
    pack_queries(query.q, head_dim, packed);
    let scores = &mut scratch[..GROUP * SPAN];
    let mut sum = Index { q: packed, weights: query.weights, head_dim, scores };
    let mut out = out.chunks_exact_mut(PAGE);
    for page in pages {
        let out = out.next().expect("a place for each page");
        assert_eq!(page.len(), PAGE * ty.row_bytes(head_dim), "bytes of a page");
        if ty == KvType::F32 {
            let keys = bytemuck::cast_slice(page);
            sum.page(vector, Floats::<false>(keys, PAGE), &[], out);
            continue;
        }
        read_keys(ty, vector, (page, head_dim), keys);
        let scales = read_scales(ty, vector, (page, head_dim), scales);
        match code_bytes(ty) {
            0 => sum.page(vector, Floats::<false>(keys, PAGE), scales, out),
            _ => sum.page(vector, Floats::<true>(keys, PAGE), scales, out),
        }
    }
    assert!(out.next().is_none(), "a page for each place");
}

/// A query on its way through the pages.
struct Index<'a> {
    /// In groups of [`GROUP`], each `[head_dim, group]`.
    q: &'a [f32],
    weights: &'a [f32],
    head_dim: usize,
    /// Rows [`SPAN`] apart.
    scores: &'a mut [f32],
}

impl Index<'_> {
    fn page<K: Source>(&mut self, vector: Vector, source: K, scales: &[f32], out: &mut [f32]) {
        let keys = Side { source, scales, ahead: Ahead::NONE };
        vector.dispatch(PageOf { index: self, keys, out });
    }
}

/// One page on its way through the dispatch.
struct PageOf<'a, 'i, K> {
    index: &'a mut Index<'i>,
    keys: Side<'a, K>,
    /// `[PAGE]`.
    out: &'a mut [f32],
}

impl<K: Source> WithSimd for PageOf<'_, '_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PageOf { index, keys, out } = self;
        let zero = simd.splat_f32s(0.0);
        let out = S::as_mut_simd_f32s(out).0;
        out.fill(zero);
        let groups = index.q.chunks(GROUP * index.head_dim).zip(index.weights.chunks(GROUP));
        for (q, weights) in groups {
            let scores = &mut *index.scores;
            Scores { q, keys, seen: 0..PAGE, out: scores }.run(simd, weights.len());
            for (&weight, scores) in weights.iter().zip(index.scores.chunks_exact(SPAN)) {
                let weight = simd.splat_f32s(weight);
                let scores = S::as_simd_f32s(&scores[..PAGE]).0;
                for (out, &score) in out.iter_mut().zip(scores) {
                    *out = simd.mul_add_e_f32s(weight, simd.max_f32s(score, zero), *out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::attend::store_key;

    /// Values without pattern.
    fn value(i: usize) -> f32 {
        ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0
    }

    /// The largest difference to exact arithmetic over the keys as stored, over the largest score.
    fn error(vector: Vector, ty: KvType, n_head: usize, dim: usize) -> f64 {
        let n_pages = 3;
        let q: Vec<f32> = (0..n_head * dim).map(value).collect();
        let weights: Vec<f32> = (0..n_head).map(|h| value(h + 5000)).collect();
        let bytes = PAGE * ty.row_bytes(dim);
        let mut pages = vec![0u32; (n_pages * bytes).div_ceil(4)];
        let pages: &mut [u8] = bytemuck::cast_slice_mut(&mut pages);
        let mut expected = Vec::new();
        for at in 0..n_pages * PAGE {
            let key: Vec<f32> = (0..dim).map(|i| value(at * dim + i + 77)).collect();
            let mut stored = vec![0u32; ty.row_bytes(dim).div_ceil(4)];
            let stored = &mut bytemuck::cast_slice_mut(&mut stored)[..ty.row_bytes(dim)];
            let mut kept = vec![0.0; dim];
            ty.encode(vector, &key, stored);
            ty.decode(vector, stored, &mut kept);
            let dot = |h: usize| {
                let pairs = q[h * dim..].iter().zip(&kept);
                pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
            };
            expected.push((0..n_head).map(|h| f64::from(weights[h]) * dot(h).max(0.0)).sum());
            let page = &mut pages[at / PAGE * bytes..][..bytes];
            // SAFETY: a whole page, and one thread.
            unsafe { store_key(ty, vector, &key, page.as_mut_ptr(), at % PAGE) };
        }
        let mut out = vec![f32::NAN; n_pages * PAGE];
        let mut scratch = vec![f32::NAN; index_scratch_len(n_head, dim)];
        let query = IndexQuery { q: &q, weights: &weights };
        index_scores(
            vector,
            (ty, dim),
            query,
            pages.chunks_exact(bytes).take(n_pages),
            &mut out,
            &mut scratch,
        );
        let largest = expected.iter().fold(0.0, |a: f64, b: &f64| a.max(b.abs()));
        let each = out.iter().zip(&expected).map(|(&a, &b)| (f64::from(a) - b).abs());
        each.fold(0.0, f64::max) / largest
    }

    #[test]
    fn scores_are_those_of_exact_arithmetic() {
        for isa in Isa::available() {
            for ty in KvType::ALL {
                for (n_head, dim) in [(1, 32), (2, 64), (7, 40), (64, 128)] {
                    let error = error(Vector::new(isa), ty, n_head, dim);
                    assert!(error < 3e-6, "{isa:?} {ty}, {n_head} heads of {dim}: {error:.1e}");
                }
            }
        }
    }
}

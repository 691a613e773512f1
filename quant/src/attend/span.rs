//! Spans of positions for a tile of queries: all scores of a span, then its weights, then its sums.

use super::kernel::{
    Ahead, Bytes, Change, Floats, GROUP, Halves, KeyNibbles, Scaled, Scores, Side, Source,
    ValueNibbles, Weigh, soften,
};
use super::pages::{code_bytes, read_keys, read_scales, read_values};
use super::part::{add, begin, divide, part_len, set_weight};
use super::rows::{convert_rows, transpose_keys};
use super::{BLOCK, KvLayout, PAGE, PageRef, QueryRow, QueryTile, SPAN, check, padded};
use crate::KvType;
use crate::isa::half::has_load;
use crate::isa::prefetch::prefetch;
use crate::vector::{Q8_LEN, Vector};
use pulp::{Simd, WithSimd};
use std::iter::Peekable;
use std::ops::Range;

/// Floats of scratch for a tile of `n_q` queries.
pub(super) fn scratch_len(layout: &KvLayout, n_q: usize) -> usize {
    let (dk, dv) = (padded(layout.head_dim_k), padded(layout.head_dim_v));
    let scales = dk.div_ceil(Q8_LEN).max(dv.div_ceil(Q8_LEN));
    let page = PAGE * (dk + dv + scales) + BLOCK * dk;
    page + n_q * (layout.head_dim_k + SPAN + 2 * part_len(layout.head_dim_v))
}

/// What becomes of the spans.
pub(super) enum Target<'a> {
    /// Their sum, divided: `[n_q, head_dim_v]`.
    Sum(&'a mut [f32]),
    /// Each of a range by itself: `[span, n_q, part_len]`.
    Parts(Range<usize>, &'a mut [f32]),
}

/// The arguments of `attend` on their way through the dispatch.
pub(super) struct Attend<'a, 'p> {
    pub vector: Vector,
    pub layout: KvLayout,
    pub tile: &'a QueryTile<'a>,
    pub pages: &'a mut dyn Iterator<Item = PageRef<'p>>,
    pub target: Target<'a>,
    pub scratch: &'a mut [f32],
}

impl WithSimd for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attend { vector, layout, tile, pages, target, scratch } = self;
        let (n_q, len) = (tile.rows.len(), part_len(layout.head_dim_v));
        let seen = |page: &PageRef<'_>| tile.rows.iter().any(|row| !row.visible(page).is_empty());
        let mut pages = pages.filter(seen).inspect(|page| check(&layout, page)).peekable();
        let (mut work, rest) = Work::new::<S>(vector, layout, tile, scratch);
        match target {
            Target::Parts(range, parts) => {
                for (span, part) in range.zip(parts.chunks_exact_mut(n_q * len)) {
                    work.span(simd, span, &mut pages, part);
                }
            }
            Target::Sum(out) => {
                let (totals, rest) = rest.split_at_mut(n_q * len);
                let parts = &mut rest[..n_q * len];
                for (total, row) in totals.chunks_exact_mut(len).zip(tile.rows) {
                    begin(total, row.sink);
                }
                while let Some(page) = pages.peek() {
                    let span = page.first_pos / SPAN;
                    work.span(simd, span, &mut pages, parts);
                    for (total, part) in totals.chunks_exact_mut(len).zip(parts.chunks_exact(len)) {
                        add(simd, total, part);
                    }
                }
                let out = out.chunks_exact_mut(layout.head_dim_v);
                out.zip(totals.chunks_exact(len)).for_each(|(out, total)| divide(total, out));
            }
        }
    }
}

/// A tile and the scratch for its pages.
struct Work<'a> {
    vector: Vector,
    layout: KvLayout,
    tile: &'a QueryTile<'a>,
    /// Pages are read as they are stored, where that can be.
    direct: bool,
    /// A page of keys, `[head_dim_k, PAGE]`.
    keys: &'a mut [f32],
    /// A page of values, `[PAGE, padded(head_dim_v)]`.
    values: &'a mut [f32],
    /// Scales of a page of keys or values, `[block, PAGE]`.
    scales: &'a mut [f32],
    /// Rows of keys on their way to columns.
    block: &'a mut [f32],
    /// In groups of [`GROUP`], each `[head_dim_k, group]`.
    queries: &'a mut [f32],
    /// Scores, then weights, `[n_q, SPAN]`.
    scores: &'a mut [f32],
    scaled: Scaled,
}

impl<'a> Work<'a> {
    /// Takes its part of the scratch and returns the rest.
    #[inline(always)]
    fn new<S: Simd>(
        vector: Vector,
        layout: KvLayout,
        tile: &'a QueryTile<'a>,
        scratch: &'a mut [f32],
    ) -> (Work<'a>, &'a mut [f32]) {
        let n_q = tile.rows.len();
        let (dk, dv) = (padded(layout.head_dim_k), padded(layout.head_dim_v));
        let (keys, scratch) = scratch.split_at_mut(PAGE * dk);
        let (values, scratch) = scratch.split_at_mut(PAGE * dv);
        let n_blocks = dk.div_ceil(Q8_LEN).max(dv.div_ceil(Q8_LEN));
        let (scales, scratch) = scratch.split_at_mut(PAGE * n_blocks);
        let (block, scratch) = scratch.split_at_mut(BLOCK * dk);
        let (queries, scratch) = scratch.split_at_mut(n_q * layout.head_dim_k);
        let (scores, rest) = scratch.split_at_mut(n_q * SPAN);
        // A single group reads pages as it goes; more share a conversion.
        let lanes = S::F32_LANES;
        let direct = n_q <= GROUP && !layout.v_in_k && has_load(vector.isa(), lanes);
        // Columns beyond head_dim, and positions beyond the last, are computed along and dropped: they
        // only must not be slow (subnormals) or trap, so what an earlier call left there is cleared.
        if layout.v_in_k {
            keys.fill(0.0);
            block.fill(0.0);
        }
        if dv != layout.head_dim_v {
            values.fill(0.0);
        }
        pack_queries(tile.q, layout.head_dim_k, queries);
        let scaled = [[[0.0; PAGE]; GROUP]; 2];
        let work = Work {
            vector,
            layout,
            tile,
            direct,
            keys,
            values,
            scales,
            block,
            queries,
            scores,
            scaled,
        };
        (work, rest)
    }

    /// The parts of one span, `[n_q, part_len]`, from the pages that lie in it.
    #[inline(always)]
    fn span<'p, S: Simd>(
        &mut self,
        simd: S,
        span: usize,
        pages: &mut Peekable<impl Iterator<Item = PageRef<'p>>>,
        parts: &mut [f32],
    ) {
        let len = part_len(self.layout.head_dim_v);
        parts.chunks_exact_mut(len).for_each(|part| begin(part, f32::NEG_INFINITY));
        let mut list = [PageRef { k: &[], v: &[], first_pos: 0, n: 0 }; SPAN / PAGE];
        let mut n = 0;
        while let Some(page) = pages.next_if(|page| page.first_pos / SPAN == span) {
            list[n] = page;
            n += 1;
        }
        let list = &list[..n];
        let (Some(first), Some(last)) = (list.first(), list.last()) else { return };
        let held = first.first_pos..last.first_pos + last.n;
        let next = pages.peek().map_or(&[][..], |page| page.k);
        for (i, page) in list.iter().enumerate() {
            self.score_page(simd, page, list.get(i + 1).map_or(first.v, |page| page.k));
        }
        self.weights(simd, span * SPAN, &held, parts);
        for (i, page) in list.iter().enumerate() {
            self.weigh_page(simd, page, list.get(i + 1).map_or(next, |page| page.v), parts);
        }
    }

    /// Scores of a page; `ahead` is what will be read next.
    #[inline(always)]
    fn score_page<S: Simd>(&mut self, simd: S, page: &PageRef<'_>, ahead: &[u8]) {
        let KvLayout { k: ty, head_dim_k: dim, v_in_k, .. } = self.layout;
        let k = page.k;
        let ahead = match self.direct {
            true => Ahead::new(ahead, dim),
            false => {
                prefetch(ahead);
                Ahead::NONE
            }
        };
        let is_scaled = code_bytes(ty) > 0 && !v_in_k;
        let scales = match is_scaled {
            true => read_scales(ty, self.vector, (k, dim), self.scales),
            false => &[],
        };
        let groups =
            Groups { rows: self.tile.rows, queries: self.queries, dim, page, scores: self.scores };
        match ty {
            KvType::F32 if !v_in_k => {
                let source = bytemuck::cast_slice(k);
                groups.score(simd, Side { source: Floats::<false>(source, PAGE), scales, ahead })
            }
            KvType::F16 if self.direct => groups
                .score(simd, Side { source: Halves(bytemuck::cast_slice(k), PAGE), scales, ahead }),
            KvType::Q8_0 if self.direct => {
                groups.score(simd, Side { source: Bytes(k, PAGE), scales, ahead })
            }
            KvType::Q4_0 if self.direct => {
                groups.score(simd, Side { source: KeyNibbles(k), scales, ahead })
            }
            _ => {
                match v_in_k {
                    true => transpose_keys(self.vector, &self.layout, page, self.block, self.keys),
                    false => read_keys(ty, self.vector, (k, dim), self.keys),
                }
                let keys = &*self.keys;
                match is_scaled {
                    true => groups
                        .score(simd, Side { source: Floats::<true>(keys, PAGE), scales, ahead }),
                    false => groups
                        .score(simd, Side { source: Floats::<false>(keys, PAGE), scales, ahead }),
                }
            }
        }
    }

    /// Turns the scores of a span that starts at `first` into weights. `held` are the positions of
    /// its pages.
    #[inline(always)]
    fn weights<S: Simd>(&mut self, simd: S, first: usize, held: &Range<usize>, parts: &mut [f32]) {
        let change = Change { softcap: self.tile.softcap, bias: self.tile.bias };
        let len = part_len(self.layout.head_dim_v);
        let seen = |row: &QueryRow| {
            let at = |pos: usize| pos.clamp(held.start, held.end) - first;
            at(row.first)..at(row.end)
        };
        let rows = self.tile.rows.chunks(GROUP);
        for ((rows, scores), parts) in
            rows.zip(self.scores.chunks_mut(GROUP * SPAN)).zip(parts.chunks_mut(GROUP * len))
        {
            let all = union(rows.iter().map(seen));
            if all.is_empty() {
                continue;
            }
            let each = rows.iter().zip(scores.chunks_exact_mut(SPAN));
            for ((row, scores), part) in each.zip(parts.chunks_exact_mut(len)) {
                let weight = soften(simd, change, (row, first), (&seen(row), &all), scores);
                set_weight(part, weight);
            }
        }
    }

    /// Adds a page's values; `ahead` is what will be read next.
    #[inline(always)]
    fn weigh_page<S: Simd>(
        &mut self,
        simd: S,
        page: &PageRef<'_>,
        ahead: &[u8],
        parts: &mut [f32],
    ) {
        let KvLayout { v: ty, head_dim_v: dim, v_in_k, .. } = self.layout;
        let (v, lanes) = (page.v, S::F32_LANES);
        let ahead = match self.direct {
            true => Ahead::new(ahead, PAGE),
            false => {
                prefetch(ahead);
                Ahead::NONE
            }
        };
        let is_scaled = code_bytes(ty) > 0 && !v_in_k;
        let scales = match is_scaled {
            true => read_scales(ty, self.vector, (v, dim), self.scales),
            false => &[],
        };
        let sums = Sums {
            rows: self.tile.rows,
            weights: self.scores,
            dim,
            page,
            parts,
            scaled: &mut self.scaled,
        };
        let row = dim.div_ceil(Q8_LEN) * code_bytes(ty);
        let whole = dim.is_multiple_of(lanes);
        match ty {
            KvType::F32 if whole && !v_in_k => {
                let source = bytemuck::cast_slice(v);
                sums.weigh(simd, Side { source: Floats::<false>(source, dim), scales, ahead })
            }
            KvType::F16 if self.direct && whole => sums
                .weigh(simd, Side { source: Halves(bytemuck::cast_slice(v), dim), scales, ahead }),
            KvType::Q8_0 if self.direct => {
                sums.weigh(simd, Side { source: Bytes(v, row), scales, ahead })
            }
            KvType::Q4_0 if self.direct => {
                sums.weigh(simd, Side { source: ValueNibbles(v, row), scales, ahead })
            }
            _ => {
                let stride = padded(dim);
                match v_in_k {
                    true => {
                        let rows = (dim, self.layout.k_row_bytes());
                        convert_rows(self.vector, ty, rows, page.n, v, self.values)
                    }
                    false => read_values(ty, self.vector, (v, dim, page.n), (self.values, stride)),
                }
                let values = &*self.values;
                match is_scaled {
                    true => sums.weigh(
                        simd,
                        Side { source: Floats::<true>(values, stride), scales, ahead },
                    ),
                    false => sums.weigh(
                        simd,
                        Side { source: Floats::<false>(values, stride), scales, ahead },
                    ),
                }
            }
        }
    }
}

/// The smallest range that holds all that are not empty.
#[inline(always)]
fn union(ranges: impl Iterator<Item = Range<usize>>) -> Range<usize> {
    let (mut start, mut end) = (usize::MAX, 0);
    for range in ranges.filter(|range| !range.is_empty()) {
        (start, end) = (start.min(range.start), end.max(range.end));
    }
    start.min(end)..end
}

/// What the groups of a tile need for the scores of a page.
struct Groups<'a> {
    rows: &'a [QueryRow],
    queries: &'a [f32],
    dim: usize,
    page: &'a PageRef<'a>,
    scores: &'a mut [f32],
}

impl Groups<'_> {
    #[inline(always)]
    fn score<S: Simd, K: Source>(self, simd: S, keys: Side<'_, K>) {
        let at = self.page.first_pos % SPAN;
        let queries = self.queries.chunks(GROUP * self.dim);
        let groups = self.rows.chunks(GROUP).zip(queries);
        for ((rows, q), out) in groups.zip(self.scores.chunks_mut(GROUP * SPAN)) {
            let seen = union(rows.iter().map(|row| row.visible(self.page)));
            if !seen.is_empty() {
                Scores { q, keys, seen, out: &mut out[at..] }.run(simd, rows.len());
            }
        }
    }
}

/// What the groups of a tile need for the values of a page.
struct Sums<'a> {
    rows: &'a [QueryRow],
    weights: &'a [f32],
    dim: usize,
    page: &'a PageRef<'a>,
    parts: &'a mut [f32],
    scaled: &'a mut Scaled,
}

impl Sums<'_> {
    #[inline(always)]
    fn weigh<S: Simd, K: Source>(self, simd: S, values: Side<'_, K>) {
        let at = self.page.first_pos % SPAN;
        let len = part_len(self.dim);
        let groups = self.rows.chunks(GROUP).zip(self.weights.chunks(GROUP * SPAN));
        for ((rows, weights), parts) in groups.zip(self.parts.chunks_mut(GROUP * len)) {
            let seen = union(rows.iter().map(|row| row.visible(self.page)));
            if !seen.is_empty() {
                let (weights, scaled) = (&weights[at..], &mut *self.scaled);
                let (sums, columns, stride) = (parts, self.dim, len);
                Weigh { weights, values, seen, sums, columns, stride, scaled }
                    .run(simd, rows.len());
            }
        }
    }
}

/// Queries in groups of [`GROUP`] (the last may be smaller), each `[head_dim_k, group]`: what one
/// step of the score kernel broadcasts lies together.
pub(super) fn pack_queries(q: &[f32], head_dim: usize, packed: &mut [f32]) {
    for (q, packed) in q.chunks(GROUP * head_dim).zip(packed.chunks_mut(GROUP * head_dim)) {
        let n = q.len() / head_dim;
        for (r, q) in q.chunks_exact(head_dim).enumerate() {
            for (packed, &x) in packed[r..].iter_mut().step_by(n).zip(q) {
                *packed = x;
            }
        }
    }
}

//! Attention of one key/value head over paged keys and values, for a tile of queries.
//!
//! For every query q: out = sum over visible positions t of softmax(q . k_t) v_t, computed page by
//! page with a running maximum and a running sum (Milakov and Gimelshein, 2018; Dao et al., 2022),
//! everything in f32. Per page: keys and values are converted to f32 once, and all queries of the
//! tile (the rows of the micro-batch and the query heads that share this key/value head) use them.
//! Keys are stored with positions side by side ([`store_key`]), as they are used.
//!
//! **One order of addition.** A query's result has the same bits whatever else is in the tile:
//! - page boundaries are absolute positions, so a query always meets the same pages;
//! - a score is a chain of multiply-adds over head_dim_k from element 0 on, an output one over the
//!   page's positions in order; the tile's shape decides which chains run side by side, not what
//!   is in them;
//! - a page or position that this query does not see but another does contributes a factor
//!   e^0 = 1 and terms 0 * v, which change nothing for finite v (a zero's sign is settled at the
//!   end).

mod columns;
mod kernel;

pub use columns::store_key;

use crate::KvType;
use crate::isa::half::has_load;
use crate::isa::prefetch::prefetch;
use crate::isa::transpose::{Half, ROWS, transpose_f32, transpose_half};
use crate::vector::Vector;
use kernel::{Floats, GROUP, Halves, PageJob, State};
use pulp::{Simd, WithSimd};

/// Positions of a page. A page starts at a multiple of this.
pub const PAGE: usize = 64;

/// Rows converted and transposed together; a multiple of every instruction set's lanes.
const BLOCK: usize = ROWS;

/// How the pages of one layer and key/value head are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Type of the keys.
    pub k: KvType,
    /// Type of the values.
    pub v: KvType,
    /// Elements of a key (and of a query).
    pub head_dim_k: usize,
    /// Elements of a value (and of an output).
    pub head_dim_v: usize,
    /// A value is the first `head_dim_v` elements of its position's key (latent attention): the
    /// types are equal and [`PageRef::v`] is [`PageRef::k`].
    pub v_in_k: bool,
}

impl KvLayout {
    /// Bytes of one position's key.
    pub fn k_row_bytes(&self) -> usize {
        self.k.row_bytes(self.head_dim_k)
    }

    /// Bytes from one position's value to the next.
    pub fn v_row_bytes(&self) -> usize {
        if self.v_in_k { self.k_row_bytes() } else { self.v.row_bytes(self.head_dim_v) }
    }

    /// Floats of scratch that [`attend`] needs for a tile of `n_q` queries.
    pub fn scratch_len(&self, n_q: usize) -> usize {
        let (dk, dv) = (padded(self.head_dim_k), padded(self.head_dim_v));
        PAGE * (dk + dv) + BLOCK * dk + n_q * (self.head_dim_k + dv + 2)
    }
}

/// One page of one layer and key/value head.
#[derive(Clone, Copy, Debug)]
pub struct PageRef<'a> {
    /// Keys: [`PAGE`] times [`KvLayout::k_row_bytes`] as [`store_key`] puts them, the first `n`
    /// positions valid; with [`KvLayout::v_in_k`], rows, the first `n` of them valid. Aligned to 4
    /// bytes.
    pub k: &'a [u8],
    /// Values: rows of [`KvLayout::v_row_bytes`], the first `n` of them valid. Aligned to 4 bytes.
    pub v: &'a [u8],
    /// Absolute position of row 0, a multiple of [`PAGE`].
    pub first_pos: usize,
    /// Rows in use, at most [`PAGE`].
    pub n: usize,
}

/// What is particular to one query of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryRow {
    /// First visible position (the lower edge of a sliding window, or 0).
    pub first: usize,
    /// One past the last visible position (for causal attention the query's own position + 1).
    /// Nothing is visible where `end <= first`; the output is then zeros.
    pub end: usize,
    /// The query's own position; only ALiBi and biases ask for it.
    pub pos: usize,
    /// A logit that takes part in the softmax and has no value (gpt-oss); -inf for none.
    pub sink: f32,
    /// ALiBi: `slope * |position - pos|` is subtracted from each score; 0 for none.
    pub alibi_slope: f32,
    /// The query's row of [`QueryTile::bias`].
    pub bias_row: usize,
}

impl QueryRow {
    /// A query that sees positions `first..end` and has neither sink nor ALiBi.
    pub fn new(first: usize, end: usize) -> QueryRow {
        QueryRow {
            first,
            end,
            pos: end.saturating_sub(1),
            sink: f32::NEG_INFINITY,
            alibi_slope: 0.0,
            bias_row: 0,
        }
    }

    /// The part of a page that the query sees, as indices into the page; empty if start >= end.
    fn visible(&self, page: &PageRef<'_>) -> (usize, usize) {
        let at = |pos: usize| pos.saturating_sub(page.first_pos).min(page.n);
        (at(self.first), at(self.end))
    }
}

/// The queries of one call: rows of the micro-batch times query heads of one key/value head, in
/// any order, all of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct QueryTile<'a> {
    /// `[n_q, head_dim_k]`: rotated and already multiplied by the attention scale.
    pub q: &'a [f32],
    /// `[n_q]`.
    pub rows: &'a [QueryRow],
    /// Scores become `cap * tanh(score / cap)` before masking (Gemma 2).
    pub softcap: Option<f32>,
    /// Added to scores by distance.
    pub bias: Option<DistanceBias<'a>>,
}

/// A bias on scores for every distance from a query to a key, up to a bound beyond which it stays
/// the same (T5).
#[derive(Clone, Copy, Debug)]
pub struct DistanceBias<'a> {
    /// `[rows, 2 * span + 1]`, from a key `span` positions before the query on.
    pub table: &'a [f32],
    /// The bound.
    pub span: usize,
}

impl DistanceBias<'_> {
    /// Adds the biases of a query to the scores of a page that starts at position `first`.
    fn add(&self, row: &QueryRow, first: usize, scores: &mut [f32]) {
        let width = 2 * self.span + 1;
        let table = &self.table[row.bias_row * width..(row.bias_row + 1) * width];
        for (i, s) in scores.iter_mut().enumerate() {
            // The key's distance, counted from the one that is `span` before the query.
            let at = (first + i + self.span).saturating_sub(row.pos).min(width - 1);
            *s += table[at];
        }
    }
}

/// Attention of a tile of queries over the pages of one key/value head.
///
/// `pages` yields the sequence's pages in order of position; pages that no query sees may be left
/// out and are skipped otherwise. `out` is `[n_q, head_dim_v]`. `scratch` has at least
/// [`KvLayout::scratch_len`] floats; what is in it does not matter.
///
/// # Panics
/// If a length, or a page's position, breaks what is said above.
pub fn attend<'p>(
    vector: Vector,
    layout: KvLayout,
    tile: &QueryTile<'_>,
    pages: impl IntoIterator<Item = PageRef<'p>>,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let n_q = tile.rows.len();
    assert_eq!(tile.q.len(), n_q * layout.head_dim_k, "queries are [n_q, head_dim_k]");
    assert_eq!(out.len(), n_q * layout.head_dim_v, "outputs are [n_q, head_dim_v]");
    let needed = layout.scratch_len(n_q);
    assert!(scratch.len() >= needed, "scratch of {} floats, needs {needed}", scratch.len());
    let pages: &mut dyn Iterator<Item = PageRef<'p>> = &mut pages.into_iter();
    vector.dispatch(Attend { vector, layout, tile, pages, out, scratch });
}

/// head_dim rounded up to whole registers of every instruction set.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
}

/// The arguments of [`attend`] on their way through the dispatch.
struct Attend<'a, 'p> {
    vector: Vector,
    layout: KvLayout,
    tile: &'a QueryTile<'a>,
    pages: &'a mut dyn Iterator<Item = PageRef<'p>>,
    out: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl WithSimd for Attend<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attend { vector, layout, tile, pages, out, scratch } = self;
        let n_q = tile.rows.len();
        let (dk, dv) = (padded(layout.head_dim_k), padded(layout.head_dim_v));
        let (keys, scratch) = scratch.split_at_mut(PAGE * dk);
        let (values, scratch) = scratch.split_at_mut(PAGE * dv);
        let (block, scratch) = scratch.split_at_mut(BLOCK * dk);
        let (queries, scratch) = scratch.split_at_mut(n_q * layout.head_dim_k);
        let (sums, scratch) = scratch.split_at_mut(n_q * dv);
        let (max, scratch) = scratch.split_at_mut(n_q);
        let weight = &mut scratch[..n_q];

        pack_queries(tile.q, layout.head_dim_k, queries);
        // Columns beyond head_dim are computed along and dropped: they only must not be slow
        // (subnormals) or trap, so what an earlier call left there is cleared.
        keys.fill(0.0);
        if dk != layout.head_dim_k {
            block.fill(0.0);
        }
        if dv != layout.head_dim_v {
            values.fill(0.0);
        }
        sums.fill(0.0);
        for ((max, weight), row) in max.iter_mut().zip(weight.iter_mut()).zip(tile.rows) {
            *max = row.sink;
            *weight = if row.sink == f32::NEG_INFINITY { 0.0 } else { 1.0 };
        }

        let seen = |page: &PageRef<'_>| {
            tile.rows.iter().any(|row| {
                let (lo, hi) = row.visible(page);
                lo < hi
            })
        };
        let mut pages = pages.filter(seen).inspect(|page| check(&layout, page)).peekable();
        // A single group reads half precision as it goes; more share a conversion.
        let direct = n_q <= GROUP
            && (layout.k, layout.v, layout.v_in_k) == (KvType::F16, KvType::F16, false)
            && dv == layout.head_dim_v
            && has_load(vector.isa(), S::F32_LANES);
        let n_columns = dv / S::F32_LANES;
        while let Some(page) = pages.next() {
            let next = pages.peek();
            let groups = tile
                .rows
                .chunks(GROUP)
                .zip(queries.chunks(GROUP * layout.head_dim_k))
                .zip(sums.chunks_mut(GROUP * dv))
                .zip(max.chunks_mut(GROUP).zip(weight.chunks_mut(GROUP)));
            let state =
                |sums, max, weight| State { sums: S::as_mut_simd_f32s(sums).0, max, weight };
            let softcap = tile.softcap;
            if direct {
                if let Some(next) = next {
                    prefetch(next.k);
                    prefetch(next.v);
                }
                let keys = Halves(bytemuck::cast_slice(page.k));
                let values = Halves(bytemuck::cast_slice(page.v));
                let job =
                    PageJob { page: &page, keys, values, n_columns, softcap, bias: tile.bias };
                for (((rows, q), sums), (max, weight)) in groups {
                    job.group(simd, q, rows, state(sums, max, weight));
                }
                continue;
            }
            convert_keys(vector, &layout, &page, next, block, keys);
            convert_values(vector, &layout, &page, next, values);
            let keys = Floats(S::as_simd_f32s(keys).0);
            let values = Floats(S::as_simd_f32s(values).0);
            let job = PageJob { page: &page, keys, values, n_columns, softcap, bias: tile.bias };
            for (((rows, q), sums), (max, weight)) in groups {
                job.group(simd, q, rows, state(sums, max, weight));
            }
        }
        let rows = out.chunks_exact_mut(layout.head_dim_v).zip(sums.chunks_exact(dv));
        for ((out, sums), &weight) in rows.zip(weight.iter()) {
            for (o, &s) in out.iter_mut().zip(sums) {
                // Nothing visible: zeros. Adding zero turns -0 into +0, the one trace that other
                // queries of the tile could leave.
                *o = if weight == 0.0 { 0.0 } else { s / weight + 0.0 };
            }
        }
    }
}

/// Panics unless the page is as promised.
fn check(layout: &KvLayout, page: &PageRef<'_>) {
    assert!(
        page.first_pos.is_multiple_of(PAGE) && page.n <= PAGE,
        "a page of {} positions from {} on: pages of {PAGE} start at its multiples",
        page.n,
        page.first_pos
    );
    let rows = if layout.v_in_k { page.n } else { PAGE };
    let (k, v) = (rows * layout.k_row_bytes(), page.n * layout.v_row_bytes());
    assert!(
        page.k.len() >= k && page.v.len() >= v,
        "a page of {} positions has {} and {} bytes, needs {k} and {v}",
        page.n,
        page.k.len(),
        page.v.len()
    );
}

/// Queries in groups of [`GROUP`] (the last may be smaller), each `[head_dim_k, group]`: what one
/// step of the score kernel broadcasts lies together.
fn pack_queries(q: &[f32], head_dim: usize, packed: &mut [f32]) {
    for (q, packed) in q.chunks(GROUP * head_dim).zip(packed.chunks_mut(GROUP * head_dim)) {
        let n = q.len() / head_dim;
        for (r, q) in q.chunks_exact(head_dim).enumerate() {
            for (packed, &x) in packed[r..].iter_mut().step_by(n).zip(q) {
                *packed = x;
            }
        }
    }
}

/// Converts `n` rows of `head_dim` elements, `row_bytes` apart, to f32, `padded(head_dim)` apart.
fn convert_rows(
    vector: Vector,
    ty: KvType,
    (head_dim, row_bytes): (usize, usize),
    n: usize,
    src: &[u8],
    dst: &mut [f32],
) {
    let bytes = ty.row_bytes(head_dim);
    let stride = padded(head_dim);
    if stride == head_dim && bytes == row_bytes && head_dim.is_multiple_of(32) {
        // No padding on either side: one long row.
        ty.decode(vector, &src[..n * bytes], &mut dst[..n * stride]);
        return;
    }
    for (src, dst) in src.chunks_exact(row_bytes).zip(dst.chunks_exact_mut(stride)).take(n) {
        ty.decode(vector, &src[..bytes], &mut dst[..head_dim]);
    }
}

/// Keys of a page to f32, `[head_dim_k, PAGE]`; meanwhile asks for the next page's.
#[inline(always)]
fn convert_keys(
    vector: Vector,
    layout: &KvLayout,
    page: &PageRef<'_>,
    next: Option<&PageRef<'_>>,
    block: &mut [f32],
    keys: &mut [f32],
) {
    if layout.v_in_k {
        return transpose_keys(vector, layout, page, next, block, keys);
    }
    let dim = layout.head_dim_k;
    let bytes = PAGE * layout.k.row_bytes(BLOCK * 2);
    for first in (0..dim).step_by(BLOCK * 2) {
        if let Some(next) = next {
            prefetch(part(next.k, first / (BLOCK * 2) * bytes, bytes));
        }
        let n = (BLOCK * 2).min(dim - first);
        columns::read_keys(layout.k, vector, page.k, first, n, &mut keys[first * PAGE..]);
    }
}

/// Keys stored as rows to f32, transposed to `[head_dim_k, PAGE]`.
fn transpose_keys(
    vector: Vector,
    layout: &KvLayout,
    page: &PageRef<'_>,
    next: Option<&PageRef<'_>>,
    block: &mut [f32],
    keys: &mut [f32],
) {
    let (dim, bytes) = (layout.head_dim_k, layout.k_row_bytes());
    let half = match layout.k {
        KvType::F16 => Some(Half::F16),
        KvType::BF16 => Some(Half::Bf16),
        KvType::F32 | KvType::Q8_0 => None,
    };
    for first in (0..page.n).step_by(BLOCK) {
        if let Some(next) = next {
            prefetch(part(next.k, first * bytes, BLOCK * bytes));
        }
        let n = BLOCK.min(page.n - first);
        let (src, keys) = (&page.k[first * bytes..][..n * bytes], &mut keys[first..]);
        let done = half.is_some_and(|half| {
            n == BLOCK
                && transpose_half(vector.isa(), half, bytemuck::cast_slice(src), dim, keys, PAGE)
        });
        if !done {
            convert_rows(vector, layout.k, (dim, bytes), n, src, block);
            let columns = dim.next_multiple_of(4);
            transpose_f32(vector.isa(), block, padded(dim), columns, keys, PAGE);
        }
    }
}

/// Values of a page to f32, `[PAGE, padded(head_dim_v)]`; meanwhile asks for the next page's.
fn convert_values(
    vector: Vector,
    layout: &KvLayout,
    page: &PageRef<'_>,
    next: Option<&PageRef<'_>>,
    values: &mut [f32],
) {
    let bytes = layout.v_row_bytes();
    for first in (0..page.n).step_by(BLOCK) {
        if let Some(next) = next {
            prefetch(part(next.v, first * bytes, BLOCK * bytes));
        }
        let n = BLOCK.min(page.n - first);
        let dst = &mut values[first * padded(layout.head_dim_v)..];
        let size = (layout.head_dim_v, bytes);
        convert_rows(vector, layout.v, size, n, &page.v[first * bytes..], dst);
    }
}

/// `len` bytes from `at` on, as far as there are any.
fn part(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    &bytes[at.min(bytes.len())..(at + len).min(bytes.len())]
}

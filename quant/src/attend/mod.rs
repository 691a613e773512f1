//! Attention of one key/value head over paged keys and values, for a tile of queries.
//!
//! For every query q: out = sum over visible positions t of softmax(q . k_t) v_t, span by span of
//! [`SPAN`] positions, everything in f32. In a span the scores of all its pages come first, then their
//! maximum and the weights e^(score - max), then the weighted sum of the values; spans are added with
//! the factors that their maxima call for (Milakov and Gimelshein, 2018; Dao et al., 2022). Per page,
//! keys and values are converted to f32 once for all queries of the tile (the rows of the micro-batch
//! and the query heads that share this key/value head), or read as they are stored where the queries
//! are few. Keys are stored with positions side by side ([`store_key`]), as they are used.
//!
//! Spans can be worked on apart ([`attend_spans`]) and added later ([`sum_spans`]): what lets several
//! threads share one long sequence.
//!
//! **One order of addition.** A query's result has the same bits whatever else is in the tile, and
//! whoever works on its spans:
//! - borders of pages and spans are absolute positions, so a query always meets the same ones;
//! - a score is a chain of multiply-adds over head_dim_k from element 0 on (of blocks: a chain in each
//!   block, then one over blocks), an output of a span one over its positions in order; the tile's
//!   shape decides which chains run side by side, not what is in them;
//! - a position that this query does not see but another does contributes terms 0 * v, which change
//!   nothing for finite v (a zero's sign is settled at the end);
//! - spans are added in the order of their positions, in one place.

mod index;
mod kernel;
mod pages;
mod part;
mod rows;
mod span;

pub use index::{IndexQuery, index_scores, index_scratch_len};
pub use pages::{store_key, store_value};

use crate::KvType;
use crate::isa::transpose::ROWS;
use crate::vector::Vector;
use span::{Attend, Target};
use std::ops::Range;

/// Positions of a page. A page starts at a multiple of this.
pub const PAGE: usize = 64;

/// Positions of a span, a whole number of pages. A span starts at a multiple of this.
pub const SPAN: usize = 8 * PAGE;

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
        span::scratch_len(self, n_q)
    }

    /// Floats of a query's part of a span, as [`attend_spans`] leaves it for [`sum_spans`].
    pub fn part_len(&self) -> usize {
        part::part_len(self.head_dim_v)
    }
}

/// One page of one layer and key/value head.
#[derive(Clone, Copy, Debug)]
pub struct PageRef<'a> {
    /// Keys: [`PAGE`] times [`KvLayout::k_row_bytes`] as [`store_key`] puts them, the first `n`
    /// positions valid; with [`KvLayout::v_in_k`], rows, the first `n` of them valid. Aligned to 4
    /// bytes.
    pub k: &'a [u8],
    /// Values: [`PAGE`] times [`KvLayout::v_row_bytes`] as [`store_value`] puts them, the first `n`
    /// positions valid; with [`KvLayout::v_in_k`], the keys. Aligned to 4 bytes.
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

    /// The part of a page that the query sees, as indices into the page.
    fn visible(&self, page: &PageRef<'_>) -> Range<usize> {
        let at = |pos: usize| pos.saturating_sub(page.first_pos).min(page.n);
        at(self.first)..at(self.end)
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
    assert_eq!(out.len(), tile.rows.len() * layout.head_dim_v, "outputs are [n_q, head_dim_v]");
    run(vector, layout, tile, &mut pages.into_iter(), Target::Sum(out), scratch);
}

/// What a tile of queries gets of each span of `spans` (numbers of spans: positions over [`SPAN`]),
/// for [`sum_spans`] to add.
///
/// `pages` begin with the first page of those spans that a query sees; pages that follow the last
/// span are not used, but the first of them is asked for ahead. `parts` is
/// `[spans, n_q, KvLayout::part_len]`. Otherwise as [`attend`].
///
/// # Panics
/// As [`attend`].
pub fn attend_spans<'p>(
    vector: Vector,
    layout: KvLayout,
    tile: &QueryTile<'_>,
    (spans, pages): (Range<usize>, impl IntoIterator<Item = PageRef<'p>>),
    parts: &mut [f32],
    scratch: &mut [f32],
) {
    let needed = spans.len() * tile.rows.len() * layout.part_len();
    assert_eq!(parts.len(), needed, "parts are [spans, n_q, part_len]");
    run(vector, layout, tile, &mut pages.into_iter(), Target::Parts(spans, parts), scratch);
}

/// A query's result from its parts of all spans that it may see, in order of position: the same bits
/// as from [`attend`]. `sink` is that of [`QueryRow`], `out` `[head_dim_v]`; what is in `scratch`,
/// at least `part_len` floats, does not matter.
///
/// # Panics
/// If a length breaks what is said above.
pub fn sum_spans<'p>(
    vector: Vector,
    layout: KvLayout,
    sink: f32,
    parts: impl IntoIterator<Item = &'p [f32]>,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(out.len(), layout.head_dim_v, "an output is [head_dim_v]");
    let total = &mut scratch[..layout.part_len()];
    part::begin(total, sink);
    vector.dispatch(part::SumParts { total: &mut *total, parts: &mut parts.into_iter() });
    part::divide(total, out);
}

fn run<'p>(
    vector: Vector,
    layout: KvLayout,
    tile: &QueryTile<'_>,
    pages: &mut dyn Iterator<Item = PageRef<'p>>,
    target: Target<'_>,
    scratch: &mut [f32],
) {
    let n_q = tile.rows.len();
    assert_eq!(tile.q.len(), n_q * layout.head_dim_k, "queries are [n_q, head_dim_k]");
    let needed = layout.scratch_len(n_q);
    assert!(scratch.len() >= needed, "scratch of {} floats, needs {needed}", scratch.len());
    vector.dispatch(Attend { vector, layout, tile, pages, target, scratch });
}

/// head_dim rounded up to whole registers of every instruction set.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
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
    let (k, v) = (rows * layout.k_row_bytes(), rows * layout.v_row_bytes());
    assert!(
        page.k.len() >= k && page.v.len() >= v,
        "a page of {} positions has {} and {} bytes, needs {k} and {v}",
        page.n,
        page.k.len(),
        page.v.len()
    );
}

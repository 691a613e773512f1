//! Attention itself: tiles of queries over the pages of their sequences.

use super::{Cx, Private};
use crate::state::KvLayer;
use crate::step::Segment;
use crate::team::Worker;
use quant::{DistanceBias, KvLayout, KvType, PAGE, PageRef, QueryRow, QueryTile};
use std::ops::Range;

/// Most queries (rows times query heads of one key/value head) that share the conversion of a page.
const TILE: usize = 96;

/// The shape of attention over one body's keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attend<'a> {
    pub(crate) n_head: usize,
    pub(crate) n_head_kv: usize,
    pub(crate) head_dim_k: usize,
    pub(crate) head_dim_v: usize,
    /// Values are the first elements of keys.
    pub(crate) v_in_k: bool,
    /// Values from one query head to the next.
    pub(crate) q_stride: usize,
    pub(crate) softcap: Option<f32>,
    /// A bias by distance, with a row for each query head.
    pub(crate) bias: Option<DistanceBias<'a>>,
    /// Keys and values are those of the encoder, all of which are seen.
    pub(crate) memory: bool,
    /// Index of the keys and values in the state.
    pub(crate) kv: usize,
}

impl Attend<'_> {
    fn layout(&self, k: KvType, v: KvType) -> KvLayout {
        let v = if self.v_in_k { k } else { v };
        let (head_dim_k, head_dim_v) = (self.head_dim_k, self.head_dim_v);
        KvLayout { k, v, head_dim_k, head_dim_v, v_in_k: self.v_in_k }
    }

    /// Floats of a worker's scratch.
    pub(crate) fn scratch_len(&self) -> usize {
        // The types of keys and values do not change what the kernel needs.
        let kernel = self.layout(KvType::F32, KvType::F32).scratch_len(TILE);
        kernel + TILE * (self.head_dim_k + self.head_dim_v)
    }

    /// Attention of all rows, as a phase without its barrier: queries from the buffer q, results to
    /// the buffer o. `query(head, pos, end)` says what a query sees of a sequence that holds `end`
    /// positions with this step; `finish(row, head, result)` has the last word on a result.
    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        query: impl Fn(usize, usize, usize) -> QueryRow,
        finish: impl Fn(usize, usize, &mut [f32]),
    ) {
        let group = self.n_head / self.n_head_kv;
        let rows_per_tile = (TILE / group).max(1);
        let tiles = |s: &Segment| s.rows.len().div_ceil(rows_per_tile);
        let total: usize = cx.batch.segments.iter().map(tiles).sum();
        // Where workers would go idle, the query heads of a group part; the bits stay the same.
        let idle = w.n_threads().div_ceil((total * self.n_head_kv).max(1));
        let parts = group.div_ceil(TILE).max(idle.min(group));
        let per_part = group.div_ceil(parts);
        let items = total * self.n_head_kv * parts;
        while let Some(claim) = w.claim(items, 1) {
            // The last tiles see most: begin with them.
            let item = items - 1 - claim.start;
            let (mut tile, part) = (item / (self.n_head_kv * parts), item % parts);
            let head_kv = item / parts % self.n_head_kv;
            let heads = part * per_part..group.min((part + 1) * per_part);
            let heads = head_kv * group + heads.start..head_kv * group + heads.end;
            if heads.is_empty() {
                continue;
            }
            for segment in &cx.batch.segments {
                let n = tiles(segment);
                if tile < n {
                    let first = segment.rows.start + tile * rows_per_tile;
                    let rows = first..segment.rows.end.min(first + rows_per_tile);
                    let private = &cx.bufs.private[w.index()];
                    self.tile(cx, private, segment, (rows, heads), (&query, &finish));
                    break;
                }
                tile -= n;
            }
        }
    }

    /// Rows of the batch's order, all of one segment, for query heads of one group.
    fn tile(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        segment: &Segment,
        (rows, heads): (Range<usize>, Range<usize>),
        (query, finish): (
            &impl Fn(usize, usize, usize) -> QueryRow,
            &impl Fn(usize, usize, &mut [f32]),
        ),
    ) {
        let (dk, dv) = (self.head_dim_k, self.head_dim_v);
        let state = if self.memory { cx.memory() } else { cx.state };
        let o = state.options();
        let layout = self.layout(o.type_k, o.type_v);
        let n_q = rows.len() * heads.len();
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { private.attend.part_mut(0..private.attend.len()) };
        let (q, scratch) = scratch.split_at_mut(n_q * dk);
        let (out, scratch) = scratch.split_at_mut(n_q * dv);
        let mut queries = [QueryRow::new(0, 0); TILE];
        let queries = &mut queries[..n_q];
        let seq_end = match self.memory {
            true => state.len(segment.seq),
            false => segment.first_pos + segment.rows.len(),
        };
        let (mut first, mut end) = (usize::MAX, 0);
        let pairs = |rows: &Range<usize>| {
            let heads = heads.clone();
            let order = cx.batch.order[rows.clone()].iter();
            order.flat_map(move |&row| heads.clone().map(move |head| (row as usize, head)))
        };
        for (i, (row, head)) in pairs(&rows).enumerate() {
            let at = (row * self.n_head + head) * self.q_stride;
            // SAFETY: queries were finished in the phase before.
            q[i * dk..(i + 1) * dk].copy_from_slice(unsafe { cx.bufs.q.part(at..at + dk) });
            let query = query(head, cx.batch.rows[row].pos, seq_end);
            queries[i] = QueryRow { bias_row: head, ..query };
            (first, end) = (first.min(queries[i].first), end.max(queries[i].end));
        }
        let kv = state.layer(self.kv);
        let head_kv = heads.start / (self.n_head / self.n_head_kv);
        let pages = (first / PAGE..end.div_ceil(PAGE)).map(|index| {
            let page = state.page(self.kv, segment.seq, index);
            page_ref(kv, page, head_kv, index * PAGE, end)
        });
        let tile = QueryTile { q, rows: queries, softcap: self.softcap, bias: self.bias };
        quant::attend(cx.vec, layout, &tile, pages, out, scratch);
        for ((row, head), result) in pairs(&rows).zip(out.chunks_exact(dv)) {
            let at = (row * self.n_head + head) * dv;
            // SAFETY: (row, head) pairs belong to one tile.
            let o = unsafe { cx.bufs.o.part_mut(at..at + dv) };
            o.copy_from_slice(result);
            finish(row, head, o);
        }
    }
}

fn page_ref(kv: &KvLayer, page: usize, head: usize, first_pos: usize, end: usize) -> PageRef<'_> {
    // SAFETY: keys and values of this step were stored in the phase before; nobody writes now.
    unsafe {
        let k = kv.k.part(kv.keys(page, head));
        let v = if kv.shape.v_in_k { k } else { kv.v.part(kv.values(page, head)) };
        PageRef { k, v, first_pos, n: PAGE.min(end - first_pos) }
    }
}

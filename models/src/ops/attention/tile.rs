//! Attention itself: tiles of queries over the pages of their sequence.

use super::{Attention, TILE};
use crate::ops::{Cx, Private};
use crate::spec::{Attn, Gate, GateFrom, Window};
use crate::state::KvLayer;
use crate::step::Segment;
use crate::team::Worker;
use quant::{PAGE, PageRef, QueryRow, QueryTile};
use std::ops::Range;

/// Positions that a query at `pos` sees, of a sequence that ends at `end` with this step.
fn visible(a: &Attn, pos: usize, end: usize) -> Range<usize> {
    let end = if a.causal { pos + 1 } else { end };
    match a.window {
        Window::Full => 0..end,
        Window::Sliding(n) => (pos + 1).saturating_sub(n)..end,
        Window::Chunked(n) => pos / n * n..end.min((pos / n + 1) * n),
        Window::Symmetric(n) => pos.saturating_sub(n)..end.min(pos + n + 1),
    }
}

impl Attention {
    /// Shares out (rows of a sequence, key/value head) among the workers.
    pub(super) fn attend_all(&self, w: &Worker<'_>, cx: &Cx<'_>) {
        let a = &self.spec;
        let group = a.n_head / a.n_head_kv;
        let rows_per_tile = (TILE / group).max(1);
        let tiles = |s: &Segment| s.rows.len().div_ceil(rows_per_tile);
        let total: usize = cx.batch.segments.iter().map(tiles).sum();
        // Where workers would go idle, the query heads of a group part; the bits stay the same.
        let parts = if total * a.n_head_kv < w.n_threads() { group } else { 1 };
        let heads_per_part = group / parts;
        while let Some(claim) = w.claim(total * a.n_head_kv * parts, 1) {
            // The last tiles see most: begin with them.
            let item = total * a.n_head_kv * parts - 1 - claim.start;
            let (mut tile, head) = (item / (a.n_head_kv * parts), item % (a.n_head_kv * parts));
            for segment in &cx.batch.segments {
                let n = tiles(segment);
                if tile < n {
                    let first = segment.rows.start + tile * rows_per_tile;
                    let rows = first..segment.rows.end.min(first + rows_per_tile);
                    let first_head = head * heads_per_part;
                    let heads = first_head..first_head + heads_per_part;
                    self.attend_tile(cx, &cx.bufs.private[w.index()], segment, rows, heads);
                    break;
                }
                tile -= n;
            }
        }
    }

    /// Rows `rows` of the batch's order, all of one segment, for query heads of one group.
    fn attend_tile(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        segment: &Segment,
        rows: Range<usize>,
        heads: Range<usize>,
    ) {
        let a = &self.spec;
        let (dk, dv) = (a.head_dim_k, a.head_dim_v);
        let o = cx.state.options();
        let layout = Self::layout(a, o.type_k, o.type_v);
        let n_q = rows.len() * heads.len();
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { private.attend.part_mut(0..private.attend.len()) };
        let (q, scratch) = scratch.split_at_mut(n_q * dk);
        let (out, scratch) = scratch.split_at_mut(n_q * dv);
        let mut queries = [QueryRow::new(0, 0); TILE];
        let mut many = Vec::new();
        // Only a model with more query heads per key head than a tile has rows needs the heap.
        let queries = if n_q <= TILE {
            &mut queries[..n_q]
        } else {
            many.resize(n_q, QueryRow::new(0, 0));
            &mut many[..]
        };
        let seq_end = segment.first_pos + segment.rows.len();
        let (mut first, mut end) = (usize::MAX, 0);
        for (i, &row) in cx.batch.order[rows.clone()].iter().enumerate() {
            let pos = cx.batch.rows[row as usize].pos;
            let seen = visible(a, pos, seq_end);
            (first, end) = (first.min(seen.start), end.max(seen.end));
            for (j, head) in heads.clone().enumerate() {
                let at = (row as usize * a.n_head + head) * self.q_stride;
                let i = i * heads.len() + j;
                // SAFETY: queries were finished in the phase before.
                q[i * dk..(i + 1) * dk].copy_from_slice(unsafe { cx.bufs.q.part(at..at + dk) });
                let mut query = QueryRow { pos, ..QueryRow::new(seen.start, seen.end) };
                if let Some(slopes) = &self.slopes {
                    query.alibi_slope = slopes[head];
                }
                if let Some(sinks) = &self.sinks {
                    query.sink = sinks[head];
                }
                queries[i] = query;
            }
        }
        let kv = cx.state.layer(self.kv);
        let head_kv = heads.start / (a.n_head / a.n_head_kv);
        let pages = (first / PAGE..end.div_ceil(PAGE)).map(|index| {
            let page = cx.state.page(self.kv, segment.seq, index);
            page_ref(kv, page, head_kv, index * PAGE, end)
        });
        let tile = QueryTile { q, rows: queries, softcap: a.softcap };
        quant::attend(cx.vec, layout, &tile, pages, out, scratch);
        for (i, &row) in cx.batch.order[rows].iter().enumerate() {
            for (j, head) in heads.clone().enumerate() {
                let at = (row as usize * a.n_head + head) * dv;
                let i = i * heads.len() + j;
                // SAFETY: (row, head) pairs belong to one tile.
                let o = unsafe { cx.bufs.o.part_mut(at..at + dv) };
                o.copy_from_slice(&out[i * dv..(i + 1) * dv]);
                if a.value_scale != 1.0 {
                    cx.vec.scale(o, a.value_scale);
                }
                if let Some(gate) = a.gate {
                    // SAFETY: as above.
                    unsafe { self.apply_gate(cx, gate, (row as usize, head), o) };
                }
            }
        }
    }

    /// Multiplies a head's result by its gate.
    ///
    /// # Safety
    /// The caller owns the pair of row and head.
    unsafe fn apply_gate(&self, cx: &Cx<'_>, gate: Gate, at: (usize, usize), o: &mut [f32]) {
        let (a, (row, head)) = (&self.spec, at);
        let index = row * a.n_head + head;
        // SAFETY: the caller owns this head's gate, which nobody else reads.
        let g = unsafe {
            match gate.from() {
                GateFrom::Values => cx.bufs.g.part_mut(index * o.len()..(index + 1) * o.len()),
                GateFrom::Heads => cx.bufs.g.part_mut(index..index + 1),
                GateFrom::Query => {
                    let first = index * self.q_stride + a.head_dim_k;
                    cx.bufs.q.part_mut(first..first + o.len())
                }
            }
        };
        match gate {
            Gate::Sigmoid(_) => cx.vec.sigmoid(g),
            // ln(1 + e^x), written so that nothing overflows.
            Gate::Softplus(_) => {
                g.iter_mut().for_each(|x| *x = x.max(0.0) + (-x.abs()).exp().ln_1p());
            }
        }
        if g.len() == 1 { cx.vec.scale(o, g[0]) } else { cx.vec.mul(o, g) }
    }
}

fn page_ref(kv: &KvLayer, page: usize, head: usize, first_pos: usize, end: usize) -> PageRef<'_> {
    // SAFETY: keys and values of this step were stored in the phase before; nobody writes now.
    unsafe {
        PageRef {
            k: kv.k.part(kv.keys(page, head)),
            v: kv.v.part(kv.values(page, head)),
            first_pos,
            n: PAGE.min(end - first_pos),
        }
    }
}

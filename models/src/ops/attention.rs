//! Softmax attention over paged keys and values.
//!
//! Phases: prepare · QKV · rotate and store · attend · prepare · output projection. A query's
//! result has the same bits in any step, see [`quant::attend`].

use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use super::{Cx, Private};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Attn, Pairing, Window};
use crate::state::{KvLayer, KvShape};
use crate::step::Segment;
use crate::team::{Stop, Worker};
use quant::{KvLayout, KvType, PAGE, PageRef, QueryRow, QueryTile, RopeLayout};
use std::ops::Range;
use std::sync::Arc;

/// Most queries (rows times query heads of one key/value head) that share the conversion of a page.
const TILE: usize = 96;

pub(crate) struct Attention {
    spec: Attn,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    qk_norm: Option<[Norm; 2]>,
    /// Rope table and pairing.
    rope: Option<(usize, RopeLayout)>,
    /// A logit per query head.
    sinks: Option<Arc<[f32]>>,
    /// Index of the keys and values in the state.
    kv: usize,
}

impl Attention {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, a: &Attn) -> Result<Attention, Error> {
        let (b, n_embd) = (lower.binder, lower.n_embd);
        if a.n_head_kv == 0 {
            return Err(Error::BadValue {
                key: "attention.head_count_kv".into(),
                found: format!("0 for {p}attn"),
                expected: "1 or more: this architecture has attention in that block".into(),
            });
        }
        let rows =
            [a.n_head * a.head_dim_k, a.n_head_kv * a.head_dim_k, a.n_head_kv * a.head_dim_v];
        let n_out = a.n_head * a.head_dim_v;
        let [q, k, v] = b.split(p, "attn_qkv", ["attn_q", "attn_k", "attn_v"], rows, n_embd)?;
        let out = b.matrix(&format!("{p}attn_output"), n_embd, n_out)?;
        let norm = |name| match a.qk_norm {
            None => Ok(None),
            Some(kind) => {
                let norm = spec::Norm { kind, eps: a.qk_norm_eps, name };
                Norm::bind(b, p, &norm, a.head_dim_k).map(Some)
            }
        };
        let qk_norm = norm("attn_q_norm")?.zip(norm("attn_k_norm")?).map(|(q, k)| [q, k]);
        let sinks = match a.sinks {
            true => Some(b.vector(&format!("{p}attn_sinks.weight"), a.n_head)?),
            false => None,
        };
        let rope = match &a.rope {
            None => None,
            Some(rope) => Some((
                lower.rope(rope)?,
                match rope.pairing {
                    Pairing::Neighbours => RopeLayout::Pairs,
                    Pairing::Halves => RopeLayout::Halves,
                },
            )),
        };
        let w = &mut lower.widths;
        w.q = w.q.max(rows[0]);
        w.k = w.k.max(rows[1]);
        w.v = w.v.max(rows[2]);
        w.o = w.o.max(n_out);
        w.cols = w.cols.max(a.head_dim_k);
        // The types of keys and values do not change what the kernel needs.
        let scratch = Self::layout(a, KvType::F32, KvType::F32).scratch_len(TILE.max(a.n_head));
        w.attend = w.attend.max(scratch + TILE.max(a.n_head) * (a.head_dim_k + a.head_dim_v));
        let kv = lower.layout.kv.len();
        lower.layout.kv.push(KvShape {
            n_head_kv: a.n_head_kv,
            head_dim_k: a.head_dim_k,
            head_dim_v: a.head_dim_v,
            window: match a.window {
                Window::Full => None,
                Window::Sliding(n) => Some(n),
            },
        });
        let (q, k, v) = (lower.linear(q)?, lower.linear(k)?, lower.linear(v)?);
        let out = lower.linear(out)?;
        Ok(Attention { spec: a.clone(), q, k, v, out, qk_norm, rope, sinks, kv })
    }

    fn layout(a: &Attn, k: KvType, v: KvType) -> KvLayout {
        KvLayout { k, v, head_dim_k: a.head_dim_k, head_dim_v: a.head_dim_v }
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.q, &self.k, &self.v, &self.out]
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        norm: Option<&Norm>,
        layer: usize,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (n, b) = (cx.n_rows(), cx.bufs);
        let src = Source { norm, layer: Some(layer), ..Source::plain(&b.x, b.widths.n_embd) };
        let acts = linear::prepare(w, cx, &src, &[&self.q, &self.k, &self.v])?;
        let jobs = [(&self.q, &b.q), (&self.k, &b.k), (&self.v, &b.v)];
        let jobs = jobs.map(|(l, buffer)| (l, Dest::Set(buffer, l.m.rows)));
        linear::project(w, cx, &acts, n, &jobs);
        w.barrier()?;

        let heads = self.spec.n_head + self.spec.n_head_kv;
        while let Some(range) = w.claim(n * heads, self.spec.n_head.max(4)) {
            for item in range {
                self.rotate_and_store(cx, &b.private[w.index()], item / heads, item % heads);
            }
        }
        w.barrier()?;
        self.attend_all(w, cx);
        w.barrier()?;

        let n_out = self.spec.n_head * self.spec.head_dim_v;
        let acts = linear::prepare(w, cx, &Source::plain(&b.o, n_out), &[&self.out])?;
        linear::project(w, cx, &acts, n, &[(&self.out, dest)]);
        w.barrier()
    }

    /// Norm, rotation and scale of one query head, or norm, rotation and storing of one key/value
    /// head (`head` counts query heads first).
    fn rotate_and_store(&self, cx: &Cx<'_>, private: &Private, row: usize, head: usize) {
        let a = &self.spec;
        let (dk, dv) = (a.head_dim_k, a.head_dim_v);
        let is_query = head < a.n_head;
        let h = if is_query { head } else { head - a.n_head };
        let (buffer, n_heads) =
            if is_query { (&cx.bufs.q, a.n_head) } else { (&cx.bufs.k, a.n_head_kv) };
        let at = (row * n_heads + h) * dk;
        // SAFETY: (row, head) pairs are claimed.
        let x = unsafe { buffer.part_mut(at..at + dk) };
        if let Some(norms) = &self.qk_norm {
            // SAFETY: the row belongs to this worker.
            let normed = unsafe { private.row.part_mut(0..dk) };
            norms[usize::from(!is_query)].apply(cx.vec, x, normed);
            x.copy_from_slice(normed);
        }
        if let Some((table, layout)) = self.rope {
            let n_rot = a.rope.as_ref().map_or(0, |r| r.n_rot);
            cx.vec.rope(x, cx.bufs.rope_row(table, row, n_rot), layout);
        }
        if is_query {
            return cx.vec.scale(x, a.scale);
        }
        let Row { seq, pos } = Row::of(cx, row);
        let kv = cx.state.layer(self.kv);
        let page = cx.state.page(self.kv, seq, pos / PAGE);
        let (k0, v0) = (kv.keys(page, h).start, kv.values(page, h).start);
        let slot = pos % PAGE;
        let o = cx.state.options();
        // SAFETY: a position of a sequence is one row of the batch, and its head was claimed.
        unsafe {
            let k = kv.k.part_mut(k0 + slot * kv.row_k..k0 + (slot + 1) * kv.row_k);
            o.type_k.encode(cx.vec, x, k);
            let at = (row * a.n_head_kv + h) * dv;
            let v = kv.v.part_mut(v0 + slot * kv.row_v..v0 + (slot + 1) * kv.row_v);
            o.type_v.encode(cx.vec, cx.bufs.v.part(at..at + dv), v);
        }
    }

    /// Shares out (rows of a sequence, key/value head) among the workers.
    fn attend_all(&self, w: &Worker<'_>, cx: &Cx<'_>) {
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
                    self.attend_tile(cx, &cx.bufs.private[w.index()], segment.seq, rows, heads);
                    break;
                }
                tile -= n;
            }
        }
    }

    /// Rows `rows` of the batch's order, all of sequence `seq`, for query heads of one group.
    fn attend_tile(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        seq: usize,
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
        let (mut first, mut end) = (usize::MAX, 0);
        for (i, &row) in cx.batch.order[rows.clone()].iter().enumerate() {
            let pos = cx.batch.rows[row as usize].pos;
            let from = match a.window {
                Window::Full => 0,
                Window::Sliding(n) => (pos + 1).saturating_sub(n),
            };
            (first, end) = (first.min(from), end.max(pos + 1));
            for (j, head) in heads.clone().enumerate() {
                let at = (row as usize * a.n_head + head) * dk;
                let i = i * heads.len() + j;
                // SAFETY: queries were finished in the phase before.
                q[i * dk..(i + 1) * dk].copy_from_slice(unsafe { cx.bufs.q.part(at..at + dk) });
                let mut query = QueryRow::new(from, pos + 1);
                if let Some(sinks) = &self.sinks {
                    query.sink = sinks[head];
                }
                queries[i] = query;
            }
        }
        let kv = cx.state.layer(self.kv);
        let head_kv = heads.start / (a.n_head / a.n_head_kv);
        let pages = (first / PAGE..end.div_ceil(PAGE)).map(|index| {
            let page = cx.state.page(self.kv, seq, index);
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
            }
        }
    }
}

/// Sequence and position of a row.
struct Row {
    seq: usize,
    pos: usize,
}

impl Row {
    fn of(cx: &Cx<'_>, row: usize) -> Row {
        let r = &cx.batch.rows[row];
        Row { seq: r.seq, pos: r.pos }
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

//! Attention over the positions that an indexer chooses (DeepSeek-AI, DeepSeek-V3.2, 2025), for latent
//! attention in its absorbed form.
//!
//! A position keeps one index key beside its latent row: a layer norm of a projection of the block's
//! input, its first part rotated. A row scores every position t that it may see:
//! `sum over heads h of w[h] * max(q[h] . k[t], 0)`, with q from the compressed query, rotated alike,
//! and w a projection of the block's input. It attends to the `top_k` highest scores alone; of equal
//! ones to the lower positions. The published code also turns q and k by a Hadamard matrix before it
//! rounds them to 8 bits; without that rounding their products stay the same, so it is left out.
//!
//! A row that sees `top_k` positions or fewer has nothing to choose and goes through attention as
//! ever. For the others: score · choose, a few rows at a time, and then, after everybody else,
//! · gather and attend. Rows are gathered in the order of their positions, so that a result depends on
//! nothing but what its row sees.

use super::attend::{Attend, TILE};
use super::linear::{Dest, Linear};
use super::norm::Norm;
use super::{Cx, Private, Rows, attention};
use crate::bind::Binder;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, IndexChoice, LatentForm, NormKind};
use crate::state::KvShape;
use crate::team::{Stop, Worker};
use quant::{IndexQuery, KvType, PAGE, PageRef, QueryRow, QueryTile, RopeLayout, SPAN};
use std::ops::Range;

/// Rows whose scores are kept at a time.
pub(crate) const SCORE_ROWS: usize = 16;

/// The mixing buffers of queries, keys and weights.
const Q: usize = 4;
const K: usize = 5;
const W: usize = 6;

/// What a block of sparse attention has beside that of others.
pub(crate) struct Sparse {
    top_k: usize,
    /// `None` = the choice of a block before.
    indexer: Option<Indexer>,
    /// Floats of the gathered rows.
    gathered: usize,
}

/// What scores positions.
pub(crate) struct Indexer {
    n_head: usize,
    head_dim: usize,
    n_rot: usize,
    q: Linear,
    k: Linear,
    weights: Linear,
    k_norm: Norm,
    /// Rope table and pairing.
    rope: Option<(usize, RopeLayout)>,
    /// On weights: 1 / sqrt(n_head * head_dim).
    scale: f32,
    /// Index of the keys in the state.
    kv: usize,
}

/// A row that sees more positions than it may attend to.
#[derive(Clone, Copy)]
struct Choosing {
    row: usize,
    seq: usize,
    pos: usize,
}

/// Leaves tensors alone that a block which takes another's choice may have all the same.
fn ignore(b: &Binder, p: &str) {
    for name in ["attn_k.weight", "attn_q_b.weight", "proj.weight", "k_norm.weight", "k_norm.bias"]
    {
        b.ignore(&format!("{p}indexer.{name}"));
    }
}

impl Sparse {
    /// Binds the tensors; `None` where no context is so long that there is anything to choose.
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        m: &spec::Mla,
        rope: Option<usize>,
    ) -> Result<Option<Sparse>, Error> {
        let LatentForm::Absorbed { indexer: Some(i) } = &m.form else { return Ok(None) };
        let needed = lower.n_ctx > i.top_k;
        let indexer = match i.choice {
            IndexChoice::Own => Indexer::bind(lower, p, m, (i, rope), needed)?,
            IndexChoice::Before => {
                ignore(lower.binder, p);
                None
            }
        };
        if !needed {
            return Ok(None);
        }
        // The type of the rows is a matter of the state.
        let row = KvType::ALL.map(|ty| ty.row_bytes(m.kv_rank + m.n_rot).div_ceil(4));
        let row = row.into_iter().max().unwrap_or(0);
        let gathered = i.top_k.next_multiple_of(PAGE).saturating_mul(row);
        lower.widths.chosen = lower.widths.chosen.max(i.top_k);
        Ok(Some(Sparse { top_k: i.top_k, indexer, gathered }))
    }

    /// Floats of a worker's scratch in a context of `n_ctx` positions.
    pub(crate) fn scratch_len(&self, a: &Attend<'_>, n_ctx: usize) -> usize {
        let scores = |i: &Indexer| quant::index_scratch_len(i.n_head, i.head_dim);
        let scores = self.indexer.as_ref().map_or(0, scores);
        self.gathered.saturating_add(a.scratch_len()).max(scores).max(n_ctx)
    }

    /// Rows at positions from here on choose.
    pub(crate) fn top_k(&self) -> usize {
        self.top_k
    }

    pub(crate) fn indexer(&self) -> Option<&Indexer> {
        self.indexer.as_ref()
    }

    /// All rows that choose, by sequence and position.
    fn choosing(&self, cx: &Cx<'_>) -> impl Iterator<Item = Choosing> {
        let (batch, top_k) = (cx.batch, self.top_k);
        batch.segments.iter().flat_map(move |s| {
            let first = top_k.saturating_sub(s.first_pos).min(s.rows.len());
            batch.order[s.rows.start + first..s.rows.end].iter().map(|&row| {
                let pos = batch.rows[row as usize].pos;
                Choosing { row: row as usize, seq: s.seq, pos }
            })
        })
    }

    /// Chooses positions for the rows that see more than they may, up to the barrier.
    pub(crate) fn choose(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let Some(indexer) = &self.indexer else { return Ok(()) };
        let private = &cx.bufs.private[w.index()];
        let mut rest = self.choosing(cx);
        loop {
            let mut rows = [Choosing { row: 0, seq: 0, pos: 0 }; SCORE_ROWS];
            let mut n = 0;
            for (slot, row) in rows.iter_mut().zip(rest.by_ref()) {
                *slot = row;
                n += 1;
            }
            let Some(most) = rows[..n].iter().map(|r| r.pos + 1).max() else { return Ok(()) };
            let spans = most.div_ceil(SPAN);
            while let Some(claim) = w.claim(n * spans, 1) {
                let (i, span) = (claim.start / spans, claim.start % spans);
                indexer.score(cx, private, (i, &rows[i]), span);
            }
            w.barrier()?;
            while let Some(claim) = w.claim(n, 1) {
                self.select(cx, private, (claim.start, &rows[claim.start]));
            }
            w.barrier()?;
        }
    }

    /// The choice of row `i` of those whose scores stand ready.
    fn select(&self, cx: &Cx<'_>, private: &Private, (i, r): (usize, &Choosing)) {
        let (n, at) = (r.pos + 1, i * score_stride(cx));
        let to = r.row * self.top_k..(r.row + 1) * self.top_k;
        // SAFETY: scores were finished in the phase before; the row was claimed, the scratch belongs
        // to this worker.
        unsafe {
            let ranks = bytemuck::cast_slice_mut(private.attend.part_mut(0..n));
            choose(cx.bufs.scores.part(at..at + n), ranks, cx.bufs.chosen.part_mut(to));
        }
    }

    /// Attention of the rows that chose, up to the barrier; queries from the buffer q, results to the
    /// buffer o.
    pub(crate) fn attend(&self, w: &Worker<'_>, cx: &Cx<'_>, a: &Attend<'_>) -> Result<(), Stop> {
        let n = self.choosing(cx).count();
        if n == 0 {
            return Ok(());
        }
        let private = &cx.bufs.private[w.index()];
        // Where workers would go idle, a row's heads part.
        let parts = w.n_threads().div_ceil(n).min(a.n_head);
        let per_part = a.n_head.div_ceil(parts);
        while let Some(claim) = w.claim(n * parts, 1) {
            let (i, part) = (claim.start / parts, claim.start % parts);
            let heads = part * per_part..a.n_head.min((part + 1) * per_part);
            if let Some(r) = self.choosing(cx).nth(i).filter(|_| !heads.is_empty()) {
                self.attend_row(cx, private, a, (&r, heads));
            }
        }
        w.barrier()
    }

    /// Attention of some heads of a row.
    fn attend_row(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        a: &Attend<'_>,
        (r, heads): (&Choosing, Range<usize>),
    ) {
        let (dk, dv) = (a.head_dim_k, a.head_dim_v);
        let (kv, types) = (cx.state.layer(a.kv), cx.state.options());
        let layout = a.layout(types.type_k, types.type_v);
        // SAFETY: the scratch belongs to this worker; positions were chosen in a phase before.
        let (scratch, chosen) = unsafe {
            let chosen = cx.bufs.chosen.part(r.row * self.top_k..(r.row + 1) * self.top_k);
            (private.attend.part_mut(0..private.attend.len()), chosen)
        };
        let (gathered, scratch) = scratch.split_at_mut(self.gathered);
        let gathered: &mut [u8] = bytemuck::cast_slice_mut(gathered);
        for (to, &pos) in gathered.chunks_exact_mut(kv.row_k).zip(chosen) {
            let pos = pos as usize;
            let page = cx.state.page(a.kv, r.seq, pos / PAGE);
            let from = kv.keys(page, 0).start + pos % PAGE * kv.row_k;
            // SAFETY: latent rows of this step were stored in a phase before; nobody writes now.
            to.copy_from_slice(unsafe { kv.k.part(from..from + kv.row_k) });
        }
        let page = |first_pos: usize| {
            let rows = &gathered[first_pos * kv.row_k..][..PAGE * kv.row_k];
            PageRef { k: rows, v: rows, first_pos, n: PAGE.min(self.top_k - first_pos) }
        };
        let seen = [QueryRow::new(0, self.top_k); TILE];
        for first in heads.clone().step_by(TILE) {
            let n = TILE.min(heads.end - first);
            let at = r.row * a.n_head + first;
            let pages = (0..self.top_k).step_by(PAGE).map(page);
            // SAFETY: queries were finished in the phase before; the row and its heads were claimed.
            let (q, out) = unsafe {
                let out = cx.bufs.o.part_mut(at * dv..(at + n) * dv);
                (cx.bufs.q.part(at * dk..(at + n) * dk), out)
            };
            let tile = QueryTile { q, rows: &seen[..n], softcap: a.softcap, bias: None };
            quant::attend(cx.vec, layout, &tile, pages, out, scratch);
        }
    }
}

impl Indexer {
    /// Binds the tensors; `None` where they have nothing to do.
    fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        m: &spec::Mla,
        (i, rope): (&spec::Indexer, Option<usize>),
        needed: bool,
    ) -> Result<Option<Indexer>, Error> {
        let (b, n_embd, n_ctx) = (lower.binder, lower.n_embd, lower.n_ctx);
        if i.head_dim < m.n_rot {
            return Err(Error::BadValue {
                key: "attention.indexer.key_length".into(),
                found: format!("{} for {p}indexer", i.head_dim),
                expected: format!("at least the {} of rope.dimension_count", m.n_rot),
            });
        }
        let Some(rank) = m.q_rank else {
            return Err(Error::MissingKey {
                key: "attention.q_lora_rank".into(),
                expected: format!("the width of what {p}indexer.attn_q_b reads"),
            });
        };
        let name = |part: &str| format!("{p}indexer.{part}");
        let k = b.matrix(&name("attn_k"), i.head_dim, n_embd)?;
        let q = b.matrix(&name("attn_q_b"), i.n_head * i.head_dim, rank)?;
        let weights = b.matrix(&name("proj"), i.n_head, n_embd)?;
        let name = Some("indexer.k_norm");
        let norm = spec::Norm { kind: NormKind::Layer, eps: i.norm_eps, name };
        let k_norm = Norm::bind(b, p, &norm, i.head_dim)?;
        if !needed {
            return Ok(None);
        }
        lower.mix(&[0, 0, 0, 0, i.n_head * i.head_dim, i.head_dim, i.n_head]);
        let w = &mut lower.widths;
        w.cols = w.cols.max(i.head_dim);
        w.scores = w.scores.max(n_ctx.next_multiple_of(PAGE).saturating_mul(SCORE_ROWS));
        let kv = lower.layout.kv.len();
        let (head_dim_k, head_dim_v) = (i.head_dim, 0);
        let (n_head_kv, window, v_in_k) = (1, None, false);
        lower.layout.kv.push(KvShape { n_head_kv, head_dim_k, head_dim_v, window, v_in_k });
        Ok(Some(Indexer {
            n_head: i.n_head,
            head_dim: i.head_dim,
            n_rot: m.n_rot,
            q: lower.linear(q)?,
            k: lower.linear(k)?,
            weights: lower.linear(weights)?,
            k_norm,
            rope: rope.map(|table| (table, attention::layout(i.pairing))),
            scale: 1.0 / ((i.n_head * i.head_dim) as f32).sqrt(),
            kv,
        }))
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> [&Linear; 3] {
        [&self.q, &self.k, &self.weights]
    }

    /// What the block's input goes through, beside what it goes through anyway.
    pub(crate) fn of_input<'a>(&'a self, cx: &Cx<'a>) -> [(&'a Linear, Dest<'a>); 2] {
        let [k, w] = [self.keys(cx), self.weights(cx)];
        [(&self.k, Dest::Set(k.buffer, k.stride)), (&self.weights, Dest::Set(w.buffer, w.stride))]
    }

    /// What the compressed query goes through.
    pub(crate) fn of_query<'a>(&'a self, cx: &Cx<'a>) -> (&'a Linear, Dest<'a>) {
        let q = self.queries(cx);
        (&self.q, Dest::Set(q.buffer, q.stride))
    }

    fn queries<'a>(&self, cx: &Cx<'a>) -> Rows<'a> {
        Rows { buffer: &cx.bufs.mix[Q], stride: self.n_head * self.head_dim }
    }

    fn keys<'a>(&self, cx: &Cx<'a>) -> Rows<'a> {
        Rows { buffer: &cx.bufs.mix[K], stride: self.head_dim }
    }

    fn weights<'a>(&self, cx: &Cx<'a>) -> Rows<'a> {
        Rows { buffer: &cx.bufs.mix[W], stride: self.n_head }
    }

    fn rotate(&self, cx: &Cx<'_>, row: usize, x: &mut [f32]) {
        if let Some((table, layout)) = self.rope {
            let cos_sin = cx.bufs.rope_row(table, row, self.n_rot);
            cx.vec.rope(&mut x[..self.n_rot], cos_sin, layout);
        }
    }

    /// Stores the key of a row; where `chooses` says so, makes its queries and weights ready, too.
    ///
    /// # Safety
    /// The row was claimed in a phase after the one that projected it; the scratch is this worker's,
    /// who holds no row of it.
    pub(crate) unsafe fn place(&self, cx: &Cx<'_>, private: &Private, row: usize, chooses: bool) {
        let r = &cx.batch.rows[row];
        let page = cx.state.page(self.kv, r.seq, r.pos / PAGE);
        let at = row as u32;
        // SAFETY: the caller's; a position is one row.
        unsafe {
            let key = private.row.part_mut(0..self.head_dim);
            self.k_norm.apply(cx.vec, self.keys(cx).get(at, 0..self.head_dim), key);
            self.rotate(cx, row, key);
            let ty = cx.state.options().type_k;
            cx.state.layer(self.kv).store_key((ty, cx.vec), (page, 0, r.pos % PAGE), key);
            if chooses {
                let q = self.queries(cx).get_mut(at, 0..self.n_head * self.head_dim);
                q.chunks_exact_mut(self.head_dim).for_each(|head| self.rotate(cx, row, head));
                cx.vec.scale(self.weights(cx).get_mut(at, 0..self.n_head), self.scale);
            }
        }
    }

    /// Scores of a span of positions for a row, to row `i` of the scores.
    fn score(&self, cx: &Cx<'_>, private: &Private, (i, r): (usize, &Choosing), span: usize) {
        let end = (r.pos + 1).min((span + 1) * SPAN);
        let pages = span * SPAN / PAGE..end.div_ceil(PAGE);
        if pages.is_empty() {
            return; // Of a shorter sequence than another row's.
        }
        let kv = cx.state.layer(self.kv);
        let keys = pages.clone().map(|index| {
            let page = cx.state.page(self.kv, r.seq, index);
            // SAFETY: keys of this step were stored in a phase before; nobody writes now.
            unsafe { kv.k.part(kv.keys(page, 0)) }
        });
        let at = i * score_stride(cx);
        let (from, row) = (at + pages.start * PAGE..at + pages.end * PAGE, r.row as u32);
        // SAFETY: the span of this row was claimed; queries and weights were finished in the phase
        // before; the scratch belongs to this worker.
        unsafe {
            let query = IndexQuery {
                q: self.queries(cx).get(row, 0..self.n_head * self.head_dim),
                weights: self.weights(cx).get(row, 0..self.n_head),
            };
            let (out, scratch) = (cx.bufs.scores.part_mut(from), &private.attend);
            let scratch = scratch.part_mut(0..scratch.len());
            let kind = (cx.state.options().type_k, self.head_dim);
            quant::index_scores(cx.vec, kind, query, keys, out, scratch);
        }
    }
}

/// Floats from one row of scores to the next.
fn score_stride(cx: &Cx<'_>) -> usize {
    cx.state.options().n_ctx.next_multiple_of(PAGE)
}

/// An unsigned number that is the larger the larger `score`; the same for both zeros, least for NaN.
fn rank(score: f32) -> u32 {
    if score.is_nan() {
        return 0;
    }
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The indices of the `out.len()` largest scores, rising; of equal ones the lower. There are as many
/// scores or more, and room for as many ranks.
fn choose(scores: &[f32], ranks: &mut [u32], out: &mut [u32]) {
    let Some(least) = scores.len().checked_sub(out.len()).filter(|&i| i < scores.len()) else {
        return;
    };
    for (to, &score) in ranks.iter_mut().zip(scores) {
        *to = rank(score);
    }
    let (_, &mut least, above) = ranks[..scores.len()].select_nth_unstable(least);
    let above = above.iter().filter(|&&r| r > least).count();
    let mut equal = out.len() - above;
    let mut out = out.iter_mut();
    for (i, &score) in scores.iter().enumerate() {
        let rank = rank(score);
        let is_chosen = rank > least || rank == least && equal > 0;
        if is_chosen && let Some(to) = out.next() {
            *to = i as u32;
            equal -= usize::from(rank == least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scores: &[f32], k: usize) -> Vec<u32> {
        let (mut ranks, mut out) = (vec![7; scores.len() + 3], vec![99; k]);
        choose(scores, &mut ranks, &mut out);
        out
    }

    #[test]
    fn the_highest_scores_are_chosen_and_of_equal_ones_the_first() {
        assert_eq!(chosen(&[1.0, 3.0, -2.0, 2.0], 2), [1, 3]);
        assert_eq!(chosen(&[1.0, 1.0, 2.0, 1.0, 1.0], 3), [0, 1, 2]);
        assert_eq!(chosen(&[-0.0, 0.0, -1.0, 0.0], 2), [0, 1]);
        assert_eq!(chosen(&[-3.0, -1.0, -2.0], 1), [1]);
        assert_eq!(chosen(&[5.0], 1), [0]);
    }

    #[test]
    fn scores_that_are_no_numbers_come_last() {
        let inf = f32::INFINITY;
        assert_eq!(chosen(&[f32::NAN, -inf, inf, -f32::NAN, 0.0], 3), [1, 2, 4]);
        assert_eq!(chosen(&[f32::NAN; 4], 2), [0, 1]);
    }

    #[test]
    fn choices_are_those_of_a_sort() {
        for n in 1..60usize {
            // Few values, so that many are equal.
            let scores: Vec<f32> = (0..n).map(|i| ((i * i * 31 + n) % 7) as f32 - 3.0).collect();
            for k in 1..=n {
                let mut order: Vec<u32> = (0..n as u32).collect();
                order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
                order.truncate(k);
                order.sort_unstable();
                assert_eq!(chosen(&scores, k), order, "{k} of {scores:?}");
            }
        }
    }
}

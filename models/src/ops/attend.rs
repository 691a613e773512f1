//! Attention itself: tiles of queries over the pages of their sequences, and spans of those of long
//! ones shared among the workers.

use super::{Cx, Private};
use crate::state::{KvLayer, State};
use crate::step::Segment;
use crate::team::Worker;
use quant::{DistanceBias, KvLayout, KvType, PAGE, PageRef, QueryRow, QueryTile, SPAN};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Most queries (rows times query heads of one key/value head) that share the conversion of a page.
pub(super) const TILE: usize = 96;

/// Rows of a full context for whose parts there is memory: those of usual decode steps.
const SPLIT_ROWS: usize = 4;

/// Jobs per worker into which long sequences are cut: more waste less waiting for the last one, fewer
/// less time on beginnings.
const JOBS: usize = 8;

/// Tiles per worker, at most, whose spans are shared: more keep everybody busy as they are.
pub(super) const SHARED: usize = 32;

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
    /// Rows at positions from here on are left out: they see what another op chooses.
    pub(crate) end: usize,
}

impl Attend<'_> {
    pub(super) fn layout(&self, k: KvType, v: KvType) -> KvLayout {
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

    /// Floats for the parts of [`SPLIT_ROWS`] rows that see `n_ctx` positions.
    pub(crate) fn parts_len(&self, n_ctx: usize) -> usize {
        let part = self.layout(KvType::F32, KvType::F32).part_len();
        let rows = n_ctx.div_ceil(SPAN).saturating_mul(SPLIT_ROWS);
        rows.saturating_mul(self.n_head * part)
    }

    /// Attention of all rows, as a phase without its barrier: queries from the buffer q, results to
    /// the buffer o. `query(head, pos, end)` says what a query sees of a sequence that holds `end`
    /// positions with this step; both ends rise with `pos`. `finish(row, head, result)` has the last
    /// word on a result.
    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        query: impl Fn(usize, usize, usize) -> QueryRow,
        finish: impl Fn(usize, usize, &mut [f32]),
    ) {
        let phase = Phase { attend: self, cx, query, finish };
        let cut = phase.cut(w.n_threads());
        // The last tiles see most: begin with them.
        while let Some(claim) = w.claim_backwards(cut.n_jobs, 1) {
            if let Some(job) = phase.job(&cut, claim.start) {
                phase.tile(&cx.bufs.private[w.index()], &job);
            }
        }
    }
}

/// One run over a batch.
struct Phase<'a, Q, F> {
    attend: &'a Attend<'a>,
    cx: &'a Cx<'a>,
    query: Q,
    finish: F,
}

/// How a phase is cut into jobs: (tile, key/value head, part of its query heads), and where spans
/// are shared, a run of spans of these. The bits are the same for every cut.
struct Cut {
    n_jobs: usize,
    /// Parts of the query heads that share a key/value head.
    parts: usize,
    /// Query heads of a part.
    per_part: usize,
    /// Spans of a job; `None` = all.
    step: Option<usize>,
}

/// A tile: rows of the batch's order, all of one segment, for some query heads of one group.
struct Job<'a> {
    segment: &'a Segment,
    rows: Range<usize>,
    heads: Range<usize>,
    /// All spans that a query sees, and those of this job, where they are shared.
    spans: Option<(Range<usize>, Range<usize>)>,
    /// Where the parts of all spans begin, and which counter is theirs.
    base: usize,
    index: usize,
}

impl<'a, Q, F> Phase<'a, Q, F>
where
    Q: Fn(usize, usize, usize) -> QueryRow,
    F: Fn(usize, usize, &mut [f32]),
{
    /// The rows of every tile.
    fn tiles(&self) -> impl Iterator<Item = (&'a Segment, Range<usize>)> {
        let n = self.rows_per_tile();
        self.cx.batch.segments.iter().flat_map(move |s| {
            let rows = self.rows(s);
            rows.clone().step_by(n).map(move |first| (s, first..rows.end.min(first + n)))
        })
    }

    /// The rows of a segment that are not left out.
    fn rows(&self, segment: &Segment) -> Range<usize> {
        let n = self.attend.end.saturating_sub(segment.first_pos).min(segment.rows.len());
        segment.rows.start..segment.rows.start + n
    }

    fn group(&self) -> usize {
        self.attend.n_head / self.attend.n_head_kv
    }

    fn rows_per_tile(&self) -> usize {
        (TILE / self.group()).max(1)
    }

    fn state(&self) -> &'a State {
        if self.attend.memory { self.cx.memory() } else { self.cx.state }
    }

    /// Positions that the segment's sequence holds with this step.
    fn seq_end(&self, segment: &Segment) -> usize {
        match self.attend.memory {
            true => self.state().len(segment.seq),
            false => segment.first_pos + segment.rows.len(),
        }
    }

    fn pos(&self, row: usize) -> usize {
        self.cx.batch.rows[self.cx.batch.order[row] as usize].pos
    }

    /// The spans that rows of a segment see, at least one.
    fn spans(&self, (segment, rows): &(&Segment, Range<usize>)) -> Range<usize> {
        let end = self.seq_end(segment);
        let first = (self.query)(0, self.pos(rows.start), end).first / SPAN;
        let end = (self.query)(0, self.pos(rows.end - 1), end).end.div_ceil(SPAN);
        first..end.max(first + 1)
    }

    fn cut(&self, n_threads: usize) -> Cut {
        let (group, n_head_kv) = (self.group(), self.attend.n_head_kv);
        let of = |units: usize| {
            // Where workers would go idle, the query heads of a group part.
            let idle = n_threads.div_ceil(units.max(1));
            let parts = group.div_ceil(TILE).max(idle.min(group));
            Cut { n_jobs: units * parts, parts, per_part: group.div_ceil(parts), step: None }
        };
        let n_tiles = self.cx.batch.segments.iter();
        let n_tiles: usize =
            n_tiles.map(|s| self.rows(s).len().div_ceil(self.rows_per_tile())).sum();
        let whole = of(n_tiles * n_head_kv);
        let bufs = self.cx.bufs;
        if n_threads == 1 || whole.n_jobs > bufs.done.len() {
            return whole;
        }
        let spans = |tile| self.spans(&tile).len();
        let n_spans: usize = self.tiles().map(spans).sum();
        let mut cut = of(n_spans * n_head_kv);
        let floats: usize = self.tiles().map(|t| t.1.len() * spans(t)).sum();
        let floats = floats * n_head_kv * cut.parts * cut.per_part * self.part_len();
        let fits = n_tiles * n_head_kv * cut.parts <= bufs.done.len() && floats <= bufs.parts.len();
        if n_spans == n_tiles || !fits {
            return whole;
        }
        let step = (cut.n_jobs / (JOBS * n_threads)).max(1);
        let runs: usize = self.tiles().map(|tile| spans(tile).div_ceil(step)).sum();
        cut.n_jobs = runs * n_head_kv * cut.parts;
        cut.step = Some(step);
        cut
    }

    fn part_len(&self) -> usize {
        self.attend.layout(KvType::F32, KvType::F32).part_len()
    }

    /// Job number `n` of the cut; `None` where the last part of a group is empty.
    fn job(&self, cut: &Cut, mut n: usize) -> Option<Job<'a>> {
        let (group, n_head_kv) = (self.group(), self.attend.n_head_kv);
        let (mut base, mut index) = (0, 0);
        for tile in self.tiles() {
            let all = if cut.step.is_some() { self.spans(&tile) } else { 0..1 };
            let step = cut.step.unwrap_or(1);
            let runs = all.len().div_ceil(step);
            let units = n_head_kv * cut.parts;
            let floats = all.len() * tile.1.len() * cut.per_part * self.part_len();
            if n >= units * runs {
                (n, base, index) = (n - units * runs, base + units * floats, index + units);
                continue;
            }
            let (unit, run) = (n / runs, n % runs);
            let (head_kv, part) = (unit / cut.parts, unit % cut.parts);
            let heads = part * cut.per_part..group.min((part + 1) * cut.per_part);
            let first = all.start + run * step;
            let spans = first..all.end.min(first + step);
            return (!heads.is_empty()).then_some(Job {
                segment: tile.0,
                rows: tile.1,
                heads: head_kv * group + heads.start..head_kv * group + heads.end,
                spans: cut.step.map(|_| (all, spans)),
                base: base + unit * floats,
                index: index + unit,
            });
        }
        None
    }

    /// Rows of the batch and heads, in the order of the tile's queries.
    fn pairs(&self, job: &Job<'_>) -> impl Iterator<Item = (usize, usize)> + use<'a, Q, F> {
        let heads = job.heads.clone();
        let order = self.cx.batch.order[job.rows.clone()].iter();
        order.flat_map(move |&row| heads.clone().map(move |head| (row as usize, head)))
    }

    fn tile(&self, private: &Private, job: &Job<'_>) {
        let (a, cx) = (self.attend, self.cx);
        let (dk, dv) = (a.head_dim_k, a.head_dim_v);
        let (state, n_q) = (self.state(), job.rows.len() * job.heads.len());
        let layout = a.layout(state.options().type_k, state.options().type_v);
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { private.attend.part_mut(0..private.attend.len()) };
        let (q, scratch) = scratch.split_at_mut(n_q * dk);
        let (out, scratch) = scratch.split_at_mut(n_q * dv);
        let mut queries = [QueryRow::new(0, 0); TILE];
        let queries = &mut queries[..n_q];
        let seq_end = self.seq_end(job.segment);
        let (mut first, mut end) = (usize::MAX, 0);
        for (i, (row, head)) in self.pairs(job).enumerate() {
            let at = (row * a.n_head + head) * a.q_stride;
            // SAFETY: queries were finished in the phase before.
            q[i * dk..(i + 1) * dk].copy_from_slice(unsafe { cx.bufs.q.part(at..at + dk) });
            let query = (self.query)(head, cx.batch.rows[row].pos, seq_end);
            queries[i] = QueryRow { bias_row: head, ..query };
            (first, end) = (first.min(queries[i].first), end.max(queries[i].end));
        }
        let kv = state.layer(a.kv);
        let head_kv = job.heads.start / self.group();
        if let Some((_, spans)) = &job.spans {
            first = first.max(spans.start * SPAN);
        }
        let pages = (first / PAGE..end.div_ceil(PAGE)).map(|index| {
            let page = state.page(a.kv, job.segment.seq, index);
            page_ref(kv, page, head_kv, index * PAGE, end)
        });
        let tile = QueryTile { q, rows: queries, softcap: a.softcap, bias: a.bias };
        if let Some((all, spans)) = &job.spans {
            let span = n_q * layout.part_len();
            let at = job.base + (spans.start - all.start) * span;
            // SAFETY: the parts of these spans are this job's, in the buffer by `cut`.
            let parts = unsafe { cx.bufs.parts.part_mut(at..at + spans.len() * span) };
            quant::attend_spans(cx.vec, layout, &tile, (spans.clone(), pages), parts, scratch);
            self.sum(job, layout, queries, (out, scratch));
            return;
        }
        quant::attend(cx.vec, layout, &tile, pages, out, scratch);
        for ((row, head), result) in self.pairs(job).zip(out.chunks_exact(dv)) {
            self.put(row, head, result);
        }
    }

    /// Adds the spans of a tile, if this job was the last of them. So there is no need for a barrier
    /// between the two.
    fn sum(
        &self,
        job: &Job<'_>,
        layout: KvLayout,
        queries: &[QueryRow],
        (out, scratch): (&mut [f32], &mut [f32]),
    ) {
        let Some((all, spans)) = &job.spans else { return };
        let done = &self.cx.bufs.done[job.index];
        // Release what this job wrote, acquire what the others did.
        let before = done.fetch_add(spans.len() as u32, Ordering::AcqRel) as usize;
        if before + spans.len() < all.len() {
            return;
        }
        done.store(0, Ordering::Relaxed);
        let (n_q, len) = (queries.len(), layout.part_len());
        // SAFETY: all jobs of the tile are done: nobody writes these parts in this phase any more.
        let parts = unsafe { self.cx.bufs.parts.part(job.base..job.base + all.len() * n_q * len) };
        for (i, (row, head)) in self.pairs(job).enumerate() {
            let parts = parts.chunks_exact(len).skip(i).step_by(n_q);
            let out = &mut out[..layout.head_dim_v];
            quant::sum_spans(self.cx.vec, layout, queries[i].sink, parts, out, scratch);
            self.put(row, head, out);
        }
    }

    fn put(&self, row: usize, head: usize, result: &[f32]) {
        let dv = self.attend.head_dim_v;
        let at = (row * self.attend.n_head + head) * dv;
        // SAFETY: (row, head) pairs belong to one tile, and that to one job, or to its last one.
        let o = unsafe { self.cx.bufs.o.part_mut(at..at + dv) };
        o.copy_from_slice(result);
        (self.finish)(row, head, o);
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

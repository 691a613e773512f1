//! One file per op. An op is a struct that `plan` builds from a spec and a file's tensors, with a
//! `run` that every worker of the team executes: it takes its share of each phase and meets the
//! others at the barriers. Results do not depend on who takes which share.

pub(crate) mod altup;
pub(crate) mod attend;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod delta;
pub(crate) mod ffn;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod mamba;
pub(crate) mod mamba2;
pub(crate) mod mla;
pub(crate) mod moe;
pub(crate) mod norm;
pub(crate) mod per_layer;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod rope;
pub(crate) mod rwkv;
pub(crate) mod rwkv6;
pub(crate) mod rwkv7;
pub(crate) mod sparse;
#[cfg(test)]
mod testing;

use crate::device::Buffer;
use crate::ops::linear::N_KINDS;
use crate::spec::Read;
use crate::state::State;
use crate::step::{Batch, Segment};
use crate::team::Worker;
use quant::Vector;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Steps of up to this many rows are prepared by every worker for itself: less work than a barrier.
pub(crate) const SELF_SERVICE_ROWS: usize = 4;
/// Most columns for which a row's result is bit-identical whatever stands beside it.
pub(crate) const SMALL_STEP: usize = 16;

/// Scratch buffers of bodies with several inner rows; what each holds is the body's business.
pub(crate) const N_MIX: usize = 14;
/// The one that outlives its body: values that the first of a kind leaves for the others.
pub(crate) const KEPT: usize = N_MIX - 1;

/// What all ops of a running micro-batch see.
#[derive(Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) bufs: &'a Buffers,
    pub(crate) state: &'a State,
    /// What the encoder left, for a decoder that reads it.
    pub(crate) memory: Option<&'a State>,
    pub(crate) vec: Vector,
    /// Use one order of addition for every size of step.
    pub(crate) deterministic: bool,
    /// Lowest layer whose input held NaN or an infinity.
    pub(crate) bad_layer: &'a AtomicU32,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// Where a test wants a worker to panic.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) layer: usize,
    pub(crate) worker: usize,
}

impl<'a> Cx<'a> {
    /// What the encoder left.
    pub(crate) fn memory(&self) -> &'a State {
        self.memory.expect("a plan with attention to an encoder has one")
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.batch.rows.len()
    }

    /// The rows that a branch or router reads.
    pub(crate) fn read(&self, read: Read) -> &Buffer<f32> {
        match read {
            Read::Stream => &self.bufs.x,
            Read::LayerInput => &self.bufs.kept,
        }
    }

    /// Notes that the input of `layer` is not finite, if so.
    pub(crate) fn watch(&self, layer: usize, x: &[f32]) {
        if self.vec.check_finite(x).is_some() {
            self.bad_layer.fetch_min(layer as u32, Ordering::Relaxed);
        }
    }
}

/// Widths in floats (or bytes) per row of the scratch buffers: the largest that any op asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Widths {
    pub(crate) n_embd: usize,
    pub(crate) q: usize,
    pub(crate) k: usize,
    pub(crate) v: usize,
    /// Attention and convolution results.
    pub(crate) o: usize,
    /// Gates.
    pub(crate) g: usize,
    /// Per-layer embeddings of all layers together.
    pub(crate) per_layer: usize,
    /// Copies of the residual stream beside the one.
    pub(crate) n_stream: usize,
    /// Whether the input of a layer is kept for later stages.
    pub(crate) keep: bool,
    /// Whether a network that every row goes through runs beside experts.
    pub(crate) shared: bool,
    /// Hidden rows of feed-forward networks and fused projections.
    pub(crate) h: usize,
    /// Inner rows of recurrent bodies, by buffer.
    pub(crate) mix: [usize; N_MIX],
    /// Largest row that is prepared for a kernel.
    pub(crate) cols: usize,
    /// Bytes of a prepared row, by kind.
    pub(crate) acts: [usize; N_KINDS],
    /// As `acts`, for rows that one worker prepares for itself alone.
    pub(crate) head_acts: [usize; N_KINDS],
    /// Largest n_rot, once per rope table.
    pub(crate) rope: usize,
    pub(crate) n_rope: usize,
    pub(crate) n_expert: usize,
    /// Experts used per row times rows of hidden state and output.
    pub(crate) n_expert_used: usize,
    pub(crate) expert_h: usize,
    pub(crate) n_vocab: usize,
    /// Floats of one worker's attention scratch.
    pub(crate) attend: usize,
    /// Floats of the parts of attention of all workers together.
    pub(crate) parts: usize,
    /// Floats of the scores of positions of all workers together.
    pub(crate) scores: usize,
    /// Positions that are chosen for a row.
    pub(crate) chosen: usize,
    /// Bytes of one worker's panel scratch.
    pub(crate) panel: usize,
    /// Whether rows are prepared as pairs of columns.
    pub(crate) precise: bool,
}

impl Widths {
    /// Floats of one worker's results for pairs of columns.
    fn pairs(&self, n_ubatch: usize) -> usize {
        if self.precise { 2 * n_ubatch.max(OUT_ROWS) * linear::MAX_CHUNK } else { 0 }
    }
}

/// Scratch memory of a context. Every buffer is [n_ubatch, width].
pub(crate) struct Buffers {
    /// The residual stream.
    pub(crate) x: Buffer<f32>,
    /// Sum of the branches of a stage.
    pub(crate) z: Buffer<f32>,
    /// Output of one branch before its norm.
    pub(crate) y: Buffer<f32>,
    pub(crate) q: Buffer<f32>,
    pub(crate) k: Buffer<f32>,
    pub(crate) v: Buffer<f32>,
    pub(crate) o: Buffer<f32>,
    pub(crate) g: Buffer<f32>,
    /// The layer's input, where a later stage reads it.
    pub(crate) kept: Buffer<f32>,
    /// [n_layer * n]: per-layer embeddings.
    pub(crate) per_layer: Buffer<f32>,
    /// [n_stream, n_embd]: all copies of the residual stream.
    pub(crate) streams: Buffer<f32>,
    pub(crate) h: Buffer<f32>,
    pub(crate) mix: [Buffer<f32>; N_MIX],
    /// Prepared rows, by kind.
    pub(crate) acts: [Buffer<u8>; N_KINDS],
    /// cos and sin, [table, n_ubatch, rope].
    pub(crate) rope: Buffer<f32>,
    /// Router logits.
    pub(crate) router: Buffer<f32>,
    /// Prepared rows by expert.
    pub(crate) expert_acts: [Buffer<u8>; N_KINDS],
    /// Prepared hidden rows of the network that every row goes through.
    pub(crate) shared_acts: [Buffer<u8>; N_KINDS],
    pub(crate) expert_h: Buffer<f32>,
    pub(crate) expert_y: Buffer<f32>,
    /// [OUT_ROWS, n_vocab].
    pub(crate) logits: Buffer<f32>,
    /// What attention found in spans of long sequences, until they are added.
    pub(crate) parts: Buffer<f32>,
    /// How much rows want to see each position: `[sparse::SCORE_ROWS, n_ctx]`, whole pages.
    pub(crate) scores: Buffer<f32>,
    /// Positions that a row sees, rising; they outlive their body.
    pub(crate) chosen: Buffer<u32>,
    /// For what shares its spans: how many jobs are done, 0 between phases.
    pub(crate) done: Box<[AtomicU32]>,
    pub(crate) private: Vec<Private>,
    pub(crate) widths: Widths,
    pub(crate) n_ubatch: usize,
}

/// Scratch of one worker.
pub(crate) struct Private {
    /// One normalised row.
    pub(crate) row: Buffer<f32>,
    /// Prepared rows of small steps.
    pub(crate) acts: [Buffer<u8>; N_KINDS],
    /// Prepared rows of one head.
    pub(crate) head_acts: [Buffer<u8>; N_KINDS],
    /// Results of a chunk before they are added somewhere.
    pub(crate) tile: Buffer<f32>,
    pub(crate) attend: Buffer<f32>,
    pub(crate) panel: Buffer<u8>,
    /// What the first column of a pair leaves out.
    pub(crate) rest: Buffer<f32>,
    /// Results of both columns of pairs.
    pub(crate) pairs: Buffer<f32>,
    /// Expert of each (row, choice), then the (row, choice) of each slot in expert order.
    pub(crate) routes: Buffer<u32>,
    pub(crate) route_weights: Buffer<f32>,
}

/// A buffer as a matrix of rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) buffer: &'a Buffer<f32>,
    /// Floats from one row to the next.
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// Columns `range` of row `row`.
    ///
    /// # Safety
    /// Nobody writes them in this phase.
    pub(crate) unsafe fn get(self, row: u32, range: Range<usize>) -> &'a [f32] {
        let at = row as usize * self.stride;
        // SAFETY: the caller keeps writers away.
        unsafe { self.buffer.part(at + range.start..at + range.end) }
    }

    /// Columns `range` of row `row`, for writing.
    ///
    /// # Safety
    /// Nobody else touches them in this phase.
    pub(crate) unsafe fn get_mut(self, row: u32, range: Range<usize>) -> &'a mut [f32] {
        let at = row as usize * self.stride;
        // SAFETY: the caller owns the cells.
        unsafe { self.buffer.part_mut(at + range.start..at + range.end) }
    }
}

/// Shares out `n_items` parts of every sequence's rows among the workers, in time order inside a
/// part: what recurrences need.
pub(crate) fn by_sequence(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    n_items: usize,
    mut job: impl FnMut(&Segment, &[u32], usize),
) {
    let segments = &cx.batch.segments;
    while let Some(claim) = w.claim(segments.len() * n_items, 1) {
        let segment = &segments[claim.start / n_items];
        job(segment, &cx.batch.order[segment.rows.clone()], claim.start % n_items);
    }
}

/// ln(1 + e^x).
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// 1 / (1 + e^-x).
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Rows of logits computed at a time.
pub(crate) const OUT_ROWS: usize = 16;

impl Buffers {
    /// Scratch for micro-batches of up to `n_ubatch` rows on `n_threads` workers.
    pub(crate) fn new(widths: Widths, n_ubatch: usize, n_threads: usize) -> Buffers {
        let w = &widths;
        let n = n_ubatch;
        let slots = n * w.n_expert_used;
        let floats = |width: usize| Buffer::new(n * width);
        let private = || Private {
            row: Buffer::new(w.cols),
            acts: w.acts.map(|bytes| Buffer::new(SELF_SERVICE_ROWS * bytes)),
            head_acts: w.head_acts.map(|bytes| Buffer::new(n * bytes)),
            tile: Buffer::new(n.max(OUT_ROWS) * linear::MAX_CHUNK),
            attend: Buffer::new(w.attend),
            panel: Buffer::new(w.panel),
            rest: Buffer::new(if w.precise { w.cols } else { 0 }),
            pairs: Buffer::new(w.pairs(n)),
            routes: Buffer::new(3 * slots + 2 * w.n_expert + 1),
            route_weights: Buffer::new(2 * slots),
        };
        Buffers {
            x: floats(w.n_embd),
            z: floats(w.n_embd),
            y: floats(w.n_embd),
            q: floats(w.q),
            k: floats(w.k),
            v: floats(w.v),
            o: floats(w.o),
            g: floats(w.g),
            kept: floats(if w.keep { w.n_embd } else { 0 }),
            per_layer: floats(w.per_layer),
            streams: floats(w.n_stream * w.n_embd),
            h: floats(w.h),
            mix: w.mix.map(floats),
            acts: w.acts.map(|bytes| Buffer::new(n.max(OUT_ROWS) * bytes)),
            rope: Buffer::new(n * w.rope * w.n_rope),
            router: floats(w.n_expert),
            expert_acts: w.acts.map(|bytes| Buffer::new(slots * bytes)),
            shared_acts: w.acts.map(|bytes| Buffer::new(if w.shared { n * bytes } else { 0 })),
            expert_h: Buffer::new(slots * w.expert_h),
            expert_y: Buffer::new(slots * if slots > 0 { w.n_embd } else { 0 }),
            logits: Buffer::new(OUT_ROWS * w.n_vocab),
            parts: Buffer::new(w.parts),
            scores: Buffer::new(w.scores),
            chosen: Buffer::new(n * w.chosen),
            done: (0..attend::SHARED * n_threads).map(|_| AtomicU32::new(0)).collect(),
            private: (0..n_threads).map(|_| private()).collect(),
            n_ubatch,
            widths,
        }
    }

    /// cos and sin of row `r` in rope table `table`, for writing.
    ///
    /// # Safety
    /// The embedding phase is running, and the caller has claimed the row.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub(crate) unsafe fn rope_row_mut(&self, table: usize, r: usize) -> &mut [f32] {
        let at = (table * self.n_ubatch + r) * self.widths.rope;
        // SAFETY: the caller owns the row.
        unsafe { self.rope.part_mut(at..at + self.widths.rope) }
    }

    /// The first `n_rot` values (cos, then sin) of row `r` in rope table `table`.
    pub(crate) fn rope_row(&self, table: usize, r: usize, n_rot: usize) -> &[f32] {
        let at = (table * self.n_ubatch + r) * self.widths.rope;
        // SAFETY: written in the embedding phase alone, which is over.
        unsafe { self.rope.part(at..at + n_rot) }
    }

    /// Forgets what a step that failed left half done.
    pub(crate) fn reset(&self) {
        self.done.iter().for_each(|done| done.store(0, Ordering::Relaxed));
    }

    /// Bytes that [`Buffers::new`] takes.
    pub(crate) fn bytes(w: &Widths, n_ubatch: usize, n_threads: usize) -> u64 {
        let slots = n_ubatch * w.n_expert_used;
        let copies = 3 + usize::from(w.keep) + w.n_stream;
        let widths = [w.q, w.k, w.v, w.o, w.g, w.h, w.per_layer, w.rope * w.n_rope, w.n_expert];
        let per_row = copies * w.n_embd + widths.iter().chain(&w.mix).sum::<usize>();
        let acts: usize = w.acts.iter().sum();
        let shared = n_ubatch * (4 * (per_row + w.chosen) + acts * (1 + usize::from(w.shared)))
            + slots * (acts + 4 * (w.expert_h + w.n_embd))
            + 4 * (OUT_ROWS * w.n_vocab + w.parts + w.scores);
        let private = 4 * (w.cols + n_ubatch.max(OUT_ROWS) * linear::MAX_CHUNK + w.attend)
            + SELF_SERVICE_ROWS * acts
            + n_ubatch * w.head_acts.iter().sum::<usize>()
            + 4 * (w.pairs(n_ubatch) + if w.precise { w.cols } else { 0 })
            + w.panel;
        (shared + n_threads * private) as u64
    }
}

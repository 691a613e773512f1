//! Per-layer embeddings (Gemma 3n, Google 2025): a small second embedding of each token for every
//! layer, worked out once a step, and its mixing-in by the layers.

use super::Cx;
use super::ffn::activate;
use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use crate::bind::Matrix;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Act};
use crate::team::{Stop, Worker};

/// The input part: rows of all layers' embeddings.
pub(crate) struct PerLayerInput {
    /// [n_vocab, n_layer * n], read row by row.
    tokens: Matrix,
    proj: Linear,
    norm: Norm,
    n: usize,
}

impl PerLayerInput {
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        spec: &spec::PerLayerInput,
        n_layer: usize,
    ) -> Result<Self, Error> {
        let (b, n_embd, n_vocab) = (lower.binder, lower.n_embd, lower.widths.n_vocab);
        let width = n_layer.checked_mul(spec.n).ok_or_else(|| Error::BadValue {
            key: "embedding_length_per_layer_input".into(),
            found: spec.n.to_string(),
            expected: "a width whose product with the blocks fits memory".into(),
        })?;
        let tokens = b.matrix("per_layer_token_embd", n_vocab, width)?;
        lower.check_decodes(tokens.ty)?;
        let proj = b.matrix("per_layer_model_proj", width, n_embd)?;
        let norm = Norm::bind(b, "", &spec.norm, spec.n)?;
        let w = &mut lower.widths;
        w.per_layer = width;
        w.cols = w.cols.max(width + spec.n);
        Ok(PerLayerInput { tokens, proj: lower.linear(proj)?, norm, n: spec.n })
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.proj]
    }

    /// Fills the buffer of per-layer embeddings from the input rows.
    pub(crate) fn run(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let (b, n_embd, width) = (cx.bufs, cx.bufs.widths.n_embd, self.proj.m.rows);
        let acts = linear::prepare(w, cx, &Source::plain(&b.x, n_embd), &[&self.proj])?;
        let dest = Dest::Set(&b.per_layer, width);
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.proj, dest)]);
        w.barrier()?;
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for r in range {
                let bytes = self.tokens.row(cx.batch.rows[r].token as usize);
                // SAFETY: rows are claimed, the scratch is private.
                let (e, scratch) = unsafe {
                    let scratch = &cx.bufs.private[w.index()].row;
                    let e = b.per_layer.part_mut(r * width..(r + 1) * width);
                    (e, scratch.part_mut(0..width + self.n))
                };
                let (token, normed) = scratch.split_at_mut(width);
                cx.vec.scale(e, 1.0 / (n_embd as f32).sqrt());
                quant::decode(self.tokens.ty, bytes, token).expect("bind checked type and size");
                cx.vec.scale(token, (self.n as f32).sqrt());
                for (e, token) in e.chunks_exact_mut(self.n).zip(token.chunks_exact(self.n)) {
                    self.norm.apply(cx.vec, e, normed);
                    e.copy_from_slice(token);
                    cx.vec.add(e, normed);
                    cx.vec.scale(e, std::f32::consts::FRAC_1_SQRT_2);
                }
            }
        }
        w.barrier()
    }
}

/// The layer's part: y = proj(act(gate x) * e).
pub(crate) struct PerLayer {
    gate: Linear,
    proj: Linear,
    act: Act,
    /// First value of this layer in the rows of embeddings.
    first: usize,
}

impl PerLayer {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, s: &spec::PerLayer) -> Result<Self, Error> {
        let (b, n) = (lower.binder, lower.n_embd);
        let gate = b.matrix(&format!("{p}inp_gate"), s.n, n)?;
        let proj = b.matrix(&format!("{p}proj"), n, s.n)?;
        lower.widths.h = lower.widths.h.max(s.n);
        let first = lower.layer() * s.n;
        Ok(PerLayer { gate: lower.linear(gate)?, proj: lower.linear(proj)?, act: s.act, first })
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.gate, &self.proj]
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (b, n, rows) = (cx.bufs, self.gate.m.rows, cx.n_rows());
        let acts = linear::prepare(w, cx, src, &[&self.gate])?;
        linear::project(w, cx, &acts, rows, &[(&self.gate, Dest::Set(&b.h, n))]);
        w.barrier()?;
        while let Some(range) = w.claim(rows, 1) {
            for r in range {
                let at = r * b.widths.per_layer + self.first;
                // SAFETY: rows are claimed; embeddings are only read here.
                let (h, e) =
                    unsafe { (b.h.part_mut(r * n..(r + 1) * n), b.per_layer.part(at..at + n)) };
                activate(cx.vec, self.act, h, e);
            }
        }
        w.barrier()?;
        let acts = linear::prepare(w, cx, &Source::plain(&b.h, n), &[&self.proj])?;
        linear::project(w, cx, &acts, rows, &[(&self.proj, dest)]);
        w.barrier()
    }
}

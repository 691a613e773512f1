//! Lowering: a spec and a file's tensors become ops with kernels chosen and scratch sized.
//!
//! Everything that can be decided before tokens run is decided here; the loop in [`crate::exec`]
//! looks nothing up.

use crate::bind::{Binder, Matrix};
use crate::check;
use crate::device::Repack;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::ops::altup::{AltUp, AltUpEnds};
use crate::ops::attention::Attention;
use crate::ops::ffn::{self, Ffn};
use crate::ops::linear::Linear;
use crate::ops::low_rank::{LowRank, Square};
use crate::ops::mla::Mla;
use crate::ops::moe::Moe;
use crate::ops::norm::Norm;
use crate::ops::per_layer::{PerLayer, PerLayerInput};
use crate::ops::pool::PoolPlan;
use crate::ops::recurrent::{self, Mixer};
use crate::ops::rope::RopeTable;
use crate::ops::{OUT_ROWS, Widths};
use crate::spec::{self, Body, Branch, Head, ModelSpec, Read, Rope, Stage, Streams};
use crate::state::Layout;
use formats::TensorType;
use quant::Isa;
use std::sync::Arc;

/// A model made ready for one context.
pub(crate) struct Plan {
    pub(crate) stack: StackPlan,
    /// What runs first over another text.
    pub(crate) encoder: Option<StackPlan>,
    pub(crate) ropes: Vec<RopeTable>,
    /// The output matrix, of a model that has logits.
    pub(crate) output: Option<Linear>,
    pub(crate) head: Head,
    pub(crate) pool: PoolPlan,
    pub(crate) layout: Layout,
    /// What the encoder keeps, and leaves.
    pub(crate) memory: Layout,
    pub(crate) widths: Widths,
}

/// Input, layers, final norm.
pub(crate) struct StackPlan {
    pub(crate) input: InputPlan,
    /// Copies of the residual stream, made and merged.
    pub(crate) streams: Option<AltUpEnds>,
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) norm: Option<Norm>,
    /// First stage of the last layer from which on a row meets no other: what follows is needed for
    /// rows whose logits are wanted only.
    pub(crate) narrow: Option<usize>,
}

/// How ids become rows.
pub(crate) struct InputPlan {
    /// Token embedding, read row by row.
    pub(crate) embd: Matrix,
    pub(crate) scale: f32,
    /// A row for each position, read so too.
    pub(crate) positions: Option<Matrix>,
    /// A row for each kind of text.
    pub(crate) types: Option<Matrix>,
    pub(crate) norm: Option<Norm>,
    pub(crate) per_layer: Option<PerLayerInput>,
}

/// A block.
pub(crate) struct LayerPlan {
    pub(crate) stages: Vec<StagePlan>,
    /// Keep the input for later stages.
    pub(crate) keep: bool,
    pub(crate) altup: Option<AltUp>,
}

/// A stage: branches that read the same stream.
pub(crate) struct StagePlan {
    pub(crate) branches: Vec<BranchPlan>,
    /// What becomes of the sum of several branches, or of one that is not plain.
    pub(crate) after: After,
}

/// One branch of a stage.
pub(crate) struct BranchPlan {
    pub(crate) read: Read,
    pub(crate) norm: Option<Norm>,
    pub(crate) op: Op,
    pub(crate) norm_out: Option<Norm>,
    pub(crate) scale: f32,
}

/// x = norm_after(factor * (x + scale * norm_out(y))).
pub(crate) struct After {
    pub(crate) norm_out: Option<Norm>,
    pub(crate) scale: f32,
    pub(crate) factor: f32,
    pub(crate) norm_after: Option<Norm>,
}

impl After {
    /// Whether y, multiplied by the scale, can be added to x as it comes.
    pub(crate) fn is_plain(&self) -> bool {
        self.norm_out.is_none() && self.norm_after.is_none() && self.factor == 1.0
    }
}

/// The body of a branch, lowered.
pub(crate) enum Op {
    Attention(Box<Attention>),
    Mla(Box<Mla>),
    Ffn(Box<Ffn>),
    Moe(Box<Moe>),
    Recurrent(Box<dyn Mixer>),
    Linear(Square),
    LowRank(LowRank),
    PerLayer(PerLayer),
}

impl Op {
    /// Every matrix, for listings.
    fn linears(&self) -> Vec<&Linear> {
        match self {
            Op::Attention(op) => op.linears(),
            Op::Mla(op) => op.linears(),
            Op::Ffn(op) => op.linears(),
            Op::Moe(op) => op.linears(),
            Op::Recurrent(op) => op.linears(),
            Op::Linear(op) => op.linears(),
            Op::LowRank(op) => op.linears(),
            Op::PerLayer(op) => op.linears(),
        }
    }
}

/// Which kernels multiply, and how.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) isa: Isa,
    /// Where rows are laid side by side.
    pub(crate) repack: Option<&'a Arc<Repack>>,
    /// Whether activations keep some 15 bits rather than 7.
    pub(crate) precise: bool,
}

/// What lowering an op needs and adds to.
pub(crate) struct Lower<'a> {
    pub(crate) binder: &'a Binder,
    choice: Choice<'a>,
    pub(crate) n_ctx: usize,
    n_ubatch: usize,
    pub(crate) n_embd: usize,
    pub(crate) widths: Widths,
    pub(crate) layout: Layout,
    /// The same for the encoder, whose rows a decoder's attention may read.
    pub(crate) memory: Layout,
    /// Keys and values in the layout, for each layer so far.
    pub(crate) kv_of_layer: Vec<Option<usize>>,
    ropes: Vec<(Rope, RopeTable)>,
}

impl Lower<'_> {
    /// Chooses kernels for a matrix.
    pub(crate) fn linear(&mut self, m: Matrix) -> Result<Linear, Error> {
        self.linear_of(m, self.choice.precise)
    }

    fn linear_of(&mut self, m: Matrix, precise: bool) -> Result<Linear, Error> {
        let isa = self.choice.isa;
        let packed = match self.choice.repack {
            Some(copy) => check::packed_kernels(m.ty, isa)?
                .and_then(|kernels| Some((kernels, m.packed(copy)?))),
            None => None,
        };
        let (kernels, m) = match packed {
            Some(both) => both,
            None => (check::kernels(m.ty, isa)?, m),
        };
        Ok(Linear::new(m, kernels, precise, self.n_ubatch, &mut self.widths))
    }

    /// Chooses kernels for a matrix that single workers multiply with all rows.
    pub(crate) fn linear_alone(&mut self, m: Matrix) -> Result<Linear, Error> {
        let linear = self.linear(m)?;
        linear.reserve_alone(&mut self.widths);
        Ok(linear)
    }

    /// Index of a fixed state of `floats` per sequence.
    pub(crate) fn fixed(&mut self, floats: usize) -> usize {
        self.layout.fixed.push(floats);
        self.layout.fixed.len() - 1
    }

    /// Makes room for inner rows of these widths in the first of the mixing buffers.
    pub(crate) fn mix(&mut self, widths: &[usize]) {
        for (have, &n) in self.widths.mix.iter_mut().zip(widths) {
            *have = n.max(*have);
        }
    }

    /// Refuses a type whose rows cannot be decoded while tokens run.
    pub(crate) fn check_decodes(&self, ty: TensorType) -> Result<(), Error> {
        quant::kernels(ty, self.choice.isa)?;
        Ok(())
    }

    /// Number of the layer that is being lowered.
    pub(crate) fn layer(&self) -> usize {
        self.kv_of_layer.len().saturating_sub(1)
    }

    /// Notes that this layer's keys and values are `slot` of the layout.
    pub(crate) fn note_kv(&mut self, slot: usize) {
        if let Some(last) = self.kv_of_layer.last_mut() {
            *last = Some(slot);
        }
    }

    /// Index of the table for a rotation; equal rotations share one.
    pub(crate) fn rope(&mut self, rope: &Rope) -> Result<usize, Error> {
        if let Some(i) = self.ropes.iter().position(|(r, _)| r == rope) {
            return Ok(i);
        }
        let table = RopeTable::bind(self.binder, rope, self.n_ctx)?;
        self.widths.rope = self.widths.rope.max(table.n_rot());
        self.ropes.push((rope.clone(), table));
        self.widths.n_rope = self.ropes.len();
        Ok(self.ropes.len() - 1)
    }

    fn norm(&self, prefix: &str, norm: &Option<spec::Norm>) -> Result<Option<Norm>, Error> {
        norm.as_ref().map(|n| Norm::bind(self.binder, prefix, n, self.n_embd)).transpose()
    }

    fn branch(&mut self, prefix: &str, branch: &Branch) -> Result<BranchPlan, Error> {
        let (norm, norm_out) =
            (self.norm(prefix, &branch.norm)?, self.norm(prefix, &branch.norm_out)?);
        self.widths.keep |= branch.read == Read::LayerInput;
        let op = match &branch.body {
            Body::Attn(a) => Op::Attention(Box::new(Attention::bind(self, prefix, a)?)),
            Body::Mla(m) => Op::Mla(Box::new(Mla::bind(self, prefix, m)?)),
            Body::Ffn(f) => Op::Ffn(Box::new(Ffn::bind(self, prefix, f, &ffn::DENSE)?)),
            Body::Moe(m) => Op::Moe(Box::new(Moe::bind(self, prefix, m)?)),
            Body::Recurrent(r) => Op::Recurrent(recurrent::bind(self, prefix, r)?),
            Body::Linear(name) => Op::Linear(Square::bind(self, prefix, name)?),
            Body::LowRank(l) => Op::LowRank(LowRank::bind(self, prefix, l)?),
            Body::PerLayer(e) => Op::PerLayer(PerLayer::bind(self, prefix, e)?),
        };
        Ok(BranchPlan { read: branch.read, norm, op, norm_out, scale: branch.scale })
    }

    fn stage(&mut self, prefix: &str, stage: &Stage) -> Result<StagePlan, Error> {
        let branches = stage.branches.iter().map(|b| self.branch(prefix, b));
        let mut branches: Vec<BranchPlan> = branches.collect::<Result<_, _>>()?;
        let name = |n| self.binder.scalar(&format!("{prefix}{n}.weight"));
        let factor = stage.factor_name.map(name).transpose()?.unwrap_or(1.0);
        let mut after = After {
            norm_out: self.norm(prefix, &stage.norm_out)?,
            scale: stage.scale,
            factor: stage.factor * factor,
            norm_after: self.norm(prefix, &stage.norm_after)?,
        };
        // One branch alone: its norm and scale are those of the sum.
        if let ([only], None) = (&mut branches[..], &after.norm_out) {
            after.norm_out = only.norm_out.take();
            after.scale *= std::mem::replace(&mut only.scale, 1.0);
        }
        Ok(StagePlan { branches, after })
    }

    fn layer_plan(&mut self, il: usize, spec: &spec::Stack) -> Result<LayerPlan, Error> {
        let (prefix, layer) = (format!("{}blk.{il}.", spec.prefix), &spec.layers[il]);
        self.kv_of_layer.push(None);
        let mut stages = Vec::with_capacity(layer.stages.len());
        for stage in &layer.stages {
            stages.push(self.stage(&prefix, stage)?);
        }
        let reads = |b: &BranchPlan| match &b.op {
            Op::Moe(m) => m.reads_layer_input() || b.read == Read::LayerInput,
            _ => b.read == Read::LayerInput,
        };
        let keep = stages.iter().flat_map(|s| &s.branches).any(reads);
        let per_layer = match (&spec.streams, layer.stages.last()) {
            (Streams::AltUp { .. }, Some(last)) if is_per_layer(last) => stages.pop(),
            _ => None,
        };
        let per_layer = per_layer.and_then(|mut stage| match stage.branches.pop()?.op {
            Op::PerLayer(op) => Some((op, stage.after.norm_out)),
            _ => None,
        });
        let altup = AltUp::bind(self, &prefix, &spec.streams, per_layer)?;
        Ok(LayerPlan { stages, keep, altup })
    }

    fn stack(&mut self, hp: &Hparams, spec: &spec::Stack) -> Result<StackPlan, Error> {
        self.kv_of_layer.clear();
        let input = self.input(hp, spec)?;
        let streams = AltUpEnds::bind(self, &spec.streams)?;
        let layers = (0..spec.layers.len()).map(|il| self.layer_plan(il, spec));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let norm = self.norm(spec.prefix, &spec.norm)?;
        let narrow = narrow(&input, streams.is_some(), &layers);
        Ok(StackPlan { input, streams, layers, norm, narrow })
    }

    /// The output matrix, which may be the embedding.
    fn output(&mut self, embd: &Matrix) -> Result<Linear, Error> {
        let (n_vocab, n_embd) = (self.widths.n_vocab, self.n_embd);
        // A bias alone means that the matrix got lost, not that it is the embedding.
        let output = match self.binder.has("output.bias") {
            true => Some(self.binder.matrix("output", n_vocab, n_embd)?),
            false => self.binder.opt_matrix("output", n_vocab, n_embd)?,
        };
        // Rounding errors here are errors of logits: SmolLM2's summed log-likelihood of 31,296 is off
        // by 31 with 7 bits here and by 22 with 15, which cost little: few rows come this far.
        self.linear_of(output.unwrap_or(embd.clone()), true)
    }

    fn input(&mut self, hp: &Hparams, spec: &spec::Stack) -> Result<InputPlan, Error> {
        let embd = self.binder.matrix("token_embd", hp.n_vocab, self.n_embd)?;
        // Its rows are decoded while tokens run: a type that cannot be is refused here.
        self.check_decodes(embd.ty)?;
        let input = &spec.input;
        let positions = match input.positions {
            false => None,
            true => Some(self.binder.matrix("position_embd", hp.n_ctx_train, self.n_embd)?),
        };
        if let Some(m) = &positions {
            self.check_decodes(m.ty)?;
            if self.n_ctx > m.rows {
                return Err(Error::BadValue {
                    key: hp.key("context_length"),
                    found: format!("{}, with a row for each position", m.rows),
                    expected: format!("at least the {} positions asked for", self.n_ctx),
                });
            }
        }
        let types = match input.types {
            false => None,
            true => {
                let n = self.binder.rows("token_types").unwrap_or(1);
                let m = self.binder.matrix("token_types", n, self.n_embd)?;
                self.check_decodes(m.ty)?;
                Some(m)
            }
        };
        let per_layer = match &input.per_layer {
            None => None,
            Some(p) => Some(PerLayerInput::bind(self, p, spec.layers.len())?),
        };
        let norm = self.norm("", &input.norm)?;
        Ok(InputPlan { embd, scale: input.scale, positions, types, norm, per_layer })
    }
}

/// Whether a stage does nothing but mix a per-layer embedding in.
fn is_per_layer(stage: &Stage) -> bool {
    matches!(&stage.branches[..], [Branch { body: Body::PerLayer(_), .. }])
}

impl Plan {
    /// Lowers `spec` for `isa`, a context of `n_ctx` positions and micro-batches of `n_ubatch`.
    ///
    /// # Errors
    /// Missing, misshapen or left-over tensors, and types without kernels.
    pub(crate) fn new(
        hp: &Hparams,
        spec: &ModelSpec,
        choice: Choice<'_>,
        n_ctx: usize,
        n_ubatch: usize,
    ) -> Result<Plan, Error> {
        Plan::with(&Binder::new(hp.gguf().clone()), hp, spec, choice, n_ctx, n_ubatch)
    }

    /// As [`Plan::new`], with the tensors of `binder`.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn with(
        binder: &Binder,
        hp: &Hparams,
        spec: &ModelSpec,
        choice: Choice<'_>,
        n_ctx: usize,
        n_ubatch: usize,
    ) -> Result<Plan, Error> {
        let (n_embd, n_vocab) = (hp.n_embd, hp.n_vocab);
        let mut lower = Lower {
            binder,
            choice,
            n_ctx,
            n_ubatch: n_ubatch.max(OUT_ROWS),
            n_embd,
            widths: Widths { n_embd, n_vocab, cols: n_embd, ..Widths::default() },
            layout: Layout::default(),
            memory: Layout::default(),
            kv_of_layer: Vec::new(),
            ropes: Vec::new(),
        };
        let encoder = spec.encoder.as_ref().map(|s| lower.stack(hp, s)).transpose()?;
        lower.memory = std::mem::take(&mut lower.layout);
        let stack = lower.stack(hp, &spec.stack)?;
        let output = match spec.head.logits {
            false => None,
            true => Some(lower.output(&stack.input.embd)?),
        };
        let pool = PoolPlan::bind(&lower, &spec.head)?;
        let Lower { mut widths, layout, memory, ropes, .. } = lower;
        // Scores of a row's experts, for weighing and for choosing.
        widths.cols = widths.cols.max(2 * widths.n_expert);
        let n_layer = stack.layers.len();
        let ahead = hp.usize("nextn_predict_layers")?.unwrap_or(0);
        binder.finish(&hp.arch, &(n_layer..n_layer.saturating_add(ahead)))?;
        Ok(Plan {
            stack,
            encoder,
            ropes: ropes.into_iter().map(|(_, table)| table).collect(),
            output,
            head: spec.head.clone(),
            pool,
            layout,
            memory,
            widths,
        })
    }

    /// Every matrix of the plan, in file order of layers.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = Vec::new();
        for stack in self.encoder.iter().chain([&self.stack]) {
            all.extend(stack.input.per_layer.iter().flat_map(PerLayerInput::linears));
            all.extend(stack.streams.iter().flat_map(AltUpEnds::linears));
            for layer in &stack.layers {
                let branches = layer.stages.iter().flat_map(|s| &s.branches);
                all.extend(branches.flat_map(|b| b.op.linears()));
                all.extend(layer.altup.iter().flat_map(AltUp::linears));
            }
        }
        all.extend(&self.output);
        all
    }
}

/// See [`StackPlan::narrow`]; `None` where other buffers than the stream belong to a row.
fn narrow(input: &InputPlan, has_streams: bool, layers: &[LayerPlan]) -> Option<usize> {
    let last = layers.last()?;
    if has_streams || input.per_layer.is_some() || last.altup.is_some() {
        return None;
    }
    let alone = |b: &BranchPlan| matches!(b.op, Op::Ffn(_) | Op::Moe(_) | Op::Linear(_));
    let first = last.stages.iter().rposition(|s| !s.branches.iter().all(alone));
    let first = first.map_or(0, |i| i + 1);
    (first < last.stages.len()).then_some(first)
}

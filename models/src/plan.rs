//! Lowering: a spec and a file's tensors become ops with kernels chosen and scratch sized.
//!
//! Everything that can be decided before tokens run is decided here; the loop in [`crate::exec`]
//! looks nothing up.

use crate::bind::{Binder, Matrix};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::ops::attention::Attention;
use crate::ops::conv::ShortConv;
use crate::ops::ffn::Ffn;
use crate::ops::linear::Linear;
use crate::ops::moe::Moe;
use crate::ops::norm::Norm;
use crate::ops::rope::RopeTable;
use crate::ops::{OUT_ROWS, Widths};
use crate::spec::{Body, Branch, Head, ModelSpec, Rope};
use crate::state::Layout;
use quant::Isa;

/// A model made ready for one context.
pub(crate) struct Plan {
    /// Token embedding, read row by row.
    pub(crate) embd: Matrix,
    pub(crate) embd_scale: f32,
    pub(crate) ropes: Vec<RopeTable>,
    pub(crate) layers: Vec<Vec<StagePlan>>,
    pub(crate) norm: Norm,
    pub(crate) output: Linear,
    pub(crate) head: Head,
    pub(crate) layout: Layout,
    pub(crate) widths: Widths,
}

/// A stage: branches that read the same stream.
pub(crate) struct StagePlan {
    pub(crate) branches: Vec<BranchPlan>,
}

/// One branch of a stage.
pub(crate) struct BranchPlan {
    pub(crate) norm: Option<Norm>,
    pub(crate) op: Op,
    pub(crate) norm_out: Option<Norm>,
    pub(crate) scale: f32,
}

impl BranchPlan {
    /// Whether the body's result can be added to the stream as it comes.
    pub(crate) fn is_plain(&self) -> bool {
        self.norm_out.is_none() && self.scale == 1.0
    }
}

/// The body of a branch, lowered.
pub(crate) enum Op {
    Attention(Attention),
    Ffn(Ffn),
    Moe(Moe),
    ShortConv(ShortConv),
}

/// What lowering an op needs and adds to.
pub(crate) struct Lower<'a> {
    pub(crate) binder: &'a Binder,
    isa: Isa,
    n_ctx: usize,
    n_ubatch: usize,
    pub(crate) n_embd: usize,
    pub(crate) widths: Widths,
    pub(crate) layout: Layout,
    ropes: Vec<(Rope, RopeTable)>,
}

impl Lower<'_> {
    /// Chooses kernels for a matrix.
    pub(crate) fn linear(&mut self, m: Matrix) -> Result<Linear, Error> {
        Linear::new(m, self.isa, self.n_ubatch, &mut self.widths)
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

    fn branch(&mut self, prefix: &str, branch: &Branch) -> Result<BranchPlan, Error> {
        let n_embd = self.n_embd;
        let norm = |n: &Option<crate::spec::Norm>| {
            n.as_ref().map(|n| Norm::bind(self.binder, prefix, n, n_embd)).transpose()
        };
        let (before, after) = (norm(&branch.norm)?, norm(&branch.norm_out)?);
        let op = match &branch.body {
            Body::Attn(a) => Op::Attention(Attention::bind(self, prefix, a)?),
            Body::Ffn(f) => Op::Ffn(Ffn::bind(self, prefix, f)?),
            Body::Moe(m) => Op::Moe(Moe::bind(self, prefix, m)?),
            Body::ShortConv(c) => Op::ShortConv(ShortConv::bind(self, prefix, c)?),
        };
        Ok(BranchPlan { norm: before, op, norm_out: after, scale: branch.scale })
    }
}

impl Plan {
    /// Lowers `spec` for `isa`, a context of `n_ctx` positions and micro-batches of `n_ubatch`.
    ///
    /// # Errors
    /// Missing, misshapen or left-over tensors, and types without kernels.
    pub(crate) fn new(
        hp: &Hparams,
        spec: &ModelSpec,
        isa: Isa,
        n_ctx: usize,
        n_ubatch: usize,
    ) -> Result<Plan, Error> {
        let binder = Binder::new(hp.gguf().clone());
        let (n_embd, n_vocab) = (hp.n_embd, hp.n_vocab);
        let embd = binder.matrix("token_embd", n_vocab, n_embd)?;
        // Its rows are decoded while tokens run: a type that cannot be is refused here.
        quant::kernels(embd.ty, isa)?;
        let mut lower = Lower {
            binder: &binder,
            isa,
            n_ctx,
            n_ubatch: n_ubatch.max(OUT_ROWS),
            n_embd,
            widths: Widths { n_embd, n_vocab, cols: n_embd, ..Widths::default() },
            layout: Layout::default(),
            ropes: Vec::new(),
        };
        let mut layers = Vec::with_capacity(spec.stack.layers.len());
        for (il, layer) in spec.stack.layers.iter().enumerate() {
            let prefix = format!("blk.{il}.");
            let mut stages = Vec::with_capacity(layer.stages.len());
            for stage in &layer.stages {
                let branches = stage.branches.iter().map(|b| lower.branch(&prefix, b));
                stages.push(StagePlan { branches: branches.collect::<Result<_, _>>()? });
            }
            layers.push(stages);
        }
        let norm = Norm::bind(&binder, "", &spec.stack.norm, n_embd)?;
        let output = binder.opt_matrix("output", n_vocab, n_embd)?.unwrap_or(embd.clone());
        let output = lower.linear(output)?;
        let Lower { mut widths, layout, ropes, .. } = lower;
        widths.cols = widths.cols.max(widths.n_expert);
        binder.finish(&hp.arch)?;
        Ok(Plan {
            embd,
            embd_scale: spec.stack.input.scale,
            ropes: ropes.into_iter().map(|(_, table)| table).collect(),
            layers,
            norm,
            output,
            head: spec.head.clone(),
            layout,
            widths,
        })
    }

    /// Every matrix of the plan, in file order of layers.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = Vec::new();
        for branch in self.layers.iter().flatten().flat_map(|s| &s.branches) {
            all.extend(match &branch.op {
                Op::Attention(a) => a.linears(),
                Op::Ffn(f) => f.linears(),
                Op::Moe(m) => m.linears(),
                Op::ShortConv(c) => c.linears(),
            });
        }
        all.push(&self.output);
        all
    }
}

//! The vocabulary in which architectures are written: data only, no behaviour.
//!
//! A model is an input, a list of layers of stages, and a head. The branches of one stage read the
//! same residual stream and are summed; the sum is added to the stream. Tensor base names stand in
//! the data as the file spells them (`attn_norm` is `blk.N.attn_norm.weight`), so that a spec can
//! be read beside a file's tensor list. [`std::fmt::Display`] of [`ModelSpec`] prints the formula
//! of every layer.
//!
//! A new behaviour is a new variant here with one op file; never a test on an architecture's name.

mod attn;
mod build;
mod ffn;
mod head;
mod latent;
mod print;
mod recurrent;
mod unmask;

pub use attn::{
    Attn, Gate, GateFrom, Kv, Pairing, QkNorm, RelativeBias, Rope, RopeScaling, Span, Temperature,
    Window,
};
pub use build::{bare, moe, par, pre, raw, seq, stage};
pub use ffn::{Act, Adjugate, Ffn, Groups, Moe, Router, Score, Shared};
pub use head::{Classifier, Head, Pooling, Squash};
pub use latent::{IndexChoice, Indexer, LatentForm, Mla};
pub use recurrent::{
    ChannelMix, GatedDelta, HeadOrder, Kda, Mamba, Mamba2, Recurrent, Rwkv6, Rwkv7, ShortConv,
    SsmNorm,
};
pub use unmask::{Sureness, Unmask};

/// A model as data.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// What runs first over another text, for the attention of [`Kv::Encoder`].
    pub encoder: Option<Stack>,
    /// Input, layers and final norm.
    pub stack: Stack,
    /// What becomes of the final rows.
    pub head: Head,
    /// How a text is written where not token after token.
    pub unmask: Option<Unmask>,
}

impl ModelSpec {
    /// Whether no position sees a later one.
    pub fn is_causal(&self) -> bool {
        let branches = self.stack.layers.iter().flat_map(|l| &l.stages).flat_map(|s| &s.branches);
        branches.filter_map(|b| b.body.attn()).all(|a| a.causal)
    }
}

/// Input, layers, final norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// What the names of its tensors begin with; but for the embedding, which stacks share.
    pub prefix: &'static str,
    /// How ids become rows of the residual stream.
    pub input: Input,
    /// Copies of the residual stream.
    pub streams: Streams,
    /// The layers in order; index = block number in the file.
    pub layers: Vec<Layer>,
    /// Norm before the head; `None` = the last layer ends in one.
    pub norm: Option<Norm>,
}

/// `norm(scale * token_embd[id] + position_embd[pos] + token_types[0])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Factor on the embedding row (Gemma: sqrt(n_embd)).
    pub scale: f32,
    /// Add a learned row for each position; tensor `position_embd`.
    pub positions: bool,
    /// Add the row of the kind of text that a token belongs to; tensor `token_types`. The second
    /// kind is that of the second text of a pair, where the tensor has more than one row.
    pub types: bool,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// A second, small embedding of each token for each layer.
    pub per_layer: Option<PerLayerInput>,
}

impl Input {
    /// Token rows as they are.
    pub fn tokens() -> Input {
        Input { scale: 1.0, positions: false, types: false, norm: None, per_layer: None }
    }
}

/// Per-layer embeddings (Gemma 3n): for layer l, with e the input row,
/// `(sqrt(n) * per_layer_token_embd[id][l] + norm(per_layer_model_proj(e) / sqrt(n_embd))[l]) /
/// sqrt(2)`; bodies [`Body::PerLayer`] read it.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerInput {
    /// Width for one layer.
    pub n: usize,
    /// Norm of a layer's part of the projection.
    pub norm: Norm,
}

/// Copies of the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Streams {
    /// One, as usual.
    One,
    /// Alternating updates (Baykal et al. 2023, as in Gemma 3n): `n` copies; each layer predicts
    /// all of them, computes on one, and corrects all by what that one turned out to be.
    AltUp {
        /// Copies.
        n: usize,
        /// The copy that layers compute on.
        active: usize,
        /// Norm in front of the router of the copies.
        norm: Norm,
    },
}

/// The stages of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// In order; each adds its sum to the stream.
    pub stages: Vec<Stage>,
}

/// Branches that read the same stream; their outputs are summed:
/// `x = norm_after(factor * (x + scale * norm_out(sum of branches)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// One (sequential blocks) or several (parallel attention and MLP).
    pub branches: Vec<Branch>,
    /// Norm of the sum.
    pub norm_out: Option<Norm>,
    /// Factor on the sum.
    pub scale: f32,
    /// Factor on the stream with the sum added.
    pub factor: f32,
    /// Tensor base name of one more such factor, a tensor of one value.
    pub factor_name: Option<&'static str>,
    /// Norm of the stream with the sum added (post-norm blocks).
    pub norm_after: Option<Norm>,
}

/// `scale * norm_out(body(norm(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// What is read.
    pub read: Read,
    /// Norm of the input.
    pub norm: Option<Norm>,
    /// What is computed.
    pub body: Body,
    /// Norm of the output (sandwich and post norms).
    pub norm_out: Option<Norm>,
    /// Factor on the output.
    pub scale: f32,
}

/// What a branch or a router reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Read {
    /// The residual stream as it is.
    #[default]
    Stream,
    /// The residual stream as it was before the layer's first stage.
    LayerInput,
}

/// A normalisation with the tensor that holds its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Which formula.
    pub kind: NormKind,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// Tensor base name; `None` = no weight and no bias.
    pub name: Option<&'static str>,
}

/// Formulas of [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019).
    Rms,
    /// (x - mean) / sqrt(var + eps) * weight, plus a bias where the file has one (Ba et al. 2016).
    Layer,
}

/// What a branch computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Softmax attention over the sequence's keys and values.
    Attn(Attn),
    /// Softmax attention over a compressed row per position.
    Mla(Mla),
    /// A gated or plain feed-forward network.
    Ffn(Ffn),
    /// A routed mixture of feed-forward networks.
    Moe(Moe),
    /// Something with a state of fixed size.
    Recurrent(Recurrent),
    /// One square matrix; its tensor's base name.
    Linear(&'static str),
    /// `x + norm(laurel_r(laurel_l(x)))`: a low-rank residual (LAuReL, Menghani et al. 2024).
    LowRank(LowRank),
    /// `proj(act(inp_gate(x)) * e)`, e this layer's part of [`PerLayerInput`].
    PerLayer(PerLayer),
}

impl Body {
    /// The attention, where the body is one.
    pub fn attn(&self) -> Option<&Attn> {
        match self {
            Body::Attn(a) => Some(a),
            _ => None,
        }
    }
}

/// A low-rank residual; tensors `laurel_l`, `laurel_r`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Width between the two matrices.
    pub rank: usize,
    /// Norm of the result.
    pub norm: Norm,
}

/// Mixing-in of a per-layer embedding; tensors `inp_gate`, `proj`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayer {
    /// Width of the embedding.
    pub n: usize,
    /// Activation of the gate.
    pub act: Act,
}

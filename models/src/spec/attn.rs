//! Words for attention and positions.

use super::{Norm, NormKind};

/// Attention. Tensors: `attn_q`, `attn_k`, `attn_v` or the fused `attn_qkv` (rows q, k, v), and
/// `attn_output`; each may carry a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Attn {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Width of a query or key head.
    pub head_dim_k: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Where keys and values come from.
    pub kv: Kv,
    /// Which positions are seen.
    pub window: Window,
    /// Only earlier positions are seen. Otherwise all positions of a sequence go through in one
    /// step.
    pub causal: bool,
    /// Rotary embedding of queries and keys.
    pub rope: Option<Rope>,
    /// ALiBi (Press et al. 2021) with this largest bias: `slope * distance` is taken off scores.
    pub alibi: Option<f32>,
    /// A learned bias on scores by distance; tensor `attn_rel_b`.
    pub relative: Option<RelativeBias>,
    /// Bound on every value of queries, keys and values.
    pub clamp: Option<f32>,
    /// Norm of queries and keys; tensors `attn_q_norm`, `attn_k_norm`.
    pub qk_norm: Option<QkNorm>,
    /// Epsilon of an RMS norm without weight of each value head.
    pub v_norm: Option<f32>,
    /// Factor on the values.
    pub value_scale: f32,
    /// Factor on the scores.
    pub scale: f32,
    /// A factor on queries that grows with the position.
    pub temperature: Option<Temperature>,
    /// `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A learned logit per query head that takes part in the softmax only; tensor `attn_sinks`.
    pub sinks: bool,
    /// A gate on the result of each head.
    pub gate: Option<Gate>,
    /// Norm of all heads' results together, before `attn_output`.
    pub sub_norm: Option<Norm>,
}

/// Where keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kv {
    /// Projections of the input.
    Own,
    /// Keys from `attn_k`; the values are the same projection before its norm and rotation.
    KeyAsValue,
    /// Keys and values of the attention in an earlier layer.
    Layer(usize),
    /// Projections of the encoder's final rows, all of which are seen. Tensors `cross_attn_q`, ...
    Encoder,
}

/// A bias on scores for buckets of distances (T5): each near distance has its own, farther ones share
/// with the logarithm of the distance. Where attention looks both ways, each way has half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBias {
    /// Buckets.
    pub n_buckets: usize,
    /// Distances from this on share the last one.
    pub max_distance: usize,
}

/// Positions that a query sees besides being causal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All positions.
    Full,
    /// The last n positions, itself included.
    Sliding(usize),
    /// Those in the same chunk of n positions.
    Chunked(usize),
    /// Those at most n positions away, on both sides.
    Symmetric(usize),
}

/// Norm of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// Which formula.
    pub kind: NormKind,
    /// Its epsilon.
    pub eps: f32,
    /// What is normalised together.
    pub span: Span,
    /// Whether the tensors are there; otherwise the norm has no weight.
    pub weight: bool,
    /// After the rotation rather than before.
    pub after_rope: bool,
}

impl QkNorm {
    /// The same norm after the rotation.
    #[must_use]
    pub fn after_rope(self) -> QkNorm {
        QkNorm { after_rope: true, ..self }
    }
}

/// What a norm of queries or keys takes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Each head, all with one weight.
    Head,
    /// Each head with a weight of its own: [n_head, head_dim].
    EachHead,
    /// The whole row of heads.
    Whole,
}

/// Queries times `1 + scale * ln(1 + floor((pos + offset) / n))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Slope.
    pub scale: f32,
    /// Positions of one step.
    pub n: usize,
    /// Added to the position.
    pub offset: usize,
}

/// A gate on attention's result, before the output projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Times the logistic function of the gate.
    Sigmoid(GateFrom),
    /// Times ln(1 + e^gate).
    Softplus(GateFrom),
}

/// Where the gate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateFrom {
    /// `attn_gate`, a value for every value of the result.
    Values,
    /// `attn_gate`, a value for each head.
    Heads,
    /// `attn_q`, whose rows are each head's query, then its gate.
    Query,
}

impl Gate {
    /// Where the gate comes from.
    pub fn from(self) -> GateFrom {
        match self {
            Gate::Sigmoid(from) | Gate::Softplus(from) => from,
        }
    }
}

/// Rotary position embedding (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which values form a pair.
    pub pairing: Pairing,
    /// Values of a head that are rotated, from its start.
    pub n_rot: usize,
    /// Base of the geometric series of frequencies.
    pub base: f32,
    /// How the frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Pairs of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...
    Neighbours,
    /// (0, n/2), (1, n/2 + 1), ...: the NeoX form. Sectioned rotations (M-RoPE) are this one for
    /// text, where the positions of all sections are equal.
    Halves,
}

/// Stretching of rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Positions divided by a factor (Chen et al. 2023).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Each frequency divided by its entry in the global tensor `rope_freqs`, where the file has
    /// one (Llama 3.1); else none.
    Freqs,
    /// YaRN (Peng et al. 2023): interpolation by frequency, and a factor on cos and sin.
    Yarn {
        /// Stretch of the context.
        factor: f32,
        /// Context the model was first trained with.
        n_ctx_orig: usize,
        /// Turns within `n_ctx_orig` above which a frequency stays as it is.
        beta_fast: f32,
        /// Turns below which it is fully interpolated.
        beta_slow: f32,
        /// Factor on cos and sin.
        magnitude: f32,
    },
    /// LongRoPE (Ding et al. 2024): divisors from `rope_factors_long` or `rope_factors_short`,
    /// chosen once by the session's context; none where the file has no such tensors.
    Long {
        /// Contexts above this take the long factors.
        n_ctx_orig: usize,
        /// Factor on cos and sin.
        attn_factor: f32,
    },
}

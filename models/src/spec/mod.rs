//! The vocabulary in which architectures are written: data only, no behaviour.
//!
//! A model is an input, a list of layers of stages, and a head. The branches of one stage read the
//! same residual stream and are summed; the sum is added to the stream. Tensor base names stand in
//! the data as the file spells them (`attn_norm` is `blk.N.attn_norm.weight`), so that a spec can
//! be read beside a file's tensor list. [`std::fmt::Display`] of [`ModelSpec`] prints the formula
//! of every layer.
//!
//! A new behaviour is a new variant here with one op file; never a test on an architecture's name.

mod build;
mod print;

pub use build::{moe, par, pre, seq};

/// A decoder as data.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Input, layers and final norm.
    pub stack: Stack,
    /// What becomes of the final rows.
    pub head: Head,
}

/// Input, layers, final norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    /// How ids become rows of the residual stream.
    pub input: Input,
    /// The layers in order; index = block number in the file.
    pub layers: Vec<Layer>,
    /// Norm before the head.
    pub norm: Norm,
}

/// Token rows times a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Factor on the embedding row (Gemma: sqrt(n_embd)).
    pub scale: f32,
}

/// The output matrix (`output.weight`, else the tied `token_embd.weight`) and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Factor on the logits.
    pub scale: f32,
    /// `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
}

/// The stages of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// In order; each adds its sum to the stream.
    pub stages: Vec<Stage>,
}

/// Branches that read the same stream; their outputs are summed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// One (sequential blocks) or several (parallel attention and MLP).
    pub branches: Vec<Branch>,
}

/// `scale * norm_out(body(norm(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Norm of the input.
    pub norm: Option<Norm>,
    /// What is computed.
    pub body: Body,
    /// Norm of the output (sandwich and post norms).
    pub norm_out: Option<Norm>,
    /// Factor on the output.
    pub scale: f32,
}

/// A normalisation with the tensor that holds its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Which formula.
    pub kind: NormKind,
    /// Added to the mean square or variance.
    pub eps: f32,
    /// Tensor base name.
    pub name: &'static str,
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
    /// A gated or plain feed-forward network.
    Ffn(Ffn),
    /// A routed mixture of feed-forward networks.
    Moe(Moe),
    /// A gated short convolution over time.
    ShortConv(ShortConv),
}

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
    /// Which earlier positions are seen.
    pub window: Window,
    /// Rotary embedding of queries and keys.
    pub rope: Option<Rope>,
    /// Norm of each query and key head before the rotation; tensors `attn_q_norm`, `attn_k_norm`.
    pub qk_norm: Option<NormKind>,
    /// Epsilon of `qk_norm`.
    pub qk_norm_eps: f32,
    /// Factor on the scores.
    pub scale: f32,
    /// `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A learned logit per query head that takes part in the softmax only; tensor `attn_sinks`.
    pub sinks: bool,
}

/// Positions that a query sees besides being causal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All earlier positions.
    Full,
    /// The last n positions, itself included.
    Sliding(usize),
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
    /// (0, n/2), (1, n/2 + 1), ...: the NeoX form.
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
        /// Extra factor on cos and sin.
        attn_factor: f32,
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

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// x * sigmoid(x).
    Silu,
    /// x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
    GeluTanh,
    /// x/2 * (1 + erf(x / sqrt 2)).
    Gelu,
    /// min(g, limit) * sigmoid(alpha * min(g, limit)) * (clamp(u, -limit, limit) + 1): gpt-oss.
    ClampedSwiglu {
        /// Slope inside the sigmoid.
        alpha: f32,
        /// Bound on both inputs.
        limit: f32,
    },
}

/// Feed-forward network. Tensors: `ffn_gate`, `ffn_up`, `ffn_down`; each may carry a bias. A gated
/// network without `ffn_gate` has both in `ffn_up` (gate rows first).
#[derive(Clone, Debug, PartialEq)]
pub struct Ffn {
    /// Hidden width.
    pub n_ff: usize,
    /// act(gate) * up rather than act(up).
    pub gated: bool,
    /// The activation.
    pub act: Act,
}

/// Mixture of experts. Tensors: `ffn_gate_inp` (router), `ffn_gate_exps`, `ffn_up_exps`,
/// `ffn_down_exps`; each may carry a bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// Experts there are.
    pub n_expert: usize,
    /// Experts a row goes through.
    pub n_expert_used: usize,
    /// The expert network; `n_ff` is one expert's width.
    pub ffn: Ffn,
    /// How router logits become weights.
    pub score: Score,
    /// Divide the chosen weights by their sum.
    pub renorm: bool,
    /// Factor on the weights.
    pub scale: f32,
}

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Softmax over all experts, then the best are chosen.
    Softmax,
    /// The best are chosen by logit, then softmax over those.
    SoftmaxOfChosen,
}

/// Gated short convolution (LFM2): rows B, C, x from `shortconv.in_proj`; a causal convolution of
/// B*x with `shortconv.conv`, times C, through `shortconv.out_proj`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConv {
    /// Length of the kernel, the present row included.
    pub n_taps: usize,
}

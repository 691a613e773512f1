//! Words for feed-forward networks and mixtures of them.

use super::{Norm, Read};

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// x * sigmoid(x).
    Silu,
    /// x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
    GeluTanh,
    /// x/2 * (1 + erf(x / sqrt 2)).
    Gelu,
    /// max(x, 0).
    Relu,
    /// max(x, 0)^2.
    Relu2,
    /// min(g, limit) * sigmoid(alpha * min(g, limit)) * (clamp(u, -limit, limit) + 1): gpt-oss.
    ClampedSwiglu {
        /// Slope inside the sigmoid.
        alpha: f32,
        /// Bound on both inputs.
        limit: f32,
    },
    /// beta x + alpha_p x^2 above 0, beta x + alpha_n (e^min(x, eps) - 1 - x) below (xIELU, Huang
    /// and Schlag 2024).
    Xielu {
        /// Curvature above 0.
        alpha_p: f32,
        /// Curvature below 0.
        alpha_n: f32,
        /// Slope.
        beta: f32,
        /// Bound on the exponent.
        eps: f32,
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
    /// Norm of the hidden row, before `ffn_down`.
    pub sub_norm: Option<Norm>,
    /// Of each gate row, what lies this many standard deviations above its mean, less that bound;
    /// the rest is 0 (Gemma 3n). The deviation is that of the population.
    pub sparsity: Option<f32>,
}

/// Mixture of experts. Tensors: `ffn_gate_inp` (router), `ffn_gate_exps`, `ffn_up_exps` (or both as
/// `ffn_gate_up_exps`, each expert's gate rows first), `ffn_down_exps`; each may carry a bias. Where
/// the file has `exp_probs_b`, it is added to the scores for choosing, not for weighing.
#[derive(Clone, Debug, PartialEq)]
pub struct Moe {
    /// Experts there are.
    pub n_expert: usize,
    /// Experts a row goes through.
    pub n_expert_used: usize,
    /// The expert network; `n_ff` is one expert's width.
    pub ffn: Ffn,
    /// What the router does before its matrix and after.
    pub router: Router,
    /// How router logits become weights.
    pub score: Score,
    /// Only experts of the best groups are chosen.
    pub groups: Option<Groups>,
    /// Divide the chosen weights by their sum.
    pub renorm: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// The weights multiply the experts' input rather than their output.
    pub weigh_input: bool,
    /// A network that every row goes through.
    pub shared: Option<Shared>,
    /// Smaller networks that neighbouring experts share.
    pub adjugate: Option<Adjugate>,
}

/// What the router reads and does.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// What it reads.
    pub read: Read,
    /// Norm of what it reads; `None` = what the experts read, normalised as that is, or where
    /// `read` is not the stream, that as it is.
    pub norm: Option<Norm>,
    /// Factor on the logits.
    pub scale: f32,
}

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Softmax over all experts, then the best are chosen.
    Softmax,
    /// The best are chosen by logit, then softmax over those.
    SoftmaxOfChosen,
    /// The logistic function of each logit.
    Sigmoid,
    /// The best are chosen by logit; each one's weight is its softmax among those not chosen before
    /// it whose logits are near its own (SparseMixer, Liu et al. 2024).
    SparseMixer {
        /// Half the distance, relative to the logits, that counts as near.
        jitter: f32,
    },
}

/// Groups of neighbouring experts. A group's score is the sum of its two best experts'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Groups there are; divides the experts.
    pub n: usize,
    /// Groups that are kept.
    pub n_used: usize,
}

/// A network beside the experts. Tensors: `ffn_gate_shexp`, `ffn_up_shexp`, `ffn_down_shexp`; where
/// the file has `ffn_gate_inp_shexp` (one row), the logistic function of its product multiplies the
/// result.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// The network.
    pub ffn: Ffn,
    /// Factor on the result.
    pub scale: f32,
}

/// Networks of which each serves several neighbouring experts (GroveMoE, Wu et al. 2025). Tensors:
/// `ffn_gate_chexps`, `ffn_up_chexps`, `ffn_down_chexps`. As the reference for this file format
/// computes it, they read what the experts gave rather than what the experts read, and network g
/// has the score of expert g.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adjugate {
    /// Experts that share one.
    pub n_expert_each: usize,
    /// Its width.
    pub n_ff: usize,
    /// Factor on its result, besides the expert's weight.
    pub scale: f32,
}

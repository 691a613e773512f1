//! Bodies that keep a state of fixed size instead of keys and values.

/// Gated short convolution (LFM2): rows B, C, x from `shortconv.in_proj`; a causal convolution of
/// B*x with `shortconv.conv`, times C, through `shortconv.out_proj`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortConv {
    /// Length of the kernel, the present row included.
    pub n_taps: usize,
}

/// Selective state space (Mamba, Gu and Dao 2023). Tensors: `ssm_in` (rows x, z), `ssm_conv1d`,
/// `ssm_x` (rows dt, B, C), `ssm_dt`, `ssm_a` (already -exp), `ssm_d`, `ssm_out`.
///
/// Per channel and state element: `s = exp(dt a) s + dt x B`, `y = C . s + d x`, times silu(z).
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba {
    /// Channels.
    pub n_inner: usize,
    /// State elements per channel.
    pub n_state: usize,
    /// Width from which dt is projected.
    pub n_rank: usize,
    /// Length of the convolution, the present row included.
    pub n_taps: usize,
    /// Norm of dt, B and C.
    pub norm: Option<SsmNorm>,
    /// `None`: every channel has its own dt, a and d. `Some(n)` (PLaMo 2): they are shared by the
    /// channels of one of n heads, `ssm_in` holds z, then x, head by head, and `ssm_x` B, C, dt.
    pub n_head: Option<usize>,
}

/// RMS norm of the dt, B and C of [`Mamba`].
#[derive(Clone, Debug, PartialEq)]
pub struct SsmNorm {
    /// Added to the mean square.
    pub eps: f32,
    /// Whether there are weights: `ssm_dt_norm`, `ssm_b_norm`, `ssm_c_norm`.
    pub weights: bool,
}

/// State space with one decay per head (Mamba 2, Dao and Gu 2024). Tensors: `ssm_in` (rows z, x, B,
/// C, dt), `ssm_conv1d` (over x, B, C), `ssm_dt.bias`, `ssm_a` (already -exp), `ssm_d`, `ssm_norm`,
/// `ssm_out`.
///
/// Per head: `S = exp(dt a) S + dt x B^T`, `y = S C + d x`, times silu(z), then the norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// Channels; a multiple of `n_head` and of `n_group`.
    pub n_inner: usize,
    /// State elements per channel.
    pub n_state: usize,
    /// Heads; a multiple of `n_group`.
    pub n_head: usize,
    /// Groups of heads that share B and C, and groups of channels of the norm.
    pub n_group: usize,
    /// Length of the convolution, the present row included.
    pub n_taps: usize,
    /// Epsilon of the norm of each group after the gate; `None` = no norm.
    pub norm_eps: Option<f32>,
}

/// Gated delta rule (Yang et al. 2024). Tensors: `attn_qkv` (rows q, k, v) and `attn_gate` (z), or both
/// by key head as `ssm_in`; `ssm_ba` or `ssm_beta` and `ssm_alpha`, `ssm_conv1d`, `ssm_a`, `ssm_dt.bias`, `ssm_norm`,
/// `ssm_out`.
///
/// Per head, with q and k of length one: `S = g S`, `S += beta (v - S k) k^T`, `y = S q / sqrt(d)`,
/// where g = exp(a softplus(alpha + bias)) and beta is a sigmoid; then norm(y) silu(z).
#[derive(Clone, Debug, PartialEq)]
pub struct GatedDelta {
    /// Query and key heads.
    pub n_head_k: usize,
    /// Value heads; a multiple of `n_head_k`.
    pub n_head_v: usize,
    /// Width of a query or key head.
    pub head_dim_k: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Length of the convolution, the present row included.
    pub n_taps: usize,
    /// Which key head goes with a value head.
    pub heads: HeadOrder,
    /// Epsilon of the norm.
    pub norm_eps: f32,
}

/// Which key head value head j of n_head_v goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadOrder {
    /// j / (n_head_v / n_head_k).
    Grouped,
    /// j % n_head_k.
    Tiled,
}

/// Kimi delta attention (Kimi team 2025): the delta rule with a decay per key channel. Tensors:
/// `attn_q`, `attn_k`, `attn_v` with a convolution each (`ssm_conv1d_q`, ...), `ssm_f_a`, `ssm_f_b`
/// (decay), `ssm_g_a`, `ssm_g_b` (gate), `ssm_beta`, `ssm_a`, `ssm_dt.bias`, `ssm_norm`,
/// `attn_output`.
#[derive(Clone, Debug, PartialEq)]
pub struct Kda {
    /// Heads.
    pub n_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Length of the convolutions, the present row included.
    pub n_taps: usize,
    /// Epsilon of the norm.
    pub norm_eps: f32,
}

/// Time mixing of RWKV 6 (Peng et al. 2024). Tensors: `time_mix_*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv6 {
    /// Width of a head; divides n_embd.
    pub head_dim: usize,
    /// Width of the low-rank mix of inputs.
    pub n_mix: usize,
    /// Width of the low-rank decay.
    pub n_decay: usize,
}

/// Time mixing of RWKV 7 (Peng et al. 2025). Tensors: `time_mix_*`. The values of the first such
/// body of a model are mixed into those of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Rwkv7 {
    /// Width of a head; divides n_embd.
    pub head_dim: usize,
    /// Width of the low-rank decay.
    pub n_decay: usize,
    /// Width of the low-rank in-context learning rate.
    pub n_rate: usize,
    /// Width of the low-rank mix of values.
    pub n_value: usize,
    /// Width of the low-rank gate.
    pub n_gate: usize,
    /// Whether this is the model's first: its values are kept for the others.
    pub first: bool,
}

/// Feed-forward network of RWKV: relu(K x_k)^2 through `channel_mix_value`, where x_k leans from
/// the row towards its predecessor; times sigmoid(R x_r) where `gated`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelMix {
    /// Hidden width.
    pub n_ff: usize,
    /// Whether there is a receptance gate (RWKV 6).
    pub gated: bool,
}

/// A body with a state of fixed size.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrent {
    /// A gated short convolution over time.
    ShortConv(ShortConv),
    /// A selective state space.
    Mamba(Mamba),
    /// A state space with one decay per head.
    Mamba2(Mamba2),
    /// The gated delta rule.
    Delta(GatedDelta),
    /// The delta rule with a decay per channel.
    Kda(Kda),
    /// Time mixing of RWKV 6.
    Rwkv6(Rwkv6),
    /// Time mixing of RWKV 7.
    Rwkv7(Rwkv7),
    /// The feed-forward network of RWKV.
    ChannelMix(ChannelMix),
}

impl std::fmt::Display for Recurrent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Recurrent::ShortConv(c) => write!(f, "shortconv[{} taps]", c.n_taps),
            Recurrent::Mamba(m) => {
                let heads = m.n_head.map_or(String::new(), |n| format!(", {n} heads"));
                write!(f, "mamba[{} channels of {}{heads}]", m.n_inner, m.n_state)
            }
            Recurrent::Mamba2(m) => {
                let sizes = (m.n_head, m.n_group, m.n_inner / m.n_head.max(1), m.n_state);
                write!(f, "mamba2[{}/{} heads of {}x{}]", sizes.0, sizes.1, sizes.2, sizes.3)
            }
            Recurrent::Delta(d) => {
                let (k, v) = (d.head_dim_k, d.head_dim_v);
                write!(f, "delta[{}/{} heads of {v}x{k}]", d.n_head_v, d.n_head_k)
            }
            Recurrent::Kda(k) => write!(f, "kda[{} heads of {}]", k.n_head, k.head_dim),
            Recurrent::Rwkv6(r) => write!(f, "rwkv6[heads of {}]", r.head_dim),
            Recurrent::Rwkv7(r) => write!(f, "rwkv7[heads of {}]", r.head_dim),
            Recurrent::ChannelMix(c) => {
                write!(f, "channel_mix[{}{}]", if c.gated { "gated " } else { "" }, c.n_ff)
            }
        }
    }
}

//! Attention over a compressed row per position.

use super::{Pairing, Rope, Temperature};

/// Multi-head latent attention (DeepSeek-V2, 2024). Tensors: `attn_q`, or `attn_q_a`,
/// `attn_q_a_norm`, `attn_q_b`; `attn_kv_a_mqa` (rows latent, rotated key), `attn_kv_a_norm`;
/// `attn_output`; and the way from the latent row to keys and values as [`LatentForm`] says.
#[derive(Clone, Debug, PartialEq)]
pub struct Mla {
    /// Query heads.
    pub n_head: usize,
    /// Width of the compressed query; `None` = `attn_q`.
    pub q_rank: Option<usize>,
    /// Width of the latent row.
    pub kv_rank: usize,
    /// Width of the part of a query or key head that has no position.
    pub n_nope: usize,
    /// Width of the rest, shared by all key heads.
    pub n_rot: usize,
    /// Width of a value head.
    pub head_dim_v: usize,
    /// Rotation of the rest.
    pub rope: Option<Rope>,
    /// Factor on the scores.
    pub scale: f32,
    /// A factor on queries that grows with the position.
    pub temperature: Option<Temperature>,
    /// Epsilon of both norms.
    pub norm_eps: f32,
    /// How keys and values come from the latent row.
    pub form: LatentForm,
}

/// How keys and values come from the latent row.
#[derive(Clone, Debug, PartialEq)]
pub enum LatentForm {
    /// The cache holds latent rows; `attn_k_b` moves queries to their space, `attn_v_b` brings
    /// results back.
    Absorbed {
        /// Which positions a query sees, where not all.
        indexer: Option<Indexer>,
    },
    /// `attn_kv_b` makes every head's key and value, which the cache holds.
    Expanded,
}

/// Sparse attention (DeepSeek-V3.2, 2025): a query sees the `top_k` positions that score highest, all
/// while there are no more. A position scores the sum over heads of
/// `weight * max(query . key, 0)`; of equal scores the lower positions are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexer {
    /// Positions that attention may see.
    pub top_k: usize,
    /// Who scores.
    pub choice: IndexChoice,
    /// Heads.
    pub n_head: usize,
    /// Width of a head and of the one key of a position, whose first part is rotated as attention's.
    pub head_dim: usize,
    /// Which elements of that part turn together.
    pub pairing: Pairing,
    /// Epsilon of the key's norm.
    pub norm_eps: f32,
}

/// Where the positions come from that a block's attention sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexChoice {
    /// The block chooses. Tensors: `indexer.attn_q_b` (of the compressed query), `indexer.attn_k` with
    /// the layer norm `indexer.k_norm`, `indexer.proj` (a weight for each head).
    Own,
    /// The choice of the last block before it that chose.
    Before,
}

impl std::fmt::Display for Mla {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (n, k, v) = (self.n_head, self.n_nope + self.n_rot, self.head_dim_v);
        write!(f, "mla[{n} heads of {k}/{v}, latent {}+{}", self.kv_rank, self.n_rot)?;
        if let Some(rank) = self.q_rank {
            write!(f, ", query rank {rank}")?;
        }
        if let Some(r) = &self.rope {
            write!(f, ", rope {} of base {}", r.n_rot, r.base)?;
        }
        match &self.form {
            LatentForm::Expanded => write!(f, ", expanded")?,
            LatentForm::Absorbed { indexer: None } => {}
            LatentForm::Absorbed { indexer: Some(i) } => write!(f, ", {i}")?,
        }
        f.write_str("]")
    }
}

impl std::fmt::Display for Indexer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sparse above {}", self.top_k)?;
        match self.choice {
            IndexChoice::Own => write!(f, " by {} heads of {}", self.n_head, self.head_dim),
            IndexChoice::Before => f.write_str(" as before"),
        }
    }
}

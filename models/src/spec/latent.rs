//! Attention over a compressed row per position.

use super::{Body, ModelSpec, Rope, Temperature};

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
    /// Most positions that a sparse indexer leaves to attention: up to there all are seen, longer
    /// contexts are refused. The indexer's tensors are claimed.
    pub indexer: Option<Indexer>,
}

/// How keys and values come from the latent row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatentForm {
    /// The cache holds latent rows; `attn_k_b` moves queries to their space, `attn_v_b` brings
    /// results back.
    Absorbed,
    /// `attn_kv_b` makes every head's key and value, which the cache holds.
    Expanded,
}

/// Sizes of a sparse-attention indexer (DeepSeek-V3.2). Tensors: `indexer.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexer {
    /// Heads.
    pub n_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Positions that attention may see.
    pub top_k: usize,
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
        if self.form == LatentForm::Expanded {
            write!(f, ", expanded")?;
        }
        if let Some(i) = &self.indexer {
            write!(f, ", sparse above {}", i.top_k)?;
        }
        f.write_str("]")
    }
}

impl ModelSpec {
    /// The longest context in which every body sees all that it should; `None` = any.
    pub fn longest_context(&self) -> Option<usize> {
        let branches = self.stack.layers.iter().flat_map(|l| &l.stages).flat_map(|s| &s.branches);
        let top_k = branches.filter_map(|b| match &b.body {
            Body::Mla(m) => m.indexer.as_ref().map(|i| i.top_k),
            _ => None,
        });
        top_k.min()
    }
}

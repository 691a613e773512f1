//! Shapes of models that people run.

use formats::Value;

/// Sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What it is called here.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Feed-forward width; of one expert where there are any.
    pub n_ff: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_head_kv: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Ids.
    pub n_vocab: usize,
    /// Whether the output is the embedding.
    pub tied: bool,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
    /// Experts and experts used; 0 = dense.
    pub experts: (usize, usize),
    /// Trained context.
    pub n_ctx: usize,
    /// Base of the rotation.
    pub rope_base: f32,
}

const LLAMA: Shape = Shape {
    name: "llama-3.2-1b",
    arch: "llama",
    n_layer: 16,
    n_embd: 2048,
    n_ff: 8192,
    n_head: 32,
    n_head_kv: 8,
    head_dim: 64,
    n_vocab: 128_256,
    tied: true,
    qk_norm: false,
    experts: (0, 0),
    n_ctx: 131_072,
    rope_base: 500_000.0,
};

const QWEN3: Shape = Shape {
    name: "qwen3-0.6b",
    arch: "qwen3",
    n_layer: 28,
    n_embd: 1024,
    n_ff: 3072,
    n_head: 16,
    head_dim: 128,
    n_vocab: 151_936,
    qk_norm: true,
    n_ctx: 40_960,
    rope_base: 1_000_000.0,
    ..LLAMA
};

/// The known shapes.
pub const SHAPES: &[Shape] = &[
    LLAMA,
    Shape { name: "llama-3.2-3b", n_layer: 28, n_embd: 3072, n_head: 24, head_dim: 128, ..LLAMA },
    Shape {
        name: "llama-3.1-8b",
        n_layer: 32,
        n_embd: 4096,
        n_ff: 14_336,
        head_dim: 128,
        tied: false,
        ..LLAMA
    },
    QWEN3,
    Shape { name: "qwen3-1.7b", n_embd: 2048, n_ff: 6144, ..QWEN3 },
    Shape { name: "qwen3-4b", n_layer: 36, n_embd: 2560, n_ff: 9728, n_head: 32, ..QWEN3 },
    Shape {
        name: "smollm2-135m",
        n_layer: 30,
        n_embd: 576,
        n_ff: 1536,
        n_head: 9,
        n_head_kv: 3,
        n_vocab: 49_152,
        n_ctx: 8192,
        rope_base: 100_000.0,
        ..LLAMA
    },
    Shape {
        name: "moe-1b",
        arch: "qwen3moe",
        n_layer: 16,
        n_embd: 1024,
        n_ff: 512,
        n_head: 16,
        head_dim: 64,
        n_vocab: 32_768,
        experts: (32, 4),
        ..QWEN3
    },
    Shape {
        name: "tiny",
        n_layer: 2,
        n_embd: 256,
        n_ff: 512,
        n_head: 4,
        n_head_kv: 2,
        n_vocab: 512,
        n_ctx: 2048,
        ..LLAMA
    },
];

impl Shape {
    /// The shape of a name.
    pub fn find(name: &str) -> Option<&'static Shape> {
        SHAPES.iter().find(|s| s.name == name)
    }

    /// Its metadata, without the architecture's prefix.
    pub(super) fn keys(&self) -> Vec<(&'static str, Value)> {
        let n = |v: usize| Value::U32(v as u32);
        let mut keys = vec![
            ("context_length", n(self.n_ctx)),
            ("embedding_length", n(self.n_embd)),
            ("block_count", n(self.n_layer)),
            ("feed_forward_length", n(self.n_ff)),
            ("attention.head_count", n(self.n_head)),
            ("attention.head_count_kv", n(self.n_head_kv)),
            ("attention.key_length", n(self.head_dim)),
            ("attention.value_length", n(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("rope.dimension_count", n(self.head_dim)),
            ("rope.freq_base", Value::F32(self.rope_base)),
            ("vocab_size", n(self.n_vocab)),
        ];
        if self.experts.0 > 0 {
            keys.push(("expert_count", n(self.experts.0)));
            keys.push(("expert_used_count", n(self.experts.1)));
            keys.push(("expert_feed_forward_length", n(self.n_ff)));
        }
        keys
    }

    /// Names and dimensions (row length first) of all tensors, in file order.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let (e, ff) = (self.n_embd as u64, self.n_ff as u64);
        let q = (self.n_head * self.head_dim) as u64;
        let kv = (self.n_head_kv * self.head_dim) as u64;
        let x = self.experts.0 as u64;
        let mut all = vec![("token_embd.weight".to_string(), vec![e, self.n_vocab as u64])];
        for il in 0..self.n_layer {
            let mut add = |name: &str, dims: &[u64]| {
                all.push((format!("blk.{il}.{name}.weight"), dims.to_vec()));
            };
            add("attn_norm", &[e]);
            add("attn_q", &[e, q]);
            add("attn_k", &[e, kv]);
            add("attn_v", &[e, kv]);
            if self.qk_norm {
                add("attn_q_norm", &[self.head_dim as u64]);
                add("attn_k_norm", &[self.head_dim as u64]);
            }
            add("attn_output", &[q, e]);
            add("ffn_norm", &[e]);
            if x > 0 {
                add("ffn_gate_inp", &[e, x]);
                add("ffn_gate_exps", &[e, ff, x]);
                add("ffn_up_exps", &[e, ff, x]);
                add("ffn_down_exps", &[ff, e, x]);
            } else {
                add("ffn_gate", &[e, ff]);
                add("ffn_up", &[e, ff]);
                add("ffn_down", &[ff, e]);
            }
        }
        all.push(("output_norm.weight".into(), vec![e]));
        if !self.tied {
            all.push(("output.weight".into(), vec![e, self.n_vocab as u64]));
        }
        all
    }
}

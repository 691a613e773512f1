//! The registry: architecture names and their spec functions. The only place that knows names.

mod delta;
mod falcon;
mod gemma;
mod gpt_oss;
mod hybrid;
mod latent;
mod lfm2;
mod llama;
mod mamba;
mod phi;
mod qwen;
mod rwkv;

use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Head, Input, Layer, ModelSpec, Norm, Stack, Streams};
use formats::Gguf;

/// One architecture: its GGUF name, what is special about it, and the function that writes its
/// spec from a file's hyper-parameters.
pub struct Arch {
    /// `general.architecture`.
    pub name: &'static str,
    /// Features, for people.
    pub features: &'static str,
    /// The spec of a file of this architecture.
    pub spec: fn(&Hparams) -> Result<ModelSpec, Error>,
}

/// All known architectures, by name.
pub const ARCHS: &[Arch] = &[
    Arch {
        name: "deepseek2",
        features: "latent attention, leading dense layers, shared experts, expert groups",
        spec: latent::deepseek2,
    },
    Arch {
        name: "deepseek32",
        features: "latent attention up to the indexer's top-k positions, MoE",
        spec: latent::deepseek32,
    },
    Arch {
        name: "falcon",
        features: "parallel attention and MLP, layer norm, fused QKV, multi-query",
        spec: falcon::falcon,
    },
    Arch {
        name: "falcon-h1",
        features: "attention and state space side by side in every layer",
        spec: hybrid::falcon_h1,
    },
    Arch {
        name: "gemma3",
        features: "sliding window 5:1, two rope bases, QK norm, sandwich norms",
        spec: gemma::gemma3,
    },
    Arch {
        name: "glm-dsa",
        features: "latent attention up to the indexer's top-k positions, MoE",
        spec: latent::deepseek32,
    },
    Arch {
        name: "gpt-oss",
        features: "sinks, sliding window 1:1, YaRN, MoE with clamped SwiGLU and biases",
        spec: gpt_oss::gpt_oss,
    },
    Arch {
        name: "gptneox",
        features: "parallel or sequential residual, partial rope, layer norm, biases",
        spec: falcon::gptneox,
    },
    Arch {
        name: "granitehybrid",
        features: "state space with heads beside attention, MoE, multipliers",
        spec: hybrid::granitehybrid,
    },
    Arch {
        name: "jamba",
        features: "selective state space beside attention, MoE",
        spec: hybrid::jamba,
    },
    Arch {
        name: "kimi-linear",
        features: "delta rule with a decay per channel, latent attention, MoE",
        spec: delta::kimi_linear,
    },
    Arch {
        name: "lfm2",
        features: "gated short convolutions between attention layers, QK norm",
        spec: lfm2::lfm2,
    },
    Arch {
        name: "lfm2moe",
        features: "gated short convolutions between attention layers, MoE",
        spec: lfm2::lfm2,
    },
    Arch {
        name: "llama",
        features: "GQA, MoE, rope factors, linear and YaRN scaling, biases",
        spec: llama::llama,
    },
    Arch { name: "mamba", features: "selective state space, no attention", spec: mamba::mamba },
    Arch { name: "mamba2", features: "state space with heads, no attention", spec: mamba::mamba2 },
    Arch {
        name: "minicpm3",
        features: "latent attention in expanded form, LongRoPE, fixed multipliers",
        spec: latent::minicpm3,
    },
    Arch {
        name: "mistral4",
        features: "latent attention, MoE, YaRN, query temperature",
        spec: latent::mistral4,
    },
    Arch {
        name: "nemotron_h",
        features: "one body a layer: state space, attention or network",
        spec: hybrid::nemotron_h,
    },
    Arch {
        name: "nemotron_h_moe",
        features: "one body a layer: state space, attention or experts",
        spec: hybrid::nemotron_h,
    },
    Arch {
        name: "phi3",
        features: "fused QKV and gate/up, partial rope, LongRoPE",
        spec: phi::phi3,
    },
    Arch {
        name: "plamo2",
        features: "selective state space by heads beside attention, sandwich norms",
        spec: hybrid::plamo2,
    },
    Arch {
        name: "plm",
        features: "latent attention in expanded form, squared ReLU",
        spec: latent::plm,
    },
    Arch { name: "qwen2", features: "QKV biases, GQA", spec: qwen::qwen2 },
    Arch { name: "qwen3", features: "QK norm, GQA", spec: qwen::qwen3 },
    Arch {
        name: "qwen35",
        features: "gated delta rule, gated attention on every n-th layer",
        spec: delta::qwen35,
    },
    Arch {
        name: "qwen35moe",
        features: "gated delta rule, gated attention on every n-th layer, MoE",
        spec: delta::qwen35,
    },
    Arch { name: "qwen3moe", features: "QK norm, GQA, MoE", spec: qwen::qwen3 },
    Arch {
        name: "qwen3next",
        features: "gated delta rule, gated attention on every n-th layer, MoE",
        spec: delta::qwen3next,
    },
    Arch { name: "rwkv6", features: "time and channel mixing, no attention", spec: rwkv::rwkv6 },
    Arch {
        name: "rwkv7",
        features: "time and channel mixing with an in-context learning rate, no attention",
        spec: rwkv::rwkv7,
    },
];

/// The entry of the architecture that a file says it is.
///
/// # Errors
/// [`Error::UnknownArch`], or `general.architecture` is missing or no string.
pub fn find(gguf: &Gguf) -> Result<&'static Arch, Error> {
    let found = gguf.metadata().str("general.architecture")?.ok_or_else(|| Error::MissingKey {
        key: "general.architecture".into(),
        expected: "the architecture's name, e.g. \"llama\"".into(),
    })?;
    ARCHS.iter().find(|a| a.name == found).ok_or_else(|| Error::UnknownArch {
        found: found.into(),
        known: ARCHS.iter().map(|a| a.name).collect::<Vec<_>>().join(", "),
    })
}

/// A decoder with an unscaled input and head.
fn decoder(
    hp: &Hparams,
    norm: Norm,
    layer: impl FnMut(usize) -> Result<Layer, Error>,
) -> Result<ModelSpec, Error> {
    Ok(ModelSpec {
        stack: Stack {
            input: Input::tokens(),
            streams: Streams::One,
            layers: (0..hp.n_layer).map(layer).collect::<Result<_, _>>()?,
            norm,
        },
        head: Head { scale: 1.0, softcap: None },
    })
}

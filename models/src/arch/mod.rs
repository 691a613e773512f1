//! The registry: architecture names and their spec functions. The only place that knows names.

mod deepseek;
mod falcon;
mod gemma;
mod gpt_oss;
mod lfm2;
mod llama;
mod mamba;
mod phi;
mod qwen;

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
        spec: deepseek::deepseek2,
    },
    Arch {
        name: "deepseek32",
        features: "latent attention up to the indexer's top-k positions, MoE",
        spec: deepseek::deepseek32,
    },
    Arch {
        name: "falcon",
        features: "parallel attention and MLP, layer norm, fused QKV, multi-query",
        spec: falcon::falcon,
    },
    Arch {
        name: "gemma3",
        features: "sliding window 5:1, two rope bases, QK norm, sandwich norms",
        spec: gemma::gemma3,
    },
    Arch {
        name: "glm-dsa",
        features: "latent attention up to the indexer's top-k positions, MoE",
        spec: deepseek::deepseek32,
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
        name: "lfm2",
        features: "gated short convolutions between attention layers, QK norm",
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
        spec: deepseek::minicpm3,
    },
    Arch {
        name: "mistral4",
        features: "latent attention, MoE, YaRN, query temperature",
        spec: deepseek::mistral4,
    },
    Arch {
        name: "phi3",
        features: "fused QKV and gate/up, partial rope, LongRoPE",
        spec: phi::phi3,
    },
    Arch {
        name: "plm",
        features: "latent attention in expanded form, squared ReLU",
        spec: deepseek::plm,
    },
    Arch { name: "qwen2", features: "QKV biases, GQA", spec: qwen::qwen2 },
    Arch { name: "qwen3", features: "QK norm, GQA", spec: qwen::qwen3 },
    Arch { name: "qwen3moe", features: "QK norm, GQA, MoE", spec: qwen::qwen3 },
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

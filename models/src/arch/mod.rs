//! The registry: architecture names and their spec functions. The only place that knows names.

mod apertus;
mod cohere;
mod deepseek;
mod delta;
mod encoders;
mod falcon;
mod gemma;
mod gemma_n;
mod glm;
mod gpt;
mod gpt_oss;
mod granite;
mod grok;
mod hybrid;
mod latent;
mod lfm2;
mod llama;
mod llama4;
mod mamba;
mod mixtures;
mod olmo;
mod phi;
mod qwen;
mod registry;
mod rwkv;
mod t5;
mod windows;

use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{
    Attn, Body, Input, Layer, ModelSpec, Norm, Stack, Streams, Sureness, Unmask, pre, seq,
};
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

pub use registry::ARCHS;

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

/// A layer of attention and then a network, each with a norm before it.
fn block(norm: impl Fn(&'static str) -> Norm, attn: Attn, mlp: Body) -> Layer {
    seq([pre(norm("attn_norm"), Body::Attn(attn)), pre(norm("ffn_norm"), mlp)])
}

/// A decoder with an unscaled input and head.
fn decoder(
    hp: &Hparams,
    norm: Norm,
    layer: impl FnMut(usize) -> Result<Layer, Error>,
) -> Result<ModelSpec, Error> {
    Ok(ModelSpec {
        encoder: None,
        stack: stack(hp, Some(norm), layer)?,
        head: encoders::head(hp, true)?,
        unmask: None,
    })
}

/// How a model fills masks. `shifted` is what its authors do where the file does not say.
///
/// # Errors
/// Another type under the key.
fn unmask(
    hp: &Hparams,
    shifted: bool,
    sureness: Sureness,
    block: Option<usize>,
) -> Result<Option<Unmask>, Error> {
    let shifted = hp.gguf().metadata().bool("diffusion.shift_logits")?.unwrap_or(shifted);
    Ok(Some(Unmask { shifted, sureness, block }))
}

/// Layers on an unscaled input.
fn stack(
    hp: &Hparams,
    norm: Option<Norm>,
    layer: impl FnMut(usize) -> Result<Layer, Error>,
) -> Result<Stack, Error> {
    let layers = (0..hp.n_layer).map(layer).collect::<Result<_, _>>()?;
    Ok(Stack { prefix: "", input: Input::tokens(), streams: Streams::One, layers, norm })
}

//! GPT-2 and the families of its plan: layer norms, mostly biases, mostly an MLP without gate.
//! Positions are learned rows, ALiBi, or rotations.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Ffn, Input, ModelSpec, Norm, NormKind, Pairing, QkNorm, Span, par, pre,
};

/// Layer norms before attention and before the network that `mlp` makes.
fn layered(
    hp: &Hparams,
    attn: impl Fn(Attn) -> Result<Attn, Error>,
    mlp: impl Fn(usize) -> Ffn,
) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    decoder(hp, norm("output_norm"), |il| {
        Ok(block(norm, attn(hp.attn(il, Pairing::Halves)?)?, Body::Ffn(mlp(il))))
    })
}

/// GPT-2 and StarCoder: learned positions.
pub(super) fn gpt2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let attn = |attn| Ok(Attn { rope: None, ..attn });
    let mut model = layered(hp, attn, |il| hp.plain(il, Act::GeluTanh))?;
    model.stack.input = Input { positions: true, ..Input::tokens() };
    Ok(model)
}

/// StarCoder 2 and CodeShell.
pub(super) fn starcoder2(hp: &Hparams) -> Result<ModelSpec, Error> {
    layered(hp, Ok, |il| hp.plain(il, Act::GeluTanh))
}

pub(super) fn orion(hp: &Hparams) -> Result<ModelSpec, Error> {
    layered(hp, Ok, |il| hp.gated(il, Act::Silu))
}

/// Nemotron and Jais 2. The file's norm weights hold the 1 that the papers add.
pub(super) fn nemotron(hp: &Hparams) -> Result<ModelSpec, Error> {
    layered(hp, Ok, |il| hp.plain(il, Act::Relu2))
}

pub(super) fn bloom(hp: &Hparams) -> Result<ModelSpec, Error> {
    let attn = |attn| Ok(Attn { rope: None, alibi: Some(quirks::ALIBI_BIAS), ..attn });
    let mut model = layered(hp, attn, |il| hp.plain(il, Act::GeluTanh))?;
    let norm = hp.layer_norm()?("token_embd_norm");
    model.stack.input = Input { norm: Some(norm), ..Input::tokens() };
    Ok(model)
}

pub(super) fn mpt(hp: &Hparams) -> Result<ModelSpec, Error> {
    let Norm { eps, .. } = hp.layer_norm()?("attn_q_norm");
    let alibi = hp.bound("attention.max_alibi_bias")?;
    let normed = hp.has(0, "attn_q_norm");
    let attn = |attn| {
        let (kind, span) = (NormKind::Layer, Span::Whole);
        let norm = QkNorm { kind, eps, span, weight: true, after_rope: false };
        Ok(Attn { rope: None, alibi, qk_norm: normed.then_some(norm), ..attn })
    };
    let mut model = layered(hp, attn, |il| hp.plain(il, Act::Gelu))?;
    // The forms without ALiBi learn their positions.
    model.stack.input.positions = hp.gguf().tensor("position_embd.weight").is_some();
    Ok(model)
}

pub(super) fn jais(hp: &Hparams) -> Result<ModelSpec, Error> {
    let alibi = hp.bound("attention.max_alibi_bias")?;
    let scale = 1.0 / hp.head_dim_k as f32;
    let attn = |attn| Ok(Attn { rope: None, alibi, scale, ..attn });
    layered(hp, attn, |il| hp.gated(il, Act::Silu))
}

/// ALiBi with RMS norms.
pub(super) fn refact(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = hp.attn(il, Pairing::Halves)?;
        let attn = Attn { rope: None, alibi: Some(quirks::ALIBI_BIAS), ..attn };
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

/// Sequential; the 12B form has no second norm, runs both bodies side by side, and normalises
/// queries and keys with weights for each head.
pub(super) fn stablelm(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let Norm { eps, .. } = norm("attn_q_norm");
    decoder(hp, norm("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        if hp.has(il, "attn_q_norm") {
            let (kind, span) = (NormKind::Layer, Span::EachHead);
            attn.qk_norm = Some(QkNorm { kind, eps, span, weight: true, after_rope: false });
        }
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(match hp.has(il, "ffn_norm") {
            true => block(norm, attn, ffn),
            false => par([pre(norm("attn_norm"), Body::Attn(attn)), pre(norm("attn_norm"), ffn)]),
        })
    })
}

/// One layer norm for both bodies.
pub(super) fn phi2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    decoder(hp, norm("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let ffn = Body::Ffn(hp.plain(il, Act::GeluTanh));
        Ok(par([pre(norm("attn_norm"), attn), pre(norm("attn_norm"), ffn)]))
    })
}

/// One RMS norm for both bodies.
pub(super) fn plamo(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(par([pre(rms("attn_norm"), attn), pre(rms("attn_norm"), ffn)]))
    })
}

//! Granite and MiniCPM: factors on the embedding, on what layers add, on scores and on logits.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Input, Layer, ModelSpec, Moe, Pairing, Score, Window, pre, seq,
};

/// Factors of a file: embedding, residual, divisor of the logits.
type Scales = (f32, f32, f32);

fn with_scales(
    hp: &Hparams,
    (embd, _, logits): Scales,
    layer: impl FnMut(usize) -> Result<Layer, Error>,
) -> Result<ModelSpec, Error> {
    let mut model = decoder(hp, hp.rms()?("output_norm"), layer)?;
    model.stack.input = Input { scale: embd, ..Input::tokens() };
    model.head.scale = 1.0 / logits;
    Ok(model)
}

fn layer(hp: &Hparams, il: usize, attn: Attn, scale: f32) -> Result<Layer, Error> {
    let rms = hp.rms()?;
    let mlp = match hp.n_expert {
        0 => Body::Ffn(hp.gated(il, Act::Silu)),
        _ => {
            let score = Score::SoftmaxOfChosen;
            Body::Moe(Moe { score, renorm: false, ..hp.experts(il, Act::Silu)? })
        }
    };
    Ok(seq([
        pre(rms("attn_norm"), Body::Attn(attn)).times(scale),
        pre(rms("ffn_norm"), mlp).times(scale),
    ]))
}

pub(super) fn granite(hp: &Hparams) -> Result<ModelSpec, Error> {
    let scales =
        (hp.scale("embedding_scale")?, hp.scale("residual_scale")?, hp.scale("logit_scale")?);
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    with_scales(hp, scales, |il| {
        let mut attn = hp.attn(il, Pairing::Neighbours)?;
        attn.sinks = hp.has(il, "attn_sinks");
        if window > 0 && quirks::is_windowed_of(hp, il, |il| il % 4 != 0)? {
            attn.window = Window::Sliding(window);
        }
        layer(hp, il, attn, scales.1)
    })
}

pub(super) fn minicpm(hp: &Hparams) -> Result<ModelSpec, Error> {
    let scales = quirks::minicpm_scales(hp)?;
    with_scales(hp, scales, |il| layer(hp, il, hp.attn(il, Pairing::Neighbours)?, scales.1))
}

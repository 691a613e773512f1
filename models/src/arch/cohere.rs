//! Command R and its followers: attention and MLP side by side on one layer norm without bias.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, ModelSpec, Norm, NormKind, Pairing, QkNorm, Span, Window, par, pre,
};

/// Logits are multiplied by the file's scale.
fn with_scale(hp: &Hparams, mut model: ModelSpec) -> Result<ModelSpec, Error> {
    model.head.scale = hp.scale("logit_scale")?;
    Ok(model)
}

pub(super) fn command_r(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let Norm { eps, .. } = norm("attn_q_norm");
    let model = decoder(hp, norm("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Neighbours)?;
        // The large form normalises queries and keys.
        if hp.has(il, "attn_q_norm") {
            let (kind, span) = (NormKind::Layer, Span::EachHead);
            attn.qk_norm = Some(QkNorm { kind, eps, span, weight: true, after_rope: false });
        }
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(par([pre(norm("attn_norm"), Body::Attn(attn)), pre(norm("attn_norm"), ffn)]))
    })?;
    with_scale(hp, model)
}

/// Windowed layers with rotation, and every fourth one without either.
fn local_or_global(hp: &Hparams, il: usize) -> Result<Attn, Error> {
    let mut attn = hp.attn(il, Pairing::Neighbours)?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    if window > 0 && quirks::is_windowed(hp, il, 4)? {
        attn.window = Window::Sliding(window);
    } else {
        attn.rope = None;
    }
    Ok(attn)
}

pub(super) fn cohere2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let model = decoder(hp, norm("output_norm"), |il| {
        let (attn, ffn) = (local_or_global(hp, il)?, hp.gated(il, Act::Silu));
        Ok(par([pre(norm("attn_norm"), Body::Attn(attn)), pre(norm("attn_norm"), Body::Ffn(ffn))]))
    })?;
    with_scale(hp, model)
}

pub(super) fn cohere2moe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let n_dense = hp.n_dense()?;
    let model = decoder(hp, norm("output_norm"), |il| {
        let attn = pre(norm("attn_norm"), Body::Attn(local_or_global(hp, il)?));
        if il < n_dense {
            return Ok(par([attn, pre(norm("attn_norm"), Body::Ffn(hp.gated(il, Act::Silu)))]));
        }
        let experts = hp.experts(il, Act::Silu)?;
        // The mean of the routed and the shared network.
        let mean = if experts.shared.is_some() { 0.5 } else { 1.0 };
        Ok(par([attn, pre(norm("attn_norm"), Body::Moe(experts)).times(mean)]))
    })?;
    with_scale(hp, model)
}

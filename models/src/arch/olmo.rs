//! OLMo 1 to 3, EXAONE 4 and others that normalise what bodies give rather than what they read.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{Act, Attn, Body, ModelSpec, Norm, Pairing, Span, Window, bare, pre, raw, seq};

/// Layer norms without weight or bias.
pub(super) fn olmo(hp: &Hparams) -> Result<ModelSpec, Error> {
    let Norm { kind, eps, .. } = hp.layer_norm()?("");
    decoder(hp, bare(kind, eps), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Neighbours)?);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([pre(bare(kind, eps), attn), pre(bare(kind, eps), ffn)]))
    })
}

/// OLMo 2 and 3; the latter has windows, and stretches only the rotation of the other layers.
pub(super) fn olmo2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = Attn { qk_norm: hp.qk_norm(Span::Whole)?, ..hp.attn(il, Pairing::Halves)? };
        if window > 0 && quirks::is_windowed(hp, il, 4)? {
            attn.window = Window::Sliding(window);
            attn.rope = attn.rope.map(|global| hp.local_rope(&global)).transpose()?;
        }
        Ok(seq([
            raw(Body::Attn(attn)).post(rms("post_attention_norm")),
            raw(Body::Ffn(hp.gated(il, Act::Silu))).post(rms("post_ffw_norm")),
        ]))
    })
}

pub(super) fn olmoe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Whole)?, ..hp.attn(il, Pairing::Halves)? };
        Ok(block(rms, attn, Body::Moe(hp.experts(il, Act::Silu)?)))
    })
}

/// Windowed layers with rotation and every fourth one without either, where the file has windows.
fn exaone_attn(hp: &Hparams, il: usize, window: usize) -> Result<Attn, Error> {
    let mut attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
    if window > 0 && quirks::is_windowed(hp, il, 4)? {
        attn.window = Window::Sliding(window);
    } else if window > 0 {
        attn.rope = None;
    }
    Ok(attn)
}

pub(super) fn exaone4(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = quirks::exaone4_window(hp)?;
    decoder(hp, rms("output_norm"), |il| {
        Ok(seq([
            raw(Body::Attn(exaone_attn(hp, il, window)?)).post(rms("post_attention_norm")),
            raw(Body::Ffn(hp.gated(il, Act::Silu))).post(rms("post_ffw_norm")),
        ]))
    })
}

pub(super) fn exaone_moe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    let n_dense = hp.n_dense()?;
    decoder(hp, rms("output_norm"), |il| {
        let mlp = match il < n_dense {
            true => Body::Ffn(hp.gated(il, Act::Silu)),
            false => Body::Moe(hp.experts(il, Act::Silu)?),
        };
        Ok(block(rms, exaone_attn(hp, il, window)?, mlp))
    })
}

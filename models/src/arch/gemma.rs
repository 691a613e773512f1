//! Gemma 1 to 3: gated GELU, a scaled embedding; norms before and after each body from Gemma 2 on.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Input, Layer, ModelSpec, Norm, Pairing, Span, Window, pre, seq,
};

/// Input and head that all of them share.
pub(super) fn with_ends(hp: &Hparams, mut model: ModelSpec) -> Result<ModelSpec, Error> {
    model.stack.input = Input { scale: (hp.n_embd as f32).sqrt(), ..Input::tokens() };
    model.head.softcap = hp.bound("final_logit_softcapping")?;
    Ok(model)
}

/// Attention and network with norms on both sides.
pub(super) fn sandwich(rms: impl Fn(&'static str) -> Norm, attn: Attn, mlp: Body) -> Layer {
    seq([
        pre(rms("attn_norm"), Body::Attn(attn)).post(rms("post_attention_norm")),
        pre(rms("ffn_norm"), mlp).post(rms("post_ffw_norm")),
    ])
}

pub(super) fn gemma(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let model = decoder(hp, rms("output_norm"), |il| {
        Ok(block(rms, hp.attn(il, Pairing::Halves)?, Body::Ffn(hp.gated(il, Act::GeluTanh))))
    })?;
    with_ends(hp, model)
}

pub(super) fn gemma2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    let model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        attn.scale = quirks::gemma2_scale(hp);
        attn.softcap = hp.bound("attn_logit_softcapping")?;
        if window > 0 && quirks::is_windowed(hp, il, 2)? {
            attn.window = Window::Sliding(window);
        }
        Ok(sandwich(rms, attn, Body::Ffn(hp.gated(il, Act::GeluTanh))))
    })?;
    with_ends(hp, model)
}

/// Windowed layers have their own rotation.
pub(super) fn gemma3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    let model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = Attn {
            qk_norm: hp.qk_norm(Span::Head)?,
            scale: quirks::gemma3_scale(hp),
            ..hp.attn(il, Pairing::Halves)?
        };
        if window > 0 && quirks::is_windowed(hp, il, 6)? {
            attn.window = Window::Sliding(window);
            attn.rope = attn.rope.map(|global| quirks::local_rope(hp, &global)).transpose()?;
        }
        Ok(sandwich(rms, attn, Body::Ffn(hp.gated(il, Act::GeluTanh))))
    })?;
    with_ends(hp, model)
}

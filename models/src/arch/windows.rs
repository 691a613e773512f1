//! Layers of two kinds, windowed and full, that differ in more than the window: AFMoE, Laguna,
//! MiMo 2.

use super::deepseek::dense_then;
use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Gate, GateFrom, Input, ModelSpec, Moe, Pairing, Score, Span, Window, pre, seq,
};

/// The file's window, where it has one.
pub(super) fn set_window(hp: &Hparams, attn: &mut Attn) -> Result<(), Error> {
    if let Some(n) = hp.usize("attention.sliding_window")?.filter(|&n| n > 0) {
        attn.window = Window::Sliding(n);
    }
    Ok(())
}

/// Gated attention, rotation on windowed layers alone, norms before and after.
pub(super) fn afmoe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        attn.qk_norm = hp.qk_norm(Span::Head)?;
        attn.gate = Some(Gate::Sigmoid(GateFrom::Values));
        if quirks::is_windowed(hp, il, 4)? {
            set_window(hp, &mut attn)?;
        } else {
            attn.rope = None;
        }
        let mlp = dense_then(hp, il, Some(Score::Sigmoid))?;
        Ok(seq([
            pre(rms("attn_norm"), Body::Attn(attn)).post(rms("post_attention_norm")),
            pre(rms("ffn_norm"), mlp).post(rms("post_ffw_norm")),
        ]))
    })?;
    model.stack.input = Input { scale: (hp.n_embd as f32).sqrt(), ..Input::tokens() };
    Ok(model)
}

/// A gate for each head; full layers come first in every four and have a rotation of their own.
pub(super) fn laguna(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        attn.qk_norm = hp.qk_norm(Span::Head)?;
        attn.gate = Some(Gate::Softplus(GateFrom::Heads));
        if quirks::is_windowed_of(hp, il, |il| !il.is_multiple_of(4))? {
            set_window(hp, &mut attn)?;
            attn.rope = attn.rope.map(|global| hp.local_rope(&global)).transpose()?;
        }
        Ok(block(rms, attn, dense_then(hp, il, Some(Score::Sigmoid))?))
    })
}

/// Sinks and a rotation of their own on windowed layers; values are scaled.
pub(super) fn mimo2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let value_scale = hp.scale("attention.value_scale")?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = Attn { value_scale, ..hp.attn(il, Pairing::Halves)? };
        attn.sinks = hp.has(il, "attn_sinks");
        if quirks::is_windowed(hp, il, 6)? {
            set_window(hp, &mut attn)?;
            attn.rope = attn.rope.map(|global| hp.local_rope(&global)).transpose()?;
        }
        let mlp = match hp.has(il, "ffn_gate_inp") {
            true => sigmoid_experts(hp, il)?,
            false => Body::Ffn(hp.gated(il, Act::Silu)),
        };
        Ok(block(rms, attn, mlp))
    })
}

/// Experts whose weights are renormalised although no key says so.
fn sigmoid_experts(hp: &Hparams, il: usize) -> Result<Body, Error> {
    let experts = hp.experts(il, Act::Silu)?;
    Ok(Body::Moe(Moe { score: Score::Sigmoid, renorm: true, ..experts }))
}

//! ChatGLM, GLM 4 and its mixtures.

use super::deepseek::dense_then;
use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Body, ModelSpec, Pairing, Score, Span, pre, seq};

pub(super) fn chatglm(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(block(rms, hp.attn(il, Pairing::Neighbours)?, ffn))
    })
}

pub(super) fn glm4(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Neighbours)?);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([
            pre(rms("attn_norm"), attn).post(rms("post_attention_norm")),
            pre(rms("ffn_norm"), ffn).post(rms("post_ffw_norm")),
        ]))
    })
}

/// The smaller form has no QK norm.
pub(super) fn glm4moe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        if hp.has(il, "attn_q_norm") {
            attn.qk_norm = hp.qk_norm(Span::Head)?;
        }
        let mlp = dense_then(hp, il, Some(Score::Sigmoid))?;
        Ok(seq([pre(rms("attn_norm"), Body::Attn(attn)), pre(rms("post_attention_norm"), mlp)]))
    })
}

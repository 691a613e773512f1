//! Mixtures after a few dense layers: DeepSeek 1, Bailing (Ling), dots, MiniMax, Hunyuan 3.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Attn, Body, ModelSpec, Moe, Pairing, Score, Span};

/// A dense network in the leading layers, the file's mixture in the others.
pub(super) fn dense_then(hp: &Hparams, il: usize, score: Option<Score>) -> Result<Body, Error> {
    if il < hp.n_dense()? || hp.n_expert == 0 {
        return Ok(Body::Ffn(hp.gated(il, Act::Silu)));
    }
    let experts = hp.experts(il, Act::Silu)?;
    let named = hp.usize("expert_gating_func")?.is_some_and(|f| f > 0);
    let score = score.filter(|_| !named).unwrap_or(experts.score);
    Ok(Body::Moe(Moe { score, ..experts }))
}

/// DeepSeek 1 and Bailing 1.
pub(super) fn deepseek(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        Ok(block(rms, hp.attn(il, Pairing::Neighbours)?, dense_then(hp, il, None)?))
    })
}

/// dots.llm1 and Bailing 2: QK norm, sigmoid weights.
pub(super) fn dots1(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
        Ok(block(rms, attn, dense_then(hp, il, Some(Score::Sigmoid))?))
    })
}

/// Its leading dense layer is known by what the file has for it.
pub(super) fn hy_v3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
        let mlp = match hp.has(il, "ffn_gate_inp") {
            false => Body::Ffn(hp.gated(il, Act::Silu)),
            true => dense_then(hp, il, Some(Score::Sigmoid))?,
        };
        Ok(block(rms, attn, mlp))
    })
}

/// QK norm over whole rows.
pub(super) fn minimax_m2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Whole)?, ..hp.attn(il, Pairing::Halves)? };
        let score = Score::Sigmoid;
        let experts = Moe { score, renorm: true, ..hp.experts(il, Act::Silu)? };
        Ok(block(rms, attn, Body::Moe(experts)))
    })
}

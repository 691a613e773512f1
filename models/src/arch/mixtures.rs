//! Mixtures of experts with a twist of their own: DBRX, Arctic, GroveMoE, SmallThinker, Phi-3.5 MoE.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Adjugate, Attn, Body, Layer, ModelSpec, Moe, Pairing, Read, Router, Span, moe, pre, seq,
    stage,
};

/// Layer norms; the one before the experts has an odd name.
pub(super) fn dbrx(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    decoder(hp, norm("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let experts = Body::Moe(Moe { renorm: true, ..hp.experts(il, Act::Silu)? });
        Ok(seq([pre(norm("attn_norm"), attn), pre(norm("attn_output_norm"), experts)]))
    })
}

/// A dense network after attention, and beside it a mixture that reads what attention read.
pub(super) fn arctic(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = pre(rms("attn_norm"), Body::Attn(hp.attn(il, Pairing::Neighbours)?));
        let mut dense = hp.gated(il, Act::Silu);
        dense.n_ff = hp.n_embd;
        let dense = pre(rms("ffn_norm"), Body::Ffn(dense));
        let ffn = hp.gated(il, Act::Silu);
        let mut experts =
            pre(rms("ffn_norm_exps"), Body::Moe(moe(hp.n_expert, hp.n_expert_used, ffn)));
        experts.read = Read::LayerInput;
        Ok(Layer { stages: vec![stage([attn]), stage([dense, experts])] })
    })
}

pub(super) fn grovemoe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let need = |word: &str| {
        hp.usize(word)?.filter(|&n| n > 0).ok_or_else(|| Error::MissingKey {
            key: hp.key(word),
            expected: "a number above 0".into(),
        })
    };
    let each = need("experts_per_group")?;
    if !hp.n_expert.is_multiple_of(each) {
        return Err(Error::BadValue {
            key: hp.key("experts_per_group"),
            found: each.to_string(),
            expected: format!("a divisor of the {} experts", hp.n_expert),
        });
    }
    let adjugate = Adjugate {
        n_expert_each: each,
        n_ff: need("expert_chunk_feed_forward_length")?,
        scale: hp.scale("expert_group_scale")?,
    };
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
        let experts = hp.experts(il, Act::Silu)?;
        let experts = Moe { renorm: true, adjugate: Some(adjugate), ..experts };
        Ok(block(rms, attn, Body::Moe(experts)))
    })
}

/// The router reads the layer's input, so that experts could be fetched while attention runs; no
/// rotation on every fourth layer, from the first on.
pub(super) fn smallthinker(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        if !il.is_multiple_of(4) {
            super::windows::set_window(hp, &mut attn)?;
        }
        let rotates = quirks::smallthinker_has_rope(hp, il)?;
        attn.rope = attn.rope.filter(|_| rotates);
        let experts = hp.experts(il, Act::Relu)?;
        let router = Router { read: Read::LayerInput, ..experts.router.clone() };
        // The chosen ones share the whole weight, whichever function gives it; no key says so.
        Ok(block(rms, attn, Body::Moe(Moe { router, renorm: true, ..experts })))
    })
}

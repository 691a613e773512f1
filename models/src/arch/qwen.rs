//! Qwen 1 to 3 (dense, MoE, and the text path of the vision models), and families of their shape:
//! NeoX rotation, gated SiLU.

use super::{block, decoder, unmask};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{Act, Attn, Body, ModelSpec, Moe, Pairing, Span, Sureness, pre, seq};

/// Qwen 2 (whose biases the file brings), and plain blocks of its kind.
pub(super) fn qwen2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        Ok(block(rms, hp.attn(il, Pairing::Halves)?, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

/// The first generation stores twice the real width under `feed_forward_length`.
pub(super) fn qwen(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut ffn = hp.gated(il, Act::Silu);
        ffn.n_ff /= 2;
        Ok(block(rms, hp.attn(il, Pairing::Halves)?, Body::Ffn(ffn)))
    })
}

pub(super) fn qwen2moe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let experts = Body::Moe(hp.experts(il, Act::Silu)?);
        Ok(block(rms, hp.attn(il, Pairing::Halves)?, experts))
    })
}

fn qwen3_attn(hp: &Hparams, il: usize) -> Result<Attn, Error> {
    Ok(Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? })
}

pub(super) fn qwen3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mlp = match hp.n_expert {
            0 => Body::Ffn(hp.gated(il, Act::Silu)),
            _ => Body::Moe(Moe { renorm: true, ..hp.experts(il, Act::Silu)? }),
        };
        Ok(block(rms, qwen3_attn(hp, il)?, mlp))
    })
}

pub(super) fn seed_oss(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("post_attention_norm"), ffn)]))
    })
}

/// Dream: a Qwen 2 that fills masks, looking both ways.
pub(super) fn dream(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { causal: false, ..hp.attn(il, Pairing::Halves)? };
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })?;
    model.unmask = unmask(hp, true, Sureness::Entropy, None)?;
    Ok(model)
}

/// RND1 (weights renormalised) and LLaDA MoE (not): mixtures that look both ways.
fn two_way_moe(hp: &Hparams, renorm: bool) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { causal: false, ..qwen3_attn(hp, il)? };
        let experts = Moe { renorm, ..hp.experts(il, Act::Silu)? };
        Ok(block(rms, attn, Body::Moe(experts)))
    })
}

pub(super) fn rnd1(hp: &Hparams) -> Result<ModelSpec, Error> {
    let unmask = unmask(hp, true, Sureness::Entropy, None)?;
    Ok(ModelSpec { unmask, ..two_way_moe(hp, true)? })
}

pub(super) fn llada_moe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let unmask = unmask(hp, false, Sureness::Probability, Some(quirks::LLADA_BLOCK))?;
    Ok(ModelSpec { unmask, ..two_way_moe(hp, false)? })
}

/// The plan of HunYuan dense and MoE: queries and keys are normalised after the rotation.
pub(super) fn hunyuan(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        attn.qk_norm = hp.qk_norm(Span::Head)?.map(|n| n.after_rope());
        let mlp = match hp.n_expert {
            0 => Body::Ffn(hp.gated(il, Act::Silu)),
            _ => Body::Moe(Moe { renorm: true, ..hp.experts(il, Act::Silu)? }),
        };
        Ok(block(rms, attn, mlp))
    })
}

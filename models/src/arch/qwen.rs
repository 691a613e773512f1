//! Qwen 2 and 2.5 (biases on q, k and v, which the file brings), Qwen 3 dense and MoE.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Attn, Body, Ffn, ModelSpec, Pairing, Span, moe, pre, seq};

pub(super) fn qwen2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("ffn_norm"), ffn)]))
    })
}

pub(super) fn qwen3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn =
            Body::Attn(Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? });
        let mlp = match hp.n_expert {
            0 => Body::Ffn(hp.gated(il, Act::Silu)),
            n => {
                let ffn = Ffn { n_ff: hp.n_ff_exp(il)?, ..hp.gated(il, Act::Silu) };
                Body::Moe(moe(n, hp.n_expert_used, ffn))
            }
        };
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("ffn_norm"), mlp)]))
    })
}

//! Llama 1 to 3, Mistral, Mixtral, SmolLM and everything else that is stored under their name.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Body, ModelSpec, Pairing, moe, pre, seq};

pub(super) fn llama(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let ffn = hp.gated(il, Act::Silu);
        let mlp = match hp.n_expert {
            0 => Body::Ffn(ffn),
            n => Body::Moe(moe(n, hp.n_expert_used, ffn)),
        };
        let attn = Body::Attn(hp.attn(il, Pairing::Neighbours)?);
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("ffn_norm"), mlp)]))
    })
}

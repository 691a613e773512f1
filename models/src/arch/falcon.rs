//! Falcon and GPT-NeoX: attention and MLP side by side on the same input.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Body, ModelSpec, Pairing, par, pre, seq};

pub(super) fn falcon(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    decoder(hp, norm("output_norm"), |il| {
        // The 40B form has a second norm, which the attention reads; the 7B form shares one.
        let two = hp.gguf().tensor(&format!("blk.{il}.attn_norm_2.weight")).is_some();
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let ffn = Body::Ffn(hp.plain(il, Act::Gelu));
        let attn_norm = if two { "attn_norm_2" } else { "attn_norm" };
        Ok(par([pre(norm(attn_norm), attn), pre(norm("attn_norm"), ffn)]))
    })
}

pub(super) fn gptneox(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let parallel = hp.bool("use_parallel_residual")?.unwrap_or(true);
    decoder(hp, norm("output_norm"), |il| {
        let attn = pre(norm("attn_norm"), Body::Attn(hp.attn(il, Pairing::Halves)?));
        let ffn = pre(norm("ffn_norm"), Body::Ffn(hp.plain(il, Act::Gelu)));
        Ok(if parallel { par([attn, ffn]) } else { seq([attn, ffn]) })
    })
}

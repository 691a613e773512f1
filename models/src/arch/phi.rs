//! Phi-3 and Phi-4: fused tensors, partial rotation, LongRoPE.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Body, ModelSpec, Pairing, RopeScaling, pre, seq};

pub(super) fn phi3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        if let Some(rope) = &mut attn.rope {
            // The files say by their factor tensors, not by a key, that they are LongRoPE.
            rope.scaling = RopeScaling::Long {
                n_ctx_orig: hp
                    .usize("rope.scaling.original_context_length")?
                    .unwrap_or(hp.n_ctx_train),
                attn_factor: hp.positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
            };
        }
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([pre(rms("attn_norm"), Body::Attn(attn)), pre(rms("ffn_norm"), ffn)]))
    })
}

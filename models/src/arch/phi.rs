//! Phi-3 and Phi-4: fused tensors, partial rotation, LongRoPE.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Attn, Body, ModelSpec, Moe, Norm, NormKind, Pairing, RopeScaling, Score};

/// Phi-3.5 MoE's router; its only published size has this jitter, and no key holds it.
const SPARSE_MIXER: Score = Score::SparseMixer { jitter: 0.01 };

/// The rotation of a file that says by its factor tensors, not by a key, that it is LongRoPE.
fn long_rope(hp: &Hparams, mut attn: Attn) -> Result<Attn, Error> {
    let n_ctx_orig = hp.usize("rope.scaling.original_context_length")?.unwrap_or(hp.n_ctx_train);
    let attn_factor = hp.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
    if let Some(rope) = &mut attn.rope {
        rope.scaling = RopeScaling::Long { n_ctx_orig, attn_factor };
    }
    Ok(attn)
}

pub(super) fn phi3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = long_rope(hp, hp.attn(il, Pairing::Halves)?)?;
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(block(rms, attn, ffn))
    })
}

/// Phi-3.5 MoE as its authors published it: layer norms (with the epsilon that the file names after
/// RMS norms), and weights by SparseMixer.
pub(super) fn phimoe(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let norm = |name| Norm { kind: NormKind::Layer, ..rms(name) };
    decoder(hp, norm("output_norm"), |il| {
        let attn = long_rope(hp, hp.attn(il, Pairing::Halves)?)?;
        let experts = Moe { score: SPARSE_MIXER, renorm: false, ..hp.experts(il, Act::Silu)? };
        Ok(block(norm, attn, Body::Moe(experts)))
    })
}

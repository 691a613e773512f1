//! Llama 4: chunked attention with rotation, every fourth layer full without; sigmoid mixtures that
//! weigh their experts' input.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, ModelSpec, Moe, Pairing, QkNorm, Score, Span, Temperature, Window,
};

fn attn(hp: &Hparams, il: usize) -> Result<Attn, Error> {
    let mut attn = hp.attn(il, Pairing::Neighbours)?;
    if !quirks::has_rope(il, 4) {
        // Scores of distant positions would flatten: queries grow with the position.
        let n = hp.usize("attention.temperature_length")?.unwrap_or(quirks::LLAMA4_CHUNK);
        let scale = hp.f32("attention.temperature_scale")?.unwrap_or(0.1);
        let temperature = Some(Temperature { scale, n, offset: 1 });
        return Ok(Attn { rope: None, temperature, ..attn });
    }
    attn.window = Window::Chunked(
        hp.usize("attention.chunk_size")?.filter(|&n| n > 0).unwrap_or(quirks::LLAMA4_CHUNK),
    );
    if quirks::llama4_has_qk_norm(hp) {
        attn.qk_norm =
            hp.qk_norm(Span::Head)?.map(|n| QkNorm { weight: false, after_rope: true, ..n });
    }
    Ok(attn)
}

pub(super) fn llama4(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let step = hp.usize("interleave_moe_layer_step")?.unwrap_or(1).max(1);
    decoder(hp, rms("output_norm"), |il| {
        let mlp = match hp.n_expert > 0 && (il + 1).is_multiple_of(step) {
            false => Body::Ffn(hp.gated(il, Act::Silu)),
            true => Body::Moe(Moe {
                score: Score::Sigmoid,
                weigh_input: true,
                ..hp.experts(il, Act::Silu)?
            }),
        };
        Ok(block(rms, attn(hp, il)?, mlp))
    })
}

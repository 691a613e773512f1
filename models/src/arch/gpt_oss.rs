//! gpt-oss: attention sinks, windows on every second layer, experts with biases.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{Act, Attn, Body, Ffn, ModelSpec, Moe, Pairing, Score, Window, moe, pre, seq};

/// Slope and bound of the activation; the checkpoints fix them and no key holds them.
const ACT: Act = Act::ClampedSwiglu { alpha: 1.702, limit: 7.0 };

pub(super) fn gpt_oss(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = Attn { sinks: true, ..hp.attn(il, Pairing::Halves)? };
        if window > 0 && quirks::is_windowed(hp, il, 2)? {
            attn.window = Window::Sliding(window);
        }
        let ffn = Ffn { n_ff: hp.n_ff_exp(il)?, ..hp.gated(il, ACT) };
        let experts =
            Moe { score: Score::SoftmaxOfChosen, ..moe(hp.n_expert, hp.n_expert_used, ffn) };
        Ok(seq([
            pre(rms("attn_norm"), Body::Attn(attn)),
            pre(rms("post_attention_norm"), Body::Moe(experts)),
        ]))
    })
}

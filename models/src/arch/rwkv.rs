//! RWKV 6 and 7: no attention, no rotation, a feed-forward network with memory of one row.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Body, ChannelMix, Input, Layer, ModelSpec, Recurrent, Rwkv6, Rwkv7, pre, seq};

/// A decoder of time mixing and channel mixing with layer norms, also behind the embedding.
fn rwkv(
    hp: &Hparams,
    gated: bool,
    mut time_mix: impl FnMut(usize) -> Result<Recurrent, Error>,
    change: impl Fn(usize, &mut Layer),
) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let mut model = decoder(hp, norm("output_norm"), |il| {
        let ffn = Recurrent::ChannelMix(ChannelMix { n_ff: hp.n_ff[il], gated });
        let mut layer = seq([
            pre(norm("attn_norm"), Body::Recurrent(time_mix(il)?)),
            pre(norm("attn_norm_2"), Body::Recurrent(ffn)),
        ]);
        change(il, &mut layer);
        Ok(layer)
    })?;
    model.stack.input = Input { norm: Some(norm("token_embd_norm")), ..Input::tokens() };
    Ok(model)
}

pub(super) fn rwkv6(hp: &Hparams) -> Result<ModelSpec, Error> {
    // The stream is halved after every so many blocks; converters divided the matrices to match.
    let rescale = hp.usize("rescale_every_n_layers")?.unwrap_or(0);
    let halve = |il: usize, layer: &mut Layer| {
        if rescale > 0 && (il + 1).is_multiple_of(rescale) {
            layer.stages.last_mut().into_iter().for_each(|s| s.factor = 0.5);
        }
    };
    let time_mix = |_| {
        Ok(Recurrent::Rwkv6(Rwkv6 {
            head_dim: hp.divisor("wkv.head_size", hp.n_embd, "embedding_length")?,
            n_mix: hp.size("time_mix_extra_dim")?,
            n_decay: hp.size("time_decay_extra_dim")?,
        }))
    };
    rwkv(hp, true, time_mix, halve)
}

pub(super) fn rwkv7(hp: &Hparams) -> Result<ModelSpec, Error> {
    let time_mix = |il| {
        Ok(Recurrent::Rwkv7(Rwkv7 {
            head_dim: hp.divisor("wkv.head_size", hp.n_embd, "embedding_length")?,
            n_decay: hp.size("attention.decay_lora_rank")?,
            n_rate: hp.size("attention.iclr_lora_rank")?,
            n_value: hp.size("attention.value_residual_mix_lora_rank")?,
            n_gate: hp.size("attention.gate_lora_rank")?,
            first: il == 0,
        }))
    };
    rwkv(hp, false, time_mix, |_, _| ())
}

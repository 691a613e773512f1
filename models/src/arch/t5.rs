//! T5 (Raffel et al. 2020): an encoder and a decoder that reads it; the encoder alone.

use super::encoders::head;
use crate::error::Error;
use crate::hparams::{Hparams, MAX_LAYERS};
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Input, Kv, ModelSpec, Pairing, RelativeBias, Stack, Streams, pre, seq,
};

/// The encoder or the decoder, whose tensors begin with `prefix`.
fn stack(hp: &Hparams, prefix: &'static str, n_layer: usize) -> Result<Stack, Error> {
    let rms = hp.rms()?;
    let decodes = prefix == DECODER;
    let n_buckets = hp.size("attention.relative_buckets_count")?;
    let bias = RelativeBias { n_buckets, max_distance: quirks::T5_MAX_DISTANCE };
    // Scores are not scaled: the weights were made for that.
    let plain = Attn { rope: None, scale: 1.0, ..hp.attn(0, Pairing::Halves)? };
    let attn = Attn { causal: decodes, relative: Some(bias), ..plain.clone() };
    let cross = Attn { kv: Kv::Encoder, ..plain };
    let mlp = match hp.gguf().tensor(&format!("{prefix}blk.0.ffn_gate.weight")) {
        Some(_) => hp.gated(0, Act::GeluTanh),
        None => hp.plain(0, Act::Relu),
    };
    let layer = |_| {
        let cross = pre(rms("cross_attn_norm"), Body::Attn(cross.clone()));
        let branches = [
            Some(pre(rms("attn_norm"), Body::Attn(attn.clone()))),
            Some(cross).filter(|_| decodes),
            Some(pre(rms("ffn_norm"), Body::Ffn(mlp.clone()))),
        ];
        seq(branches.into_iter().flatten())
    };
    Ok(Stack {
        prefix,
        input: Input::tokens(),
        streams: Streams::One,
        layers: (0..n_layer).map(layer).collect(),
        norm: Some(rms("output_norm")),
    })
}

const ENCODER: &str = "enc.";
const DECODER: &str = "dec.";

pub(super) fn t5(hp: &Hparams) -> Result<ModelSpec, Error> {
    let n_decoder = hp.usize("decoder_block_count")?.unwrap_or(hp.n_layer);
    if n_decoder == 0 || n_decoder > MAX_LAYERS {
        return Err(Error::BadValue {
            key: hp.key("decoder_block_count"),
            found: n_decoder.to_string(),
            expected: format!("1 to {MAX_LAYERS}"),
        });
    }
    let mut head = head(hp, true)?;
    head.scale = quirks::t5_output_scale(hp);
    Ok(ModelSpec {
        encoder: Some(stack(hp, ENCODER, hp.n_layer)?),
        stack: stack(hp, DECODER, n_decoder)?,
        head,
        unmask: None,
    })
}

pub(super) fn t5encoder(hp: &Hparams) -> Result<ModelSpec, Error> {
    let stack = stack(hp, ENCODER, hp.n_layer)?;
    Ok(ModelSpec { encoder: None, stack, head: head(hp, false)?, unmask: None })
}

//! Apertus and OpenELM: odd activations, odd widths.

use super::{block, decoder};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Act, Attn, Body, ModelSpec, Pairing, Span};

/// Parameters of the activation, which the file keeps beside the architecture's keys, before the
/// function that makes them positive.
fn xielu(hp: &Hparams, il: usize) -> Result<Act, Error> {
    let m = hp.gguf().metadata();
    let of = |key: &str| {
        let missing = || Error::MissingKey {
            key: key.into(),
            expected: "a parameter of the activation for each block".into(),
        };
        let v = m.f32_per(key, hp.n_layer)?.ok_or_else(missing)?[il];
        if v.is_finite() {
            return Ok(v);
        }
        let (found, expected) = (v.to_string(), "a finite number".into());
        Err(Error::BadValue { key: key.into(), found, expected })
    };
    let softplus = |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let beta = of("xielu.beta")?;
    Ok(Act::Xielu {
        alpha_p: softplus(of("xielu.alpha_p")?),
        alpha_n: beta + softplus(of("xielu.alpha_n")?),
        beta,
        eps: of("xielu.eps")?,
    })
}

pub(super) fn apertus(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
        Ok(block(rms, attn, Body::Ffn(hp.plain(il, xielu(hp, il)?))))
    })
}

/// Heads and widths of its own in every layer.
pub(super) fn openelm(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..hp.attn(il, Pairing::Halves)? };
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

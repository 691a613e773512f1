//! LFM2, dense and MoE: most layers mix time with a short gated convolution, the others with attention.

use super::{decoder, latent};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Attn, Body, ModelSpec, Pairing, Recurrent, ShortConv, Span, pre, seq};

pub(super) fn lfm2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let n_taps = hp.taps("shortconv.l_cache")?;
    decoder(hp, rms("token_embd_norm"), |il| {
        let mixer = match hp.n_head_kv[il] {
            0 => Body::Recurrent(Recurrent::ShortConv(ShortConv { n_taps })),
            _ => Body::Attn(Attn {
                qk_norm: hp.qk_norm(Span::Head)?,
                ..hp.attn(il, Pairing::Halves)?
            }),
        };
        let mlp = latent::mlp_renormed(hp, il)?;
        Ok(seq([pre(rms("attn_norm"), mixer), pre(rms("ffn_norm"), mlp)]))
    })
}

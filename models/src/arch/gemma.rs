//! Gemma 3: windowed layers with their own rotation, QK norm, norms before and after each body.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{Act, Attn, Body, Input, ModelSpec, Pairing, Span, Window, pre, seq};

pub(super) fn gemma3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = Attn {
            qk_norm: hp.qk_norm(Span::Head)?,
            scale: quirks::gemma3_scale(hp),
            ..hp.attn(il, Pairing::Halves)?
        };
        if window > 0 && quirks::is_windowed(hp, il, 6)? {
            attn.window = Window::Sliding(window);
            attn.rope = attn.rope.map(|global| quirks::local_rope(hp, &global)).transpose()?;
        }
        let ffn = Body::Ffn(hp.gated(il, Act::GeluTanh));
        Ok(seq([
            pre(rms("attn_norm"), Body::Attn(attn)).post(rms("post_attention_norm")),
            pre(rms("ffn_norm"), ffn).post(rms("post_ffw_norm")),
        ]))
    })?;
    model.stack.input = Input { scale: (hp.n_embd as f32).sqrt(), ..Input::tokens() };
    model.head.softcap = hp.positive("final_logit_softcapping")?;
    Ok(model)
}

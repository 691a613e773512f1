//! Grok 1 and 2: factors everywhere, a cap on scores, norms after both bodies.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{Act, Attn, Body, Input, Layer, ModelSpec, Moe, Pairing, pre, stage};

pub(super) fn grok(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let [embd, logits, scale, cap] = quirks::grok_scales(hp)?;
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let softcap = Some(cap).filter(|&c| c > 0.0);
        let attn = Attn { scale, softcap, ..hp.attn(il, Pairing::Halves)? };
        let attn = pre(rms("attn_norm"), Body::Attn(attn)).post(rms("attn_output_norm"));
        let experts = hp.experts(il, Act::GeluTanh)?;
        let experts = Body::Moe(Moe { renorm: true, ..experts });
        let mut mlp = stage([pre(rms("ffn_norm"), experts)]);
        // Grok 2 runs a dense network beside the experts.
        if hp.has(il, "ffn_up") {
            let dense = Body::Ffn(hp.gated(il, Act::GeluTanh));
            mlp.branches.push(pre(rms("ffn_norm"), dense));
            mlp.branches.iter_mut().for_each(|b| b.scale = std::f32::consts::FRAC_1_SQRT_2);
        }
        let old = hp.has(il, "layer_output_norm");
        mlp.norm_out = Some(rms(if old { "layer_output_norm" } else { "post_ffw_norm" }));
        Ok(Layer { stages: vec![stage([attn]), mlp] })
    })?;
    model.stack.input = Input { scale: embd, ..Input::tokens() };
    model.head.scale = logits;
    model.head.softcap = hp.bound("final_logit_softcapping")?;
    Ok(model)
}

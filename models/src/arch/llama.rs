//! Llama 1 to 3, Mistral, Mixtral, and the families whose blocks differ from theirs by little.

use super::{block, decoder, unmask};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, ModelSpec, Moe, Pairing, Span, Sureness, Temperature, moe, pre, seq,
};

/// A dense network, or a mixture as large as `feed_forward_length` says.
fn dense_or_mixtral(hp: &Hparams, il: usize) -> Body {
    let ffn = hp.gated(il, Act::Silu);
    match hp.n_expert {
        0 => Body::Ffn(ffn),
        n => Body::Moe(moe(n, hp.n_expert_used, ffn)),
    }
}

pub(super) fn llama(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        Ok(block(rms, hp.attn(il, Pairing::Neighbours)?, dense_or_mixtral(hp, il)))
    })
}

pub(super) fn llada(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { causal: false, ..hp.attn(il, Pairing::Neighbours)? };
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })?;
    model.unmask = unmask(hp, false, Sureness::Probability, Some(quirks::LLADA_BLOCK))?;
    Ok(model)
}

pub(super) fn mistral3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let n = hp.usize("rope.scaling.original_context_length")?.unwrap_or(hp.n_ctx_train);
    let scale = hp.f32("attention.temperature_scale")?.filter(|&s| s != 0.0);
    let temperature = scale.map(|scale| Temperature { scale, n, offset: 0 });
    decoder(hp, rms("output_norm"), |il| {
        let attn = Attn { temperature, ..hp.attn(il, Pairing::Neighbours)? };
        Ok(block(rms, attn, dense_or_mixtral(hp, il)))
    })
}

/// Every fourth layer has no rotation; no key says so.
pub(super) fn smollm3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Neighbours)?;
        attn.rope = attn.rope.filter(|_| quirks::has_rope(il, 4));
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

pub(super) fn arcee(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let ffn = Body::Ffn(hp.plain(il, Act::Relu2));
        Ok(block(rms, hp.attn(il, Pairing::Neighbours)?, ffn))
    })
}

pub(super) fn maincoder(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Neighbours)?;
        attn.qk_norm = hp.qk_norm(Span::Head)?.map(|n| n.after_rope());
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

pub(super) fn baichuan(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Neighbours)?;
        attn.alibi = quirks::baichuan_alibi(hp);
        attn.rope = attn.rope.filter(|_| attn.alibi.is_none());
        Ok(block(rms, attn, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

/// Pruned Llamas: a layer may have no attention, or one matrix in its place.
pub(super) fn deci(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mixer = match (hp.n_head[il], hp.n_head_kv[il]) {
            (0, _) => None,
            (_, 0) => Some(Body::Linear("attn_output")),
            _ => Some(Body::Attn(hp.attn(il, Pairing::Neighbours)?)),
        };
        let ffn = (hp.n_ff[il] > 0).then(|| Body::Ffn(hp.gated(il, Act::Silu)));
        let mixer = mixer.map(|body| pre(rms("attn_norm"), body));
        Ok(seq(mixer.into_iter().chain(ffn.map(|body| pre(rms("ffn_norm"), body)))))
    })
}

pub(super) fn ernie4_5(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let step = hp.usize("interleave_moe_layer_step")?.unwrap_or(1).max(1);
    decoder(hp, rms("output_norm"), |il| {
        let dense = hp.n_expert == 0 || il < hp.n_dense()? || !(il + 1).is_multiple_of(step);
        let mlp = match dense {
            true => Body::Ffn(hp.gated(il, Act::Silu)),
            false => Body::Moe(Moe { renorm: true, ..hp.experts(il, Act::Silu)? }),
        };
        Ok(block(rms, hp.attn(il, Pairing::Neighbours)?, mlp))
    })
}

/// Sub-norms before both output projections; the products of ternary weights carry scales.
pub(super) fn bitnet(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mut attn = hp.attn(il, Pairing::Halves)?;
        attn.sub_norm = Some(rms("attn_sub_norm"));
        let mut ffn = hp.gated(il, Act::Silu);
        ffn.sub_norm = Some(rms("ffn_sub_norm"));
        Ok(block(rms, attn, Body::Ffn(ffn)))
    })
}

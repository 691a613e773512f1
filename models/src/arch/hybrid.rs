//! State spaces beside attention: Granite 4, Nemotron-H, Falcon-H1, Jamba, PLaMo 2.

use super::decoder;
use super::mamba::{ssm, ssm2};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Input, Mamba, ModelSpec, Moe, Pairing, Recurrent, Score, Span, SsmNorm, par,
    pre, seq,
};

/// The file's attention without any rotation.
fn unrotated(hp: &Hparams, il: usize) -> Result<Body, Error> {
    Ok(Body::Attn(Attn { rope: None, ..hp.attn(il, Pairing::Halves)? }))
}

pub(super) fn granitehybrid(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let factor = |word| Ok::<_, Error>(hp.positive(word)?.unwrap_or(1.0));
    let residual = factor("residual_scale")?;
    // The rotation's keys are there in any case; this flag says whether it was trained.
    let rotated = hp.bool("rope.scaling.finetuned")?.unwrap_or(true);
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let mixer = match (hp.n_head_kv[il], rotated) {
            (0, _) => Body::Recurrent(Recurrent::Mamba2(ssm2(hp, il, rms("ssm_norm").eps)?)),
            (_, true) => Body::Attn(hp.attn(il, Pairing::Neighbours)?),
            (_, false) => unrotated(hp, il)?,
        };
        let mlp = match hp.n_expert {
            0 => Body::Ffn(hp.gated(il, Act::Silu)),
            _ => Body::Moe(Moe { score: Score::SoftmaxOfChosen, ..hp.experts(il, Act::Silu)? }),
        };
        Ok(seq([
            pre(rms("attn_norm"), mixer).times(residual),
            pre(rms("ffn_norm"), mlp).times(residual),
        ]))
    })?;
    model.stack.input = Input { scale: factor("embedding_scale")?, ..Input::tokens() };
    model.head.scale = 1.0 / factor("logit_scale")?;
    Ok(model)
}

/// One body a layer: attention where it has key heads, a network where it has a width, else a
/// state space.
pub(super) fn nemotron_h(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = quirks::rms_by_any_key(hp)?;
    decoder(hp, rms("output_norm"), |il| {
        let body = if hp.n_head_kv[il] > 0 {
            unrotated(hp, il)?
        } else if hp.n_ff[il] == 0 {
            Body::Recurrent(Recurrent::Mamba2(ssm2(hp, il, rms("ssm_norm").eps)?))
        } else if hp.has(il, "ffn_gate_inp") {
            let mut moe = Moe { score: quirks::sigmoid_routed(hp)?, ..hp.experts(il, Act::Relu2)? };
            moe.ffn.gated = false;
            moe.shared.iter_mut().for_each(|s| s.ffn.gated = false);
            Body::Moe(moe)
        } else {
            Body::Ffn(hp.plain(il, Act::Relu2))
        };
        Ok(seq([pre(rms("attn_norm"), body)]))
    })
}

pub(super) fn falcon_h1(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Attn(hp.attn(il, Pairing::Halves)?);
        let mamba = Body::Recurrent(Recurrent::Mamba2(ssm2(hp, il, rms("ssm_norm").eps)?));
        let mut layer = par([pre(rms("attn_norm"), attn), pre(rms("attn_norm"), mamba)]);
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        layer.stages.extend(seq([pre(rms("ffn_norm"), ffn)]).stages);
        Ok(layer)
    })
}

pub(super) fn jamba(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let norm = Some(SsmNorm { eps: rms("ssm_dt_norm").eps, weights: true });
    decoder(hp, rms("output_norm"), |il| {
        let mixer = match hp.n_head_kv[il] {
            0 => Body::Recurrent(Recurrent::Mamba(Mamba { norm: norm.clone(), ..ssm(hp)? })),
            _ => unrotated(hp, il)?,
        };
        let mlp = match hp.has(il, "ffn_gate_inp") {
            true => Body::Moe(hp.experts(il, Act::Silu)?),
            false => Body::Ffn(hp.gated(il, Act::Silu)),
        };
        Ok(seq([pre(rms("attn_norm"), mixer), pre(rms("ffn_norm"), mlp)]))
    })
}

pub(super) fn plamo2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let ssm = Mamba {
        n_head: Some(hp.divisor("ssm.time_step_rank", ssm(hp)?.n_inner, "ssm.inner_size")?),
        n_rank: quirks::plamo2_rank(hp),
        norm: Some(SsmNorm { eps: rms("ssm_dt_norm").eps, weights: true }),
        ..ssm(hp)?
    };
    decoder(hp, rms("output_norm"), |il| {
        let mixer = match hp.n_head_kv[il] {
            0 => Body::Recurrent(Recurrent::Mamba(ssm.clone())),
            _ => Body::Attn(Attn {
                qk_norm: hp.qk_norm(Span::EachHead)?,
                ..hp.attn(il, Pairing::Halves)?
            }),
        };
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([
            pre(rms("attn_norm"), mixer).post(rms("post_attention_norm")),
            pre(rms("ffn_norm"), ffn).post(rms("post_ffw_norm")),
        ]))
    })
}

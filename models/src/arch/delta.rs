//! The delta rule beside attention: Qwen3-Next, Qwen 3.5 dense and MoE, Kimi Linear.

use super::{decoder, latent};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Gate, GateFrom, GatedDelta, HeadOrder, Kda, Mla, ModelSpec, Moe, Pairing,
    Recurrent, Span, pre, seq,
};

/// The sizes of the delta rule of the Qwen files.
fn delta(hp: &Hparams, heads: HeadOrder, norm_eps: f32) -> Result<GatedDelta, Error> {
    let n_inner = hp.size("ssm.inner_size")?;
    let n_head_v = hp.divisor("ssm.time_step_rank", n_inner, "ssm.inner_size")?;
    Ok(GatedDelta {
        n_head_k: hp.divisor("ssm.group_count", n_head_v, "ssm.time_step_rank")?,
        n_head_v,
        head_dim_k: hp.size("ssm.state_size")?,
        head_dim_v: n_inner / n_head_v,
        n_taps: hp.taps("ssm.conv_kernel")?,
        heads,
        norm_eps,
    })
}

fn qwen(hp: &Hparams, heads: HeadOrder) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mixer = if quirks::is_recurrent(hp, il, 4)? {
            Body::Recurrent(Recurrent::Delta(delta(hp, heads, rms("ssm_norm").eps)?))
        } else {
            Body::Attn(Attn {
                qk_norm: hp.qk_norm(Span::Head)?,
                gate: Some(Gate::Sigmoid(GateFrom::Query)),
                ..hp.attn(il, Pairing::Halves)?
            })
        };
        let mlp = match hp.n_expert {
            0 => Body::Ffn(hp.gated(il, Act::Silu)),
            _ => Body::Moe(Moe { renorm: true, ..hp.experts(il, Act::Silu)? }),
        };
        Ok(seq([pre(rms("attn_norm"), mixer), pre(rms("post_attention_norm"), mlp)]))
    })
}

pub(super) fn qwen3next(hp: &Hparams) -> Result<ModelSpec, Error> {
    qwen(hp, HeadOrder::Grouped)
}

pub(super) fn qwen35(hp: &Hparams) -> Result<ModelSpec, Error> {
    qwen(hp, HeadOrder::Tiled)
}

pub(super) fn kimi_linear(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mixer = match hp.n_head_kv[il] {
            0 => Body::Recurrent(Recurrent::Kda(Kda {
                n_head: hp.n_head[il],
                head_dim: hp.size("kda.head_dim")?,
                n_taps: hp.taps("ssm.conv_kernel")?,
                norm_eps: rms("ssm_norm").eps,
            })),
            // The rotation's width is there, and splits the key, but nothing is rotated.
            _ => Body::Mla(Mla { rope: None, ..latent::mla(hp, il, Pairing::Neighbours)? }),
        };
        let mlp = latent::mlp_renormed(hp, il)?;
        Ok(seq([pre(rms("attn_norm"), mixer), pre(rms("ffn_norm"), mlp)]))
    })
}

//! Latent attention: DeepSeek 2, 3 and 3.2, GLM, Mistral 4, MiniCPM 3, PLM.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Body, IndexChoice, Indexer, LatentForm, Mla, ModelSpec, Moe, Pairing, RopeScaling,
    Temperature, pre, seq,
};

/// Latent attention of one block; the tensors say which form the file has.
pub(super) fn mla(hp: &Hparams, il: usize, pairing: Pairing) -> Result<Mla, Error> {
    let n_k = hp.usize("attention.key_length_mla")?.unwrap_or(hp.head_dim_k);
    let head_dim_v = hp.usize("attention.value_length_mla")?.unwrap_or(hp.head_dim_v);
    let n_nope = n_k.checked_sub(hp.n_rot).filter(|&n| n > 0).ok_or_else(|| Error::BadValue {
        key: hp.key("rope.dimension_count"),
        found: hp.n_rot.to_string(),
        expected: format!("less than the key's {n_k}"),
    })?;
    // Files that say so scale the softmax for their stretched context, not cos and sin.
    let stretch = hp.positive("rope.scaling.factor")?.unwrap_or(1.0).max(1.0).ln();
    let magnitude = 1.0 + hp.f32("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0) * stretch;
    let absorbed = hp.has(il, "attn_k_b");
    Ok(Mla {
        n_head: hp.n_head[il],
        q_rank: hp.has(il, "attn_q_a").then(|| hp.size("attention.q_lora_rank")).transpose()?,
        kv_rank: hp.size("attention.kv_lora_rank")?,
        n_nope,
        n_rot: hp.n_rot,
        head_dim_v,
        rope: Some(hp.rope(pairing)?),
        scale: magnitude * magnitude / (n_k as f32).sqrt(),
        temperature: None,
        norm_eps: hp.rms()?("attn_kv_a_norm").eps,
        form: match absorbed {
            true => LatentForm::Absorbed { indexer: None },
            false => LatentForm::Expanded,
        },
    })
}

/// The network of one block: dense in the first ones.
pub(super) fn mlp(hp: &Hparams, il: usize) -> Result<Body, Error> {
    let dense = hp.usize("leading_dense_block_count")?.unwrap_or(0);
    if hp.n_expert == 0 || il < dense {
        return Ok(Body::Ffn(hp.gated(il, Act::Silu)));
    }
    Ok(Body::Moe(hp.experts(il, Act::Silu)?))
}

/// [`mlp`] with weights that add up to one, which the file does not say.
pub(super) fn mlp_renormed(hp: &Hparams, il: usize) -> Result<Body, Error> {
    Ok(match mlp(hp, il)? {
        Body::Moe(moe) => Body::Moe(Moe { renorm: true, ..moe }),
        dense => dense,
    })
}

/// A decoder of latent attention that `change` has the last word on, block by block.
fn latent(
    hp: &Hparams,
    change: impl Fn(usize, Mla) -> Result<Mla, Error>,
) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Mla(change(il, mla(hp, il, Pairing::Neighbours)?)?);
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("ffn_norm"), mlp(hp, il)?)]))
    })
}

pub(super) fn deepseek2(hp: &Hparams) -> Result<ModelSpec, Error> {
    latent(hp, |_, attn| Ok(attn))
}

/// Latent attention over the positions that an indexer chooses, in the one form that files of it have.
/// The indexer's rotation pairs elements in its own way; `chooses` says which blocks have one.
fn sparse(
    hp: &Hparams,
    pairing: Pairing,
    chooses: impl Fn(usize) -> Result<bool, Error>,
) -> Result<ModelSpec, Error> {
    let indexer = Indexer {
        top_k: hp.size("attention.indexer.top_k")?,
        choice: IndexChoice::Own,
        n_head: hp.size("attention.indexer.head_count")?,
        head_dim: hp.size("attention.indexer.key_length")?,
        pairing,
        norm_eps: quirks::index_norm_eps(hp)?,
    };
    let q_rank = Some(hp.size("attention.q_lora_rank")?);
    latent(hp, |il, attn| {
        let choice = match chooses(il)? {
            true => IndexChoice::Own,
            false if il > 0 => IndexChoice::Before,
            false => {
                return Err(Error::BadValue {
                    key: hp.key("attention.indexer.types"),
                    found: "false for the first block".into(),
                    expected: "true: there is no block before it whose choice it could take".into(),
                });
            }
        };
        let indexer = Some(Indexer { choice, ..indexer.clone() });
        Ok(Mla { q_rank, form: LatentForm::Absorbed { indexer }, ..attn })
    })
}

pub(super) fn deepseek32(hp: &Hparams) -> Result<ModelSpec, Error> {
    sparse(hp, Pairing::Halves, |_| Ok(true))
}

pub(super) fn glm_dsa(hp: &Hparams) -> Result<ModelSpec, Error> {
    sparse(hp, Pairing::Neighbours, |il| quirks::has_indexer(hp, il))
}

pub(super) fn mistral4(hp: &Hparams) -> Result<ModelSpec, Error> {
    let temperature = match hp.f32("attention.temperature_scale")?.filter(|&s| s != 0.0) {
        Some(scale) => {
            Some(Temperature { scale, n: hp.size("attention.temperature_length")?, offset: 0 })
        }
        None => None,
    };
    latent(hp, |_, attn| Ok(Mla { temperature, ..attn }))
}

pub(super) fn minicpm3(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let scales = quirks::minicpm3_scales(hp);
    let mut model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = mla(hp, il, Pairing::Halves)?;
        if let Some(rope) = &mut attn.rope {
            rope.scaling = RopeScaling::Long { n_ctx_orig: hp.n_ctx_train, attn_factor: 1.0 };
        }
        let ffn = Body::Ffn(hp.gated(il, Act::Silu));
        Ok(seq([
            pre(rms("attn_norm"), Body::Mla(attn)).times(scales.residual),
            pre(rms("ffn_norm"), ffn).times(scales.residual),
        ]))
    })?;
    model.stack.input.scale = scales.embedding;
    model.head.scale = scales.logits;
    Ok(model)
}

pub(super) fn plm(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let attn = Body::Mla(mla(hp, il, Pairing::Neighbours)?);
        let ffn = Body::Ffn(hp.plain(il, Act::Relu2));
        Ok(seq([pre(rms("attn_norm"), attn), pre(rms("ffn_norm"), ffn)]))
    })
}

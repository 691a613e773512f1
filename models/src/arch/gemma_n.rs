//! Gemma 3n and 4: per-layer embeddings, keys and values shared between layers, and 3n's
//! alternating copies of the residual stream.

use super::decoder;
use super::gemma::{sandwich, with_ends};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Kv, Layer, LowRank, ModelSpec, Moe, Norm, Pairing, PerLayer, PerLayerInput,
    Read, Router, Span, Stage, Streams, Window, pre, raw, stage,
};

/// The last layer before `first_shared` of the same kind as layer `il`, whose keys and values that
/// one takes.
fn shared_with(hp: &Hparams, il: usize, first_shared: usize, period: usize) -> Result<Kv, Error> {
    if il < first_shared {
        return Ok(Kv::Own);
    }
    let kind = quirks::is_windowed(hp, il, period)?;
    for from in (0..first_shared).rev() {
        if quirks::is_windowed(hp, from, period)? == kind {
            return Ok(Kv::Layer(from));
        }
    }
    Err(Error::BadValue {
        key: hp.key("attention.shared_kv_layers"),
        found: format!("{} of {}", hp.n_layer - first_shared, hp.n_layer),
        expected: "fewer, so that each kind of layer keeps one of its own".into(),
    })
}

/// Layers with keys and values of their own.
fn n_own_kv(hp: &Hparams, default: usize) -> Result<usize, Error> {
    let shared = hp.usize("attention.shared_kv_layers")?;
    Ok(shared.map_or(default.min(hp.n_layer), |n| hp.n_layer.saturating_sub(n)))
}

/// The stage that mixes a per-layer embedding in.
fn per_layer(rms: impl Fn(&'static str) -> Norm, n: usize) -> Stage {
    let body = Body::PerLayer(PerLayer { n, act: Act::GeluTanh });
    stage([raw(body).post(rms("post_norm"))])
}

fn per_layer_input(hp: &Hparams) -> Result<Option<PerLayerInput>, Error> {
    let n = hp.usize("embedding_length_per_layer_input")?.filter(|&n| n > 0);
    let norm = hp.rms()?("per_layer_proj_norm");
    Ok(n.map(|n| PerLayerInput { n, norm }))
}

/// Attention of both: windowed layers with a rotation of their own, norms on q, k and v.
fn attn(hp: &Hparams, il: usize, period: usize, n_own: usize) -> Result<Attn, Error> {
    let mut attn = Attn {
        kv: shared_with(hp, il, n_own, period)?,
        qk_norm: hp.qk_norm(Span::Head)?,
        v_norm: Some(hp.rms()?("").eps),
        scale: 1.0,
        ..hp.attn(il, Pairing::Halves)?
    };
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    if window > 0 && quirks::is_windowed(hp, il, period)? {
        attn.window = Window::Sliding(window);
        attn.head_dim_k = hp.usize("attention.key_length_swa")?.unwrap_or(attn.head_dim_k);
        attn.head_dim_v = hp.usize("attention.value_length_swa")?.unwrap_or(attn.head_dim_v);
        attn.rope = attn.rope.map(|global| quirks::local_rope(hp, &global)).transpose()?;
    }
    Ok(attn)
}

pub(super) fn gemma3n(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let n_own = n_own_kv(hp, quirks::GEMMA3N_OWN_KV)?;
    let sparsity = hp.f32_per("activation_sparsity_scale")?;
    let input = per_layer_input(hp)?;
    let n = input.as_ref().map_or(0, |p| p.n);
    let model = decoder(hp, rms("output_norm"), |il| {
        let attn = attn(hp, il, 5, n_own)?;
        let rank = hp.rows(il, "laurel_l").unwrap_or(64);
        let laurel = Body::LowRank(LowRank { rank, norm: rms("laurel_post_norm") });
        let mut ffn = hp.gated(il, Act::GeluTanh);
        ffn.sparsity = match &sparsity {
            Some(all) => Some(all[il]).filter(|s| s.is_finite()),
            None => quirks::gemma3n_sparsity(il),
        };
        let Layer { mut stages } = sandwich(rms, attn, Body::Ffn(ffn));
        stages[0].branches.push(pre(rms("attn_norm"), laurel));
        stages[0].factor = std::f32::consts::FRAC_1_SQRT_2;
        stages.push(per_layer(rms, n));
        Ok(Layer { stages })
    })?;
    let mut model = with_ends(hp, model)?;
    model.stack.input.per_layer = input;
    model.stack.streams = Streams::AltUp {
        n: hp.usize("altup.num_inputs")?.unwrap_or(4),
        active: hp.usize("altup.active_idx")?.unwrap_or(0),
        norm: rms("altup_router_norm"),
    };
    model.head.softcap = model.head.softcap.or(Some(quirks::GEMMA3N_SOFTCAP));
    Ok(model)
}

/// The mixture beside Gemma 4's dense network, whose router has a norm of its own.
fn gemma4_experts(hp: &Hparams, il: usize) -> Result<Body, Error> {
    let experts = hp.experts(il, Act::GeluTanh)?;
    let Norm { kind, eps, .. } = hp.rms()?("");
    let norm = Some(Norm { kind, eps, name: Some("ffn_gate_inp.scale") });
    let scale = 1.0 / (hp.n_embd as f32).sqrt();
    let router = Router { read: Read::Stream, norm, scale };
    Ok(Body::Moe(Moe { router, renorm: true, ..experts }))
}

pub(super) fn gemma4(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let n_own = n_own_kv(hp, hp.n_layer)?;
    let input = per_layer_input(hp)?;
    let model = decoder(hp, rms("output_norm"), |il| {
        let mut attn = attn(hp, il, 6, n_own)?;
        if attn.kv == Kv::Own && !hp.has(il, "attn_v") && !hp.has(il, "attn_qkv") {
            attn.kv = Kv::KeyAsValue;
        }
        let dense = Body::Ffn(hp.gated(il, Act::GeluTanh));
        let Layer { mut stages } = sandwich(rms, attn, dense);
        if hp.n_expert > 0 {
            let ffn = &mut stages[1];
            ffn.norm_out = ffn.branches[0].norm_out.replace(rms("post_ffw_norm_1"));
            let experts = pre(rms("pre_ffw_norm_2"), gemma4_experts(hp, il)?);
            ffn.branches.push(experts.post(rms("post_ffw_norm_2")));
        }
        stages.extend(input.as_ref().map(|p| per_layer(rms, p.n)));
        if let Some(last) = stages.last_mut().filter(|_| hp.has(il, "layer_output_scale")) {
            last.factor_name = Some("layer_output_scale");
        }
        Ok(Layer { stages })
    })?;
    let mut model = with_ends(hp, model)?;
    model.stack.input.per_layer = input;
    Ok(model)
}

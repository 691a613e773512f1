//! State spaces: Mamba and Falcon Mamba, Mamba 2.

use super::decoder;
use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Body, Mamba, Mamba2, ModelSpec, Recurrent, SsmNorm, pre, seq};

/// The sizes of a selective state space, without norms.
pub(super) fn ssm(hp: &Hparams) -> Result<Mamba, Error> {
    Ok(Mamba {
        n_inner: hp.size("ssm.inner_size")?,
        n_state: hp.size("ssm.state_size")?,
        n_rank: hp.size("ssm.time_step_rank")?,
        n_taps: hp.taps("ssm.conv_kernel")?,
        norm: None,
        n_head: None,
    })
}

/// The sizes of a state space with heads, and its norm where block `il` has one.
pub(super) fn ssm2(hp: &Hparams, il: usize, eps: f32) -> Result<Mamba2, Error> {
    let n_inner = hp.size("ssm.inner_size")?;
    let n_head = hp.divisor("ssm.time_step_rank", n_inner, "ssm.inner_size")?;
    let norm = hp.gguf().tensor(&format!("blk.{il}.ssm_norm.weight"));
    Ok(Mamba2 {
        n_inner,
        n_state: hp.size("ssm.state_size")?,
        n_head,
        n_group: hp.divisor("ssm.group_count", n_head, "ssm.time_step_rank")?,
        n_taps: hp.taps("ssm.conv_kernel")?,
        norm_eps: norm.map(|_| eps),
    })
}

pub(super) fn mamba(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    // Falcon Mamba: dt, B and C are normed without weights.
    let normed = hp.bool("ssm.dt_b_c_rms")?.unwrap_or(false);
    let norm = normed.then(|| SsmNorm { eps: rms("ssm_dt_norm").eps, weights: false });
    decoder(hp, rms("output_norm"), |_| {
        let mixer = Recurrent::Mamba(Mamba { norm: norm.clone(), ..ssm(hp)? });
        Ok(seq([pre(rms("attn_norm"), Body::Recurrent(mixer))]))
    })
}

pub(super) fn mamba2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    decoder(hp, rms("output_norm"), |il| {
        let mixer = Recurrent::Mamba2(ssm2(hp, il, rms("ssm_norm").eps)?);
        Ok(seq([pre(rms("attn_norm"), Body::Recurrent(mixer))]))
    })
}

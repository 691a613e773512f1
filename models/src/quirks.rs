//! Every guess about files that lack a key, with its reason.

use crate::error::Error;
use crate::hparams::Hparams;
use crate::spec::{Norm, NormKind, Pooling, Rope, Score};

/// Rotary base where the file names none: the value of the first rotary models, which every
/// converter leaves out as the default.
pub const ROPE_BASE: f32 = 10_000.0;

/// What the name of a bank of experts ends in. The first files of Mixtral have a tensor for each
/// expert instead, `NAME.N` where others have `NAME_exps`.
pub const BANK_SUFFIX: &str = "_exps";

/// Positions that LLaDA fills before it begins the next ones; no key gives it, and its authors'
/// examples have this.
pub const LLADA_BLOCK: usize = 32;

/// The token that a decoder's text begins with where no key says so: T5's padding, the first id.
pub const DECODER_START: u32 = 0;

/// How rows become one vector where the file has no `pooling_type`: the last row of a decoder, which
/// alone has seen the whole text; the mean of an encoder's, which is what its library does with a
/// model that says nothing.
pub fn pooling(causal: bool) -> Pooling {
    if causal { Pooling::Last } else { Pooling::Mean }
}

/// T5's distances from this on share a bucket; no key gives it, and all published models have this.
pub const T5_MAX_DISTANCE: usize = 128;

/// The first T5 shares its embedding with the output and scales the rows before that; version 1.1 and
/// Flan do neither, and no key says which a file is. The first has networks without gate.
pub fn t5_output_scale(hp: &Hparams) -> f32 {
    let has = |name: &str| hp.gguf().tensor(name).is_some();
    let first = !has("dec.blk.0.ffn_gate.weight") && !has("output.weight");
    if first { 1.0 / (hp.n_embd as f32).sqrt() } else { 1.0 }
}

/// Largest bias of ALiBi where no key gives it: the paper's, which all published models kept.
pub const ALIBI_BIAS: f32 = 8.0;

/// Gemma 3 files before the key `rope.freq_base_swa` left out the base of their windowed layers;
/// all published ones use 10,000 there, and never stretch it.
///
/// # Errors
/// As [`Hparams::positive`].
pub fn local_rope(hp: &Hparams, global: &Rope) -> Result<Rope, Error> {
    hp.local_rope(&Rope { base: ROPE_BASE, ..global.clone() })
}

/// Every n-th layer attends fully where the file has no `attention.sliding_window_pattern`: the
/// published files of most families carry the window's size alone.
///
/// # Errors
/// Another type under the key, or an array shorter than the blocks.
pub fn is_windowed(hp: &Hparams, il: usize, period: usize) -> Result<bool, Error> {
    let period = match hp.gguf().metadata().array(&hp.key("attention.sliding_window_pattern")) {
        Ok(Some(_)) => period,
        _ => hp.usize("attention.sliding_window_pattern")?.unwrap_or(period).max(1),
    };
    is_windowed_of(hp, il, |il| !(il + 1).is_multiple_of(period))
}

/// As [`is_windowed`], with any rule for files without the key.
///
/// # Errors
/// As [`is_windowed`].
pub fn is_windowed_of(
    hp: &Hparams,
    il: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<bool, Error> {
    Ok(flag(hp, il, "attention.sliding_window_pattern")?.unwrap_or_else(|| rule(il)))
}

/// Flag of block `il` under a key with one for each, which converters store as truth values or as
/// numbers; `None` where the file has no array there.
fn flag(hp: &Hparams, il: usize, word: &str) -> Result<Option<bool>, Error> {
    let (key, m) = (hp.key(word), hp.gguf().metadata());
    if !m.array(&key).is_ok_and(|a| a.is_some()) {
        return Ok(None);
    }
    if let Ok(Some(numbers)) = m.u32_per(&key, hp.n_layer) {
        return Ok(Some(numbers[il] != 0));
    }
    Ok(m.bool_per(&key, hp.n_layer)?.map(|flags| flags[il]))
}

/// Whether block `il` chooses the positions that its attention sees. Files from before
/// `attention.indexer.types` are of models in which each block does (GLM 5, 5.1), or of one in which
/// most take another's choice (GLM 5.2) and have no tensors for their own.
///
/// # Errors
/// Another type under the key, or an array shorter than the blocks.
pub fn has_indexer(hp: &Hparams, il: usize) -> Result<bool, Error> {
    Ok(flag(hp, il, "attention.indexer.types")?
        .unwrap_or_else(|| hp.has(il, "indexer.attn_k") || il == 0))
}

/// Epsilon of an indexer's layer norm: most files name that of the RMS norms alone; this is what the
/// published models have.
///
/// # Errors
/// As [`Hparams::bound`].
pub fn index_norm_eps(hp: &Hparams) -> Result<f32, Error> {
    Ok(hp.bound("attention.layer_norm_epsilon")?.unwrap_or(1e-6))
}

/// Models without rotation on every n-th layer say so in no key.
pub fn has_rope(il: usize, period: usize) -> bool {
    !(il + 1).is_multiple_of(period)
}

/// SmallThinker rotates on all layers where it has no windows, else on all but layers 0, 4, ...; the
/// reference reads a file of just four layers as one that rotates on all.
///
/// # Errors
/// As [`Hparams::usize`].
pub fn smallthinker_has_rope(hp: &Hparams, il: usize) -> Result<bool, Error> {
    let window = hp.usize("attention.sliding_window")?.unwrap_or(0);
    Ok(window == 0 || hp.n_layer == 4 || !il.is_multiple_of(4))
}

/// Gemma 3 scales scores by the query head's width, except the 62-layer form, which was trained
/// with the width of an even split; no key says so.
pub fn gemma3_scale(hp: &Hparams) -> f32 {
    let width = if hp.n_layer == 62 { hp.n_embd / hp.n_head[0].max(1) } else { hp.head_dim_k };
    1.0 / (width as f32).sqrt()
}

/// Factors of a model that was trained with those of a narrow one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// On embedding rows.
    pub embedding: f32,
    /// On what a body adds to the stream.
    pub residual: f32,
    /// On the logits.
    pub logits: f32,
}

/// MiniCPM 3 files have no keys for their factors; the one published size was trained with these,
/// which follow from its depth and width.
pub fn minicpm3_scales(hp: &Hparams) -> Scales {
    let residual = 1.4 / (hp.n_layer as f32).sqrt();
    Scales { embedding: 12.0, residual, logits: 256.0 / hp.n_embd as f32 }
}

/// Which blocks of a hybrid are recurrent: `attention.recurrent_layers` where the file has it, else
/// all but every n-th (`full_attention_interval`, or `period` as in the first published files).
///
/// # Errors
/// Another type under a key, or an array shorter than the blocks.
pub fn is_recurrent(hp: &Hparams, il: usize, period: usize) -> Result<bool, Error> {
    let key = hp.key("attention.recurrent_layers");
    if let Some(flags) = hp.gguf().metadata().bool_per(&key, hp.n_layer)? {
        return Ok(flags[il]);
    }
    let period = hp.usize("full_attention_interval")?.unwrap_or(period).max(1);
    Ok(!(il + 1).is_multiple_of(period))
}

/// Nemotron-H files name the epsilon of their RMS norms as if they were layer norms.
///
/// # Errors
/// As [`Hparams::rms`].
pub fn rms_by_any_key(hp: &Hparams) -> Result<impl Fn(&'static str) -> Norm + Copy + use<>, Error> {
    let eps = match hp.f32("attention.layer_norm_rms_epsilon")? {
        Some(_) => hp.rms()?("").eps,
        None => hp.layer_norm()?("").eps,
    };
    Ok(move |name| Norm { kind: NormKind::Rms, eps, name: Some(name) })
}

/// The first Nemotron-H MoE files do not name their router's function, which is a sigmoid.
///
/// # Errors
/// Another type under the key.
pub fn sigmoid_routed(hp: &Hparams) -> Result<Score, Error> {
    let softmax = hp.usize("expert_gating_func")? == Some(1);
    Ok(if softmax { Score::Softmax } else { Score::Sigmoid })
}

/// PLaMo 2 files have no key for the width from which dt is projected (`ssm.time_step_rank` holds
/// the heads); the models follow this rule.
pub fn plamo2_rank(hp: &Hparams) -> usize {
    (hp.n_embd / 16).max(64)
}

/// Gemma 2 scales scores by the head's width, except the 46-layer form, which was trained with the
/// width of an even split; no key says so.
pub fn gemma2_scale(hp: &Hparams) -> f32 {
    let width = if hp.n_layer == 46 { hp.n_embd / hp.n_head[0].max(1) } else { hp.head_dim_k };
    1.0 / (width as f32).sqrt()
}

/// Baichuan's 40-layer form (13B) has ALiBi, the 32-layer form (7B) rotations; the files of both
/// carry rotary keys.
pub fn baichuan_alibi(hp: &Hparams) -> Option<f32> {
    (hp.n_layer == 40).then_some(ALIBI_BIAS)
}

/// EXAONE 4's 64-layer form has windows of 4096; early files of it lack the key.
///
/// # Errors
/// As [`Hparams::usize`].
pub fn exaone4_window(hp: &Hparams) -> Result<usize, Error> {
    let default = if hp.n_layer == 64 { 4096 } else { 0 };
    Ok(hp.usize("attention.sliding_window")?.unwrap_or(default))
}

/// MiniCPM's factors on embedding, residual and (as a divisor) logits. The first files lack the
/// keys: the published models had 12, 1.4 / sqrt(layers), and the width over 256.
///
/// # Errors
/// As [`Hparams::f32`].
pub fn minicpm_scales(hp: &Hparams) -> Result<(f32, f32, f32), Error> {
    let or = |word: &str, default: f32| Ok::<_, Error>(hp.f32(word)?.unwrap_or(default));
    Ok((
        or("embedding_scale", 12.0)?,
        or("residual_scale", 1.4 / (hp.n_layer as f32).sqrt())?,
        or("logit_scale", hp.n_embd as f32 / 256.0)?,
    ))
}

/// Grok 1's factors on embedding, logits and scores, and its cap on scores: its files have no keys
/// for them. (`router_logit_softcapping` is not read: the reference does not apply it either.)
///
/// # Errors
/// As [`Hparams::f32`].
pub fn grok_scales(hp: &Hparams) -> Result<[f32; 4], Error> {
    let or = |word: &str, default: f32| Ok::<_, Error>(hp.f32(word)?.unwrap_or(default));
    Ok([
        or("embedding_scale", 78.383_67)?,
        or("logit_scale", 0.577_350_3)?,
        or("attention.output_scale", 0.088_388_35)?,
        or("attn_logit_softcapping", 30.0)?,
    ])
}

/// Llama 4's chunks of attention, in positions; no key gives them.
pub const LLAMA4_CHUNK: usize = 8192;

/// Llama 4's larger form (128 experts) does not normalise queries and keys; no key says so.
pub fn llama4_has_qk_norm(hp: &Hparams) -> bool {
    hp.n_expert != 128
}

/// Gemma 3n's cap on logits; its first files lack the key.
pub const GEMMA3N_SOFTCAP: f32 = 30.0;

/// Gemma 3n's files before `activation_sparsity_scale` were made sparse on their first ten layers,
/// keeping what lies above the 95th percentile of a normal distribution.
pub fn gemma3n_sparsity(il: usize) -> Option<f32> {
    (il < 10).then_some(1.644_853_6)
}

/// Gemma 3n's layers from this one on take keys and values from earlier ones where
/// `attention.shared_kv_layers` is absent: both published sizes compute 20 layers of their own.
pub const GEMMA3N_OWN_KV: usize = 20;

/// Tensors that old converters wrote and nothing reads: tables of rotary frequencies that follow
/// from the base.
pub fn is_ignorable_tensor(name: &str) -> bool {
    name.ends_with(".attn_rot_embd.weight") || name == "rope_freqs.weight"
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::{Gguf, GgufWriter, Value};
    use std::sync::Arc;

    /// Hyper-parameters of `n_layer` blocks of width 64 with four heads, and `more` keys.
    fn hp(n_layer: u32, more: &[(&str, Value)]) -> Hparams {
        let mut writer = GgufWriter::new();
        let sizes = [("block_count", n_layer), ("embedding_length", 64), ("context_length", 128)];
        for (word, value) in sizes.into_iter().chain([("attention.head_count", 4)]) {
            writer.set(&format!("a.{word}"), Value::U32(value));
        }
        for (word, value) in more {
            writer.set(&format!("a.{word}"), value.clone());
        }
        let gguf = Gguf::from_bytes(writer.build().unwrap()).unwrap();
        Hparams::read(Arc::new(gguf), "a").unwrap()
    }

    fn windowed(hp: &Hparams, period: usize) -> Vec<bool> {
        (0..hp.n_layer).map(|il| is_windowed(hp, il, period).unwrap()).collect()
    }

    #[test]
    fn every_nth_layer_is_full_unless_the_file_says_which() {
        assert_eq!(windowed(&hp(4, &[]), 2), [true, false, true, false]);
        let period = ("attention.sliding_window_pattern", Value::U32(3));
        assert_eq!(windowed(&hp(4, &[period]), 2), [true, true, false, true]);
        let flags = Value::Array(formats::Array::Bool(vec![false, true, true, false]));
        let flags = ("attention.sliding_window_pattern", flags);
        assert_eq!(windowed(&hp(4, &[flags]), 2), [false, true, true, false]);
        let numbers = Value::Array(formats::Array::I32(vec![1, 0, 0, 1]));
        let numbers = ("attention.sliding_window_pattern", numbers);
        assert_eq!(windowed(&hp(4, &[numbers]), 2), [true, false, false, true]);
        assert_eq!([2, 3, 7].map(|il| has_rope(il, 4)), [true, false, false]);
    }

    #[test]
    fn blocks_choose_positions_where_the_file_says_so_or_has_the_tensors() {
        let chosen = |hp: &Hparams| [0, 1, 2].map(|il| has_indexer(hp, il).unwrap());
        assert_eq!(chosen(&hp(3, &[])), [true, false, false]);
        let flags = Value::Array(formats::Array::Bool(vec![true, false, true]));
        assert_eq!(chosen(&hp(3, &[("attention.indexer.types", flags)])), [true, false, true]);
        assert_eq!(index_norm_eps(&hp(1, &[])).unwrap(), 1e-6);
        let named = hp(1, &[("attention.layer_norm_epsilon", Value::F32(1e-5))]);
        assert_eq!(index_norm_eps(&named).unwrap(), 1e-5);
    }

    #[test]
    fn windowed_layers_of_old_gemma_files_turn_by_the_usual_base() {
        let old = hp(1, &[("rope.freq_base", Value::F32(1e6))]);
        let global = old.rope(crate::spec::Pairing::Halves).unwrap();
        assert_eq!(local_rope(&old, &global).unwrap().base, ROPE_BASE);
        assert_eq!(old.local_rope(&global).unwrap().base, 1e6);
        let new = hp(1, &[("rope.freq_base_swa", Value::F32(5e3))]);
        assert_eq!(local_rope(&new, &global).unwrap().base, 5e3);
    }

    #[test]
    fn sizes_of_published_models_are_known_by_their_depth() {
        let head = ("attention.key_length", Value::U32(64));
        let scale = |n, f: fn(&Hparams) -> f32| f(&hp(n, std::slice::from_ref(&head)));
        assert_eq!([46, 26].map(|n| scale(n, gemma2_scale)), [0.25, 0.125]);
        assert_eq!([62, 26].map(|n| scale(n, gemma3_scale)), [0.25, 0.125]);
        assert_eq!([32, 40].map(|n| baichuan_alibi(&hp(n, &[]))), [None, Some(8.0)]);
        assert_eq!([30, 64].map(|n| exaone4_window(&hp(n, &[])).unwrap()), [0, 4096]);
        let window = ("attention.sliding_window", Value::U32(8));
        assert_eq!(exaone4_window(&hp(64, &[window])).unwrap(), 8);
        assert_eq!([9, 10].map(gemma3n_sparsity), [Some(1.644_853_6), None]);
    }

    #[test]
    fn factors_without_keys_are_those_of_the_published_models() {
        let (embedding, residual, logits) = minicpm_scales(&hp(4, &[])).unwrap();
        assert_eq!((embedding, residual, logits), (12.0, 0.7, 0.25));
        let keyed = hp(4, &[("logit_scale", Value::F32(9.0))]);
        assert_eq!(minicpm_scales(&keyed).unwrap().2, 9.0);
        assert_eq!(grok_scales(&hp(4, &[])).unwrap()[3], 30.0);
        let keyed = hp(4, &[("attn_logit_softcapping", Value::F32(3.0))]);
        assert_eq!(grok_scales(&keyed).unwrap()[3], 3.0);
    }

    #[test]
    fn llama4_sizes_differ_in_their_qk_norm() {
        let experts = |n| {
            let used = ("expert_used_count", Value::U32(1));
            llama4_has_qk_norm(&hp(4, &[("expert_count", Value::U32(n)), used]))
        };
        assert_eq!([16, 128].map(experts), [true, false]);
    }

    #[test]
    fn smallthinker_rotates_everywhere_without_windows() {
        let of = |n, more: &[(&str, Value)]| {
            [0, 1, 4].map(|il| smallthinker_has_rope(&hp(n, more), il).unwrap())
        };
        let window = ("attention.sliding_window", Value::U32(8));
        assert_eq!(of(8, &[]), [true; 3]);
        assert_eq!(of(8, std::slice::from_ref(&window)), [false, true, false]);
        assert_eq!(of(4, &[window]), [true; 3]);
    }
}

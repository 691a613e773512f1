//! Encoders: attention looks both ways, and the rows of a text become a vector or scores. BERT and
//! RoBERTa, Nomic, Jina 2, ModernBERT, EuroBERT, EmbeddingGemma.

use super::gemma::sandwich;
use super::{block, stack};
use crate::error::Error;
use crate::hparams::Hparams;
use crate::quirks;
use crate::spec::{
    Act, Attn, Body, Classifier, Ffn, Head, Input, Layer, ModelSpec, Moe, Norm, NormKind, Pairing,
    Pooling, QkNorm, Span, Squash, Window, pre, raw, seq, stage,
};

/// The head of any model, with what the file says of pooling and scores.
pub(super) fn head(hp: &Hparams, logits: bool) -> Result<Head, Error> {
    let pooling = |word: &str| match hp.usize(word)? {
        None => Ok(None),
        Some(n) => Pooling::ALL.get(n).copied().map(Some).ok_or_else(|| Error::BadValue {
            key: hp.key(word),
            found: n.to_string(),
            expected: "0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank)".into(),
        }),
    };
    let rows = |name: &str| Some(hp.gguf().tensor(name)?.rows() as usize);
    let from = if logits { Pooling::Last } else { Pooling::Cls };
    let from = pooling("classifier.pooling_type")?.unwrap_or(from);
    let classifier = rows("cls.output.weight").or_else(|| rows("cls.weight")).map(|n_out| {
        // A decoder answers yes or no: two logits that compete.
        let softmax = logits && n_out > 1;
        Classifier { n_out, from, act: Squash::Tanh, norm: None, softmax }
    });
    Ok(Head {
        logits,
        scale: 1.0,
        softcap: None,
        pooling: pooling("pooling_type")?.unwrap_or(quirks::pooling(logits)),
        dense: ["dense_2", "dense_3"]
            .into_iter()
            .filter(|name| rows(&format!("{name}.weight")).is_some())
            .collect(),
        classifier,
    })
}

/// A model without logits.
fn encoder(
    hp: &Hparams,
    norm: Option<Norm>,
    layer: impl FnMut(usize) -> Result<Layer, Error>,
) -> Result<ModelSpec, Error> {
    let (stack, head) = (stack(hp, norm, layer)?, head(hp, false)?);
    Ok(ModelSpec { encoder: None, stack, head, unmask: None })
}

/// The file's attention, to both sides.
fn both_ways(hp: &Hparams, il: usize) -> Result<Attn, Error> {
    let causal = hp.bool("attention.causal")?.unwrap_or(false);
    Ok(Attn { causal, ..hp.attn(il, Pairing::Halves)? })
}

/// The family of BERT: a norm of the embedding, and one after each body.
fn post_norm(
    hp: &Hparams,
    attn: impl Fn(Attn, usize) -> Result<Attn, Error>,
    mlp: impl Fn(usize) -> Result<Body, Error>,
) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let mut model = encoder(hp, None, |il| {
        let attn = Body::Attn(attn(both_ways(hp, il)?, il)?);
        let stages = [(attn, "attn_output_norm"), (mlp(il)?, "layer_output_norm")];
        let stages = stages.map(|(body, name)| stage([raw(body)]).then(norm(name)));
        Ok(Layer { stages: stages.into() })
    })?;
    model.stack.input = Input {
        positions: hp.gguf().tensor("position_embd.weight").is_some(),
        types: hp.gguf().tensor("token_types.weight").is_some(),
        norm: Some(norm("token_embd_norm")),
        ..Input::tokens()
    };
    Ok(model)
}

/// BERT (Devlin et al. 2018) and RoBERTa.
pub(super) fn bert(hp: &Hparams) -> Result<ModelSpec, Error> {
    let attn = |attn, _| Ok(Attn { rope: None, ..attn });
    post_norm(hp, attn, |il| Ok(Body::Ffn(hp.plain(il, Act::Gelu))))
}

/// Nomic Embed 1 (gated SiLU), and 2, whose every n-th layer has experts.
pub(super) fn nomic_bert(hp: &Hparams) -> Result<ModelSpec, Error> {
    let experts = |il| {
        let moe = hp.experts(il, Act::Gelu)?;
        let ffn = Ffn { gated: false, ..moe.ffn };
        Ok(Body::Moe(Moe { ffn, ..moe }))
    };
    post_norm(
        hp,
        |attn, _| Ok(attn),
        |il| match hp.has(il, "ffn_gate_inp") {
            true => experts(il),
            false if hp.has(il, "ffn_gate") => Ok(Body::Ffn(hp.gated(il, Act::Silu))),
            false => Ok(Body::Ffn(hp.plain(il, Act::Gelu))),
        },
    )
}

/// Jina Embeddings 2 (Günther et al. 2023): ALiBi to both sides.
pub(super) fn jina_bert_v2(hp: &Hparams) -> Result<ModelSpec, Error> {
    let eps = hp.layer_norm()?("attn_q_norm").eps;
    let attn = |attn, il| {
        let norm = QkNorm {
            kind: NormKind::Layer,
            eps,
            span: Span::Whole,
            weight: true,
            after_rope: false,
        };
        let qk_norm = hp.has(il, "attn_q_norm").then_some(norm);
        let alibi = hp.bound("attention.max_alibi_bias")?.unwrap_or(quirks::ALIBI_BIAS);
        Ok(Attn { rope: None, alibi: Some(alibi), qk_norm, ..attn })
    };
    post_norm(hp, attn, |il| Ok(Body::Ffn(hp.gated(il, Act::Gelu))))
}

/// ModernBERT (Warner et al. 2024): norms in front, windows on two of three layers.
pub(super) fn modern_bert(hp: &Hparams) -> Result<ModelSpec, Error> {
    let norm = hp.layer_norm()?;
    let period = hp.usize("attention.sliding_window_pattern").ok().flatten().unwrap_or(3).max(1);
    let mut model = encoder(hp, Some(norm("output_norm")), |il| {
        let mut attn = both_ways(hp, il)?;
        // The first of every three layers sees all.
        if quirks::is_windowed_of(hp, il, |il| !il.is_multiple_of(period))? {
            windowed(hp, &mut attn)?;
        }
        let attn = Body::Attn(attn);
        // The embedding's norm serves the first layer too.
        let attn = match hp.has(il, "attn_norm") {
            true => pre(norm("attn_norm"), attn),
            false => raw(attn),
        };
        Ok(seq([attn, pre(norm("ffn_norm"), Body::Ffn(hp.gated(il, Act::Gelu)))]))
    })?;
    model.stack.input.norm = Some(norm("token_embd_norm"));
    if let Some(classifier) = &mut model.head.classifier {
        classifier.act = Squash::Gelu;
        classifier.norm = Some(norm("cls.norm"));
    }
    Ok(model)
}

/// A window as wide as the file says, half of it on each side, with a rotation of its own.
fn windowed(hp: &Hparams, attn: &mut Attn) -> Result<(), Error> {
    if let Some(n) = hp.usize("attention.sliding_window")?.filter(|&n| n > 0) {
        attn.window = Window::Symmetric((n / 2).max(1));
        attn.rope = attn.rope.as_ref().map(|global| quirks::local_rope(hp, global)).transpose()?;
    }
    Ok(())
}

/// EuroBERT (Boizard et al. 2025): Llama's blocks.
pub(super) fn eurobert(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    encoder(hp, Some(rms("output_norm")), |il| {
        Ok(block(rms, both_ways(hp, il)?, Body::Ffn(hp.gated(il, Act::Silu))))
    })
}

/// EmbeddingGemma (2025): Gemma 3's blocks.
pub(super) fn gemma_embedding(hp: &Hparams) -> Result<ModelSpec, Error> {
    let rms = hp.rms()?;
    let mut model = encoder(hp, Some(rms("output_norm")), |il| {
        let mut attn = Attn { qk_norm: hp.qk_norm(Span::Head)?, ..both_ways(hp, il)? };
        if quirks::is_windowed(hp, il, 6)? {
            windowed(hp, &mut attn)?;
        }
        Ok(sandwich(rms, attn, Body::Ffn(hp.gated(il, Act::GeluTanh))))
    })?;
    model.stack.input.scale = (hp.n_embd as f32).sqrt();
    Ok(model)
}

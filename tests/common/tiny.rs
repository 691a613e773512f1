//! How tiny models are run.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use models::spec::Pooling;
use models::{Cancel, Context, ContextOptions, Model, Row, Text};
use pumice::models;
use pumice::quant::KvType;
use std::sync::Arc;

/// Ids that come again at other positions, and enough of them to leave the windows of 8.
pub(crate) fn ids() -> Vec<u32> {
    (0..24u32).map(|i| 3 + (i * i * 7 + i % 5) % 300).collect()
}

/// What an encoder beside the decoder reads, where `ids` are the decoder's.
pub(crate) fn encoder_ids(ids: &[u32]) -> &[u32] {
    &ids[4..]
}

fn context(model: &Arc<Model>, n_ctx: usize) -> Result<Context, models::Error> {
    let options = ContextOptions {
        n_ctx: Some(n_ctx),
        type_k: KvType::F32,
        type_v: KvType::F32,
        n_threads: Some(1),
        ..ContextOptions::default()
    };
    Context::new(model.clone(), &options)
}

/// Logits of all rows in pieces of `size`.
pub(crate) fn logits(
    model: &Arc<Model>,
    ids: &[u32],
    size: usize,
) -> Result<Vec<f32>, models::Error> {
    let mut context = context(model, ids.len())?;
    if model.spec().encoder.is_some() {
        context.encode(0, encoder_ids(ids), &Cancel::new())?;
    }
    let mut out = Vec::new();
    for (i, part) in ids.chunks(size).enumerate() {
        let row = |(j, &token)| Row { token, seq: 0, pos: i * size + j, logits: true };
        let rows: Vec<Row> = part.iter().enumerate().map(row).collect();
        context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l))?;
    }
    Ok(out)
}

/// Rows of an encoder, and again beside another text.
pub(crate) fn rows(model: &Arc<Model>, ids: &[u32]) -> Result<[Vec<f32>; 2], models::Error> {
    let mut context = context(model, ids.len())?;
    let other = &ids[5..];
    let mut run = |texts: &[Text<'_>]| -> Result<Vec<f32>, models::Error> {
        let mut first = Vec::new();
        context.embed(texts, Pooling::None, &Cancel::new(), &mut |i, row| {
            if i == 0 {
                first.extend_from_slice(row);
            }
        })?;
        Ok(first)
    };
    Ok([run(&[ids.into()])?, run(&[ids.into(), other.into()])?])
}

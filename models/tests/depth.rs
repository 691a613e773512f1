//! Sequences of several spans of attention: the last logits have the same bits whoever worked on
//! which span, and however the prompt was cut.

use formats::{Access, Gguf};
use pumice_models::{Cancel, Context, ContextOptions, Model, Row};
use quant::{KvType, SPAN};
use std::path::Path;
use std::sync::Arc;

/// Positions of the long sequence; the short one of a pair has half of them.
const LONG: usize = 2 * SPAN + 70;
const SHORT: usize = LONG / 2;
/// Positions at the end that are fed one by one.
const TAIL: usize = 4;

fn model(case: &str) -> Arc<Model> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/archs");
    let gguf = Gguf::open(&data.join(case).join("model.gguf"), Access::Read).unwrap();
    Arc::new(Model::new(Arc::new(gguf)).unwrap())
}

fn rows(seq: usize, positions: std::ops::Range<usize>) -> Vec<Row> {
    let token = |pos: usize| (pos as u32 * 37 + pos as u32 / 50 + 11 * seq as u32) % 97 + 1;
    positions.map(|pos| Row { token: token(pos), seq, pos, logits: pos + 1 == LONG }).collect()
}

/// How a run is done.
#[derive(Clone, Copy, Debug)]
struct How {
    n_threads: usize,
    n_ubatch: usize,
    /// The last positions come in steps of their own.
    has_steps: bool,
    /// Another sequence goes along.
    has_neighbour: bool,
}

/// The logits of the last position of the long sequence.
fn last(model: &Arc<Model>, ty: KvType, how: How) -> Vec<u32> {
    let options = ContextOptions {
        n_ctx: Some(LONG),
        n_seq: 2,
        n_ubatch: how.n_ubatch,
        n_threads: Some(how.n_threads),
        type_k: ty,
        type_v: ty,
        deterministic: true,
        ..ContextOptions::default()
    };
    let mut context = Context::new(model.clone(), &options).unwrap();
    let mut out = Vec::new();
    let mut step = |rows: &[Row]| {
        let sink = &mut |i: usize, l: &[f32]| {
            if (rows[i].seq, rows[i].pos) == (0, LONG - 1) {
                out = l.iter().map(|x| x.to_bits()).collect();
            }
        };
        context.step(rows, &Cancel::new(), sink).unwrap();
    };
    let tail = if how.has_steps { TAIL } else { 0 };
    step(&rows(0, 0..LONG - tail));
    if how.has_neighbour {
        step(&rows(1, 0..SHORT - tail));
    }
    for i in (1..=tail).rev() {
        let mut together = rows(0, LONG - i..LONG - i + 1);
        if how.has_neighbour {
            together.splice(0..0, rows(1, SHORT - i..SHORT - i + 1));
        }
        step(&together);
    }
    out
}

#[test]
fn long_sequences_have_the_same_bits_however_they_are_shared_out() {
    let types = [KvType::F16, KvType::Q8_0, KvType::Q4_0, KvType::BF16, KvType::F32];
    // Grouped heads, sliding windows, sinks, ALiBi, latent rows.
    let cases = ["llama-yarn", "gemma3", "gpt-oss-mxfp4", "refact", "youtu"];
    for (i, case) in cases.into_iter().enumerate() {
        let model = model(case);
        for ty in [types[i], types[(i + 2) % types.len()]] {
            let first = How { n_threads: 1, n_ubatch: 512, has_steps: false, has_neighbour: false };
            let expected = last(&model, ty, first);
            assert!(!expected.is_empty());
            for how in [
                How { n_threads: 2, has_steps: true, ..first },
                How { n_threads: 3, n_ubatch: 40, ..first },
                How { n_threads: 3, n_ubatch: 100, has_steps: true, has_neighbour: true },
                How { n_threads: 8, has_steps: true, has_neighbour: true, ..first },
            ] {
                let found = last(&model, ty, how);
                assert!(found == expected, "{case} {ty}: {how:?} differs");
            }
        }
    }
}

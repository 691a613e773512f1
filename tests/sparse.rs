//! Sparse attention beyond the positions that all are seen, against a plain reference in double
//! precision: tiny random models whose indexers leave a few positions of many.

#[path = "common/sparse_reference.rs"]
mod sparse_reference;

use models::{Cancel, Context, ContextOptions, Model, Row};
use pumice::formats::{Gguf, GgufWriter, Value};
use pumice::models;
use pumice::quant::KvType;
use pumice::synth::build_tiny;
use sparse_reference::Reference;
use std::sync::Arc;

/// Both compute the same but for the rounding of single precision.
const MAX_NMSE: f64 = 1e-9;

/// Least distance, over the largest score, of the worst score that is chosen to the best that is not:
/// rounding must not decide. Seeds are such that it holds.
const MIN_MARGIN: f64 = 1e-5;

const NAMES: [&str; 2] = ["deepseek32/sparse", "glm-dsa/sparse"];

/// The tiny model of a name whose attention sees `top_k` positions.
fn gguf(name: &str, top_k: usize, seed: u64) -> Arc<Gguf> {
    let gguf = build_tiny(name, seed).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata().iter() {
        let is_top_k = key.ends_with("attention.indexer.top_k");
        writer.set(key, if is_top_k { Value::U32(top_k as u32) } else { value.clone() });
    }
    for t in gguf.tensors() {
        writer.tensor(&t.name, t.ty, &t.dims, gguf.data(t).unwrap().to_vec());
    }
    Arc::new(Gguf::from_bytes(writer.build().unwrap()).unwrap())
}

struct Case {
    model: Arc<Model>,
    reference: Reference,
    ids: Vec<u32>,
    n_vocab: usize,
}

impl Case {
    fn new(name: &str, top_k: usize, n: usize, seed: u64) -> Case {
        let gguf = gguf(name, top_k, seed);
        let model = Arc::new(Model::new(gguf.clone()).unwrap());
        let n_vocab = model.hparams().n_vocab;
        let ids = (0..n as u32).map(|i| 1 + (i * i * 7 + i * 31 + i / 5) % 300).collect();
        let reference = Reference::new(&gguf, name.starts_with("deepseek32"));
        Case { model, reference, ids, n_vocab }
    }

    fn context(&self, n_seq: usize, n_threads: usize, kv: KvType) -> Context {
        let options = ContextOptions {
            n_ctx: Some(self.ids.len() + 4),
            n_seq,
            type_k: kv,
            type_v: kv,
            n_threads: Some(n_threads),
            steady: true,
            ..ContextOptions::default()
        };
        Context::new(self.model.clone(), &options).unwrap()
    }

    /// Logits of `ids[from..]` in pieces of `size`.
    fn feed(&self, context: &mut Context, from: usize, size: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for (i, part) in self.ids[from..].chunks(size).enumerate() {
            let row = |(j, &token)| Row { token, seq: 0, pos: from + i * size + j, logits: true };
            let rows: Vec<Row> = part.iter().enumerate().map(row).collect();
            context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l)).unwrap();
        }
        out
    }

    fn in_pieces(&self, size: usize) -> Vec<f32> {
        self.feed(&mut self.context(1, 2, KvType::F32), 0, size)
    }

    /// Two sequences in one batch, the other one of fewer and other tokens.
    fn interleaved(&self) -> Vec<f32> {
        let mut context = self.context(2, 2, KvType::F32);
        let (mut rows, n) = (Vec::new(), self.ids.len());
        for (pos, &token) in self.ids.iter().enumerate() {
            rows.push(Row { token, seq: 1, pos, logits: true });
            if pos < n / 2 {
                rows.push(Row { token: self.ids[n - 1 - pos], seq: 0, pos, logits: true });
            }
        }
        let mut out = Vec::new();
        for part in rows.chunks(11) {
            let sink = &mut |i: usize, l: &[f32]| {
                if part[i].seq == 1 {
                    out.extend_from_slice(l);
                }
            };
            context.step(part, &Cancel::new(), sink).unwrap();
        }
        out
    }

    /// Some tokens are taken back, others fed and taken back, then the first again.
    fn rolled_back(&self) -> Vec<f32> {
        let mut context = self.context(1, 2, KvType::F32);
        let n = self.ids.len();
        let mut out = self.feed(&mut context, 0, 5);
        for (back, size) in [(1, 1), (n / 2, 3), (n - 2, 7)] {
            assert_eq!(context.truncate(0, n - back), n - back);
            let row = Row { token: 2, seq: 0, pos: n - back, logits: false };
            context.step(&[row], &Cancel::new(), &mut |_, _| ()).unwrap();
            assert_eq!(context.truncate(0, n - back), n - back);
            out.truncate((n - back) * self.n_vocab);
            out.extend(self.feed(&mut context, n - back, size));
        }
        out
    }

    /// Forked half way; the first goes on with other tokens in the same steps.
    fn forked(&self) -> Vec<f32> {
        let mut context = self.context(2, 2, KvType::F32);
        let (n, half) = (self.ids.len(), self.ids.len() / 2);
        let first = Case { ids: self.ids[..half].to_vec(), ..self.parts() };
        let mut out = first.feed(&mut context, 0, 5);
        context.fork(0, 1);
        for pos in half..n {
            let other = Row { token: self.ids[n - 1 - pos], seq: 0, pos, logits: false };
            let row = Row { token: self.ids[pos], seq: 1, pos, logits: true };
            let sink = &mut |_: usize, l: &[f32]| out.extend_from_slice(l);
            context.step(&[other, row], &Cancel::new(), sink).unwrap();
        }
        out
    }

    fn parts(&self) -> Case {
        let (model, reference) = (self.model.clone(), self.reference.clone());
        Case { model, reference, ids: Vec::new(), n_vocab: self.n_vocab }
    }
}

/// Error relative to `b`.
fn nmse(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "numbers of logits");
    let error: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - y).powi(2)).sum();
    error / b.iter().map(|y| y * y).sum::<f64>()
}

#[test]
fn every_way_to_run_it_gives_what_the_reference_gives() {
    for (name, seed) in NAMES.into_iter().zip([1, 1]) {
        let case = Case::new(name, 7, 96, seed);
        let expected = case.reference.run(&case.ids);
        assert!(expected.margin > MIN_MARGIN, "{name}: a margin of {:.1e}", expected.margin);
        let dense = Case::new(name, 96, 96, seed);
        let far = nmse(&dense.in_pieces(96), &expected.logits);
        assert!(far > 1e-3, "{name}: the choice matters little, {far:.1e}");
        for (how, logits) in [
            ("whole", case.in_pieces(96)),
            ("by 5", case.in_pieces(5)),
            ("by 1", case.in_pieces(1)),
            ("by 40", case.in_pieces(40)),
            ("interleaved", case.interleaved()),
            ("rolled back", case.rolled_back()),
            ("forked", case.forked()),
        ] {
            let error = nmse(&logits, &expected.logits);
            println!("{name}, {how}: {error:.1e}");
            assert!(error < MAX_NMSE, "{name}, {how}: {error:.1e}");
        }
    }
}

#[test]
fn long_choices_reach_over_many_pages() {
    let (top_k, n) = (520, 540);
    for (name, seed) in NAMES.into_iter().zip([1, 1]) {
        let case = Case::new(name, top_k, n, seed);
        let expected = case.reference.run(&case.ids);
        assert!(expected.margin > MIN_MARGIN, "{name}: a margin of {:.1e}", expected.margin);
        let last = top_k * case.n_vocab..;
        for (how, size) in [("whole", n), ("by 16", 16)] {
            let logits = case.in_pieces(size);
            let error = nmse(&logits[last.clone()], &expected.logits[last.clone()]);
            println!("{name}, {how}: {error:.1e}");
            assert!(error < MAX_NMSE, "{name}, {how}: {error:.1e}");
        }
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_steps_nor_what_others_choose() {
    for name in NAMES {
        let case = Case::new(name, 7, 80, 3);
        for kv in KvType::ALL {
            let run = |threads, size| case.feed(&mut case.context(1, threads, kv), 0, size);
            let one = run(1, 16);
            assert!(one.iter().all(|x| x.is_finite()), "{name}, {kv}: not finite");
            assert!(one == run(3, 1), "{name}, {kv}: other bits one by one");
            assert!(one == run(2, 13), "{name}, {kv}: other bits by 13");
        }
    }
}

#[test]
fn while_all_positions_are_seen_the_bits_are_those_of_dense_attention() {
    for name in NAMES {
        let (sparse, dense) = (Case::new(name, 20, 36, 3), Case::new(name, 1000, 36, 3));
        for size in [1, 8, 16] {
            let [some, all] = [&sparse, &dense].map(|case| case.in_pieces(size));
            let seen = 20 * sparse.n_vocab;
            assert!(some[..seen] == all[..seen], "{name} by {size}: other bits");
            assert!(some[seen..] != all[seen..], "{name} by {size}: nothing was left out");
        }
    }
}

#[test]
fn index_keys_count_as_memory_where_they_are_kept() {
    let state = |top_k| {
        let model = Model::new(gguf("glm-dsa/sparse", top_k, 0)).unwrap();
        let options = ContextOptions { n_ctx: Some(128), ..ContextOptions::default() };
        Context::estimate(&model, &options).unwrap().memory.state
    };
    // Half precision: a latent row of 40 in each of three blocks, a key of 64 in two of them.
    assert_eq!(state(128), 128 * 2 * 3 * 40);
    assert_eq!(state(127), 128 * 2 * (3 * 40 + 2 * 64));
}

#[test]
fn a_first_block_that_takes_anothers_choice_is_refused() {
    let gguf = build_tiny("glm-dsa/sparse", 0).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata().iter() {
        writer.set(key, value.clone());
    }
    writer.set("glm-dsa.attention.indexer.types", Value::from(vec![false, true, true]));
    let gguf = Gguf::from_bytes(writer.build().unwrap()).unwrap();
    let error = Model::new(Arc::new(gguf)).unwrap_err().to_string();
    assert!(error.contains("indexer.types") && error.contains("first block"), "{error}");
}

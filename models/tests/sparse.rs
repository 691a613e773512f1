//! Sparse attention beyond the positions that all are seen, against a plain reference in double
//! precision: tiny random models whose indexers leave a few positions of many.

#[path = "sparse/reference.rs"]
mod reference;

use formats::{Array, Gguf, GgufWriter, TensorType, Value};
use models::{Cancel, Context, ContextOptions, Model, Row};
use pumice_models as models;
use quant::KvType;
use reference::{Expected, Reference};
use std::ops::Range;
use std::sync::Arc;

/// Both compute the same but for the rounding of single precision.
const MAX_NMSE: f64 = 1e-9;

/// Least distance, over the largest score, of the worst score that is chosen to the best that is not:
/// rounding must not decide.
const MIN_MARGIN: f64 = 1e-5;

const NAMES: [&str; 2] = ["deepseek32", "glm-dsa"];
const N_LAYER: usize = 3;

/// Metadata under the architecture's name.
const SIZES: [(&str, u32); 18] = [
    ("context_length", 1024),
    ("embedding_length", 64),
    ("block_count", N_LAYER as u32),
    ("leading_dense_block_count", N_LAYER as u32),
    ("feed_forward_length", 96),
    ("expert_feed_forward_length", 32),
    ("expert_count", 6),
    ("expert_used_count", 2),
    ("expert_shared_count", 1),
    ("attention.head_count", 4),
    ("attention.head_count_kv", 1),
    ("attention.key_length_mla", 24),
    ("attention.value_length_mla", 16),
    ("attention.q_lora_rank", 24),
    ("attention.kv_lora_rank", 32),
    ("rope.dimension_count", 8),
    ("attention.indexer.head_count", 8),
    ("attention.indexer.key_length", 64),
];

/// Tensors of a block, with their dimensions, row length first.
const TENSORS: [(&str, &[u64]); 13] = [
    ("attn_norm.weight", &[64]),
    ("attn_q_a.weight", &[64, 24]),
    ("attn_q_a_norm.weight", &[24]),
    ("attn_q_b.weight", &[24, 96]),
    ("attn_kv_a_mqa.weight", &[64, 40]),
    ("attn_kv_a_norm.weight", &[32]),
    ("attn_k_b.weight", &[16, 32, 4]),
    ("attn_v_b.weight", &[32, 16, 4]),
    ("attn_output.weight", &[64, 64]),
    ("ffn_norm.weight", &[64]),
    ("ffn_gate.weight", &[64, 96]),
    ("ffn_up.weight", &[64, 96]),
    ("ffn_down.weight", &[96, 64]),
];

/// Those of a block that chooses.
const INDEXER: [(&str, &[u64]); 5] = [
    ("indexer.attn_k.weight", &[64, 64]),
    ("indexer.attn_q_b.weight", &[24, 512]),
    ("indexer.proj.weight", &[64, 8]),
    ("indexer.k_norm.weight", &[64]),
    ("indexer.k_norm.bias", &[64]),
];

/// Random values of a scale that suits the tensor.
fn values(name: &str, dims: &[u64], state: &mut u64) -> Vec<u8> {
    let (low, high) = match name {
        _ if name.ends_with("norm.weight") => (0.7, 1.3),
        _ if name.ends_with("bias") => (-0.3, 0.3),
        "token_embd.weight" => (-1.0, 1.0),
        _ => (-2.0 / (dims[0] as f32).sqrt(), 2.0 / (dims[0] as f32).sqrt()),
    };
    let mut one = || {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((x ^ (x >> 31)) >> 40) as f32 / (1u32 << 24) as f32;
        (low + unit * (high - low)).to_le_bytes()
    };
    (0..dims.iter().product::<u64>()).flat_map(|_| one()).collect()
}

/// A tiny model whose attention sees `top_k` positions; of GLM's, block 1 takes block 0's choice.
fn gguf(name: &str, top_k: usize, seed: u64) -> Arc<Gguf> {
    gguf_of(name, top_k, seed, [true, name == "deepseek32", true])
}

/// As [`gguf`], with the blocks that choose.
fn gguf_of(name: &str, top_k: usize, seed: u64, chooses: [bool; N_LAYER]) -> Arc<Gguf> {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String(name.into()));
    let mut set = |word: &str, value: Value| {
        writer.set(&format!("{name}.{word}"), value);
    };
    SIZES.iter().for_each(|&(word, size)| set(word, Value::U32(size)));
    set("attention.indexer.top_k", Value::U32(top_k as u32));
    set("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    set("rope.freq_base", Value::F32(1e4));
    if name == "glm-dsa" {
        let types = Array::Bool(chooses.to_vec());
        set("attention.indexer.types", Value::Array(types));
    }
    let mut random = seed;
    let mut tensor = |name: &str, dims: &[u64]| {
        let data = values(name, dims, &mut random);
        writer.tensor(name, TensorType::F32, dims, data);
    };
    for (name, dims) in [("token_embd.weight", [64, 320]), ("output.weight", [64, 320])] {
        tensor(name, &dims);
    }
    tensor("output_norm.weight", &[64]);
    for (il, chooses) in chooses.into_iter().enumerate() {
        let own = INDEXER.iter().filter(|_| chooses);
        TENSORS.iter().chain(own).for_each(|(name, d)| tensor(&format!("blk.{il}.{name}"), d));
    }
    Arc::new(Gguf::from_bytes(writer.build().unwrap()).unwrap())
}

struct Case {
    model: Arc<Model>,
    reference: Reference,
    ids: Vec<u32>,
    n_vocab: usize,
    seed: u64,
}

impl Case {
    /// With the first seed whose choices are clear.
    fn clear(name: &str, top_k: usize, n: usize) -> (Case, Expected) {
        let case = |seed| {
            let case = Case::new(name, top_k, n, seed);
            let expected = case.reference.run(&case.ids);
            (case, expected)
        };
        let found = (0..40).map(case).find(|(_, expected)| expected.margin > MIN_MARGIN);
        found.expect("a model whose choices rounding does not decide")
    }

    fn new(name: &str, top_k: usize, n: usize, seed: u64) -> Case {
        let gguf = gguf(name, top_k, seed);
        let model = Arc::new(Model::new(gguf.clone()).unwrap());
        let n_vocab = model.hparams().n_vocab;
        let ids = (0..n as u32).map(|i| 1 + (i * i * 7 + i * 31 + i / 5) % 300).collect();
        let reference = Reference::new(&gguf, name == "deepseek32");
        Case { model, reference, ids, n_vocab, seed }
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

    /// Logits of some ids in pieces of `size`.
    fn feed(&self, context: &mut Context, ids: Range<usize>, size: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for (i, part) in self.ids[ids.clone()].chunks(size).enumerate() {
            let first = ids.start + i * size;
            let row = |(j, &token)| Row { token, seq: 0, pos: first + j, logits: true };
            let rows: Vec<Row> = part.iter().enumerate().map(row).collect();
            context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l)).unwrap();
        }
        out
    }

    fn in_pieces(&self, size: usize) -> Vec<f32> {
        self.feed(&mut self.context(1, 2, KvType::F32), 0..self.ids.len(), size)
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
        let mut out = self.feed(&mut context, 0..n, 5);
        for (back, size) in [(1, 1), (n / 2, 3), (n - 2, 7)] {
            assert_eq!(context.truncate(0, n - back), n - back);
            let row = Row { token: 2, seq: 0, pos: n - back, logits: false };
            context.step(&[row], &Cancel::new(), &mut |_, _| ()).unwrap();
            assert_eq!(context.truncate(0, n - back), n - back);
            out.truncate((n - back) * self.n_vocab);
            out.extend(self.feed(&mut context, n - back..n, size));
        }
        out
    }

    /// Forked half way; the first goes on with other tokens in the same steps.
    fn forked(&self) -> Vec<f32> {
        let mut context = self.context(2, 2, KvType::F32);
        let (n, half) = (self.ids.len(), self.ids.len() / 2);
        let mut out = self.feed(&mut context, 0..half, 5);
        context.fork(0, 1);
        for pos in half..n {
            let other = Row { token: self.ids[n - 1 - pos], seq: 0, pos, logits: false };
            let row = Row { token: self.ids[pos], seq: 1, pos, logits: true };
            let sink = &mut |_: usize, l: &[f32]| out.extend_from_slice(l);
            context.step(&[other, row], &Cancel::new(), sink).unwrap();
        }
        out
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
    for name in NAMES {
        let (case, expected) = Case::clear(name, 7, 96);
        let dense = Case::new(name, 96, 96, case.seed);
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
    let (top_k, n) = (520, 530);
    for name in NAMES {
        let (case, expected) = Case::clear(name, top_k, n);
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
            let run = |threads, size| case.feed(&mut case.context(1, threads, kv), 0..80, size);
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
        let model = Model::new(gguf("glm-dsa", top_k, 0)).unwrap();
        let options = ContextOptions { n_ctx: Some(128), ..ContextOptions::default() };
        Context::estimate(&model, &options).unwrap().memory.state
    };
    // Half precision: a latent row of 40 in each of three blocks, a key of 64 in two of them.
    assert_eq!(state(128), 128 * 2 * 3 * 40);
    assert_eq!(state(127), 128 * 2 * (3 * 40 + 2 * 64));
}

#[test]
fn a_first_block_that_takes_anothers_choice_is_refused() {
    let error = Model::new(gguf_of("glm-dsa", 7, 0, [false, true, true])).unwrap_err().to_string();
    assert!(error.contains("indexer.types") && error.contains("first block"), "{error}");
}

#[test]
fn a_block_without_the_indexer_that_it_should_have_is_refused() {
    let model = Arc::new(Model::new(gguf_of("deepseek32", 7, 0, [true, false, true])).unwrap());
    let error = Context::new(model, &ContextOptions::default()).err().unwrap().to_string();
    assert!(error.contains("blk.1.indexer."), "{error}");
}

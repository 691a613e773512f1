//! The engine under bad input and bad luck: damaged models, overflow, cancellation, roll-back.

mod common;

use formats::{Gguf, GgufWriter, Value};
use models::{Cancel, Context, ContextOptions, Error, Model, Row};
use pumice::{formats, models, quant};
use quant::KvType;
use std::sync::Arc;

fn golden(case: &str) -> Vec<u8> {
    std::fs::read(common::data().join("archs").join(case).join("model.gguf")).unwrap()
}

/// A copy of a golden model in which some tensors' bytes or metadata are changed; `None` from
/// `tensor` leaves a tensor out.
fn changed(
    case: &str,
    mut tensor: impl FnMut(&str, Vec<u8>) -> Option<Vec<u8>>,
    metadata: &[(&str, Value)],
) -> Arc<Gguf> {
    let original = Gguf::from_bytes(golden(case)).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in original.metadata().iter() {
        let new = metadata.iter().find(|(k, _)| *k == key).map(|(_, v)| v);
        writer.set(key, new.unwrap_or(value).clone());
    }
    for t in original.tensors() {
        let data = original.data(t).unwrap().to_vec();
        if let Some(data) = tensor(&t.name, data) {
            writer.tensor(&t.name, t.ty, &t.dims, data);
        }
    }
    Arc::new(Gguf::from_bytes(writer.to_bytes()).unwrap())
}

fn same(_: &str, data: Vec<u8>) -> Option<Vec<u8>> {
    Some(data)
}

fn options(n_ctx: usize, n_seq: usize) -> ContextOptions {
    ContextOptions {
        n_ctx: Some(n_ctx),
        n_seq,
        n_threads: Some(2),
        n_ubatch: 8,
        type_k: KvType::F32,
        type_v: KvType::F32,
        ..ContextOptions::default()
    }
}

fn context(gguf: Arc<Gguf>) -> Result<Context, Error> {
    Context::new(Arc::new(Model::new(gguf)?), &options(64, 2))
}

fn open(case: &str) -> Context {
    context(Arc::new(Gguf::from_bytes(golden(case)).unwrap())).unwrap()
}

fn rows(tokens: &[u32], seq: usize, first: usize) -> Vec<Row> {
    let row = |(i, &token)| Row { token, seq, pos: first + i, logits: true };
    tokens.iter().enumerate().map(row).collect()
}

/// Logits of every row.
fn run(context: &mut Context, tokens: &[u32], seq: usize) -> Result<Vec<f32>, Error> {
    let mut out = Vec::new();
    let rows = rows(tokens, seq, context.len(seq));
    context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l))?;
    Ok(out)
}

fn message<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(e) => e.to_string(),
    }
}

const TOKENS: [u32; 20] =
    [5, 17, 99, 3, 42, 8, 8, 120, 77, 61, 9, 33, 2, 58, 101, 7, 64, 12, 90, 4];

#[test]
fn a_missing_a_left_over_and_a_misshapen_tensor_are_named() {
    let without = |name: &str, data| (name != "blk.1.ffn_up.weight").then_some(data);
    let e = message(context(changed("llama-yarn", without, &[])));
    assert_eq!(
        e,
        "tensor \"blk.1.ffn_up.weight\" is missing; expected shape [64, 64, 1] (rows last)"
    );

    let fewer = [("llama-yarn", Value::U32(1))];
    let gguf = changed("llama-yarn", same, &[("llama.block_count", fewer[0].1.clone())]);
    let e = message(context(gguf));
    assert!(e.contains("9 tensor(s)") && e.contains("\"blk.1."), "{e}");

    let wider = [("llama.feed_forward_length", Value::U32(96))];
    let e = message(context(changed("llama-yarn", same, &wider)));
    assert!(e.contains("ffn_") && e.contains("[64, 64]") && e.contains("96"), "{e}");
}

#[test]
fn impossible_metadata_are_named_with_their_values() {
    let cases: [(&str, Value, &[&str]); 8] = [
        ("llama.attention.head_count_kv", Value::U32(0), &["head_count_kv", "0 for blk.0."]),
        (
            "general.architecture",
            Value::String("eliza".into()),
            &["\"eliza\"", "falcon, ", ", llama, "],
        ),
        ("llama.block_count", Value::U32(4_000_000_000), &["llama.block_count", "4000000000"]),
        ("llama.block_count", Value::U32(0), &["llama.block_count", "0", "1 to"]),
        ("llama.attention.head_count", Value::U32(3), &["attention.head_count", "3 with 2"]),
        ("llama.rope.dimension_count", Value::U32(99), &["rope.dimension_count", "99", "16"]),
        ("llama.rope.freq_base", Value::F32(f32::NAN), &["rope.freq_base", "NaN", "finite"]),
        ("llama.embedding_length", Value::String("x".into()), &["llama.embedding_length"]),
    ];
    for (key, value, words) in cases {
        let e = message(context(changed("llama-yarn", same, &[(key, value)])));
        assert!(words.iter().all(|w| e.contains(w)), "{key}: {e}");
    }
}

#[test]
fn values_that_are_not_finite_are_traced_to_their_layer() {
    for (tensor, place) in [
        ("token_embd.weight", "the token embedding"),
        ("blk.0.attn_v.weight", "layer 0"),
        ("blk.1.ffn_down.weight", "layer 1"),
        ("output.weight", "the output matrix"),
    ] {
        // 0x7E00 is a half-precision NaN.
        let spoil = |name: &str, data: Vec<u8>| {
            Some(if name == tensor { [0x00, 0x7E].repeat(data.len() / 2) } else { data })
        };
        let mut context = context(changed("llama-yarn", spoil, &[])).unwrap();
        let e = message(run(&mut context, &TOKENS[..5], 0));
        assert!(e.contains(place), "{tensor}: {e}");
        assert_eq!(context.len(0), 0, "a failed step leaves nothing behind");
    }
}

#[test]
fn values_beyond_half_precision_are_kept_by_the_f16_cache() {
    // Half-precision 60000, summed over the row: far above 65504.
    let spoil = |name: &str, data: Vec<u8>| {
        Some(if name.contains("attn_v") { [0x53, 0x7B].repeat(data.len() / 2) } else { data })
    };
    let model = Arc::new(Model::new(changed("llama-yarn", spoil, &[])).unwrap());
    let options = ContextOptions { type_k: KvType::F16, type_v: KvType::F16, ..options(64, 1) };
    let mut context = Context::new(model, &options).unwrap();
    assert!(run(&mut context, &TOKENS, 0).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn a_context_that_cannot_fit_is_refused_with_the_figures() {
    let model = Arc::new(Model::new(Arc::new(Gguf::from_bytes(golden("lfm2")).unwrap())).unwrap());
    let e = message(Context::new(model, &options(1 << 31, 64)).map(|_| ()));
    for word in ["not enough memory", "weights", "KV cache", "MiB", "-c"] {
        assert!(e.contains(word), "{e}");
    }
}

#[test]
fn a_default_context_gives_way_to_memory_but_one_that_was_asked_for_does_not() {
    let trained = ("qwen2.context_length", Value::U32(8192));
    let model = Arc::new(Model::new(changed("qwen2", same, &[trained])).unwrap());
    let default = ContextOptions { n_ctx: None, n_threads: Some(1), ..options(0, 1) };
    let roomy = Context::new(model.clone(), &default).unwrap();
    assert_eq!(roomy.lowered_from(), None);
    let used = |c: &Context| c.memory().weights + c.memory().state + c.memory().scratch;
    let memory = Some(used(&roomy) - 1);
    let options = ContextOptions { memory, ..default.clone() };
    let lowered = Context::new(model.clone(), &options).unwrap();
    assert_eq!(lowered.lowered_from(), Some(roomy.n_ctx()));
    assert_eq!(lowered.n_ctx(), roomy.n_ctx() / 2);
    assert!(used(&lowered) < used(&roomy));

    let asked = ContextOptions { n_ctx: Some(roomy.n_ctx()), ..options.clone() };
    let e = message(Context::new(model.clone(), &asked).map(|_| ()));
    assert!(e.contains("not enough memory") && e.contains("the options"), "{e}");
    let none = ContextOptions { memory: Some(1000), ..options };
    assert!(message(Context::new(model, &none).map(|_| ())).contains("not enough memory"));
}

#[test]
fn an_embedding_whose_rows_cannot_be_read_is_refused_at_load() {
    let original = Gguf::from_bytes(golden("qwen2")).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in original.metadata().iter() {
        writer.set(key, value.clone());
    }
    for t in original.tensors() {
        let is_embedding = t.name == "token_embd.weight";
        let ty = if is_embedding { formats::TensorType::I16 } else { t.ty };
        writer.tensor(&t.name, ty, &t.dims, original.data(t).unwrap().to_vec());
    }
    let e = message(context(Arc::new(Gguf::from_bytes(writer.to_bytes()).unwrap())));
    assert!(e.contains("I16"), "{e}");
}

#[test]
fn a_full_context_is_an_error_before_anything_runs() {
    let mut context = open("llama-yarn");
    let many: Vec<u32> = (0..60).collect();
    run(&mut context, &many, 0).unwrap();
    let e = message(run(&mut context, &TOKENS[..5], 0));
    assert!(e.contains("60 positions") && e.contains("5 more") && e.contains("64"), "{e}");
    assert_eq!(context.len(0), 60);
    run(&mut context, &TOKENS[..4], 0).unwrap();
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let mut context = open("llama-yarn");
    assert!(message(run(&mut context, &[128], 0)).contains("token id is 128"));
    let mut sink = |_: usize, _: &[f32]| {};
    let e = context.step(&rows(&[1], 0, 3), &Cancel::new(), &mut sink).unwrap_err();
    assert!(e.to_string().contains("position is 3; expected 0"), "{e}");
    let e = context.step(&rows(&[1], 7, 0), &Cancel::new(), &mut sink).unwrap_err();
    assert!(e.to_string().contains("sequence is 7; expected below 2"), "{e}");
}

#[test]
fn a_cancelled_step_leaves_the_sequence_as_it_was() {
    for case in ["llama-yarn", "lfm2", "gemma3"] {
        let mut fresh = open(case);
        let expected = run(&mut fresh, &TOKENS, 0).unwrap();
        let mut context = open(case);
        let head = run(&mut context, &TOKENS[..6], 0).unwrap();
        let cancel = Cancel::new();
        cancel.cancel();
        let outcome = context.step(&rows(&TOKENS[6..], 0, 6), &cancel, &mut |_, _| {});
        assert!(matches!(outcome, Err(Error::Cancelled)));
        assert_eq!(context.len(0), 6);
        let tail = run(&mut context, &TOKENS[6..], 0).unwrap();
        assert!([head, tail].concat() == expected, "{case}");
    }
}

#[test]
fn rolling_back_gives_the_logits_of_a_straight_run() {
    for case in ["llama-yarn", "lfm2", "gemma3", "gpt-oss-mxfp4"] {
        let expected = run(&mut open(case), &TOKENS, 0).unwrap();
        let n_vocab = expected.len() / TOKENS.len();
        let mut context = open(case);
        // Eight true tokens, then six wrong ones, one by one.
        run(&mut context, &TOKENS[..8], 0).unwrap();
        for token in 40..46 {
            run(&mut context, &[token], 0).unwrap();
        }
        let kept = context.truncate(0, 8);
        assert!(kept <= 8, "{case}");
        let tail = run(&mut context, &TOKENS[kept..], 0).unwrap();
        assert!(tail == expected[kept * n_vocab..], "{case}: resumed at {kept}");
    }
}

#[test]
fn a_fork_continues_what_it_was_forked_from() {
    for case in ["llama-yarn", "lfm2", "gemma3"] {
        let expected = run(&mut open(case), &TOKENS, 0).unwrap();
        let n_vocab = expected.len() / TOKENS.len();
        let mut context = open(case);
        run(&mut context, &TOKENS[..11], 0).unwrap();
        context.fork(0, 1);
        run(&mut context, &[1, 2, 3], 0).unwrap();
        let tail = run(&mut context, &TOKENS[11..], 1).unwrap();
        assert!(tail == expected[11 * n_vocab..], "{case}");
    }
}

#[test]
fn every_cache_type_runs_and_stays_near_the_exact_one() {
    let model = Arc::new(Model::new(Arc::new(Gguf::from_bytes(golden("qwen2")).unwrap())).unwrap());
    let logits = |ty| {
        let options = ContextOptions { type_k: ty, type_v: ty, ..options(64, 1) };
        run(&mut Context::new(model.clone(), &options).unwrap(), &TOKENS, 0).unwrap()
    };
    let exact = logits(KvType::F32);
    let power: f32 = exact.iter().map(|v| v * v).sum();
    let bounds = [1e-5, 1e-3, 1e-2, 0.3];
    let types = [KvType::F16, KvType::BF16, KvType::Q8_0, KvType::Q4_0];
    for (ty, bound) in types.into_iter().zip(bounds) {
        let error: f32 = logits(ty).iter().zip(&exact).map(|(a, b)| (a - b) * (a - b)).sum();
        assert!(error / power < bound && error > 0.0, "{ty}: {:e}", error / power);
    }
}

#[test]
fn logits_of_a_few_rows_are_those_of_the_same_rows_among_all() {
    for case in ["llama-yarn", "gemma3", "falcon", "qwen3moe-fused", "lfm2"] {
        let model = Model::new(Arc::new(Gguf::from_bytes(golden(case)).unwrap())).unwrap();
        let model = Arc::new(model);
        let logits = |n_ubatch: usize, wanted: &[usize]| {
            let options = ContextOptions { n_ubatch, deterministic: true, ..options(64, 1) };
            let mut context = Context::new(model.clone(), &options).unwrap();
            let mut rows = rows(&TOKENS, 0, 0);
            rows.iter_mut().for_each(|r| r.logits = wanted.contains(&r.pos));
            let mut out = Vec::new();
            let sink = &mut |i: usize, l: &[f32]| out.push((i, l.to_vec()));
            context.step(&rows, &Cancel::new(), sink).unwrap();
            out
        };
        let all = logits(32, &(0..TOKENS.len()).collect::<Vec<_>>());
        for wanted in [&[19][..], &[0], &[], &[3, 4, 11], &[0, 19]] {
            for n_ubatch in [32, 7] {
                let some = logits(n_ubatch, wanted);
                let expected: Vec<_> = wanted.iter().map(|&i| all[i].clone()).collect();
                assert!(some == expected, "{case}, -ub {n_ubatch}, {wanted:?}");
            }
        }
    }
}

/// A small generator, so that a failure can be repeated.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

#[test]
fn mutated_models_end_in_an_answer_or_an_error() {
    let original = golden("gpt-oss-mxfp4");
    // Metadata and tensor table; the data behind them are only numbers.
    let head = original.len().min(9000);
    let mut rng = Rng(1);
    let mut ran = 0;
    for _ in 0..2000 {
        let mut bytes = original.clone();
        for _ in 0..1 + rng.below(3) {
            bytes[rng.below(head)] = rng.below(256) as u8;
        }
        let Ok(gguf) = Gguf::from_bytes(bytes) else { continue };
        let Ok(model) = Model::new(Arc::new(gguf)) else { continue };
        let Ok(mut context) = Context::new(Arc::new(model), &options(32, 1)) else { continue };
        ran += usize::from(run(&mut context, &[1, 2, 3], 0).is_ok());
    }
    assert!(ran > 100, "{ran} of the mutated models still ran");
}

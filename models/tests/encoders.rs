//! Encoders, embedding models and rerankers against their golden tiny models: rows, vectors and
//! scores; several texts in one step give each what it has alone.

#[path = "../../tests/common/mod.rs"]
mod common;

use formats::{Access, Gguf};
use models::spec::Pooling;
use models::{Cancel, Context, ContextOptions, Error, Model, Row, Text};
use pumice_models as models;
use quant::KvType;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest normalised error. References are in double precision or float32 with exact functions.
const MAX_NMSE: f64 = 1e-9;

struct Case {
    folder: PathBuf,
    name: String,
    model: Arc<Model>,
    texts: Vec<Vec<u32>>,
    pooling: Pooling,
}

/// Cases under `folder` whose architecture is in the registry and that store rows.
fn cases(folder: &Path) -> Vec<Case> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.join("embeddings.f32").is_file() && p.join("model.gguf").is_file())
        .filter(|p| {
            let arch = case_json(p)["arch"].as_str().unwrap().to_owned();
            models::arch::ARCHS.iter().any(|a| a.name == arch)
        })
        .collect();
    found.sort();
    found.into_iter().map(load).collect()
}

fn case_json(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap()
}

fn load(folder: PathBuf) -> Case {
    let case = case_json(&folder);
    let gguf = Arc::new(Gguf::open(&folder.join("model.gguf"), Access::Mmap).unwrap());
    let lines = std::fs::read_to_string(folder.join("tokens.txt")).unwrap();
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    Case {
        model: Arc::new(Model::new(gguf).unwrap_or_else(|e| panic!("{name}: {e}"))),
        texts: lines.lines().map(ids).collect(),
        pooling: case["pooling"].as_str().unwrap().parse().unwrap(),
        name,
        folder,
    }
}

fn context(model: &Arc<Model>, n_seq: usize, n_ubatch: usize) -> Context {
    let options = ContextOptions {
        n_ctx: Some(40),
        n_seq,
        n_ubatch,
        type_k: KvType::F32,
        type_v: KvType::F32,
        n_threads: Some(2),
        isa: isa(),
        ..ContextOptions::default()
    };
    Context::new(model.clone(), &options).unwrap_or_else(|e| panic!("{e}"))
}

/// The instruction set that the environment forces, as for the command.
fn isa() -> quant::Isa {
    match std::env::var("PUMICE_ISA") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => quant::Isa::detect(),
    }
}

/// All texts' vectors, one after another.
fn embed(context: &mut Context, texts: &[Vec<u32>], pooling: Pooling) -> Vec<f32> {
    let texts: Vec<Text<'_>> = texts.iter().map(|t| t[..].into()).collect();
    let (mut out, mut next) = (Vec::new(), 0);
    let sink = &mut |i: usize, v: &[f32]| {
        assert_eq!(i, next, "texts come in order");
        next += 1;
        out.extend_from_slice(v);
    };
    context.embed(&texts, pooling, &Cancel::new(), sink).unwrap();
    assert_eq!(next, texts.len());
    assert!(context.is_empty(), "embedding leaves nothing behind");
    out
}

/// Squared error relative to `b`.
fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "numbers of values");
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(&x, &y)| square(f64::from(x) - f64::from(y))).sum();
    error / b.iter().map(|&y| square(f64::from(y))).sum::<f64>()
}

/// The pooled golden, and how it is asked for.
fn golden(case: &Case) -> Vec<f32> {
    let name = if case.pooling == Pooling::Rank { "scores.f32" } else { "pooled.f32" };
    common::floats(&case.folder.join(name))
}

fn check(folder: &Path) -> usize {
    let mut failed = Vec::new();
    let cases = cases(folder);
    for case in &cases {
        let rows = common::floats(&case.folder.join("embeddings.f32"));
        let pooled = golden(case);
        let n = case.texts.len();
        let mut errors = Vec::new();
        // One text a step; all in one; steps that hold some of them (of a decoder: parts of them).
        for (how, n_seq, n_ubatch) in [("alone", 1, 1), ("together", n, 512), ("mixed", 2, 30)] {
            let mut context = context(&case.model, n_seq, n_ubatch);
            let all = embed(&mut context, &case.texts, Pooling::None);
            errors.push((format!("rows {how}"), nmse(&all, &rows)));
            let vectors = embed(&mut context, &case.texts, case.pooling);
            errors.push((how.to_owned(), nmse(&vectors, &pooled)));
        }
        let line: Vec<String> = errors.iter().map(|(how, e)| format!("{how} {e:.1e}")).collect();
        println!("{:20} {:5} {}", case.name, case.pooling, line.join("  "));
        if !errors.iter().all(|(_, e)| *e <= MAX_NMSE) {
            failed.push(format!("{}: {}", case.name, line.join("  ")));
        }
    }
    assert!(failed.is_empty(), "above the bound of {MAX_NMSE:e}:\n{}", failed.join("\n"));
    cases.len()
}

#[test]
fn small_copies_agree_with_their_references() {
    assert!(check(&common::data().join("archs")) > 0);
}

#[test]
fn all_golden_encoders_agree_with_their_references() {
    if let Some(folder) = common::goldens("archs") {
        assert!(check(&folder) >= 11);
    }
}

fn small(name: &str) -> Case {
    load(common::data().join("archs").join(name))
}

#[test]
fn the_file_says_how_rows_are_pooled() {
    let pooling = |name| small(name).model.spec().head.pooling;
    assert_eq!(pooling("bert-rerank-pooler"), Pooling::Rank);
    assert_eq!(pooling("jina-bert-v2"), Pooling::Mean);
    assert_eq!(pooling("qwen3-embed"), Pooling::Last);
}

#[test]
fn an_encoder_refuses_to_be_decoded() {
    let case = small("bert-rerank-pooler");
    let mut context = context(&case.model, 1, 512);
    let row = Row { token: 1, seq: 0, pos: 0, logits: true };
    let e = context.step(&[row], &Cancel::new(), &mut |_, _| ()).unwrap_err();
    assert!(matches!(&e, Error::NoLogits { arch } if arch == "bert"), "{e}");
}

#[test]
fn bad_inputs_are_refused_before_anything_runs() {
    let case = small("jina-bert-v2");
    let mut context = context(&case.model, 2, 512);
    let mut embed = |texts: &[&[u32]], pooling| {
        let texts: Vec<Text<'_>> = texts.iter().map(|&t| t.into()).collect();
        let sink = &mut |_: usize, _: &[f32]| panic!("a result");
        context.embed(&texts, pooling, &Cancel::new(), sink).unwrap_err().to_string()
    };
    let e = embed(&[&[1], &[]], Pooling::Mean);
    assert_eq!(e, "input 1: number of tokens is 0; expected 1 to 40, the positions of the context");
    let e = embed(&[&[1; 41]], Pooling::Cls);
    assert!(e.starts_with("input 0: number of tokens is 41; expected 1 to 40"), "{e}");
    let e = embed(&[&[1], &[2, 264]], Pooling::None);
    assert_eq!(e, "input 1: token id is 264; expected below 264");
    let e = embed(&[&[1]], Pooling::Rank);
    assert!(e.contains("no classifier"), "{e}");
}

#[test]
fn a_cancelled_embedding_says_so_and_the_context_stays_usable() {
    let case = small("jina-bert-v2");
    let mut context = context(&case.model, 1, 512);
    let expected = embed(&mut context, &case.texts, Pooling::Mean);
    let cancel = Cancel::new();
    cancel.cancel();
    let text = [Text::from(&case.texts[0][..])];
    let e = context.embed(&text, Pooling::Mean, &cancel, &mut |_, _| ()).unwrap_err();
    assert!(matches!(e, Error::Cancelled), "{e}");
    assert!(embed(&mut context, &case.texts, Pooling::Mean) == expected);
}

#[test]
fn the_second_text_of_a_pair_takes_the_second_row_of_types() {
    let case = small("jina-bert-v2");
    let bytes = std::fs::read(case.folder.join("model.gguf")).unwrap();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let types = gguf.tensor("token_types.weight").unwrap();
    let (at, n) = (gguf.data(types).unwrap(), types.n_bytes as usize / 2);
    let at = bytes.windows(at.len()).position(|w| w == at).unwrap();
    let mut swapped = bytes;
    swapped[at..at + 2 * n].rotate_left(n);
    let swapped = Arc::new(Model::new(Arc::new(Gguf::from_bytes(swapped).unwrap())).unwrap());
    let run = |model: &Arc<Model>, second_from| {
        let text = [Text { ids: &case.texts[1], second_from }];
        let mut out = Vec::new();
        let sink = &mut |_: usize, v: &[f32]| out.extend_from_slice(v);
        let mut context = context(model, 1, 512);
        context.embed(&text, Pooling::Mean, &Cancel::new(), sink).unwrap();
        out
    };
    assert!(run(&case.model, Some(0)) == run(&swapped, None));
    assert!(run(&case.model, Some(4)) != run(&case.model, None));
}

/// Logits of a decoder whose encoder has read the first line of tokens, run in pieces of `size`.
fn answered(context: &mut Context, lines: &[Vec<u32>], size: usize) -> Vec<f32> {
    let mut out = Vec::new();
    context.encode(0, &lines[0], &Cancel::new()).unwrap();
    for (i, part) in lines[1].chunks(size).enumerate() {
        let row = |(j, &token)| Row { token, seq: 0, pos: i * size + j, logits: true };
        let rows: Vec<Row> = part.iter().enumerate().map(row).collect();
        context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l)).unwrap();
    }
    out
}

#[test]
fn a_decoder_answers_to_what_its_encoder_read() {
    let folder = common::data().join("archs/t5");
    let gguf = Arc::new(Gguf::open(&folder.join("model.gguf"), Access::Mmap).unwrap());
    let model = Arc::new(Model::new(gguf).unwrap());
    let lines = std::fs::read_to_string(folder.join("tokens.txt")).unwrap();
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let lines: Vec<Vec<u32>> = lines.lines().map(ids).collect();
    let expected = common::floats(&folder.join("logits.f32"));
    let mut context = context(&model, 2, 512);
    let row = Row { token: 0, seq: 0, pos: 0, logits: true };
    let e = context.step(&[row], &Cancel::new(), &mut |_, _| ()).unwrap_err();
    assert!(matches!(e, Error::NotEncoded { seq: 0 }), "{e}");
    let other: Vec<u32> = lines[0].iter().rev().copied().collect();
    context.encode(1, &other, &Cancel::new()).unwrap();
    for (how, size) in [("whole", 19), ("by 5", 5), ("by 1", 1)] {
        // The second time another text was there before.
        for _ in 0..2 {
            let error = nmse(&answered(&mut context, &lines, size), &expected);
            println!("t5 {how} {error:.1e}");
            assert!(error <= 1e-6, "{how}: {error:e}");
            context.encode(0, &other, &Cancel::new()).unwrap();
        }
    }
}

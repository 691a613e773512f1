//! `pumice embed` and `pumice rerank` as a user runs them, and the library below them.

mod common;

use pumice::models::spec::Pooling;
use pumice::{EmbedOptions, Embedder, Error, Model, ModelOptions, pair_tokens};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn case(name: &str) -> PathBuf {
    common::data().join("archs").join(name)
}

fn model(name: &str) -> Model {
    Model::open(case(name).join("model.gguf"), ModelOptions::default()).unwrap()
}

/// Runs `pumice COMMAND -m MODEL ARGS` with `input` on stdin.
fn pumice(command: &str, name: &str, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pumice"))
        .arg(command)
        .arg("-m")
        .arg(case(name).join("model.gguf"))
        .args(["-t", "2"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    // A command that refuses its arguments does not read.
    assert!(written.is_ok() || !output.status.success());
    output
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn close(a: &[f32], b: &[f32], bound: f32) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= bound, "{worst} above {bound}");
}

/// Raw output of token lines.
fn raw(name: &str, args: &[&str]) -> Vec<f32> {
    let tokens = case(name).join("tokens.txt");
    let all = [&["--raw", "--tokens", tokens.to_str().unwrap()], args].concat();
    let output = pumice("embed", name, &all, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    floats(&output.stdout)
}

#[test]
fn raw_vectors_rows_and_scores_are_those_of_the_goldens() {
    let golden = |name, file: &str| common::floats(&case(name).join(file));
    close(&raw("jina-bert-v2", &[]), &golden("jina-bert-v2", "pooled.f32"), 1e-5);
    close(&raw("jina-bert-v2", &["--per-token"]), &golden("jina-bert-v2", "embeddings.f32"), 1e-5);
    close(&raw("qwen3-embed", &[]), &golden("qwen3-embed", "pooled.f32"), 1e-5);
    let scores = golden("bert-rerank-pooler", "scores.f32");
    close(&raw("bert-rerank-pooler", &[]), &scores, 1e-5);
    close(&raw("bert-rerank-pooler", &["--scores"]), &scores, 1e-5);
}

#[test]
fn json_and_npy_hold_normalised_vectors_of_the_dimensions_asked_for() {
    let tokens = case("jina-bert-v2").join("tokens.txt");
    let base = ["--dimensions", "8", "--tokens", tokens.to_str().unwrap()];
    let output = pumice("embed", "jina-bert-v2", &base, "");
    let vectors: Vec<Vec<f32>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(vectors.len(), 3);
    for (v, whole) in vectors.iter().zip(raw("jina-bert-v2", &[]).chunks_exact(32)) {
        let length = whole[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
        let expected: Vec<f32> = whole[..8].iter().map(|x| x / length).collect();
        close(v, &expected, 1e-6);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v.npy");
    let args = [&base[..], &["-o", "npy", "--output", file.to_str().unwrap()]].concat();
    let output = pumice("embed", "jina-bert-v2", &args, "");
    assert!(output.status.success() && output.stdout.is_empty());
    let bytes = std::fs::read(file).unwrap();
    close(&floats(&bytes[bytes.len() - 4 * 24..]), &vectors.concat(), 1e-6);
}

#[test]
fn lines_of_text_become_vectors_whatever_stands_beside_them() {
    let run = |text: &str| -> Vec<Vec<f32>> {
        let output = pumice("embed", "jina-bert-v2", &["--no-normalize"], text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let both = run("a boat\nthe ferry leaves at seven\n");
    assert_eq!(both.len(), 2);
    close(&both[0], &run("a boat\n")[0], 1e-6);
    close(&both[1], &run("the ferry leaves at seven")[0], 1e-6);
    assert_eq!(run(""), Vec::<Vec<f32>>::new());
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let refused = |name, args: &[&str], text: &str, reason: &str| {
        let output = pumice("embed", name, args, text);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(reason), "{args:?}: {stderr}");
    };
    refused("jina-bert-v2", &["--scores"], "a\n", "no classifier");
    refused("jina-bert-v2", &["--dimensions", "33"], "a\n", "vectors have 32");
    refused("jina-bert-v2", &["--pooling", "max"], "a\n", "none, mean, cls, last, rank");
    refused("jina-bert-v2", &["-c", "4"], "a long text\n", "expected 1 to 4");
    refused("jina-bert-v2", &["--tokens", "/nowhere"], "", "/nowhere");
    let run = pumice("run", "jina-bert-v2", &["--raw", "x"], "");
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && stderr.contains("has no logits"), "{stderr}");
}

#[test]
fn longer_texts_are_cut_where_that_is_asked_for() {
    let run = |args: &[&str], text| {
        let output = pumice("embed", "jina-bert-v2", args, text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    // One token a byte, and none around them in this vocabulary but a space in front.
    assert!(run(&["--truncate", "3"], "abcdef\n") == run(&[], "ab\n"));
}

#[test]
fn documents_are_ordered_by_their_scores() {
    let documents = "one\ntwo words\nsomething else\n";
    let output = pumice("rerank", "bert-rerank-pooler", &["--json", "a query"], documents);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ranked: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let scores: Vec<f64> = ranked.iter().map(|r| r["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let mut embedder = Embedder::new(
        &model("bert-rerank-pooler"),
        &EmbedOptions { pooling: Some(Pooling::Rank), ..EmbedOptions::default() },
    )
    .unwrap();
    let documents: Vec<&str> = documents.lines().collect();
    let alone = embedder.rerank("a query", &documents).unwrap();
    for r in &ranked {
        let i = r["index"].as_u64().unwrap() as usize;
        assert_eq!(r["document"], documents[i]);
        assert!((r["score"].as_f64().unwrap() - f64::from(alone[i])).abs() < 1e-5);
    }
    let output = pumice("rerank", "bert-rerank-pooler", &["--top", "1", "a query"], "x\ny\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    let output = pumice("rerank", "jina-bert-v2", &["a query"], "x\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no classifier"));
}

#[test]
fn a_model_without_classifier_does_not_rerank() {
    let model = model("jina-bert-v2");
    let mut embedder = Embedder::new(&model, &EmbedOptions::default()).unwrap();
    assert_eq!((embedder.pooling(), embedder.width()), (Pooling::Mean, 32));
    let e = embedder.rerank("a", &["b"]).unwrap_err();
    assert!(matches!(e, Error::Model(pumice::models::Error::NoClassifier)), "{e}");
}

#[test]
fn pairs_know_where_the_second_text_begins() {
    let model = model("bert-rerank-pooler");
    let pair = pair_tokens(&model, "ab", "c").unwrap();
    let plain = |text| model.plain_tokens(text).unwrap();
    let from = pair.second_from.unwrap();
    assert!(pair.ids[..from].ends_with(&plain("ab")));
    assert_eq!(pair.ids[from..], plain("c"));
}

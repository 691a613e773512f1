//! Every architecture against its golden tiny models: one batch, chunks, one by one, two
//! sequences interleaved, tokens taken back and fed again, and a sequence forked half way.

#[path = "../../tests/common/mod.rs"]
mod common;

use formats::{Access, Gguf};
use models::{Cancel, Context, ContextOptions, Model, Row};
use pumice_models as models;
use quant::KvType;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest normalised error, unless a case brings its own.
const MAX_NMSE: f64 = 1e-6;

struct Case {
    model: Arc<Model>,
    n_ctx: usize,
    ids: Vec<u32>,
    logits: Vec<f32>,
    max_nmse: f64,
    /// Attention looks both ways: a sequence goes through in one step.
    whole_only: bool,
}

/// Cases under `folder` whose architecture is in the registry and that store logits.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.join("logits.f32").is_file() && p.join("model.gguf").is_file())
        .filter(|p| {
            let case = case_json(p);
            let arch = case["arch"].as_str().unwrap();
            // Those with an encoder are tested beside the encoders.
            let alone = case["n_encoder_tokens"].is_null();
            alone && models::arch::ARCHS.iter().any(|a| a.name == arch)
        })
        .collect();
    found.sort();
    found
}

fn case_json(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap()
}

fn load(folder: &Path) -> Result<Case, models::Error> {
    let case = case_json(folder);
    let gguf = Arc::new(Gguf::open(&folder.join("model.gguf"), Access::Mmap)?);
    let ids = std::fs::read_to_string(folder.join("tokens.txt")).unwrap();
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let model = Model::new(gguf)?;
    Ok(Case {
        n_ctx: case["n_ctx"].as_u64().map_or(2 * ids.len(), |n| n as usize),
        logits: common::floats(&folder.join("logits.f32")),
        max_nmse: case["max_nmse"].as_f64().unwrap_or(MAX_NMSE),
        whole_only: !model.spec().is_causal(),
        model: Arc::new(model),
        ids,
    })
}

fn context(case: &Case, n_seq: usize) -> Result<Context, models::Error> {
    threaded(case, n_seq, 2)
}

fn threaded(case: &Case, n_seq: usize, n_threads: usize) -> Result<Context, models::Error> {
    let options = ContextOptions {
        n_ctx: Some(case.n_ctx),
        n_seq,
        type_k: KvType::F32,
        type_v: KvType::F32,
        n_threads: Some(n_threads),
        steady: true,
        isa: isa(),
        ..ContextOptions::default()
    };
    Context::new(case.model.clone(), &options)
}

/// The instruction set that the environment forces, as for the command.
fn isa() -> quant::Isa {
    match std::env::var("PUMICE_ISA") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => quant::Isa::detect(),
    }
}

/// Logits of all rows, run in pieces of `size`.
fn in_pieces(case: &Case, size: usize) -> Result<Vec<f32>, models::Error> {
    let mut context = context(case, 1)?;
    let mut out = Vec::new();
    for (i, part) in case.ids.chunks(size).enumerate() {
        let rows: Vec<Row> = part
            .iter()
            .enumerate()
            .map(|(j, &token)| Row { token, seq: 0, pos: i * size + j, logits: true })
            .collect();
        context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l))?;
    }
    Ok(out)
}

/// The ids as one sequence and their reverse as another, row by row in turn, in pieces of `size`
/// rows. Returns the logits of each sequence.
fn interleaved(case: &Case, size: usize) -> Result<[Vec<f32>; 2], models::Error> {
    let mut context = context(case, 2)?;
    let n = case.ids.len();
    let rows: Vec<Row> = (0..2 * n)
        .map(|i| {
            let (seq, pos) = (i % 2, i / 2);
            let token = case.ids[if seq == 0 { pos } else { n - 1 - pos }];
            Row { token, seq, pos, logits: true }
        })
        .collect();
    let mut out = [Vec::new(), Vec::new()];
    for part in rows.chunks(size) {
        let sink = &mut |i: usize, l: &[f32]| out[part[i].seq].extend_from_slice(l);
        context.step(part, &Cancel::new(), sink)?;
    }
    Ok(out)
}

/// Feeds `ids[from..]` of sequence `seq` in pieces of `size`, appending the logits to `out`.
fn feed(
    context: &mut Context,
    ids: &[u32],
    from: usize,
    seq: usize,
    size: usize,
) -> Result<Vec<f32>, models::Error> {
    let mut out = Vec::new();
    for (i, part) in ids[from..].chunks(size).enumerate() {
        let row = |(j, &token)| Row { token, seq, pos: from + i * size + j, logits: true };
        let rows: Vec<Row> = part.iter().enumerate().map(row).collect();
        context.step(&rows, &Cancel::new(), &mut |_, l| out.extend_from_slice(l))?;
    }
    Ok(out)
}

/// Logits of all rows after the last tokens were taken back and fed again, several times.
fn rolled_back(case: &Case, n_vocab: usize) -> Result<Vec<f32>, models::Error> {
    let mut context = context(case, 1)?;
    let n = case.ids.len();
    let mut out = feed(&mut context, &case.ids, 0, 0, 5)?;
    for (back, size) in [(1, 1), (2, 3), (n / 2, 1), (1, 5), (5, 2)] {
        let reached = context.truncate(0, n - back);
        assert_eq!(context.len(0), reached);
        // What cannot be cut back is re-run, but not much more than was taken back.
        assert!((n.saturating_sub(7 * back + 5)..=n - back).contains(&reached), "{reached}");
        // Other tokens first: they must leave no trace either.
        let row = Row { token: case.ids[0], seq: 0, pos: reached, logits: false };
        context.step(&[row], &Cancel::new(), &mut |_, _| ())?;
        let reached = context.truncate(0, reached);
        out.truncate(reached * n_vocab);
        out.extend(feed(&mut context, &case.ids, reached, 0, size)?);
    }
    Ok(out)
}

/// Logits of the last row, the only one that asks for them, in pieces of 9.
fn last_row(case: &Case) -> Result<Vec<f32>, models::Error> {
    let mut context = context(case, 1)?;
    let n = case.ids.len();
    let row = |(pos, &token)| Row { token, seq: 0, pos, logits: pos + 1 == n };
    let rows: Vec<Row> = case.ids.iter().enumerate().map(row).collect();
    let mut out = Vec::new();
    for part in rows.chunks(9) {
        context.step(part, &Cancel::new(), &mut |_, l| out.extend_from_slice(l))?;
    }
    Ok(out)
}

/// Logits of a sequence that was forked half way, with another one going on beside it.
fn forked(case: &Case) -> Result<Vec<f32>, models::Error> {
    let mut context = context(case, 2)?;
    let (n, half) = (case.ids.len(), case.ids.len() / 2);
    // The fork replaces what was there.
    feed(&mut context, &case.ids[..3], 0, 1, 2)?;
    let mut out = feed(&mut context, &case.ids[..half], 0, 0, 5)?;
    context.fork(0, 1);
    for pos in half..n {
        let other = Row { token: case.ids[n - 1 - pos], seq: 0, pos, logits: false };
        let row = Row { token: case.ids[pos], seq: 1, pos, logits: true };
        let sink = &mut |_: usize, l: &[f32]| out.extend_from_slice(l);
        context.step(&[other, row], &Cancel::new(), sink)?;
    }
    Ok(out)
}

/// Error relative to `b`, each row's mean taken off both.
fn nmse(a: &[f32], b: &[f32], n_vocab: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "numbers of logits");
    let (mut error, mut power) = (0.0, 0.0);
    for (a, b) in a.chunks_exact(n_vocab).zip(b.chunks_exact(n_vocab)) {
        let mean = |x: &[f32]| x.iter().map(|&v| f64::from(v)).sum::<f64>() / n_vocab as f64;
        let (ma, mb) = (mean(a), mean(b));
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
            error += (x - y) * (x - y);
            power += y * y;
        }
    }
    error / power
}

/// An error, and how the case was run.
type Run = (&'static str, f64);

/// The bound of one case, and its errors.
fn errors(path: &Path) -> Result<(f64, Vec<Run>), models::Error> {
    let case = load(path)?;
    let n_vocab = case.logits.len() / case.ids.len();
    let n = case.ids.len();
    let reversed = Case {
        ids: case.ids.iter().rev().copied().collect(),
        model: case.model.clone(),
        logits: Vec::new(),
        ..case
    };
    let error = |logits: &[f32]| nmse(logits, &case.logits, n_vocab);
    let whole = ("whole", error(&in_pieces(&case, n)?));
    // Small steps on both sides: there a row has the same bits alone and beside others.
    let (alone, both) = match case.whole_only {
        true => (in_pieces(&reversed, n)?, interleaved(&case, 2 * n)?),
        false => (in_pieces(&reversed, 5)?, interleaved(&case, 10)?),
    };
    let beside = [("interleaved", error(&both[0])), ("beside", nmse(&both[1], &alone, n_vocab))];
    let mut all = vec![whole];
    if !case.whole_only {
        all.push(("by 5", error(&in_pieces(&case, 5)?)));
        all.push(("by 1", error(&in_pieces(&case, 1)?)));
        all.push(("rolled back", error(&rolled_back(&case, n_vocab)?)));
        all.push(("forked", error(&forked(&case)?)));
        let last = last_row(&case)?;
        all.push(("last only", nmse(&last, &case.logits[(n - 1) * n_vocab..], n_vocab)));
    }
    all.extend(beside);
    if !case.whole_only {
        // One order of addition: the same bits for any number of threads and rows up to 16.
        let run = |n, size| feed(&mut threaded(&case, 1, n)?, &case.ids, 0, 0, size);
        assert!(
            run(1, 16)? == run(3, 1)?,
            "{}: other threads and steps, other bits",
            path.display()
        );
    }
    Ok((case.max_nmse, all))
}

fn check(folder: &Path) {
    let cases = cases(folder);
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let mut failed = Vec::new();
    for path in cases {
        let name = path.file_name().unwrap().to_string_lossy();
        let (ok, text) = match errors(&path) {
            Err(e) => (false, e.to_string()),
            Ok((bound, errors)) => {
                let each: Vec<String> =
                    errors.iter().map(|(how, e)| format!("{how} {e:.1e}")).collect();
                (errors.iter().all(|(_, e)| *e <= bound), each.join("  "))
            }
        };
        println!("{name:20} {text}");
        if !ok {
            failed.push(format!("{name}: {text}"));
        }
    }
    assert!(failed.is_empty(), "above the bound, or not run:\n{}", failed.join("\n"));
}

#[test]
fn small_copies_agree_with_their_references() {
    check(&common::data().join("archs"));
}

#[test]
fn all_goldens_of_known_architectures_agree_with_their_references() {
    if let Some(folder) = common::goldens("archs") {
        check(&folder);
    }
}

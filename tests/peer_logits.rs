//! Every architecture against llama.cpp: a tiny random model is written, both compute the logits of
//! the same tokens. Skipped unless `PUMICE_PEER_PYTHON` names a Python that has llama-cpp-python
//! (0.3.36 is what the table of differences below was made with).

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use models::Model;
use models::spec::{Act, Body, Ffn};
use pumice::formats::{Access, Gguf};
use pumice::models;
use pumice::synth::{tiny_names, write_tiny};
use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Largest normalised difference: both compute in single precision.
const MAX_NMSE: f64 = 1e-9;
/// The same where the network has GELU, which llama.cpp looks up in a table of half precision, and
/// always in its tanh form.
const MAX_NMSE_GELU: f64 = 1e-5;

/// Where llama.cpp does something else on purpose or by mistake, and what.
const DIFFERENT: &[(&str, &str)] = &[
    // Both were reproduced to 1e-13 in double precision, each with norm and router as said here.
    ("phimoe", "has RMS norms, softmax over all renormalised; published: layer norms, SparseMixer"),
    ("minicpm/old", "has the default of the logit scale upside down"),
];

/// The outcome for one model.
enum Outcome {
    Compared(f64),
    /// The peer does not know the name.
    Unknown,
}

fn is_gelu(act: &Act) -> bool {
    matches!(act, Act::Gelu | Act::GeluTanh)
}

/// The bound for a model.
fn bound(model: &Model) -> f64 {
    let stacks = model.spec().encoder.iter().chain([&model.spec().stack]);
    let mut branches =
        stacks.flat_map(|s| &s.layers).flat_map(|l| &l.stages).flat_map(|s| &s.branches);
    let gelu = |f: &Ffn| is_gelu(&f.act);
    let has_gelu = branches.any(|b| match &b.body {
        Body::Ffn(f) => gelu(f),
        Body::Moe(m) => gelu(&m.ffn),
        Body::PerLayer(p) => is_gelu(&p.act),
        Body::Attn(_) | Body::Mla(_) | Body::Recurrent(_) | Body::Linear(_) | Body::LowRank(_) => {
            false
        }
    });
    if has_gelu { MAX_NMSE_GELU } else { MAX_NMSE }
}

/// The peer's rows for a model; `None` where it does not know the architecture.
fn peer(python: &OsStr, folder: &Path, model: &Model) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/logits.py");
    let output = folder.join("peer.f32");
    let write = |name: &str, ids: &[u32]| {
        let text: Vec<String> = ids.iter().map(u32::to_string).collect();
        let path = folder.join(name);
        std::fs::write(&path, text.join(" ")).map(|()| path)
    };
    let ids = tiny::ids();
    let mut command = Command::new(python);
    command.arg(script).arg(folder.join("model.gguf"));
    command.arg(write("tokens.txt", &ids)?).arg(&output);
    if model.spec().encoder.is_some() {
        command.arg("--encoder").arg(write("encoder.txt", tiny::encoder_ids(&ids))?);
    }
    if !model.spec().head.logits {
        command.arg("--embeddings");
    }
    let ran = command.output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    if said.contains("unknown model architecture") {
        return Ok(None);
    }
    if !ran.status.success() {
        let why = said.lines().filter(|l| l.contains("rror loading") || l.contains("ASSERT"));
        let why: Vec<&str> = why.collect();
        return Err(format!("the peer failed ({}): {}", ran.status, why.join(" ")).into());
    }
    Ok(Some(common::floats(&output)))
}

/// Error relative to `b`, each row's mean taken off both.
fn nmse(a: &[f32], b: &[f32], n_rows: usize) -> f64 {
    assert_eq!(a.len(), b.len(), "numbers of values");
    let n = b.len() / n_rows;
    let mean = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
    let (mut error, mut power) = (0.0, 0.0);
    for (a, b) in a.chunks_exact(n).zip(b.chunks_exact(n)) {
        let (ma, mb) = (mean(a), mean(b));
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (f64::from(x) - ma, f64::from(y) - mb);
            error += (x - y).powi(2);
            power += y * y;
        }
    }
    error / power
}

fn compare(python: &OsStr, folder: &Path, name: &str) -> Result<(Outcome, f64), Box<dyn Error>> {
    let path = folder.join("model.gguf");
    write_tiny(name, 0, &path)?;
    let model = Arc::new(Model::new(Arc::new(Gguf::open(&path, Access::Read)?))?);
    let ids = tiny::ids();
    let ours = match model.spec().head.logits {
        true => tiny::logits(&model, &ids, ids.len())?,
        false => tiny::rows(&model, &ids)?[0].clone(),
    };
    let outcome = match peer(python, folder, &model)? {
        None => Outcome::Unknown,
        Some(theirs) => Outcome::Compared(nmse(&ours, &theirs, ids.len())),
    };
    Ok((outcome, bound(&model)))
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let Some(python) = std::env::var_os("PUMICE_PEER_PYTHON") else {
        eprintln!("skipped: PUMICE_PEER_PYTHON names no Python with llama-cpp-python");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for name in tiny_names() {
        let different = DIFFERENT.iter().find(|(known, _)| *known == name);
        let (ok, text) = match compare(&python, folder.path(), name) {
            Err(e) => (false, e.to_string()),
            Ok((Outcome::Unknown, _)) => (true, "the peer does not know this name".into()),
            Ok((Outcome::Compared(error), bound)) => match different {
                // A difference that went away is no longer one.
                Some((_, why)) => (error > bound, format!("{error:.1e}  the peer {why}")),
                None => (error <= bound, format!("{error:.1e}  (at most {bound:.0e})")),
            },
        };
        println!("{name:20} {text}");
        if !ok {
            failed.push(format!("{name}: {text}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
